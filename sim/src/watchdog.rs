//! Panics and error-level logs become facts: whoever swallows them, the run fails. And, where it is
//! asked for, every packet of the simulated network goes into a fingerprint.

use std::{
    fmt::Write as _,
    sync::{Arc, Mutex, PoisonError},
};

use sha2::{Digest as _, Sha256};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    subscriber::Interest,
};
use tracing_subscriber::{Layer, layer::Context, layer::SubscriberExt as _};

use crate::{
    fact::{Fact, Place},
    recorder::Recorder,
};

static RECORDER: Mutex<Option<Recorder>> = Mutex::new(None);

/// The fingerprint of all packets.
#[derive(Clone, Debug)]
pub struct Wire(Option<Arc<Mutex<Sha256>>>);

impl Wire {
    /// What it is so far; `None` if nobody asked for it.
    pub fn digest(&self) -> Option<String> {
        let digest = self.0.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        Some(digest.clone().finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

/// Reports to this recorder from now on. Once a process.
pub fn install(recorder: &Recorder, wire: bool) -> Wire {
    *RECORDER.lock().unwrap_or_else(PoisonError::into_inner) = Some(recorder.clone());
    let wire = Wire(wire.then(Arc::default));
    let subscriber = tracing_subscriber::registry().with(Watch { wire: wire.clone() });
    // Whoever has set another subscriber before gets the logs instead.
    let _ = tracing::subscriber::set_global_default(subscriber);
    std::panic::set_hook(Box::new(|panic| {
        let backtrace = std::backtrace::Backtrace::capture();
        eprintln!("{panic}\n{backtrace}");
        let noted = current().is_some_and(|recorder| {
            recorder.try_note(Place::World, Fact::Panicked(panic.to_string()))
        });
        if !noted {
            // The simulator itself is broken.
            std::process::abort();
        }
    }));
    wire
}

fn current() -> Option<Recorder> {
    RECORDER.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

struct Watch {
    wire: Wire,
}

impl Watch {
    fn wants(&self, metadata: &Metadata<'_>) -> bool {
        is_error(metadata) || (self.wire.0.is_some() && is_packet(metadata))
    }
}

impl<S: Subscriber> Layer<S> for Watch {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.wants(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _context: Context<'_, S>) -> bool {
        self.wants(metadata)
    }

    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        if is_packet(event.metadata()) {
            if let Some(digest) = &self.wire.0 {
                digest.lock().unwrap_or_else(PoisonError::into_inner).update(text.0);
            }
        } else if let Some(recorder) = current() {
            recorder.note(Place::World, Fact::ErrorLogged(text.0));
        }
    }
}

fn is_packet(metadata: &Metadata<'_>) -> bool {
    metadata.is_event() && metadata.target() == "turmoil"
}

fn is_error(metadata: &Metadata<'_>) -> bool {
    metadata.is_event()
        && *metadata.level() == Level::ERROR
        && metadata.target().starts_with("arroyo_node")
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let comma = if self.0.is_empty() { "" } else { ", " };
        // A String takes everything.
        let _ = match field.name() {
            "message" => write!(self.0, "{comma}{value:?}"),
            name => write!(self.0, "{comma}{name}: {value:?}"),
        };
    }
}
