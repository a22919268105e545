//! Reads a journal as a whole: once, at the start.

use std::{collections::BTreeMap, path::Path, time::Duration};

use rusqlite::{
    Connection, Error, OpenFlags,
    config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE,
    types::{Value, ValueRef},
};

use super::{
    fault::Fault,
    row::{self, RowError},
    schema::{self, Found},
    store::{Store, check},
};
use crate::{
    ids::WorkerId,
    machine::{Mono, Recovered, Stop, Wall},
    runtime::{Notice, set_aside::append},
};

/// What a journal holds.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub(super) recovered: Recovered,
    /// The workers that were admitted under another boot, with its id.
    pub(super) earlier_boots: BTreeMap<WorkerId, String>,
}

impl Store {
    /// Reads everything. Rows that make no sense go to the table `rejected`.
    pub(super) fn read(
        &self,
        boot_id: &str,
        now: Wall,
        notices: &mut Vec<Notice>,
    ) -> Result<Rows, Fault> {
        let (rows, rejects) = read(self.connection(), schema::VERSION, boot_id)?;
        if let Err(error) = reject(self.connection(), &rejects, now) {
            notices.push(Notice::new(format!("Rejected rows stay where they are: {error}")));
        }
        notices.extend(rejects.iter().map(Reject::notice));
        Ok(rows)
    }
}

/// Reads what can be read of a journal that cannot be written to. Changes nothing.
pub(super) fn salvage(path: &Path, boot_id: &str, notices: &mut Vec<Notice>) -> Option<Rows> {
    [open_without_shared_memory, open_read_only, open_immutable].iter().find_map(|open| {
        let connection = open(path).ok()?;
        // Whatever is closed here must not touch the file either.
        connection.set_db_config(SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).ok()?;
        let found = schema::identify(&connection).ok()?;
        check(&connection).ok()?;
        let (rows, rejects) = match found {
            Found::Empty => Default::default(),
            Found::Journal(version) => read(&connection, version, boot_id).ok()?,
        };
        notices.extend(rejects.iter().map(Reject::notice));
        Some(rows)
    })
}

/// For a full disk: the index of the log, else a file of its own, is kept in memory.
fn open_without_shared_memory(path: &Path) -> Result<Connection, Error> {
    let connection = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.execute_batch("PRAGMA locking_mode = EXCLUSIVE")?;
    Ok(connection)
}

