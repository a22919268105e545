//! Each rule of the shim and of the agent's client, with the other side's part played by the test.

mod client;
mod client_states;
mod registry;
mod server;

use std::{collections::BTreeMap, num::NonZeroU64, sync::Arc};

use crate::{
    ids::{Generation, JobId, WorkerId},
    machine::{Dialect, Launch, Wall, WorkerSpec},
};

/// A launch of this worker: job "job", generation 3, two slots.
pub(super) fn launch(worker: WorkerId) -> Launch {
    let spec = WorkerSpec {
        name: "name".to_owned(),
        job: JobId::new("job"),
        pipeline: None,
        generation: Generation(3),
        slots: NonZeroU64::new(2).unwrap(),
        dialect: Dialect::V0_15,
        key: None,
    };
    Launch { worker, spec: Arc::new(spec), admitted_at: Wall(1), env: BTreeMap::new() }
}
