//! The books by themselves: whatever is done to them in whatever order, they add up.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use proptest::prelude::*;
use tonic::Code;

use crate::{
    controller::{
        Books, FinishOutcome, FinishedReport, JobSpec, Node, NotEnoughSlots, Placement, Refusal,
        Snapshot, StopTarget, SubmitError,
    },
    ids::{Generation, JobId, MachineId, WorkerId},
    machine::{Dialect, Mono},
};

#[derive(Clone, Debug)]
enum Step {
    Register { node: u8, slots: u64 },
    Heartbeat { node: u8 },
    Advance { seconds: u64 },
    Expire,
    Forget { node: u8 },
    Place { slots: u64 },
    PlaceOn { node: u8, slots: u64 },
    Started { which: usize, worker: u64 },
    StartFailed { which: usize },
    Unplace { which: usize },
    Abandon { worker: u64 },
    Stopped { worker: u64 },
    Finished { worker: u64, slots: u64, dialect: Dialect },
}

fn step() -> impl Strategy<Value = Step> {
    let node = 0..4u8;
    // Few names, so that they meet again.
    let worker = 0..8u64;
    let dialect = prop_oneof![4 => Just(Dialect::V0_16), 1 => Just(Dialect::V0_15)];
    prop_oneof![
        3 => (node.clone(), 0..6u64).prop_map(|(node, slots)| Step::Register { node, slots }),
        1 => node.clone().prop_map(|node| Step::Heartbeat { node }),
        1 => (0..40u64).prop_map(|seconds| Step::Advance { seconds }),
        1 => Just(Step::Expire),
        1 => node.clone().prop_map(|node| Step::Forget { node }),
        4 => (1..9u64).prop_map(|slots| Step::Place { slots }),
        2 => (node, 1..4u64).prop_map(|(node, slots)| Step::PlaceOn { node, slots }),
        6 => (any::<usize>(), worker.clone())
            .prop_map(|(which, worker)| Step::Started { which, worker }),
        1 => any::<usize>().prop_map(|which| Step::StartFailed { which }),
        1 => any::<usize>().prop_map(|which| Step::Unplace { which }),
        1 => worker.clone().prop_map(|worker| Step::Abandon { worker }),
        1 => worker.clone().prop_map(|worker| Step::Stopped { worker }),
        4 => (worker, 1..6u64, dialect)
            .prop_map(|(worker, slots, dialect)| Step::Finished { worker, slots, dialect }),
    ]
}

/// The books, and beside them as little as is needed to say what they should hold.
#[derive(Default)]
struct Model {
    books: Books,
    now: Mono,
    open: Vec<Placement>,
    /// Workers that were started and not reported since.
    live: BTreeMap<WorkerId, u64>,
    reported: BTreeSet<WorkerId>,
    overtook: BTreeSet<WorkerId>,
}

impl Model {
    fn apply(&mut self, step: Step) {
        let before = self.books.snapshot();
        match step {
            Step::Register { node, slots } => self.register(&before, node, slots),
            Step::Heartbeat { node } => {
                let known = self.books.heartbeat(self.now, name(node));
                assert_eq!(known, before.nodes.contains_key(&name(node)));
            }
            Step::Advance { seconds } => self.now += Duration::from_secs(seconds),
            Step::Expire => {
                self.books.expire(self.now, Duration::from_secs(30));
                let after = self.books.snapshot();
                for (node, entry) in before.nodes {
                    let silent = self.now.since(entry.last_heard) > Duration::from_secs(30);
                    assert_eq!(after.nodes.contains_key(&node), !silent);
                }
            }
            Step::Forget { node } => {
                self.books.forget_node(&name(node));
            }
            Step::Place { slots } => self.place(&before, slots),
            Step::PlaceOn { node, slots } => self.place_on(&before, &name(node), slots),
            Step::Started { which, worker } => self.started(which, WorkerId(worker)),
            Step::StartFailed { which } => {
                let refusal = Refusal { code: Code::Internal, message: String::new() };
                self.close(which, |books, placement| books.start_failed(placement, refusal));
            }
            Step::Unplace { which } => self.close(which, Books::unplace),
            Step::Abandon { worker } => {
                self.books.abandon(WorkerId(worker));
            }
            Step::Stopped { worker } => {
                self.books.stopped(WorkerId(worker));
                let job = JobId::from("j");
                assert!(!self.books.workers_of(&job, None).contains(&WorkerId(worker)));
            }
            Step::Finished { worker, slots, dialect } => {
                self.finished(&before, WorkerId(worker), slots, dialect);
            }
        }
        self.check();
    }

