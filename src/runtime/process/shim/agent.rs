//! The port that a production agent uses: workers are the shim's children. What it decides is
//! [`Client`]; here that is carried out.
//!
//! ```text
//!  driver ─▶ ShimProcesses ─▶ Client ─▶ channel ─▶ shim
//!                              ▲   └──▶ LocalSupervisor (thread): tracks, takes over
//!      task: readable, time ───┘   └──▶ errands (thread): connect, lock, kill, launch
//! ```
//!
//! Every input is handled, and what comes of it carried out, under one lock: so what a later input
//! asks for cannot overtake it.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::{
    io::{
        Interest,
        unix::{AsyncFd, AsyncFdReadyGuard},
    },
    sync::{Notify, oneshot},
    task::AbortHandle,
};

use super::{
    super::{
        discard::Discard, errands::Errands, in_process::ProcessesConfig, local::LocalSupervisor,
    },
    channel::{Channel, Incoming},
    holders,
    launch::launch,
    socket::Connection,
};
use crate::{
    ids::WorkerId,
    machine::{Launch, Mono, Process, Signal},
    runtime::{
        clock::SystemClock,
        essential::Essential,
        ports::{Clock as _, Events, Processes},
    },
    shim::{
        Client, ClientAction, ClientInput, ClientOutput, ClientSettings, Known, LinkId, LogLevel,
        ShimError, protocol,
    },
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
    /// The cgroup below which each worker has its own, if they have.
    pub groups: Option<PathBuf>,
    /// How long one may take to start, and to answer; 10 s. One that takes longer to answer is
    /// replaced by another.
    pub timeout: Duration,
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
            groups: None,
            timeout: Duration::from_secs(10),
        }
    }
}

/// Supervises workers through the shim. When it is dropped, shim and workers live on.
#[derive(Debug)]
pub struct ShimProcesses {
    shared: Arc<Shared>,
    task: AbortHandle,
    discard: Discard,
}

#[derive(Debug)]
struct Shared {
    config: ShimConfig,
    events: Events,
    state: Mutex<State>,
    /// The link, its backpressure or the next timeout has changed.
    changed: Notify,
}

#[derive(Debug)]
struct State {
    client: Client,
    link: Option<Link>,
    last_link: u64,
    errands: Errands,
    /// `None` while it is being started, and once this is being dropped.
    local: Option<LocalSupervisor>,
    /// Told how the first connection came out.
    begun: Option<oneshot::Sender<Result<Vec<Known>, ShimError>>>,
}

#[derive(Debug)]
struct Link {
    id: LinkId,
    channel: Channel,
}

impl ShimProcesses {
    /// Connects to the shim, starts one if there is none, and asks it which workers it knows.
    /// Workers inherit the environment and working directory that this process has now.
    ///
    /// To be called within a tokio runtime.
    ///
    /// # Errors
    /// There is no shim that can be worked with: why.
    pub async fn start(
        config: ProcessesConfig,
        shim: ShimConfig,
        events: Events,
        essential: &Essential,
    ) -> Result<(Self, Vec<Known>), ShimError> {
        let shim = ShimConfig { groups: config.groups.clone(), ..shim };
        let settings = ClientSettings { template: config.template(), timeout: shim.timeout };
        let mut out = ClientOutput::new();
        let client = Client::new(settings, SystemClock.now().mono, &mut out);
        let (begun, first) = oneshot::channel();
        let state = State {
            client,
            link: None,
            last_link: 0,
            errands: Errands::default(),
            local: None,
            begun: Some(begun),
        };
        let shared = Arc::new(Shared {
            config: shim,
            events,
            state: Mutex::new(state),
            changed: Notify::new(),
        });
        let weak = Arc::downgrade(&shared);
        let local = LocalSupervisor::start(config.groups.clone(), essential, move |notice| {
            tell(&weak, ClientInput::Local(notice));
        });
        let local = local.map_err(|error| ShimError::Start(format!("no thread: {error}")))?;
        {
            let mut state = shared.lock();
            state.local = Some(local);
            shared.carry_out(&mut state, out);
        }
        let task = essential.task("shim", run(Arc::clone(&shared))).abort_handle();
        let this = Self { shared, task, discard: Discard::new(config.output) };
        // Only dropped after it was used.
        let first = first.await.unwrap_or_else(|_| Err(ShimError::Start("it was dropped".into())));
        first.map(|known| (this, known))
    }
}

