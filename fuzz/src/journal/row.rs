//! One row of the table `worker`: as the journal writes them, but for some values.

use arbitrary::Arbitrary;
use rusqlite::{
    ToSql,
    types::{ToSqlOutput, ValueRef},
};

/// How many columns there are before the checksum.
pub(super) const COLUMNS: usize = 20;

/// How many there were in the first version of the format.
const FIRST_COLUMNS: usize = 18;

/// The names of the columns.
pub(super) const NAMES: &str = "worker_id, name, job, pipeline, generation, slots, dialect, \
                                start_key, admitted_at, pid, start_time, boot_id, stopping, \
                                kill_at, exit, exit_value, ended_at, reported_at, abandoned_at, \
                                end_sequence";

/// A row that an agent wrote for a worker that runs, and what was altered in it.
#[derive(Debug, Arbitrary)]
pub(super) struct Row {
    id: u64,
    generation: u32,
    slots: u8,
    /// Column and value.
    altered: Vec<(u8, Cell)>,
    /// `None`: the right one.
    pub(super) checksum: Option<Cell>,
}

/// A value of any type that SQLite has.
#[derive(Clone, Debug, Arbitrary)]
pub(super) enum Cell {
    Null,
    Integer(i64),
    Small(u8),
    Real(f64),
    Text(Vec<u8>),
    Blob(Vec<u8>),
    /// One that the journal writes somewhere.
    Word(u8),
}

const WORDS: [&[u8]; 15] = [
    b"draining",
    b"yes",
    b"no",
    b"0.15",
    b"0.16",
    b"code",
    b"signal",
    b"oom",
    b"lost",
    b"unknown",
    b"this boot",
    b"18446744073709551615",
    b"007",
    b"known_at",
    b"1000000000 this boot",
];

impl Row {
    pub(super) fn cells(&self) -> [Cell; COLUMNS] {
        let text = |text: &str| Cell::Text(text.as_bytes().to_vec());
        let number = |number: u64| match i64::try_from(number) {
            Ok(number) => Cell::Integer(number),
            Err(_) => text(&number.to_string()),
        };
        let mut cells = [
            text(&self.id.to_string()),
            text("wordcount"),
            text("job"),
            Cell::Null,
            number(self.generation.into()),
            number(self.slots.into()),
            text("0.15"),
            Cell::Null,
            number(1_750_000_000_000_000),
            number(4_711),
            number(123_456),
            text(super::BOOT),
            number(0),
            Cell::Null,
            Cell::Null,
            Cell::Null,
            Cell::Null,
            Cell::Null,
            Cell::Null,
            Cell::Null,
        ];
        for (column, cell) in &self.altered {
            cells[usize::from(*column) % COLUMNS] = cell.clone();
        }
        cells
    }
}

impl ToSql for Cell {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Cell::Null => ValueRef::Null,
            Cell::Integer(integer) => ValueRef::Integer(*integer),
            Cell::Small(integer) => ValueRef::Integer((*integer).into()),
            Cell::Real(real) => ValueRef::Real(*real),
            Cell::Text(bytes) => ValueRef::Text(bytes),
            Cell::Blob(bytes) => ValueRef::Blob(bytes),
            Cell::Word(word) => ValueRef::Text(WORDS[usize::from(*word) % WORDS.len()]),
        }))
    }
}

/// The checksum of a row's values, by the definition of the format: FNV-1a over each value's type,
/// its length if it has one, and its bytes. Journals that lie on disks have it, so it cannot change:
/// a later column is added with its number, and only where it is not NULL.
pub(super) fn checksum<'a>(values: impl Iterator<Item = ValueRef<'a>>) -> i64 {
    let mut bytes = Vec::new();
    for (column, value) in values.enumerate() {
        if column >= FIRST_COLUMNS {
            if value == ValueRef::Null {
                continue;
            }
            bytes.extend([b'c', column as u8]);
        }
        let mut sized = |kind: u8, value: &[u8]| {
            bytes.push(kind);
            bytes.extend((value.len() as u64).to_le_bytes());
            bytes.extend(value);
        };
        match value {
            ValueRef::Text(text) => sized(b't', text),
            ValueRef::Blob(blob) => sized(b'b', blob),
            ValueRef::Null => bytes.push(b'n'),
            ValueRef::Integer(integer) => {
                bytes.push(b'i');
                bytes.extend(integer.to_le_bytes());
            }
            ValueRef::Real(real) => {
                bytes.push(b'r');
                bytes.extend(real.to_bits().to_le_bytes());
            }
        }
    }
    let offset = 0xcbf2_9ce4_8422_2325_u64;
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    bytes.iter().fold(offset, step).cast_signed()
}
