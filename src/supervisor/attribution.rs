//! Whose is a process? Everything that a worker started is the worker's, however it tried to get
//! away.
//!
//! ```text
//!  grounds, first match                    holds for
//!  1 it is the leader, was found the       (pid, start time): for ever
//!    worker's by an earlier scan, or
//!    has yet to run the worker's program
//!  2 its session or group is the           all that did not call setsid or setpgid;
//!    leader's                              only while the leader has its pid, dead or alive
//!  3 its parent is the worker's            all whose parent still lives
//!  4 ARROYO__WORKER__ID in its             orphans that went to the reaper
//!    environment
//!  5 exclusion: there is no other          all that the shim has below it,
//!    worker that it could belong to        while it has one worker
//! ```
//!
//! What escapes all five: a process that left the session, cleared its environment and lost its
//! parent before a scan, while there are other workers. Only a cgroup finds that one.
//!
//! Environments are read after the rest, since reading one may take long:
//!
//! ```text
//!  Attribution::new ── grounds 1, 2, 3, 5 ──▶ members, candidates
//!       environments of the candidates ──▶ Attribution::learn ──▶ more members, or inconclusive
//! ```

use std::collections::{BTreeMap, BTreeSet};

use super::{
    kernel::Environment,
    process_table::{ProcessTable, Stat},
};
use crate::{ids::WorkerId, machine::Process};

/// What is known of one worker before a scan.
#[derive(Clone, Debug)]
pub(super) struct Claim<'a> {
    pub(super) worker: WorkerId,
    /// Its first process, if that is known.
    pub(super) leader: Option<Process>,
    /// Whether the leader held its pid after the table was read, dead or alive.
    pub(super) leads: bool,
    /// Processes that were the worker's in earlier scans.
    pub(super) known: &'a BTreeSet<Process>,
    /// Whether the scan is about it. The others are needed to tell theirs from its own.
    pub(super) sought: bool,
}

/// A process table with the owners that are known so far.
#[derive(Clone, Debug)]
pub(super) struct Attribution {
    table: ProcessTable,
    sought: BTreeSet<WorkerId>,
    owners: BTreeMap<u32, WorkerId>,
    /// Those whose environment or name says whose they are.
    named: BTreeSet<u32>,
    /// Processes whose environments may tell more.
    candidates: Vec<Process>,
    inconclusive: bool,
    /// Whether some environments could not be had in time.
    unanswered: bool,
}

