//! Whose is a process? Everything that a worker started is the worker's, however it tried to get
//! away.
//!
//! ```text
//!  grounds, first match                    holds for
//!  1 it is the leader, or was found        (pid, start time): for ever
//!    the worker's by an earlier walk
//!  2 its session or group is the           all that did not call setsid or setpgid;
//!    leader's                              only while the leader has its pid, dead or alive
//!  3 its parent is the worker's            all whose parent still lives
//!  4 ARROYO__WORKER__ID in its             orphans that went to the reaper
//!    environment
//!  5 there is no other worker whose it     all that the shim has below it,
//!    could be                              while it has one worker
//! ```
//!
//! What escapes all five: a process that left the session, cleared its environment and lost its
//! parent before anybody looked, while there are other workers. Only a cgroup finds that one.
//!
//! Who forks and exits all the time may do so between the table and a look at its environment, and whoever
//! is just loading a program shows none: then it is *unclear* whether all were found.

use std::{
    collections::{BTreeMap, BTreeSet},
    process,
};

use super::{
    pidfd::Pidfd,
    procfs::{self, Stat, Table},
};
use crate::{ids::WorkerId, machine::Process};

/// What is known of one worker before a walk.
pub(super) struct Kin<'a> {
    pub(super) worker: WorkerId,
    /// Its first process, if it is known, and a handle if that is to be had.
    pub(super) leader: Option<(Process, Option<&'a Pidfd>)>,
    /// Processes that were its own in earlier walks.
    pub(super) known: &'a BTreeSet<Process>,
    /// Whether this walk is about it. The other workers are needed to tell theirs from its own.
    pub(super) sought: bool,
}

/// What a walk has found.
#[derive(Default)]
pub(super) struct Found {
    /// Everything alive of the sought workers, by worker; the leaders among it.
    pub(super) members: BTreeMap<WorkerId, Vec<Stat>>,
    /// Whether there was somebody of whom it cannot be told whose it is. Told only where all that
    /// there are were started by workers.
    pub(super) unclear: bool,
}

