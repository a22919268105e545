//! The port for programs that embed the agent: workers are children of this process, supervised
//! by one thread.
//!
//! ```text
//!  driver ── orders ──▶ thread "workers": engine ── events ──▶ driver
//! ```
//!
//! When this process ends, the workers run on and are init's; whoever comes next adopts them by
//! pid and start time. Their exit statuses are then to be had only where the kernel keeps them.

use std::{
    io,
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
};

use nix::sys::eventfd::{EfdFlags, EventFd};

use super::{
    command::WorkerCommand,
    supervisor::{Order, Supervisor},
};
use crate::{
    ids::WorkerId,
    machine::{Launch, Process, Signal},
    runtime::{
        output::OutputDir,
        ports::{Events, Processes},
    },
};

/// How workers are run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProcessesConfig {
    /// What to run.
    pub command: WorkerCommand,
    /// Where their output goes.
    pub output: OutputDir,
}

/// Supervises workers from within this process. When it is dropped, the workers run on.
#[derive(Debug)]
pub struct InProcess {
    /// `None` once it is being dropped.
    orders: Option<mpsc::Sender<Order>>,
    wake: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

impl InProcess {
    /// Starts the thread. Workers inherit the environment and the working directory that this
    /// process has now.
    pub fn start(config: ProcessesConfig, events: Events) -> io::Result<Self> {
        let (orders, receiver) = mpsc::channel();
        let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        let wake = Arc::new(wake);
        let supervisor = Supervisor::new(config, events, receiver, Arc::clone(&wake))?;
        let thread =
            thread::Builder::new().name("workers".to_owned()).spawn(move || supervisor.run())?;
        Ok(Self { orders: Some(orders), wake, thread: Some(thread) })
    }

    pub(super) fn order(&self, order: Order) {
        if let Some(orders) = &self.orders
            && orders.send(order).is_err()
        {
            tracing::error!("the thread that supervises the workers is gone");
        }
        // Fails only when the counter is full, and then the thread is about to wake up anyway.
        let _ = self.wake.write(1);
    }
}

impl Processes for InProcess {
    fn spawn(&mut self, launch: Launch) {
        self.order(Order::Spawn(launch));
    }

    fn adopt(&mut self, worker: WorkerId, process: Option<Process>) {
        self.order(Order::Adopt(worker, process));
    }

    fn signal(&mut self, worker: WorkerId, signal: Signal) {
        self.order(Order::Signal(worker, signal));
    }

    /// Nothing to do: `Exited` was the only copy.
    fn release(&mut self, _worker: WorkerId) {}

    fn discard(&mut self, worker: WorkerId) {
        self.order(Order::Discard(worker));
    }
}

impl Drop for InProcess {
    fn drop(&mut self) {
        self.orders = None;
        let _ = self.wake.write(1);
        if let Some(thread) = self.thread.take() {
            // Whoever adopts the workers next must not meet a thread that still reaps them.
            let _ = thread.join();
        }
    }
}
