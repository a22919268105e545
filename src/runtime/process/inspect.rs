//! Looking at workers' processes from outside their supervision: for demonstrations and tests,
//! which must not take the agent's word for what is alive.

use std::{collections::BTreeSet, io};

use super::{pidfd::Pidfd, procfs};
use crate::{ids::WorkerId, machine::Process};

/// Everything alive on this machine that carries one of these workers' ids in its environment.
///
/// # Errors
/// `/proc` cannot be read.
pub fn alive_of(workers: &BTreeSet<WorkerId>) -> io::Result<Vec<(WorkerId, Process)>> {
    let alive = procfs::read_all()?.processes.into_values().filter(|stat| !stat.dead);
    let theirs = alive.filter_map(|stat| {
        let worker = procfs::worker_of(stat.process)?;
        workers.contains(&worker).then_some((worker, stat.process))
    });
    Ok(theirs.collect())
}

/// A process that was found by its environment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Marked {
    /// Which one.
    pub process: Process,
    /// The worker that it is, or belongs to.
    pub worker: Option<WorkerId>,
}

/// Everything alive on this machine that was started with this variable, `NAME=value`.
///
/// # Errors
/// `/proc` cannot be read.
pub fn alive_with(variable: &str) -> io::Result<Vec<Marked>> {
    let alive = procfs::read_all()?.processes.into_values().filter(|stat| !stat.dead);
    let marked = alive.filter_map(|stat| {
        let environment = procfs::environment(stat.process)?;
        let mut variables = environment.split(|&byte| byte == 0);
        variables
            .any(|one| one == variable.as_bytes())
            .then(|| Marked { process: stat.process, worker: procfs::worker_in(&environment) })
    });
    Ok(marked.collect())
}

/// The process that has this pid now and has not ended.
///
/// # Errors
/// `/proc` cannot be read.
pub fn identify(pid: u32) -> io::Result<Option<Process>> {
    Ok(procfs::stat(pid)?.filter(|stat| !stat.dead).map(|stat| stat.process))
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
