//! The shim's main loop: one thread, four things to wait for.
//!
//! ```text
//!  poll:  listener ─▶ a new agent takes over        engine ─▶ Exited, kept until Release
//!         link     ─▶ its requests                  SIGCHLD ─▶ orphans are reaped
//! ```

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::PathBuf,
    process,
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signalfd::SignalFd,
};

use super::{
    super::{
        descriptors::raise_descriptor_limit,
        engine::{Engine, Notice, Reaper},
    },
    daemon::{self, Lock},
    link::{Incoming, Link},
    payload::{self, Packed},
    protocol::{self, Answer, Ask, Failed, Request, Tell},
    socket::{self, Listener},
};
use crate::{
    ids::WorkerId,
    machine::{Exit, Process, Signal},
    runtime::time_slice,
};

/// How a shim is run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ShimOptions {
    /// Where its socket, lock and log are.
    pub state_dir: PathBuf,
    /// How long it waits for its first agent. When the last one has gone and there is nothing to
    /// keep, it ends at once.
    pub linger: Duration,
}

impl ShimOptions {
    /// A shim of this directory that waits half a minute for its first agent.
    pub fn new(state_dir: impl Into<PathBuf>) -> Self {
        Self { state_dir: state_dir.into(), linger: Duration::from_secs(30) }
    }
}

/// Is a shim until nobody needs one. Returns in another process than it was called in, unless it
/// fails at once; in the calling process it exits with 0, once the shim can be connected to or if
/// there is one already.
///
/// Call it from a process with one thread.
pub fn serve(options: &ShimOptions) -> io::Result<()> {
    let Some(mut lock) = daemon::lock(&options.state_dir)? else { return Ok(()) };
    let listener = Listener::bind(&options.state_dir)?;
    daemon::detach(&options.state_dir.join("shim.log"))?;
    daemon::sign(&mut lock);
    let children = daemon::settle()?;
    raise_descriptor_limit()?;
    // Where that cannot be had, it is only less prompt.
    let _ = time_slice::shorten();
    let engine = Engine::new(Reaper::This)?;
    let shim = Shim {
        state_dir: options.state_dir.clone(),
        lock,
        listener,
        look_for_socket_at: Instant::now(),
        spare: spare(),
        deaf_until: None,
        children,
        engine,
        link: None,
        entries: BTreeMap::new(),
        linger: options.linger,
    };
    shim.run()
}

/// How long a shim waits that the system lets take no connection, before it tries again.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// How often a shim without an agent looks whether its socket is still there.
const LOOK_FOR_SOCKET_EVERY: Duration = Duration::from_secs(5);

struct Shim {
    state_dir: PathBuf,
    lock: Lock,
    listener: Listener,
    look_for_socket_at: Instant,
    /// Given up for the next agent, should it come when there are no more descriptors.
    spare: Option<OwnedFd>,
    /// Not to listen before: it could not accept.
    deaf_until: Option<Instant>,
    children: SignalFd,
    engine: Engine,
    /// The agent.
    link: Option<Link>,
    entries: BTreeMap<WorkerId, Entry>,
    linger: Duration,
}

/// A descriptor to give up when another is needed; `None`: there is none to be had.
fn spare() -> Option<OwnedFd> {
    File::open("/dev/null").ok().map(OwnedFd::from)
}

/// A worker that has not been released.
struct Entry {
    process: Process,
    label: Vec<u8>,
    exit: Option<Exit>,
}

impl Shim {
    fn run(mut self) -> io::Result<()> {
        let mut end_at = Instant::now() + self.linger;
        loop {
            self.serve_link();
            self.take_over();
            while matches!(self.children.read_signal(), Ok(Some(_))) {
                self.engine.child_ended();
            }
            for notice in self.engine.turn() {
                self.note(notice);
            }
            let now = Instant::now();
            self.look_for_socket(now);
            if self.is_needed() {
                end_at = now;
            } else if now >= end_at {
                return self.remove_socket();
            }
            self.wait(end_at)?;
        }
    }

