//! One open journal file: how it is opened, written, and replaced when it cannot be used.

use std::{
    ffi::OsString,
    fs::{self, OpenOptions, Permissions},
    io,
    os::{
        fd::OwnedFd,
        unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    time::Duration,
};

use nix::{
    errno::Errno,
    fcntl::{AtFlags, OFlag, open},
    sys::stat::{Mode, fstatat},
};
use rusqlite::{Connection, Error, ErrorCode, MAIN_DB, OpenFlags, params_from_iter};

use super::{
    Boots, Checkpoints,
    checkpoint::{self, Checkpointer},
    fault::Fault,
    row,
    schema::{self, Found},
};
use crate::{
    machine::{Commit, Record, Wall},
    runtime::set_aside::{append, exists, free_name, sync_parent},
};

/// How long a start waits for a lock, such as that of a person's `sqlite3`.
pub(super) const BUSY_AT_START: Duration = Duration::from_secs(5);

/// How long a commit waits for a lock: less than the driver waits for a commit, so that the reason
/// is told.
pub(super) const BUSY_AT_COMMIT: Duration = Duration::from_millis(200);

/// Only the owner reads what jobs run here.
const MODE: u32 = 0o600;

/// What SQLite keeps beside a database, and what must therefore move with it.
const COMPANIONS: [&str; 3] = ["-wal", "-shm", "-journal"];

/// An open journal file of the current version.
#[derive(Debug)]
pub(super) struct Store {
    // Before the connection, so that its own connection is closed first.
    checkpointer: Option<Checkpointer>,
    connection: Connection,
    place: Place,
    is_new: bool,
}

/// Where the file that is open was found.
#[derive(Debug)]
struct Place {
    /// So that each commit looks up one name, not a whole path.
    directory: OwnedFd,
    name: OsString,
    /// Its device and inode.
    file: (u64, u64),
}

impl Store {
    /// Opens the journal, or makes it where there is none; checks it, brings it to the current
    /// version, and folds in what a killed agent left in the log. Waits so long for each lock.
    pub(super) fn open(
        path: &Path,
        checkpoints: Checkpoints,
        busy: Duration,
    ) -> Result<Self, Fault> {
        let file = prepare_file(path)?;
        let place = Place::of(path, file)?;
        let mut connection = Connection::open_with_flags(
            path,
            OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )?;
        connection.busy_timeout(busy)?;
        connection.execute_batch(
            "PRAGMA cell_size_check = ON; PRAGMA trusted_schema = OFF; PRAGMA temp_store = MEMORY; \
             PRAGMA cache_size = -1024; PRAGMA synchronous = NORMAL",
        )?;
        let found = schema::identify(&connection)?;
        check(&connection)?;
        if matches!(found, Found::Empty) {
            // Counts only before the first transaction.
            connection.execute_batch("PRAGMA auto_vacuum = INCREMENTAL")?;
        }
        check_writable(&connection)?;
        let mode: String =
            connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
        if mode != "wal" {
            return Err(Fault::Unavailable(format!("its journal_mode stays {mode:?}")));
        }
        schema::migrate(&mut connection, &found)?;
        // Only tidying: if the disk is full, the log stays as it is.
        let _ = checkpoint::truncate(&connection);
        connection.busy_timeout(BUSY_AT_COMMIT)?;
        let checkpointer = match checkpoints {
            Checkpoints::Thread => Checkpointer::start(path),
            Checkpoints::Manual => None,
        };
        // Without a thread although one was wanted, SQLite's own checkpoints remain.
        if checkpointer.is_some() || checkpoints == Checkpoints::Manual {
            connection.execute_batch("PRAGMA wal_autocheckpoint = 0")?;
        }
        let is_new = matches!(found, Found::Empty);
        Ok(Self { checkpointer, connection, place, is_new })
    }

    /// Whether it was empty when it was opened.
    pub(super) fn is_new(&self) -> bool {
        self.is_new
    }

    /// Whether the file is no longer what is found under its name, in the directory in which it was
    /// opened. SQLite would go on writing to a file that nobody will ever read.
    pub(super) fn has_moved(&self) -> bool {
        let Place { directory, name, file } = &self.place;
        match fstatat(directory, name.as_os_str(), AtFlags::empty()) {
            Ok(found) => (found.st_dev, found.st_ino) != *file,
            Err(error) => error == Errno::ENOENT,
        }
    }

    /// Writes all records, or none.
    pub(super) fn write(&mut self, commit: &Commit, boots: &Boots) -> Result<(), Error> {
        // Prepared once, unlike rusqlite's own transactions, which parse these words each time.
        let step = |words| self.connection.prepare_cached(words)?.execute(());
        step("BEGIN IMMEDIATE")?;
        let written = self.write_records(commit, boots).and_then(|()| step("COMMIT"));
        if let Err(error) = written {
            // After some errors there is nothing left to roll back.
            let _ = step("ROLLBACK");
            return Err(error);
        }
        if let Some(checkpointer) = &mut self.checkpointer {
            checkpointer.committed(commit.records.len());
        }
        Ok(())
    }

    /// Within a transaction.
    fn write_records(&self, commit: &Commit, boots: &Boots) -> Result<(), Error> {
        let connection = &self.connection;
        if commit.rewrite {
            connection.prepare_cached("DELETE FROM worker")?.execute(())?;
            connection.prepare_cached("DELETE FROM node")?.execute(())?;
        }
        for record in &commit.records {
            match record {
                Record::Worker(worker) => {
                    let values = row::encode(worker, boots.of(worker.id));
                    connection
                        .prepare_cached(schema::WRITE)?
                        .execute(params_from_iter(values.iter()))?
                }
                Record::Forget(id) => connection
                    .prepare_cached("DELETE FROM worker WHERE worker_id = ?")?
                    .execute([id.to_string()])?,
                Record::Draining(draining) => connection
                    .prepare_cached("INSERT OR REPLACE INTO node VALUES ('draining', ?)")?
                    .execute([if *draining { "yes" } else { "no" }])?,
                Record::KnownAt(at) => connection
                    .prepare_cached("INSERT OR REPLACE INTO node VALUES ('known_at', ?)")?
                    .execute([format!("{} {}", at.0, boots.current())])?,
            };
        }
        Ok(())
    }

    /// Whether this error says that the file is damaged where opening it showed no damage.
    pub(super) fn is_damage(error: &Error) -> bool {
        matches!(
            error.sqlite_error_code(),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
        )
    }

    /// Whether a failed write leaves a connection that is not to be trusted any more.
    pub(super) fn is_broken_by(&self, error: &Error) -> bool {
        let passing = matches!(
            error.sqlite_error_code(),
            Some(ErrorCode::DiskFull | ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
        );
        !passing || !self.connection.is_autocommit()
    }

    /// Empties the log into the database file, durably.
    pub(super) fn checkpoint(&self) -> Result<(), Error> {
        checkpoint::truncate(&self.connection)?;
        checkpoint::shrink(&self.connection)
    }

    /// For reading it in full, once.
    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }
}

impl Place {
    fn of(path: &Path, file: (u64, u64)) -> Result<Self, Fault> {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let directory = open(parent.unwrap_or(Path::new(".")), flags, Mode::empty())
            .map_err(|error| Fault::Inaccessible(format!("its directory: {error}")))?;
        Ok(Self { directory, name: path.file_name().unwrap_or_default().to_owned(), file })
    }
}

/// Sets the file aside and makes an empty one. If none can be made, the old one gets its name back,
/// for another try: it may be in order, and only the disk full.
pub(super) fn replace(
    path: &Path,
    now: Wall,
    checkpoints: Checkpoints,
) -> Result<(Store, PathBuf), String> {
    let aside = free_name(path, now);
    rename(path, &aside).map_err(|error| format!("it cannot be renamed: {error}"))?;
    match Store::open(path, checkpoints, BUSY_AT_COMMIT) {
        Ok(store) => Ok((store, aside)),
        Err(fault) => {
            let _ = remove_new(path);
            match rename(&aside, path) {
                Ok(()) => Err(format!("no new one can be made: {fault}")),
                Err(error) => Err(format!(
                    "no new one can be made: {fault}; the old one stays at {}: {error}",
                    aside.display()
                )),
            }
        }
    }
}

/// Moves a database with its companions. The database goes first: were the agent killed in
/// between, a database without its log would pass for a whole one.
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    for suffix in ["", COMPANIONS[0], COMPANIONS[1], COMPANIONS[2]] {
        let from = append(from, suffix);
        if exists(&from) {
            fs::rename(from, append(to, suffix))?;
        }
    }
    sync_parent(to);
    Ok(())
}

