//! What a shim does: serves one agent at a time, supervises, keeps what has ended until it is
//! released.
//!
//! ```text
//!  Connected ─▶ the new agent replaces the one before      Ended ─▶ Exited, kept until Release
//!  Received  ─▶ its requests                               nothing to do, nobody there ─▶ End
//! ```

use std::{
    collections::{BTreeMap, VecDeque},
    mem,
    sync::Arc,
    time::Duration,
};

use super::{
    LinkId,
    payload::{self, MAX_PAYLOAD},
    protocol::{self, Failed, Request, RequestKind, Response, ResponseKind},
};
use crate::{
    ids::WorkerId,
    machine::{Exit, Mono, Process, Signal},
    supervisor::{Answer, Config, Input, KernelEvent, Notice, Operation, Output, Supervisor},
};

/// How often a shim without an agent checks that it can be found.
const PLACE_CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// How many bytes of unfinished payloads are kept: of one and a half of the longest.
const MAX_UNFINISHED: usize = MAX_PAYLOAD / 2 * 3;

/// The decisions of one shim.
#[derive(Debug)]
pub struct Server {
    supervisor: Supervisor,
    pid: u32,
    agent: Option<Agent>,
    entries: BTreeMap<WorkerId, Entry>,
    /// Parts of payloads of which more are to come.
    unfinished: BTreeMap<WorkerId, Vec<u8>>,
    place: Place,
    check_place_at: Mono,
    /// When it ends, if nothing needs it.
    end_at: Mono,
    ended: bool,
}

#[derive(Debug)]
struct Agent {
    link: LinkId,
    /// `None`: it has not said hello.
    version: Option<u32>,
}

/// A worker that has not been released.
#[derive(Debug)]
struct Entry {
    /// `None`: it is being forked.
    process: Option<Process>,
    loading: bool,
    label: Vec<u8>,
    exit: Option<Exit>,
}

/// What a shim finds of itself in its directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// Whether the file that it has locked is the one that another would lock.
    pub lock: bool,
    /// Whether there is a socket to connect to.
    pub socket: bool,
}

/// What a shim is told.
#[derive(Clone, PartialEq, Debug)]
pub enum ServerInput {
    /// An agent has connected. What the one before it had sent was received before.
    Connected(LinkId),
    /// An agent has sent a request, or what is none.
    Received(LinkId, Result<Request, String>),
    /// A connection has ended.
    Closed(LinkId),
    /// The answer to [`ServerAction::CheckPlace`].
    Place(Place),
    /// An operation was carried out.
    Answer(Answer),
    /// The kernel tells something.
    Event(KernelEvent),
    /// A batch of inputs is complete, or the time of `next_timeout` has come.
    Timeout,
}

/// What comes of it. To be carried out in order; each operation's answer is handed in before the
/// next action.
#[derive(Clone, PartialEq, Debug)]
pub enum ServerAction {
    /// To ask of the kernel.
    Operation(Operation),
    /// To send. What cannot be sent yet waits; what cannot be sent any more is lost.
    Send(LinkId, Response),
    /// To close.
    Close(LinkId),
    /// To look for lock and socket. Answered later.
    CheckPlace,
    /// To make the socket anew.
    Listen,
    /// For the shim's log.
    Log(String),
    /// To end: nothing needs this shim. The socket is removed if it is this shim's.
    End,
}

/// What comes of an input of a server.
pub type ServerOutput = VecDeque<ServerAction>;

impl Server {
    /// A shim with this pid that ends after `linger` if no agent comes.
    pub fn new(config: Config, pid: u32, linger: Duration, now: Mono) -> Self {
        Self {
            supervisor: Supervisor::new(config),
            pid,
            agent: None,
            entries: BTreeMap::new(),
            unfinished: BTreeMap::new(),
            place: Place { lock: true, socket: true },
            check_place_at: now + PLACE_CHECK_INTERVAL,
            end_at: now + linger,
            ended: false,
        }
    }

    /// Takes in one input.
    pub fn handle(&mut self, now: Mono, input: ServerInput, out: &mut ServerOutput) {
        match input {
            ServerInput::Connected(link) => self.connected(link, out),
            ServerInput::Received(link, received) if self.is_agent(link) => match received {
                Ok(request) => self.handle_request(now, request, out),
                Err(error) => {
                    out.push_back(ServerAction::Log(format!("the connection is closed: {error}")));
                    self.disconnect(out);
                }
            },
            ServerInput::Closed(link) if self.is_agent(link) => self.agent = None,
            ServerInput::Received(..) | ServerInput::Closed(_) => {}
            ServerInput::Place(place) => self.handle_place(place, out),
            ServerInput::Answer(answer) => self.supervise(now, Input::Answer(answer), out),
            ServerInput::Event(event) => self.supervise(now, Input::Event(event), out),
            ServerInput::Timeout => self.handle_timeout(now, out),
        }
    }

