//! Workers that another supervisor started: adopted, tracked, taken over.

use std::time::Duration;

use super::{
    Notice, Operation, Output, Role, StartFailure, Supervisor,
    kernel::{Errno, Handle},
    process_table::Stat,
    worker::{Group, Leader, Origin, Program, Task, Worker},
};
use crate::{
    ids::WorkerId,
    machine::{Exit, Mono, Process, Signal},
};

/// How long apart a worker is looked for that may not have been seen yet.
const LOOK_PAUSE: Duration = Duration::from_millis(50);

/// When to try again what failed for want of descriptors or memory.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What a look for a worker has shown of which no process was known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    /// What is taken for its first process.
    pub(super) leader: Option<Stat>,
    /// Whether there is something of it.
    pub(super) has_others: bool,
    /// Whether there was a process of which it could not be told whose it is.
    pub(super) unsure: bool,
    /// Whether not everything was looked at.
    pub(super) cut_short: bool,
}

impl Supervisor {
    pub(super) fn adopt(&mut self, id: WorkerId, process: Option<Process>, out: &mut Output) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.origin = Origin::Adopted;
            if worker.is_found() {
                self.tell_found(id, out);
                self.look_if_ended(id, out);
            }
            return;
        }
        self.find(id, process, Origin::Adopted, out);
    }

    pub(super) fn finish_start(&mut self, id: WorkerId, out: &mut Output) {
        self.find(id, None, Origin::Unclear, out);
    }

    pub(super) fn track(&mut self, id: WorkerId, process: Process, out: &mut Output) {
        self.find(id, Some(process), Origin::Tracked, out);
    }

    pub(super) fn take_over(&mut self, id: WorkerId, process: Process, out: &mut Output) {
        match self.workers.get_mut(&id) {
            Some(worker) if worker.is_tracked() => {
                worker.origin = Origin::TakenOver;
                self.look_if_ended(id, out);
            }
            Some(_) => {}
            None => self.find(id, Some(process), Origin::TakenOver, out),
        }
    }

    pub(super) fn untrack(&mut self, id: WorkerId, out: &mut Output) {
        if self.workers.get(&id).is_some_and(Worker::is_tracked)
            && let Some(worker) = self.remove(id, out)
            && worker.signal == Some(Signal::Kill)
            && worker.leaves_group()
        {
            // It has ended, and its supervisor does the same; but the kernel port watches it here.
            out.ask(Operation::RemoveGroup(id));
        }
    }

    fn find(&mut self, id: WorkerId, process: Option<Process>, origin: Origin, out: &mut Output) {
        if self.workers.contains_key(&id) {
            return;
        }
        let leader = match process {
            Some(process) => Leader::Opening { process, handle: self.new_handle(Role::Leader(id)) },
            None => Leader::Sought,
        };
        let group = if self.config.groups { Group::Sought } else { Group::None };
        self.workers.insert(id, Worker::new(origin, leader, Program::Run, group));
        if self.config.groups {
            out.ask(Operation::ReadGroup(id));
        } else {
            self.open_leader(id, out);
        }
    }

    /// What is to be done next to find a worker's first process.
    pub(super) fn open_leader(&mut self, id: WorkerId, out: &mut Output) {
        let Some(worker) = self.workers.get(&id) else { return };
        match worker.leader {
            Leader::Opening { process, handle } => out.ask(Operation::Open { handle, process }),
            Leader::Sought => self.look(id, out),
            _ => {}
        }
    }

    pub(super) fn handle_opened(
        &mut self,
        now: Mono,
        handle: Handle,
        result: Result<bool, Errno>,
        out: &mut Output,
    ) {
        match self.handles.get(&handle) {
            Some(&Role::Leader(id)) => self.leader_opened(now, id, result, out),
            Some(&Role::Victim(id, process)) => match result {
                Ok(true) => {}
                Ok(false) => {
                    self.handles.remove(&handle);
                    self.forget_victim(id, process);
                }
                Err(error) => {
                    self.handles.remove(&handle);
                    self.forget_victim(id, process);
                    self.report_error(id, &format!("pid {}: {error}", process.pid), out);
                }
            },
            Some(Role::Unreaped) | None => {}
        }
    }

    fn leader_opened(
        &mut self,
        now: Mono,
        id: WorkerId,
        result: Result<bool, Errno>,
        out: &mut Output,
    ) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let Leader::Opening { process, handle } = worker.leader else { return };
        match result {
            Ok(true) => {
                worker.leader = Leader::Running { process, handle };
                self.tell_found(id, out);
                // It may have ended before it was watched.
                out.ask(Operation::ReadStatus(handle));
                self.carry_out_signal(id, out);
            }
            Ok(false) => {
                self.handles.remove(&handle);
                self.lost(id, Some(process), out);
            }
            Err(error) => {
                // For want of descriptors or memory. The worker may be alive.
                let text = format!("cannot tell whether it lives: {error}; trying again");
                out.notices.push(Notice::Warning { worker: id, text });
                self.set_check(id, Some(now + RETRY_AFTER));
            }
        }
    }

    /// The first process of a worker is gone, and how it ended nobody can tell.
    pub(super) fn lost(&mut self, id: WorkerId, process: Option<Process>, out: &mut Output) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        worker.leader = Leader::Gone { process, exit: Exit::Unknown };
        if let Origin::Unclear = worker.origin {
            worker.program = Program::Failed(StartFailure::SupervisorDied);
        }
        if worker.is_tracked() && worker.signal != Some(Signal::Kill) {
            worker.task = Task::Watch;
        } else {
            self.kill_tree(id, out);
        }
    }

    /// A look for a worker of which no process was known has come to an end.
    pub(super) fn sought(&mut self, now: Mono, id: WorkerId, look: &Look, out: &mut Output) {
        if let Some(Stat { process, loading, .. }) = look.leader {
            let handle = self.new_handle(Role::Leader(id));
            let Some(worker) = self.workers.get_mut(&id) else { return };
            // It may be a child with a session of its own that has outlived the first process.
            worker.is_guess = loading != Some(id);
            (worker.leader, worker.task) = (Leader::Opening { process, handle }, Task::Watch);
            return self.open_leader(id, out);
        }
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let pause = if look.cut_short { worker.next_backoff() } else { LOOK_PAUSE };
        let may_appear = look.has_others || look.unsure || matches!(worker.origin, Origin::Unclear);
        // A process that was forked a moment ago has neither name nor session of its own. Its
        // table may be older than its environment.
        if look.cut_short || (may_appear && worker.looks_left > 1) {
            worker.looks_left -= u32::from(!look.cut_short);
            return self.set_check(id, Some(now + pause));
        }
        if look.has_others {
            return self.lost(id, None, out);
        }
        if let Origin::Unclear = worker.origin {
            worker.program = Program::Failed(StartFailure::SupervisorDied);
            worker.leader = Leader::Gone { process: None, exit: Exit::Unknown };
            return self.finish(id, out);
        }
        let had_group = worker.leaves_group();
        self.remove(id, out);
        if had_group {
            out.ask(Operation::RemoveGroup(id));
        }
        out.notices.push(Notice::NeverRan(id));
    }

    /// Tells that a worker is alive to whatever asked.
    fn tell_found(&mut self, id: WorkerId, out: &mut Output) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let Leader::Running { process, .. } = worker.leader else { return };
        match worker.origin {
            Origin::Adopted => out.notices.push(Notice::Adopted { worker: id, process }),
            Origin::Unclear => {
                worker.origin = Origin::Started;
                out.notices.push(Notice::Started { worker: id, process });
            }
            Origin::Started | Origin::TakenOver | Origin::Tracked => {}
        }
    }

    /// While a worker was tracked, nothing was done about its end.
    fn look_if_ended(&mut self, id: WorkerId, out: &mut Output) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        match worker.leader {
            Leader::Running { handle, .. } => out.ask(Operation::ReadStatus(handle)),
            Leader::Forking { .. } | Leader::Sought | Leader::Opening { .. } => {}
            Leader::Held { .. } | Leader::Unwaitable { .. } | Leader::Gone { .. } => {
                worker.task = Task::Kill { empty: false };
                self.look(id, out);
            }
        }
    }
}
