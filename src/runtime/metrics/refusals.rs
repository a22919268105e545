//! Why a StartWorker was refused, as a label: one table for the values that exist from the start
//! and for those that are counted.

use crate::machine::StartError;

/// From the table: every label, and the label of each error. An error that the table lacks does not
/// compile.
macro_rules! labels {
    ($($error:pat => $label:literal,)*) => {
        /// Every label.
        pub(super) const LABELS: &[&str] = &[$($label),*];

        /// The label of this error.
        pub(super) fn label(error: &StartError) -> &'static str {
            match error {
                $($error => $label,)*
            }
        }
    };
}

labels! {
    StartError::WrongMachine(_) => "wrong_machine",
    StartError::StaleGeneration { .. } => "stale_generation",
    StartError::Superseded { .. } => "superseded",
    StartError::Retried { .. } => "retried",
    StartError::NotEnoughSlots { .. } => "not_enough_slots",
    StartError::Draining => "draining",
    StartError::ShuttingDown => "shutting_down",
    StartError::JournalDown(_) => "journal_down",
    StartError::RoomNotFree { .. } => "room_not_free",
    StartError::Forgotten => "forgotten",
    StartError::Spawn(_) => "spawn",
    StartError::NotRunning { .. } => "not_running",
    StartError::NeverRan => "never_ran",
    StartError::KeyReused { .. } => "key_reused",
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{machine::JournalDown, runtime::metrics::Metrics};

    #[test]
    fn every_label_exists_from_the_start() {
        let page = Metrics::new().encode();
        for label in LABELS {
            let line = format!("arroyo_node_worker_start_failures_total{{reason=\"{label}\"}} 0");
            assert!(page.contains(&line), "{label}");
        }
        let down = JournalDown { reason: "disk full".into() };
        for error in [StartError::JournalDown(down), StartError::Draining, StartError::NeverRan] {
            assert!(LABELS.contains(&label(&error)), "{error}");
        }
    }
}
