//! What can happen, as data that proptest makes up and shrinks.

use std::fmt;

use arroyo_node::machine::{Shutdown, StopHow};
use proptest::{collection::vec, option, prelude::*};

/// One run of a world.
#[derive(Clone)]
pub struct Scenario {
    pub settings: Settings,
    pub steps: Vec<Step>,
}

#[derive(Clone, Debug)]
pub struct Settings {
    pub seed: u8,
    pub task_slots: u64,
    pub fencing: bool,
}

/// An action, and whether the driver takes in what is ready before the next one: if it does not,
/// the events of both share a batch.
#[derive(Clone)]
pub struct Step {
    pub action: Action,
    pub turn: bool,
}

/// Numbers named `which` choose among what is there when the action comes.
#[derive(Clone, Debug)]
pub enum Action {
    Start {
        job: u8,
        generation: u8,
        slots: u8,
        key: Option<u8>,
        elsewhere: bool,
    },
    Stop {
        which: u8,
        how: StopHow,
    },
    Alive {
        elsewhere: bool,
    },
    Drain(bool),
    Shutdown {
        how: Shutdown,
        by_request: bool,
    },
    /// Something that the agent submitted is answered.
    Answer {
        which: u8,
        outcome: Outcome,
    },
    AnswerAll,
    /// A worker ends by itself.
    Exit {
        which: u8,
        code: u8,
    },
    Connected,
    /// The controller loses its memory.
    ForgetNodes,
    PassMillis(u16),
    JumpWall(i32),
    JournalWorks(bool),
    SignalsWork(bool),
    /// The agent is killed once this many effects of the next batch are executed, and comes back.
    Crash {
        after: u8,
        reboot: bool,
        deaths: u8,
        task_slots: u64,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    Good,
    /// It did not happen.
    Bad,
    /// It happened, and the answer says that it did not; or in an order one would not expect.
    Odd,
}

pub fn scenarios() -> impl Strategy<Value = Scenario> {
    let settings = (any::<u8>(), prop_oneof![Just(4_u64), Just(8)], prop::bool::weighted(0.2))
        .prop_map(|(seed, task_slots, fencing)| Settings { seed, task_slots, fencing });
    // Whole kinds of fault are off in some runs: what they would cover up can be seen then.
    (settings, swarm(), vec((action(), prop::bool::weighted(0.8)), 1..80)).prop_map(
        |(settings, swarm, steps)| {
            let steps = steps.into_iter().map(|(action, turn)| Step { action, turn });
            Scenario { settings, steps: steps.filter(|step| swarm.allows(&step.action)).collect() }
        },
    )
}

#[derive(Clone, Debug)]
struct Swarm {
    crashes: bool,
    journal: bool,
    signals: bool,
    shutdowns: bool,
    draining: bool,
    controller: bool,
}

fn swarm() -> impl Strategy<Value = Swarm> {
    any::<[bool; 6]>().prop_map(|[crashes, journal, signals, shutdowns, draining, controller]| {
        Swarm { crashes, journal, signals, shutdowns, draining, controller }
    })
}

impl Swarm {
    fn allows(&self, action: &Action) -> bool {
        match action {
            Action::Crash { .. } => self.crashes,
            Action::JournalWorks(_) => self.journal,
            Action::SignalsWork(_) => self.signals,
            Action::Shutdown { .. } => self.shutdowns,
            Action::Drain(_) => self.draining,
            Action::ForgetNodes | Action::Connected => self.controller,
            _ => true,
        }
    }
}

fn action() -> impl Strategy<Value = Action> {
    let outcome =
        prop_oneof![4 => Just(Outcome::Good), 1 => Just(Outcome::Bad), 1 => Just(Outcome::Odd)];
    let how = prop_oneof![
        1 => Just(StopHow::Ask), 1 => Just(StopHow::Gentle), 3 => Just(StopHow::Force)
    ];
    let end = prop_oneof![2 => Just(Shutdown::StopWorkers), 1 => Just(Shutdown::Detach)];
    let rarely = || prop::bool::weighted(0.05);
    prop_oneof![
        12 => (0..3_u8, 0..6_u8, 1..5_u8, option::weighted(0.4, 0..3_u8), rarely()).prop_map(
            |(job, generation, slots, key, elsewhere)| {
                Action::Start { job, generation, slots, key, elsewhere }
            }
        ),
        6 => (any::<u8>(), how).prop_map(|(which, how)| Action::Stop { which, how }),
        1 => any::<bool>().prop_map(|elsewhere| Action::Alive { elsewhere }),
        1 => any::<bool>().prop_map(Action::Drain),
        1 => (end, any::<bool>()).prop_map(|(how, by_request)| {
            Action::Shutdown { how, by_request }
        }),
        20 => (any::<u8>(), outcome).prop_map(|(which, outcome)| {
            Action::Answer { which, outcome }
        }),
        4 => Just(Action::AnswerAll),
        8 => (any::<u8>(), any::<u8>()).prop_map(|(which, code)| Action::Exit { which, code }),
        2 => Just(Action::Connected),
        1 => Just(Action::ForgetNodes),
        10 => prop_oneof![0..300_u16, 300..6_000_u16, 6_000..60_000_u16]
            .prop_map(Action::PassMillis),
        1 => prop_oneof![-100_000..100_000_i32, any::<i32>()].prop_map(Action::JumpWall),
        2 => any::<bool>().prop_map(Action::JournalWorks),
        2 => any::<bool>().prop_map(Action::SignalsWork),
        3 => (0..6_u8, prop::bool::weighted(0.2), any::<u8>(), prop_oneof![Just(2_u64), Just(4), Just(8)])
            .prop_map(|(after, reboot, deaths, task_slots)| {
                Action::Crash { after, reboot, deaths, task_slots }
            }),
    ]
}

impl fmt::Debug for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:?}", self.settings)?;
        self.steps.iter().try_for_each(|step| {
            let turn = if step.turn { "; turn" } else { "" };
            writeln!(f, "    {:?}{turn}", step.action)
        })
    }
}
