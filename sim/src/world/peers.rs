//! What workers tell the controller when their peers vanish. A worker is connected to the other
//! workers of its run. When one of them ends, tasks of the others panic, and each of the others
//! tells so to the controller that is there by then. As in stock, nobody looks at the run: the
//! message of an old worker may fail a new run. The worker lives on itself.
//!
//! ```text
//!  worker a gone ─▶ worker b, same job and generation ── 100 ms to 2 s ─▶ "a task failed"
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use arroyo_node::ids::{JobId, WorkerId};

use crate::{
    past::{Past, WorkerPast},
    streams::{Stream, between, stream_of},
};

/// The bounds of the time from the end of a worker to the message of its peer, in milliseconds.
const DELAY_MS: (u64, u64) = (100, 2_000);

/// The messages that are to be sent.
#[derive(Debug, Default)]
pub(super) struct Peers {
    seed: u64,
    /// The workers whose end their peers have noticed.
    noticed: BTreeSet<WorkerId>,
    /// Who sends when; the second worker is the one that is gone.
    due: BTreeSet<(Duration, WorkerId, WorkerId)>,
}

/// A worker that has something to tell.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Sender {
    pub(super) worker: WorkerId,
    pub(super) agent: usize,
    pub(super) job: JobId,
}

impl Peers {
    /// Without anything to send yet.
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    /// Finds the workers that have ended since it last looked, and the peers that will say so.
    pub(super) fn look(&mut self, past: &Past) {
        let ended: BTreeMap<_, _> = past
            .workers
            .iter()
            .filter(|(id, worker)| worker.ran.is_some() && !self.noticed.contains(id))
            .filter_map(|(id, worker)| Some((*id, (worker.gone?.0, worker))))
            .collect();
        for (gone, (at, worker)) in ended {
            self.noticed.insert(gone);
            for (peer, _) in past.workers.iter().filter(|(_, other)| is_peer(worker, other)) {
                let mut rng = stream_of(self.seed, Stream::Peers, &[&gone, peer]);
                let delay = Duration::from_millis(between(&mut rng, DELAY_MS.0, DELAY_MS.1));
                self.due.insert((at + delay, *peer, gone));
            }
        }
    }

    /// Takes the messages whose time has come, of workers that are still alive.
    pub(super) fn take_due(&mut self, now: Duration, past: &Past) -> Vec<Sender> {
        let mut senders = Vec::new();
        while let Some((_, worker, _)) = self.due.first().filter(|(at, ..)| *at <= now).copied() {
            self.due.pop_first();
            if let Some(known) = past.workers.get(&worker).filter(|known| known.is_live()) {
                senders.push(Sender { worker, agent: known.agent, job: known.spec.job.clone() });
            }
        }
        senders
    }
}

/// Whether a live worker is connected to one that is gone.
fn is_peer(gone: &WorkerPast, other: &WorkerPast) -> bool {
    other.is_live()
        && other.spec.job == gone.spec.job
        && other.spec.generation == gone.spec.generation
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroU64, sync::Arc};

    use arroyo_node::{
        ids::Generation,
        machine::{Dialect, Exit, Launch, Process, Wall, WorkerSpec},
    };

    use super::*;
    use crate::fact::{Ending, Fact, Place};

    const END: Duration = Duration::from_secs(10);
    const LATER: Duration = Duration::from_secs(12);

    /// Two agents. Of one job: worker 1 on the first, worker 2 on the second, of generation 1; and
    /// worker 3 on the second, of generation 2. Worker 4 on the first is of another job.
    fn past() -> Past {
        let mut past = Past::new([4, 4]);
        for (id, agent, job, generation) in
            [(1, 0, "j", 1), (2, 1, "j", 1), (3, 1, "j", 2), (4, 0, "k", 1)]
        {
            let spec = WorkerSpec {
                name: job.into(),
                job: job.into(),
                pipeline: None,
                generation: Generation(generation),
                slots: NonZeroU64::MIN,
                dialect: Dialect::V0_15,
                key: None,
            };
            let launch = Launch {
                worker: WorkerId(id),
                spec: Arc::new(spec),
                admitted_at: Wall(1),
                env: Default::default(),
            };
            let process = Process { pid: 300, start_time: id };
            let at = Duration::from_secs(1);
            past.note(at, Place::Agent(agent), &Fact::Spawns(launch));
            past.note(at, Place::Agent(agent), &Fact::Ran(WorkerId(id), process));
        }
        past
    }

    fn ends(past: &mut Past, agent: usize, worker: u64) {
        let gone = Fact::TreeGone(WorkerId(worker), Exit::Code(1));
        past.note(END, Place::Agent(agent), &gone);
    }

    fn told_by(peers: &mut Peers, now: Duration, past: &Past) -> Vec<u64> {
        peers.take_due(now, past).into_iter().map(|sender| sender.worker.0).collect()
    }

    #[test]
    fn the_peers_of_the_same_run_tell_once_within_two_seconds() {
        let mut past = past();
        ends(&mut past, 0, 1);
        let mut peers = Peers::new(7);
        peers.look(&past);
        peers.look(&past);
        assert!(told_by(&mut peers, END + Duration::from_millis(99), &past).is_empty());
        let sender = Sender { worker: WorkerId(2), agent: 1, job: "j".into() };
        assert_eq!(peers.take_due(LATER, &past), [sender]);
        peers.look(&past);
        assert!(told_by(&mut peers, LATER * 2, &past).is_empty());
    }

    #[test]
    fn a_peer_that_has_ended_meanwhile_tells_nothing() {
        let mut past = past();
        ends(&mut past, 0, 1);
        let mut peers = Peers::new(7);
        peers.look(&past);
        ends(&mut past, 1, 2);
        peers.look(&past);
        assert!(told_by(&mut peers, LATER, &past).is_empty());
    }

    #[test]
    fn a_machine_that_loses_power_is_noticed_on_the_others() {
        let mut past = past();
        past.note(END, Place::Agent(0), &Fact::AgentGone(Ending::PowerLost));
        let mut peers = Peers::new(7);
        peers.look(&past);
        assert_eq!(told_by(&mut peers, LATER, &past), [2]);
    }

    #[test]
    fn the_time_depends_on_the_seed_alone() {
        let mut past = past();
        ends(&mut past, 0, 1);
        let when = |seed| {
            let mut peers = Peers::new(seed);
            peers.look(&past);
            peers.due
        };
        assert_eq!(when(7), when(7));
        assert_ne!(when(7), when(8));
    }
}
