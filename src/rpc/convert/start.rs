//! Requests of the controller, parsed.

use std::{collections::BTreeMap, num::NonZeroU64};

use thiserror::Error;

use crate::{
    ids::{Generation, JobId, MachineId, PipelineId, WorkerId},
    machine::{Ask, Dialect, Start, StartKey, StopHow},
    rpc::wire::{StartWorkerReq, StopWorkerReq},
};

/// The most bytes of a name or an id.
const MAX_NAME: usize = 1_024;
/// The most bytes of a request id.
const MAX_KEY: usize = 128;
/// The most bytes of one variable, `NAME=VALUE` and its terminator: the kernel's `MAX_ARG_STRLEN`.
const MAX_VARIABLE: usize = 128 * 1_024;
/// The most bytes of all variables: half of what the kernel takes with the usual stack limit, since
/// the worker inherits the agent's environment, too.
const MAX_ENVIRONMENT: usize = 1_024 * 1_024;

/// Which dialect the controller is answered in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum DialectPolicy {
    /// The dialect of each StartWorker: 0.16 if it names a pipeline, else 0.15.
    #[default]
    PerWorker,
    /// Always this one.
    Always(Dialect),
}

impl DialectPolicy {
    fn choose(self, pipeline: Option<&PipelineId>) -> Dialect {
        match (self, pipeline) {
            (DialectPolicy::Always(dialect), _) => dialect,
            (DialectPolicy::PerWorker, Some(_)) => Dialect::V0_16,
            (DialectPolicy::PerWorker, None) => Dialect::V0_15,
        }
    }
}

/// What is wrong with the form of a StartWorker.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum BadStart {
    /// No job.
    #[error("job_id is empty; it must name the job that the worker serves")]
    EmptyJob,
    /// No capacity.
    #[error("slots is 0; a worker holds at least one")]
    NoSlots,
    /// A text that is too long.
    #[error("{field} has {length} bytes; at most {most} are taken")]
    TooLong {
        /// Which field.
        field: &'static str,
        /// How long it is.
        length: usize,
        /// How long it may be.
        most: usize,
    },
    /// A text with a zero byte, which no environment can hold.
    #[error("{field} {text:?} contains a zero byte")]
    ZeroByte {
        /// Which field.
        field: &'static str,
        /// The text; for a variable, its name.
        text: String,
    },
    /// A name that is no name of an environment variable.
    #[error(
        "env_vars has the name {0:?}; a name is not empty and contains no '=' and no zero byte"
    )]
    BadVariableName(String),
    /// A variable that the kernel would not take.
    #[error(
        "variable {name} has {length} bytes with its name; the kernel takes at most {MAX_VARIABLE}"
    )]
    VariableTooLong {
        /// Its name.
        name: String,
        /// `NAME=VALUE` and its terminator.
        length: usize,
    },
    /// More variables than the kernel would take.
    #[error("env_vars has {0} bytes in all; at most {MAX_ENVIRONMENT} are taken")]
    EnvironmentTooLong(usize),
}

/// Reads a StartWorker.
///
/// # Errors
/// Its form is wrong; nothing can be started from it.
pub fn parse_start(request: StartWorkerReq, policy: DialectPolicy) -> Result<Start, BadStart> {
    if request.job_id.is_empty() {
        return Err(BadStart::EmptyJob);
    }
    let slots = NonZeroU64::new(request.slots).ok_or(BadStart::NoSlots)?;
    check_text("name", &request.name, MAX_NAME)?;
    check_text("job_id", &request.job_id, MAX_NAME)?;
    check_text("pipeline_id", &request.pipeline_id, MAX_NAME)?;
    check_text("request_id", &request.request_id, MAX_KEY)?;
    check_environment(&request.env_vars)?;
    let pipeline = Some(request.pipeline_id).filter(|id| !id.is_empty()).map(PipelineId::from);
    Ok(Start {
        machine: MachineId::from(request.machine_id),
        name: request.name,
        job: JobId::from(request.job_id),
        generation: Generation(request.generation),
        slots,
        dialect: policy.choose(pipeline.as_ref()),
        pipeline,
        env: request.env_vars,
        key: Some(request.request_id).filter(|key| !key.is_empty()).map(|key| StartKey(key.into())),
    })
}

/// Reads a StopWorker. The job id in it is not needed: worker ids name workers for ever.
pub fn parse_stop(request: &StopWorkerReq) -> Ask {
    let how = match request {
        StopWorkerReq { finished: true, .. } => StopHow::Ask,
        StopWorkerReq { force: true, .. } => StopHow::Force,
        StopWorkerReq { .. } => StopHow::Gentle,
    };
    Ask::Stop { worker: WorkerId(request.worker_id), how }
}

fn check_text(field: &'static str, text: &str, most: usize) -> Result<(), BadStart> {
    if text.len() > most {
        return Err(BadStart::TooLong { field, length: text.len(), most });
    }
    if text.contains('\0') {
        return Err(BadStart::ZeroByte { field, text: text.into() });
    }
    Ok(())
}

fn check_environment(env: &BTreeMap<String, String>) -> Result<(), BadStart> {
    let mut total = 0;
    for (name, value) in env {
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(BadStart::BadVariableName(name.clone()));
        }
        if value.contains('\0') {
            return Err(BadStart::ZeroByte { field: "the value of", text: name.clone() });
        }
        let length = name.len() + value.len() + 2;
        if length > MAX_VARIABLE {
            return Err(BadStart::VariableTooLong { name: name.clone(), length });
        }
        total += length;
    }
    if total > MAX_ENVIRONMENT {
        return Err(BadStart::EnvironmentTooLong(total));
    }
    Ok(())
}
