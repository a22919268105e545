//! What stock's controller does, and nobody would do on purpose: an agent must live with it. The same
//! on real sockets: `tests/quirks/`.

use arroyo_node::{
    controller::{ControllerEvent, Refusal, StopAnswer},
    ids::WorkerId,
    machine::{Ask, Signal},
};
use tonic::Code;

use super::{Scenario, agent, at, nothing_happens, story::at_controller, submit};
use crate::{
    fact::{Arrival, Fact},
    plan::{Deed, Fault},
};

/// Stock holds one lock while it waits for a StartWorker, and the calls of all nodes wait behind it:
/// here for a program that takes seconds to run, with the report of another worker behind the lock.
/// The start is answered all the same, since it waits for no call to the controller; the report
/// is taken once the lock is free.
pub(super) const LOCK_HELD_DURING_START: Scenario = Scenario {
    name: "lock-held-during-start",
    plan: || {
        let mut plan = nothing_happens();
        plan.temper.exec_slow = 100;
        plan.deeds = vec![
            at(1_000, submit("first", 1)),
            at(15_000, submit("slow", 3)),
            at(15_200, Deed::Fault(Fault::OutOfMemory { agent: 0, nth: 0 })),
        ];
        plan
    },
    story: |story| {
        let first = story.worker("first", 1)?;
        let slow = story.worker("slow", 1)?;
        let asked = story.after("slow is to be started", is_start_of("slow", 1))?;
        asked
            .before("slow is started", is_started(slow))?
            .after("the report comes before that", |fact| {
                matches!(fact, Fact::Arrived(Arrival::Finished(report)) if report.worker == first)
            })?
            .never("and is taken in before that", is_finished(first))?;
        asked
            .after("slow is started", is_started(slow))?
            .after("the report is taken in", is_finished(first))?;
        story.untouched(slow)
    },
};

/// Stock stops a job's workers one after the other, and any status ends the round, STOPPED too: only
/// a gRPC error leads to the next worker. Since an agent answers a forced stop with NOT_FOUND once
/// it is done, and its report acknowledged, one round ends them all.
pub(super) const STOPS_THAT_BAIL: Scenario = Scenario {
    name: "stops-that-bail",
    plan: || {
        let mut plan = nothing_happens();
        plan.agents = vec![agent(2), agent(2), agent(2)];
        let job = String::from("job");
        plan.deeds = vec![
            at(1_000, Deed::Submit { job: job.clone(), slots: 6, old_dialect: true }),
            at(10_000, Deed::Unwell { job }),
        ];
        plan
    },
    story: |story| {
        let again = story.once_it_runs("job", 1)?.once_it_runs("job", 2)?;
        let first = story.until(again);
        let answered = first.all(|fact| match at_controller(fact)? {
            ControllerEvent::StopTried { worker, answer } => Some((*worker, answer.clone())),
            _ => None,
        });
        if answered.len() != 3 {
            return Err(format!("not one answered stop for each of the three: {answered:?}"));
        }
        for (worker, answer) in answered {
            let done = |refusal: &Refusal| refusal.code == Code::NotFound;
            if !matches!(&answer, StopAnswer::CallFailed(refusal) if done(refusal)) {
                return Err(format!("the stop of {worker} was answered {answer:?}"));
            }
            first.after("the report", is_finished(worker))?.after("then the answer", |fact| {
                let event = at_controller(fact);
                matches!(event, Some(ControllerEvent::StopTried { worker: of, .. }) if *of == worker)
            })?;
        }
        story.no_job_fails()
    },
};

/// A node that stock knows may register as often as it likes: nothing of it is taken over, and it
/// does not even count as heard. After each lost connection the agent registers anew, and is not
/// put off its heartbeats by that: it does not expire, though a job waits for slots all the while
/// (only then does stock look). The slots of its workers stay taken.
pub(super) const REGISTRATION_THAT_CHANGES_NOTHING: Scenario = Scenario {
    name: "registration-that-changes-nothing",
    plan: || {
        let mut plan = nothing_happens();
        plan.trouble_ms = 90_000;
        plan.deeds = vec![at(1_000, submit("job", 4)), at(5_000, submit("waits", 1))];
        let cuts = (1..=5).map(|nth| at(nth * 14_000, Deed::Fault(cut())));
        plan.deeds.extend(cuts);
        let stop = Deed::Stop { job: "job".into(), force: true };
        plan.deeds.push(at(85_000, stop));
        plan
    },
    story: |story| {
        let worker = story.worker("job", 1)?;
        let stopped = story
            .after("the job is stopped", |fact| matches!(fact, Fact::Deed(Deed::Stop { .. })))?;
        let meanwhile = story.until(stopped);
        let repeats = meanwhile.all(|fact| match at_controller(fact)? {
            ControllerEvent::NodeRegistered { repeat, .. } => repeat.then_some(()),
            _ => None,
        });
        if repeats.len() < 5 {
            return Err(format!("it registered anew only {} times", repeats.len()));
        }
        meanwhile.untouched(worker)?;
        story.never("it expired", |fact| {
            matches!(at_controller(fact), Some(ControllerEvent::NodeExpired { .. }))
        })?;
        story.never("it was asked for what it has not", is_refused)?;
        stopped.once_it_runs("waits", 1).map(drop)
    },
};

