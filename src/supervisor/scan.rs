//! Scans: one reading of the process table for all workers that need one.
//!
//! ```text
//!  due ─▶ ReadProcesses ─▶ what is known at once is signalled at once
//!                             └ candidates ─▶ ReadEnvironments ─▶ what they add is signalled
//!                                                 └ no answer in time: inconclusive
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    time::Duration,
};

use super::{
    Notice, Operation, Output, Reaper, Supervisor,
    adopt::Look,
    attribution::{Attribution, Claim},
    kernel::{Environment, Errno, Handle, TableScope},
    process_table::{ProcessTable, Stat},
    worker::{Leader, Task},
};
use crate::{
    ids::WorkerId,
    machine::{Mono, Process},
};

/// How long environments are waited for.
const ENVIRONMENTS_TIMEOUT: Duration = Duration::from_secs(1);

/// A scan under way.
#[derive(Clone, Debug)]
pub(super) struct Scan {
    sought: BTreeMap<WorkerId, Sought>,
    /// `None`: the table has yet to be read.
    attribution: Option<Attribution>,
    deadline: Mono,
}

/// A worker that a scan is about.
#[derive(Clone, Debug, Default)]
struct Sought {
    /// What was found of it already.
    found: BTreeSet<Process>,
    /// Whether what is found is sent SIGTERM.
    terminates: bool,
    /// Whether the leader has got it.
    begun: bool,
}

impl Scan {
    pub(super) fn is_about(&self, id: WorkerId) -> bool {
        self.sought.contains_key(&id)
    }

    pub(super) fn deadline(&self) -> Mono {
        self.deadline
    }
}

impl Supervisor {
    /// One scan for all workers that are due.
    pub(super) fn begin_scan(&mut self, out: &mut Output) {
        let due = mem::take(&mut self.due);
        let sought: BTreeSet<_> =
            due.into_iter().filter(|id| self.workers.contains_key(id)).collect();
        if sought.is_empty() {
            return;
        }
        self.last_scan += 1;
        let scope = match self.config.reaper {
            Reaper::Another => TableScope::All,
            Reaper::This => TableScope::Descendants { skip: self.other_leaders(&sought) },
        };
        let leaders = sought.iter().filter_map(|id| self.workers.get(id)?.leader.handle());
        let check = leaders.collect();
        out.ask(Operation::ReadProcesses { scan: self.last_scan, scope, check });
        let entry = |id| {
            let terminates = self.workers.get(&id).is_some_and(|w| w.task == Task::Terminate);
            (id, Sought { terminates, ..Sought::default() })
        };
        let sought = sought.into_iter().map(entry).collect();
        let scan = Scan { sought, attribution: None, deadline: Mono(u64::MAX) };
        self.scans.insert(self.last_scan, scan);
    }

    pub(super) fn handle_processes(
        &mut self,
        now: Mono,
        scan: u64,
        result: Result<(ProcessTable, BTreeSet<Handle>), Errno>,
        out: &mut Output,
    ) {
        let Some(mut found) = self.scans.remove(&scan) else { return };
        let (table, unreaped) = match result {
            Ok(read) => read,
            Err(error) => return self.scan_failed(now, &found, error, out),
        };
        let claims: Vec<_> = self
            .workers
            .iter()
            .map(|(&id, worker)| {
                let sought = found.sought.contains_key(&id);
                let handle = worker.leader.handle();
                Claim {
                    worker: id,
                    leader: worker.leader.process(),
                    // That others' leaders have ended is told through their handles.
                    leads: handle.is_some_and(|handle| !sought || unreaped.contains(&handle)),
                    known: &worker.known,
                    sought,
                }
            })
            .collect();
        let attribution = Attribution::new(table, &claims);
        self.act(now, &mut found, &attribution, out);
        let candidates = attribution.candidates();
        if candidates.is_empty() {
            return self.conclude(now, &found, &attribution, out);
        }
        let processes = candidates.to_vec();
        out.ask(Operation::ReadEnvironments { scan, processes });
        found.deadline = now + ENVIRONMENTS_TIMEOUT;
        found.attribution = Some(attribution);
        self.scans.insert(scan, found);
    }

    pub(super) fn handle_environments(
        &mut self,
        now: Mono,
        scan: u64,
        environments: &[(Process, Environment)],
        out: &mut Output,
    ) {
        let Some(mut found) = self.scans.remove(&scan) else { return };
        let Some(mut attribution) = found.attribution.take() else { return };
        attribution.learn(environments);
        self.act(now, &mut found, &attribution, out);
        self.conclude(now, &found, &attribution, out);
    }

    /// Concludes scans whose environments could not be had in time.
    pub(super) fn give_up_scans(&mut self, now: Mono, out: &mut Output) {
        let late: Vec<_> =
            self.scans.iter().filter(|(_, scan)| scan.deadline <= now).map(|(&id, _)| id).collect();
        for scan in late {
            self.handle_environments(now, scan, &[], out);
        }
    }

    /// Signals what was found since the last time.
    fn act(&mut self, now: Mono, scan: &mut Scan, found: &Attribution, out: &mut Output) {
        for (&id, sought) in &mut scan.sought {
            let Some(worker) = self.workers.get_mut(&id) else { continue };
            if found.was_cut_short() {
                // However often that was so: there is something.
                worker.inconclusive_scans = 0;
            }
            let mut members = found.members(id);
            if worker.task == Task::Seek {
                continue;
            }
            worker.known = members.iter().map(|stat| stat.process).collect();
            members.retain(|stat: &Stat| sought.found.insert(stat.process));
            match worker.task {
                Task::Kill { .. } if !members.is_empty() => self.kill(now, id, &members, out),
                Task::Terminate if !sought.begun => self.terminate(id, &members, out),
                Task::Watch | Task::Terminate if sought.terminates => {
                    self.terminate_others(id, &members, out);
                }
                Task::Watch | Task::Terminate | Task::Kill { .. } | Task::Seek => {}
            }
            sought.begun = true;
        }
    }

    /// What a scan has shown is all that there is to be seen.
    fn conclude(&mut self, now: Mono, scan: &Scan, found: &Attribution, out: &mut Output) {
        for (&id, sought) in &scan.sought {
            let Some(worker) = self.workers.get(&id) else { continue };
            match worker.task {
                Task::Seek if worker.leader == Leader::Sought => {
                    let look = Look {
                        leader: found.leader(id),
                        has_others: !found.members(id).is_empty(),
                        unsure: found.has_unreadable(),
                        cut_short: found.was_cut_short(),
                    };
                    self.sought(now, id, &look, out);
                }
                Task::Kill { .. } if sought.found.is_empty() => {
                    self.nothing_found(now, id, found.is_inconclusive(), out);
                }
                _ => {}
            }
        }
    }

    /// Nothing can be found; the leader and its group are signalled all the same.
    fn scan_failed(&mut self, now: Mono, scan: &Scan, error: Errno, out: &mut Output) {
        for &id in scan.sought.keys() {
            let Some(worker) = self.workers.get_mut(&id) else { continue };
            let wait = worker.next_backoff();
            let text = format!("cannot read the process table: {error}; trying again");
            match worker.task {
                Task::Watch => continue,
                Task::Seek => {}
                Task::Terminate => self.terminate(id, &[], out),
                Task::Kill { .. } => self.kill(now, id, &[], out),
            }
            self.set_check(id, Some(now + wait));
            self.report_error(id, &text, out);
            out.notices.push(Notice::Warning { worker: id, text });
        }
    }
}