impl Drop for ShimProcesses {
    fn drop(&mut self) {
        self.task.abort();
        let (local, link) = {
            let mut state = self.shared.lock();
            (state.local.take(), state.link.take())
        };
        // Not under the lock: the thread may be waiting for it.
        drop((local, link));
    }
}

impl Processes for ShimProcesses {
    fn spawn(&mut self, launch: Launch) {
        self.shared.handle(ClientInput::Start(launch));
    }

    fn adopt(&mut self, worker: WorkerId, process: Option<Process>) {
        self.shared.handle(ClientInput::Adopt(worker, process));
    }

    fn signal(&mut self, worker: WorkerId, signal: Signal) {
        self.shared.handle(ClientInput::Signal(worker, signal));
    }

    fn release(&mut self, worker: WorkerId) {
        self.shared.handle(ClientInput::Release(worker));
    }

    fn discard(&mut self, worker: WorkerId) {
        self.discard.discard(worker);
    }
}

/// Hands an input in, unless the port is gone.
fn tell(shared: &Weak<Shared>, input: ClientInput) {
    if let Some(shared) = shared.upgrade() {
        shared.handle(input);
    }
}

/// The task: receives from the shim, and knows the time.
async fn run(shared: Arc<Shared>) {
    let mut ready = None;
    loop {
        let wait = shared.prepare(&mut ready);
        tokio::select! {
            mut guard = readable(ready.as_ref()) => {
                shared.receive();
                // Not if more has come since.
                guard.clear_ready();
            }
            () = writable(ready.as_ref()), if wait.backpressured => shared.flush(),
            () = sleep_until(wait.timeout) => shared.handle(ClientInput::Timeout),
            () = shared.changed.notified() => {}
        }
    }
}

/// What the task waits for, apart from messages.
struct Wait {
    backpressured: bool,
    timeout: Option<Mono>,
}

/// A link's descriptor, registered with tokio: duplicates, so that the channel can be shared.
struct Ready {
    link: LinkId,
    readable: AsyncFd<OwnedFd>,
}

async fn readable(ready: Option<&Ready>) -> AsyncFdReadyGuard<'_, OwnedFd> {
    if let Some(ready) = ready
        // Fails only while the runtime ends.
        && let Ok(guard) = ready.readable.readable().await
    {
        return guard;
    }
    std::future::pending().await
}

/// Waits until more can be sent. Registered only when it is needed: the other side's reading makes
/// room each time, and would wake this task for nothing.
async fn writable(ready: Option<&Ready>) {
    let registered = ready.and_then(|ready| {
        register(ready.readable.as_fd().try_clone_to_owned().ok()?, Interest::WRITABLE).ok()
    });
    match registered {
        Some(registered) => drop(registered.writable().await),
        None => std::future::pending().await,
    }
}

