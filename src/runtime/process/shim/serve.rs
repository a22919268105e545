//! The shim's loop: one thread, four things to wait for. What it decides is [`Server`].
//!
//! ```text
//!  poll:  listener ─▶ Connected       kernel  ─▶ Event
//!         channel  ─▶ Received        SIGCHLD ─▶ Event(ChildEnded)
//! ```

use std::{
    fs::{self, File},
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
    process,
    sync::{Arc, mpsc},
    time::Duration,
};

use nix::{
    poll::{PollFd, PollFlags, poll},
    sys::{
        eventfd::{EfdFlags, EventFd},
        signalfd::SignalFd,
    },
};

use super::{
    super::{
        descriptors::raise_descriptor_limit, errands::Errands, fork::Dispositions, linux::Linux,
        local::timeout_until,
    },
    channel::{Channel, Incoming},
    daemon::{self, Lock},
    socket::{self, Listener},
};
use crate::{
    machine::Mono,
    runtime::{cgroup, clock::SystemClock, ports::Clock as _, time_slice},
    shim::{LinkId, Place, Server, ServerAction, ServerInput, ServerOutput, protocol},
    supervisor::{Config, Kernel as _, KernelEvent, Reaper},
};

/// How a shim is run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ShimOptions {
    /// Where its socket, lock and log are.
    pub state_dir: PathBuf,
    /// The cgroup below which each worker has its own, if they have.
    pub groups: Option<PathBuf>,
    /// How long it waits for its first agent. When the last one has gone and there is nothing to
    /// keep, it ends at once.
    pub linger: Duration,
}

impl ShimOptions {
    /// A shim of this directory that waits half a minute for its first agent.
    pub fn new(state_dir: impl Into<PathBuf>) -> Self {
        Self { state_dir: state_dir.into(), groups: None, linger: Duration::from_secs(30) }
    }
}

/// Is a shim until nothing needs one. Returns in another process than it was called in, unless it
/// fails at once; in the calling process it exits with 0, once the shim can be connected to or if
/// there is one already.
///
/// Call it from a process with one thread.
///
/// # Errors
/// The directory cannot be used, or the kernel refuses what a shim needs.
pub fn serve(options: &ShimOptions) -> io::Result<()> {
    let Some(mut lock) = daemon::lock(&options.state_dir)? else { return Ok(()) };
    let listener = Listener::bind(&options.state_dir)?;
    daemon::detach(&options.state_dir.join("shim.log"))?;
    daemon::sign(&mut lock);
    if let Some(groups) = &options.groups {
        enter_own_group(groups);
    }
    let children = daemon::settle()?;
    raise_descriptor_limit()?;
    // Where that cannot be had, it is only less prompt.
    let _ = time_slice::shorten();
    let config = Config { reaper: Reaper::This, groups: options.groups.is_some() };
    let server = Server::new(config, process::id(), options.linger, SystemClock.now().mono);
    let (found, errands_found) = mpsc::channel();
    let shim = Shim {
        state_dir: options.state_dir.clone(),
        lock: Arc::new(lock),
        server,
        kernel: Linux::new(Dispositions::Fixed, options.groups.clone())?,
        children,
        listener,
        spare: spare(),
        listen_again_at: None,
        agent: None,
        last_link: 0,
        errands: Errands::default(),
        found,
        errands_found,
        wake: Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?),
        ended: false,
    };
    shim.run()
}

/// Where cgroups are divided, the shim has one of its own: it must not stay in the agent's, which a
/// service manager may kill.
fn enter_own_group(groups: &Path) {
    let name = groups.file_name().and_then(|name| name.to_str());
    let Some(name) = name.and_then(|name| name.strip_prefix(cgroup::WORKERS_PREFIX)) else {
        return;
    };
    let host = cgroup::Host::default();
    if let Err(error) = cgroup::discover(&host, cgroup::Mode::Required, name, cgroup::Role::Shim) {
        eprintln!("stays in the cgroup that it was started in: {error}");
    }
}

/// How long a shim waits that the system lets take no connection, before it tries again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

struct Shim {
    state_dir: PathBuf,
    lock: Arc<Lock>,
    server: Server,
    kernel: Linux,
    children: SignalFd,
    listener: Listener,
    /// Given up for the next agent, should it come when there are no more descriptors.
    spare: Option<OwnedFd>,
    /// Not to accept before: it could not.
    listen_again_at: Option<Mono>,
    agent: Option<(LinkId, Channel)>,
    last_link: u64,
    /// What looks at the state directory, whose disk may hang.
    errands: Errands,
    found: mpsc::Sender<Found>,
    errands_found: mpsc::Receiver<Found>,
    wake: Arc<EventFd>,
    ended: bool,
}

/// What an errand has brought.
enum Found {
    Place(Place),
    Listener(Listener),
}

/// A descriptor to give up when another is needed; `None`: there is none to be had.
fn spare() -> Option<OwnedFd> {
    File::open("/dev/null").ok().map(OwnedFd::from)
}

impl Shim {
    fn run(mut self) -> io::Result<()> {
        while !self.ended {
            self.receive();
            self.accept();
            self.take_found();
            while matches!(self.children.read_signal(), Ok(Some(_))) {
                self.handle(ServerInput::Event(KernelEvent::ChildEnded));
            }
            for event in self.kernel.events() {
                self.handle(ServerInput::Event(event));
            }
            self.handle(ServerInput::Timeout);
            if !self.ended {
                self.wait()?;
            }
        }
        self.remove_socket()
    }

