//! How proptest makes up scenarios, and shrinks them.

use arroyo_node::machine::{Shutdown, StopHow};
use arroyo_node_model::scenario::{
    Abandoned, Action, Capacity, Millis, Outcome, Scenario, Settings, Step,
};
use proptest::{collection::vec, option, prelude::*};

pub(crate) fn scenarios() -> impl Strategy<Value = Scenario> {
    let settings = (any::<u8>(), capacity(), prop::bool::weighted(0.2), abandoned()).prop_map(
        |(seed, capacity, fencing, abandoned)| Settings { seed, capacity, fencing, abandoned },
    );
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
    program: bool,
}

fn swarm() -> impl Strategy<Value = Swarm> {
    any::<[bool; 7]>().prop_map(
        |[crashes, journal, signals, shutdowns, draining, controller, program]| Swarm {
            crashes,
            journal,
            signals,
            shutdowns,
            draining,
            controller,
            program,
        },
    )
}

impl Swarm {
    fn allows(&self, action: &Action) -> bool {
        match action {
            Action::Crash { .. } => self.crashes,
            Action::JournalWorks(_) => self.journal,
            Action::SignalsWork(_) => self.signals,
            Action::Shutdown { .. } => self.shutdowns,
            Action::Drain(_) => self.draining,
            Action::ForgetNodes | Action::LoseConnection { .. } | Action::LateAnswer => {
                self.controller
            }
            Action::ProgramWorks(_) => self.program,
            _ => true,
        }
    }
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        14 => start(),
        2 => Just(Action::StartAgain),
        6 => (any::<u8>(), how()).prop_map(|(which, how)| Action::Stop { which, how }),
        1 => any::<bool>().prop_map(|elsewhere| Action::Alive { elsewhere }),
        1 => any::<bool>().prop_map(Action::Drain),
        1 => (end(), any::<bool>()).prop_map(|(how, by_request)| {
            Action::Shutdown { how, by_request }
        }),
        20 => (any::<u8>(), outcome()).prop_map(|(which, outcome)| {
            Action::Answer { which, outcome }
        }),
        4 => Just(Action::AnswerAll),
        8 => (any::<u8>(), any::<u8>()).prop_map(|(which, code)| Action::Exit { which, code }),
        2 => any::<bool>().prop_map(|closed| Action::LoseConnection { closed }),
        2 => Just(Action::ForgetNodes),
        1 => Just(Action::LateAnswer),
        1 => any::<bool>().prop_map(Action::ProgramWorks),
        10 => millis().prop_map(Action::Pass),
        2 => millis().prop_map(Action::Sleep),
        1 => prop_oneof![-100_000..100_000_i32, any::<i32>()].prop_map(Action::JumpWall),
        2 => any::<bool>().prop_map(Action::JournalWorks),
        2 => any::<bool>().prop_map(Action::SignalsWork),
        4 => (0..8_u8, prop::bool::weighted(0.2), any::<u8>(), capacity())
            .prop_map(|(after, reboot, deaths, capacity)| {
                Action::Crash { after, reboot, deaths, capacity }
            }),
    ]
}

fn start() -> impl Strategy<Value = Action> {
    let slots = prop_oneof![8 => 0..4_u8, 1 => 4..8_u8];
    let key = option::weighted(0.4, 0..3_u8);
    (0..3_u8, 0..6_u8, slots, key, prop::bool::weighted(0.05)).prop_map(
        |(job, generation, slots, key, elsewhere)| Action::Start {
            job,
            generation,
            slots,
            key,
            elsewhere,
        },
    )
}

fn how() -> impl Strategy<Value = StopHow> {
    prop_oneof![1 => Just(StopHow::Ask), 1 => Just(StopHow::Gentle), 3 => Just(StopHow::Force)]
}

fn end() -> impl Strategy<Value = Shutdown> {
    prop_oneof![2 => Just(Shutdown::StopWorkers), 1 => Just(Shutdown::Detach)]
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![4 => Just(Outcome::Good), 1 => Just(Outcome::Bad), 1 => Just(Outcome::Odd)]
}

fn abandoned() -> impl Strategy<Value = Abandoned> {
    prop_oneof![
        4 => Just(Abandoned::StopAfter),
        1 => Just(Abandoned::End),
        1 => Just(Abandoned::Keep),
    ]
}

fn capacity() -> impl Strategy<Value = Capacity> {
    prop_oneof![1 => Just(Capacity::Two), 2 => Just(Capacity::Four), 2 => Just(Capacity::Eight)]
}

fn millis() -> impl Strategy<Value = Millis> {
    prop_oneof![0..300_u16, 300..6_000_u16, 6_000..60_000_u16].prop_map(Millis)
}
