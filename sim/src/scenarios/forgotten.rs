//! A controller that has forgotten a node, or a worker: what it does not count holds nothing up.

use arroyo_node::{
    controller::ControllerEvent,
    ids::WorkerId,
    machine::{Registration, Signal},
};

use super::{Scenario, agent, at, nothing_happens, story::at_controller, submit};
use crate::{
    fact::Fact,
    plan::{Deed, Fault},
};

/// A heartbeat is answered NOT_FOUND a moment after another was answered well: the controller has
/// lost its memory, and takes all slots of the node for free. The worker that nobody counts is
/// killed before the agent registers, and a job that needs every slot runs at once.
pub(super) const HEARTBEAT_NOT_FOUND: Scenario = Scenario {
    name: "heartbeat-not-found",
    plan: || {
        let mut plan = nothing_happens();
        plan.trouble_ms = 60_000;
        plan.deeds.extend([
            at(10_000, Deed::Fault(Fault::Forget { agent: 0 })),
            at(10_100, Deed::Stop { job: "job".into(), force: true }),
            at(21_000, Deed::Submit { job: "all".into(), slots: 4, old_dialect: true }),
        ]);
        plan
    },
    story: |story| {
        let worker = story.worker("job", 1)?;
        let forgotten = |fact: &Fact| {
            matches!(at_controller(fact), Some(ControllerEvent::NodeForgotten { .. }))
        };
        let told = story.after("the node is forgotten", forgotten)?;
        let told = told.after("it is told", |fact| *fact == Fact::ToldForgotten)?;
        let gone = told.after("the worker is killed", is_killed(worker))?.after(
            "nothing is left",
            |fact| matches!(fact, Fact::TreeGone(id, _) if *id == worker),
        )?;
        told.until(gone).never("it registers before", is_introduced)?;
        gone.after("it registers", is_introduced)?.once_it_runs("all", 1)?;
        story.never("a start was refused", is_refused)
    },
};

/// The controller is killed and comes back with empty books. Its job is scheduled anew on two of
/// three nodes; a second job fits the books. An old worker on the node that gets none of the new
/// ones would hold slots for ever, and the second job would fail over it.
pub(super) const EMPTY_BOOKS: Scenario = Scenario {
    name: "empty-books",
    plan: || {
        let mut plan = nothing_happens();
        plan.agents = vec![agent(4), agent(4), agent(4)];
        let old = |job: &str| Deed::Submit { job: job.into(), slots: 6, old_dialect: true };
        let kill = Fault::ControllerKill { ms: 2_000, resubmit: true };
        plan.deeds = vec![at(1_000, old("a")), at(15_000, Deed::Fault(kill)), at(17_500, old("b"))];
        plan
    },
    story: |story| {
        let gone = story.after("the controller is gone", |fact| *fact == Fact::ControllerGone)?;
        story.until(gone).once_it_runs("a", 1)?;
        gone.once_it_runs("a", 2)?;
        gone.once_it_runs("b", 1)?;
        story.never("a start was refused", is_refused)?;
        story.no_job_fails()
    },
};

/// An agent is stopped for 40 s. Its node is forgotten meanwhile, since something waits to be
/// scheduled; but the controller is the same, and the worker may be of use. It stays until its room
/// is needed.
pub(super) const PAUSED: Scenario = Scenario {
    name: "paused-agent-keeps-its-workers",
    plan: || {
        let mut plan = nothing_happens();
        plan.trouble_ms = 60_000;
        plan.deeds.extend([
            at(10_000, Deed::Fault(Fault::Pause { agent: 0, ms: 40_000 })),
            at(11_000, submit("waits", 4)),
        ]);
        plan
    },
    story: |story| {
        let worker = story.worker("job", 1)?;
        let introduced = story
            .after("the node is forgotten", |fact| {
                matches!(at_controller(fact), Some(ControllerEvent::NodeExpired { .. }))
            })?
            .after("it is told", |fact| *fact == Fact::ToldForgotten)?
            .after("it registers", is_introduced)?;
        story.until(introduced).untouched(worker)?;
        introduced.after("it makes room", is_killed(worker))?.once_it_runs("waits", 1)?;
        story.never("a start was refused", is_refused)
    },
};

/// The same, and the agent is killed while its worker is abandoned. The next agent knows that no
/// controller counts the worker: it makes room for the first job that needs it.
pub(super) const ABANDONED_OVER_A_RESTART: Scenario = Scenario {
    name: "abandoned-over-a-restart",
    plan: || {
        let mut plan = nothing_happens();
        plan.trouble_ms = 70_000;
        plan.deeds.extend([
            at(10_000, Deed::Fault(Fault::Pause { agent: 0, ms: 40_000 })),
            // It never fits; that it waits has the controller look for silent nodes.
            at(11_000, submit("waits", 5)),
            at(56_000, Deed::Fault(Fault::Kill { agent: 0, ms: 500 })),
            at(60_000, submit("other", 4)),
        ]);
        plan
    },
    story: |story| {
        let worker = story.worker("job", 1)?;
        let back = story
            .after("it is told", |fact| *fact == Fact::ToldForgotten)?
            .after("the agent is killed", |fact| matches!(fact, Fact::AgentGone(_)))?
            .after("the next one begins", |fact| matches!(fact, Fact::AgentBegan { .. }))?;
        story.until(back).untouched(worker)?;
        back.after("it makes room", is_killed(worker))?.once_it_runs("other", 1)?;
        story.never("a start was refused", is_refused)
    },
};

/// One of two nodes cannot be reached when a job is started. The worker on the other counts for
/// nothing any more, and 0.15 tries again under the same run until both nodes are there.
pub(super) const SAME_RUN_AGAIN: Scenario = Scenario {
    name: "same-run-again",
    plan: || {
        let mut plan = nothing_happens();
        plan.agents = vec![agent(4), agent(4)];
        plan.deeds = vec![
            at(5_000, Deed::Fault(Fault::Partition { agent: 1, ms: 3_000 })),
            at(5_500, Deed::Submit { job: "job".into(), slots: 8, old_dialect: true }),
        ];
        plan
    },
    story: |story| {
        let tries = story.all(|fact| match at_controller(fact)? {
            ControllerEvent::WorkerStarted { node, generation, .. }
                if node.as_str() == "agent-1" && generation.0 == 1 =>
            {
                Some(())
            }
            _ => None,
        });
        if tries.len() < 2 {
            return Err(format!("it was tried {} times", tries.len()));
        }
        story.after("it is refused", is_refused)?.once_it_runs("job", 1)?;
        story.no_job_fails()
    },
};

fn is_introduced(fact: &Fact) -> bool {
    matches!(fact, Fact::Registers(Registration { reconnect: true, .. }))
}

fn is_killed(worker: WorkerId) -> impl Fn(&Fact) -> bool {
    move |fact| matches!(fact, Fact::Signals(id, Signal::Kill) if *id == worker)
}

fn is_refused(fact: &Fact) -> bool {
    matches!(at_controller(fact), Some(ControllerEvent::StartRefused { .. }))
}
