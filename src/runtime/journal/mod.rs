//! The journal: what an agent must know again after it was killed, in one SQLite file.
//!
//! ```text
//!  machine ──Commit──▶ SqliteJournal ──one transaction──▶ journal.sqlite-wal   (kill -9 ends here)
//!                                                              │ checkpoint, off the loop
//!                                                              ▼
//!  machine ◀─Recovered── open: verify, migrate, read ◀── journal.sqlite        (fsync)
//! ```
//!
//! * **A commit is durable against the end of the agent, in order against the end of the
//!   machine.** It lies in the kernel when [`BlockingJournal::commit`] returns, without an fsync; after a
//!   power failure the file holds the state after some commit, and never a part of one.
//! * **Opening never fails.** What cannot be used (damaged, of another program, of a newer
//!   version, not a file at all) is set aside with a timestamp, never deleted, and an empty journal
//!   takes its place. What fails around the file (disk full, read-only, locked) is waited for:
//!   every commit fails until one finds the file usable again.
//! * **Nothing is written over that the machine has not been told.** Rows that could not be read at
//!   the start are set aside before the first write.
//! * **It never makes things up.** Each worker's row carries a checksum, since random bits flip and
//!   SQLite does not look inside values. A row that does not parse moves to the table `rejected`.
//! * It reads no clock and draws no entropy of its own; with [`Checkpoints::Manual`] it has no
//!   thread either.

mod checkpoint;
mod fault;
mod memory;
mod read;
mod row;
mod schema;
mod store;
mod thread;

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fs::DirBuilder,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use fault::Fault;
use store::{BUSY_AT_COMMIT, BUSY_AT_START, Store};

pub use memory::MemoryJournal;
pub use thread::{BlockingJournal, JournalThread};

use super::{Notice, ports::JournalError, set_aside::exists};
use crate::{
    ids::WorkerId,
    machine::{Commit, Record, Recovered, Wall},
};

/// A journal in an SQLite file.
#[derive(Debug)]
pub struct SqliteJournal {
    path: PathBuf,
    boots: Boots,
    /// Names what is set aside later: [`BlockingJournal::commit`] is not told the time.
    opened_at: Wall,
    checkpoints: Checkpoints,
    state: State,
    /// The file was made anew while the machine was running: it holds too little until everything
    /// is written to it.
    incomplete: bool,
}

/// Who copies what was committed from the write-ahead log to the database file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Checkpoints {
    /// A thread of the journal's own, whenever enough has been committed.
    Thread,
    /// Whoever calls [`SqliteJournal::checkpoint`]; the log grows until then.
    Manual,
}

const NOT_OPEN: &str = "it is not open";
const UNREAD: &str = "its rows were never read";
const DAMAGED: &str = "it is damaged";
const REPLACED: &str = "something else took its place";

#[derive(Debug)]
enum State {
    Open(Box<Store>),
    /// The next commit tries to open the file again.
    Closed {
        /// Why whatever lies there by then is not to be written to, but set aside.
        set_aside: Option<&'static str>,
    },
}

/// Which boot of the machine (the computer) a worker was admitted under.
#[derive(Debug)]
struct Boots {
    current: String,
    /// Of the workers that earlier boots left. A row keeps its boot id for life, so that a worker
    /// that was lost stays lost until its end is written.
    earlier: BTreeMap<WorkerId, String>,
}

impl SqliteJournal {
    /// Opens or makes the journal at `path`; see the module about what can and cannot go wrong.
    ///
    /// `boot_id` tells this boot of the machine from others; `now` dates what is set aside.
    pub fn open(
        path: &Path,
        boot_id: &str,
        now: Wall,
        checkpoints: Checkpoints,
    ) -> (Self, Recovered, Vec<Notice>) {
        let mut journal = Self {
            path: path.to_owned(),
            boots: Boots { current: boot_id.to_owned(), earlier: BTreeMap::new() },
            opened_at: now,
            checkpoints,
            state: State::Closed { set_aside: Some(UNREAD) },
            incomplete: false,
        };
        let mut notices = Vec::new();
        let opened = Store::open(path, checkpoints, BUSY_AT_START)
            .and_then(|store| Ok((store.read(boot_id, now, &mut notices)?, store)));
        let rows = match opened {
            Ok((rows, store)) => {
                journal.state = State::Open(store.into());
                rows
            }
            Err(fault) => journal.open_despite(fault, &mut notices),
        };
        journal.boots.earlier = rows.earlier_boots;
        (journal, rows.recovered, notices)
    }

