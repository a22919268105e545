//! The tables, as an operator sees them: `SELECT * FROM worker_status` in `sqlite3` is part of
//! the interface.
//!
//! SQLite's integers end at 2⁶³−1, the protocol's at 2⁶⁴−1. So:
//!
//! * a worker id is TEXT in decimal, always: the same digits as in logs, metrics and the protocol,
//!   for `grep` and for `WHERE worker_id = '…'`;
//! * any other u64 is an INTEGER, and decimal TEXT only where it does not fit one (which no honest
//!   caller sends). Such columns are declared without a type, or SQLite would turn that TEXT into
//!   a floating-point number.
//!
//! There are no constraints but the primary keys: whoever reads a row parses it, and one bad row
//! must not make the file as a whole look damaged.

use rusqlite::{Connection, Row, TransactionBehavior, types::FromSql};

use super::fault::Fault;

/// The first four bytes of "arroyo-node", to tell the file from other programs' databases.
const APPLICATION_ID: i32 = i32::from_be_bytes(*b"arno");

/// What brings a journal from one version of the schema to the next. Only ever appended to:
/// `user_version` counts how many of these a file has seen.
const MIGRATIONS: &[&str] = &[include_str!("schema_v1.sql"), include_str!("schema_v2.sql")];

/// The version that this agent reads and writes.
pub(super) const VERSION: usize = MIGRATIONS.len();

/// The columns that `worker` had in version 1.
macro_rules! columns_v1 {
    () => {
        "worker_id, name, job, pipeline, generation, slots, dialect, start_key, admitted_at, pid, \
         start_time, boot_id, stopping, kill_at, exit, exit_value, ended_at, reported_at"
    };
}

/// The columns of `worker`, in the order in which [`row`](super::row) writes and reads them.
macro_rules! columns {
    () => {
        concat!(columns_v1!(), ", abandoned_at, end_sequence")
    };
}

/// Writes one worker's row.
pub(super) const WRITE: &str = concat!(
    "INSERT OR REPLACE INTO worker (",
    columns!(),
    ", checksum) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
);

/// Reads every worker's row, and after the checksum a name for the row that even a damaged one has.
pub(super) const READ: &str =
    concat!("SELECT ", columns!(), ", checksum, hex(worker_id) FROM worker");

/// The same for a file of version 1 that cannot be brought to the current one.
const READ_V1: &str =
    concat!("SELECT ", columns_v1!(), ", NULL, NULL, checksum, hex(worker_id) FROM worker");

/// What reads the workers of a file of this version.
pub(super) fn read_statement(version: usize) -> &'static str {
    if version < 2 { READ_V1 } else { READ }
}

/// Keeps a row that [`READ`] gave this name, with the time and the reason.
pub(super) const REJECT: &str = concat!(
    "INSERT INTO rejected (rejected_at, reason, ",
    columns!(),
    ", checksum) SELECT ?2, ?3, ",
    columns!(),
    ", checksum FROM worker WHERE hex(worker_id) = ?1"
);

/// How far a file has come.
pub(super) enum Found {
    /// Nothing is in it yet.
    Empty,
    /// A journal of this or an older version.
    Journal(usize),
}

/// Tells a journal from anything else.
pub(super) fn identify(connection: &Connection) -> Result<Found, Fault> {
    let application_id: i32 = connection.pragma_query_value(None, "application_id", first)?;
    let version: i32 = connection.pragma_query_value(None, "user_version", first)?;
    let objects: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_master", (), |row| row.get(0))?;
    match usize::try_from(version) {
        // What is left where an agent was killed while it made its journal.
        Ok(0) if application_id == 0 && objects == 0 => Ok(Found::Empty),
        _ if application_id != APPLICATION_ID => Err(Fault::Unusable(format!(
            "it is not a journal but another program's database, with application id \
             {application_id}"
        ))),
        Ok(version) if (1..=VERSION).contains(&version) => Ok(Found::Journal(version)),
        _ => Err(Fault::Unusable(format!(
            "it has version {version}, and this agent knows versions 1 to {VERSION}"
        ))),
    }
}

/// Brings the file to [`VERSION`].
pub(super) fn migrate(connection: &mut Connection, found: &Found) -> Result<(), Fault> {
    let seen = match found {
        Found::Empty => 0,
        Found::Journal(version) => *version,
    };
    if seen == VERSION {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for migration in &MIGRATIONS[seen..] {
        transaction.execute_batch(migration)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", VERSION as i64)?;
    Ok(transaction.commit()?)
}

fn first<T: FromSql>(row: &Row<'_>) -> rusqlite::Result<T> {
    row.get(0)
}