    /// If it is ours: not without the lock, since another shim may have taken the place.
    fn remove_socket(&self) -> io::Result<()> {
        if !self.is_in_place() {
            return Ok(());
        }
        match fs::remove_file(self.socket()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn is_in_place(&self) -> bool {
        daemon::is_in_place(&self.lock, &self.state_dir)
    }

    /// The listener's file.
    fn socket(&self) -> PathBuf {
        self.state_dir.join(socket::NAME)
    }

    /// Somebody who takes it for left over may remove it; then no agent would get to the workers. Not if
    /// the lock is gone as well: the directory may be another shim's by now.
    fn look_for_socket(&mut self, now: Instant) {
        if self.link.is_some() {
            // As soon as that has gone.
            self.look_for_socket_at = now;
        } else if self.look_for_socket_at <= now {
            self.look_for_socket_at = now + LOOK_FOR_SOCKET_EVERY;
            if !self.socket().exists()
                && self.is_in_place()
                && let Ok(listener) = Listener::bind(&self.state_dir)
            {
                self.listener = listener;
            }
        }
    }

    /// By an agent, by a worker, or by the agent to come, which will ask for what is kept; but none
    /// comes when the socket is gone, as with a state directory that was removed.
    fn is_needed(&self) -> bool {
        self.link.is_some()
            || self.has_live_worker()
            || (self.has_statuses() && self.is_in_place() && self.socket().exists())
    }

    fn has_live_worker(&self) -> bool {
        self.entries.values().any(|entry| entry.exit.is_none())
    }

    fn has_statuses(&self) -> bool {
        !self.entries.is_empty()
    }

    fn wait(&self, end_at: Instant) -> io::Result<()> {
        let end_at = if self.link.is_some() {
            None
        } else if self.is_needed() {
            Some(self.look_for_socket_at)
        } else {
            Some(end_at)
        };
        let deadlines = self.engine.next_deadline().into_iter().chain(end_at);
        let deadline = deadlines.chain(self.deaf_until).min();
        let timeout = deadline.map_or(PollTimeout::NONE, |at| {
            // Rounded up: to wake before the time would be to wake for nothing.
            let wait = at.saturating_duration_since(Instant::now()) + Duration::from_micros(999);
            PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX)
        });
        let mut fds = vec![
            PollFd::new(self.children.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.engine.descriptor(), PollFlags::POLLIN),
        ];
        if self.deaf_until.is_none() {
            fds.push(PollFd::new(self.listener.as_fd(), PollFlags::POLLIN));
        }
        if let Some(link) = &self.link {
            let write = if link.is_clogged() { PollFlags::POLLOUT } else { PollFlags::empty() };
            fds.push(PollFd::new(link.connection().as_fd(), PollFlags::POLLIN | write));
        }
        match poll(&mut fds, timeout) {
            Err(nix::Error::EINTR) | Ok(_) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// A new agent replaces the one before, whose last requests are heard first: it may have died
    /// just after it asked for a worker, and the new one is about to ask what there is.
    ///
    /// Whatever keeps it from coming in passes, and is no reason to leave the workers.
    fn take_over(&mut self) {
        let now = Instant::now();
        if self.deaf_until.is_some_and(|until| until > now) {
            return;
        }
        self.deaf_until = None;
        loop {
            match self.listener.accept() {
                Ok(Some(connection)) => {
                    self.serve_link();
                    self.link = Some(Link::new(connection));
                    self.serve_link();
                }
                Ok(None) => break,
                Err(_) if self.spare.take().is_some() => {}
                Err(error) => {
                    eprintln!("an agent cannot connect: {error}");
                    self.deaf_until = Some(now + ACCEPT_AGAIN);
                    return;
                }
            }
        }
        self.spare = self.spare.take().or_else(spare);
    }

    /// Hears everything that the agent has sent.
    fn serve_link(&mut self) {
        while let Some(link) = &mut self.link {
            match link.receive(protocol::decode_request) {
                Ok(Incoming::Message(request, descriptors)) => self.hear(request, descriptors),
                Ok(Incoming::Nothing) => break,
                Ok(Incoming::End) => self.link = None,
                Err(error) => {
                    eprintln!("the agent's connection is closed: {error}");
                    self.link = None;
                }
            }
        }
        if let Some(link) = &mut self.link
            && link.flush().is_err()
        {
            self.link = None;
        }
    }

    fn hear(&mut self, request: Request, descriptors: Vec<OwnedFd>) {
        let greeted = self.link.as_ref().is_some_and(|link| link.version.is_some());
        match request.ask {
            Some(Ask::Hello(hello)) => self.greet(hello),
            _ if !greeted => self.refuse("say hello first".to_owned()),
            Some(Ask::Spawn(spawn)) => self.spawn(spawn, descriptors),
            Some(Ask::Signal(ask)) => {
                let signal = if ask.kill { Signal::Kill } else { Signal::Terminate };
                self.engine.signal(WorkerId(ask.worker), signal);
            }
            Some(Ask::Release(release)) => self.release(WorkerId(release.worker)),
            Some(Ask::List(_)) => self.list(),
            None => self.tell(Tell::Unsupported(protocol::Unsupported {
                reason: format!("this shim speaks version {} at most", protocol::VERSION),
            })),
        }
    }

    fn greet(&mut self, hello: protocol::Hello) {
        let Some(version) = protocol::negotiate(hello) else {
            let (lowest, highest) = (protocol::LOWEST_VERSION, protocol::VERSION);
            return self.refuse(format!("this shim speaks versions {lowest} to {highest}"));
        };
        if let Some(link) = &mut self.link {
            link.version = Some(version);
        }
        let pid = process::id();
        self.tell(Tell::Welcome(protocol::Welcome { version, capabilities: 0, pid }));
    }

    fn refuse(&mut self, reason: String) {
        self.tell(Tell::Refused(protocol::Refused { reason }));
        self.link = None;
    }

    fn spawn(&mut self, spawn: protocol::Spawn, mut descriptors: Vec<OwnedFd>) {
        let worker = spawn.worker;
        match self.try_spawn(spawn, &mut descriptors) {
            Ok(Process { pid, start_time }) => {
                let spawned = Tell::Spawned(protocol::Spawned { worker, pid, start_time });
                let pidfd = self.engine.pidfd(WorkerId(worker));
                self.tell_with(spawned, pidfd.into_iter().collect());
            }
            Err(reason) => self.tell(Tell::SpawnFailed(Failed { worker, reason })),
        }
    }

    fn try_spawn(
        &mut self,
        spawn: protocol::Spawn,
        descriptors: &mut Vec<OwnedFd>,
    ) -> Result<Process, String> {
        let in_message = !spawn.payload.is_empty();
        let expected = if in_message { 2 } else { 3 };
        if descriptors.len() != expected {
            let got = descriptors.len();
            return Err(format!("such a spawn brings {expected} descriptors, this one {got}"));
        }
        let worker = WorkerId(spawn.worker);
        if self.entries.contains_key(&worker) {
            return Err(format!("worker {worker} has been started already"));
        }
        let descriptor = (!in_message).then(|| descriptors.remove(0));
        let packed = Packed { inline: spawn.payload, descriptor };
        let (image, label) = payload::unpack(packed).map_err(|error| error.to_string())?;
        let [stdout, stderr] = [&descriptors[0], &descriptors[1]].map(|fd| fd.as_fd());
        let process = self.engine.spawn(worker, &image, stdout, stderr)?;
        self.entries.insert(worker, Entry { process, label, exit: None });
        Ok(process)
    }

    /// Only who has ended can be forgotten.
    fn release(&mut self, worker: WorkerId) {
        if self.entries.get(&worker).is_some_and(|entry| entry.exit.is_some()) {
            self.entries.remove(&worker);
        }
    }

    fn list(&mut self) {
        let known = self.entries.iter().map(|(worker, entry)| protocol::KnownWorker {
            worker: worker.0,
            pid: entry.process.pid,
            start_time: entry.process.start_time,
            exit: entry.exit.map(Into::into),
            label: entry.label.clone(),
        });
        if let Some(link) = &mut self.link {
            known.for_each(|known| link.send(Answer::from(Tell::Known(known)), Vec::new()));
        }
        self.tell(Tell::ListEnd(protocol::ListEnd {}));
    }

    fn note(&mut self, notice: Notice) {
        match notice {
            Notice::Ended { worker, exit } => {
                if let Some(entry) = self.entries.get_mut(&worker) {
                    entry.exit = Some(exit);
                }
                let exit = Some(exit.into());
                self.tell(Tell::Exited(protocol::Exited { worker: worker.0, exit }));
            }
            Notice::SignalFailed { worker, error } => {
                self.tell(Tell::SignalFailed(Failed { worker: worker.0, reason: error }));
            }
        }
    }

    fn tell(&mut self, tell: Tell) {
        self.tell_with(tell, Vec::new());
    }

    /// Nobody connected, nobody told: the next agent asks for the list.
    fn tell_with(&mut self, tell: Tell, descriptors: Vec<OwnedFd>) {
        if let Some(link) = &mut self.link {
            link.send(Answer::from(tell), descriptors);
        }
    }
}