/// An agent that is back before its node has expired: stock still counts the slots of its workers
/// until each is reported. One worker has ended meanwhile: its report, with its slots, makes room
/// for what waits. The other was taken over, and nobody has touched it.
pub(super) const RESTART_BEFORE_EXPIRY: Scenario = Scenario {
    name: "restart-before-expiry",
    plan: || {
        let mut plan = nothing_happens();
        plan.deeds = vec![
            at(1_000, submit("ends", 1)),
            at(3_000, submit("stays", 3)),
            at(10_000, Deed::Fault(Fault::Kill { agent: 0, ms: 5_000 })),
            at(11_000, Deed::Fault(Fault::OutOfMemory { agent: 0, nth: ENDS })),
            at(12_000, submit("waits", 1)),
        ];
        plan
    },
    story: |story| {
        let (ends, stays) = (story.worker("ends", 1)?, story.worker("stays", 1)?);
        let back = story
            .after("the agent is killed", |fact| matches!(fact, Fact::AgentGone(_)))?
            .after(
                "the worker ends meanwhile",
                |fact| matches!(fact, Fact::TreeGone(id, _) if *id == ends),
            )?
            .after("its slots count as taken", |fact| {
                let event = at_controller(fact);
                matches!(event, Some(ControllerEvent::NotEnoughSlots { wanted: 1, free: 0, .. }))
            })?
            .after("the agent is back", |fact| matches!(fact, Fact::AgentBegan { .. }))?;
        let reported = back.after("the report frees the slots", |fact| {
            let event = at_controller(fact);
            matches!(event, Some(ControllerEvent::WorkerFinished { report, .. })
                if report.worker == ends && report.slots == 1)
        })?;
        reported.after("another worker gets them", |fact| {
            matches!(at_controller(fact), Some(ControllerEvent::WorkerStarted { slots: 1, .. }))
        })?;
        story.untouched(stays)?;
        story.never("it expired", |fact| {
            matches!(at_controller(fact), Some(ControllerEvent::NodeExpired { .. }))
        })
    },
};

/// Which of the two workers is the one of the job `ends`: they go by their ids.
const ENDS: u64 = 0;

/// A controller that has restarted knows no worker, and places a running job's next generation on
/// nodes whose slots the old one holds: that one, which heeds no SIGTERM and whose children have
/// left its session, is killed to the last process before the new one is spawned; here before the
/// controller hears of the node at all, as it is certain to have forgotten it.
pub(super) const NEWER_GENERATION_ON_A_FULL_NODE: Scenario = Scenario {
    name: "newer-generation-on-a-full-node",
    plan: || {
        let mut plan = nothing_happens();
        (plan.temper.stubborn, plan.temper.parents, plan.temper.escapes) = (100, 100, 100);
        let kill = Fault::ControllerKill { ms: 2_000, resubmit: true };
        plan.deeds = vec![at(1_000, submit("job", 4)), at(15_000, Deed::Fault(kill))];
        plan
    },
    story: |story| {
        let (old, new) = (story.worker("job", 1)?, story.worker("job", 2)?);
        let gone =
            story.after("the controller is gone", |fact| matches!(fact, Fact::ControllerGone))?;
        story.until(gone).untouched(old)?;
        gone.after(
            "the old one is killed",
            |fact| matches!(fact, Fact::Signals(id, Signal::Kill) if *id == old),
        )?
        .after("all of it", |fact| matches!(fact, Fact::TreeGone(id, _) if *id == old))?
        .after(
            "then the new one is spawned",
            |fact| matches!(fact, Fact::Spawns(launch) if launch.worker == new),
        )?
        .once_it_runs("job", 2)?;
        story.never("it was refused", is_refused)?;
        story.untouched(new)
    },
};

fn cut() -> Fault {
    Fault::Partition { agent: 0, ms: 9_000 }
}

fn is_start_of(job: &'static str, generation: u64) -> impl Fn(&Fact) -> bool {
    move |fact| {
        matches!(fact, Fact::Asked(Ask::Start(start))
            if start.job.as_str() == job && start.generation.0 == generation)
    }
}

fn is_started(worker: WorkerId) -> impl Fn(&Fact) -> bool {
    move |fact| {
        let event = at_controller(fact);
        matches!(event, Some(ControllerEvent::WorkerStarted { worker: id, .. }) if *id == worker)
    }
}

fn is_finished(worker: WorkerId) -> impl Fn(&Fact) -> bool {
    move |fact| {
        matches!(at_controller(fact), Some(ControllerEvent::WorkerFinished { report, .. })
            if report.worker == worker)
    }
}

fn is_refused(fact: &Fact) -> bool {
    matches!(at_controller(fact), Some(ControllerEvent::StartRefused { .. }))
}
