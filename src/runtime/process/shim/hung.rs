//! Ends a shim that does not answer, so that another can take its place: it was stopped, or a disk keeps
//! it. An agent that waited for it could not start, and nobody would look after its workers.
//!
//! Its workers live on, as whenever a shim dies. It is found by the lock: who holds that open is the shim, or
//! a child of it that has yet to run its program. Files say nothing about who reads them, so whoever else has
//! opened it (a backup, say) is left alone: it does not call itself a shim.

use std::{
    fs::{self, Metadata},
    io,
    os::unix::fs::MetadataExt as _,
    path::Path,
    time::Duration,
};

use tokio::time::{Instant, sleep};

use super::{
    super::{
        pidfd::Pidfd,
        procfs::{Stat, Table},
    },
    daemon,
};

/// Kills the shim of this directory and waits, so long at most, until it is gone.
pub(super) async fn end(state_dir: &Path, patience: Duration) -> io::Result<()> {
    const LOOK_EVERY: Duration = Duration::from_millis(10);
    let Ok(lock) = fs::metadata(state_dir.join(daemon::LOCK)) else {
        // Nothing keeps another one out.
        return Ok(());
    };
    let deadline = Instant::now() + patience;
    tracing::warn!("the shim does not answer; it is killed");
    loop {
        let mut left = 0;
        for stat in holders(&lock)? {
            if let Some(pidfd) = Pidfd::open(stat.process)? {
                pidfd.signal(libc::SIGKILL)?;
                left += 1;
            }
        }
        if left == 0 {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "it cannot even be killed"));
        }
        sleep(LOOK_EVERY).await;
    }
}

fn holders(lock: &Metadata) -> io::Result<Vec<Stat>> {
    let alive = Table::read()?.processes.into_values().filter(|stat| !stat.is_dead());
    Ok(alive.filter(|stat| is_a_shim(stat) && has_open(stat, lock)).collect())
}

fn is_a_shim(stat: &Stat) -> bool {
    let name = fs::read(format!("/proc/{}/comm", stat.process.pid));
    name.is_ok_and(|name| name.trim_ascii_end() == daemon::PROCESS_NAME.to_bytes())
}

fn has_open(stat: &Stat, file: &Metadata) -> bool {
    // Who has ended meanwhile, or is somebody else's, shows none.
    let descriptors = fs::read_dir(format!("/proc/{}/fd", stat.process.pid)).into_iter().flatten();
    let mut files = descriptors.flatten().filter_map(|link| fs::metadata(link.path()).ok());
    files.any(|open| (open.dev(), open.ino()) == (file.dev(), file.ino()))
}