    fn register(&mut self, before: &Snapshot, node: u8, slots: u64) {
        let new = self.books.register(self.now, name(node), slots, format!("host-{slots}:1"));
        assert_eq!(new, !before.nodes.contains_key(&name(node)));
        if !new {
            assert_eq!(self.books.snapshot().nodes, before.nodes);
        }
    }

    fn place(&mut self, before: &Snapshot, slots: u64) {
        let free = |node: &MachineId| before.nodes[node].free();
        let Ok(placed) = self.books.place(&JobSpec::new("j", slots), Generation(1)) else {
            assert!(before.free_slots() < slots);
            assert_eq!(self.books.snapshot().nodes, before.nodes);
            return;
        };
        assert_eq!(placed.iter().map(|placement| placement.slots).sum::<u64>(), slots);
        let chosen: BTreeSet<_> = placed.iter().map(|placement| &placement.node).collect();
        assert_eq!(chosen.len(), placed.len(), "one worker a node");
        // Each is filled before the next, which has no more free slots than it had.
        for pair in placed.windows(2) {
            assert_eq!(pair[0].slots, free(&pair[0].node));
            assert!(free(&pair[0].node) >= free(&pair[1].node));
        }
        let last = free(&placed.last().expect("a job takes at least one slot").node);
        let passed_over = before.nodes.keys().filter(|node| !chosen.contains(node));
        assert!(passed_over.map(free).all(|free| free <= last));
        self.open.extend(placed);
    }

    fn place_on(&mut self, before: &Snapshot, node: &MachineId, slots: u64) {
        let free = before.nodes.get(node).map_or(0, Node::free);
        let job = JobSpec::new("j", 20);
        match self.books.place_on(node, &job, Generation(1), slots) {
            Ok(placed) => {
                assert!(slots <= free);
                assert_eq!((&placed.node, placed.slots), (node, slots));
                self.open.push(placed);
            }
            Err(short) => {
                assert!(slots > free);
                assert_eq!(short, NotEnoughSlots { wanted: slots, free });
                assert_eq!(self.books.snapshot().nodes, before.nodes);
            }
        }
    }

    fn started(&mut self, which: usize, worker: WorkerId) {
        let Some(placement) = self.take_open(which) else { return };
        self.books.started(self.now, &placement, worker);
        if !self.overtook.remove(&worker) {
            self.live.insert(worker, placement.slots);
        }
        self.forget_overtakers();
    }

    fn close(&mut self, which: usize, how: impl FnOnce(&mut Books, &Placement)) {
        let Some(placement) = self.take_open(which) else { return };
        how(&mut self.books, &placement);
        self.forget_overtakers();
    }

    fn finished(&mut self, before: &Snapshot, worker: WorkerId, slots: u64, dialect: Dialect) {
        let generation = Generation(1);
        let (node, job) = (name(0), JobId::from("j"));
        let (pipeline, ended_at) = (Some("pl_j".into()), None);
        let outcome = self.books.finished(FinishedReport {
            worker,
            node,
            job,
            generation,
            pipeline,
            slots,
            ended_at,
            dialect,
        });
        let after = self.books.snapshot();
        let Ok(outcome) = outcome else {
            assert!(before.workers.contains_key(&worker) && dialect == Dialect::V0_15);
            assert_eq!((&after.nodes, &after.workers), (&before.nodes, &before.workers));
            return;
        };
        let first = self.reported.insert(worker);
        match self.live.remove(&worker) {
            Some(started) => {
                assert!(matches!(outcome, FinishOutcome::Freed | FinishOutcome::NotHeld));
                let freed = if outcome == FinishOutcome::Freed { started } else { 0 };
                assert_eq!(after.free_slots(), before.free_slots() + freed);
                assert!(slots == started || after.violations.len() > before.violations.len());
            }
            None => {
                let expected =
                    if first { FinishOutcome::Unknown } else { FinishOutcome::Duplicate };
                assert_eq!(outcome, expected);
                assert_eq!((&after.nodes, &after.workers), (&before.nodes, &before.workers));
                if first && !self.open.is_empty() {
                    self.overtook.insert(worker);
                }
            }
        }
    }

