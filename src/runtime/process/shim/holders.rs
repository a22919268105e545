//! What has a shim's lock: whether a shim lives is told by its lock, and nothing else.
//!
//! A shim that does not answer is found by the lock and killed. What holds it open is the shim.
//! Files say nothing about what reads them, so whatever else has opened it (a backup, say) is left
//! alone: it does not call itself a shim.

use std::{
    fs::{self, File, Metadata},
    io,
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};

use super::{
    super::{pidfd::Pidfd, procfs},
    daemon,
};
use crate::supervisor::Stat;

/// Whether a shim has the lock of this directory.
pub(super) fn is_locked(state_dir: &Path) -> io::Result<bool> {
    let file = match File::open(state_dir.join(daemon::LOCK)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    // Shared, so that two that ask at once do not find each other.
    match Flock::lock(file, FlockArg::LockSharedNonblock) {
        Ok(_) => Ok(false),
        Err((_, Errno::EWOULDBLOCK)) => Ok(true),
        Err((_, error)) => Err(error.into()),
    }
}

/// Kills the shims that have the lock of this directory open; how many there were.
pub(super) fn kill(state_dir: &Path) -> io::Result<usize> {
    let lock = match fs::metadata(state_dir.join(daemon::LOCK)) {
        Ok(lock) => lock,
        // Nothing keeps another one out.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    let mut killed = 0;
    for stat in procfs::read_all()?.processes.into_values() {
        if !stat.dead
            && is_a_shim(&stat)
            && has_open(&stat, &lock)
            && let Some(pidfd) = Pidfd::open(stat.process)?
        {
            pidfd.signal(libc::SIGKILL)?;
            killed += 1;
        }
    }
    Ok(killed)
}

fn is_a_shim(stat: &Stat) -> bool {
    let name = fs::read(format!("/proc/{}/comm", stat.process.pid));
    name.is_ok_and(|name| name.trim_ascii_end() == daemon::PROCESS_NAME.to_bytes())
}

fn has_open(stat: &Stat, file: &Metadata) -> bool {
    // What has ended meanwhile, or is somebody else's, shows none.
    let descriptors = fs::read_dir(format!("/proc/{}/fd", stat.process.pid)).into_iter().flatten();
    let mut files = descriptors.flatten().filter_map(|link| fs::metadata(link.path()).ok());
    files.any(|open| (open.dev(), open.ino()) == (file.dev(), file.ino()))
}
