//! [`Controller`]: what a program holds of its controller.

use std::{error::Error, sync::Arc};

use futures_util::{Stream, StreamExt as _};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::mpsc,
};
use tonic::transport::{
    Server,
    server::{Connected, TcpIncoming},
};

use super::{
    event::{ControllerEvent, Snapshot},
    job::{JobSpec, Stop, SubmitError, UnknownJob},
    nodes::{Connector, NodeCalls},
    reconcile::Reconcile,
    serve::Severable,
    service::ControllerService,
    settings::Settings,
    shared::{Deadline, Shared},
};
use crate::{
    ids::{JobId, MachineId},
    rpc::wire::controller_grpc_server::ControllerGrpcServer,
    runtime::ports::Clock,
};

/// A controller with nothing in its books. Dropping it ends everything that belongs to it, as
/// killing it would: its listener and connections are closed, its calls to nodes are given up, and
/// workers stay as they are.
pub struct Controller {
    shared: Arc<Shared>,
}

impl Controller {
    /// A new controller. It serves nobody until [`serve`](Self::serve) is awaited.
    pub fn new(settings: Settings, clock: Arc<dyn Clock>, connector: Arc<dyn Connector>) -> Self {
        let after = settings.quirks.call_deadline;
        let nodes = NodeCalls { connector, deadline: Deadline { clock: clock.clone(), after } };
        Self { shared: Arc::new(Shared::new(settings, clock, nodes)) }
    }

    /// Serves ControllerGrpc on these connections until `shutdown` ends; then, or when the future
    /// is dropped, the controller closes as in [`close`](Self::close). The future does not borrow
    /// the controller, and ends too when that is dropped.
    pub fn serve<I, IO, E, F>(
        &self,
        incoming: I,
        shutdown: F,
    ) -> impl Future<Output = Result<(), tonic::transport::Error>> + Send + use<I, IO, E, F>
    where
        I: Stream<Item = Result<IO, E>> + Send,
        IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
        E: Into<Box<dyn Error + Send + Sync>> + Send,
        F: Future<Output = ()> + Send,
    {
        let service = self.service();
        let closed = self.shared.closed.clone();
        async move {
            let _close = closed.clone().drop_guard();
            let cut = closed.clone();
            let severable = incoming.map(move |io| io.map(|io| Severable::new(io, cut.clone())));
            let closing = async {
                closed.run_until_cancelled(shutdown).await;
                closed.cancel();
            };
            Server::builder()
                .add_service(service)
                .serve_with_incoming_shutdown(severable, closing)
                .await
        }
    }

    /// [`serve`](Self::serve) on a listening socket.
    pub fn serve_tcp<F>(
        &self,
        listener: TcpListener,
        shutdown: F,
    ) -> impl Future<Output = Result<(), tonic::transport::Error>> + Send + use<F>
    where
        F: Future<Output = ()> + Send,
    {
        self.serve(TcpIncoming::from(listener).with_nodelay(Some(true)), shutdown)
    }

    /// The service alone, for a server of one's own; connections are then not cut on closing.
    pub fn service(&self) -> ControllerGrpcServer<ControllerService> {
        ControllerGrpcServer::new(self.answers())
    }

    /// What the service answers with, for a service of one's own that looks on or interferes.
    pub fn answers(&self) -> ControllerService {
        ControllerService { shared: self.shared.clone() }
    }

    /// Takes a job and begins to run it, in a task on the current tokio runtime. A name can be
    /// used again once its job was stopped or has failed.
    pub fn submit(&self, job: JobSpec) -> Result<(), SubmitError> {
        if self.shared.closed.is_cancelled() {
            return Err(SubmitError::Closed);
        }
        let job = self.shared.books(|books| books.submit(job))?;
        let closed = self.shared.closed.clone();
        let task = Reconcile::new(self.shared.clone(), job);
        tokio::spawn(async move { closed.run_until_cancelled(task.run()).await });
        Ok(())
    }

    /// Tells a job to stop, and returns at once: [`until`](Self::until) its state is `Stopped`.
    /// Saying it again with [`Stop::Force`] makes a gentle stop forceful.
    pub fn stop(&self, job: &JobId, how: Stop) -> Result<(), UnknownJob> {
        self.shared.books(|books| books.request_stop(job, how))?;
        self.shared.waker(job).notify_one();
        Ok(())
    }

    /// Says that a job is not well, as a worker does that has a failed task. As in stock it makes no
    /// difference which run the worker is of. If the job runs, it is scheduled anew. If it is being
    /// scheduled, that attempt fails.
    pub fn report_unwell(&self, job: &JobId) -> Result<(), UnknownJob> {
        self.shared.books(|books| books.report_unwell(job))?;
        self.shared.waker(job).notify_one();
        Ok(())
    }

    /// Forgets a node, as a fault: its next heartbeat is answered NOT_FOUND. Returns whether it was
    /// known.
    pub fn forget_node(&self, node: &MachineId) -> bool {
        self.shared.books(|books| books.forget_node(node))
    }

    /// The books as they stand. Never waits for a call that is under way.
    pub fn snapshot(&self) -> Snapshot {
        self.shared.books(|books| books.snapshot())
    }

    /// Everything that happens from now on, in order and without gaps; what is not read is kept.
    pub fn subscribe(&self) -> mpsc::UnboundedReceiver<ControllerEvent> {
        self.shared.subscribe()
    }

    /// Waits until the books are as wanted, and returns them as they were then.
    pub async fn until(&self, mut wanted: impl FnMut(&Snapshot) -> bool) -> Snapshot {
        let mut events = self.subscribe();
        loop {
            let snapshot = self.snapshot();
            if wanted(&snapshot) || events.recv().await.is_none() {
                return snapshot;
            }
            // Many events may have come meanwhile: one look at the books covers them all.
            while events.try_recv().is_ok() {}
        }
    }

    /// Ends everything that belongs to the controller, as dropping it does. Idempotent.
    pub fn close(&self) {
        self.shared.closed.cancel();
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.close();
    }
}
