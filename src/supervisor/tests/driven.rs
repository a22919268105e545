//! A supervisor with a test in the place of the kernel.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use super::super::*;
use crate::machine::{Exit, Signal};

pub(super) const W1: WorkerId = WorkerId(1);
pub(super) const W2: WorkerId = WorkerId(2);
/// The pid of the process that the supervisor is part of.
pub(super) const READER: u32 = 2;

/// A supervisor, the time, and what came of the latest input.
pub(super) struct Driven {
    pub(super) supervisor: Supervisor,
    pub(super) now: Mono,
    operations: VecDeque<Operation>,
    notices: Vec<Notice>,
}

/// A process whose start time is its pid.
pub(super) fn process(pid: u32) -> Process {
    Process { pid, start_time: pid.into() }
}

pub(super) fn handle(number: u64) -> Handle {
    Handle(number)
}

/// pid, parent, session; the group is the session.
pub(super) fn stat(pid: u32, parent: u32, session: u32) -> Stat {
    let (dead, loading, kernel_thread) = (false, None, false);
    Stat { process: process(pid), dead, parent, group: session, session, loading, kernel_thread }
}

pub(super) fn dead(stat: Stat) -> Stat {
    Stat { dead: true, ..stat }
}

/// As a reaper reads it.
pub(super) fn table(stats: &[Stat]) -> ProcessTable {
    let processes: BTreeMap<u32, Stat> =
        stats.iter().map(|stat| (stat.process.pid, *stat)).collect();
    ProcessTable { processes, reader: READER, of_workers_only: true, cut_short: false }
}

/// As anybody else does.
pub(super) fn table_of_all(stats: &[Stat]) -> ProcessTable {
    ProcessTable { of_workers_only: false, ..table(stats) }
}

pub(super) fn kill(handle: Handle) -> Operation {
    Operation::Signal { handle, signal: Signal::Kill, scope: SignalScope::Process }
}

pub(super) fn kill_group_of(handle: Handle) -> Operation {
    Operation::Signal { handle, signal: Signal::Kill, scope: SignalScope::ProcessGroup }
}

pub(super) fn terminate(handle: Handle) -> Operation {
    Operation::Signal { handle, signal: Signal::Terminate, scope: SignalScope::Process }
}

pub(super) fn terminate_process(worker: WorkerId, pid: u32) -> Operation {
    Operation::SignalProcess { worker, process: process(pid), signal: Signal::Terminate }
}

pub(super) fn ended(worker: WorkerId, exit: Exit) -> Notice {
    Notice::Ended { worker, exit }
}

impl Driven {
    pub(super) fn new(reaper: Reaper, groups: bool) -> Self {
        Self {
            supervisor: Supervisor::new(Config { reaper, groups }),
            now: Mono(1_000_000_000),
            operations: VecDeque::new(),
            notices: Vec::new(),
        }
    }

    /// The parent and reaper of its workers, without cgroups.
    pub(super) fn reaper() -> Self {
        Self::new(Reaper::This, false)
    }

    /// Some other process, without cgroups.
    pub(super) fn other() -> Self {
        Self::new(Reaper::Another, false)
    }

    fn input(&mut self, input: Input) -> &mut Self {
        let mut output = Output::default();
        self.supervisor.handle(self.now, input, &mut output);
        self.operations.extend(output.operations);
        self.notices.extend(output.notices);
        self
    }

    pub(super) fn request(&mut self, request: Request) -> &mut Self {
        self.input(Input::Request(request))
    }

    pub(super) fn answer(&mut self, answer: Answer) -> &mut Self {
        self.input(Input::Answer(answer))
    }

    pub(super) fn event(&mut self, event: KernelEvent) -> &mut Self {
        self.input(Input::Event(event))
    }

    pub(super) fn timeout(&mut self) -> &mut Self {
        self.input(Input::Timeout)
    }

    pub(super) fn after(&mut self, millis: u64) -> &mut Self {
        self.now += Duration::from_millis(millis);
        self.timeout()
    }

    /// What was asked of the kernel since the last look, and nothing else.
    #[track_caller]
    pub(super) fn asks(&mut self, expected: &[Operation]) -> &mut Self {
        let operations: Vec<_> = self.operations.drain(..).collect();
        assert_eq!(operations, expected);
        self
    }

    /// What was told since the last look, and nothing else.
    #[track_caller]
    pub(super) fn tells(&mut self, expected: &[Notice]) -> &mut Self {
        assert_eq!(std::mem::take(&mut self.notices), expected);
        self
    }

    /// Nothing was asked and nothing told.
    #[track_caller]
    pub(super) fn is_quiet(&mut self) -> &mut Self {
        self.asks(&[]).tells(&[])
    }

