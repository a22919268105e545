//! Calling the controller: ControllerGrpc over any connector, each call with a deadline.

use std::{
    error::Error,
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http::Uri;
use hyper::rt::{Read, Write};
use tokio::time::{error::Elapsed, timeout};
use tokio_util::task::AbortOnDropHandle;
use tonic::{
    Code, Request, Status,
    transport::{Channel, Endpoint},
};
use tower::{Service, ServiceExt as _};

use super::{
    connection::{Ended, Life, OnLoss},
    convert,
    wire::{self, controller_grpc_client::ControllerGrpcClient},
};
use crate::{
    ids::MachineId,
    machine::{CallError, Heartbeat, Loss, Registration, Report},
};

/// How a controller is called.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CallSettings {
    /// How long a call may take, connecting included. Shorter than the time between heartbeats.
    pub deadline: Duration,
    /// How long connecting may take.
    pub connect_deadline: Duration,
    /// How often a connection is asked whether its other end is still there, and how long the
    /// answer may take.
    pub keepalive: (Duration, Duration),
}

impl Default for CallSettings {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(4),
            connect_deadline: Duration::from_secs(3),
            keepalive: (Duration::from_secs(5), Duration::from_secs(3)),
        }
    }
}

/// How many registrations and heartbeats in a row may go unanswered on one connection. Who answers
/// its pings may be a proxy, or a controller that hangs; the one that serves is reached by a new
/// connection, perhaps at another address by now. Not one: a controller that is late is still there.
const UNANSWERED_MOST: u32 = 3;

/// What a client tells besides the answers to its calls.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Notification {
    /// A connection has ended, or was refused.
    Lost(Loss),
    /// A heartbeat that was given up has been answered after all.
    LateAnswer,
}

/// A client of one controller. Only probes, and calls for which it makes no difference whether the
/// controller has forgotten this node, make a new connection where there is none.
#[derive(Clone)]
pub struct ControllerClient {
    machine: MachineId,
    deadline: Duration,
    connect: Arc<dyn Fn(&Life) -> Channel + Send + Sync>,
    notify: Arc<dyn Fn(Notification) + Send + Sync>,
    current: Arc<Mutex<Current>>,
}

/// The connection that is used now.
struct Current {
    channel: Channel,
    life: Life,
    /// Registrations and heartbeats in a row that had no answer.
    unanswered: u32,
    /// The first such heartbeat, which goes on, perhaps on the connection before.
    overdue: Option<AbortOnDropHandle<()>>,
}

/// In time, or not.
type Answer = Result<Result<(), Status>, Elapsed>;

type Call = Pin<Box<dyn Future<Output = Result<(), Status>> + Send>>;

impl fmt::Debug for ControllerClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ControllerClient").field("machine", &self.machine).finish_non_exhaustive()
    }
}

impl ControllerClient {
    /// A client that connects through `connector`; `notify` is called for what no call tells.
    pub fn new<C>(
        machine: MachineId,
        endpoint: Endpoint,
        settings: CallSettings,
        connector: C,
        notify: impl Fn(Notification) + Send + Sync + 'static,
    ) -> Self
    where
        C: Service<Uri> + Clone + Send + Sync + 'static,
        C::Response: Read + Write + Unpin + Send + 'static,
        C::Future: Send,
        C::Error: Into<Box<dyn Error + Send + Sync>> + Send,
    {
        let notify: Arc<dyn Fn(Notification) + Send + Sync> = Arc::new(notify);
        let on_loss: OnLoss = {
            let notify = notify.clone();
            Arc::new(move |loss| notify(Notification::Lost(loss)))
        };
        let (every, patience) = settings.keepalive;
        let endpoint = endpoint
            .connect_timeout(settings.connect_deadline)
            .http2_keep_alive_interval(every)
            .keep_alive_timeout(patience)
            .keep_alive_while_idle(true);
        // Connects once, and has the connection watched.
        let connect = Arc::new(move |life: &Life| {
            let (connector, life, on_loss) = (connector.clone(), life.clone(), on_loss.clone());
            endpoint.connect_with_connector_lazy(tower::service_fn(move |uri: Uri| {
                let (connector, guard) = (connector.clone(), life.begin(on_loss.clone()));
                async move {
                    let guard = guard?;
                    let connected = connector.oneshot(uri).await;
                    match connected.map_err(Into::<Box<dyn Error + Send + Sync>>::into) {
                        Ok(connection) => Ok(guard.watch(connection)),
                        Err(error) => {
                            guard.failed(error.as_ref());
                            Err(error)
                        }
                    }
                }
            }))
        });
        let life = Life::default();
        let channel = connect(&life);
        let current = Current { channel, life, unanswered: 0, overdue: None };
        let current = Arc::new(Mutex::new(current));
        Self { machine, deadline: settings.deadline, connect, notify, current }
    }

