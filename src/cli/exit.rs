//! How a command ends: the exit codes, in one place, and what is said about a failure.

use std::{
    fmt,
    io::{self, Write as _},
    process::ExitCode,
};

use thiserror::Error;

/// What an exit code means. The numbers are a contract with scripts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Ok = 0,
    /// Failed, for a reason that none of the others names.
    Failed = 1,
    /// The command line, or what it asked for, makes no sense.
    Usage = 2,
    /// No agent answered.
    Unreachable = 3,
    /// The agent knows no such worker.
    NotFound = 4,
    /// The agent does not want to: slots, draining, a stale generation, another machine.
    Refused = 5,
    /// Begun, and not finished yet.
    StillGoing = 6,
}

/// The exit codes, as `--help` shows them.
pub const HELP: &str = "\
Exit codes:
  0  done
  1  failed, for another reason than those below
  2  the command line, or what it asked for, makes no sense
  3  no agent answered
  4  the agent knows no such worker
  5  the agent refused: not enough slots, draining, shutting down, a stale generation, another machine
  6  begun, and not finished yet (a worker that was told to stop and is still alive)";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// Why a command did not do what it was told.
#[derive(Debug, Error)]
pub enum Failure {
    /// What happened, which kind of failure it is, and what to do about it.
    #[error("{message}")]
    Known {
        /// The exit code.
        exit: Exit,
        /// What happened.
        message: String,
        /// What to do about it; may be empty.
        hint: String,
    },
    /// Anything else: exit code 1.
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

impl Failure {
    /// A failure of this kind.
    pub fn new(exit: Exit, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Known { exit, message: message.into(), hint: hint.into() }
    }

    /// Tells a person, on stderr, and gives the exit code.
    pub fn tell(&self) -> Exit {
        match self {
            Self::Known { exit, message, hint } => {
                complain(format_args!("error: {message}"));
                if !hint.is_empty() {
                    complain(format_args!("  hint: {hint}"));
                }
                *exit
            }
            Self::Other(error) => {
                complain(format_args!("error: {error:#}"));
                Exit::Failed
            }
        }
    }
}

/// Writes a line to stderr. Where that cannot be, the exit code has to do.
pub(super) fn complain(line: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_lists_every_code() {
        use Exit::*;
        for exit in [Ok, Failed, Usage, Unreachable, NotFound, Refused, StillGoing] {
            assert!(HELP.contains(&format!("\n  {}  ", exit as u8)), "{exit:?}");
        }
    }
}
