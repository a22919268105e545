//! How a worker's first process ended, and when the worker is done with.

use std::time::Duration;

use super::{
    Notice, Operation, Output, Reaper, Role, StartFailure, Supervisor,
    kernel::{Handle, Status},
    worker::{Group, Leader, Program, Task},
};
use crate::{
    ids::WorkerId,
    machine::{Exit, Mono, Signal},
};

/// How long to wait for a status that another process's reaping, or a tracer's leave, will bring.
const STATUS_TIMEOUT: Duration = Duration::from_secs(1);

impl Supervisor {
    pub(super) fn handle_status(
        &mut self,
        now: Mono,
        handle: Handle,
        status: Status,
        out: &mut Output,
    ) {
        let id = match self.handles.get(&handle) {
            Some(&Role::Leader(id)) => id,
            Some(Role::Unreaped) => return self.reap_late(handle, status, out),
            Some(Role::Victim(..)) | None => return,
        };
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let (process, before) = match worker.leader {
            Leader::Running { process, .. } => (process, None),
            Leader::Unwaitable { process, give_up_at, exit: None, .. } => {
                (process, Some(give_up_at))
            }
            _ => return,
        };
        match status {
            Status::Alive => {
                let emptied = matches!(worker.group, Group::Own { populated: false, .. });
                if emptied && matches!(worker.task, Task::Kill { .. }) {
                    self.not_in_group(now, id, out);
                }
                return;
            }
            Status::Ended(exit) => worker.leader = Leader::Held { process, handle, exit },
            Status::Unwaitable => {
                let give_up_at = before.unwrap_or(now + STATUS_TIMEOUT);
                let exit = (give_up_at <= now).then_some(Exit::Unknown);
                worker.leader = Leader::Unwaitable { process, handle, give_up_at, exit };
                if before.is_some() && exit.is_none() {
                    return;
                }
            }
            Status::Reaped(exit) => {
                let exit = exit.unwrap_or(Exit::Unknown);
                worker.leader = Leader::Gone { process: Some(process), exit };
                if self.leaders.get(&process.pid) == Some(&id) {
                    self.leaders.remove(&process.pid);
                }
                self.close(handle, out);
            }
        }
        if before.is_none() {
            self.leader_ended(id, out);
        } else {
            self.finish_if_ended(id, out);
        }
    }

    /// What the first process leaves behind is killed. Of a tracked worker another does that; and a
    /// process that could not run its program has started nothing.
    fn leader_ended(&mut self, id: WorkerId, out: &mut Output) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        if let Program::Failed(StartFailure::Refused(_)) = worker.program {
            worker.task = Task::Kill { empty: true };
            self.finish_if_ended(id, out);
        } else if !worker.is_tracked() || worker.signal == Some(Signal::Kill) {
            self.kill_tree(id, out);
        }
    }

    /// If nothing of it is left, and how it ended is settled.
    pub(super) fn finish_if_ended(&mut self, id: WorkerId, out: &mut Output) {
        let Some(worker) = self.workers.get(&id) else { return };
        let done = worker.task == Task::Kill { empty: true }
            && worker.program != Program::Loading
            && worker.exit().is_some()
            && !worker.is_tracked();
        if done {
            self.finish(id, out);
        } else if let Leader::Unwaitable { give_up_at, exit: None, .. } = worker.leader
            && worker.task == (Task::Kill { empty: true })
        {
            self.set_check(id, Some(give_up_at));
        }
    }

    fn reap_late(&mut self, handle: Handle, status: Status, out: &mut Output) {
        match status {
            Status::Ended(_) => {
                out.ask(Operation::Reap(handle));
                self.close(handle, out);
            }
            Status::Reaped(_) => self.close(handle, out),
            Status::Alive | Status::Unwaitable => {}
        }
    }

    /// Lets go of a worker of which nothing is left, and tells.
    pub(super) fn finish(&mut self, id: WorkerId, out: &mut Output) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        match worker.leader {
            Leader::Held { handle, .. } => out.ask(Operation::Reap(handle)),
            // A traced child. A reaper will find it among its orphans.
            Leader::Unwaitable { process, handle, exit: Some(exit), .. }
                if self.config.reaper == Reaper::Another
                    && self.leaders.get(&process.pid) == Some(&id) =>
            {
                worker.leader = Leader::Gone { process: Some(process), exit };
                self.handles.insert(handle, Role::Unreaped);
            }
            _ => {}
        }
        let Some(worker) = self.remove(id, out) else { return };
        if worker.leaves_group() {
            out.ask(Operation::RemoveGroup(id));
        }
        let exit = worker.exit().unwrap_or(Exit::Unknown);
        out.notices.push(match worker.program {
            Program::Failed(failure) => Notice::StartFailed { worker: id, failure },
            Program::Loading | Program::Run => Notice::Ended { worker: id, exit },
        });
    }
}
