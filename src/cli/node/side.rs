//! A thread of its own for what must not hold up the agent: the status page, and signals.

use std::{io, thread};

use tokio::{
    runtime::{Handle, Runtime},
    sync::oneshot,
};

/// A runtime that is driven by a thread of its own until this is dropped.
pub(super) struct Side {
    pub(super) handle: Handle,
    _ends: oneshot::Sender<()>,
}

impl Side {
    /// Drives this runtime, which is of the kind with the current thread only: tokio panics where it cannot
    /// start a thread, and here it is an error.
    pub(super) fn drive(runtime: Runtime) -> io::Result<Self> {
        let handle = runtime.handle().clone();
        let (ends, ended) = oneshot::channel();
        let drive = move || drop(runtime.block_on(ended));
        thread::Builder::new().name("side".to_owned()).spawn(drive)?;
        Ok(Self { handle, _ends: ends })
    }
}
