//! An agent's state in the shape that the status page and `/api/view` show. The names are those of
//! `arroyo-node status --json` and `arroyo-node ps --json`.

use std::time::Duration;

use serde::{Serialize, Serializer};

use super::{
    AdminState,
    row::{Moment, Row},
};
use crate::machine::Mode;

/// The answer of `/api/view`.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(super) struct Summary {
    pub(super) machine_id: String,
    pub(super) version: String,
    pub(super) mode: &'static str,
    pub(super) task_slots: u64,
    pub(super) free_slots: u64,
    pub(super) live_workers: usize,
    /// How many of them the controller has forgotten.
    pub(super) abandoned_workers: usize,
    pub(super) controller: String,
    pub(super) registered: bool,
    /// Since the controller's last good answer.
    #[serde(rename = "last_contact_seconds", serialize_with = "seconds")]
    pub(super) last_contact: Option<Duration>,
    pub(super) reports_owed: usize,
    pub(super) journal_error: Option<String>,
    pub(super) program_error: Option<String>,
    pub(super) started_at: Moment,
    /// When this was written.
    pub(super) now: Moment,
    /// For the page; `/details` has them for programs.
    #[serde(skip)]
    pub(super) facts: Vec<(String, String)>,
    pub(super) notices: Vec<String>,
    /// The live ones first, oldest first; then those that ended, latest first.
    pub(super) workers: Vec<Row>,
}

impl Summary {
    /// As of now.
    pub(super) fn of(state: &AdminState) -> Self {
        let view = state.view.borrow().clone();
        let now = state.clock.now();
        let (mut workers, mut ended): (Vec<_>, Vec<_>) =
            view.workers.iter().map(|worker| Row::from(&**worker)).partition(|row| row.alive);
        workers.sort_by_key(|row| row.started_at);
        ended.sort_by_key(|row| std::cmp::Reverse(row.ended_at));
        workers.append(&mut ended);
        Self {
            machine_id: view.machine.to_string(),
            version: state.about.version.clone(),
            mode: match view.mode {
                Mode::Serving => "serving",
                Mode::Draining => "draining",
                Mode::ShuttingDown => "shutting_down",
            },
            task_slots: view.task_slots,
            free_slots: view.free_slots,
            live_workers: view.live_workers,
            abandoned_workers: view.abandoned_workers,
            controller: state.about.controller.clone(),
            registered: view.registered,
            last_contact: view.last_contact.map(|contact| now.mono.since(contact)),
            reports_owed: view.reports_owed,
            journal_error: view.journal_error.as_ref().map(ToString::to_string),
            program_error: view.program_error.as_ref().map(ToString::to_string),
            started_at: view.started_at.into(),
            now: now.wall.into(),
            facts: state.about.facts.clone(),
            notices: state.about.notices.clone(),
            workers,
        }
    }
}

fn seconds<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    duration.as_ref().map(Duration::as_secs_f64).serialize(serializer)
}
