//! What once went wrong.

use super::{Scenario, at, nothing_happens, nothing_to_tell};
use crate::plan::{Deed, Fault, Plan};

/// The journal is damaged while the agent is down, so the next agent begins with an empty one and
/// takes the worker over from the shim. Then the shim dies, and then the agent. The worker had no
/// row in the new journal, since nothing about it had changed, and the new shim had never heard of
/// it: it went on running, and nobody knew. Now a worker that only the shim knew is written down
/// first of all.
pub(super) const JOURNAL_LOST_THEN_SHIM_LOST: Scenario = Scenario {
    name: "journal-lost-then-shim-lost",
    plan: journal_lost_then_shim_lost,
    story: nothing_to_tell,
};

fn journal_lost_then_shim_lost() -> Plan {
    let mut plan = nothing_happens();
    let faults = [
        (5_000, Fault::Damage { agent: 0, ms: 500 }),
        (12_000, Fault::KillShim { agent: 0 }),
        (12_010, Fault::Kill { agent: 0, ms: 500 }),
    ];
    plan.deeds.extend(faults.map(|(at_ms, fault)| at(at_ms, Deed::Fault(fault))));
    plan
}

/// A worker ends while the controller hangs, so its report is sent and comes to nothing; then the
/// journal that owes it is damaged. Nobody can report that end any more. The simulator took the
/// report for delivered, since it had reached the controller's machine, and expected the controller
/// to free the slots.
pub(super) const OWED_REPORT_LOST_WITH_THE_JOURNAL: Scenario = Scenario {
    name: "owed-report-lost-with-the-journal",
    plan: owed_report_lost_with_the_journal,
    story: nothing_to_tell,
};

fn owed_report_lost_with_the_journal() -> Plan {
    let mut plan = nothing_happens();
    let faults = [
        (10_000, Fault::ControllerHangs { ms: 15_000 }),
        (10_500, Fault::OutOfMemory { agent: 0, nth: 0 }),
        (12_000, Fault::Damage { agent: 0, ms: 500 }),
    ];
    plan.deeds.extend(faults.map(|(at_ms, fault)| at(at_ms, Deed::Fault(fault))));
    plan
}
