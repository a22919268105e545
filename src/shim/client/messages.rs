//! What goes to the shim and what comes from it.

use super::{
    super::{
        LinkId,
        payload::MAX_PART,
        protocol::{self, RequestKind, Response, ResponseKind},
        registry::Order,
        watchdog::Watchdog,
    },
    Client, ClientAction, ClientOutput, Known, LogLevel, State,
};
use crate::{
    ids::WorkerId,
    machine::{Event, Exit, Mono, Process, Signal},
    supervisor::Request as LocalRequest,
};

impl Client {
    pub(super) fn handle_response(
        &mut self,
        now: Mono,
        link: LinkId,
        response: Response,
        out: &mut ClientOutput,
    ) {
        // A kind of a later version: nothing like it was asked for.
        let Some(kind) = response.kind else { return };
        match &mut self.state {
            State::Greeting { known, .. } => match kind {
                ResponseKind::Known(worker) => known.push(worker.into()),
                ResponseKind::ListEnd(_) => {
                    let known = std::mem::take(known);
                    self.state = State::Connected { link, watchdog: None };
                    self.greeted(known, out);
                }
                ResponseKind::Refused(refused) => self.refused(now, link, refused.reason, out),
                // What else there is to tell is in the list.
                _ => {}
            },
            State::Connected { watchdog, .. } => {
                *watchdog = watchdog.map(|watchdog| watchdog.answered(now));
                self.handle_told(kind, out);
            }
            _ => {}
        }
    }

    fn greeted(&mut self, known: Vec<Known>, out: &mut ClientOutput) {
        self.failures = 0;
        self.launched = false;
        self.unsettled = false;
        self.consult(out, |registry, then| registry.compare(&known, then));
        if std::mem::replace(&mut self.begun, true) {
            let text = "connected to a shim".to_owned();
            out.push_back(ClientAction::Log(LogLevel::Info, text));
        } else {
            out.push_back(ClientAction::Ready(known));
        }
    }

    fn handle_told(&mut self, kind: ResponseKind, out: &mut ClientOutput) {
        match kind {
            ResponseKind::Spawned(protocol::Spawned { worker, pid, start_time }) => {
                let (worker, process) = (WorkerId(worker), Process { pid, start_time });
                self.consult(out, |registry, then| registry.started(worker, process, then));
            }
            ResponseKind::SpawnFailed(protocol::Failed { worker, reason }) => {
                self.consult(out, |registry, then| {
                    registry.start_failed(WorkerId(worker), reason, then);
                });
            }
            ResponseKind::Exited(protocol::Exited { worker, exit }) => {
                let exit = exit.map_or(Exit::Unknown, Into::into);
                self.consult(out, |registry, then| registry.ended(WorkerId(worker), exit, then));
            }
            ResponseKind::SignalFailed(protocol::Failed { worker, reason }) => {
                let error = reason.into();
                let event = Event::SignalFailed { worker: WorkerId(worker), error };
                out.push_back(ClientAction::Tell(event));
            }
            ResponseKind::Unsupported(protocol::Unsupported { reason })
            | ResponseKind::Refused(protocol::Refused { reason }) => {
                let text = format!("the shim did not understand this agent: {reason}");
                out.push_back(ClientAction::Log(LogLevel::Error, text));
            }
            ResponseKind::Welcome(_) | ResponseKind::Known(_) | ResponseKind::ListEnd(_) => {}
        }
    }

    /// The shim owes an end and is silent: what it is to kill is killed for it. It may yet tell of
    /// the ends.
    pub(super) fn backup_kill(&mut self, first: bool, out: &mut ClientOutput) {
        let pending: Vec<_> = self.registry.kill_pending().collect();
        if first && !pending.is_empty() {
            let number = pending.len();
            let text = format!("the shim is silent: {number} workers are killed in its place");
            out.push_back(ClientAction::Log(LogLevel::Error, text));
        }
        let local = pending.into_iter().map(|worker| LocalRequest::BackupKill { worker });
        out.extend(local.map(ClientAction::Local));
    }

    pub(super) fn send_orders(&mut self, now: Mono, out: &mut ClientOutput) {
        self.plan_backup(now);
        let State::Connected { link, watchdog } = &mut self.state else { return };
        let link = *link;
        while let Some(order) = self.registry.next_order() {
            *watchdog = watchdog.map(|watchdog| watchdog.asked(now));
            match order {
                Order::Start(worker, payload) => {
                    let parts = payload.chunks(MAX_PART);
                    let last = parts.len() - 1;
                    out.extend(parts.enumerate().map(|(nth, part)| {
                        let (worker, payload) = (worker.0, part.to_vec());
                        let spawn = protocol::Spawn { worker, payload, more: nth < last };
                        ClientAction::Send(link, RequestKind::Spawn(spawn).into())
                    }));
                }
                Order::Signal(worker, signal) => {
                    let kill = signal == Signal::Kill;
                    let signal = protocol::SignalWorker { worker: worker.0, kill };
                    out.push_back(ClientAction::Send(link, RequestKind::Signal(signal).into()));
                }
                Order::Release(worker) => {
                    let release = protocol::Release { worker: worker.0 };
                    out.push_back(ClientAction::Send(link, RequestKind::Release(release).into()));
                }
            }
        }
        *watchdog = match (self.registry.shim_owes(), *watchdog) {
            (false, _) => None,
            (true, None) => Some(Watchdog::new(now)),
            (true, watchdog) => watchdog,
        };
    }
}