    /// RegisterNode; on a new connection only if the registration allows that.
    ///
    /// # Errors
    /// The controller did not acknowledge it in time, or the connection has ended.
    pub async fn register(&self, registration: Registration) -> Result<(), CallError> {
        let mut client = match registration.reconnect {
            true => self.client(),
            false => ControllerGrpcClient::new(self.current().channel.clone()),
        };
        let request: wire::RegisterNodeReq = convert::registration(registration);
        let call = async move { client.register_node(Request::new(request)).await.map(drop) };
        let answer = timeout(self.deadline, call).await;
        self.note(&answer, None);
        self.outcome(answer)
    }

    /// HeartbeatNode.
    ///
    /// A stock controller lets the calls of all nodes wait in one queue while it starts workers, for minutes
    /// if one of their machines has lost its power, and takes nodes that it has not heard for half a
    /// minute for dead when it comes to the next job in the queue. A call that is cancelled loses its place. So
    /// one heartbeat that was not answered in time is given up here only, and keeps its place there.
    /// Its answer, should it come, is a [notification](Notification::LateAnswer).
    ///
    /// # Errors
    /// The controller did not acknowledge it in time, or does not know this node.
    pub async fn heartbeat(&self, heartbeat: Heartbeat) -> Result<(), CallError> {
        let mut client = self.client();
        let request = Request::new(convert::heartbeat(&self.machine, heartbeat.sent.wall));
        let mut call: Call =
            Box::pin(async move { client.heartbeat_node(request).await.map(drop) });
        let answer = timeout(self.deadline, &mut call).await;
        self.note(&answer, answer.is_err().then_some(call));
        self.outcome(answer)
    }

    /// WorkerFinished, in the report's dialect. A controller that cannot read that has been
    /// replaced by one of another version since it started the worker: it is told in its own.
    ///
    /// # Errors
    /// The controller did not acknowledge it in time.
    pub async fn worker_finished(&self, report: &Report) -> Result<(), CallError> {
        let mut client = self.client();
        let request = convert::worker_finished(report);
        let other = convert::worker_finished(&report.in_the_other_dialect());
        let call = async move {
            match client.worker_finished(Request::new(request)).await {
                Err(status) if cannot_read(&status) => {
                    client.worker_finished(Request::new(other)).await.map(drop)
                }
                answer => answer.map(drop),
            }
        };
        self.outcome(timeout(self.deadline, call).await)
    }

    /// On the connection that there is, or a new one.
    fn client(&self) -> ControllerGrpcClient<Channel> {
        let mut current = self.current();
        if current.life.has_ended() {
            self.reconnect(&mut current);
        }
        ControllerGrpcClient::new(current.channel.clone())
    }

    fn reconnect(&self, current: &mut Current) {
        current.life = Life::default();
        current.channel = (self.connect)(&current.life);
        current.unanswered = 0;
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves a connection on which nothing is answered, and has an overdue heartbeat go on, until another
    /// call succeeds. Reports are not noted: each may have its own reason to hang.
    fn note(&self, answer: &Answer, overdue: Option<Call>) {
        let mut current = self.current();
        if let Ok(answered) = answer {
            current.unanswered = 0;
            current.overdue.take_if(|_| answered.is_ok());
            return;
        }
        if let Some(call) = overdue
            && current.overdue.as_ref().is_none_or(AbortOnDropHandle::is_finished)
        {
            let notify = self.notify.clone();
            let call = tokio::spawn(async move {
                let answer = call.await;
                if answer.as_ref().err().is_none_or(|status| status.code() == Code::NotFound) {
                    notify(Notification::LateAnswer);
                }
            });
            current.overdue = Some(AbortOnDropHandle::new(call));
        }
        current.unanswered += 1;
        if current.unanswered >= UNANSWERED_MOST {
            self.reconnect(&mut current);
        }
    }

    fn outcome(&self, answer: Answer) -> Result<(), CallError> {
        match answer {
            Ok(Ok(())) => Ok(()),
            Ok(Err(status)) if status.source().is_some_and(Ended::is_behind) => {
                Err(CallError::NotConnected)
            }
            Ok(Err(status)) => Err(convert::call_error(&status)),
            Err(_) => Err(CallError::Failed(
                format!("no answer from the controller within {:?}", self.deadline).into(),
            )),
        }
    }
}

/// Whether the other side could not make sense of the bytes of a request. What Arroyo's servers say
/// then is prost's, which calls a number of the other dialect a wire type that it did not expect.
fn cannot_read(status: &Status) -> bool {
    status.code() == Code::Internal && status.message().contains("decode Protobuf")
}
