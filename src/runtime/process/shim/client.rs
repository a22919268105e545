//! The port that a production agent uses: workers are the shim's children.
//!
//! ```text
//!  driver ─▶ ShimProcesses ─▶ books ─▶ link ─▶ shim
//!                               ▲        │ answers
//!  driver ◀── events ── task: converse ◀─┘
//!                          │ the shim dies: recover
//!                          ▼
//!                    thread of this process (watches the dead shim's workers by their pidfds),
//!                    and a new shim for those to come
//! ```

use std::{
    os::fd::OwnedFd,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    io::unix::AsyncFd,
    sync::Notify,
    task::AbortHandle,
    time::{Instant, sleep, sleep_until},
};

use super::{
    super::{
        in_process::{InProcess, ProcessesConfig},
        pidfd::Pidfd,
        recipe::{Inherited, Recipe},
        supervisor::{self, UnclearSpawn},
    },
    books::{Adopted, Books, Estate, Lost, Order, Route},
    label,
    launcher::{self, Greeted, ShimError},
    link::{Incoming, Link},
    payload,
    protocol::{self, Answer, Ask, KnownWorker, Request, Tell},
    silence::{Silence, Step},
};
use crate::{
    ids::WorkerId,
    machine::{Backoff, Event, Exit, Launch, Process, Signal, Worker},
    runtime::ports::{Events, Processes},
};

/// Where the shim is, and how one is started.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ShimConfig {
    /// The directory of its socket, lock and log; it must exist. One agent at a time may use it.
    pub state_dir: PathBuf,
    /// The program that serves as a shim, with `args` and `--state-dir DIR`.
    pub program: PathBuf,
    /// Its arguments before `--state-dir`.
    pub args: Vec<String>,
    /// How long one may take to start, and to answer; 10 s. One that takes longer to answer who connects is
    /// replaced by another; whoever is connected connects anew then.
    pub patience: Duration,
}

impl ShimConfig {
    /// This very program, also when its file has been replaced or removed since it was started:
    /// the link leads to the file that is being run, not to its path. So a shim is always of the
    /// version of the agent that starts it, never of one that has only just been installed.
    pub const THIS_PROGRAM: &'static str = "/proc/self/exe";

    /// This program with the argument `shim`.
    pub fn new(state_dir: impl Into<PathBuf>) -> Self {
        Self {
            state_dir: state_dir.into(),
            program: Self::THIS_PROGRAM.into(),
            args: vec!["shim".to_owned()],
            patience: Duration::from_secs(10),
        }
    }
}

/// A worker that the shim knew when it was connected to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Known {
    /// Its id.
    pub worker: WorkerId,
    /// Its first process.
    pub process: Process,
    /// How that ended, once nothing of the worker is alive.
    pub exit: Option<Exit>,
    /// What the agent that started it wrote about it.
    pub label: Vec<u8>,
}

impl Known {
    /// The worker as it was when it had been started, by its label: for a journal that was lost.
    /// `None`: the label is none that this program can read.
    pub fn worker(&self) -> Option<Worker> {
        label::read(&self.label, Some(self.process)).filter(|worker| worker.id == self.worker)
    }
}

impl From<KnownWorker> for Known {
    fn from(known: KnownWorker) -> Self {
        Self {
            worker: WorkerId(known.worker),
            process: Process { pid: known.pid, start_time: known.start_time },
            exit: known.exit.map(Into::into),
            label: known.label,
        }
    }
}

/// Supervises workers through the shim. When it is dropped, shim and workers live on.
#[derive(Debug)]
pub struct ShimProcesses {
    shared: Arc<Shared>,
    task: AbortHandle,
}

#[derive(Debug)]
struct Shared {
    config: ProcessesConfig,
    shim: ShimConfig,
    recipe: Recipe,
    events: Events,
    state: Mutex<State>,
    /// The link has become clogged, or the shim is to kill somebody.
    changed: Notify,
    /// Watches workers that no shim looks after.
    watcher: InProcess,
}

#[derive(Debug)]
struct State {
    books: Books,
    /// `None` while there is no shim.
    link: Option<Link>,
    /// `None`: the shim has nobody to kill.
    silence: Option<Silence>,
}

