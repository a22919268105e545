//! What the agent writes on a worker for the shim to keep: enough to know the worker again when
//! the journal is lost. The shim never looks inside.

use std::{num::NonZeroU64, sync::Arc};

use prost::Message;

use crate::{
    ids::{Generation, JobId, PipelineId, WorkerId},
    machine::{Dialect, Launch, Process, StartKey, Wall, Worker, WorkerSpec},
};

/// The numbers are kept by shims of all versions: none may change its meaning.
#[derive(Clone, PartialEq, Message)]
struct Label {
    #[prost(fixed64, tag = "1")]
    worker: u64,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(string, tag = "3")]
    job: String,
    #[prost(string, optional, tag = "4")]
    pipeline: Option<String>,
    #[prost(uint64, tag = "5")]
    generation: u64,
    #[prost(uint64, tag = "6")]
    slots: u64,
    /// The minor number of the Arroyo release: 15 or 16.
    #[prost(uint32, tag = "7")]
    dialect: u32,
    #[prost(string, optional, tag = "8")]
    key: Option<String>,
    /// In microseconds since the Unix epoch.
    #[prost(uint64, tag = "9")]
    admitted_at: u64,
}

/// The label of the worker that this launch starts.
pub(super) fn write(launch: &Launch) -> Vec<u8> {
    let spec = &launch.spec;
    let label = Label {
        worker: launch.worker.0,
        name: spec.name.clone(),
        job: spec.job.to_string(),
        pipeline: spec.pipeline.as_ref().map(PipelineId::to_string),
        generation: spec.generation.0,
        slots: spec.slots.get(),
        dialect: match spec.dialect {
            Dialect::V0_15 => 15,
            Dialect::V0_16 => 16,
        },
        key: spec.key.as_ref().map(|key| key.0.to_string()),
        admitted_at: launch.admitted_at.0,
    };
    label.encode_to_vec()
}

/// The worker that a label tells of, as it was when it ran; `None`: the label tells of none.
pub(super) fn read(label: &[u8], process: Option<Process>) -> Option<Worker> {
    let label = Label::decode(label).ok()?;
    let spec = WorkerSpec {
        name: label.name,
        job: JobId::from(label.job),
        pipeline: label.pipeline.map(PipelineId::from),
        generation: Generation(label.generation),
        slots: NonZeroU64::new(label.slots)?,
        dialect: match label.dialect {
            15 => Dialect::V0_15,
            16 => Dialect::V0_16,
            _ => return None,
        },
        key: label.key.map(|key| StartKey(key.into())),
    };
    Some(Worker {
        id: WorkerId(label.worker),
        spec: Arc::new(spec),
        admitted_at: Wall(label.admitted_at),
        process,
        stop: None,
        abandoned_at: None,
        end: None,
        reported_at: None,
    })
}

#[cfg(test)]
mod tests {
    use super::{super::tests::launch, *};

    #[test]
    fn a_worker_is_known_again_by_its_label() {
        let mut launch = launch(WorkerId(u64::MAX));
        for full in [false, true] {
            if full {
                let mut spec = (*launch.spec).clone();
                spec.pipeline = Some(PipelineId::new("pipeline"));
                spec.key = Some(StartKey("key".into()));
                spec.dialect = Dialect::V0_16;
                launch.spec = Arc::new(spec);
            }
            let process = Some(Process { pid: 1, start_time: 2 });
            let worker = read(&write(&launch), process).unwrap();
            assert_eq!((worker.id, &worker.spec), (launch.worker, &launch.spec));
            assert_eq!((worker.admitted_at, worker.process), (launch.admitted_at, process));
        }
    }

    #[test]
    fn a_label_of_something_else_is_nobody() {
        assert_eq!(read(b"", None), None);
        assert_eq!(read(b"\xff\xff", None), None);
        let later = Label { slots: 1, dialect: 17, ..Label::default() };
        assert_eq!(read(&later.encode_to_vec(), None), None);
    }
}
