//! What to run as a worker.

use std::{ffi::OsString, path::PathBuf};

use thiserror::Error;

use crate::machine::SpawnError;

/// What to run as a worker.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WorkerCommand {
    /// The program. Without a slash it is looked for on `PATH`; a relative path starts at the
    /// directory in which the agent was started.
    pub program: PathBuf,
    /// Its arguments, after the program's name.
    pub args: Vec<OsString>,
    /// The directory to run it in; `None`: the one in which the agent was started.
    pub cwd: Option<PathBuf>,
    /// Variables over those that the agent has itself, and under those of the StartWorker.
    pub env: Vec<(OsString, OsString)>,
}

impl WorkerCommand {
    /// This program with the one argument `worker`, as stock Arroyo is run.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into(), args: vec!["worker".into()], cwd: None, env: Vec::new() }
    }

    /// What to tell of a launch that failed.
    pub(super) fn spawn_error(&self, reason: &str) -> SpawnError {
        let program = self.program.to_string_lossy().as_ref().into();
        SpawnError { program, reason: reason.into() }
    }
}

/// Why a launch cannot be put in the form that `execve` takes. Values are not shown: they may be
/// secret.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum CommandError {
    /// The configured program is the empty string.
    #[error("no worker program is configured; set worker.command")]
    NoProgram,
    /// An argument, path or variable holds a zero byte.
    #[error("an argument, path or variable of the worker contains a zero byte")]
    ZeroByte,
    /// A variable cannot be called this.
    #[error(
        "{0:?} cannot name an environment variable: it is empty or contains '=' or a zero byte"
    )]
    Name(String),
}
