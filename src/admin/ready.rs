//! Readiness: whether a StartWorker that comes now has a chance, and why not.

use serde::Serialize;

use crate::machine::{Mode, View};

/// The answer of `/readyz`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(super) struct Readiness {
    pub(super) ready: bool,
    pub(super) reasons: Vec<Reason>,
}

/// One reason not to be ready: a word for programs, a sentence for people.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(super) struct Reason {
    pub(super) code: &'static str,
    pub(super) message: String,
}

impl Readiness {
    /// As of this view.
    pub(super) fn of(view: &View) -> Self {
        let mut reasons = Vec::new();
        let mut not_ready =
            |code, message: &str| reasons.push(Reason { code, message: message.to_owned() });
        if let Some(error) = &view.program_error {
            not_ready("program", &format!("{error}; this node does not register meanwhile"));
        }
        if !view.registered {
            not_ready("not_registered", "the controller has not answered, or not well");
        }
        if let Some(error) = &view.journal_error {
            not_ready("journal", &format!("the journal cannot be written: {error}"));
        }
        match view.mode {
            Mode::Serving => {}
            Mode::Draining => {
                not_ready("draining", "draining; `arroyo-node undrain` ends that");
            }
            Mode::ShuttingDown => not_ready("shutting_down", "shutting down"),
        }
        Self { ready: reasons.is_empty(), reasons }
    }
}