impl ShimProcesses {
    /// Connects to the shim, starts one if there is none, and asks it which workers it knows.
    /// Workers inherit the environment and working directory that this process has now.
    ///
    /// To be called within a tokio runtime.
    pub async fn start(
        config: ProcessesConfig,
        shim: ShimConfig,
        events: Events,
    ) -> Result<(Self, Vec<Known>), ShimError> {
        let watcher =
            InProcess::start(config.clone(), events.clone()).map_err(ShimError::Watcher)?;
        let Greeted { link, ready, known } = launcher::find_or_start(&shim).await?;
        let known: Vec<Known> = known.into_iter().map(Known::from).collect();
        let mut books = Books::default();
        books.compare(&known);
        let shared = Arc::new(Shared {
            recipe: Recipe::new(&config.command, &Inherited::capture()),
            config,
            shim,
            events,
            state: Mutex::new(State { books, link: Some(link), silence: None }),
            changed: Notify::new(),
            watcher,
        });
        let task = tokio::spawn(run(Arc::clone(&shared), ready)).abort_handle();
        Ok((Self { shared, task }, known))
    }
}

impl Drop for ShimProcesses {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Processes for ShimProcesses {
    fn spawn(&mut self, launch: Launch) {
        self.shared.lock().books.spawn(launch);
        self.shared.say_what_is_queued();
    }

    fn adopt(&mut self, worker: WorkerId, process: Option<Process>) {
        // Locked until it is told: the task might tell of the worker's end before.
        let mut state = self.shared.lock();
        let events = &self.shared.events;
        match state.books.adopt(worker) {
            Adopted::Alive(process) => events.send(Event::Adopted { worker, process }),
            Adopted::Ended(exit) => events.send(Event::Exited { worker, exit }),
            Adopted::TakeOver(lost) => {
                events.send(Event::Adopted { worker, process: lost.process });
                self.shared.take_over(lost);
            }
            Adopted::Unknown => {
                self.shared.watcher.order(supervisor::Order::Adopt(worker, process));
            }
        }
    }

    fn signal(&mut self, worker: WorkerId, signal: Signal) {
        let route = self.shared.lock().books.signal(worker, signal);
        match route {
            Route::Shim => {
                self.shared.say_what_is_queued();
                self.shared.watch_for_silence();
            }
            Route::Watcher => {
                self.shared.watcher.order(supervisor::Order::Signal(worker, signal));
            }
            Route::Nobody => {}
        }
    }

    fn release(&mut self, worker: WorkerId) {
        self.shared.lock().books.release(worker);
        self.shared.say_what_is_queued();
    }

