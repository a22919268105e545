//! Log lines on stderr, in the forms that Arroyo offers (`logging.*` of its configuration).
//!
//! Which lines: `RUST_LOG`, in the syntax of tracing-subscriber; else `logging.min-level`; else
//! `info`. A directive that makes no sense is an error, not silence.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal as _},
    sync::{Mutex, PoisonError},
};

use thiserror::Error;
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{
    EnvFilter, Layer, Registry, filter::ParseError, fmt::writer::BoxMakeWriter,
    layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

use super::{
    static_fields::{WithStaticFields, left_out},
    stderr::Stderr,
};
use crate::config::stock::{self, LogFormat};

/// The form of a log line.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Plaintext,
    /// One JSON object a line.
    Json,
    /// `key=value` pairs.
    Logfmt,
}

/// How to log. The names are those of Arroyo's `logging` section.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Logging {
    /// The form of a line.
    pub format: Format,
    /// Which lines, if `RUST_LOG` does not say; `None`: `info`.
    pub min_level: Option<String>,
    /// Write from a thread of its own. A stderr that takes no lines loses some in either case: no more than
    /// wait for the thread, and all without it.
    pub nonblocking: bool,
    /// With `nonblocking`: how many lines may wait before lines are lost.
    pub buffered_lines_limit: usize,
    /// Say in which source file an event is.
    pub enable_file_name: bool,
    /// Say in which line of it.
    pub enable_file_line: bool,
    /// What every line carries besides.
    pub static_fields: BTreeMap<String, String>,
}

impl Default for Logging {
    fn default() -> Self {
        Self {
            format: Format::default(),
            min_level: None,
            nonblocking: false,
            buffered_lines_limit: 4096,
            enable_file_name: false,
            enable_file_line: false,
            static_fields: BTreeMap::new(),
        }
    }
}

impl From<Format> for Logging {
    fn from(format: Format) -> Self {
        Self { format, ..Self::default() }
    }
}

impl From<&stock::Logging> for Logging {
    fn from(settings: &stock::Logging) -> Self {
        Self {
            format: match settings.format {
                LogFormat::Plaintext => Format::Plaintext,
                LogFormat::Json => Format::Json,
                LogFormat::Logfmt => Format::Logfmt,
            },
            min_level: settings.min_level.clone(),
            nonblocking: settings.nonblocking,
            buffered_lines_limit: settings.buffered_lines_limit,
            enable_file_name: settings.enable_file_name,
            enable_file_line: settings.enable_file_line,
            static_fields: settings.static_fields.clone(),
        }
    }
}

/// Why logging could not be set up.
#[derive(Debug, Error)]
pub enum LoggingError {
    /// What is to be logged makes no sense.
    #[error("{name}={value:?} is not a log filter ({error}); try {name}=info")]
    Filter {
        /// Where it says so.
        name: &'static str,
        /// What it says.
        value: String,
        /// What is wrong with it.
        error: ParseError,
    },
    /// Something in this process logs already.
    #[error("logging is already set up in this process: call logging::init once")]
    Already,
}

/// Keeps the log flowing: drop it last, at the end of `main`, so that waiting lines are written.
#[must_use = "the last lines are lost if this is dropped early"]
#[derive(Debug)]
pub struct LogGuard(());

impl Drop for LogGuard {
    fn drop(&mut self) {
        finish();
    }
}

/// Of the thread that writes, if there is one.
static WRITER: Mutex<Option<WorkerGuard>> = Mutex::new(None);

/// Writes the lines that wait, unless stderr takes none. For an end that drops nothing; what is logged later
/// may be lost.
pub(super) fn finish() {
    drop(WRITER.lock().unwrap_or_else(PoisonError::into_inner).take());
}

/// Sends the log lines of this process, and its panics, to stderr from now on.
pub fn init(logging: impl Into<Logging>) -> Result<LogGuard, LoggingError> {
    let logging = logging.into();
    let rust_log = std::env::var("RUST_LOG").ok();
    let filter = filter(rust_log.as_deref(), logging.min_level.as_deref())?;
    let (writer, guard) = writer(&logging);
    Registry::default()
        .with(lines(&logging, writer, io::stderr().is_terminal()).with_filter(filter))
        .try_init()
        .map_err(|_| LoggingError::Already)?;
    log_panics();
    for name in left_out(logging.format, &logging.static_fields) {
        tracing::warn!("logging.static-fields.{name} is left out: a log line has its own {name}");
    }
    *WRITER.lock().unwrap_or_else(PoisonError::into_inner) = guard;
    Ok(LogGuard(()))
}