/// For a read-only file system that was left in the middle of things.
fn open_read_only(path: &Path) -> Result<Connection, Error> {
    open(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
}

/// For a database that was closed in order, wherever it lies: without a log there is nothing to
/// lock and nothing to make.
fn open_immutable(path: &Path) -> Result<Connection, Error> {
    if append(path, "-wal").metadata().is_ok_and(|log| log.is_file() && log.len() > 0) {
        return Err(Error::InvalidPath(path.to_owned()));
    }
    let escaped: String = path.to_string_lossy().chars().map(escape).collect();
    let uri = format!("file:{escaped}?immutable=1");
    open(Path::new(&uri), OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI)
}

fn open(path: &Path, flags: OpenFlags) -> Result<Connection, Error> {
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(Duration::from_secs(1))?;
    Ok(connection)
}

fn escape(letter: char) -> String {
    match letter {
        '%' | '?' | '#' => format!("%{:02X}", u32::from(letter)),
        letter => letter.to_string(),
    }
}

/// A row that makes no sense.
#[derive(Debug)]
struct Reject {
    /// What [`schema::REJECT`] finds it by; `None` for a row of `node`.
    name: Option<String>,
    text: String,
    reason: String,
}

impl Reject {
    fn notice(&self) -> Notice {
        Notice::new(format!(
            "A row of the journal makes no sense and was not read (the table rejected keeps it): \
             {}. The row: {}",
            self.reason, self.text
        ))
    }
}

fn read(
    connection: &Connection,
    version: usize,
    boot_id: &str,
) -> Result<(Rows, Vec<Reject>), Fault> {
    let mut rows = Rows::default();
    let mut rejects = Vec::new();
    let mut statement = connection.prepare(schema::read_statement(version))?;
    let mut cursor = statement.query(())?;
    while let Some(row) = cursor.next()? {
        match row::decode(row) {
            Ok(decoded) => rows.add(decoded, boot_id),
            Err(RowError::Sqlite(error)) => return Err(error.into()),
            Err(error) => rejects.push(Reject {
                name: Some(row.get(row::NAME)?),
                text: describe(row, row::NAME)?,
                reason: error.to_string(),
            }),
        }
    }
    // The text order of ids means nothing to anybody.
    rows.recovered.workers.sort_by_key(|worker| worker.id);

    let mut statement = connection.prepare("SELECT name, value FROM node")?;
    let mut cursor = statement.query(())?;
    while let Some(row) = cursor.next()? {
        match (row.get_ref(0)?, row.get_ref(1)?) {
            (ValueRef::Text(b"draining"), ValueRef::Text(b"yes")) => rows.recovered.draining = true,
            (ValueRef::Text(b"draining"), ValueRef::Text(b"no")) => {}
            (ValueRef::Text(b"known_at"), ValueRef::Text(value)) if known_at(value).is_some() => {
                let known = known_at(value).filter(|(_, under)| *under == boot_id);
                rows.recovered.known_at = known.map(|(at, _)| at);
            }
            _ => rejects.push(Reject {
                name: None,
                text: describe(row, 2)?,
                reason: "it is neither 'draining' with 'yes' or 'no' nor 'known_at' with a time \
                         and a boot id"
                    .to_owned(),
            }),
        }
    }
    Ok((rows, rejects))
}

/// Reads what the store writes of the time at which the controller last knew this node.
fn known_at(value: &[u8]) -> Option<(Mono, &str)> {
    let (at, boot_id) = str::from_utf8(value).ok()?.split_once(' ')?;
    Some((Mono(at.parse().ok()?), boot_id))
}

impl Rows {
    fn add(&mut self, decoded: row::Decoded, boot_id: &str) {
        let row::Decoded { mut worker, boot_id: admitted_under } = decoded;
        if admitted_under != boot_id {
            if worker.is_live() {
                self.recovered.lost.insert(worker.id);
            }
            // The monotonic clock began anew: those readings say nothing now.
            worker.stop = worker.stop.map(|_| Stop { kill_at: None });
            worker.abandoned_at = None;
            self.earlier_boots.insert(worker.id, admitted_under);
        }
        self.recovered.workers.push(worker);
    }
}

fn reject(connection: &Connection, rejects: &[Reject], now: Wall) -> Result<(), Error> {
    if rejects.is_empty() {
        return Ok(());
    }
    let transaction = connection.unchecked_transaction()?;
    for reject in rejects {
        let Some(name) = &reject.name else { continue };
        let now = i64::try_from(now.0).unwrap_or(i64::MAX);
        transaction.execute(schema::REJECT, (name, now, &reject.reason))?;
        transaction.execute("DELETE FROM worker WHERE hex(worker_id) = ?", [name])?;
    }
    transaction.commit()
}

/// The row's values as a person reads them.
fn describe(row: &rusqlite::Row<'_>, columns: usize) -> Result<String, Error> {
    let mut texts = Vec::new();
    for column in 0..columns {
        texts.push(match row.get_ref(column)? {
            ValueRef::Text(bytes) => format!("{:?}", String::from_utf8_lossy(bytes)),
            ValueRef::Null => "NULL".to_owned(),
            other => match Value::try_from(other) {
                Ok(Value::Integer(integer)) => integer.to_string(),
                Ok(Value::Real(real)) => real.to_string(),
                _ => "a blob".to_owned(),
            },
        });
    }
    Ok(texts.join("|"))
}
