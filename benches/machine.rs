//! How many events one core handles, without a driver, a journal or a network around the machine.
//!
//! Each figure is of an agent at work: it remembers 1,000 workers that have ended, as many as it ever
//! does, and in two of them 1,000 more are alive.

use std::{hint::black_box, num::NonZeroU64, sync::Arc};

use arroyo_node::{
    ids::{Generation, JobId, MachineId, RequestId, WorkerId},
    machine::{
        Ask, Config, Dialect, Effect, Effects, End, Event, Exit, Machine, Mono, Now, Process,
        Recovered, Start, Wall, Worker, WorkerSpec,
    },
};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

const MANY: u64 = 1_000;

const PROCESS: Process = Process { pid: 4_711, start_time: 123_456 };

/// An agent and its controller, which agrees with everything.
struct Agent {
    machine: Machine,
    now: Now,
    effects: Effects,
    requests: u64,
    start: Start,
}

impl Agent {
    /// So many workers are alive, and as many have been reported.
    fn with(workers: u64) -> Self {
        let mut agent = Self::starting(workers);
        agent.handle(Event::Begin);
        agent.answer_heartbeat();
        agent.handle(Event::Registered(Ok(())));
        agent.adopt(workers);
        agent
    }

    /// Before its first event.
    fn starting(workers: u64) -> Self {
        let mut config = Config::new(MachineId::new("node"));
        config.task_slots = u64::from(u32::MAX);
        let now = Now { mono: Mono(1_000_000_000), wall: Wall(1_750_000_000_000_000) };
        let live = (1..=workers).map(|id| worker(id, None));
        let ended = (1..=MANY).map(|id| worker(MANY + id, Some(Wall(1))));
        let workers = live.chain(ended).collect();
        let recovered = Recovered { workers, ..Recovered::default() };
        let start = Start {
            machine: config.machine.clone(),
            name: "wordcount".into(),
            job: JobId::new("job_4Vyf8Xg2nR"),
            pipeline: None,
            generation: Generation(1),
            slots: NonZeroU64::MIN,
            dialect: Dialect::V0_15,
            env: [("A".into(), "1".into())].into(),
            key: None,
        };
        let machine = Machine::new(config, [7; 32], recovered, now);
        Self { machine, now, effects: Effects::default(), requests: 0, start }
    }

    fn handle(&mut self, event: Event) {
        self.effects.commit.records.clear();
        self.effects.effects.clear();
        self.machine.handle(self.now, event, &mut self.effects);
    }

    fn adopt(&mut self, workers: u64) {
        for id in 1..=workers {
            self.handle(Event::Adopted { worker: WorkerId(id), process: PROCESS });
        }
    }

    /// Five events: asked for, running, answered, ended, reported.
    fn life_of_a_worker(&mut self) {
        self.requests += 1;
        let request = RequestId(self.requests);
        self.handle(Event::Request { request, ask: Ask::Start(self.start.clone()) });
        let [Effect::Spawn(launch)] = &self.effects.effects[..] else { panic!("no spawn") };
        let worker = launch.worker;
        self.handle(Event::Spawned { worker, process: PROCESS });
        self.handle(Event::Delivered(request));
        self.handle(Event::Exited { worker, exit: Exit::Code(0) });
        self.handle(Event::ReportAnswered { worker, result: Ok(()) });
    }

    /// Two events: it is due, and it is answered.
    fn heartbeat(&mut self) {
        let (due, _) = self.machine.next_timeout().expect("a heartbeat");
        self.now.mono = due;
        self.handle(Event::Timeout);
        self.answer_heartbeat();
    }

    fn answer_heartbeat(&mut self) {
        let sent = self.effects.effects.iter().find_map(|effect| match effect {
            Effect::Heartbeat(heartbeat) => Some(*heartbeat),
            _ => None,
        });
        if let Some(heartbeat) = sent {
            self.handle(Event::HeartbeatAnswered { heartbeat, result: Ok(()) });
        }
    }
}

fn worker(id: u64, reported_at: Option<Wall>) -> Worker {
    Worker {
        id: WorkerId(id),
        spec: Arc::new(WorkerSpec {
            name: "wordcount".into(),
            job: JobId::new(format!("job_{id}")),
            pipeline: None,
            generation: Generation(1),
            slots: NonZeroU64::MIN,
            dialect: Dialect::V0_15,
            key: None,
        }),
        admitted_at: Wall(1),
        process: Some(PROCESS),
        stop: None,
        abandoned_at: None,
        end: reported_at.map(|at| End { exit: Exit::Code(0), at, sequence: id }),
        reported_at,
    }
}

fn events(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("machine");
    for workers in [0, MANY] {
        let mut agent = Agent::with(workers);
        group.throughput(Throughput::Elements(5));
        group.bench_function(format!("the life of a worker among {workers}"), |bencher| {
            bencher.iter(|| agent.life_of_a_worker());
        });
    }
    let mut agent = Agent::with(MANY);
    group.throughput(Throughput::Elements(2));
    group.bench_function("a heartbeat", |bencher| bencher.iter(|| agent.heartbeat()));

    group.throughput(Throughput::Elements(1 + MANY));
    group.bench_function("recovery of 1000 workers", |bencher| {
        let setup = || Agent::starting(MANY);
        let recover = |mut agent: Agent| {
            agent.handle(Event::Begin);
            agent.adopt(MANY);
            agent
        };
        bencher.iter_batched(setup, recover, BatchSize::LargeInput);
    });

    let agent = Agent::with(MANY);
    group.throughput(Throughput::Elements(1));
    group.bench_function("a view of 2000 workers", |bencher| {
        bencher.iter(|| black_box(agent.machine.view()));
    });
    group.finish();
}

criterion_group!(benches, events);
criterion_main!(benches);
