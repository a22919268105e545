//! P6: no signal reaches a process that is not the worker's.

use super::{Oracle, Verdict};
use crate::{
    fact::{Entry, Fact},
    past::Past,
};

/// Looks at whom each signal hit.
pub(super) struct OwnProcesses;

impl Oracle for OwnProcesses {
    fn promise(&self) -> &'static str {
        "P6 signals reach only the worker"
    }

    fn see(&mut self, entry: &Entry, _past: &Past) -> Verdict {
        match &entry.fact {
            Fact::Hit { meant, owner, pid, signal } if *owner != Some(*meant) => {
                Err(format!("{signal:?} for worker {meant} hit pid {pid} of {owner:?}"))
            }
            _ => Ok(()),
        }
    }
}
