//! What the controller asks of nodes: StartWorker, one after the other for each job, all jobs at
//! the same time; StopWorker for everything at once.
//!
//! Each job fills ten nodes, one worker a slot. Its nodes are the same each time, so a job that is
//! scheduled anew after a restart meets its former workers, as it would with stock's rule. A job
//! does not come back to life when a worker crashes: here it is the agents' calls that are asked
//! about.

use std::{collections::BTreeSet, num::NonZeroU64, time::Duration};

use arroyo_node::{
    controller::{JobSpec, Placement, Refusal, StopTarget},
    ids::{Generation, RequestId, WorkerId},
    machine::{Ask, Reply, Start, StopHow},
};
use tonic::Code;

use super::{Controller, Settings};
use crate::scale::{
    agenda::{Happening, NodeIndex},
    node::{machine_id, node_at},
    world::World,
};

/// How many nodes a job fills.
const NODES_A_JOB: usize = 10;
/// Connecting takes two messages; the call is the third.
const LEGS_OF_A_CALL: u32 = 3;
/// Between two looks for slots, and between two attempts at a stop.
const POLL: Duration = Duration::from_secs(1);
/// After a start that was refused.
const RETRY: Duration = Duration::from_millis(500);

/// What survives a controller of a job, and how far this one has come with it.
pub(super) struct Job {
    spec: JobSpec,
    /// On which node each of its workers is to run.
    places: Vec<NodeIndex>,
    generation: Generation,
    started: BTreeSet<WorkerId>,
    wanted: bool,
    running: bool,
}

/// A call that has not been answered.
pub(super) enum Asked {
    Start { job: usize, placement: Placement },
    Stop(WorkerId),
}

/// What became of a call.
#[derive(Debug)]
pub(in crate::scale) enum ToldBack {
    /// The node answered.
    Replied(Reply),
    /// No agent runs there.
    Refused,
}

/// What is to be tried again.
#[derive(Clone, Copy, Debug)]
pub(in crate::scale) enum Again {
    /// A job's next start.
    Start(usize),
    /// A worker's stop.
    Stop(WorkerId),
}

impl Job {
    /// The controller that ran it is gone.
    pub(super) fn halt(&mut self) {
        self.running = false;
        self.started.clear();
    }
}

/// As many jobs as fill the cluster.
pub(super) fn jobs(settings: &Settings) -> Vec<Job> {
    let nodes: Vec<NodeIndex> = (0..settings.nodes).map(NodeIndex).collect();
    let slots = usize::try_from(settings.slots).unwrap_or(usize::MAX);
    let job = |(number, nodes): (usize, &[NodeIndex])| {
        let places: Vec<_> =
            nodes.iter().flat_map(|node| std::iter::repeat_n(*node, slots)).collect();
        Job {
            spec: JobSpec::new(format!("job-{number:04}"), places.len() as u64),
            places,
            generation: Generation(0),
            started: BTreeSet::new(),
            wanted: false,
            running: false,
        }
    };
    nodes.chunks(NODES_A_JOB).enumerate().map(job).collect()
}

impl Controller {
    /// Runs every job, one generation up.
    pub(in crate::scale) fn run_jobs(&mut self, world: &mut World) {
        for index in 0..self.jobs.len() {
            let job = &mut self.jobs[index];
            job.wanted = true;
            let spec = JobSpec { last_generation: job.generation, ..job.spec.clone() };
            // A controller that has just begun has no job of this name.
            if self.books.submit(spec).is_ok()
                && let Some(generation) = self.books.next_generation(&job.spec.id)
            {
                job.generation = generation;
                self.start_next(index, world);
            }
        }
    }

    /// Stops every worker that it knows of, all at once.
    pub(in crate::scale) fn stop_everything(&mut self, world: &mut World) {
        self.jobs.iter_mut().for_each(|job| job.wanted = false);
        for worker in self.books.snapshot().workers.into_keys() {
            self.stop(worker, world);
        }
    }

    /// Whether every job is as wanted, and no call is under way.
    pub(in crate::scale) fn is_at_rest(&self) -> bool {
        self.asked.is_empty() && self.jobs.iter().all(|job| job.running || !job.wanted)
    }

    /// A call was answered.
    pub(in crate::scale) fn told(&mut self, request: RequestId, told: ToldBack, world: &mut World) {
        match self.asked.remove(&request) {
            // Another controller asked.
            None => {}
            Some(Asked::Start { job, placement }) => self.start_told(job, &placement, told, world),
            Some(Asked::Stop(worker)) => self.stop_told(worker, world),
        }
        self.books.take_events();
    }

    /// The time has come to try something again.
    pub(in crate::scale) fn again(&mut self, what: Again, world: &mut World) {
        match what {
            Again::Start(job) => self.start_next(job, world),
            Again::Stop(worker) => self.stop(worker, world),
        }
    }

    fn start_next(&mut self, index: usize, world: &mut World) {
        let job = &mut self.jobs[index];
        let Some(node) = job.places.get(job.started.len()).copied() else {
            job.running = true;
            return self.books.scheduled(&job.spec.id, job.started.clone());
        };
        let machine = machine_id(node);
        match self.books.place_on(&machine, &job.spec, job.generation, 1) {
            Err(_) => self.later(POLL, Again::Start(index), world),
            Ok(placement) => {
                let start = start(&job.spec, &placement);
                self.ask(node, Ask::Start(start), Asked::Start { job: index, placement }, world);
            }
        }
    }

    fn start_told(
        &mut self,
        index: usize,
        placement: &Placement,
        told: ToldBack,
        world: &mut World,
    ) {
        let (code, message) = match told {
            ToldBack::Replied(Reply::Started(Ok(worker))) => {
                self.books.started(world.now, placement, worker);
                self.jobs[index].started.insert(worker);
                return self.start_next(index, world);
            }
            ToldBack::Replied(reply) => (Code::FailedPrecondition, format!("{reply:?}")),
            ToldBack::Refused => (Code::Unavailable, "connection refused".to_owned()),
        };
        self.books.start_failed(placement, Refusal { code, message });
        self.later(RETRY, Again::Start(index), world);
    }

    fn stop(&mut self, worker: WorkerId, world: &mut World) {
        if let StopTarget::Call(address) = self.books.stop_target(worker)
            && let Some(node) = node_at(&address)
        {
            let ask = Ask::Stop { worker, how: StopHow::Force };
            self.ask(node, ask, Asked::Stop(worker), world);
        }
    }

    /// Whatever the node said: a worker is not known to be gone until its end is reported.
    fn stop_told(&self, worker: WorkerId, world: &mut World) {
        if self.books.stop_target(worker) != StopTarget::Gone {
            self.later(POLL, Again::Stop(worker), world);
        }
    }

    fn ask(&mut self, node: NodeIndex, ask: Ask, asked: Asked, world: &mut World) {
        self.last_request += 1;
        let request = RequestId(self.last_request);
        self.asked.insert(request, asked);
        world.after_legs(LEGS_OF_A_CALL, Happening::Ask(node, request, Box::new(ask)));
    }

    fn later(&self, wait: Duration, what: Again, world: &mut World) {
        world.after(wait, Happening::Again(self.life, what));
    }
}

fn start(job: &JobSpec, placement: &Placement) -> Start {
    Start {
        machine: placement.node.clone(),
        name: job.name.clone(),
        job: placement.job.clone(),
        pipeline: placement.pipeline.clone(),
        generation: placement.generation,
        slots: NonZeroU64::new(placement.slots).unwrap_or(NonZeroU64::MIN),
        dialect: placement.dialect,
        env: job.env.clone(),
        key: None,
    }
}
