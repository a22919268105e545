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
    os::fd::AsFd as _,
    sync::{
        Arc,
        mpsc::{self, TryRecvError},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::eventfd::{EfdFlags, EventFd},
};

use super::{
    command::{Inherited, WorkerCommand},
    engine::{Adoption, Engine, Notice},
};
use crate::{
    ids::WorkerId,
    machine::{Event, Launch, Process, Signal, SpawnError},
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
        let supervisor = Supervisor {
            engine: Engine::new()?,
            config,
            inherited: Inherited::capture(),
            events,
            orders: receiver,
            wake: Arc::clone(&wake),
            unadopted: Vec::new(),
            adopt_again_at: None,
        };
        let thread =
            thread::Builder::new().name("workers".to_owned()).spawn(move || supervisor.run())?;
        Ok(Self { orders: Some(orders), wake, thread: Some(thread) })
    }

    fn order(&self, order: Order) {
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

enum Order {
    Spawn(Launch),
    Adopt(WorkerId, Option<Process>),
    Signal(WorkerId, Signal),
    Discard(WorkerId),
}

/// What runs on the thread.
struct Supervisor {
    engine: Engine,
    config: ProcessesConfig,
    inherited: Inherited,
    events: Events,
    orders: mpsc::Receiver<Order>,
    wake: Arc<EventFd>,
    /// Adoptions that failed for want of descriptors or memory. The workers may be alive.
    unadopted: Vec<(WorkerId, Option<Process>)>,
    adopt_again_at: Option<Instant>,
}

impl Supervisor {
    fn run(mut self) {
        while self.take_orders() {
            self.adopt_again();
            for notice in self.engine.turn() {
                self.events.send(match notice {
                    Notice::Ended { worker, exit } => Event::Exited { worker, exit },
                    Notice::SignalFailed { worker, error } => {
                        Event::SignalFailed { worker, error: error.into() }
                    }
                });
            }
            self.wait();
        }
    }

    fn wait(&self) {
        let deadline = self.engine.next_deadline().into_iter().chain(self.adopt_again_at).min();
        let timeout = deadline.map_or(PollTimeout::NONE, |at| {
            // Rounded up: to wake before the time would be to wake for nothing.
            let wait = at.saturating_duration_since(Instant::now()) + Duration::from_micros(999);
            PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX)
        });
        let mut fds = [
            PollFd::new(self.wake.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.engine.descriptor(), PollFlags::POLLIN),
        ];
        // Interrupted, or anything else: the loop looks at everything in any case.
        let _ = poll(&mut fds, timeout);
        let _ = self.wake.read();
    }

    /// `false`: the port has been dropped.
    fn take_orders(&mut self) -> bool {
        loop {
            match self.orders.try_recv() {
                Ok(order) => self.execute(order),
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn execute(&mut self, order: Order) {
        match order {
            Order::Spawn(launch) => self.spawn(&launch),
            Order::Adopt(worker, process) => self.adopt(worker, process),
            Order::Signal(worker, signal) => self.engine.signal(worker, signal),
            Order::Discard(worker) => {
                if let Err(error) = self.config.output.discard(worker) {
                    tracing::warn!(%worker, %error, "a worker's output stays behind");
                }
            }
        }
    }

    fn spawn(&mut self, launch: &Launch) {
        let worker = launch.worker;
        let event = match self.try_spawn(launch) {
            Ok(process) => Event::Spawned { worker, process },
            Err(reason) => {
                let program = self.config.command.program.to_string_lossy().as_ref().into();
                Event::SpawnFailed { worker, error: SpawnError { program, reason: reason.into() } }
            }
        };
        self.events.send(event);
    }

    fn try_spawn(&mut self, launch: &Launch) -> Result<Process, String> {
        let image = self.config.command.image(launch, &self.inherited);
        let image = image.map_err(|error| error.to_string())?;
        let output = self.config.output.open(launch.worker).map_err(|error| error.to_string())?;
        self.engine.spawn(launch.worker, &image, output.stdout.as_fd(), output.stderr.as_fd())
    }

    fn adopt(&mut self, worker: WorkerId, process: Option<Process>) {
        const AGAIN: Duration = Duration::from_secs(1);
        match self.engine.adopt(worker, process) {
            Ok(Adoption::Alive(process)) => self.events.send(Event::Adopted { worker, process }),
            Ok(Adoption::NeverRan) => self.events.send(Event::NeverRan(worker)),
            // `Exited` follows, when nothing of it is left.
            Ok(Adoption::Ending) => {}
            Err(error) => {
                tracing::error!(%worker, %error, "cannot tell whether a worker lives; retrying");
                self.unadopted.push((worker, process));
                self.adopt_again_at = Some(Instant::now() + AGAIN);
            }
        }
    }

    fn adopt_again(&mut self) {
        if self.adopt_again_at.is_some_and(|at| at <= Instant::now()) {
            self.adopt_again_at = None;
            for (worker, process) in std::mem::take(&mut self.unadopted) {
                self.adopt(worker, process);
            }
        }
    }
}
