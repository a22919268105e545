//! Where every fact goes: into the trace, into the past, and before the oracles.
//!
//! ```text
//!  agents' ports, controller, process tables, world ── note ─▶ Recorder ─▶ trace, digest
//!                                                                 ├──────▶ Past
//!                                                                 ├──────▶ oracles ─▶ Broken
//!                                                                 └──────▶ marks
//! ```
//!
//! The first broken promise is kept, and ends the run.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{
    fact::{Entry, Fact, Place},
    marking::Marking,
    marks::Marks,
    oracles::{Oracle, Sight},
    past::Past,
    plan::Kind,
    triggers::Triggers,
};

/// A promise that was broken.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Broken {
    /// Which one.
    pub promise: String,
    /// What happened instead.
    pub detail: String,
    /// Microseconds from the start of the simulation.
    pub at_us: u64,
}

/// Takes facts. Clones share it.
#[derive(Clone)]
pub struct Recorder(Arc<Mutex<Inner>>);

struct Inner {
    /// The time between two steps of the world.
    between_steps: Duration,
    entries: Vec<Entry>,
    digest: Sha256,
    past: Past,
    marking: Marking,
    triggers: Triggers,
    oracles: Vec<Box<dyn Oracle>>,
    broken: Option<Broken>,
}

impl Recorder {
    /// A recorder with nothing in it.
    pub fn new(past: Past, oracles: Vec<Box<dyn Oracle>>) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            between_steps: Duration::ZERO,
            entries: Vec::new(),
            digest: Sha256::new(),
            past,
            marking: Marking::default(),
            triggers: Triggers::default(),
            oracles,
            broken: None,
        })))
    }

    /// The simulated time: that of the host that runs, or that between two steps.
    pub fn now(&self) -> Duration {
        turmoil::sim_elapsed().unwrap_or_else(|| self.inner().between_steps)
    }

    /// The world has come to this time.
    pub fn set_now(&self, now: Duration) {
        self.inner().between_steps = now;
    }

    /// Something happened.
    pub fn note(&self, place: Place, fact: Fact) {
        let at = self.now();
        self.inner().note(Entry { at, place, fact });
    }

    /// Something happened, perhaps in the middle of something else here. Returns false if it could
    /// not be noted for that reason.
    pub fn try_note(&self, place: Place, fact: Fact) -> bool {
        let Some(at) = turmoil::sim_elapsed().or_else(|| {
            let inner = self.0.try_lock().ok()?;
            Some(inner.between_steps)
        }) else {
            return false;
        };
        match self.0.try_lock() {
            Ok(mut inner) => {
                inner.note(Entry { at, place, fact });
                true
            }
            Err(_) => false,
        }
    }

    /// The world as it stands between two steps, for the oracles that look at it.
    pub fn look(&self, sight: &Sight<'_>) {
        let mut inner = self.inner();
        let Inner { oracles, past, broken, .. } = &mut *inner;
        for oracle in oracles {
            let verdict = oracle.look(sight, past);
            keep_first(broken, oracle.promise(), sight.now, verdict);
        }
    }

    /// The run is over.
    pub fn end(&self, sight: &Sight<'_>) {
        let mut inner = self.inner();
        let Inner { oracles, past, broken, .. } = &mut *inner;
        for oracle in oracles {
            let verdict = oracle.end(sight, past);
            keep_first(broken, oracle.promise(), sight.now, verdict);
        }
    }

    /// Whether some oracle still waits for something to come about.
    pub fn is_waiting(&self) -> bool {
        self.inner().oracles.iter().any(|oracle| oracle.is_waiting())
    }

    /// A promise is broken that no oracle watches.
    pub fn fail(&self, promise: &str, detail: String) {
        let at = self.now();
        keep_first(&mut self.inner().broken, promise, at, Err(detail));
    }

    /// Something interesting was reached.
    pub fn mark(&self, mark: &str) {
        self.inner().marking.marks.hit(mark);
    }

    /// Works on what waits for a moment.
    pub fn triggers<R>(&self, work: impl FnOnce(&mut Triggers) -> R) -> R {
        work(&mut self.inner().triggers)
    }

    /// The first broken promise.
    pub fn broken(&self) -> Option<Broken> {
        self.inner().broken.clone()
    }

    /// What was reached so far.
    pub fn marks(&self) -> Marks {
        self.inner().marking.marks.clone()
    }

    /// Reads the past.
    pub fn past<R>(&self, read: impl FnOnce(&Past) -> R) -> R {
        read(&self.inner().past)
    }

    /// Changes the past: only to say what hinders whom.
    pub fn hinder(&self, agent: usize) {
        let now = self.now();
        self.inner().past.agents[agent].hindered_at = now;
    }

    /// The trace so far.
    pub fn entries(&self) -> Vec<Entry> {
        self.inner().entries.clone()
    }

    /// The fingerprint of the trace so far.
    pub fn digest(&self) -> String {
        hex(&self.inner().digest)
    }

    /// The same without what wall clocks told, and without the deeds that made them jump.
    pub fn timeless_digest(&self) -> String {
        let mut digest = Sha256::new();
        for entry in &self.inner().entries {
            if !matches!(&entry.fact, Fact::Deed(deed) if deed.kind() == Some(Kind::ClockJump)) {
                digest.update(without_wall_times(&entry.to_string()));
                digest.update("\n");
            }
        }
        hex(&digest)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // A panic elsewhere fails the run by itself; what was recorded is still good.
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Inner {
    fn note(&mut self, entry: Entry) {
        self.digest.update(entry.to_string());
        self.digest.update("\n");
        for oracle in &mut self.oracles {
            let verdict = oracle.see(&entry, &self.past);
            keep_first(&mut self.broken, oracle.promise(), entry.at, verdict);
        }
        self.marking.see(&entry, &self.past);
        self.triggers.see(&entry);
        self.past.note(entry.at, entry.place, &entry.fact);
        self.entries.push(entry);
    }
}

fn hex(digest: &Sha256) -> String {
    digest.clone().finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Wall clock readings are written as so many microseconds, and nothing else is so long.
fn without_wall_times(line: &str) -> String {
    let mut text = String::new();
    let mut rest = line;
    while let Some(at) = rest.find("µs") {
        let digits = rest[..at].bytes().rev().take_while(u8::is_ascii_digit).count();
        text.push_str(&rest[..at - digits]);
        text.push_str("(wall)");
        rest = &rest[at + "µs".len()..];
    }
    text + rest
}

fn keep_first(
    broken: &mut Option<Broken>,
    promise: &str,
    at: Duration,
    verdict: Result<(), String>,
) {
    if let Err(detail) = verdict
        && broken.is_none()
    {
        let at_us = u64::try_from(at.as_micros()).unwrap_or(u64::MAX);
        *broken = Some(Broken { promise: promise.to_owned(), detail, at_us });
    }
}
