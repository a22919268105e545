//! The supervisor of this process, on a thread of its own.
//!
//! ```text
//!  Request ── channel ──▶ thread "workers": Supervisor on Linux ──▶ Notice
//! ```
//!
//! When this process ends, the workers run on and are init's; the next agent adopts them by pid and
//! start time. Their exit statuses are then to be had only where the kernel keeps them.

use std::{
    io,
    os::fd::AsFd as _,
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{self, TryRecvError},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::eventfd::{EfdFlags, EventFd},
};

use super::{fork::Dispositions, linux::Linux};
use crate::{
    machine::Mono,
    runtime::{clock::SystemClock, essential::Essential, ports::Clock as _},
    supervisor::{Config, Input, Notice, Reaper, Request, Supervisor, run},
};

/// Supervises workers from within this process. When it is dropped, the workers run on.
#[derive(Debug)]
pub(super) struct LocalSupervisor {
    /// `None` once it is being dropped.
    requests: Option<mpsc::Sender<Request>>,
    wake: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

impl LocalSupervisor {
    /// Starts the thread. `groups`: the cgroup below which workers have theirs.
    ///
    /// # Errors
    /// There is no thread or no descriptor to be had.
    pub(super) fn start(
        groups: Option<PathBuf>,
        essential: &Essential,
        tell: impl FnMut(Notice) + Send + 'static,
    ) -> io::Result<Self> {
        let (requests, receiver) = mpsc::channel();
        let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        let wake = Arc::new(wake);
        let config = Config { reaper: Reaper::Another, groups: groups.is_some() };
        let worker = Thread {
            supervisor: Supervisor::new(config),
            kernel: Linux::new(Dispositions::MayChange, groups)?,
            requests: receiver,
            wake: Arc::clone(&wake),
            tell: Box::new(tell),
        };
        let thread = essential.thread("workers", move || worker.run())?;
        Ok(Self { requests: Some(requests), wake, thread: Some(thread) })
    }

    /// Hands in a request. Never waits.
    pub(super) fn ask(&self, request: Request) {
        if let Some(requests) = &self.requests
            && requests.send(request).is_err()
        {
            tracing::error!("the thread that supervises the workers is gone");
        }
        // Fails only when the counter is full, and then the thread is about to wake up anyway.
        let _ = self.wake.write(1);
    }
}

impl Drop for LocalSupervisor {
    fn drop(&mut self) {
        self.requests = None;
        let _ = self.wake.write(1);
        if let Some(thread) = self.thread.take()
            // What it tells may be the last thing that holds this.
            && thread.thread().id() != thread::current().id()
        {
            // Whoever adopts the workers next must not meet a thread that still reaps them.
            let _ = thread.join();
        }
    }
}

struct Thread {
    supervisor: Supervisor,
    kernel: Linux,
    requests: mpsc::Receiver<Request>,
    wake: Arc<EventFd>,
    tell: Box<dyn FnMut(Notice) + Send>,
}

impl Thread {
    /// Returns when the other end of the requests is gone.
    fn run(mut self) {
        loop {
            self.wait();
            let _ = self.wake.read();
            for event in self.kernel.events() {
                self.handle(Input::Event(event));
            }
            loop {
                match self.requests.try_recv() {
                    Ok(request) => self.handle(Input::Request(request)),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return,
                }
            }
            self.handle(Input::Timeout);
        }
    }

    fn handle(&mut self, input: Input) {
        let now = SystemClock.now().mono;
        for notice in run(&mut self.supervisor, &mut self.kernel, now, input) {
            if let Notice::Warning { worker, text } = &notice {
                tracing::warn!(%worker, "{text}");
            }
            (self.tell)(notice);
        }
    }

    fn wait(&self) {
        let timeout = timeout_until(self.supervisor.next_timeout());
        let mut fds = [
            PollFd::new(self.wake.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.kernel.descriptor(), PollFlags::POLLIN),
        ];
        // Interrupted, or anything else: the loop looks at everything in any case.
        let _ = poll(&mut fds, timeout);
    }
}

/// How long to poll until this time.
pub(super) fn timeout_until(at: Option<Mono>) -> PollTimeout {
    at.map_or(PollTimeout::NONE, |at| {
        // Rounded up: to wake before the time would be to wake for nothing.
        let wait = at.since(SystemClock.now().mono);
        let wait = if wait.is_zero() { wait } else { wait + Duration::from_micros(999) };
        PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX)
    })
}
