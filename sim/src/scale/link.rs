//! An agent's connection to its controller, and the calls on it.
//!
//! ```text
//!  Closed ── a call ─▶ Connecting ── accepted ─▶ Open: calls are sent
//!    ▲                     │ refused, or no answer for 3 s: calls fail     │
//!    └─────────────────────┴──── reset by the other side: calls fail ──────┤
//!                                a call was lost on the way ───────────────┘
//! ```
//!
//! As the agent's real client does: connect when there is something to say that may go over a new
//! connection, tell of each that is lost ([`Event::ConnectionLost`]), give each call four seconds.
//! That a lost call closes the connection stands for HTTP/2's keepalive, which finds out a little
//! later.

use std::{collections::BTreeMap, time::Duration};

use arroyo_node::{
    ids::WorkerId,
    machine::{CallError, Event, Heartbeat, Loss, Mono, Registration, Report},
};

use super::{
    agenda::{Happening, NodeIndex},
    controller::Life,
    world::World,
};

/// How long a call may take.
pub(super) const DEADLINE: Duration = Duration::from_secs(4);
/// How long connecting may take.
const CONNECT_DEADLINE: Duration = Duration::from_secs(3);

/// Which call of a node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct CallId(u64);

/// Which connection of a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Connection(u64);

/// What an agent says to its controller.
#[derive(Debug)]
pub(super) enum Request {
    Register(Registration),
    Heartbeat(Heartbeat),
    Report(Report),
}

/// What a call was about, once it has been said.
#[derive(Clone, Copy, Debug)]
enum Topic {
    Register,
    Heartbeat(Heartbeat),
    Report(WorkerId),
}

/// An attempt to connect.
#[derive(Clone, Copy, Debug)]
pub(super) struct Knock {
    pub(super) node: NodeIndex,
    pub(super) connection: Connection,
    /// When it fails if nobody answers.
    pub(super) deadline: Mono,
}

/// A call, at the controller's computer.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) node: NodeIndex,
    pub(super) connection: Connection,
    /// The controller that accepted the connection.
    pub(super) life: Life,
    pub(super) call: CallId,
    pub(super) deadline: Mono,
    pub(super) request: Request,
}

/// An answer, at the agent's computer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) node: NodeIndex,
    pub(super) call: CallId,
    pub(super) deadline: Mono,
    pub(super) result: Result<(), CallError>,
    /// Who gave it, and when.
    pub(super) from: (Life, Mono),
}

/// What changes for an agent's connection.
#[derive(Clone, Copy, Debug)]
pub(super) enum LinkEvent {
    /// It is made, with this controller.
    Accepted(Connection, Life),
    /// It cannot be made: it is refused, or nobody answers.
    Failed(Connection, Loss),
    /// The other side has closed it.
    Reset(Connection),
    /// This call does not go over a new connection, and there is no other.
    Ended(CallId),
    /// Nobody waits for this call any longer.
    Expired { call: CallId, lost: bool },
}

/// A node's end of the connection.
#[derive(Debug)]
pub(super) struct Link {
    node: NodeIndex,
    state: State,
    connection: Connection,
    calls: BTreeMap<CallId, Call>,
    next_call: u64,
    /// When the last message on the connection arrives, either way.
    last_sent: Mono,
    last_received: Mono,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Closed,
    Connecting,
    Open(Life),
}

#[derive(Debug)]
struct Call {
    topic: Topic,
    connection: Connection,
    deadline: Mono,
    /// What waits for the connection.
    unsent: Option<Request>,
}

impl Link {
    pub(super) fn new(node: NodeIndex) -> Self {
        Self {
            node,
            state: State::Closed,
            connection: Connection(0),
            calls: BTreeMap::new(),
            next_call: 0,
            last_sent: Mono::default(),
            last_received: Mono::default(),
        }
    }

    /// The connection that is made or being made, if any.
    pub(super) fn connection(&self) -> Option<Connection> {
        (self.state != State::Closed).then_some(self.connection)
    }

    /// The agent is gone: nobody waits for anything.
    pub(super) fn abandon(&mut self) {
        self.state = State::Closed;
        self.calls.clear();
    }

    /// Makes a call.
    pub(super) fn call(&mut self, request: Request, world: &mut World) {
        let id = CallId(self.next_call);
        self.next_call += 1;
        let needs_this_one = matches!(&request, Request::Register(offer) if !offer.reconnect);
        if self.state == State::Closed && needs_this_one {
            world.at(world.now, Happening::Link(self.node, LinkEvent::Ended(id)));
        } else if self.state == State::Closed {
            self.connect(world);
        }
        let topic = match &request {
            Request::Register(_) => Topic::Register,
            Request::Heartbeat(heartbeat) => Topic::Heartbeat(*heartbeat),
            Request::Report(report) => Topic::Report(report.worker),
        };
        let (connection, deadline) = (self.connection, world.now + DEADLINE);
        let unsent = match self.state {
            State::Open(life) => {
                self.send(id, deadline, life, request, world);
                None
            }
            State::Closed | State::Connecting => Some(request),
        };
        self.calls.insert(id, Call { topic, connection, deadline, unsent });
    }

