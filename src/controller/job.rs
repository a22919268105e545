//! Jobs: what is asked for, and how it stands.
//!
//! ```text
//!              ┌────── a new generation ──────┐
//!              ▼                              │
//!  submit ─▶ Scheduling ─▶ Running ─▶ Recovering          stop: from any ─▶ Stopping ─▶ Stopped
//!              └────────────────┴──────▶ Failed
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use thiserror::Error;

use crate::{
    ids::{Generation, JobId, PipelineId, WorkerId},
    machine::Dialect,
};

/// A job to run: so many slots, on whatever nodes have them.
#[derive(Clone, PartialEq)]
pub struct JobSpec {
    /// Its name.
    pub id: JobId,
    /// Its pipeline. Sent only in the dialect of 0.16, which cannot do without.
    pub pipeline: Option<PipelineId>,
    /// For people.
    pub name: String,
    /// How many slots it takes; at least one.
    pub slots: u64,
    /// Variables for its workers' environment. Values are never shown.
    pub env: BTreeMap<String, String>,
    /// What is sent to nodes, and what is understood from them.
    pub dialect: Dialect,
    /// The last generation that the job had; its first one here is the next. Stock keeps this in
    /// its database, so that generations go on rising when a controller has restarted.
    pub last_generation: Generation,
}

impl JobSpec {
    /// A job that never ran, in the dialect of 0.16, with a name and a pipeline made of its id.
    pub fn new(id: impl Into<JobId>, slots: u64) -> Self {
        let id = id.into();
        Self {
            pipeline: Some(PipelineId::from(format!("pl_{id}"))),
            name: id.to_string(),
            id,
            slots,
            env: BTreeMap::new(),
            dialect: Dialect::V0_16,
            last_generation: Generation(0),
        }
    }

    pub(super) fn check(&self) -> Result<(), SubmitError> {
        if self.slots == 0 {
            return Err(SubmitError::NoSlots(self.id.clone()));
        }
        let named = self.pipeline.as_ref().is_some_and(|pipeline| !pipeline.as_str().is_empty());
        if self.dialect == Dialect::V0_16 && !named {
            return Err(SubmitError::NoPipeline(self.id.clone()));
        }
        Ok(())
    }

    /// The pipeline as it goes over the wire, if it does.
    pub(super) fn sent_pipeline(&self) -> Option<&PipelineId> {
        match self.dialect {
            Dialect::V0_15 => None,
            Dialect::V0_16 => self.pipeline.as_ref(),
        }
    }
}

impl fmt::Debug for JobSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobSpec")
            .field("id", &self.id)
            .field("pipeline", &self.pipeline)
            .field("name", &self.name)
            .field("slots", &self.slots)
            .field("env", &self.env.keys())
            .field("dialect", &self.dialect)
            .field("last_generation", &self.last_generation)
            .finish()
    }
}

/// A job as the books have it.
#[derive(Clone, PartialEq, Debug)]
pub struct Job {
    /// What was asked for.
    pub spec: Arc<JobSpec>,
    /// Its latest scheduling attempt.
    pub generation: Generation,
    /// How it stands.
    pub state: JobState,
    /// The workers that it consists of while it runs.
    pub workers: BTreeSet<WorkerId>,
    /// Set once it has been told to stop.
    pub stop: Option<Stop>,
    /// Set while it has been told that it is not well.
    pub unwell: bool,
}

/// How a job stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum JobState {
    /// Its workers are being started, or wait for slots.
    Scheduling,
    /// All its workers were started.
    Running,
    /// A worker ended: the others are being stopped, then it is scheduled anew.
    Recovering,
    /// It was told to stop: its workers are being stopped.
    Stopping,
    /// It was told to stop, and no worker of it is left.
    Stopped,
    /// It could not be run.
    Failed(Arc<str>),
}

impl JobState {
    /// Whether nothing happens to the job any more.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Stopped | Self::Failed(_) => true,
            Self::Scheduling | Self::Running | Self::Recovering | Self::Stopping => false,
        }
    }
}

/// How a job is stopped.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Stop {
    /// Its workers get SIGTERM.
    Gentle,
    /// What is left of them is killed. What stock does in practice.
    Force,
}

/// Why a job is not taken.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum SubmitError {
    /// It asks for nothing.
    #[error("job {0:?} asks for no slots: give it at least one")]
    NoSlots(JobId),
    /// Its dialect needs a pipeline.
    #[error("job {0:?} has no pipeline id, which 0.16 requires: name one, or speak 0.15")]
    NoPipeline(JobId),
    /// A job of this name is being run.
    #[error("job {0:?} is being run already: stop it first, or choose another name")]
    Exists(JobId),
    /// The controller has been closed.
    #[error("this controller is closed: make a new one")]
    Closed,
}

/// There is no job of this name.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("no job {0:?} was submitted to this controller")]
pub struct UnknownJob(pub JobId);
