//! Looking at workers' processes from outside their supervision: for demonstrations and tests,
//! which must not take the agent's word for what is alive.

use std::{collections::BTreeSet, io};

use super::{
    pidfd::Pidfd,
    procfs::{self, Table},
};
use crate::{ids::WorkerId, machine::Process};

/// Everything alive on this machine that carries one of these workers' ids in its environment.
///
/// # Errors
/// `/proc` cannot be read.
pub fn alive_of(workers: &BTreeSet<WorkerId>) -> io::Result<Vec<(WorkerId, Process)>> {
    let alive = Table::read()?.processes.into_values().filter(|stat| !stat.is_dead());
    let theirs = alive.filter_map(|stat| {
        let worker = procfs::worker_of(stat.process)?;
        workers.contains(&worker).then_some((worker, stat.process))
    });
    Ok(theirs.collect())
}

/// Sends a signal to exactly this process. `Ok(false)`: it is gone, whoever has its pid now.
///
/// # Errors
/// The process may not be signalled.
pub fn send_signal(process: Process, signal: i32) -> io::Result<bool> {
    match Pidfd::open(process)? {
        Some(pidfd) => pidfd.signal(signal),
        None => Ok(false),
    }
}
