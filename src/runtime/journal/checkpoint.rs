//! Checkpoints: what was committed moves from the write-ahead log to the database file, with the
//! fsyncs that commits do without.
//!
//! A commit only appends to the log; by itself the log would grow for ever. A thread with a
//! connection of its own empties it, so that no commit waits for an fsync:
//!
//! ```text
//!  commits:   commit commit commit … ─wake─▶ commit commit commit …
//!  thread:                                  PASSIVE: copies and syncs, beside the commits
//!                                           TRUNCATE, if commits have kept outrunning it
//! ```
//!
//! A PASSIVE checkpoint that catches up lets the next commit start the log from the front. While
//! commits come without a pause it may never catch up, so past a bound a TRUNCATE follows: it
//! holds up commits, but only for the few frames that the PASSIVE one left. What neither can do is
//! discard what a person's open read transaction still looks at.

use std::{
    panic::resume_unwind,
    path::Path,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread::{self, JoinHandle},
    time::Duration,
};

use rusqlite::{Connection, Error, OpenFlags, ffi};

/// After so many records, give or take, the thread looks at the log. A record is one page of it
/// (4 KiB), rarely two or three.
const WAKE_AFTER: usize = 500;

/// When so many pages are in the log, it is truncated: 16 MiB.
pub(super) const TRUNCATE_AT: i64 = 4_096;

/// When so many pages of the database file are free, some are given back.
const SHRINK_AT: i64 = 256;

/// So many at a time: it is a write transaction, and commits wait for it.
const SHRINK_BY: i64 = 64;

/// How long the thread waits for commits to let it truncate.
const BUSY: Duration = Duration::from_millis(500);

/// The thread, for as long as this is held.
#[derive(Debug)]
pub(super) struct Checkpointer {
    wake: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
    grown: usize,
}

impl Checkpointer {
    /// Starts the thread; `None` if the kernel gives no thread.
    pub(super) fn start(path: &Path) -> Option<Self> {
        let (wake, wakes) = sync_channel(1);
        let path = path.to_owned();
        let thread = thread::Builder::new().name("checkpoint".to_owned());
        match thread.spawn(move || run(&path, &wakes)) {
            Ok(thread) => Some(Self { wake: Some(wake), thread: Some(thread), grown: 0 }),
            Err(error) => {
                tracing::warn!(%error, "no thread for checkpoints: commits will do them");
                None
            }
        }
    }

    /// Tells of one commit with so many records. Never waits.
    ///
    /// # Panics
    /// If the thread has: it does not end before this is dropped.
    pub(super) fn committed(&mut self, records: usize) {
        if let Some(dead) = self.thread.take_if(|thread| thread.is_finished())
            && let Err(panic) = dead.join()
        {
            resume_unwind(panic);
        }
        self.grown += records.max(1);
        if self.grown >= WAKE_AFTER
            && let Some(wake) = &self.wake
        {
            self.grown = 0;
            // If it has not yet taken the last call, it will see these commits too.
            let _ = wake.try_send(());
        }
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(path: &Path, wakes: &Receiver<()>) {
    let mut connection = None;
    while wakes.recv().is_ok() {
        if connection.is_none() {
            connection = open(path).ok();
        }
        if let Some(open) = &connection
            && let Err(error) = tidy(open)
        {
            tracing::warn!(path = %path.display(), %error, "a checkpoint of the journal failed");
            connection = None;
        }
    }
}

fn open(path: &Path) -> Result<Connection, Error> {
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.busy_timeout(BUSY)?;
    Ok(connection)
}

/// What the thread does each time.
pub(super) fn tidy(connection: &Connection) -> Result<(), Error> {
    let frames: i64 =
        connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", (), |row| row.get(1))?;
    if frames >= TRUNCATE_AT {
        truncate(connection)?;
    }
    match shrink(connection) {
        // The loop was writing; there will be another time.
        Err(error) if is_busy(&error) => Ok(()),
        result => result,
    }
}

/// Empties the log. An error if something still reads from it.
pub(super) fn truncate(connection: &Connection) -> Result<(), Error> {
    let busy: bool =
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |row| row.get(0))?;
    match busy {
        false => Ok(()),
        true => Err(Error::SqliteFailure(
            ffi::Error::new(ffi::SQLITE_BUSY),
            Some("another connection is using the log".to_owned()),
        )),
    }
}

/// Gives free pages back to the file system, a few at a time.
pub(super) fn shrink(connection: &Connection) -> Result<(), Error> {
    let free: i64 = connection.query_row("PRAGMA freelist_count", (), |row| row.get(0))?;
    if free < SHRINK_AT {
        return Ok(());
    }
    // Each step frees one page.
    let mut statement = connection.prepare(&format!("PRAGMA incremental_vacuum({SHRINK_BY})"))?;
    let mut steps = statement.query(())?;
    while steps.next()?.is_some() {}
    Ok(())
}

fn is_busy(error: &Error) -> bool {
    error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy)
}
