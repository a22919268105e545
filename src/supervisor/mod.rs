//! The supervisor: decides how the kernel is made to do what the node wishes. The second pure
//! state machine, beside [`crate::machine`].
//!
//! ```text
//!            Input                                         Output
//!  Request ────────┐       ┌────────────────────┐   ┌────▶ Operation ─▶ Kernel
//!  Answer ─────────┼─────▶ │ Supervisor::handle │ ──┤
//!  KernelEvent ────┤       └────────────────────┘   └────▶ Notice
//!  Timeout ────────┘           next_timeout()
//! ```
//!
//! It has no clock, no descriptor and no thread. Its inputs are the time of each input, requests,
//! and what the kernel tells; the same inputs give the same outputs. It runs in the shim, which
//! parents the workers, and in the agent: for programs that embed it, and for workers whose shim
//! has died. [`run`] drives it on a [`Kernel`].
//!
//! A worker's life here:
//!
//! ```text
//!  Start ─▶ Forking ─▶ loading ─▶ Running ─▶ ended ───────────────┐
//!  Adopt ─▶ Sought ─▶ Opening ──────┘   Signal(Kill) ──────────┐  │
//!                                                              ▼  ▼
//!                       Kill { empty: false } ─ look, SIGKILL, wait for the ends, look …
//!                       Kill { empty: true }  ─ the leader is reaped ─▶ Ended
//! ```
//!
//! **A leader that has ended is not reaped before its tree is gone**: until then its pid, and with
//! it the number of its session and group, can be no other process's.
//!
//! **What belongs to a worker** is what its cgroup holds, where it has one. Else it is worked out
//! from the process table (`attribution`); the table is read only when something has ended or is
//! signalled, and one scan serves all workers that need one.
//!
//! Rules for what drives it:
//!
//! 1. Operations are carried out in order, and each answer is handed in before the next operation.
//! 2. After the inputs of a batch comes [`Input::Timeout`]: scans are made then. Again when
//!    [`Supervisor::next_timeout`] has come.

#![forbid(unsafe_code)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

mod adopt;
mod attribution;
mod command;
mod end;
mod exec;
mod groups;
pub mod invariants;
mod kernel;
mod kill;
mod notice;
mod orphans;
mod process_table;
mod scan;
mod start;
mod template;
#[cfg(test)]
mod tests;
mod worker;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub use command::{CommandError, WorkerCommand};
pub use exec::{ExecSpec, OutputFiles};
pub use kernel::{
    Answer, Environment, Errno, GroupState, Handle, Kernel, KernelEvent, Operation, SignalScope,
    Status, TableScope,
};
pub use notice::{Notice, Request, StartFailure};
pub use process_table::{ProcessTable, Stat};
pub use template::{CommandTemplate, Inherited, Places};

use self::{orphans::Orphans, scan::Scan, worker::Worker};
use crate::{
    ids::WorkerId,
    machine::{Mono, Process},
};

/// The variable that names a worker to its own process, and to a supervisor whatever that started.
pub const WORKER_ID_VARIABLE: &str = "ARROYO__WORKER__ID";

/// What a supervisor is told.
#[derive(Clone, PartialEq, Debug)]
pub enum Input {
    /// It is asked for something.
    Request(Request),
    /// An operation was carried out.
    Answer(Answer),
    /// Something has happened.
    Event(KernelEvent),
    /// A batch of inputs is complete, or the time of `next_timeout` has come.
    Timeout,
}

/// What comes of an input.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Output {
    /// To be carried out, in this order.
    pub operations: VecDeque<Operation>,
    /// To be told, in this order.
    pub notices: Vec<Notice>,
}

/// How a supervisor works.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Config {
    /// Which process orphans go to.
    pub reaper: Reaper,
    /// Whether workers may have cgroups of their own.
    pub groups: bool,
}

/// Which process becomes the parent of processes that lost theirs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reaper {
    /// Some other.
    Another,
    /// The supervisor's: it is a child subreaper. It reaps them, and looks for its workers'
    /// processes only among its descendants.
    This,
}

/// Supervises the workers of one process.
#[derive(Clone, Debug)]
pub struct Supervisor {
    config: Config,
    workers: BTreeMap<WorkerId, Worker>,
    /// What the handles are for that have been asked for and not closed.
    handles: BTreeMap<Handle, Role>,
    last_handle: u64,
    /// Which worker's leader a pid is: of children only.
    leaders: BTreeMap<u32, WorkerId>,
    /// Workers for which the next timeout makes a scan.
    due: BTreeSet<WorkerId>,
    /// Workers and when to look at them again.
    checks: BTreeSet<(Mono, WorkerId)>,
    /// Scans that wait for environments.
    scans: BTreeMap<u64, Scan>,
    last_scan: u64,
    orphans: Orphans,
    /// Cgroups that could not be removed, when to try again, and how often that was tried.
    leftover_groups: BTreeMap<WorkerId, (Mono, u32)>,
}

