//! The kernel port of production: Linux. Carries out, and decides nothing.
//!
//! ```text
//!  Supervisor ── Operation ──▶ carry_out: fork.rs, pidfd.rs, procfs.rs, cgroup
//!             ◀─ KernelEvent ─ events: one epoll of pidfds, status pipes, cgroups, results
//! ```

use std::{
    collections::BTreeMap,
    fs, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use nix::{
    errno::Errno as OsErrno,
    sys::{
        epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
        eventfd::{EfdFlags, EventFd},
        wait::{Id, WaitPidFlag, waitid},
    },
    unistd::{Pid, read},
};

use super::{
    child::{FAILURE_BYTES, read_failure},
    errands::Errands,
    fork::{Dispositions, Forked, Forker, describe},
    pidfd::{self, Pidfd},
    procfs,
};
use crate::{
    ids::WorkerId,
    machine::{Process, Signal},
    runtime::cgroup::{self, Group},
    supervisor::{
        Answer, Environment, Errno, ExecSpec, GroupState, Handle, Kernel, KernelEvent, Operation,
        ProcessTable, SignalScope, Stat, TableScope,
    },
};

/// Linux, for one supervisor.
pub(super) struct Linux {
    epoll: Epoll,
    /// What the tokens in `epoll` stand for.
    sources: BTreeMap<u64, Source>,
    last_source: u64,
    forker: Forker,
    handles: BTreeMap<Handle, Watched<Pidfd>>,
    /// Children that have yet to run their programs.
    loading: BTreeMap<WorkerId, Loading>,
    /// The cgroup below which each worker has its own, if they have.
    groups: Option<PathBuf>,
    /// Cgroups that were killed, until they are removed.
    dying_groups: BTreeMap<WorkerId, Watched<cgroup::Events>>,
    errands: Errands,
    results: Arc<Results>,
}

/// What an epoll tells of.
#[derive(Clone, Copy)]
enum Source {
    Handle(Handle),
    Status(WorkerId),
    Group(WorkerId),
    Results,
}

/// A descriptor in the epoll, under this token.
struct Watched<T> {
    fd: T,
    token: u64,
}

struct Loading {
    status: Watched<OwnedFd>,
    spec: Arc<ExecSpec>,
}

/// What errands have brought.
struct Results {
    events: Mutex<Vec<KernelEvent>>,
    ready: EventFd,
}

impl Linux {
    /// `groups`: the cgroup below which workers have theirs.
    pub(super) fn new(dispositions: Dispositions, groups: Option<PathBuf>) -> io::Result<Self> {
        let ready = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        let mut this = Self {
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            sources: BTreeMap::new(),
            last_source: 0,
            forker: Forker::new(dispositions),
            handles: BTreeMap::new(),
            loading: BTreeMap::new(),
            groups,
            dying_groups: BTreeMap::new(),
            errands: Errands::default(),
            results: Arc::new(Results { events: Mutex::default(), ready }),
        };
        let results = Arc::clone(&this.results);
        this.watch(results.ready.as_fd(), Source::Results, EpollFlags::EPOLLIN)?;
        Ok(this)
    }

    /// Readable when there are events.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }

    /// What has happened since the last call. Never waits.
    pub(super) fn events(&mut self) -> Vec<KernelEvent> {
        const AT_ONCE: usize = 256;
        let mut ready = [EpollEvent::empty(); AT_ONCE];
        // More than fit leave the descriptor readable.
        let number = self.epoll.wait(&mut ready, EpollTimeout::ZERO).unwrap_or(0);
        let mut events = Vec::with_capacity(number);
        for token in ready[..number].iter().map(EpollEvent::data) {
            match self.sources.get(&token) {
                Some(&Source::Handle(handle)) => events.push(KernelEvent::Ready(handle)),
                Some(&Source::Status(worker)) => events.extend(self.executed(worker)),
                Some(&Source::Group(worker)) => events.push(KernelEvent::GroupChanged(worker)),
                Some(Source::Results) => {
                    let _ = self.results.ready.read();
                    events.append(&mut self.results.lock());
                }
                None => {}
            }
        }
        events
    }

    /// Edge-triggered: what has been told of is not told of again. A process may have ended and
    /// not be waited for; to be told so without end would keep a core busy.
    fn watch(&mut self, fd: BorrowedFd<'_>, source: Source, flags: EpollFlags) -> io::Result<u64> {
        let token = self.last_source + 1;
        self.epoll.add(fd, EpollEvent::new(flags | EpollFlags::EPOLLET, token))?;
        self.last_source = token;
        self.sources.insert(token, source);
        Ok(token)
    }

    /// Before the descriptor is closed: a duplicate elsewhere would keep it in.
    fn unwatch<T: AsFd>(&mut self, watched: &Watched<T>) {
        self.sources.remove(&watched.token);
        let _ = self.epoll.delete(&watched.fd);
    }

    fn start(
        &mut self,
        worker: WorkerId,
        handle: Handle,
        spec: Arc<ExecSpec>,
    ) -> Result<Process, String> {
        let group = self.make_group(worker, &spec)?;
        let forked = self.forker.fork(worker, &spec, group.as_ref().map(AsFd::as_fd));
        let watched = forked.and_then(|forked| self.watch_child(worker, handle, forked, spec));
        if watched.is_err() && group.is_some() {
            let _ = self.remove_group(worker);
        }
        watched
    }

    fn watch_child(
        &mut self,
        worker: WorkerId,
        handle: Handle,
        forked: Forked,
        spec: Arc<ExecSpec>,
    ) -> Result<Process, String> {
        let Forked { process, pidfd, status } = forked;
        let watched = self
            .watch(pidfd.as_fd(), Source::Handle(handle), EpollFlags::EPOLLIN)
            .and_then(|token| {
                let source = Source::Status(worker);
                let status_token = self.watch(status.as_fd(), source, EpollFlags::EPOLLIN);
                status_token
                    .inspect_err(|_| {
                        self.sources.remove(&token);
                    })
                    .map(|status_token| (token, status_token))
            });
        match watched {
            Ok((token, status_token)) => {
                self.handles.insert(handle, Watched { fd: pidfd, token });
                let status = Watched { fd: status, token: status_token };
                self.loading.insert(worker, Loading { status, spec });
                Ok(process)
            }
            Err(error) => {
                pidfd.kill_and_reap();
                Err(format!("it was started but could not be watched: {error}"))
            }
        }
    }

    /// What the status pipe of a child tells; `None`: nothing yet.
    fn executed(&mut self, worker: WorkerId) -> Option<KernelEvent> {
        let loading = self.loading.get(&worker)?;
        let mut failure = [0; FAILURE_BYTES];
        let result = match read(&loading.status.fd, &mut failure) {
            Ok(0) => Ok(()),
            Ok(length) => Err(match read_failure(&failure[..length]) {
                Some(failure) => describe(failure, &loading.spec),
                None => "it failed before its program ran".to_owned(),
            }),
            Err(OsErrno::EAGAIN | OsErrno::EINTR) => return None,
            Err(error) => Err(format!("what became of it cannot be read: {error}")),
        };
        let loading = self.loading.remove(&worker)?;
        self.unwatch(&loading.status);
        Some(KernelEvent::Executed { worker, result })
    }

    fn open(&mut self, handle: Handle, process: Process) -> io::Result<bool> {
        let Some(pidfd) = Pidfd::open(process)? else { return Ok(false) };
        let token = self.watch(pidfd.as_fd(), Source::Handle(handle), EpollFlags::EPOLLIN)?;
        self.handles.insert(handle, Watched { fd: pidfd, token });
        Ok(true)
    }

    fn close(&mut self, handle: Handle) {
        if let Some(watched) = self.handles.remove(&handle) {
            self.unwatch(&watched);
        }
    }

    fn signal(&self, handle: Handle, signal: Signal, scope: SignalScope) -> io::Result<bool> {
        let Some(Watched { fd: pidfd, .. }) = self.handles.get(&handle) else { return Ok(false) };
        match scope {
            SignalScope::Process => pidfd.signal(number(signal)),
            SignalScope::ProcessGroup => pidfd.signal_group(number(signal)),
        }
    }

    fn read_processes(
        &self,
        scope: &TableScope,
        check: &[Handle],
    ) -> io::Result<(ProcessTable, std::collections::BTreeSet<Handle>)> {
        let table = match scope {
            TableScope::Descendants { skip } if procfs::lists_children() => {
                procfs::read_descendants(skip)?
            }
            TableScope::Descendants { .. } | TableScope::All => procfs::read_all()?,
        };
        // Asked after the table was read: so the pid was its own all the while.
        let holds_its_pid = |handle: &&Handle| {
            self.handles.get(handle).is_some_and(|watched| watched.fd.is_unreaped())
        };
        Ok((table, check.iter().filter(holds_its_pid).copied().collect()))
    }

    /// Reading the environment of a process waits while that process is stuck: so another thread
    /// does it.
    fn read_environments(&mut self, scan: u64, processes: Vec<Process>) {
        let results = Arc::clone(&self.results);
        let read = move || {
            let environment = |process: Process| -> (Process, Environment) {
                (process, procfs::read_environment(process))
            };
            let environments = processes.into_iter().map(environment).collect();
            results.tell(KernelEvent::Environments { scan, environments });
        };
        if self.errands.run(read).is_err() {
            self.results.tell(KernelEvent::Environments { scan, environments: Vec::new() });
        }
    }

    fn group(&self, worker: WorkerId) -> Result<Option<Group>, cgroup::Error> {
        let Some(groups) = &self.groups else { return Ok(None) };
        Group::open(groups, &worker.to_string())
    }

    /// Makes the cgroup that the worker is to run in; `None`: it is to have none.
    fn make_group(&self, worker: WorkerId, spec: &ExecSpec) -> Result<Option<OwnedFd>, String> {
        let (Some(_), Some(groups)) = (&spec.group, &self.groups) else { return Ok(None) };
        let create = || Group::create(groups, &worker.to_string());
        let group = create().or_else(|error| match error.raw_os_error() {
            // systemd removes empty cgroups below a unit whose main process has ended.
            Some(libc::ENOENT) if fs::create_dir(groups).is_ok() => create(),
            _ => Err(error),
        });
        let directory = group.and_then(|group| group.directory());
        directory.map(Some).map_err(|error| error.to_string())
    }

    fn read_group(&self, worker: WorkerId) -> Result<Option<GroupState>, cgroup::Error> {
        let Some(group) = self.group(worker)? else { return Ok(None) };
        let populated = group.is_populated()?;
        let oom_kills = group.oom_kills()?.unwrap_or(0);
        Ok(Some(GroupState { populated, oom_kills }))
    }

    /// With the identity of each: listed before and after it was looked at, so it was a member. What
    /// is listed is alive.
    fn read_members(&self, worker: WorkerId) -> Result<Vec<Stat>, Errno> {
        let Some(group) = self.group(worker).map_err(|error| errno_of(&error))? else {
            return Ok(Vec::new());
        };
        let list = || group.processes().map_err(|error| errno_of(&error));
        let stats: Vec<_> =
            list()?.into_iter().filter_map(|pid| procfs::stat(pid).ok().flatten()).collect();
        let after = list()?;
        Ok(stats.into_iter().filter(|stat| after.contains(&stat.process.pid)).collect())
    }

    fn kill_group(&mut self, worker: WorkerId) -> Result<(), Errno> {
        let Some(group) = self.group(worker).map_err(|error| errno_of(&error))? else {
            return Ok(());
        };
        if !self.dying_groups.contains_key(&worker)
            && let Ok(fd) = group.events()
            && let Ok(token) = self.watch(fd.as_fd(), Source::Group(worker), EpollFlags::EPOLLPRI)
        {
            self.dying_groups.insert(worker, Watched { fd, token });
        }
        group.kill().map_err(|error| errno_of(&error))
    }

    fn remove_group(&mut self, worker: WorkerId) -> Result<(), Errno> {
        if let Some(watched) = self.dying_groups.remove(&worker) {
            self.unwatch(&watched);
        }
        match self.group(worker) {
            Ok(Some(group)) => group.remove().map_err(|error| errno_of(&error)),
            Ok(None) => Ok(()),
            Err(error) => Err(errno_of(&error)),
        }
    }
}

impl Drop for Linux {
    /// The directory of the cgroups is the last supervisor's to remove: it goes only if it is empty.
    fn drop(&mut self) {
        if let Some(groups) = &self.groups {
            let _ = fs::remove_dir(groups);
        }
    }
}

impl Kernel for Linux {
    fn carry_out(&mut self, operation: Operation) -> Option<Answer> {
        Some(match operation {
            Operation::Start { worker, handle, spec } => {
                Answer::Forked { worker, result: self.start(worker, handle, spec) }
            }
            Operation::Open { handle, process } => {
                let result = self.open(handle, process).map_err(|error| errno(&error));
                Answer::Opened { handle, result }
            }
            Operation::Close(handle) => {
                self.close(handle);
                return None;
            }
            Operation::Signal { handle, signal, scope } => {
                let result = self.signal(handle, signal, scope).map_err(|error| errno(&error));
                Answer::Signalled { handle, scope, result }
            }
            Operation::SignalProcess { worker, process, signal } => {
                let sent = Pidfd::open(process).and_then(|pidfd| match pidfd {
                    Some(pidfd) => pidfd.signal(number(signal)),
                    None => Ok(false),
                });
                let result = sent.map_err(|error| errno(&error));
                Answer::ProcessSignalled { worker, process, result }
            }
            Operation::ReadStatus(handle) => {
                let status = self.handles.get(&handle)?.fd.status();
                Answer::Status { handle, status }
            }
            Operation::Reap(handle) => {
                let _ = self.handles.get(&handle)?.fd.reap();
                return None;
            }
            Operation::ReadProcesses { scan, scope, check } => {
                let result = self.read_processes(&scope, &check).map_err(|error| errno(&error));
                Answer::Processes { scan, result }
            }
            Operation::ReadEnvironments { scan, processes } => {
                self.read_environments(scan, processes);
                return None;
            }
            Operation::FindDeadChild => Answer::DeadChild(pidfd::first_dead_child()),
            Operation::ReapChild(pid) => {
                let pid = Pid::from_raw(pid.cast_signed());
                let _ = waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG);
                return None;
            }
            Operation::ReadGroup(worker) => {
                let result = self.read_group(worker).map_err(|error| errno_of(&error));
                Answer::Group { worker, result }
            }
            Operation::ReadMembers(worker) => {
                Answer::Members { worker, result: self.read_members(worker) }
            }
            Operation::KillGroup(worker) => {
                Answer::GroupKilled { worker, result: self.kill_group(worker) }
            }
            Operation::RemoveGroup(worker) => {
                Answer::GroupRemoved { worker, result: self.remove_group(worker) }
            }
        })
    }
}

impl Results {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<KernelEvent>> {
        // Nothing panics while holding it.
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, event: KernelEvent) {
        self.lock().push(event);
        // Fails only when the counter is full, and then it is readable.
        let _ = self.ready.write(1);
    }
}

fn number(signal: Signal) -> i32 {
    match signal {
        Signal::Terminate => libc::SIGTERM,
        Signal::Kill => libc::SIGKILL,
    }
}

fn errno(error: &io::Error) -> Errno {
    Errno(error.raw_os_error().unwrap_or(libc::EIO))
}

fn errno_of(error: &cgroup::Error) -> Errno {
    Errno(error.raw_os_error().unwrap_or(libc::EIO))
}
