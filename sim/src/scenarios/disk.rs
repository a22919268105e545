//! A disk that does not answer.

use arroyo_node::machine::{Reply, Signal, StartError};
use tonic::Code;

use super::{Scenario, at, nothing_happens};
use crate::{
    fact::Fact,
    plan::{Call, Deed, Fault, Writes},
};

const HANGS_AT: u64 = 10_000;
const HANGS_FOR: u64 = 20_000;

/// The disk hangs for 20 s. A worker that ignores SIGTERM is killed meanwhile all the same, as its
/// caller wants; heartbeats go on, GetWorkers is answered, and a start is refused as unavailable.
/// Then the disk answers: the commit that was given up is written, and after it a journal of all
/// that there is. A start succeeds, and after a kill the next agent finds what the last one had.
pub(super) const DISK_HANGS: Scenario = Scenario {
    name: "disk-hangs",
    plan: || {
        let mut plan = nothing_happens();
        plan.trouble_ms = 50_000;
        plan.temper.stubborn = 100;
        let hangs = Fault::DiskHangs { agent: 0, ms: HANGS_FOR, writes: Writes::Last };
        let stop = Call::Stop { nth: 0, force: true, ask: false, times: 1 };
        plan.deeds = vec![
            call(5_000, start("first")),
            at(HANGS_AT, Deed::Fault(hangs)),
            call(12_000, stop),
            call(14_000, Call::List),
            call(20_000, start("refused")),
            call(36_000, start("second")),
            at(40_000, Deed::Fault(Fault::Kill { agent: 0, ms: 500 })),
        ];
        plan
    },
    story: |story| {
        let hangs = |fact: &Fact| matches!(fact, Fact::Deed(Deed::Fault(Fault::DiskHangs { .. })));
        let over = |fact: &Fact| matches!(fact, Fact::Over(_));
        let hung = story.after("the disk hangs", hangs)?;
        let meanwhile = hung.before("it answers again", over)?;
        let beats = meanwhile.all(|fact| matches!(fact, Fact::Heartbeats { .. }).then_some(()));
        if beats.len() < 3 {
            return Err(format!("{} heartbeats in 20 s", beats.len()));
        }
        meanwhile.never("it was written", |fact| matches!(fact, Fact::Committed(_)))?;
        meanwhile
            .after("the worker is killed", |fact| matches!(fact, Fact::Signals(_, Signal::Kill)))?
            .after("nothing is left of it", |fact| matches!(fact, Fact::TreeGone(..)))?
            .after("a start is refused", |fact| {
                matches!(fact, Fact::Answered(Reply::Started(Err(StartError::JournalDown(_)))))
            })?
            .after("its caller hears so", |fact| {
                matches!(fact, Fact::Heard { answer: Err((Code::Unavailable, _)), .. })
            })?;
        meanwhile.after(
            "the list is told",
            |fact| matches!(fact, Fact::Heard { call, answer: Ok(_), .. } if call == "GetWorkers"),
        )?;
        let healed = hung
            .after("the disk answers", over)?
            .after("the late commit is written", |fact| matches!(fact, Fact::Written(_)))?
            .after("everything is written", is_rewrite)?
            .after("a start succeeds", |fact| {
                matches!(fact, Fact::Answered(Reply::Started(Ok(_))))
            })?;
        healed.after("the next agent has its worker", |fact| {
            let Fact::AgentBegan { journaled, .. } = fact else { return false };
            journaled.workers.iter().filter(|worker| worker.is_live()).count() == 1
        })?;
        Ok(())
    },
};

fn is_rewrite(fact: &Fact) -> bool {
    matches!(fact, Fact::Committed(commit) if commit.rewrite)
}

fn call(at_ms: u64, call: Call) -> crate::plan::TimedDeed {
    at(at_ms, Deed::Call { agent: 0, call })
}

fn start(job: &str) -> Call {
    Call::Start { job: job.into(), generation: 1, slots: 1, times: 1, named: true, pipeline: false }
}
