//! Signals: SIGTERM once to each process of a worker, SIGKILL until nothing is left.

use std::time::Duration;

use super::{
    Operation, Output, Role, Supervisor,
    kernel::{Errno, Handle, SignalScope},
    process_table::Stat,
    worker::{Leader, Task, Worker},
};
use crate::{
    ids::WorkerId,
    machine::{Mono, Process, Signal},
};

/// So many of a worker's dying processes are waited for at once: more would only cost descriptors,
/// and all were killed.
const MAX_VICTIMS: usize = 16;

/// How often, and how long apart, a worker is looked for again of which nothing was found while
/// there was a process whose owner could not be told.
const MAX_INCONCLUSIVE_SCANS: u32 = 5;
const INCONCLUSIVE_PAUSE: Duration = Duration::from_millis(20);

impl Supervisor {
    pub(super) fn signal(&mut self, id: WorkerId, signal: Signal, out: &mut Output) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        worker.signal = worker.signal.max(Some(signal));
        worker.report_error = true;
        if !worker.is_found() {
            // It is carried out once it is.
            return;
        }
        match (signal, worker.task) {
            (Signal::Kill, _) => self.kill_tree(id, out),
            (Signal::Terminate, Task::Watch | Task::Terminate) => {
                worker.task = Task::Terminate;
                self.look(id, out);
            }
            // It is being killed.
            (Signal::Terminate, Task::Kill { .. } | Task::Seek) => {}
        }
    }

    /// Carries out what was asked for before the first process was known.
    pub(super) fn carry_out_signal(&mut self, id: WorkerId, out: &mut Output) {
        if let Some(signal) = self.workers.get(&id).and_then(|worker| worker.signal) {
            self.signal(id, signal, out);
        }
    }

    pub(super) fn backup_kill(&mut self, id: WorkerId, out: &mut Output) {
        if self.workers.get(&id).is_some_and(Worker::is_tracked) {
            self.signal(id, Signal::Kill, out);
        }
    }

    /// Makes it the worker's task to be killed until nothing of it is left.
    pub(super) fn kill_tree(&mut self, id: WorkerId, out: &mut Output) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        worker.task = Task::Kill { empty: false };
        worker.reset_backoff();
        if worker.has_group() && matches!(worker.leader, Leader::Running { .. }) {
            out.ask(Operation::KillGroup(id));
        } else {
            self.look(id, out);
        }
    }

    /// SIGTERM to each member, and to the leader. Each is to get it once.
    pub(super) fn terminate(&mut self, id: WorkerId, members: &[Stat], out: &mut Output) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        if worker.task == Task::Terminate {
            worker.task = Task::Watch;
        }
        let signal = Signal::Terminate;
        let leader = worker.leader.process().zip(worker.leader.handle());
        if let Some((_, handle)) = leader {
            out.ask(Operation::Signal { handle, signal, scope: SignalScope::Process });
        }
        self.terminate_others(id, members, out);
    }

    /// SIGTERM to these, but not to the leader.
    pub(super) fn terminate_others(&self, id: WorkerId, members: &[Stat], out: &mut Output) {
        let leader = self.workers.get(&id).and_then(|worker| worker.leader.process());
        let signal = Signal::Terminate;
        for process in members.iter().map(|stat| stat.process).filter(|&p| Some(p) != leader) {
            out.ask(Operation::SignalProcess { worker: id, process, signal });
        }
    }

    /// Kills what was found, and waits for its end.
    pub(super) fn kill(&mut self, now: Mono, id: WorkerId, members: &[Stat], out: &mut Output) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        worker.task = Task::Kill { empty: false };
        worker.inconclusive_scans = 0;
        // The kernel does this in one go: a fork under way fails, and nothing is missed.
        self.kill_process_group(id, out);
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let wait = worker.next_backoff();
        self.set_check(id, Some(now + wait));
        for member in members {
            self.kill_one(id, member.process, out);
        }
    }

    fn kill_process_group(&self, id: WorkerId, out: &mut Output) {
        if let Some(handle) = self.workers.get(&id).and_then(|worker| worker.leader.handle()) {
            let (signal, scope) = (Signal::Kill, SignalScope::ProcessGroup);
            out.ask(Operation::Signal { handle, signal, scope });
        }
    }

    fn kill_one(&mut self, id: WorkerId, process: Process, out: &mut Output) {
        let Some(worker) = self.workers.get(&id) else { return };
        let (signal, scope) = (Signal::Kill, SignalScope::Process);
        if worker.leader.process() == Some(process)
            && let Some(handle) = worker.leader.handle()
        {
            return out.ask(Operation::Signal { handle, signal, scope });
        }
        if let Some(&handle) = worker.victims.get(&process) {
            return out.ask(Operation::Signal { handle, signal, scope });
        }
        if worker.victims.len() >= MAX_VICTIMS {
            return out.ask(Operation::SignalProcess { worker: id, process, signal });
        }
        let handle = self.new_handle(Role::Victim(id, process));
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.victims.insert(process, handle);
        }
        out.ask(Operation::Open { handle, process });
        out.ask(Operation::Signal { handle, signal, scope });
    }

    /// A look has shown nothing of a worker that is to be killed.
    pub(super) fn nothing_found(
        &mut self,
        now: Mono,
        id: WorkerId,
        inconclusive: bool,
        out: &mut Output,
    ) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        if inconclusive && worker.inconclusive_scans < MAX_INCONCLUSIVE_SCANS {
            worker.inconclusive_scans += 1;
            worker.task = Task::Kill { empty: false };
            return self.set_check(id, Some(now + INCONCLUSIVE_PAUSE));
        }
        worker.task = Task::Kill { empty: true };
        if let Leader::Running { handle, .. } = worker.leader {
            // It is hidden from this user, or has ended just now.
            let (signal, scope) = (Signal::Kill, SignalScope::Process);
            out.ask(Operation::Signal { handle, signal, scope });
            self.kill_process_group(id, out);
            if let Some(worker) = self.workers.get_mut(&id) {
                worker.task = Task::Kill { empty: false };
                let wait = worker.next_backoff();
                self.set_check(id, Some(now + wait));
            }
            return;
        }
        self.set_check(id, None);
        self.finish_if_ended(id, out);
    }

    pub(super) fn handle_signalled(
        &mut self,
        handle: Handle,
        scope: SignalScope,
        result: Result<bool, Errno>,
        out: &mut Output,
    ) {
        // A group cannot be signalled before Linux 6.9; each of its members is.
        if scope == SignalScope::ProcessGroup {
            return;
        }
        let Err(error) = result else { return };
        let (id, pid) = match self.handles.get(&handle) {
            Some(&Role::Victim(id, process)) => (id, Some(process.pid)),
            Some(&Role::Leader(id)) => {
                let leader = self.workers.get(&id).and_then(|worker| worker.leader.process());
                (id, leader.map(|leader| leader.pid))
            }
            Some(Role::Unreaped) | None => return,
        };
        self.report_error(id, &format!("pid {}: {error}", pid.unwrap_or_default()), out);
    }

    /// A process that was killed has ended.
    pub(super) fn victim_ended(&mut self, id: WorkerId, process: Process, out: &mut Output) {
        if let Some(handle) =
            self.workers.get(&id).and_then(|worker| worker.victims.get(&process).copied())
        {
            self.close(handle, out);
        }
        self.forget_victim(id, process);
    }

    /// If all have ended that the last look has found: has anything been started meanwhile?
    pub(super) fn forget_victim(&mut self, id: WorkerId, process: Process) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        worker.victims.remove(&process);
        if worker.victims.is_empty() && !worker.has_group() {
            self.due.insert(id);
        }
    }
}
