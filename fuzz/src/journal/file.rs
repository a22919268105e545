//! The journal's file: the rows of the input written by SQLite, then damaged.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use arbitrary::Arbitrary;
use arroyo_node::{
    machine::Wall,
    runtime::journal::{Checkpoints, SqliteJournal},
};
use rusqlite::{Connection, params_from_iter};

use super::row::{COLUMNS, Cell, NAMES, Row, checksum};

/// What a disk, or a person, did to the file.
#[derive(Debug, Arbitrary)]
pub(super) enum Damage {
    /// Other bytes at some places.
    Overwritten(Vec<(u16, Vec<u8>)>),
    /// The end is missing.
    Cut(u16),
    /// Something else altogether.
    Replaced(Vec<u8>),
    /// A log that nobody wrote lies beside it.
    Log(Vec<u8>),
}

/// Makes the file. Rows that the schema itself refuses are left out.
pub(super) fn write(path: &Path, rows: &[Row], facts: &[(Cell, Cell)], damage: Option<&Damage>) {
    fs::write(path, empty()).expect("room for a file");
    let connection = Connection::open(path).expect("it is a database");
    // Nothing is to be left beside it, and nothing is to last.
    connection
        .execute_batch("PRAGMA journal_mode = MEMORY; PRAGMA synchronous = OFF; BEGIN")
        .expect("a database of ours");
    for row in rows {
        insert(&connection, row);
    }
    for (name, value) in facts {
        let _ = connection.execute("INSERT INTO node VALUES (?, ?)", [name, value]);
    }
    connection.execute_batch("COMMIT").expect("room for a few rows");
    drop(connection);
    if let Some(damage) = damage {
        inflict(path, damage);
    }
}

/// How many rows the file has.
pub(super) fn count(path: &Path) -> i64 {
    let connection = Connection::open(path).expect("it is a database");
    connection
        .query_row("SELECT count(*) FROM worker", (), |row| row.get(0))
        .expect("it has this table")
}

fn insert(connection: &Connection, row: &Row) {
    let marks = vec!["?"; COLUMNS].join(", ");
    let statement = format!("INSERT INTO worker ({NAMES}) VALUES ({marks})");
    let mut statement = connection.prepare_cached(&statement).expect("it has this table");
    if statement.execute(params_from_iter(row.cells())).is_err() {
        return;
    }
    // SQLite converts what it stores, and the checksum is of what is stored.
    let sum = format!("SELECT {NAMES} FROM worker WHERE checksum IS NULL");
    let mut statement = connection.prepare_cached(&sum).expect("it has this table");
    let sum = statement.query_row((), |stored| {
        let values: Result<Vec<_>, _> = (0..COLUMNS).map(|column| stored.get_ref(column)).collect();
        Ok(Cell::Integer(checksum(values?.into_iter())))
    });
    let sum = sum.expect("it has just been stored");
    let sum = match &row.checksum {
        None | Some(Cell::Null) => &sum,
        Some(other) => other,
    };
    connection
        .execute("UPDATE worker SET checksum = ? WHERE checksum IS NULL", [sum])
        .expect("it has just been stored");
}

fn inflict(path: &Path, damage: &Damage) {
    let mut file = fs::read(path).expect("it has just been written");
    match damage {
        Damage::Overwritten(places) => {
            for (offset, bytes) in places {
                let at = usize::from(*offset).min(file.len());
                let length = bytes.len().min(file.len() - at);
                file[at..at + length].copy_from_slice(&bytes[..length]);
            }
        }
        Damage::Cut(length) => file.truncate((*length).into()),
        Damage::Replaced(bytes) => file.clone_from(bytes),
        Damage::Log(bytes) => {
            let mut log = PathBuf::from(path).into_os_string();
            log.push("-wal");
            fs::write(log, bytes).expect("room for a file");
        }
    }
    fs::write(path, file).expect("room for a file");
}

/// A journal without a row, made once.
fn empty() -> &'static [u8] {
    static EMPTY: OnceLock<Vec<u8>> = OnceLock::new();
    EMPTY.get_or_init(|| {
        let dir = tempfile::tempdir().expect("a directory for temporary files");
        let path = dir.path().join("journal.sqlite");
        drop(SqliteJournal::open(&path, super::BOOT, Wall(1), Checkpoints::Manual));
        fs::read(&path).expect("it has just been made")
    })
}
