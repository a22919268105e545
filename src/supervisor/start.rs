//! Starting a worker: fork, then wait for the program to run. Nothing here waits for it.

use std::sync::Arc;

use super::{
    ExecSpec, Notice, Operation, Output, Role, SignalScope, StartFailure, Supervisor,
    worker::{Group, Leader, Origin, Program, Worker},
};
use crate::{
    ids::WorkerId,
    machine::{Exit, Process, Signal},
};

impl Supervisor {
    pub(super) fn start(&mut self, id: WorkerId, spec: Arc<ExecSpec>, out: &mut Output) {
        if self.workers.contains_key(&id) {
            let failure = StartFailure::AlreadyStarted;
            return out.notices.push(Notice::StartFailed { worker: id, failure });
        }
        let handle = self.new_handle(Role::Leader(id));
        let group = match spec.group {
            Some(_) => Group::Own { oom_kills: 0, populated: true },
            None => Group::None,
        };
        let leader = Leader::Forking { handle };
        self.workers.insert(id, Worker::new(Origin::Started, leader, Program::Loading, group));
        out.ask(Operation::Start { worker: id, handle, spec });
    }

    pub(super) fn handle_forked(
        &mut self,
        id: WorkerId,
        result: Result<Process, String>,
        out: &mut Output,
    ) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let Leader::Forking { handle } = worker.leader else { return };
        match result {
            Ok(process) => {
                worker.leader = Leader::Running { process, handle };
                self.leaders.insert(process.pid, id);
                self.carry_out_signal(id, out);
            }
            Err(reason) => {
                // There is no process, and so nothing to close.
                self.handles.remove(&handle);
                worker.leader = Leader::Gone { process: None, exit: Exit::Unknown };
                worker.program = Program::Failed(StartFailure::Refused(reason));
                self.finish(id, out);
            }
        }
    }

    pub(super) fn handle_executed(
        &mut self,
        id: WorkerId,
        result: Result<(), String>,
        out: &mut Output,
    ) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        if worker.program != Program::Loading {
            return;
        }
        match result {
            Ok(()) => {
                worker.program = Program::Run;
                if let Some(process) = worker.leader.process() {
                    out.notices.push(Notice::Started { worker: id, process });
                }
                self.finish_if_ended(id, out);
            }
            Err(reason) => {
                worker.program = Program::Failed(StartFailure::Refused(reason));
                // It is about to exit by itself. Nothing of it is to be left when that is told.
                if let Some(handle) = worker.leader.handle() {
                    let (signal, scope) = (Signal::Kill, SignalScope::Process);
                    out.ask(Operation::Signal { handle, signal, scope });
                    out.ask(Operation::ReadStatus(handle));
                }
                self.finish_if_ended(id, out);
            }
        }
    }
}
