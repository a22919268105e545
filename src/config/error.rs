//! What can be wrong with settings, said so that a person finds the place.

use std::path::PathBuf;

use figment::{
    Error, Figment,
    error::Kind,
    value::{Dict, Value},
};
use thiserror::Error;

use super::{Source, Whose, own::Own, render::literal, source::leaves, stock::Stock, values::MASK};

/// Why there are no settings.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum ConfigError {
    /// A file that the command line names is not there.
    #[error("cannot load configuration from {} ({option}): there is no such file", path.display())]
    Missing {
        /// The option that names it.
        option: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// What the command line names is something else.
    #[error(
        "cannot load configuration from {} ({option}): it is not a regular file; of a directory, name \
         the file in it, or use --config-dir", path.display()
    )]
    NoFile {
        /// The option that names it.
        option: &'static str,
        /// What it names.
        path: PathBuf,
    },
    /// The agent's own file is where stock workers would read it.
    #[error(
        "{} is in --config-dir, whose files every worker reads, and a stock worker refuses settings \
         that it does not know: put it elsewhere and name it with --node-config", path.display()
    )]
    OwnFileAmongStock {
        /// The file.
        path: PathBuf,
    },
    /// A file is no TOML, YAML or JSON.
    #[error("cannot read {source_name}: {problem}")]
    Unreadable {
        /// The file.
        source_name: String,
        /// What is wrong with it, and where.
        problem: String,
    },
    /// A setting has a value that it cannot have.
    #[error("{source_name} sets {key} to {value}; it must be {must}")]
    Value {
        /// The file, variable or flag.
        source_name: String,
        /// The setting.
        key: String,
        /// Its value, unless it may be secret.
        value: String,
        /// What is allowed.
        must: String,
    },
    /// TLS is described, and whether there is to be TLS is not said.
    #[error(
        "{source_name} sets {key}, and nothing sets {switch}, which Arroyo demands: set it to true or false"
    )]
    NoSwitch {
        /// The file, variable or flag.
        source_name: String,
        /// What is set.
        key: String,
        /// What is not.
        switch: String,
    },
    /// There is no such setting.
    #[error("{source_name} sets {key}, which is no setting of arroyo-node; {hint}")]
    Unknown {
        /// The file, variable or flag.
        source_name: String,
        /// The unknown setting.
        key: String,
        /// Which setting may be meant.
        hint: String,
    },
}

/// A value that does not go with another.
pub(super) fn contradiction(layers: &Figment, key: &str, must: String) -> ConfigError {
    let source_name = match Source::of(layers, key) {
        Source::Default => "the default".into(),
        source => source.to_string(),
    };
    ConfigError::Value { source_name, key: key.to_owned(), value: shown(layers, key), must }
}

/// In our words, what the library found.
pub(super) fn explain(layers: &Figment, error: &Error, whose: Whose) -> ConfigError {
    let key = error.path.join(".");
    if let Kind::UnknownField(name, _) = &error.kind
        && whose == Whose::Own
    {
        return unknown(layers, &key, name);
    }
    let source = match &error.metadata {
        Some(metadata) if metadata.source.is_some() => Source::read(Some(metadata), &key),
        _ => Source::of(layers, &key),
    };
    if key.is_empty() && source.path().is_some() {
        let source_name = source.to_string();
        return ConfigError::Unreadable { source_name, problem: error.kind.to_string() };
    }
    ConfigError::Value {
        source_name: source.to_string(),
        value: shown(layers, &key),
        must: allowed(&error.kind),
        key,
    }
}

fn allowed(kind: &Kind) -> String {
    match kind {
        Kind::InvalidType(_, expected) | Kind::InvalidValue(_, expected) => in_words(expected),
        Kind::InvalidLength(_, expected) => expected.clone(),
        Kind::UnknownVariant(_, names) => format!("one of {}", names.join(", ")),
        Kind::MissingField(name) => format!("a section with {name}"),
        other => format!("another: {other}"),
    }
}

fn in_words(expected: &str) -> String {
    match expected {
        "u16" => "a whole number from 0 to 65535".into(),
        "u32" => "a whole number from 0 to 4294967295".into(),
        "usize" | "u64" => "a whole number".into(),
        "a nonzero usize" => "a whole number from 1".into(),
        "a boolean" | "bool" => "true or false".into(),
        "a string" | "string" => {
            "a text (a number that is meant as text needs quotes: '\"7\"' in a variable)".into()
        }
        "path string" => "a path".into(),
        other => other.strip_prefix("struct ").map_or_else(
            || other.to_owned(),
            |name| format!("a section with the settings of {}", name.to_lowercase()),
        ),
    }
}

fn shown(layers: &Figment, key: &str) -> String {
    if key == "admin.auth-mode" || key.ends_with("api-key") {
        return MASK.into();
    }
    layers.find_value(key).map_or_else(|_| "something".into(), |value| literal(&value))
}

fn unknown(layers: &Figment, section: &str, name: &str) -> ConfigError {
    let key = match section {
        "" => name.to_owned(),
        section if section.ends_with(name) => section.to_owned(),
        section => format!("{section}.{name}"),
    };
    // Of a whole section that is unknown, its first setting: that is what somebody wrote.
    let inside = layers.find_value(&key).ok().and_then(Value::into_dict);
    let first = inside.and_then(|section| leaves(&section).into_iter().next());
    let key = first.map_or(key.clone(), |(name, _)| format!("{key}.{name}"));
    let top = key.split('.').next().unwrap_or_default();
    let known = leaves(&dict(&Own::default()));
    let names = known.iter().map(|(name, _)| name.as_str());
    let hint = if dict(&Stock::default()).contains_key(top) {
        "Arroyo's own settings go into arroyo.toml or ARROYO__*".into()
    } else {
        match nearest(&key, names) {
            Some(name) => format!("did you mean {name}?"),
            None => "arroyo-node.example.toml has them all".into(),
        }
    };
    ConfigError::Unknown { source_name: Source::of(layers, &key).to_string(), key, hint }
}

/// The name that looks most like this one, if any does.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let scored = known.map(|other| (strsim::normalized_damerau_levenshtein(name, other), other));
    let best = scored.max_by(|(a, _), (b, _)| a.total_cmp(b))?;
    (best.0 > 0.4).then_some(best.1)
}

pub(super) fn dict(value: &impl serde::Serialize) -> Dict {
    Value::serialize(value)
        .ok()
        .and_then(Value::into_dict)
        .expect("settings are sections of plain values")
}
