//! What the reference controller holds against its nodes; and no agent panics or logs an error
//! that nothing has provoked.

use arroyo_node::controller::ControllerEvent;

use super::{Oracle, Verdict};
use crate::{
    fact::{Entry, Fact},
    past::Past,
};

/// Errors that faults of the plan account for.
const PROVOKED: [&str; 2] = ["journal cannot be written", "job failed"];

/// Repeats what others found.
pub(super) struct Conduct;

impl Oracle for Conduct {
    fn promise(&self) -> &'static str {
        "nobody misbehaves, panics or complains"
    }

    fn see(&mut self, entry: &Entry, _past: &Past) -> Verdict {
        match &entry.fact {
            Fact::Controller(ControllerEvent::Violation(violation)) => Err(violation.to_string()),
            Fact::Panicked(text) => Err(format!("panicked: {text}")),
            Fact::ErrorLogged(text) if !PROVOKED.iter().any(|known| text.contains(known)) => {
                Err(format!("logged as an error: {text}"))
            }
            _ => Ok(()),
        }
    }
}