async fn sleep_until(at: Option<Mono>) {
    match at {
        Some(at) => SystemClock.sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn register(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd is open for as long as it lives, and never another descriptor.
    unsafe { AsyncFd::register_with_interest(fd, interest) }.map_err(io::Error::from)
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while holding it; if so, the state is still the best there is.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handle(self: &Arc<Self>, input: ClientInput) {
        self.handle_with(&mut self.lock(), input);
    }

    fn handle_with(self: &Arc<Self>, state: &mut State, input: ClientInput) {
        let before = (state.client.next_timeout(), state.is_backpressured());
        let mut out = ClientOutput::new();
        state.client.handle(SystemClock.now().mono, input, &mut out);
        self.carry_out(state, out);
        if before != (state.client.next_timeout(), state.is_backpressured()) {
            self.changed.notify_one();
        }
    }

    fn carry_out(self: &Arc<Self>, state: &mut State, actions: ClientOutput) {
        for action in actions {
            match action {
                ClientAction::Connect => self.connect(state),
                ClientAction::Disconnect(id) => {
                    state.link.take_if(|link| link.id == id);
                    self.changed.notify_one();
                }
                ClientAction::Send(id, request) => {
                    if let Some(link) = state.link.as_mut().filter(|link| link.id == id) {
                        link.channel.send(&request);
                    }
                }
                ClientAction::CheckLock => self.run_errand(state, |config| {
                    let locked = holders::is_locked(&config.state_dir);
                    ClientInput::LockChecked(locked.map_err(|error| error.to_string()))
                }),
                ClientAction::KillHolders => self.run_errand(state, |config| {
                    let killed = holders::kill(&config.state_dir);
                    ClientInput::HoldersKilled(killed.map_err(|error| error.to_string()))
                }),
                ClientAction::Launch => {
                    self.run_errand(state, |config| ClientInput::Launched(launch(config)));
                }
                ClientAction::Local(request) => {
                    if let Some(local) = &state.local {
                        local.ask(request);
                    }
                }
                ClientAction::Tell(event) => self.events.send(event),
                ClientAction::Ready(known) => state.begin(Ok(known)),
                ClientAction::Fail(error) => state.begin(Err(error)),
                ClientAction::Log(level, text) => match level {
                    LogLevel::Info => tracing::info!("{text}"),
                    LogLevel::Warn => tracing::warn!("{text}"),
                    LogLevel::Error => tracing::error!("{text}"),
                },
            }
        }
    }

    /// The socket is a file, and its disk may hang.
    fn connect(self: &Arc<Self>, state: &mut State) {
        let shared = Arc::downgrade(self);
        let state_dir = self.config.state_dir.clone();
        let connect = move || {
            let connected = Connection::open(&state_dir);
            let Some(shared) = shared.upgrade() else { return };
            let mut state = shared.lock();
            let input = match connected {
                Ok(connection) => {
                    state.last_link += 1;
                    let id = LinkId(state.last_link);
                    state.link = Some(Link { id, channel: Channel::new(connection) });
                    ClientInput::Connected(id)
                }
                Err(error) => {
                    let socket = state_dir.join(super::socket::NAME);
                    ClientInput::ConnectFailed(format!("{}: {error}", socket.display()))
                }
            };
            shared.handle_with(&mut state, input);
            shared.changed.notify_one();
        };
        if let Err(error) = state.errands.run(connect) {
            self.later(ClientInput::ConnectFailed(error.to_string()));
        }
    }

    fn run_errand(
        self: &Arc<Self>,
        state: &mut State,
        errand: impl FnOnce(&ShimConfig) -> ClientInput + Send + 'static,
    ) {
        let shared = Arc::downgrade(self);
        let config = self.config.clone();
        if let Err(error) = state.errands.run(move || tell(&shared, errand(&config))) {
            tracing::error!(%error, "no thread to look for the shim");
        }
    }

    /// Hands an input in that came up while another is handled.
    fn later(self: &Arc<Self>, input: ClientInput) {
        let shared = Arc::downgrade(self);
        tokio::spawn(async move { tell(&shared, input) });
    }

    /// Registers the present link with tokio, if that has changed.
    fn prepare(self: &Arc<Self>, ready: &mut Option<Ready>) -> Wait {
        let mut state = self.lock();
        let current = state.link.as_ref().map(|link| link.id);
        if ready.as_ref().map(|ready| ready.link) != current {
            *ready = None;
        }
        if let (None, Some(link)) = (ready.as_ref(), &state.link) {
            let duplicate = link.channel.connection().as_fd().try_clone_to_owned();
            match duplicate.and_then(|fd| register(fd, Interest::READABLE)) {
                Ok(readable) => *ready = Some(Ready { link: link.id, readable }),
                Err(error) => {
                    let lost = ClientInput::Disconnected(link.id, error.to_string());
                    self.handle_with(&mut state, lost);
                }
            }
        }
        let backpressured = state.is_backpressured();
        Wait { backpressured, timeout: state.client.next_timeout() }
    }

    /// Receives all that the shim has sent.
    fn receive(self: &Arc<Self>) {
        loop {
            let mut state = self.lock();
            let Some(Link { id, channel }) = &mut state.link else { return };
            let id = *id;
            let input = match channel.receive(protocol::decode_response) {
                Incoming::Message(message) => ClientInput::Received(id, message),
                Incoming::End(reason) => ClientInput::Disconnected(id, reason),
                Incoming::Nothing => return,
            };
            self.handle_with(&mut state, input);
        }
    }

    fn flush(&self) {
        if let Some(link) = &mut self.lock().link {
            link.channel.flush();
        }
    }
}

impl State {
    fn is_backpressured(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.channel.is_backpressured())
    }

    fn begin(&mut self, first: Result<Vec<Known>, ShimError>) {
        if let Some(begun) = self.begun.take() {
            // The other end waits, unless the agent is being ended.
            let _ = begun.send(first);
        }
    }
}
