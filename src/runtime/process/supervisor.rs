//! The thread that supervises workers from within this process: it takes orders, has the engine
//! carry them out, and tells the driver what came of them.

use std::{
    collections::BTreeMap,
    io, mem,
    os::fd::AsFd as _,
    sync::{
        Arc,
        mpsc::{self, TryRecvError},
    },
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::eventfd::EventFd,
};

use super::{
    engine::{Adoption, Engine, Notice, Reaper},
    in_process::ProcessesConfig,
    pidfd::Pidfd,
    recipe::{Inherited, Recipe},
    stand_in::{self, Doomed},
};
use crate::{
    ids::WorkerId,
    machine::{Event, Launch, Process, Signal, SpawnError},
    runtime::{ports::Events, time_slice},
};

/// What the thread is told to do.
#[derive(Debug)]
pub(super) enum Order {
    /// Answered by `Spawned` or `SpawnFailed`, later `Exited`.
    Spawn(Launch),
    /// Answered by `Adopted` and later `Exited`, or by one of `Exited` and `NeverRan`.
    Adopt(WorkerId, Option<Process>),
    /// Watch a worker that the driver knows to be alive: answered only by `Exited`.
    TakeOver {
        worker: WorkerId,
        process: Process,
        /// A handle made while it lived: it may tell the status even now that it does not.
        pidfd: Option<Pidfd>,
        /// What it has been told already: who was told may not have done it.
        signal: Option<Signal>,
    },
    /// Somebody was about to spawn this worker when they died. Answered as `Spawn`.
    FinishSpawn(UnclearSpawn),
    /// Signal everything of a worker.
    Signal(WorkerId, Signal),
    /// Kill what somebody else is to kill. Answered by nothing.
    StandIn(Vec<Doomed>),
    /// Remove a worker's output.
    Discard(WorkerId),
}

/// A spawn of which nobody can say whether it succeeded.
#[derive(Debug)]
pub(super) struct UnclearSpawn {
    pub(super) worker: WorkerId,
    /// What it has been told already.
    pub(super) signal: Option<Signal>,
    /// What to say if it did not.
    pub(super) error: SpawnError,
    /// How often it is looked for: a program that is just being loaded shows no environment.
    pub(super) looks: u32,
}

/// What runs on the thread.
pub(super) struct Supervisor {
    engine: Engine,
    config: ProcessesConfig,
    recipe: Recipe,
    events: Events,
    orders: mpsc::Receiver<Order>,
    wake: Arc<EventFd>,
    /// Orders that could not be carried out yet, and when they are tried again.
    postponed: Vec<Order>,
    try_again_at: Option<Instant>,
    /// Unclear spawns whose first process is gone: what to say once the rest is, too.
    failed: BTreeMap<WorkerId, SpawnError>,
}

impl Supervisor {
    pub(super) fn new(
        config: ProcessesConfig,
        events: Events,
        orders: mpsc::Receiver<Order>,
        wake: Arc<EventFd>,
    ) -> io::Result<Self> {
        Ok(Self {
            engine: Engine::new(Reaper::Another)?,
            recipe: Recipe::new(&config.command, &Inherited::capture()),
            config,
            events,
            orders,
            wake,
            postponed: Vec::new(),
            try_again_at: None,
            failed: BTreeMap::new(),
        })
    }

    /// Returns when the other end of the orders is gone.
    pub(super) fn run(mut self) {
        // Where that cannot be had, it is only less prompt.
        let _ = time_slice::shorten();
        while self.take_orders() {
            self.try_again();
            for notice in self.engine.turn() {
                self.tell(notice);
            }
            self.wait();
        }
    }

    fn tell(&mut self, notice: Notice) {
        self.events.send(match notice {
            Notice::Ended { worker, exit } => match self.failed.remove(&worker) {
                Some(error) => Event::SpawnFailed { worker, error },
                None => Event::Exited { worker, exit },
            },
            Notice::SignalFailed { worker, error } => {
                Event::SignalFailed { worker, error: error.into() }
            }
        });
    }