    fn connect(&mut self, world: &mut World) {
        self.state = State::Connecting;
        self.connection = Connection(self.connection.0 + 1);
        self.last_sent = world.now;
        self.last_received = world.now;
        let deadline = world.now + CONNECT_DEADLINE;
        let knock = Knock { node: self.node, connection: self.connection, deadline };
        world.after_legs(1, Happening::Knock(knock));
    }

    fn send(
        &mut self,
        call: CallId,
        deadline: Mono,
        life: Life,
        request: Request,
        world: &mut World,
    ) {
        let (node, connection) = (self.node, self.connection);
        let arrival = Arrival { node, connection, life, call, deadline, request };
        self.last_sent = self.last_sent.max(world.now + world.network.leg());
        world.at(self.last_sent, Happening::Arrival(Box::new(arrival)));
    }

    /// An answer sets out at this time: when it arrives.
    pub(super) fn expect(&mut self, leaves: Mono, world: &mut World) -> Mono {
        self.last_received = self.last_received.max(leaves + world.network.leg());
        self.last_received
    }

    /// An answer has arrived. Returns what the agent makes of it.
    pub(super) fn answered(&mut self, answer: Answer) -> Option<Event> {
        let call = self.calls.remove(&answer.call)?;
        Some(call.topic.ended(answer.result))
    }

    /// The connection has changed. Returns what the agent hears, in order.
    pub(super) fn changed(&mut self, event: LinkEvent, world: &mut World) -> Vec<Event> {
        match event {
            LinkEvent::Accepted(connection, life) if self.is_connecting(connection) => {
                self.state = State::Open(life);
                self.send_waiting(life, world);
                Vec::new()
            }
            LinkEvent::Failed(connection, loss) if self.is_connecting(connection) => {
                self.close(loss, "the controller cannot be reached")
            }
            LinkEvent::Reset(connection) if self.connection() == Some(connection) => {
                self.close(Loss::Closed, "the controller has closed the connection")
            }
            LinkEvent::Ended(call) => {
                let call = self.calls.remove(&call);
                call.map(|call| call.topic.ended(Err(CallError::NotConnected)))
                    .into_iter()
                    .collect()
            }
            LinkEvent::Expired { call, lost } => self.expire(call, lost),
            LinkEvent::Accepted(..) | LinkEvent::Failed(..) | LinkEvent::Reset(_) => Vec::new(),
        }
    }

    fn is_connecting(&self, connection: Connection) -> bool {
        self.state == State::Connecting && self.connection == connection
    }

    fn send_waiting(&mut self, life: Life, world: &mut World) {
        let waiting: Vec<_> = self
            .calls
            .iter_mut()
            .filter_map(|(id, call)| Some((*id, call.deadline, call.unsent.take()?)))
            .collect();
        for (id, deadline, request) in waiting {
            self.send(id, deadline, life, request, world);
        }
    }

    /// Fails every call on the connection, as it is the only one that these had.
    fn close(&mut self, loss: Loss, why: &str) -> Vec<Event> {
        self.state = State::Closed;
        let connection = self.connection;
        let gone = self.calls.extract_if(.., |_, call| call.connection == connection);
        let failed = gone.map(|(_, call)| call.topic.ended(Err(CallError::Failed(why.into()))));
        [Event::ConnectionLost(loss)].into_iter().chain(failed).collect()
    }

    fn expire(&mut self, id: CallId, lost: bool) -> Vec<Event> {
        let Some(call) = self.calls.remove(&id) else { return Vec::new() };
        let mut events = Vec::new();
        if lost && self.connection() == Some(call.connection) {
            self.state = State::Closed;
            events.push(Event::ConnectionLost(Loss::Broken));
        }
        let why = format!("no answer from the controller within {DEADLINE:?}");
        events.push(call.topic.ended(Err(CallError::Failed(why.into()))));
        events
    }
}

impl Topic {
    fn ended(self, result: Result<(), CallError>) -> Event {
        match self {
            Self::Register => Event::Registered(result),
            Self::Heartbeat(heartbeat) => Event::HeartbeatAnswered { heartbeat, result },
            Self::Report(worker) => Event::ReportAnswered { worker, result },
        }
    }
}