    /// When [`ServerInput::Timeout`] is due at the latest; `Mono(0)`: at once.
    pub fn next_timeout(&self) -> Option<Mono> {
        if self.ended {
            return None;
        }
        let own = match (&self.agent, self.is_needed()) {
            (Some(_), _) => None,
            (None, true) => Some(self.check_place_at),
            (None, false) => Some(self.end_at),
        };
        own.into_iter().chain(self.supervisor.next_timeout()).min()
    }

    fn is_agent(&self, link: LinkId) -> bool {
        self.agent.as_ref().is_some_and(|agent| agent.link == link)
    }

    fn connected(&mut self, link: LinkId, out: &mut ServerOutput) {
        self.disconnect(out);
        self.agent = Some(Agent { link, version: None });
    }

    fn disconnect(&mut self, out: &mut ServerOutput) {
        if let Some(agent) = self.agent.take() {
            out.push_back(ServerAction::Close(agent.link));
        }
        self.unfinished.clear();
    }

    fn handle_timeout(&mut self, now: Mono, out: &mut ServerOutput) {
        self.supervise(now, Input::Timeout, out);
        if self.agent.is_some() {
            // As soon as that has gone.
            self.check_place_at = now;
        } else if self.check_place_at <= now && self.is_needed() {
            self.check_place_at = now + PLACE_CHECK_INTERVAL;
            out.push_back(ServerAction::CheckPlace);
        }
        if self.is_needed() {
            self.end_at = now;
        } else if self.end_at <= now && !mem::replace(&mut self.ended, true) {
            out.push_back(ServerAction::End);
        }
    }

    /// By an agent, by a worker, or by the agent to come, which will ask for what is kept. None
    /// comes where the socket is gone, as with a state directory that was removed.
    fn is_needed(&self) -> bool {
        self.agent.is_some()
            || self.entries.values().any(|entry| entry.exit.is_none())
            || (!self.entries.is_empty() && self.place == Place { lock: true, socket: true })
    }

    /// The socket may have been removed by something that took it for left over; then no agent
    /// would get to the workers. Where the lock is gone as well the directory may be another
    /// shim's.
    fn handle_place(&mut self, place: Place, out: &mut ServerOutput) {
        self.place = place;
        if place.lock && !place.socket {
            out.push_back(ServerAction::Listen);
            self.place.socket = true;
        }
    }

    fn supervise(&mut self, now: Mono, input: Input, out: &mut ServerOutput) {
        let mut output = Output::default();
        self.supervisor.handle(now, input, &mut output);
        out.extend(output.operations.into_iter().map(ServerAction::Operation));
        for notice in output.notices {
            self.handle_notice(notice, out);
        }
    }

    fn handle_request(&mut self, now: Mono, request: Request, out: &mut ServerOutput) {
        let greeted = self.agent.as_ref().is_some_and(|agent| agent.version.is_some());
        match request.kind {
            Some(RequestKind::Hello(hello)) => self.greet(hello, out),
            _ if !greeted => self.refuse("the first request must be a hello".to_owned(), out),
            Some(RequestKind::Spawn(spawn)) => self.spawn(now, spawn, out),
            Some(RequestKind::Signal(request)) => {
                let signal = if request.kill { Signal::Kill } else { Signal::Terminate };
                let worker = WorkerId(request.worker);
                let request = crate::supervisor::Request::Signal { worker, signal };
                self.supervise(now, Input::Request(request), out);
            }
            Some(RequestKind::Release(release)) => self.release(WorkerId(release.worker)),
            Some(RequestKind::List(_)) => self.list(out),
            None => {
                let reason = format!("this shim speaks version {} at most", protocol::VERSION);
                self.send(ResponseKind::Unsupported(protocol::Unsupported { reason }), out);
            }
        }
    }

