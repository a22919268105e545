//! The setting: whether workers get cgroups.

use std::{fmt, str::FromStr};

/// Whether each worker gets a cgroup of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mode {
    /// Where a writable subtree is there; elsewhere workers run without.
    #[default]
    Auto,
    /// It is an error if there is no writable subtree.
    Required,
    /// Never.
    Off,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Required => "required",
            Self::Off => "off",
        })
    }
}

/// A text that names no [`Mode`].
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0:?} is no cgroup mode: use auto, required or off")]
pub struct ParseModeError(String);

impl FromStr for Mode {
    type Err = ParseModeError;

    fn from_str(text: &str) -> Result<Self, ParseModeError> {
        match text {
            "auto" => Ok(Self::Auto),
            "required" => Ok(Self::Required),
            "off" => Ok(Self::Off),
            _ => Err(ParseModeError(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_is_written_as_it_is_read() {
        for mode in [Mode::Auto, Mode::Required, Mode::Off] {
            assert_eq!(mode.to_string().parse(), Ok(mode));
        }
        let error = "on".parse::<Mode>().unwrap_err();
        assert_eq!(error.to_string(), "\"on\" is no cgroup mode: use auto, required or off");
    }
}
