//! P11, liveness: when faults stop, everything is as it should be within 60 s: registered, nothing
//! owed, the controller's and the agents' books agree.
//!
//! Two differences between the books are excused: workers that the controller's restart made it
//! forget (stock never asks for them; the next generation of their job ends them), and slots that it
//! holds for workers whose rows went with the machine's power or with a damaged journal.

use std::time::Duration;

use arroyo_node::{controller::Snapshot, machine::View};

use super::{Oracle, Sight, Verdict};
use crate::{past::Past, world::agent_name};

/// How long convergence may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits, once faults have stopped, until it has once seen everything in order.
#[derive(Default)]
pub(super) struct Convergence {
    converged: bool,
}

impl Oracle for Convergence {
    fn promise(&self) -> &'static str {
        "P11 it converges within 60 s"
    }

    fn look(&mut self, sight: &Sight<'_>, past: &Past) -> Verdict {
        let Some(since) = past.healing_since.filter(|_| !self.converged) else { return Ok(()) };
        match what_is_wrong(sight, past) {
            None => self.converged = true,
            Some(wrong) if since + PATIENCE < sight.now => return Err(wrong),
            Some(_) => {}
        }
        Ok(())
    }

    fn is_waiting(&self) -> bool {
        !self.converged
    }
}

/// The first thing that is not as it should be.
fn what_is_wrong(sight: &Sight<'_>, past: &Past) -> Option<String> {
    let Some(books) = sight.books else { return Some("there is no controller".into()) };
    sight.views.iter().enumerate().find_map(|(number, view)| {
        let wrong = match view {
            None => Some("is not there".into()),
            Some(view) => of_agent(number, view, books, past),
        };
        wrong.map(|wrong| format!("{} {wrong}", agent_name(number)))
    })
}

fn of_agent(number: usize, view: &View, books: &Snapshot, past: &Past) -> Option<String> {
    if !view.registered {
        return Some("is not registered".into());
    }
    let Some(node) = books.nodes.get(&view.machine) else {
        return Some("is not in the controller's books".into());
    };
    if let Some(error) = &view.journal_error {
        return Some(format!("cannot write its journal: {error}"));
    }
    if view.reports_owed > 0 {
        return Some(format!("owes {} reports", view.reports_owed));
    }
    for (id, _) in past.live_on(number).filter(|(_, worker)| worker.excuse.is_none()) {
        let known = view.workers.get(id).is_some_and(|worker| worker.is_live());
        if !known {
            return Some(format!("does not know its worker {id}, which is alive"));
        }
    }
    for worker in view.workers.iter().filter(|worker| worker.is_live()) {
        let live = past.workers.get(&worker.id).is_some_and(|past| past.gone.is_none());
        if !live {
            return Some(format!("takes worker {} for alive, which is gone", worker.id));
        }
    }
    for id in node.held.keys() {
        let excused = past.workers.get(id).is_some_and(|worker| worker.excuse.is_some());
        let live = view.workers.get(*id).is_some_and(|worker| worker.is_live());
        if !live && !excused {
            return Some(format!("has no worker {id}, for which the controller holds slots"));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use arroyo_node::{
        controller::Node,
        ids::{MachineId, WorkerId},
        machine::{Config, Machine, Mono, Now, Recovered, Seed, Wall},
    };

    use super::*;
    use crate::fact::{Fact, Place};

    const HEALS: Duration = Duration::from_secs(100);
    const LATE: Duration = Duration::from_secs(161);

    fn healing() -> Past {
        let mut past = Past::new([4]);
        past.note(HEALS, Place::World, &Fact::Healing);
        past
    }

    fn view() -> View {
        let now = Now { mono: Mono(1), wall: Wall(1) };
        let config = Config::new(MachineId::new("agent-1"));
        let machine = Machine::new(config, Seed::default(), Recovered::default(), now);
        View { registered: true, ..machine.view() }
    }

    fn books() -> Snapshot {
        let node = Node {
            slots: 4,
            address: "agent-1:5118".into(),
            last_heard: Mono(1),
            held: BTreeMap::new(),
            reserved: BTreeMap::new(),
        };
        Snapshot { nodes: [(MachineId::new("agent-1"), node)].into(), ..Snapshot::default() }
    }

    /// What the oracle says, and whether it waits on.
    fn look(now: Duration, view: Option<View>, books: Option<&Snapshot>) -> (Verdict, bool) {
        let mut oracle = Convergence::default();
        let verdict = oracle.look(&Sight { now, views: &[view.map(Arc::new)], books }, &healing());
        (verdict, oracle.is_waiting())
    }

    #[test]
    fn what_is_as_it_should_be_has_converged() {
        assert_eq!(look(HEALS, Some(view()), Some(&books())), (Ok(()), false));
    }

    #[test]
    fn what_is_not_has_a_minute() {
        let lost = View { registered: false, ..view() };
        let owing = View { reports_owed: 2, ..view() };
        let mut holding = books();
        let node = holding.nodes.values_mut().next().expect("there is one");
        node.held.insert(WorkerId(7), 2);
        let cases = [
            (None, Some(books()), "is not there"),
            (Some(view()), None, "no controller"),
            (Some(lost), Some(books()), "not registered"),
            (Some(owing), Some(books()), "owes 2 reports"),
            (Some(view()), Some(Snapshot::default()), "not in the controller's books"),
            (Some(view()), Some(holding), "no worker 7"),
        ];
        for (view, books, wrong) in cases {
            assert_eq!(look(HEALS, view.clone(), books.as_ref()), (Ok(()), true), "{wrong}");
            let (verdict, _) = look(LATE, view, books.as_ref());
            let said = verdict.expect_err(wrong);
            assert!(said.contains(wrong), "{said}");
        }
    }

    #[test]
    fn before_faults_stop_nothing_is_due() {
        let mut oracle = Convergence::default();
        let sight = Sight { now: LATE, views: &[None], books: None };
        assert_eq!(oracle.look(&sight, &Past::new([4])), Ok(()));
    }
}
