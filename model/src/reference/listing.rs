//! What an agent shows of itself, held against what it should be.

use arroyo_node::machine::{self, Mode, Mono, View};

use super::{Reference, Worker, reports::Telling};

impl Reference {
    /// Whether an agent's view of itself is what it should be.
    ///
    /// # Errors
    /// What is different.
    pub fn agrees_with(&self, view: &View) -> Result<(), String> {
        self.lists(view.workers.iter().map(AsRef::as_ref))?;
        let mode = match (self.closing, self.draining) {
            (Some(_), _) => Mode::ShuttingDown,
            (None, true) => Mode::Draining,
            (None, false) => Mode::Serving,
        };
        let live = self.workers.iter().filter(|worker| worker.is_live()).count();
        let trouble = self.journal.as_ref().map(|trouble| &trouble.reason.reason);
        let abandoned = |worker: &&Worker| worker.is_live() && worker.abandoned_at.is_some();
        let abandoned = self.workers.iter().filter(abandoned).count();
        let shown = (view.mode, view.free_slots, view.registered, view.live_workers);
        let shown = (shown, view.abandoned_workers, view.program_error.as_ref());
        let meant = (mode, self.free(), self.session.is_known(), live);
        let meant = (meant, abandoned, self.program.as_ref());
        let rest = (view.reports_owed, view.journal_error.as_ref());
        if shown == meant && rest == (self.reports_owed(), trouble) {
            return Ok(());
        }
        Err(format!("{shown:?}, {rest:?} instead of {meant:?}, {}", self.reports_owed()))
    }

    /// Whether these are the workers that there should be: each with its slots and its state.
    ///
    /// # Errors
    /// What is different.
    pub fn lists<'a>(
        &self,
        shown: impl Iterator<Item = &'a machine::Worker>,
    ) -> Result<(), String> {
        let mut left: Vec<&Worker> = self.workers.iter().collect();
        for worker in shown {
            let Some(index) = left.iter().position(|meant| meant.id == worker.id) else {
                return Err(format!("{worker:?} should not be listed"));
            };
            let meant = left.swap_remove(index);
            let acknowledged = matches!(meant.telling, Telling::Acknowledged { .. });
            let same = (*worker.spec == meant.spec, worker.reported_at.is_some() == acknowledged);
            let state = (worker.process, worker.stop, worker.end, worker.abandoned_at);
            let meant_state = (meant.process, meant.stop, meant.end, meant.abandoned_at);
            if same != (true, true) || state != meant_state {
                return Err(format!("{worker:?} is listed instead of {meant:?}"));
            }
        }
        if left.is_empty() { Ok(()) } else { Err(format!("not listed: {left:?}")) }
    }

    /// When the controller last knew this node, as far as that is recorded.
    pub fn recorded(&self) -> Option<Mono> {
        self.session.recorded
    }

    /// Whether new workers are refused.
    pub fn is_draining(&self) -> bool {
        self.draining
    }
}