    fn discard(&mut self, worker: WorkerId) {
        self.shared.watcher.order(supervisor::Order::Discard(worker));
    }
}

/// The task: talks to the shim, and when that dies, to the next one.
async fn run(shared: Arc<Shared>, mut ready: AsyncFd<OwnedFd>) {
    loop {
        let reason = shared.converse(&ready).await;
        tracing::error!(reason, "lost the shim; its workers live on");
        ready = shared.recover().await;
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nobody panics while holding it; if so, the books are still the best there is.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hears the shim until it is gone; returns why.
    async fn converse(&self, ready: &AsyncFd<OwnedFd>) -> String {
        // What was queued while there was no shim.
        self.say_what_is_queued();
        loop {
            let (clogged, suspicious_at) = {
                let state = self.lock();
                let clogged = state.link.as_ref().is_some_and(Link::is_clogged);
                (clogged, state.silence.as_ref().map(Silence::next_at))
            };
            let done = tokio::select! {
                guard = ready.readable() => guard.map(|mut guard| {
                    let end = self.hear();
                    guard.clear_ready();
                    end
                }),
                room = launcher::room(ready), if clogged => room.map(|()| self.flush()),
                () = self.changed.notified() => Ok(None),
                () = until(suspicious_at) => Ok(self.suspect()),
            };
            match done {
                Ok(None) => {}
                Ok(Some(reason)) => return reason,
                Err(error) => return error.to_string(),
            }
        }
    }

    /// Hears all that the shim has said. `Some`: it is gone, for this reason.
    fn hear(&self) -> Option<String> {
        loop {
            let mut state = self.lock();
            let incoming = state.link.as_mut()?.receive(protocol::decode_answer);
            match incoming {
                Ok(Incoming::Message(Answer { tell: Some(tell) }, descriptors)) => {
                    self.take_answer(&mut state, tell, descriptors);
                    let before = state.silence.take();
                    let awaits = state.books.awaits_an_end();
                    state.silence = awaits.then(|| Silence::broken(before));
                    drop(state);
                    // An answer makes room for another question.
                    self.say_what_is_queued();
                }
                // A kind of message that a later version has; this one asked for nothing like it.
                Ok(Incoming::Message(Answer { tell: None }, _)) => {}
                Ok(Incoming::Nothing) => return None,
                Ok(Incoming::End) => return Some("it closed the connection".to_owned()),
                Err(error) => return Some(error.to_string()),
            }
        }
    }

    fn flush(&self) -> Option<String> {
        let mut state = self.lock();
        state.link.as_mut()?.flush().err().map(|error| error.to_string())
    }

    fn take_answer(&self, state: &mut State, tell: Tell, mut descriptors: Vec<OwnedFd>) {
        let books = &mut state.books;
        match tell {
            Tell::Spawned(protocol::Spawned { worker, pid, start_time }) => {
                let (worker, process) = (WorkerId(worker), Process { pid, start_time });
                if books.is_asked(worker) {
                    // The driver first: it has a caller who waits.
                    self.events.send(Event::Spawned { worker, process });
                    books.spawned(worker, process, descriptors.pop().map(Pidfd::from_owned));
                }
            }
            Tell::SpawnFailed(failed) => {
                let worker = WorkerId(failed.worker);
                if books.spawn_failed(worker) {
                    self.fail_spawn(worker, &failed.reason);
                }
            }
            Tell::Exited(protocol::Exited { worker, exit }) => {
                let (worker, exit) = (WorkerId(worker), exit.map_or(Exit::Unknown, Into::into));
                if books.exited(worker, exit) {
                    self.events.send(Event::Exited { worker, exit });
                }
            }
            Tell::SignalFailed(failed) => self.events.send(Event::SignalFailed {
                worker: WorkerId(failed.worker),
                error: failed.reason.into(),
            }),
            Tell::Unsupported(protocol::Unsupported { reason })
            | Tell::Refused(protocol::Refused { reason }) => {
                tracing::error!(reason, "the shim did not understand this agent");
            }
            Tell::Welcome(_) | Tell::Known(_) | Tell::ListEnd(_) => {}
        }
    }

    /// Says to the shim, if there is one, what is in the queue.
    fn say_what_is_queued(&self) {
        let mut state = self.lock();
        let State { books, link: Some(link), .. } = &mut *state else { return };
        let version = link.version.unwrap_or(protocol::LOWEST_VERSION);
        while let Some(order) = books.next_order() {
            let (ask, descriptors) = match order {
                Order::Spawn(launch) => match self.prepare(&launch, version) {
                    Ok((spawn, descriptors)) => (Ask::Spawn(spawn), descriptors),
                    Err(reason) => {
                        books.spawn_failed(launch.worker);
                        self.fail_spawn(launch.worker, &reason);
                        continue;
                    }
                },
                Order::Signal(worker, signal) => {
                    let kill = signal == Signal::Kill;
                    (Ask::Signal(protocol::SignalWorker { worker: worker.0, kill }), Vec::new())
                }
                Order::Release(worker) => {
                    (Ask::Release(protocol::Release { worker: worker.0 }), Vec::new())
                }
            };
            link.send(Request::from(ask), descriptors);
        }
        if link.is_clogged() {
            self.changed.notify_one();
        }
    }

    /// From now on, if the shim is to kill somebody.
    fn watch_for_silence(&self) {
        let mut state = self.lock();
        if state.silence.is_none() && state.books.awaits_an_end() {
            state.silence = Some(Silence::new());
            self.changed.notify_one();
        }
    }

    /// The shim owes an end and is silent. What it is to kill is killed for it in time, and it may yet tell of
    /// the ends. `Some`: it is given up.
    fn suspect(&self) -> Option<String> {
        let mut state = self.lock();
        let State { books, link, silence } = &mut *state;
        match silence.as_mut()?.step(self.shim.patience) {
            Step::Ask => link.as_mut()?.send(launcher::hello(), Vec::new()),
            Step::StandIn { first } => {
                let doomed = books.doomed();
                if first {
                    let workers = doomed.len();
                    tracing::error!(workers, "the shim hangs; whom it is to kill is killed for it");
                }
                if !doomed.is_empty() {
                    self.watcher.order(supervisor::Order::StandIn(doomed));
                }
            }
            Step::GiveUp => {
                return Some(format!("it has said nothing for {:?}", self.shim.patience));
            }
        }
        None
    }

    /// What to say for a spawn, and the descriptors that go with it.
    fn prepare(
        &self,
        launch: &Launch,
        version: u32,
    ) -> Result<(protocol::Spawn, Vec<OwnedFd>), String> {
        let image = self.recipe.image(launch).map_err(|error| error.to_string())?;
        let packed = payload::pack(&image, label::write(launch), version);
        let packed = packed.map_err(|error| error.to_string())?;
        let output = self.config.output.open(launch.worker).map_err(|error| error.to_string())?;
        let spawn = protocol::Spawn { worker: launch.worker.0, payload: packed.inline };
        let output = [output.stdout.into(), output.stderr.into()];
        Ok((spawn, packed.descriptor.into_iter().chain(output).collect()))
    }

    fn fail_spawn(&self, worker: WorkerId, reason: &str) {
        let error = self.config.command.spawn_error(reason);
        self.events.send(Event::SpawnFailed { worker, error });
    }

    /// Finds out what the lost connection means for the workers, and gets another shim.
    async fn recover(&self) -> AsyncFd<OwnedFd> {
        {
            let mut state = self.lock();
            (state.link, state.silence) = (None, None);
        }
        // It may be alive: then it knows its workers best. Or it hangs: then it must not wake up and do what it
        // was asked after others have been told that it will not.
        loop {
            match launcher::find_unless_hung(&self.shim).await {
                Ok(Some(greeted)) => return self.resume(greeted),
                Ok(None) => break,
                Err(error) => {
                    tracing::error!(%error, "nobody looks after its workers; trying again")
                }
            }
        }
        self.compare_books(&[]);
        let backoff = Backoff { first: Duration::from_millis(100), most: Duration::from_secs(5) };
        let mut failures = 0;
        loop {
            match launcher::find_or_start(&self.shim).await {
                Ok(greeted) => {
                    tracing::info!("connected to a new shim");
                    return self.resume(greeted);
                }
                Err(error) => {
                    failures += 1;
                    let wait = backoff.bound(failures);
                    tracing::error!(%error, ?wait, "no new shim; trying again");
                    let given_up = self.lock().books.give_up_spawns();
                    for worker in given_up {
                        self.fail_spawn(worker, &error.to_string());
                    }
                    sleep(wait).await;
                }
            }
        }
    }

    fn resume(&self, Greeted { link, ready, known }: Greeted) -> AsyncFd<OwnedFd> {
        let known: Vec<Known> = known.into_iter().map(Known::from).collect();
        self.compare_books(&known);
        self.lock().link = Some(link);
        self.watch_for_silence();
        ready
    }

    fn compare_books(&self, known: &[Known]) {
        let (events, Estate { lost, unclear }) = self.lock().books.compare(known);
        events.into_iter().for_each(|event| self.events.send(event));
        lost.into_iter().for_each(|lost| self.take_over(lost));
        for (worker, signal) in unclear {
            const LOOKS: u32 = 4;
            let error = self.config.command.spawn_error("the shim died while it was to run it");
            let spawn = UnclearSpawn { worker, signal, error, looks: LOOKS };
            self.watcher.order(supervisor::Order::FinishSpawn(spawn));
        }
    }

    fn take_over(&self, Lost { worker, process, pidfd, signal }: Lost) {
        self.watcher.order(supervisor::Order::TakeOver { worker, process, pidfd, signal });
    }
}

/// Never, if there is no such time.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