    fn greet(&mut self, hello: protocol::Hello, out: &mut ServerOutput) {
        let Some(version) = protocol::negotiate(hello) else {
            let (lowest, highest) = (protocol::LOWEST_VERSION, protocol::VERSION);
            let reason = format!("this shim speaks versions {lowest} to {highest}");
            return self.refuse(reason, out);
        };
        if let Some(agent) = &mut self.agent {
            agent.version = Some(version);
        }
        let welcome = protocol::Welcome { version, capabilities: 0, pid: self.pid };
        self.send(ResponseKind::Welcome(welcome), out);
    }

    fn refuse(&mut self, reason: String, out: &mut ServerOutput) {
        self.send(ResponseKind::Refused(protocol::Refused { reason }), out);
        self.disconnect(out);
    }

    fn spawn(&mut self, now: Mono, part: protocol::Spawn, out: &mut ServerOutput) {
        let id = WorkerId(part.worker);
        let kept: usize = self.unfinished.values().map(Vec::len).sum();
        if kept + part.payload.len() > MAX_UNFINISHED {
            self.unfinished.remove(&id);
            return self.fail_spawn(id, "what is to be run takes too many bytes".to_owned(), out);
        }
        let payload = self.unfinished.entry(id).or_default();
        payload.extend(part.payload);
        if part.more {
            return;
        }
        let payload = self.unfinished.remove(&id).unwrap_or_default();
        if self.entries.contains_key(&id) {
            return self.fail_spawn(id, format!("worker {id} has been started already"), out);
        }
        match payload::read(&payload) {
            Ok((spec, label)) => {
                let entry = Entry { process: None, loading: true, label, exit: None };
                self.entries.insert(id, entry);
                let spec = Arc::new(spec);
                let request = crate::supervisor::Request::Start { worker: id, spec };
                self.supervise(now, Input::Request(request), out);
            }
            Err(error) => self.fail_spawn(id, error.to_string(), out),
        }
    }

    fn fail_spawn(&mut self, id: WorkerId, reason: String, out: &mut ServerOutput) {
        self.send(ResponseKind::SpawnFailed(Failed { worker: id.0, reason }), out);
    }

    /// Only what has ended can be forgotten.
    fn release(&mut self, id: WorkerId) {
        if self.entries.get(&id).is_some_and(|entry| entry.exit.is_some()) {
            self.entries.remove(&id);
        }
    }

    fn list(&mut self, out: &mut ServerOutput) {
        let known = self.entries.iter().map(|(id, entry)| {
            let process = entry.process.unwrap_or(Process { pid: 0, start_time: 0 });
            protocol::KnownWorker {
                worker: id.0,
                pid: process.pid,
                start_time: process.start_time,
                exit: entry.exit.map(Into::into),
                label: entry.label.clone(),
                loading: entry.loading,
            }
        });
        let known: Vec<_> = known.collect();
        for known in known {
            self.send(ResponseKind::Known(known), out);
        }
        self.send(ResponseKind::ListEnd(protocol::ListEnd {}), out);
    }

    fn handle_notice(&mut self, notice: Notice, out: &mut ServerOutput) {
        match notice {
            Notice::Started { worker, process } => {
                if let Some(entry) = self.entries.get_mut(&worker) {
                    (entry.process, entry.loading) = (Some(process), false);
                }
                let Process { pid, start_time } = process;
                let started = protocol::Spawned { worker: worker.0, pid, start_time };
                self.send(ResponseKind::Spawned(started), out);
            }
            Notice::StartFailed { worker, failure } => {
                self.entries.remove(&worker);
                self.fail_spawn(worker, failure.to_string(), out);
            }
            Notice::Ended { worker, exit } => {
                if let Some(entry) = self.entries.get_mut(&worker) {
                    entry.exit = Some(exit);
                }
                let exit = Some(exit.into());
                let exited = protocol::Exited { worker: worker.0, exit };
                self.send(ResponseKind::Exited(exited), out);
            }
            Notice::SignalFailed { worker, error } => {
                let failed = Failed { worker: worker.0, reason: error };
                self.send(ResponseKind::SignalFailed(failed), out);
            }
            Notice::Warning { worker, text } => {
                out.push_back(ServerAction::Log(format!("worker {worker}: {text}")));
            }
            // A shim adopts nothing.
            Notice::Adopted { .. } | Notice::NeverRan(_) => {}
        }
    }

    /// Without an agent nothing is sent: the next one asks for the list.
    fn send(&mut self, kind: ResponseKind, out: &mut ServerOutput) {
        if let Some(agent) = &self.agent {
            out.push_back(ServerAction::Send(agent.link, Response::from(kind)));
        }
    }
}
