//! The settings in effect as TOML, each with its source; secrets hidden.

use std::fmt::Write as _;

use figment::value::{Dict, Empty, Value};

use super::{Loaded, error::dict, source::leaves};

impl Loaded {
    /// A TOML document with every setting that the agent reads, and where it comes from.
    pub fn render(&self) -> String {
        let mut text = String::new();
        self.section(
            &mut text,
            "Arroyo's settings, as far as a node reads them",
            dict(&self.stock),
        );
        text.push('\n');
        self.section(&mut text, "settings of arroyo-node", dict(&self.own));
        text
    }

    fn section(&self, text: &mut String, title: &str, settings: Dict) {
        let _ = writeln!(text, "# {title}");
        let lines: Vec<_> = leaves(&settings)
            .into_iter()
            .map(|(key, value)| match value {
                Value::Empty(..) => (format!("# {key} is not set"), self.source(&key)),
                value => (format!("{key} = {}", literal(&value)), self.source(&key)),
            })
            .collect();
        let width = lines.iter().map(|(line, _)| line.chars().count().min(48)).max().unwrap_or(0);
        for (line, source) in lines {
            let _ = writeln!(text, "{line:width$}  # {source}");
        }
    }
}

/// A value as TOML writes it.
pub(super) fn literal(value: &Value) -> String {
    match value {
        Value::String(_, text) => quoted(text),
        Value::Char(_, text) => quoted(&text.to_string()),
        Value::Bool(_, truth) => truth.to_string(),
        Value::Num(_, number) => match (number.to_i128(), number.to_u128(), number.to_f64()) {
            (Some(number), _, _) => number.to_string(),
            (_, Some(number), _) => number.to_string(),
            (_, _, Some(number)) => number.to_string(),
            _ => "a number".into(),
        },
        Value::Empty(_, Empty::None | Empty::Unit) => "nothing".into(),
        Value::Array(_, values) => {
            format!("[{}]", values.iter().map(literal).collect::<Vec<_>>().join(", "))
        }
        Value::Dict(_, dict) if dict.is_empty() => "{}".into(),
        Value::Dict(_, dict) => {
            let entry = |(key, value): (&String, &Value)| format!("{key} = {}", literal(value));
            format!("{{ {} }}", dict.iter().map(entry).collect::<Vec<_>>().join(", "))
        }
    }
}

/// A JSON string is a TOML string, too.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a text can always be written as JSON")
}