/// What a handle is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Role {
    /// A worker's first process.
    Leader(WorkerId),
    /// Another process of a worker, which was killed.
    Victim(WorkerId, Process),
    /// A worker's first process that was given up while it was traced: a child, to be reaped once
    /// its tracer lets go.
    Unreaped,
}

/// Hands an input to a supervisor, and has the kernel carry out what comes of it. Returns what is
/// to be told.
pub fn run(
    supervisor: &mut Supervisor,
    kernel: &mut dyn Kernel,
    now: Mono,
    input: Input,
) -> Vec<Notice> {
    let mut output = Output::default();
    supervisor.handle(now, input, &mut output);
    while let Some(operation) = output.operations.pop_front() {
        if let Some(answer) = kernel.carry_out(operation) {
            supervisor.handle(now, Input::Answer(answer), &mut output);
        }
    }
    output.notices
}

impl Supervisor {
    /// A supervisor without workers.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            workers: BTreeMap::new(),
            handles: BTreeMap::new(),
            last_handle: 0,
            leaders: BTreeMap::new(),
            due: BTreeSet::new(),
            checks: BTreeSet::new(),
            scans: BTreeMap::new(),
            last_scan: 0,
            orphans: Orphans::default(),
            leftover_groups: BTreeMap::new(),
        }
    }

    /// Takes in one input.
    ///
    /// # Panics
    /// In debug builds, if an invariant is broken.
    pub fn handle(&mut self, now: Mono, input: Input, out: &mut Output) {
        match input {
            Input::Request(request) => self.handle_request(request, out),
            Input::Answer(answer) => self.handle_answer(now, answer, out),
            Input::Event(event) => self.handle_event(now, event, out),
            Input::Timeout => self.handle_timeout(now, out),
        }
        if cfg!(debug_assertions)
            && let Err(violation) = invariants::check(self)
        {
            panic!("{violation}");
        }
    }

    /// When [`Input::Timeout`] is due at the latest; `Mono(0)`: at once.
    pub fn next_timeout(&self) -> Option<Mono> {
        if !self.due.is_empty() || self.orphans.more_wait() {
            return Some(Mono(0));
        }
        let checks = self.checks.first().map(|(at, _)| *at);
        let scans = self.scans.values().map(Scan::deadline).min();
        let groups = self.leftover_groups.values().map(|(at, _)| *at).min();
        [checks, scans, groups].into_iter().flatten().min()
    }

    fn handle_request(&mut self, request: Request, out: &mut Output) {
        match request {
            Request::Start { worker, spec } => self.start(worker, spec, out),
            Request::Adopt { worker, process } => self.adopt(worker, process, out),
            Request::FinishStart { worker } => self.finish_start(worker, out),
            Request::Track { worker, process } => self.track(worker, process, out),
            Request::TakeOver { worker, process } => self.take_over(worker, process, out),
            Request::BackupKill { worker } => self.backup_kill(worker, out),
            Request::Signal { worker, signal } => self.signal(worker, signal, out),
            Request::Untrack { worker } => self.untrack(worker, out),
        }
    }

    fn handle_answer(&mut self, now: Mono, answer: Answer, out: &mut Output) {
        match answer {
            Answer::Forked { worker, result } => self.handle_forked(worker, result, out),
            Answer::Opened { handle, result } => self.handle_opened(now, handle, result, out),
            Answer::Signalled { handle, scope, result } => {
                self.handle_signalled(handle, scope, result, out);
            }
            Answer::ProcessSignalled { worker, process, result } => {
                if let Err(error) = result {
                    self.report_error(worker, &format!("pid {}: {error}", process.pid), out);
                }
            }
            Answer::Status { handle, status } => self.handle_status(now, handle, status, out),
            Answer::Processes { scan, result } => self.handle_processes(now, scan, result, out),
            Answer::DeadChild(pid) => self.handle_dead_child(pid, out),
            Answer::Group { worker, result } => self.handle_group(now, worker, result, out),
            Answer::Members { worker, result } => self.handle_members(now, worker, result, out),
            Answer::GroupKilled { worker, result } => {
                self.handle_group_killed(now, worker, result, out);
            }
            Answer::GroupRemoved { worker, result } => {
                self.handle_group_removed(now, worker, result, out);
            }
        }
    }

    fn handle_event(&mut self, now: Mono, event: KernelEvent, out: &mut Output) {
        match event {
            KernelEvent::Ready(handle) => match self.handles.get(&handle) {
                Some(Role::Leader(_) | Role::Unreaped) => out.ask(Operation::ReadStatus(handle)),
                Some(&Role::Victim(worker, process)) => self.victim_ended(worker, process, out),
                None => {}
            },
            KernelEvent::Executed { worker, result } => self.handle_executed(worker, result, out),
            KernelEvent::Environments { scan, environments } => {
                self.handle_environments(now, scan, &environments, out);
            }
            KernelEvent::GroupChanged(worker) => {
                if self.workers.get(&worker).is_some_and(Worker::has_group) {
                    out.ask(Operation::ReadGroup(worker));
                }
            }
            KernelEvent::ChildEnded => {
                self.orphans.child_ended();
                let unreaped = self.handles.iter().filter(|(_, role)| **role == Role::Unreaped);
                unreaped.for_each(|(&handle, _)| out.ask(Operation::ReadStatus(handle)));
            }
        }
    }

    fn handle_timeout(&mut self, now: Mono, out: &mut Output) {
        while let Some(&(at, worker)) = self.checks.first()
            && at <= now
        {
            self.set_check(worker, None);
            self.check(now, worker, out);
        }
        self.give_up_scans(now, out);
        self.begin_scan(out);
        self.retry_leftover_groups(now, out);
        self.reap_orphans(out);
    }

    /// Looks at a worker because its time has come.
    fn check(&mut self, now: Mono, id: WorkerId, out: &mut Output) {
        let Some(worker) = self.workers.get(&id) else { return };
        match worker.leader {
            worker::Leader::Opening { .. } => self.open_leader(id, out),
            worker::Leader::Unwaitable { handle, give_up_at, exit: None, .. }
                if give_up_at <= now =>
            {
                out.ask(Operation::ReadStatus(handle));
            }
            _ => {}
        }
        let Some(worker) = self.workers.get(&id) else { return };
        match worker.task {
            worker::Task::Seek | worker::Task::Terminate => self.look(id, out),
            worker::Task::Kill { empty: false } => {
                if worker.has_group() {
                    // The kernel leaves out a process whose first thread has ended while its others
                    // run on (seen with Linux 6.18): what is still there is killed one by one.
                    out.ask(Operation::ReadMembers(id));
                }
                self.look(id, out);
            }
            worker::Task::Kill { empty: true } | worker::Task::Watch => {}
        }
    }

    fn new_handle(&mut self, role: Role) -> Handle {
        self.last_handle += 1;
        let handle = Handle(self.last_handle);
        self.handles.insert(handle, role);
        handle
    }

    fn close(&mut self, handle: Handle, out: &mut Output) {
        if self.handles.remove(&handle).is_some() {
            out.ask(Operation::Close(handle));
        }
    }

    fn set_check(&mut self, id: WorkerId, at: Option<Mono>) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        if let Some(before) = std::mem::replace(&mut worker.check_at, at) {
            self.checks.remove(&(before, id));
        }
        if let Some(at) = at {
            self.checks.insert((at, id));
        }
    }

    /// Forgets a worker and all that is held for it.
    fn remove(&mut self, id: WorkerId, out: &mut Output) -> Option<Worker> {
        self.set_check(id, None);
        let worker = self.workers.remove(&id)?;
        self.due.remove(&id);
        for &handle in worker.victims.values() {
            self.close(handle, out);
        }
        if let worker::Leader::Opening { handle, .. } | worker::Leader::Forking { handle } =
            worker.leader
        {
            self.close(handle, out);
        }
        if let Some(handle) = worker.leader.handle() {
            self.close(handle, out);
        }
        if let Some(process) = worker.leader.process()
            && self.leaders.get(&process.pid) == Some(&id)
        {
            self.leaders.remove(&process.pid);
        }
        Some(worker)
    }

    /// Tells that a signal could not be sent, once for each time that one is asked for.
    fn report_error(&mut self, id: WorkerId, error: &str, out: &mut Output) {
        if let Some(worker) = self.workers.get_mut(&id)
            && std::mem::take(&mut worker.report_error)
            && !worker.is_tracked()
        {
            let error = error.to_owned();
            out.notices.push(Notice::SignalFailed { worker: id, error });
        }
    }
}

impl Output {
    fn ask(&mut self, operation: Operation) {
        self.operations.push_back(operation);
    }
}
