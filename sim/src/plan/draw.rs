//! Drawing a plan from its seed. Swarm testing: what a run has at all is drawn first, since a run
//! that has everything rarely gets deep into anything.

use rand_chacha::ChaCha8Rng;

use super::{
    AgentPlan, BadCall, Call, ControllerPlan, Deed, Fault, Kind, Moment, Plan, Temper, TimedDeed,
    Writes,
};
use crate::streams::{Stream, below, between, percent, stream, stream_of};

/// The seed whose run fails by design.
pub const CANARY: u64 = 0xca_9a27;

impl Plan {
    /// The plan of a seed.
    pub fn draw(seed: u64) -> Self {
        let mut swarm = stream(seed, Stream::Swarm);
        let mut kinds = draw_kinds(&mut swarm);
        let temper = draw_temper(&mut swarm);
        // From a stream of its own: runs without it stay as they were.
        if !kinds.is_empty() && percent(&mut stream_of(seed, Stream::Swarm, &[&"disk hangs"]), 35) {
            kinds.push(Kind::DiskHangs);
        }
        let mut shape = stream(seed, Stream::Shape);
        let trouble_ms = between(&mut shape, 60, 240) * 1_000;
        let mut agents = draw_agents(&mut shape);
        for (number, agent) in agents.iter_mut().enumerate() {
            agent.pids_at_once = percent(&mut stream_of(seed, Stream::Shape, &[&number]), 40);
        }
        let least = between(&mut shape, 0, 3);
        let mut plan = Self {
            seed,
            tick_ms: [10, 10, 10, 5, 2][pick(&mut shape, 5)],
            trouble_ms,
            latency_ms: (least, least + [2, 10, 40, 200][pick(&mut shape, 4)]),
            controller: ControllerPlan {
                hold_lock: percent(&mut shape, 75),
                call_deadline_ms: percent(&mut shape, 30)
                    .then(|| between(&mut shape, 1_000, 8_000)),
            },
            agents,
            temper,
            peers_tell: percent(&mut stream_of(seed, Stream::Swarm, &[&"peers"]), 85),
            kinds,
            deeds: Vec::new(),
            canary: seed == CANARY,
        };
        plan.draw_jobs(&mut stream(seed, Stream::Workload));
        plan.draw_faults(&mut stream(seed, Stream::Faults));
        plan.deeds.sort_by_key(|timed| timed.at_ms);
        plan
    }

    fn draw_jobs(&mut self, rng: &mut ChaCha8Rng) {
        let capacity: u64 = self.agents.iter().map(|agent| agent.slots).sum();
        for number in 0..between(rng, 1, 6) {
            let job = format!("job-{number}");
            let at_ms = below(rng, self.trouble_ms / 2);
            let slots = between(rng, 1, (capacity * 2 / 3).max(1));
            let old_dialect = percent(rng, 30);
            self.add(at_ms, Deed::Submit { job: job.clone(), slots, old_dialect });
            for _ in 0..between(rng, 0, 2) {
                let at_ms = at_ms + between(rng, 1_000, 60_000);
                self.add(at_ms, Deed::Unwell { job: job.clone() });
            }
            if percent(rng, 60) {
                let at_ms = at_ms + between(rng, 2_000, self.trouble_ms / 2);
                self.add(at_ms, Deed::Stop { job: job.clone(), force: percent(rng, 80) });
                if percent(rng, 30) {
                    let at_ms = at_ms + between(rng, 200, 8_000);
                    self.add(at_ms, Deed::Stop { job, force: true });
                }
            }
        }
        let every = [2_000, 6_000, 20_000][pick(rng, 3)];
        for _ in 0..between(rng, 0, self.trouble_ms / every) {
            let agent = pick(rng, self.agents.len());
            let call = draw_call(rng);
            let at_ms = below(rng, self.trouble_ms);
            if let Call::Drain(true) = call {
                let until = at_ms + between(rng, 500, 15_000);
                self.add(until, Deed::Call { agent, call: Call::Drain(false) });
            }
            self.add(at_ms, Deed::Call { agent, call });
        }
    }

    fn draw_faults(&mut self, rng: &mut ChaCha8Rng) {
        if self.kinds.is_empty() {
            return;
        }
        // From a fault a minute to one in two seconds.
        let every = [60_000, 20_000, 8_000, 4_000, 2_000][pick(rng, 5)];
        let mut at_ms = between(rng, 500, every);
        while at_ms < self.trouble_ms {
            let kind = self.kinds[pick(rng, self.kinds.len())];
            let fault = draw_fault(rng, kind, self.agents.len());
            self.add(at_ms, Deed::Fault(fault));
            at_ms += between(rng, every / 10, every * 2);
        }
    }

    fn add(&mut self, at_ms: u64, deed: Deed) {
        self.deeds.push(TimedDeed { at_ms, deed });
    }
}

fn draw_kinds(rng: &mut ChaCha8Rng) -> Vec<Kind> {
    if percent(rng, 5) {
        return Vec::new();
    }
    let share = [15, 30, 60, 90][pick(rng, 4)];
    let rare = |kind: &Kind| matches!(kind, Kind::Damage | Kind::PowerLoss);
    Kind::ALL
        .into_iter()
        .filter(|kind| *kind != Kind::DiskHangs)
        .filter(|kind| percent(rng, if rare(kind) { share / 2 } else { share }))
        .collect()
}