    fn wait(&self) {
        let deadline = self.engine.next_deadline().into_iter().chain(self.try_again_at).min();
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
            Order::TakeOver { worker, process, pidfd, signal } => {
                self.take_over(worker, process, pidfd, signal);
            }
            Order::FinishSpawn(spawn) => self.finish_spawn(spawn),
            Order::Signal(worker, signal) => self.engine.signal(worker, signal),
            Order::StandIn(doomed) => {
                if let Err(error) = stand_in::kill(&doomed) {
                    tracing::error!(%error, "workers that are to be killed live on");
                }
            }
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
                Event::SpawnFailed { worker, error: self.config.command.spawn_error(&reason) }
            }
        };
        self.events.send(event);
    }

    fn try_spawn(&mut self, launch: &Launch) -> Result<Process, String> {
        let image = self.recipe.image(launch).map_err(|error| error.to_string())?;
        let output = self.config.output.open(launch.worker).map_err(|error| error.to_string())?;
        self.engine.spawn(launch.worker, &image, output.stdout.as_fd(), output.stderr.as_fd())
    }

    fn adopt(&mut self, worker: WorkerId, process: Option<Process>) {
        match self.engine.adopt(worker, process) {
            Ok(Adoption::Alive(process)) => self.events.send(Event::Adopted { worker, process }),
            Ok(Adoption::NeverRan) => self.events.send(Event::NeverRan(worker)),
            // `Exited` follows, when nothing of it is left.
            Ok(Adoption::Ending) => {}
            Err(error) => self.postpone(worker, &error, Order::Adopt(worker, process)),
        }
    }

    fn take_over(
        &mut self,
        worker: WorkerId,
        process: Process,
        pidfd: Option<Pidfd>,
        signal: Option<Signal>,
    ) {
        let watched = match pidfd {
            Some(pidfd) => self.engine.take_over(worker, process, pidfd),
            None => self.engine.adopt(worker, Some(process)).map(drop).map_err(|e| (None, e)),
        };
        match watched {
            Ok(()) => signal.into_iter().for_each(|signal| self.engine.signal(worker, signal)),
            Err((pidfd, error)) => {
                let order = Order::TakeOver { worker, process, pidfd, signal };
                self.postpone(worker, &error, order);
            }
        }
    }

    fn finish_spawn(&mut self, mut spawn: UnclearSpawn) {
        let worker = spawn.worker;
        match self.engine.adopt(worker, None) {
            Ok(Adoption::Alive(process)) => {
                self.events.send(Event::Spawned { worker, process });
                spawn.signal.into_iter().for_each(|signal| self.engine.signal(worker, signal));
            }
            Ok(Adoption::Ending) => drop(self.failed.insert(worker, spawn.error)),
            Ok(Adoption::NeverRan) if spawn.looks > 1 => {
                const LOOK_AGAIN: Duration = Duration::from_millis(50);
                spawn.looks -= 1;
                self.try_later(LOOK_AGAIN, Order::FinishSpawn(spawn));
            }
            Ok(Adoption::NeverRan) => {
                self.events.send(Event::SpawnFailed { worker, error: spawn.error });
            }
            Err(error) => self.postpone(worker, &error, Order::FinishSpawn(spawn)),
        }
    }

    /// For want of descriptors or memory. The worker may be alive.
    fn postpone(&mut self, worker: WorkerId, error: &io::Error, order: Order) {
        const AGAIN: Duration = Duration::from_secs(1);
        tracing::error!(%worker, %error, "cannot tell whether a worker lives; trying again");
        self.try_later(AGAIN, order);
    }

    fn try_later(&mut self, wait: Duration, order: Order) {
        self.postponed.push(order);
        let at = Instant::now() + wait;
        self.try_again_at = Some(self.try_again_at.map_or(at, |other| other.min(at)));
    }

    fn try_again(&mut self) {
        if self.try_again_at.is_some_and(|at| at <= Instant::now()) {
            self.try_again_at = None;
            mem::take(&mut self.postponed).into_iter().for_each(|order| self.execute(order));
        }
    }
}
