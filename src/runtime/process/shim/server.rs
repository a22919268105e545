//! The shim's main loop: one thread, four things to wait for.
//!
//! ```text
//!  poll:  listener ─▶ a new agent takes over        engine ─▶ Exited, kept until Release
//!         link     ─▶ its requests                  SIGCHLD ─▶ orphans are reaped
//! ```

use std::{
    collections::BTreeMap,
    fs, io,
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
    daemon,
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
    let socket = options.state_dir.join(socket::NAME);
    let shim = Shim {
        socket: socket.clone(),
        listener,
        children,
        engine,
        link: None,
        entries: BTreeMap::new(),
        linger: options.linger,
    };
    shim.run()?;
    // While the lock is held, so that it is ours.
    match fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// How often a shim that only keeps statuses looks whether its socket is still there.
const LOOK_FOR_SOCKET_EVERY: Duration = Duration::from_secs(5);

struct Shim {
    /// The listener's file.
    socket: PathBuf,
    listener: Listener,
    children: SignalFd,
    engine: Engine,
    /// The agent.
    link: Option<Link>,
    entries: BTreeMap<WorkerId, Entry>,
    linger: Duration,
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
            self.take_over()?;
            while matches!(self.children.read_signal(), Ok(Some(_))) {
                self.engine.child_ended();
            }
            for notice in self.engine.turn() {
                self.note(notice);
            }
            let now = Instant::now();
            if self.is_needed() {
                end_at = now;
            } else if now >= end_at {
                return Ok(());
            }
            self.wait(end_at)?;
        }
    }

    /// By an agent, by a worker, or by the agent to come, which will ask for what is kept; but none
    /// comes when the socket is gone, as with a state directory that was removed.
    fn is_needed(&self) -> bool {
        self.link.is_some()
            || self.has_live_worker()
            || (self.has_statuses() && self.socket.exists())
    }

    fn has_live_worker(&self) -> bool {
        self.entries.values().any(|entry| entry.exit.is_none())
    }

    fn has_statuses(&self) -> bool {
        !self.entries.is_empty()
    }

    fn wait(&self, end_at: Instant) -> io::Result<()> {
        let end_at = if self.link.is_some() || self.has_live_worker() {
            None
        } else if self.is_needed() {
            Some(Instant::now() + LOOK_FOR_SOCKET_EVERY)
        } else {
            Some(end_at)
        };
        let deadline = self.engine.next_deadline().into_iter().chain(end_at).min();
        let timeout = deadline.map_or(PollTimeout::NONE, |at| {
            // Rounded up: to wake before the time would be to wake for nothing.
            let wait = at.saturating_duration_since(Instant::now()) + Duration::from_micros(999);
            PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX)
        });
        let mut fds = vec![
            PollFd::new(self.listener.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.children.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.engine.descriptor(), PollFlags::POLLIN),
        ];
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
    fn take_over(&mut self) -> io::Result<()> {
        while let Some(connection) = self.listener.accept()? {
            self.serve_link();
            self.link = Some(Link::new(connection));
            self.serve_link();
        }
        Ok(())
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