    fn take_open(&mut self, which: usize) -> Option<Placement> {
        let at = which.checked_rem(self.open.len())?;
        Some(self.open.remove(at))
    }

    fn forget_overtakers(&mut self) {
        if self.open.is_empty() {
            self.overtook.clear();
        }
    }

    fn check(&mut self) {
        let books = self.books.snapshot();
        let mut holders = BTreeSet::new();
        for (name, node) in &books.nodes {
            let taken: u64 = node.held.values().chain(node.reserved.values()).sum();
            assert!(taken <= node.slots, "{name}: {taken} of {} slots are taken", node.slots);
            for (worker, slots) in &node.held {
                assert!(holders.insert(*worker), "{worker} holds slots on two nodes");
                let entry = &books.workers[worker];
                assert_eq!((&entry.node, entry.slots), (name, *slots));
            }
            let reserved: u64 = node.reserved.values().sum();
            let open = self.open.iter().filter(|placement| placement.node == *name);
            assert!(reserved <= open.map(|placement| placement.slots).sum());
        }
        let workers: BTreeMap<_, _> =
            books.workers.iter().map(|(id, worker)| (*id, worker.slots)).collect();
        assert_eq!(workers, self.live);
        assert_eq!(books.counters.violations, books.violations.len() as u64);
        self.books.take_events();
    }
}

fn name(node: u8) -> MachineId {
    MachineId::from(format!("node-{node}"))
}

proptest! {
    #[test]
    fn the_books_add_up(steps in prop::collection::vec(step(), 1..80)) {
        let mut model = Model::default();
        for step in steps {
            model.apply(step);
        }
    }
}

#[test]
fn a_stop_goes_where_the_worker_is_as_long_as_that_is_known() {
    let mut books = Books::default();
    let now = Mono::default();
    books.register(now, "a".into(), 1, "host:1".into());
    let placed = books.place(&JobSpec::new("j", 1), Generation(1)).unwrap();
    books.started(now, &placed[0], WorkerId(5));
    assert_eq!(books.stop_target(WorkerId(5)), StopTarget::Call("host:1".into()));
    books.forget_node(&"a".into());
    assert_eq!(books.stop_target(WorkerId(5)), StopTarget::NodeUnknown);
    assert_eq!(books.stop_target(WorkerId(6)), StopTarget::Gone);
}

#[test]
fn nodes_that_offer_more_than_can_be_counted_do_no_harm() {
    let mut books = Books::default();
    for node in ["a", "b"] {
        books.register(Mono::default(), node.into(), u64::MAX, "host:1".into());
    }
    let placed = books.place(&JobSpec::new("j", u64::MAX), Generation(1)).unwrap();
    assert_eq!(placed.len(), 1);
    assert_eq!(books.snapshot().free_slots(), u64::MAX);
}

#[test]
fn a_job_that_makes_no_sense_is_refused() {
    let mut books = Books::default();
    let mut job = JobSpec::new("j", 0);
    assert_eq!(books.submit(job.clone()), Err(SubmitError::NoSlots("j".into())));
    job.slots = 1;
    job.pipeline = Some("".into());
    assert_eq!(books.submit(job.clone()), Err(SubmitError::NoPipeline("j".into())));
    job.dialect = Dialect::V0_15;
    assert!(books.submit(job).is_ok());
}

#[test]
fn a_job_never_shows_the_values_of_its_environment() {
    let mut job = JobSpec::new("j", 1);
    job.env.insert("PASSWORD".into(), "hunter2".into());
    let shown = format!("{job:?}");
    assert!(shown.contains("PASSWORD") && !shown.contains("hunter2"), "{shown}");
}