    fn handle(&mut self, input: ServerInput) {
        let now = SystemClock.now().mono;
        let mut out = ServerOutput::new();
        self.server.handle(now, input, &mut out);
        while let Some(action) = out.pop_front() {
            match action {
                ServerAction::Operation(operation) => {
                    if let Some(answer) = self.kernel.carry_out(operation) {
                        self.server.handle(now, ServerInput::Answer(answer), &mut out);
                    }
                }
                ServerAction::Send(link, response) => {
                    if let Some((current, channel)) = &mut self.agent
                        && *current == link
                    {
                        channel.send(&response);
                    }
                }
                ServerAction::Close(link) => {
                    self.agent.take_if(|(current, _)| *current == link);
                }
                ServerAction::CheckPlace => self.check_place(),
                ServerAction::Listen => self.listen(),
                ServerAction::Log(line) => self.log(line),
                ServerAction::End => self.ended = true,
            }
        }
    }

    /// Hears everything that the agent has sent.
    fn receive(&mut self) {
        while let Some((link, channel)) = &mut self.agent {
            let link = *link;
            let input = match channel.receive(protocol::decode_request) {
                Incoming::Message(message) => ServerInput::Received(link, message),
                Incoming::Nothing => {
                    channel.flush();
                    break;
                }
                Incoming::End(_) => {
                    self.agent = None;
                    ServerInput::Closed(link)
                }
            };
            self.handle(input);
        }
    }

    /// A new agent replaces the one before, whose last requests are received first: it may have
    /// died just after it asked for a worker, and the new one is about to ask what there is.
    ///
    /// Whatever keeps it from coming in passes, and is no reason to leave the workers.
    fn accept(&mut self) {
        let now = SystemClock.now().mono;
        if self.listen_again_at.is_some_and(|at| at > now) {
            return;
        }
        self.listen_again_at = None;
        loop {
            match self.listener.accept() {
                Ok(Some(connection)) => {
                    self.receive();
                    self.last_link += 1;
                    let link = LinkId(self.last_link);
                    self.handle(ServerInput::Connected(link));
                    self.agent = Some((link, Channel::new(connection)));
                    self.receive();
                }
                Ok(None) => break,
                Err(_) if self.spare.take().is_some() => {}
                Err(error) => {
                    self.log(format!("an agent cannot connect: {error}"));
                    self.listen_again_at = Some(now + ACCEPT_PAUSE);
                    return;
                }
            }
        }
        self.spare = self.spare.take().or_else(spare);
    }

    fn take_found(&mut self) {
        let _ = self.wake.read();
        while let Ok(found) = self.errands_found.try_recv() {
            match found {
                Found::Place(place) => self.handle(ServerInput::Place(place)),
                Found::Listener(listener) => self.listener = listener,
            }
        }
    }

    fn check_place(&mut self) {
        let (lock, state_dir) = (Arc::clone(&self.lock), self.state_dir.clone());
        self.find(move || {
            let lock = daemon::is_in_place(&lock, &state_dir);
            let socket = state_dir.join(socket::NAME).exists();
            Some(Found::Place(Place { lock, socket }))
        });
    }

    fn listen(&mut self) {
        let state_dir = self.state_dir.clone();
        self.find(move || Listener::bind(&state_dir).ok().map(Found::Listener));
    }

    /// Where no thread can be had, the next check tries again.
    fn find(&mut self, find: impl FnOnce() -> Option<Found> + Send + 'static) {
        let (found, wake) = (self.found.clone(), Arc::clone(&self.wake));
        let _ = self.errands.run(move || {
            if let Some(result) = find() {
                let _ = found.send(result);
                let _ = wake.write(1);
            }
        });
    }

    /// The log is a file, and its disk may hang.
    fn log(&mut self, line: String) {
        let _ = self.errands.run(move || eprintln!("{line}"));
    }

    /// If it is this shim's: not without the lock, since another shim may have taken the place.
    fn remove_socket(&self) -> io::Result<()> {
        if !daemon::is_in_place(&self.lock, &self.state_dir) {
            return Ok(());
        }
        match fs::remove_file(self.state_dir.join(socket::NAME)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn wait(&self) -> io::Result<()> {
        let at = self.server.next_timeout().into_iter().chain(self.listen_again_at).min();
        let mut fds = vec![
            PollFd::new(self.children.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.kernel.descriptor(), PollFlags::POLLIN),
            PollFd::new(self.wake.as_fd(), PollFlags::POLLIN),
        ];
        if self.listen_again_at.is_none() {
            fds.push(PollFd::new(self.listener.as_fd(), PollFlags::POLLIN));
        }
        if let Some((_, channel)) = &self.agent {
            let write = channel.is_backpressured();
            let write = if write { PollFlags::POLLOUT } else { PollFlags::empty() };
            fds.push(PollFd::new(channel.connection().as_fd(), PollFlags::POLLIN | write));
        }
        match poll(&mut fds, timeout_until(at)) {
            Err(nix::Error::EINTR) | Ok(_) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