impl Attribution {
    pub(super) fn new(table: ProcessTable, claims: &[Claim<'_>]) -> Self {
        let sought = claims.iter().filter(|claim| claim.sought).map(|claim| claim.worker).collect();
        let mut this = Self {
            table,
            sought,
            owners: BTreeMap::new(),
            named: BTreeSet::new(),
            candidates: Vec::new(),
            inconclusive: false,
            unanswered: false,
        };
        this.by_leader(claims);
        this.by_parent();
        match claims {
            [only] if this.table.of_workers_only => this.by_exclusion(only.worker),
            _ => this.candidates = this.find_candidates(earliest_start(claims)),
        }
        this
    }

    /// Processes whose owner the environment may tell.
    pub(super) fn candidates(&self) -> &[Process] {
        &self.candidates
    }

    /// Takes in what environments say (ground 4), and with it their descendants (ground 3).
    pub(super) fn learn(&mut self, environments: &[(Process, Environment)]) {
        let asked = self.candidates.len();
        self.unanswered |= environments.len() < asked;
        for (process, environment) in environments {
            match environment {
                Environment::Names(worker) if self.sought.contains(worker) => {
                    self.owners.insert(process.pid, *worker);
                    self.named.insert(process.pid);
                }
                Environment::Names(_) | Environment::NamesNone => {}
                Environment::Unreadable => self.inconclusive = true,
            }
        }
        self.candidates.clear();
        self.by_parent();
    }

    /// Everything alive of this worker, as far as is known; its leader included.
    pub(super) fn members(&self, worker: WorkerId) -> Vec<Stat> {
        let of = self.owners.iter().filter(|(_, owner)| **owner == worker);
        of.filter_map(|(pid, _)| self.table.processes.get(pid))
            .filter(|s| !s.dead)
            .copied()
            .collect()
    }

    /// The first process of a worker of which none is known: it leads a session, and says itself
    /// whose it is. Whatever else leads a session was started later.
    pub(super) fn leader(&self, worker: WorkerId) -> Option<Stat> {
        let leads = |stat: &&Stat| {
            stat.session == stat.process.pid && self.named.contains(&stat.process.pid)
        };
        let members = self.members(worker);
        members.iter().filter(leads).min_by_key(|stat| stat.process.start_time).copied()
    }

    /// Whether there was a process of which it cannot be told whose it is. That an environment says
    /// nothing counts only where all processes were started by workers; that it was not read in
    /// time counts everywhere.
    pub(super) fn is_inconclusive(&self) -> bool {
        let unread = !self.candidates.is_empty();
        self.unanswered
            || self.table.cut_short
            || (self.table.of_workers_only && (self.inconclusive || unread))
    }

    /// Whether an environment could not be read, wherever that process came from.
    pub(super) fn has_unreadable(&self) -> bool {
        self.inconclusive || self.unanswered || !self.candidates.is_empty() || self.table.cut_short
    }

    pub(super) fn was_cut_short(&self) -> bool {
        self.table.cut_short
    }

    /// Grounds 1 and 2.
    fn by_leader(&mut self, claims: &[Claim<'_>]) {
        let mut exactly: BTreeMap<Process, WorkerId> = BTreeMap::new();
        let mut sessions: BTreeMap<u32, WorkerId> = BTreeMap::new();
        for claim in claims {
            exactly.extend(claim.known.iter().map(|&process| (process, claim.worker)));
            let Some(leader) = claim.leader else { continue };
            exactly.insert(leader, claim.worker);
            if claim.leads {
                sessions.insert(leader.pid, claim.worker);
            }
        }
        for (&pid, stat) in &self.table.processes {
            if is_exempt(&self.table, pid) {
                continue;
            }
            if let Some(worker) = stat.loading {
                self.owners.insert(pid, worker);
                self.named.insert(pid);
                continue;
            }
            let owner = exactly
                .get(&stat.process)
                .or_else(|| sessions.get(&stat.session))
                .or_else(|| sessions.get(&stat.group));
            if let Some(&owner) = owner {
                self.owners.insert(pid, owner);
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
                if let Some(&owner) = self.owners.get(&at) {
                    break Some(owner);
                }
                // The insertion fails for what an earlier line passed, and ends any circle that a
                // reused pid has made in the table.
                if is_exempt(&self.table, at) || !strangers.insert(at) {
                    break None;
                }
                line.push(at);
                match self.table.processes.get(&at) {
                    Some(stat) if self.table.processes.contains_key(&stat.parent) => {
                        at = stat.parent;
                    }
                    _ => break None,
                }
            };
            if let Some(owner) = owner {
                for descendant in line {
                    strangers.remove(&descendant);
                    self.owners.insert(descendant, owner);
                }
            }
        }
    }

    /// Ground 5.
    fn by_exclusion(&mut self, only: WorkerId) {
        let table = &self.table;
        for &pid in table.processes.keys().filter(|&&pid| !is_exempt(table, pid)) {
            self.owners.entry(pid).or_insert(only);
        }
    }

    fn find_candidates(&self, not_before: u64) -> Vec<Process> {
        let may_be = |(pid, stat): &(&u32, &Stat)| {
            stat.process.start_time >= not_before
                && !stat.dead
                && !stat.kernel_thread
                && !is_exempt(&self.table, **pid)
                && !self.owners.contains_key(pid)
        };
        self.table.processes.iter().filter(may_be).map(|(_, stat)| stat.process).collect()
    }
}

/// Nothing of a worker is older than its leader, where that is known.
fn earliest_start(claims: &[Claim<'_>]) -> u64 {
    let starts = claims.iter().filter(|claim| claim.sought);
    starts.map(|claim| claim.leader.map_or(0, |leader| leader.start_time)).min().unwrap_or(0)
}

/// Neither the supervisor itself nor init is ever a worker's.
fn is_exempt(table: &ProcessTable, pid: u32) -> bool {
    pid <= 1 || pid == table.reader
}

#[cfg(test)]
mod tests {
    use super::*;

    static NONE: BTreeSet<Process> = BTreeSet::new();

    fn process(pid: u32) -> Process {
        Process { pid, start_time: pid.into() }
    }

    /// pid, parent, session; each started at tick `pid`.
    fn table(rows: &[(u32, u32, u32)]) -> ProcessTable {
        let stat = |&(pid, parent, session)| {
            let group = session;
            let (dead, loading, kernel_thread) = (false, None, false);
            (
                pid,
                Stat {
                    process: process(pid),
                    dead,
                    parent,
                    group,
                    session,
                    loading,
                    kernel_thread,
                },
            )
        };
        ProcessTable { processes: rows.iter().map(stat).collect(), ..ProcessTable::default() }
    }

    fn of_workers(rows: &[(u32, u32, u32)]) -> ProcessTable {
        ProcessTable { of_workers_only: true, reader: 2, ..table(rows) }
    }

    fn claim(worker: u64, leader: u32) -> Claim<'static> {
        let leader = Some(process(leader));
        Claim { worker: WorkerId(worker), leader, leads: false, known: &NONE, sought: worker == 1 }
    }

    fn pids(found: &Attribution, worker: u64) -> Vec<u32> {
        found.members(WorkerId(worker)).iter().map(|stat| stat.process.pid).collect()
    }

    #[test]
    fn descendants_are_found_at_any_depth_and_in_any_order_of_pids() {
        let rows =
            [(10, 1, 10), (50, 10, 10), (40, 50, 40), (30, 40, 30), (60, 30, 60), (70, 1, 70)];
        let found = Attribution::new(table(&rows), &[claim(1, 10)]);
        assert_eq!(pids(&found, 1), [10, 30, 40, 50, 60]);
        assert_eq!(found.candidates(), [process(70)], "its environment may say more");
    }

    #[test]
    fn a_leader_whose_pid_was_reused_claims_nothing() {
        let rows = [(10, 1, 10), (11, 10, 10)];
        let mut reused = claim(1, 10);
        reused.leader = Some(Process { pid: 10, start_time: 5 });
        assert_eq!(pids(&Attribution::new(table(&rows), &[reused]), 1), [0_u32; 0]);
    }

    #[test]
    fn a_session_or_group_is_the_leaders_while_that_holds_its_pid() {
        let mut of_its_group = table(&[(20, 1, 20), (21, 1, 21)]);
        of_its_group.processes.get_mut(&20).unwrap().session = 10;
        of_its_group.processes.get_mut(&21).unwrap().group = 10;
        for (leads, expected) in [(true, vec![20, 21]), (false, vec![])] {
            let claim = Claim { leads, ..claim(1, 10) };
            assert_eq!(pids(&Attribution::new(of_its_group.clone(), &[claim]), 1), expected);
        }
    }

    #[test]
    fn what_was_known_stays_known_and_so_do_its_children() {
        let rows = [(20, 1, 20), (21, 20, 21)];
        let known = [process(20)].into();
        let claim = Claim { leader: None, known: &known, ..claim(1, 10) };
        assert_eq!(pids(&Attribution::new(table(&rows), &[claim]), 1), [20, 21]);
    }

    #[test]
    fn a_circle_of_parents_ends() {
        let rows = [(20, 21, 0), (21, 20, 0)];
        assert_eq!(pids(&Attribution::new(table(&rows), &[claim(1, 10)]), 1), [0_u32; 0]);
    }

    #[test]
    fn neither_init_nor_the_reader_is_a_workers_nor_what_hangs_on_them() {
        let rows = [(1, 10, 10), (2, 10, 10), (10, 2, 10), (11, 1, 11), (12, 2, 12)];
        let claims = [Claim { leads: true, ..claim(1, 10) }, claim(2, 99)];
        let found = Attribution::new(of_workers(&rows), &claims);
        assert_eq!(pids(&found, 1), [10]);
    }

    #[test]
    fn what_can_only_be_one_workers_is_its_own() {
        let rows = [(10, 1, 10), (20, 1, 20), (21, 1, 21)];
        let alone = Attribution::new(of_workers(&rows), &[claim(1, 10)]);
        assert_eq!((pids(&alone, 1), alone.is_inconclusive()), (vec![10, 20, 21], false));

        let mut beside = Attribution::new(of_workers(&rows), &[claim(1, 10), claim(2, 20)]);
        assert_eq!(beside.candidates(), [process(21)]);
        beside.learn(&[(process(21), Environment::Unreadable)]);
        assert_eq!((pids(&beside, 1), beside.is_inconclusive()), (vec![10], true));

        let mut among_all = Attribution::new(table(&rows), &[claim(1, 10)]);
        among_all.learn(&[
            (process(20), Environment::Unreadable),
            (process(21), Environment::Unreadable),
        ]);
        assert_eq!((pids(&among_all, 1), among_all.is_inconclusive()), (vec![10], false));
    }

    #[test]
    fn an_environment_brings_its_process_and_the_descendants() {
        let rows = [(20, 1, 20), (21, 20, 21), (30, 1, 30), (5, 1, 5)];
        let claims = [claim(1, 10), claim(2, 40)];
        let mut found = Attribution::new(of_workers(&rows), &claims);
        assert_eq!(
            found.candidates(),
            [process(20), process(21), process(30)],
            "what is older than the leader is not asked"
        );
        found.learn(&[
            (process(20), Environment::Names(WorkerId(1))),
            (process(21), Environment::NamesNone),
            (process(30), Environment::Names(WorkerId(2))),
        ]);
        assert_eq!((pids(&found, 1), found.is_inconclusive()), (vec![20, 21], false));
        assert_eq!(pids(&found, 2), [0_u32; 0], "the scan is not about it");
        found.learn(&[]);
        assert!(!found.is_inconclusive(), "nothing more was asked");
    }

    #[test]
    fn an_answer_that_leaves_out_a_candidate_is_inconclusive() {
        let rows = [(20, 1, 20)];
        let mut found = Attribution::new(of_workers(&rows), &[claim(1, 10), claim(2, 40)]);
        found.learn(&[]);
        assert!(found.is_inconclusive());
        // Also among processes of which most are no worker's: a busy machine is slow to answer.
        let mut among_all = Attribution::new(table(&rows), &[claim(1, 10)]);
        among_all.learn(&[]);
        assert!(among_all.is_inconclusive());
    }

    #[test]
    fn a_lost_leader_is_the_oldest_session_leader_that_says_so() {
        let rows = [(20, 1, 20), (30, 1, 30), (15, 20, 20)];
        let unknown = Claim { leader: None, ..claim(1, 0) };
        let mut found = Attribution::new(table(&rows), &[unknown]);
        found.learn(&[
            (process(15), Environment::Names(WorkerId(1))),
            (process(20), Environment::Names(WorkerId(1))),
            (process(30), Environment::Names(WorkerId(1))),
        ]);
        let leader = found.leader(WorkerId(1)).map(|stat| stat.process);
        assert_eq!((leader, found.leader(WorkerId(2))), (Some(process(20)), None));
    }

    #[test]
    fn a_process_that_has_yet_to_run_its_program_is_known_by_name() {
        let mut loading = table(&[(20, 1, 20)]);
        loading.processes.get_mut(&20).unwrap().loading = Some(WorkerId(1));
        let found = Attribution::new(loading, &[Claim { leader: None, ..claim(1, 0) }]);
        let leader = found.leader(WorkerId(1)).map(|stat| stat.process);
        assert_eq!((pids(&found, 1), leader), (vec![20], Some(process(20))));
    }

    #[test]
    fn the_dead_are_no_members_but_their_children_are() {
        let mut with_dead = table(&[(10, 1, 10), (11, 10, 11)]);
        with_dead.processes.get_mut(&10).unwrap().dead = true;
        assert_eq!(pids(&Attribution::new(with_dead, &[claim(1, 10)]), 1), [11]);
    }
}
