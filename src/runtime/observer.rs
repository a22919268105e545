//! Who looks on in production: the log and the metrics.

use std::{sync::Arc, time::Duration};

use super::{
    log::Log,
    metrics::Metrics,
    ports::{JournalError, Observer},
};
use crate::machine::{Effect, Event, Now, View};

/// Tells the log and the metrics what the driver does.
pub struct Observers {
    log: Log,
    metrics: Arc<Metrics>,
}

impl Observers {
    /// An observer that counts in `metrics` and writes to the log of this process.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { log: Log::default(), metrics }
    }
}

impl Observer for Observers {
    fn event(&mut self, _now: Now, event: &Event) {
        self.log.event(event);
        self.metrics.observe_event(event);
    }

    fn effect(&mut self, _now: Now, effect: &Effect) {
        self.log.effect(effect);
        self.metrics.observe_effect(effect);
    }

    fn commit(&mut self, took: Duration, result: Result<(), &JournalError>) {
        self.log.catch_up();
        self.metrics.commit(took, result.is_ok());
    }

    fn batch(&mut self, events: usize) {
        self.metrics.batch(events);
    }

    fn view(&mut self, view: &Arc<View>) {
        self.log.view(view);
        self.metrics.observe_view(view);
    }
}