/// Everything alive of the sought workers. One table serves all.
pub(super) fn find(table: &Table, kin: &[Kin<'_>]) -> Found {
    let sought: BTreeSet<WorkerId> =
        kin.iter().filter(|kin| kin.sought).map(|kin| kin.worker).collect();
    let mut owners = Owners { table, by_pid: BTreeMap::new() };
    owners.by_leader(kin);
    // First, since it spares reading the environments of all the other workers' processes.
    owners.by_parent();
    let unclear = match kin {
        [only] if table.of_workers_only => {
            owners.by_elimination(only.worker);
            false
        }
        _ => owners.by_environment(&sought, earliest_start(kin)),
    };
    // Once more, for the descendants of what the environment told.
    owners.by_parent();

    let mut members: BTreeMap<WorkerId, Vec<Stat>> = BTreeMap::new();
    for (pid, worker) in owners.by_pid {
        let stat = table.processes[&pid];
        if sought.contains(&worker) && !stat.is_dead() {
            members.entry(worker).or_default().push(stat);
        }
    }
    Found { members, unclear: unclear && table.of_workers_only }
}

/// Nothing of a worker is older than its leader, where that is known.
fn earliest_start(kin: &[Kin<'_>]) -> u64 {
    let starts = kin.iter().filter(|kin| kin.sought);
    starts.map(|kin| kin.leader.map_or(0, |(leader, _)| leader.start_time)).min().unwrap_or(0)
}

struct Owners<'a> {
    table: &'a Table,
    by_pid: BTreeMap<u32, WorkerId>,
}

impl Owners<'_> {
    /// Grounds 1 and 2.
    fn by_leader(&mut self, kin: &[Kin<'_>]) {
        let mut exactly: BTreeMap<Process, WorkerId> = BTreeMap::new();
        let mut sessions: BTreeMap<u32, WorkerId> = BTreeMap::new();
        for kin in kin {
            exactly.extend(kin.known.iter().map(|&process| (process, kin.worker)));
            let Some((leader, pidfd)) = kin.leader else { continue };
            exactly.insert(leader, kin.worker);
            // Asked after the table was read: so the pid was its own all the while. The others'
            // ends are told by their pidfds.
            if pidfd.is_some_and(|pidfd| !kin.sought || pidfd.is_unreaped()) {
                sessions.insert(leader.pid, kin.worker);
            }
        }
        for (&pid, stat) in &self.table.processes {
            let owner = exactly
                .get(&stat.process)
                .or_else(|| sessions.get(&stat.session))
                .or_else(|| sessions.get(&stat.group));
            if let Some(&owner) = owner
                && !is_ours(pid)
            {
                self.by_pid.insert(pid, owner);
            }
        }
    }

    /// Ground 3, through any number of generations.
    fn by_parent(&mut self) {
        let mut strangers = BTreeSet::new();
        for &pid in self.table.processes.keys() {
            let mut line = Vec::new();
            let mut at = pid;
            let owner = loop {
                if let Some(&owner) = self.by_pid.get(&at) {
                    break Some(owner);
                }
                // The insertion fails for whom an earlier line passed, and ends any circle that a
                // pid given anew has made in the table.
                if is_ours(at) || !strangers.insert(at) {
                    break None;
                }
                line.push(at);
                match self.parent(at) {
                    Some(parent) => at = parent,
                    None => break None,
                }
            };
            if let Some(owner) = owner {
                for descendant in line {
                    strangers.remove(&descendant);
                    self.by_pid.insert(descendant, owner);
                }
            }
        }
    }

    /// The parent, if it is certain that the pid meant the same process when the child named it.
    /// Who was there before the walk was not born to somebody who took the pid during the walk.
    fn parent(&self, pid: u32) -> Option<u32> {
        let child = self.table.processes.get(&pid)?;
        let parent = self.table.processes.get(&child.parent)?;
        let certain =
            child.process.start_time < self.table.began_at || procfs::is_same(parent.process);
        certain.then_some(child.parent)
    }

    /// Ground 5.
    fn by_elimination(&mut self, only: WorkerId) {
        for &pid in self.table.processes.keys().filter(|&&pid| !is_ours(pid)) {
            self.by_pid.entry(pid).or_insert(only);
        }
    }

    /// Ground 4. Whether there was somebody whose environment could not be read, or held nothing.
    fn by_environment(&mut self, sought: &BTreeSet<WorkerId>, not_before: u64) -> bool {
        let mut unclear = false;
        for (&pid, stat) in &self.table.processes {
            let may_be = stat.process.start_time >= not_before
                && !stat.is_dead()
                && !is_ours(pid)
                && !is_kernel_thread(stat)
                && !self.by_pid.contains_key(&pid);
            if !may_be {
                continue;
            }
            let environment = procfs::environment(stat.process).unwrap_or_default();
            unclear |= environment.is_empty();
            if let Some(worker) = procfs::worker_in(&environment)
                && sought.contains(&worker)
            {
                self.by_pid.insert(pid, worker);
            }
        }
        unclear
    }
}

/// Neither the supervisor itself nor the machine's init is ever a worker's.
fn is_ours(pid: u32) -> bool {
    pid <= 1 || pid == process::id()
}

fn is_kernel_thread(stat: &Stat) -> bool {
    const KTHREADD: u32 = 2;
    stat.session == 0 && (stat.process.pid == KTHREADD || stat.parent == KTHREADD)
}

#[cfg(test)]
mod tests {
    use super::*;

    static NOBODY: BTreeSet<Process> = BTreeSet::new();

    /// pid, parent, session; everything started long before the walk, at tick `pid`.
    fn table(processes: &[(u32, u32, u32)]) -> Table {
        let processes = processes.iter().map(|&(pid, parent, session)| {
            let process = Process { pid, start_time: pid.into() };
            (pid, Stat { process, state: b'S', parent, group: session, session })
        });
        let processes = processes.collect();
        Table { began_at: u64::MAX, processes, of_workers_only: false, cut_short: false }
    }

    /// High pids, so that no environment of a real process is met.
    const BASE: u32 = 1 << 24;

    fn pids(found: &Found, worker: u64) -> Vec<u32> {
        let members = found.members.get(&WorkerId(worker)).into_iter().flatten();
        members.map(|stat| stat.process.pid - BASE).collect()
    }

    #[test]
    fn descendants_are_found_at_any_depth_and_in_any_order_of_pids() {
        let rows = [(50, 10, 10), (40, 50, 40), (30, 40, 30), (60, 30, 60), (70, 1, 70)];
        let mut rows =
            rows.map(|(pid, parent, session)| (BASE + pid, BASE + parent, BASE + session)).to_vec();
        rows.push((BASE + 10, 1, BASE + 10));
        let leader = Process { pid: BASE + 10, start_time: u64::from(BASE + 10) };
        let kin = [Kin {
            worker: WorkerId(1),
            leader: Some((leader, None)),
            known: &NOBODY,
            sought: true,
        }];
        assert_eq!(pids(&find(&table(&rows), &kin), 1), [10, 30, 40, 50, 60]);
    }

    #[test]
    fn a_leader_whose_pid_was_given_anew_claims_nobody() {
        let rows = [(BASE + 10, 1, BASE + 10), (BASE + 11, BASE + 10, BASE + 10)];
        let leader = Process { pid: BASE + 10, start_time: 5 };
        let kin = [Kin {
            worker: WorkerId(1),
            leader: Some((leader, None)),
            known: &NOBODY,
            sought: true,
        }];
        assert_eq!(pids(&find(&table(&rows), &kin), 1), [0_u32; 0]);
    }

    #[test]
    fn what_was_known_stays_known_and_so_do_its_children() {
        let rows = [(BASE + 20, 1, BASE + 20), (BASE + 21, BASE + 20, BASE + 21)];
        let known = [Process { pid: BASE + 20, start_time: u64::from(BASE + 20) }].into();
        let kin = [Kin { worker: WorkerId(1), leader: None, known: &known, sought: true }];
        assert_eq!(pids(&find(&table(&rows), &kin), 1), [20, 21]);
    }

    #[test]
    fn a_circle_of_parents_ends() {
        let rows = [(BASE + 20, BASE + 21, 0), (BASE + 21, BASE + 20, 0)];
        let leader = Process { pid: BASE + 10, start_time: 5 };
        let kin = [Kin {
            worker: WorkerId(1),
            leader: Some((leader, None)),
            known: &NOBODY,
            sought: true,
        }];
        assert!(find(&table(&rows), &kin).members.is_empty());
    }

    #[test]
    fn who_can_only_be_one_workers_is_its_own() {
        let rows =
            [(BASE + 10, 1, BASE + 10), (BASE + 20, 1, BASE + 20), (BASE + 21, 1, BASE + 21)];
        let descendants = Table { of_workers_only: true, ..table(&rows) };
        let kin = |worker, pid: u32| {
            let process = Process { pid: BASE + pid, start_time: u64::from(BASE + pid) };
            let leader = Some((process, None));
            Kin { worker: WorkerId(worker), leader, known: &NOBODY, sought: worker == 1 }
        };
        let alone = find(&descendants, &[kin(1, 10)]);
        assert_eq!((pids(&alone, 1), alone.unclear), (vec![10, 20, 21], false));

        let beside_another = find(&descendants, &[kin(1, 10), kin(2, 20)]);
        assert_eq!((pids(&beside_another, 1), beside_another.unclear), (vec![10], true));

        let among_all = find(&table(&rows), &[kin(1, 10)]);
        assert_eq!((pids(&among_all, 1), among_all.unclear), (vec![10], false));
    }
}