fn filter(rust_log: Option<&str>, min_level: Option<&str>) -> Result<EnvFilter, LoggingError> {
    let said = [("RUST_LOG", rust_log), ("logging.min-level", min_level)];
    let said = said.into_iter().filter_map(|(name, value)| Some((name, value?.trim())));
    let (name, value) =
        said.into_iter().find(|(_, value)| !value.is_empty()).unwrap_or(("RUST_LOG", "info"));
    EnvFilter::try_new(value).map_err(|error| LoggingError::Filter {
        name,
        value: value.to_owned(),
        error,
    })
}

/// Room for that many lines is taken at once, 32 bytes for each.
const MOST_BUFFERED_LINES: usize = 1_000_000;

fn writer(logging: &Logging) -> (BoxMakeWriter, Option<WorkerGuard>) {
    if !logging.nonblocking {
        return (BoxMakeWriter::new(|| Stderr), None);
    }
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(logging.buffered_lines_limit.min(MOST_BUFFERED_LINES))
        .thread_name("log")
        .finish(io::stderr());
    (BoxMakeWriter::new(writer), Some(guard))
}

fn lines(
    logging: &Logging,
    writer: BoxMakeWriter,
    color: bool,
) -> Box<dyn Layer<Registry> + Send + Sync> {
    let fields = &logging.static_fields;
    // Complaints about a stderr that cannot be written would go to stderr, and panic.
    match logging.format {
        Format::Plaintext => tracing_subscriber::fmt::layer()
            .with_file(logging.enable_file_name)
            .with_line_number(logging.enable_file_line)
            .log_internal_errors(false)
            .with_ansi(color)
            .map_event_format(|lines| {
                WithStaticFields::new(lines.with_ansi(color), Format::Plaintext, fields)
            })
            .with_writer(writer)
            .boxed(),
        Format::Json => tracing_subscriber::fmt::layer()
            .json()
            .with_file(logging.enable_file_name)
            .with_line_number(logging.enable_file_line)
            .log_internal_errors(false)
            .map_event_format(|lines| WithStaticFields::new(lines, Format::Json, fields))
            .with_writer(writer)
            .boxed(),
        Format::Logfmt => tracing_logfmt::builder()
            .with_location(logging.enable_file_name || logging.enable_file_line)
            .layer()
            .log_internal_errors(false)
            .map_event_format(|lines| WithStaticFields::new(lines, Format::Logfmt, fields))
            .with_writer(writer)
            .boxed(),
    }
}

/// A panic becomes a log line like any other, in the same form.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        let message = panic.payload_as_str().unwrap_or("(no message)");
        tracing::error!(place = place.as_deref().unwrap_or("unknown"), "panic: {message}");
    }));
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(format: Format, event: impl FnOnce()) -> String {
        let paper = Paper::default();
        let pen = paper.clone();
        let writer = BoxMakeWriter::new(move || pen.clone());
        let layer = lines(&format.into(), writer, false).with_filter(filter(None, None).unwrap());
        tracing::subscriber::with_default(Registry::default().with(layer), event);
        let bytes = paper.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn json_lines_are_json() {
        let text = written(Format::Json, || tracing::info!(worker = 7u64, "started \"it\""));
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["fields"]["worker"], 7);
        assert_eq!(line["fields"]["message"], "started \"it\"");
    }

    #[test]
    fn logfmt_lines_are_pairs() {
        let text = written(Format::Logfmt, || tracing::info!(worker = 7u64, "started it"));
        assert!(text.contains("level=info"), "{text}");
        assert!(text.contains("worker=7"), "{text}");
        assert!(text.contains("message=\"started it\""), "{text}");
    }

    #[test]
    fn plain_lines_carry_no_colour_codes_into_a_file() {
        let text = written(Format::Plaintext, || tracing::warn!("careful"));
        assert!(text.contains("WARN") && text.contains("careful"), "{text}");
        assert!(!text.contains('\u{1b}'), "{text:?}");
    }

    #[test]
    fn info_is_the_default_level() {
        assert_eq!(written(Format::Plaintext, || tracing::debug!("details")), "");
    }

    #[test]
    fn rust_log_wins_over_the_configured_level() {
        assert_eq!(filter(None, Some("warn")).unwrap().to_string(), "warn");
        assert_eq!(filter(Some("debug"), Some("warn")).unwrap().to_string(), "debug");
        assert_eq!(filter(Some(""), Some("warn")).unwrap().to_string(), "warn");
        let error = filter(None, Some("a=loud")).unwrap_err().to_string();
        assert!(error.contains("logging.min-level=\"a=loud\""), "{error}");
    }

    #[test]
    fn a_filter_that_makes_no_sense_is_named() {
        let error = filter(Some("arroyo_node=loud"), None).unwrap_err().to_string();
        assert!(error.contains("arroyo_node=loud"), "{error}");
    }
}
