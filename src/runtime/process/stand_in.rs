//! Kills workers in the place of their supervisor, when that does not get to it.

use std::{collections::BTreeSet, io};

use super::{
    pidfd::Pidfd,
    procfs::Table,
    tree::{self, Kin},
};
use crate::{ids::WorkerId, machine::Process};

/// A worker that somebody else is to kill, and has not.
#[derive(Debug)]
pub(super) struct Doomed {
    pub(super) worker: WorkerId,
    pub(super) leader: Process,
    /// A handle on its leader, if that is to be had.
    pub(super) pidfd: Option<Pidfd>,
}

/// Kills all that can be found alive of these workers, once. Their ends are for their supervisor to tell.
pub(super) fn kill(doomed: &[Doomed]) -> io::Result<()> {
    // Whose is what can be told only as long as all are alive.
    let table = Table::read()?;
    let nothing = BTreeSet::new();
    let kin = doomed.iter().map(|Doomed { worker, leader, pidfd }| Kin {
        worker: *worker,
        leader: Some((*leader, pidfd.as_ref())),
        known: &nothing,
        sought: true,
    });
    let found = tree::find(&table, &kin.collect::<Vec<_>>());
    for pidfd in doomed.iter().filter_map(|doomed| doomed.pidfd.as_ref()) {
        // In one go, so that nobody is born meanwhile. Not before Linux 6.9.
        let _ = pidfd.signal_group(libc::SIGKILL);
    }
    for stat in found.members.into_values().flatten() {
        if let Some(pidfd) = Pidfd::open(stat.process)? {
            pidfd.signal(libc::SIGKILL)?;
        }
    }
    Ok(())
}