    /// Whatever was asked is forgotten.
    pub(super) fn ignore(&mut self) -> &mut Self {
        self.operations.clear();
        self.notices.clear();
        self
    }

    /// How long until the next timeout is due, in milliseconds. `None`: none is.
    pub(super) fn wait(&self) -> Option<u64> {
        let at = self.supervisor.next_timeout()?;
        Some(u64::try_from(at.since(self.now).as_millis()).unwrap())
    }

    pub(super) fn start(&mut self, worker: WorkerId) -> &mut Self {
        self.start_with(worker, None)
    }

    pub(super) fn start_with(
        &mut self,
        worker: WorkerId,
        group: Option<Arc<std::ffi::CStr>>,
    ) -> &mut Self {
        let spec = Arc::new(ExecSpec { group, ..ExecSpec::default() });
        self.request(Request::Start { worker, spec })
    }

    pub(super) fn forked(&mut self, worker: WorkerId, pid: u32) -> &mut Self {
        self.answer(Answer::Forked { worker, result: Ok(process(pid)) })
    }

    pub(super) fn executed(&mut self, worker: WorkerId) -> &mut Self {
        self.event(KernelEvent::Executed { worker, result: Ok(()) })
    }

    /// A worker that runs, with this first process.
    pub(super) fn running(&mut self, worker: WorkerId, pid: u32) -> &mut Self {
        self.start(worker).forked(worker, pid).executed(worker).ignore()
    }

    /// A worker that runs in a cgroup of its own.
    pub(super) fn running_in_group(&mut self, worker: WorkerId, pid: u32) -> &mut Self {
        let group = Some(c"/cgroup".into());
        self.start_with(worker, group).forked(worker, pid).executed(worker).ignore()
    }

    pub(super) fn signal(&mut self, worker: WorkerId, signal: Signal) -> &mut Self {
        self.request(Request::Signal { worker, signal })
    }

    pub(super) fn ready(&mut self, number: u64) -> &mut Self {
        self.event(KernelEvent::Ready(handle(number)))
    }

    pub(super) fn status(&mut self, number: u64, status: Status) -> &mut Self {
        self.answer(Answer::Status { handle: handle(number), status })
    }

    /// Its first process has ended, as a child does.
    pub(super) fn leader_ends(&mut self, number: u64, exit: Exit) -> &mut Self {
        self.ready(number);
        self.asks(&[Operation::ReadStatus(handle(number))]);
        self.status(number, Status::Ended(exit))
    }

    /// The table of the scan, with these handles' processes in it.
    pub(super) fn processes(
        &mut self,
        scan: u64,
        table: ProcessTable,
        unreaped: &[u64],
    ) -> &mut Self {
        let unreaped: BTreeSet<Handle> = unreaped.iter().map(|&number| handle(number)).collect();
        self.answer(Answer::Processes { scan, result: Ok((table, unreaped)) })
    }

    pub(super) fn environments(
        &mut self,
        scan: u64,
        environments: &[(u32, Environment)],
    ) -> &mut Self {
        let environments =
            environments.iter().map(|&(pid, environment)| (process(pid), environment)).collect();
        self.event(KernelEvent::Environments { scan, environments })
    }

    pub(super) fn opened(&mut self, number: u64, result: Result<bool, Errno>) -> &mut Self {
        self.answer(Answer::Opened { handle: handle(number), result })
    }

    pub(super) fn signalled(&mut self, number: u64, result: Result<bool, Errno>) -> &mut Self {
        let scope = SignalScope::Process;
        self.answer(Answer::Signalled { handle: handle(number), scope, result })
    }

    pub(super) fn group(&mut self, worker: WorkerId, populated: bool, oom_kills: u64) -> &mut Self {
        let result = Ok(Some(GroupState { populated, oom_kills }));
        self.answer(Answer::Group { worker, result })
    }

    pub(super) fn group_killed(&mut self, worker: WorkerId) -> &mut Self {
        self.answer(Answer::GroupKilled { worker, result: Ok(()) })
    }
}

/// A scan of the reaper.
pub(super) fn scan(number: u64, skip: &[u32], check: &[u64]) -> Operation {
    Operation::ReadProcesses {
        scan: number,
        scope: TableScope::Descendants { skip: skip.iter().copied().collect() },
        check: check.iter().map(|&number| handle(number)).collect(),
    }
}

/// A scan of another process.
pub(super) fn scan_all(number: u64, check: &[u64]) -> Operation {
    let check = check.iter().map(|&number| handle(number)).collect();
    Operation::ReadProcesses { scan: number, scope: TableScope::All, check }
}
