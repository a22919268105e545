//! Workers that have a cgroup of their own: what is in it is the worker's, and nothing else.

use std::time::Duration;

use super::{
    Notice, Operation, Output, Supervisor,
    adopt::Look,
    kernel::{Errno, GroupState},
    process_table::Stat,
    worker::{Group, Leader, Task},
};
use crate::{
    ids::WorkerId,
    machine::{Mono, Process, Signal},
};

/// How often, and how long apart, the removal of a cgroup is tried that fails.
const MAX_REMOVALS: u32 = 5;
const REMOVAL_PAUSE: Duration = Duration::from_secs(1);

/// How often, and how long apart, a cgroup is looked at that is empty although the worker's first
/// process is alive.
const MAX_EMPTY_LOOKS: u32 = 2;
const EMPTY_LOOK_PAUSE: Duration = Duration::from_millis(10);

impl Supervisor {
    /// Looks at what is alive of a worker: in its cgroup, or by the next scan.
    pub(super) fn look(&mut self, id: WorkerId, out: &mut Output) {
        let Some(worker) = self.workers.get(&id) else { return };
        match (worker.group, worker.task) {
            (Group::Sought, _) => {}
            (Group::Own { .. }, Task::Terminate) => out.ask(Operation::ReadMembers(id)),
            (Group::Own { .. }, Task::Seek) => {
                out.ask(Operation::ReadGroup(id));
                out.ask(Operation::ReadMembers(id));
            }
            (Group::Own { .. }, _) => out.ask(Operation::ReadGroup(id)),
            (Group::None | Group::Broken, _) => drop(self.due.insert(id)),
        }
    }

    pub(super) fn handle_group(
        &mut self,
        now: Mono,
        id: WorkerId,
        result: Result<Option<GroupState>, Errno>,
        out: &mut Output,
    ) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        if worker.group == Group::Sought {
            worker.group = match result {
                Ok(Some(GroupState { populated, oom_kills })) => {
                    Group::Own { populated, oom_kills }
                }
                Ok(None) => Group::None,
                Err(_) => Group::Broken,
            };
            return self.open_leader(id, out);
        }
        if !worker.has_group() {
            return;
        }
        match result {
            Ok(Some(GroupState { populated, oom_kills })) => {
                worker.group = Group::Own { populated, oom_kills };
                if !matches!(worker.task, Task::Kill { .. }) {
                    return;
                }
                if populated {
                    out.ask(Operation::KillGroup(id));
                } else if let Leader::Running { handle, .. } = worker.leader {
                    // It has ended just now, or has been moved elsewhere.
                    out.ask(Operation::ReadStatus(handle));
                } else {
                    self.nothing_found(now, id, false, out);
                }
            }
            // It was removed by somebody else: it was empty.
            Ok(None) => self.break_group(id, "it is gone", out),
            Err(error) => self.break_group(id, &error.to_string(), out),
        }
    }

    pub(super) fn handle_group_killed(
        &mut self,
        now: Mono,
        id: WorkerId,
        result: Result<(), Errno>,
        out: &mut Output,
    ) {
        match result {
            Ok(()) => {
                let Some(worker) = self.workers.get_mut(&id) else { return };
                if worker.task == (Task::Kill { empty: false }) {
                    let wait = worker.next_backoff();
                    self.set_check(id, Some(now + wait));
                }
            }
            Err(error) => self.break_group(id, &error.to_string(), out),
        }
    }

    pub(super) fn handle_members(
        &mut self,
        now: Mono,
        id: WorkerId,
        result: Result<Vec<Stat>, Errno>,
        out: &mut Output,
    ) {
        let Some(worker) = self.workers.get(&id) else { return };
        let members = match result {
            Ok(members) => members,
            Err(error) => return self.break_group(id, &error.to_string(), out),
        };
        let populated = matches!(worker.group, Group::Own { populated: true, .. });
        match worker.task {
            // Somebody may have moved it elsewhere: that nothing is left is a grave thing to say.
            Task::Seek if members.is_empty() && !populated => self.leave_group(id, out),
            Task::Seek => {
                let leads = |stat: &&Stat| stat.session == stat.process.pid && !stat.dead;
                let leader = members.iter().filter(leads).min_by_key(|s| s.process.start_time);
                let leader = leader.copied();
                // What the cgroup holds may be hidden from this user.
                let has_others = populated || !members.is_empty();
                let look = Look { leader, has_others, unsure: false, cut_short: false };
                self.sought(now, id, &look, out);
            }
            Task::Terminate => self.terminate(id, &members, out),
            Task::Kill { .. } => {
                for process in members.iter().map(|stat| stat.process) {
                    let signal = Signal::Kill;
                    out.ask(Operation::SignalProcess { worker: id, process, signal });
                }
            }
            Task::Watch => {}
        }
    }

    /// A first process leaves its cgroup a moment before it can be waited for; or it was moved.
    pub(super) fn not_in_group(&mut self, now: Mono, id: WorkerId, out: &mut Output) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        if worker.inconclusive_scans < MAX_EMPTY_LOOKS {
            worker.inconclusive_scans += 1;
            self.set_check(id, Some(now + EMPTY_LOOK_PAUSE));
        } else {
            self.break_group(id, "its first process is not in it", out);
        }
    }

    /// From now on the worker's processes are found in the process table.
    pub(super) fn break_group(&mut self, id: WorkerId, reason: &str, out: &mut Output) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        if worker.has_group() {
            let text = format!("its cgroup cannot be used: {reason}; looking in /proc instead");
            out.notices.push(Notice::Warning { worker: id, text });
            self.leave_group(id, out);
        }
    }

    fn leave_group(&mut self, id: WorkerId, out: &mut Output) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.group = Group::Broken;
            self.look(id, out);
        }
    }

    pub(super) fn handle_group_removed(
        &mut self,
        now: Mono,
        id: WorkerId,
        result: Result<(), Errno>,
        out: &mut Output,
    ) {
        let tries = self.leftover_groups.remove(&id).map_or(0, |(_, tries)| tries) + 1;
        let Err(error) = result else { return };
        if tries < MAX_REMOVALS {
            self.leftover_groups.insert(id, (now + REMOVAL_PAUSE, tries));
        } else {
            let text = format!("its cgroup stays behind: {error}");
            out.notices.push(Notice::Warning { worker: id, text });
        }
    }

    pub(super) fn retry_leftover_groups(&mut self, now: Mono, out: &mut Output) {
        for (&id, (at, _)) in &mut self.leftover_groups {
            if *at <= now {
                *at = now + REMOVAL_PAUSE;
                out.ask(Operation::RemoveGroup(id));
            }
        }
    }

    /// The leaders of all workers but these, if they are children of this process.
    pub(super) fn other_leaders(
        &self,
        sought: &std::collections::BTreeSet<WorkerId>,
    ) -> std::collections::BTreeSet<u32> {
        let others = self.workers.iter().filter(|(id, _)| !sought.contains(id));
        let leaders = others.filter_map(|(_, worker)| worker.leader.process());
        leaders.map(|Process { pid, .. }| pid).collect()
    }
}
