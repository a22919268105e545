//! The promises, one file each: judged from what happened outside the agents, at every fact, after
//! every step, and at the end.

mod conduct;
mod forgotten;
mod p01_slots;
mod p02_durable;
mod p03_once;
mod p04_reported;
mod p05_once_acknowledged;
mod p06_own_processes;
mod p07_adoption;
mod p08_forced_stop;
mod p09_causes;
mod p10_heartbeats;
mod p11_convergence;
mod p12_bad_input;
mod p13_wall_clock;
mod p15_room;
mod p16_nothing_waits;
mod release;
mod stop_answers;

use std::{sync::Arc, time::Duration};

use arroyo_node::{controller::Snapshot, machine::View};

use crate::{fact::Entry, past::Past, plan::Plan};

/// What an oracle finds: nothing, or what broke the promise.
pub type Verdict = Result<(), String>;

/// Watches over one promise.
pub trait Oracle: Send {
    /// Which one.
    fn promise(&self) -> &'static str;

    /// Something happened; `past` does not know of it yet.
    fn see(&mut self, entry: &Entry, past: &Past) -> Verdict {
        let _ = (entry, past);
        Ok(())
    }

    /// A step is done.
    fn look(&mut self, sight: &Sight<'_>, past: &Past) -> Verdict {
        let _ = (sight, past);
        Ok(())
    }

    /// The run is over, and everything has healed.
    fn end(&mut self, sight: &Sight<'_>, past: &Past) -> Verdict {
        let _ = (sight, past);
        Ok(())
    }

    /// Whether the run must go on for something that is still to come about.
    fn is_waiting(&self) -> bool {
        false
    }
}

/// What can be seen between two steps.
#[derive(Debug)]
pub struct Sight<'a> {
    /// The simulated time.
    pub now: Duration,
    /// What each agent shows of itself; `None`: it is not there.
    pub views: &'a [Option<Arc<View>>],
    /// What the controller has in its books; `None`: it is not there.
    pub books: Option<&'a Snapshot>,
}

/// All of them. P14 takes two runs: see the command `check-determinism`, which holds runs with and
/// without clock jumps against each other, too.
pub fn all(plan: &Plan) -> Vec<Box<dyn Oracle>> {
    let fencing = plan.agents.iter().any(|agent| agent.fence_after_ms.is_some());
    vec![
        Box::new(p01_slots::Slots),
        Box::new(p02_durable::Durable::default()),
        Box::new(p03_once::Once::default()),
        Box::new(p04_reported::Reported),
        Box::new(p05_once_acknowledged::OnceAcknowledged::default()),
        Box::new(p06_own_processes::OwnProcesses),
        Box::new(p07_adoption::Adoption),
        Box::new(p08_forced_stop::ForcedStop::new(plan.temper.slow_death > 0)),
        Box::new(p09_causes::Causes::new(fencing)),
        Box::new(p10_heartbeats::Heartbeats),
        Box::new(p11_convergence::Convergence::default()),
        Box::new(p12_bad_input::BadInput),
        Box::new(p13_wall_clock::WallClock::new(&plan.agents)),
        Box::new(p15_room::Room::default()),
        Box::new(p16_nothing_waits::NothingWaits::new(plan)),
        Box::new(release::Release),
        Box::new(stop_answers::StopAnswers),
        Box::new(conduct::Conduct),
    ]
}
