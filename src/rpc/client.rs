//! Calling the controller: ControllerGrpc over any connector, each call with a deadline.

use std::{
    error::Error,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
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
    convert,
    wire::{self, controller_grpc_client::ControllerGrpcClient},
};
use crate::{
    ids::MachineId,
    machine::{CallError, Registration, Report, Wall},
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

/// A client of one controller. Connects when it is first used and again whenever it must.
#[derive(Clone, Debug)]
pub struct ControllerClient {
    machine: MachineId,
    deadline: Duration,
    client: ControllerGrpcClient<Channel>,
    overdue: Arc<Overdue>,
}

/// The heartbeat that was not answered in time and goes on, if there is one.
#[derive(Debug, Default)]
struct Overdue(Mutex<Option<AbortOnDropHandle<()>>>);

type Call = Pin<Box<dyn Future<Output = Result<(), Status>> + Send>>;

impl ControllerClient {
    /// A client that connects through `connector`; `on_connect` is called for each new connection.
    pub fn new<C>(
        machine: MachineId,
        endpoint: Endpoint,
        settings: CallSettings,
        connector: C,
        on_connect: impl Fn() + Send + Sync + 'static,
    ) -> Self
    where
        C: Service<Uri> + Clone + Send + 'static,
        C::Response: Read + Write + Unpin + Send + 'static,
        C::Future: Send,
        C::Error: Send,
        Box<dyn Error + Send + Sync>: From<C::Error>,
    {
        let on_connect = Arc::new(on_connect);
        let connector = connector.map_response(move |connection| {
            on_connect();
            connection
        });
        let (every, patience) = settings.keepalive;
        let channel = endpoint
            .connect_timeout(settings.connect_deadline)
            .http2_keep_alive_interval(every)
            .keep_alive_timeout(patience)
            .keep_alive_while_idle(true)
            .connect_with_connector_lazy(connector);
        let client = ControllerGrpcClient::new(channel);
        Self { machine, deadline: settings.deadline, client, overdue: Arc::default() }
    }

    /// RegisterNode.
    ///
    /// # Errors
    /// The controller did not acknowledge it in time.
    pub async fn register(&self, registration: Registration) -> Result<(), CallError> {
        let mut client = self.client.clone();
        let request: wire::RegisterNodeReq = convert::registration(registration);
        self.call(async move { client.register_node(Request::new(request)).await.map(drop) }).await
    }

    /// HeartbeatNode.
    ///
    /// A stock controller lets the calls of all nodes wait in one queue while it starts workers, for minutes
    /// if one of their machines has lost its power, and takes nodes that it has not heard for half a
    /// minute for dead when it comes to the next job in the queue. A call that is cancelled loses its place. So
    /// one heartbeat that was not answered in time is given up here only, and keeps its place there.
    ///
    /// # Errors
    /// The controller did not acknowledge it in time, or does not know this node.
    pub async fn heartbeat(&self, at: Wall) -> Result<(), CallError> {
        let mut client = self.client.clone();
        let request = Request::new(convert::heartbeat(&self.machine, at));
        let mut call: Call =
            Box::pin(async move { client.heartbeat_node(request).await.map(drop) });
        let outcome = timeout(self.deadline, &mut call).await;
        if outcome.is_err() {
            self.overdue.keep(call);
        }
        self.result(outcome)
    }

    /// WorkerFinished, in the report's dialect. A controller that cannot read that has been
    /// replaced by one of another version since it started the worker: it is told in its own.
    ///
    /// # Errors
    /// The controller did not acknowledge it in time.
    pub async fn worker_finished(&self, report: &Report) -> Result<(), CallError> {
        let mut client = self.client.clone();
        let request = convert::worker_finished(report);
        let other = convert::worker_finished(&report.in_the_other_dialect());
        self.call(async move {
            match client.worker_finished(Request::new(request)).await {
                Err(status) if cannot_read(&status) => {
                    client.worker_finished(Request::new(other)).await.map(drop)
                }
                answer => answer.map(drop),
            }
        })
        .await
    }

    async fn call(&self, call: impl Future<Output = Result<(), Status>>) -> Result<(), CallError> {
        self.result(timeout(self.deadline, call).await)
    }

    fn result(&self, outcome: Result<Result<(), Status>, Elapsed>) -> Result<(), CallError> {
        match outcome {
            Ok(Ok(())) => Ok(()),
            Ok(Err(status)) => Err(convert::call_error(&status)),
            Err(_) => Err(CallError::Failed(
                format!("no answer from the controller within {:?}", self.deadline).into(),
            )),
        }
    }
}

impl Overdue {
    /// Has this call go on, unless another one does.
    fn keep(&self, call: Call) {
        let mut place = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if place.as_ref().is_none_or(AbortOnDropHandle::is_finished) {
            // Whatever the answer is, it is too late to mean anything.
            *place = Some(AbortOnDropHandle::new(tokio::spawn(async { drop(call.await) })));
        }
    }
}

/// Whether the other side could not make sense of the bytes of a request. What Arroyo's servers say
/// then is prost's, which calls a number of the other dialect a wire type that it did not expect.
fn cannot_read(status: &Status) -> bool {
    status.code() == Code::Internal && status.message().contains("decode Protobuf")
}
