//! Orphans: processes of workers whose parents have ended become children of the reaper, which has
//! to wait for them.

use super::{Operation, Output, Reaper, Supervisor};

/// How many orphans are reaped at once: a fork loop leaves them without end, and others must have
/// their turn.
const MAX_AT_ONCE: u32 = 256;

#[derive(Clone, Debug, Default)]
pub(super) struct Orphans {
    /// Whether some may wait to be reaped.
    waiting: bool,
    /// Whether one is being looked for.
    looking: bool,
    /// How many were reaped since the last timeout.
    reaped: u32,
    /// Whether some were left for the next timeout.
    more: bool,
}

impl Orphans {
    pub(super) fn child_ended(&mut self) {
        self.waiting = true;
    }

    /// Whether there are more than could be reaped at once.
    pub(super) fn more_wait(&self) -> bool {
        self.more
    }
}

impl Supervisor {
    pub(super) fn reap_orphans(&mut self, out: &mut Output) {
        let orphans = &mut self.orphans;
        orphans.more = false;
        if self.config.reaper == Reaper::This && orphans.waiting && !orphans.looking {
            (orphans.looking, orphans.reaped) = (true, 0);
            out.ask(Operation::FindDeadChild);
        }
    }

    pub(super) fn handle_dead_child(&mut self, pid: Option<u32>, out: &mut Output) {
        let orphans = &mut self.orphans;
        orphans.looking = false;
        let Some(pid) = pid else {
            // The kernel looks through all children, so it is asked only when one has ended since.
            orphans.waiting = false;
            return;
        };
        // A leader is reaped in its own time. The kernel shows the same dead child each time:
        // behind a leader, orphans have to wait.
        if self.leaders.contains_key(&pid) {
            return;
        }
        out.ask(Operation::ReapChild(pid));
        orphans.reaped += 1;
        if orphans.reaped < MAX_AT_ONCE {
            orphans.looking = true;
            out.ask(Operation::FindDeadChild);
        } else {
            orphans.more = true;
        }
    }
}