fn draw_temper(rng: &mut ChaCha8Rng) -> Temper {
    let life_ms = [2_000, 15_000, 60_000][pick(rng, 3)];
    let mut some = |most| if percent(rng, 50) { between(rng, 1, most) } else { 0 };
    Temper {
        life_ms,
        exec_fails: some(40),
        exec_slow: some(40),
        dies_at_once: some(25),
        mortal: some(100),
        stubborn: some(60),
        parents: some(60),
        escapes: some(100),
        slow_death: some(40),
    }
}

fn draw_agents(rng: &mut ChaCha8Rng) -> Vec<AgentPlan> {
    let count = [1, 2, 2, 3, 3, 3, 4, 5][pick(rng, 8)];
    let shim = percent(rng, 80);
    let fence = percent(rng, 10).then(|| between(rng, 10_000, 40_000));
    (0..count)
        .map(|_| AgentPlan {
            slots: [1, 2, 4, 8, 16][pick(rng, 5)],
            shim,
            pids: [24, 40, 200][pick(rng, 3)],
            pids_at_once: false,
            checkpoint_every: [3, 20, 1_000][pick(rng, 3)],
            fence_after_ms: fence,
            retain_ms: [600_000, 20_000, 3_000][pick(rng, 3)],
            drift_ppm: i64::try_from(below(rng, 400)).unwrap_or(0) - 200,
        })
        .collect()
}

fn draw_call(rng: &mut ChaCha8Rng) -> Call {
    const BAD: [BadCall; 8] = [
        BadCall::NoJob,
        BadCall::NoSlots,
        BadCall::BadVariable,
        BadCall::TooLong,
        BadCall::WrongMachine,
        BadCall::TooManySlots,
        BadCall::NotMe,
        BadCall::UnknownWorker,
    ];
    match below(rng, 100) {
        0..25 => Call::Start {
            job: format!("raw-{}", below(rng, 3)),
            generation: between(rng, 1, 6),
            slots: between(rng, 1, 3),
            times: [1, 1, 2, 3][pick(rng, 4)],
            named: percent(rng, 60),
            pipeline: percent(rng, 50),
        },
        25..30 => Call::Race {
            job: format!("raw-{}", below(rng, 3)),
            generation: between(rng, 7, 60),
            slots: between(rng, 1, 3),
            times: 3,
        },
        30..37 => Call::StaleStart { nth: below(rng, 100) },
        37..57 => Call::Bad(BAD[pick(rng, BAD.len())]),
        57..87 => Call::Stop {
            nth: below(rng, 100),
            force: percent(rng, 50),
            ask: percent(rng, 20),
            times: [1, 1, 2][pick(rng, 3)],
        },
        87..91 => Call::List,
        91..96 => Call::Alive,
        _ => Call::Drain(true),
    }
}

fn draw_fault(rng: &mut ChaCha8Rng, kind: Kind, agents: usize) -> Fault {
    let agent = pick(rng, agents);
    let down = [100, 2_000, 8_000, 25_000][pick(rng, 4)];
    let down = between(rng, 20, down);
    let ms = [1_000, 6_000, 20_000, 45_000][pick(rng, 4)];
    let ms = between(rng, 100, ms);
    match kind {
        Kind::Kill => Fault::Kill { agent, ms: down },
        Kind::KillWhen => {
            let moment = Moment::ALL[pick(rng, Moment::ALL.len())];
            Fault::KillWhen { agent, moment, ms: down }
        }
        Kind::PowerLoss => {
            Fault::PowerLoss { agent, ms: 1_000 + ms, cut_permille: below(rng, 1_001) }
        }
        Kind::Damage => Fault::Damage { agent, ms: down },
        Kind::Detach => Fault::Detach { agent, ms: down },
        Kind::ShutDown => Fault::ShutDown { agent, ms: 1_000 + ms },
        Kind::Pause => Fault::Pause { agent, ms },
        Kind::KillShim => Fault::KillShim { agent },
        Kind::OutOfMemory => Fault::OutOfMemory { agent, nth: below(rng, 100) },
        Kind::Disk => Fault::Disk { agent, ms },
        Kind::DiskHangs => {
            Fault::DiskHangs { agent, ms, writes: Writes::ALL[pick(rng, Writes::ALL.len())] }
        }
        Kind::ClockJump => {
            let by = i64::try_from(below(rng, 20_000_000)).unwrap_or(0) - 10_000_000;
            Fault::ClockJump { agent, by_ms: by }
        }
        Kind::Partition => Fault::Partition { agent, ms },
        Kind::OneWay if percent(rng, 50) => Fault::Deaf { agent, ms },
        Kind::OneWay => Fault::Mute { agent, ms },
        Kind::Hold => Fault::Hold { agent, ms },
        Kind::ControllerVanishes => Fault::ControllerVanishes { ms },
        Kind::ControllerKill => Fault::ControllerKill { ms: down, resubmit: percent(rng, 80) },
        Kind::Forget => Fault::Forget { agent },
        Kind::ControllerSlow => {
            Fault::ControllerSlow { ms, each_ms: [200, 1_000, 3_000, 5_000][pick(rng, 4)] }
        }
        Kind::ControllerHangs => Fault::ControllerHangs { ms },
        Kind::AnswersLost => Fault::AnswersLost { ms },
        Kind::StartAnswerLost => Fault::StartAnswerLost { agent, ms },
    }
}

fn pick(rng: &mut ChaCha8Rng, of: usize) -> usize {
    usize::try_from(below(rng, of as u64)).unwrap_or(0)
}
