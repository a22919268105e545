//! Panics and error-level logs become facts: whoever swallows them, the run fails.

use std::{
    fmt::Write as _,
    sync::{Mutex, PoisonError},
};

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

/// Reports to this recorder from now on. Once a process.
pub fn install(recorder: &Recorder) {
    *RECORDER.lock().unwrap_or_else(PoisonError::into_inner) = Some(recorder.clone());
    let subscriber = tracing_subscriber::registry().with(Errors);
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
}

fn current() -> Option<Recorder> {
    RECORDER.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

struct Errors;

impl<S: Subscriber> Layer<S> for Errors {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if is_ours(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _context: Context<'_, S>) -> bool {
        is_ours(metadata)
    }

    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        if *event.metadata().level() == Level::ERROR {
            let mut text = Text(String::new());
            event.record(&mut text);
            if let Some(recorder) = current() {
                recorder.note(Place::World, Fact::ErrorLogged(text.0));
            }
        }
    }
}

fn is_ours(metadata: &Metadata<'_>) -> bool {
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
