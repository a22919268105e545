//! Where a setting comes from.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use figment::{
    Figment, Metadata,
    value::{Dict, Value},
};

/// Where a setting comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Source {
    /// Nobody set it.
    Default,
    /// This file.
    File(PathBuf),
    /// This environment variable.
    Variable(String),
    /// This flag of the command line.
    Flag(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => path.display().fmt(f),
            Self::Variable(name) | Self::Flag(name) => f.write_str(name),
        }
    }
}

impl Source {
    /// As the library remembers it for the value of this key.
    pub(super) fn read(metadata: Option<&Metadata>, key: &str) -> Self {
        let Some(metadata) = metadata else { return Self::Default };
        if let Some(path) = metadata.source.as_ref().and_then(|source| source.file_path()) {
            return Self::File(path.to_owned());
        }
        match metadata.source.as_ref().and_then(|source| source.custom()) {
            Some(flag) if flag.starts_with('-') => return Self::Flag(flag.to_owned()),
            Some(variable) => return Self::Variable(variable.to_owned()),
            None => {}
        }
        let prefix = ["ARROYO_NODE__", "ARROYO__"]
            .into_iter()
            .find(|prefix| metadata.name.starts_with(&format!("`{prefix}`")));
        match prefix {
            Some(prefix) => Self::Variable(variable(prefix, key)),
            None => Self::Default,
        }
    }

    /// Of this key's value.
    pub(super) fn of(layers: &Figment, key: &str) -> Self {
        Self::read(layers.find_metadata(key), key)
    }

    /// A file, as far as it is known.
    pub(super) fn path(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            _ => None,
        }
    }
}

fn variable(prefix: &str, key: &str) -> String {
    format!("{prefix}{}", key.replace('.', "__").replace('-', "_").to_uppercase())
}

/// The source of every value.
pub(super) fn of_all(layers: &Figment) -> BTreeMap<String, Source> {
    let Ok(all) = layers.extract::<Dict>() else { return BTreeMap::new() };
    leaves(&all).into_iter().map(|(key, _)| (key.clone(), Source::of(layers, &key))).collect()
}

/// Every value that is no section, under its full key.
pub(super) fn leaves(dict: &Dict) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for (key, value) in dict {
        match value.as_dict() {
            Some(section) if !section.is_empty() => found.extend(
                leaves(section).into_iter().map(|(rest, value)| (format!("{key}.{rest}"), value)),
            ),
            _ => found.push((key.clone(), value.clone())),
        }
    }
    found
}
