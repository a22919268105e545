//! Fields that every log line carries (`logging.static-fields`), so that lines of many machines can
//! be told apart where they come together.
//!
//! ```text
//!  plaintext  …  INFO arroyo_node: bound address=…  site="north"
//!  json       {"timestamp":…,"level":…,"fields":{…},"target":…,"site":"north"}
//!  logfmt     ts=… level=info target=… message=bound site=north
//! ```
//!
//! In JSON they stand beside `fields`, where stock has them; stock leaves them out of the other two
//! forms.

use std::{collections::BTreeMap, fmt, fmt::Write as _};

use tracing::{Event, Subscriber};
use tracing_subscriber::{
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

use super::logging::Format;

/// Another form of lines, with something at the end of each.
pub(super) struct WithStaticFields<F> {
    lines: F,
    /// Written once: it is the same for every line.
    suffix: String,
    /// What a line of this form ends with, before which the suffix goes.
    end: &'static str,
}

impl<F> WithStaticFields<F> {
    pub(super) fn new(lines: F, format: Format, fields: &BTreeMap<String, String>) -> Self {
        let fields = fields.iter().filter(|(name, _)| !has_itself(format, name));
        let mut suffix = String::new();
        for (name, value) in fields {
            // Nothing can go wrong with writing to a String.
            let _ = match format {
                Format::Plaintext => write!(suffix, " {}={value:?}", bare(name)),
                Format::Json => write!(suffix, ",{}:{}", quoted(name), quoted(value)),
                Format::Logfmt if value.is_empty() || value.chars().any(needs_quotes) => {
                    write!(suffix, " {}={}", bare(name), quoted(value))
                }
                Format::Logfmt => write!(suffix, " {}={value}", bare(name)),
            };
        }
        let end = if format == Format::Json { "}\n" } else { "\n" };
        Self { lines, suffix, end }
    }
}

impl<S, N, F> FormatEvent<S, N> for WithStaticFields<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if self.suffix.is_empty() {
            return self.lines.format_event(context, writer, event);
        }
        let mut line = String::new();
        self.lines.format_event(context, Writer::new(&mut line), event)?;
        let kept = line.strip_suffix(self.end).unwrap_or(&line);
        write!(writer, "{kept}{}{}", self.suffix, self.end)
    }
}

/// The names that cannot be given: a line of this form has such a field of its own.
pub(super) fn left_out(
    format: Format,
    fields: &BTreeMap<String, String>,
) -> impl Iterator<Item = &str> {
    fields.keys().map(String::as_str).filter(move |name| has_itself(format, name))
}

fn has_itself(format: Format, name: &str) -> bool {
    let own: &[&str] = match format {
        Format::Plaintext => &[],
        Format::Json => {
            &["timestamp", "level", "fields", "target", "filename", "line_number", "span", "spans"]
        }
        Format::Logfmt => &["ts", "level", "target", "location", "span", "span_path", "message"],
    };
    own.contains(&name)
}

/// A name without what would end it.
fn bare(name: &str) -> String {
    name.chars().map(|char| if needs_quotes(char) { '_' } else { char }).collect()
}

fn needs_quotes(char: char) -> bool {
    char <= ' ' || matches!(char, '=' | '"' | '\\' | '\u{7f}')
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a text can always be written as JSON")
}
