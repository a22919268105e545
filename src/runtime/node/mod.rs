//! A whole agent, assembled: a machine, a driver and the production ports.
//!
//! ```text
//!  NodeBuilder ── build ─▶ NodeServer ── bind ─▶ BoundNode ── run ─▶ (the agent's life)
//!                              └────────── start: both ──────────▲
//! ```
//!
//! [`NodeServer::bind`] does everything that can go wrong at a start: it takes the state directory,
//! opens the journal, reaches the workers of an earlier agent, binds the port. What it returns can
//! be reached by a controller; only then does [`BoundNode::run`] register.

mod assemble;
mod builder;

use std::{net::SocketAddr, sync::Arc};

use anyhow::{Context as _, anyhow};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::task::AbortOnDropHandle;

pub use builder::{
    DEFAULT_CONTROLLER_PORT, DEFAULT_OUTPUT_LIMIT, DEFAULT_PORT, JournalKind, NodeBuilder,
    SMALLEST_OUTPUT_LIMIT, Supervision, default_state_dir,
};

use super::{
    driver::Driver,
    essential::{Essential, Panics},
    metrics::Metrics,
    output_limit::OutputLimit,
    process::program::ProgramWatch,
    shutdown::ShutdownGuard,
    state_dir::StateDir,
    tls::Incoming,
};
use crate::{
    ids::MachineId,
    machine::View,
    mailbox::Mailbox,
    rpc::{
        self,
        service::{About, NodeService},
        wire::WorkerFinishedReq,
    },
};

/// A node agent, ready to be started.
///
/// ```
/// use arroyo_node::{MachineId, NodeServer, machine::Shutdown, shutdown_channel};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> anyhow::Result<()> {
/// # let directory = tempfile::tempdir()?;
/// let (worker_finished, mut ends) = tokio::sync::mpsc::channel(16);
/// let node = NodeServer::builder()
///     .machine_id(MachineId::new("node-a"))
///     .worker_finished(worker_finished)
///     .bind(([127, 0, 0, 1], 0).into())
///     .controller("http://127.0.0.1:5116")
///     .state_dir(directory.path())
///     .build();
///
/// tokio::spawn(async move {
///     while let Some(end) = ends.recv().await {
///         println!("a worker ended and freed {} slots", end.slots);
///     }
/// });
/// let (shutdown, guard) = shutdown_channel();
/// let agent = tokio::spawn(node.start(guard));
/// // …
/// shutdown.shut_down(Shutdown::StopWorkers);
/// agent.await??;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct NodeServer {
    pub(super) settings: NodeBuilder,
}

impl NodeServer {
    /// An agent of this name with the default settings, in the default state directory, whose
    /// controller is at `http://localhost:5116`. Each end of a worker is also sent to
    /// `worker_finished`, in the form in which the controller gets it; a receiver that is slow
    /// holds up nobody, one that is gone is ignored.
    pub fn new(machine_id: MachineId, worker_finished: mpsc::Sender<WorkerFinishedReq>) -> Self {
        Self::builder().machine_id(machine_id).worker_finished(worker_finished).build()
    }

    /// An agent with other settings.
    pub fn builder() -> NodeBuilder {
        NodeBuilder::default()
    }

    /// Runs the agent until `shutdown_guard` tells it to end, and it has.
    ///
    /// # Errors
    /// Those of [`NodeServer::bind`] and [`BoundNode::run`].
    pub async fn start(self, shutdown_guard: ShutdownGuard) -> anyhow::Result<()> {
        self.bind().await?.run(shutdown_guard).await
    }

    /// Takes the state directory and the port.
    ///
    /// # Errors
    /// Another agent uses the state directory, the port cannot be bound, a setting makes no sense,
    /// or workers cannot be supervised at all. The text says which, and what to do.
    pub async fn bind(self) -> anyhow::Result<BoundNode> {
        assemble::assemble(self.settings).await
    }
}

/// An agent that can be reached and has not begun.
pub struct BoundNode {
    driver: Driver,
    service: NodeService,
    incoming: Incoming,
    address: SocketAddr,
    metrics: Arc<Metrics>,
    /// Until the agent has ended.
    output_limit: Option<OutputLimit>,
    program: ProgramWatch,
    /// Keeps other agents out of the directory.
    state: StateDir,
    essential: Essential,
    panics: Panics,
}

impl std::fmt::Debug for BoundNode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BoundNode").field("address", &self.address).finish_non_exhaustive()
    }
}

impl BoundNode {
    /// The address that was bound.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the machine's state can be read, then and later.
    pub fn view(&self) -> watch::Receiver<Arc<View>> {
        self.service.view.clone()
    }

    /// What the agent counts and measures.
    pub fn metrics(&self) -> Arc<Metrics> {
        self.metrics.clone()
    }

    /// What the view does not tell.
    pub fn about(&self) -> Arc<About> {
        self.service.about.clone()
    }

    /// The way in for requests, without the network.
    pub fn mailbox(&self) -> Mailbox {
        self.service.mailbox.clone()
    }

    /// Serves, registers and supervises until `shutdown_guard` tells it to end, and it has.
    ///
    /// # Errors
    /// The server failed while the agent ran, or a part of the agent panicked: the driver, or what
    /// was started by [`Essential`].
    pub async fn run(mut self, mut shutdown_guard: ShutdownGuard) -> anyhow::Result<()> {
        let mailbox = self.service.mailbox.clone();
        let (driver_ended, stop_serving) = oneshot::channel::<()>();
        let stop_serving = async move {
            // Either way the driver is gone.
            let _ = stop_serving.await;
        };
        let (served, mut server) = oneshot::channel();
        let serve = rpc::serve(self.service, self.incoming, stop_serving);
        self.essential.task("server", async move {
            // Nobody waits if a part of the agent has panicked.
            let _ = served.send(serve.await);
        });
        let told = self.essential.task("shutdown", async move {
            loop {
                mailbox.shut_down(shutdown_guard.told().await);
            }
        });
        let (driver, state, program) = (self.driver, self.state, self.program);
        // A task of its own, so that it runs on the thread that serves, whoever awaits this.
        let driver = AbortOnDropHandle::new(tokio::spawn(async move {
            // Other agents are kept out for as long as this one may act.
            let (_state, _program) = (state, program);
            driver.run().await;
        }));
        let driven = tokio::select! {
            biased;
            panicked = self.panics.next() => Err(panicked.into()),
            driven = driver => driven.context("the driver failed"),
            served = &mut server => Err(match served {
                Ok(Err(error)) => anyhow!(error).context("the gRPC server failed"),
                Ok(Ok(())) | Err(_) => anyhow!("the gRPC server has ended"),
            }),
        };
        told.abort();
        drop(driver_ended);
        drop(self.output_limit);
        driven?;
        server.await.context("the gRPC server has ended")?.context("the gRPC server failed")
    }
}

#[cfg(test)]
mod tests;