/// Removes what a failed attempt to make a new journal left.
fn remove_new(path: &Path) -> io::Result<()> {
    for suffix in COMPANIONS {
        let _ = fs::remove_file(append(path, suffix));
    }
    fs::remove_file(path)
}

/// Makes sure that a regular file of ours is there to be opened, and tells which.
fn prepare_file(path: &Path) -> Result<(u64, u64), Fault> {
    let has_log = || fs::metadata(append(path, "-wal")).is_ok_and(|log| log.len() > 0);
    let lost = || Fault::Unusable("its log is there, but the database is not".to_owned());
    let metadata = match fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() => {
            return Err(Fault::Unusable("it is not a regular file".to_owned()));
        }
        // SQLite would delete a log that belongs to an empty database.
        Ok(metadata) if metadata.len() == 0 && has_log() => return Err(lost()),
        Ok(metadata) => {
            if metadata.mode() & 0o777 != MODE {
                // Not by opening it: closing any descriptor of a database drops SQLite's locks.
                let _ = fs::set_permissions(path, Permissions::from_mode(MODE));
            }
            metadata
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(Fault::Inaccessible(error.to_string()));
        }
        Err(_) if exists(path) => return Err(Fault::Unusable("it is a dangling link".to_owned())),
        Err(_) if has_log() => return Err(lost()),
        Err(_) => {
            let made = OpenOptions::new().write(true).create_new(true).mode(MODE).open(path);
            sync_parent(path);
            made.and_then(|file| file.metadata())
                .map_err(|error| Fault::Unavailable(error.to_string()))?
        }
    };
    Ok(identity(&metadata))
}

fn identity(metadata: &fs::Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// Looks through the whole file for damage, except inside values: those have checksums.
pub(super) fn check(connection: &Connection) -> Result<(), Fault> {
    let verdict: String =
        connection.query_row("PRAGMA quick_check(1)", (), |row| row.get(0)).map_err(Fault::from)?;
    match verdict.as_str() {
        "ok" => Ok(()),
        damage => Err(Fault::Unusable(format!("it is damaged: {damage}"))),
    }
}

/// SQLite opens what it may not write to, and would say so only at the first commit.
fn check_writable(connection: &Connection) -> Result<(), Fault> {
    if connection.is_readonly(MAIN_DB)? {
        return Err(Fault::Inaccessible("it is write-protected".to_owned()));
    }
    match connection.execute_batch("BEGIN IMMEDIATE; ROLLBACK") {
        // Somebody else is writing, so it can be done.
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => Ok(()),
        result => Ok(result?),
    }
}