    /// Saves what can be read, then makes a new file unless the trouble lies elsewhere.
    fn open_despite(&mut self, fault: Fault, notices: &mut Vec<Notice>) -> read::Rows {
        let path = self.path.display().to_string();
        let salvaged = match fault {
            Fault::Unusable(_) => None,
            Fault::Inaccessible(_) | Fault::Unavailable(_) => {
                read::salvage(&self.path, &self.boots.current, notices)
            }
        };
        self.state = State::Closed { set_aside: salvaged.is_none().then_some(UNREAD) };
        let known = match &salvaged {
            Some(rows) => format!("its {} workers could be read", rows.recovered.workers.len()),
            None => "this agent knows nothing of what it holds".to_owned(),
        };
        let rows = salvaged.unwrap_or_default();
        if let Fault::Unavailable(reason) = &fault {
            notices.push(Notice::new(format!(
                "The journal {path} cannot be used ({reason}); {known}. No new work is taken until \
                 it can be written to."
            )));
            return rows;
        }
        match self.replace() {
            Ok((mut store, aside)) => {
                notices.push(Notice::new(format!(
                    "The journal {path} could not be used ({fault}) and was set aside as {}; \
                     {known}. A new one takes its place.",
                    aside.display()
                )));
                self.boots.earlier = rows.earlier_boots.clone();
                let everything = Commit { rewrite: true, records: records(&rows.recovered) };
                // If this fails, so will the machine's first commit, and then it rewrites.
                self.incomplete = store.write(&everything, &self.boots).is_err();
                self.state = State::Open(store.into());
            }
            Err(reason) => notices.push(Notice::new(format!(
                "The journal {path} cannot be used ({fault}), nor can a new one take its place \
                 ({reason}); {known}. No new work is taken until one can be written."
            ))),
        }
        rows
    }

    /// Moves everything committed from the write-ahead log into the database file, durably, and
    /// empties the log. Waits for the disk. For [`Checkpoints::Manual`].
    ///
    /// Whoever imitates a power failure by cutting the log may cut it anywhere: what is in the
    /// database file already is no longer in the log.
    pub fn checkpoint(&mut self) -> Result<(), JournalError> {
        match &self.state {
            State::Open(store) => store.checkpoint().map_err(|error| self.failed(&error)),
            State::Closed { .. } => Err(self.failed(&NOT_OPEN)),
        }
    }

    /// Opens the file again, or makes it anew, where it has to be.
    fn ensure_open(&mut self) -> Result<(), JournalError> {
        if let State::Open(store) = &self.state
            && store.has_moved()
        {
            tracing::warn!(path = %self.path.display(), "the journal was moved or deleted");
            self.state = State::Closed { set_aside: Some(REPLACED) };
            // Perhaps with its directory; and the next agent is to know of the workers.
            if let Some(directory) = self.path.parent() {
                let _ = DirBuilder::new().mode(0o700).create(directory);
            }
        }
        match self.state {
            State::Open(_) => Ok(()),
            State::Closed { set_aside } => self.reopen(set_aside),
        }
    }

    fn reopen(&mut self, set_aside: Option<&str>) -> Result<(), JournalError> {
        let opened = match set_aside {
            Some(reason) if exists(&self.path) => Err(Fault::Unusable(reason.to_owned())),
            _ => Store::open(&self.path, self.checkpoints, BUSY_AT_COMMIT),
        };
        let store = match opened {
            Ok(store) => store,
            Err(Fault::Unavailable(reason)) => return Err(self.failed(&reason)),
            Err(fault) => {
                let replaced = self.replace();
                let (store, aside) = replaced
                    .map_err(|reason| self.failed(&format_args!("{fault}, and then: {reason}")))?;
                let (path, aside) = (self.path.display(), aside.display());
                tracing::warn!(%path, %aside, %fault, "the journal was set aside");
                store
            }
        };
        tracing::info!(path = %self.path.display(), "the journal is open again");
        self.incomplete |= store.is_new();
        self.state = State::Open(store.into());
        Ok(())
    }

    fn replace(&self) -> Result<(Store, PathBuf), String> {
        store::replace(&self.path, self.opened_at, self.checkpoints)
    }

    fn failed(&self, reason: &dyn std::fmt::Display) -> JournalError {
        JournalError(format!("the journal {} cannot be written: {reason}", self.path.display()))
    }
}

impl BlockingJournal for SqliteJournal {
    fn commit(&mut self, commit: &Commit) -> Result<(), JournalError> {
        if commit.is_empty() {
            return Ok(());
        }
        self.ensure_open()?;
        if self.incomplete && !commit.rewrite {
            return Err(self.failed(&"it was made anew, and waits for everything to be written"));
        }
        let State::Open(store) = &mut self.state else { return Err(self.failed(&NOT_OPEN)) };
        let Err(error) = store.write(commit, &self.boots) else {
            self.incomplete = false;
            return Ok(());
        };
        if Store::is_damage(&error) {
            self.state = State::Closed { set_aside: Some(DAMAGED) };
        } else if store.is_broken_by(&error) {
            self.state = State::Closed { set_aside: None };
        }
        Err(self.failed(&error))
    }
}

impl Boots {
    fn current(&self) -> &str {
        &self.current
    }

    fn of(&self, worker: WorkerId) -> &str {
        self.earlier.get(&worker).unwrap_or(&self.current)
    }
}

fn records(recovered: &Recovered) -> Vec<Record> {
    let workers = recovered.workers.iter().cloned();
    let workers = workers.map(|worker| Record::Worker(worker.into()));
    workers.chain([Record::Draining(recovered.draining)]).collect()
}
