//! One worker as one row, and back.
//!
//! Reading is strict: a row is either exactly what was written, or an error that names the column.
//! SQLite checksums its log, not its pages, so a flipped bit in a name or a number would otherwise
//! be believed.

use std::{num::NonZeroU64, str::FromStr, sync::Arc};

use rusqlite::{
    Row,
    types::{Value, ValueRef},
};
use thiserror::Error;

use crate::{
    ids::{Generation, JobId, PipelineId, WorkerId},
    machine::{Dialect, End, Exit, Mono, Process, StartKey, Stop, Wall, Worker, WorkerSpec},
};

/// How many columns a worker has, without the checksum.
const COLUMNS: usize = 20;

/// How many of them a row of the first version had.
const FIRST_COLUMNS: usize = 18;

/// Where `hex(worker_id)` stands in a row that was read.
pub(super) const NAME: usize = COLUMNS + 1;

/// The values of a worker's row: the columns in the schema's order, then their checksum.
pub(super) fn encode(worker: &Worker, boot_id: &str) -> [Value; COLUMNS + 1] {
    let Worker { id, spec, admitted_at, process, stop, abandoned_at, end, reported_at } = worker;
    let (exit, exit_value) = end.map_or((None, None), |end| encode_exit(end.exit));
    let mut values = [
        text(&id.to_string()),
        text(&spec.name),
        text(spec.job.as_str()),
        optional(spec.pipeline.as_ref(), |pipeline| text(pipeline.as_str())),
        number(spec.generation.0),
        number(spec.slots.get()),
        text(encode_dialect(spec.dialect)),
        optional(spec.key.as_ref(), |key| text(&key.0)),
        number(admitted_at.0),
        optional(*process, |process| Value::Integer(process.pid.into())),
        optional(*process, |process| number(process.start_time)),
        text(boot_id),
        Value::Integer(stop.is_some().into()),
        optional(stop.and_then(|stop| stop.kill_at), |at| number(at.0)),
        optional(exit, text),
        optional(exit_value, |value| Value::Integer(value.into())),
        optional(*end, |end| number(end.at.0)),
        optional(*reported_at, |at| number(at.0)),
        optional(*abandoned_at, |at| number(at.0)),
        optional(end.map(|end| end.sequence).filter(|sequence| *sequence > 0), number),
        Value::Null,
    ];
    let checksum = checksum(values[..COLUMNS].iter().map(ValueRef::from));
    values[COLUMNS] = Value::Integer(checksum);
    values
}

/// A row that was read.
#[derive(Debug)]
pub(super) struct Decoded {
    pub(super) worker: Worker,
    pub(super) boot_id: String,
}

/// Why a row is not one that [`encode`] made.
#[derive(Debug, Error)]
pub(super) enum RowError {
    #[error("the row's checksum is wrong: a bit flipped, or it was altered by hand")]
    Checksum,
    #[error("column {0} holds a value that the journal never writes")]
    Column(&'static str),
    #[error("its values are not in the form in which the journal writes them")]
    Form,
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
}

/// Reads a row of [`READ`](super::schema::READ).
pub(super) fn decode(row: &Row<'_>) -> Result<Decoded, RowError> {
    let values: Vec<ValueRef<'_>> =
        (0..=COLUMNS).map(|column| row.get_ref(column)).collect::<Result<_, _>>()?;
    if values[COLUMNS] != ValueRef::Integer(checksum(values[..COLUMNS].iter().copied())) {
        return Err(RowError::Checksum);
    }
    let mut columns = Columns(values.iter());
    let worker = Worker {
        id: WorkerId(columns.parsed("worker_id")?),
        spec: Arc::new(WorkerSpec {
            name: columns.text("name")?,
            job: JobId::from(columns.text("job")?),
            pipeline: columns.optional_text("pipeline")?.map(PipelineId::from),
            generation: Generation(columns.number("generation")?),
            slots: NonZeroU64::new(columns.number("slots")?).ok_or(RowError::Column("slots"))?,
            dialect: decode_dialect(&columns.text("dialect")?)?,
            key: columns.optional_text("start_key")?.map(|key| StartKey(key.into())),
        }),
        admitted_at: Wall(columns.number("admitted_at")?),
        process: columns.process()?,
        stop: None,
        abandoned_at: None,
        end: None,
        reported_at: None,
    };
    let boot_id = columns.text("boot_id")?;
    let stop = columns.stop()?;
    let end = columns.end()?;
    let reported_at = columns.optional_number("reported_at")?.map(Wall);
    if reported_at.is_some() && end.is_none() {
        return Err(RowError::Column("reported_at"));
    }
    let abandoned_at = columns.optional_number("abandoned_at")?.map(Mono);
    let sequence = columns.optional_number("end_sequence")?.unwrap_or_default();
    if sequence > 0 && end.is_none() {
        return Err(RowError::Column("end_sequence"));
    }
    let end = end.map(|end| End { sequence, ..end });
    let worker = Worker { stop, abandoned_at, end, reported_at, ..worker };
    // The same worker can be said in other ways: the id "07" would be a second row of worker 7.
    match encode(&worker, &boot_id).iter().map(ValueRef::from).eq(values) {
        true => Ok(Decoded { worker, boot_id }),
        false => Err(RowError::Form),
    }
}

/// The rest of a row, read from left to right.
struct Columns<'a>(std::slice::Iter<'a, ValueRef<'a>>);

impl<'a> Columns<'a> {
    fn next(&mut self) -> ValueRef<'a> {
        self.0.next().copied().unwrap_or(ValueRef::Null)
    }

    fn optional_text(&mut self, column: &'static str) -> Result<Option<String>, RowError> {
        match self.next() {
            ValueRef::Null => Ok(None),
            ValueRef::Text(bytes) => match str::from_utf8(bytes) {
                Ok(text) => Ok(Some(text.to_owned())),
                Err(_) => Err(RowError::Column(column)),
            },
            _ => Err(RowError::Column(column)),
        }
    }

    fn text(&mut self, column: &'static str) -> Result<String, RowError> {
        self.optional_text(column)?.ok_or(RowError::Column(column))
    }

    fn parsed<T: FromStr>(&mut self, column: &'static str) -> Result<T, RowError> {
        self.text(column)?.parse().map_err(|_| RowError::Column(column))
    }

    fn optional_integer<T>(&mut self, column: &'static str) -> Result<Option<T>, RowError>
    where
        T: TryFrom<i64>,
    {
        match self.next() {
            ValueRef::Null => Ok(None),
            ValueRef::Integer(value) => match T::try_from(value) {
                Ok(value) => Ok(Some(value)),
                Err(_) => Err(RowError::Column(column)),
            },
            _ => Err(RowError::Column(column)),
        }
    }

    /// The inverse of [`number`].
    fn optional_number(&mut self, column: &'static str) -> Result<Option<u64>, RowError> {
        match self.0.as_slice().first() {
            Some(ValueRef::Text(_)) => self.parsed(column).map(Some),
            _ => self.optional_integer(column),
        }
    }

    fn number(&mut self, column: &'static str) -> Result<u64, RowError> {
        self.optional_number(column)?.ok_or(RowError::Column(column))
    }

    fn process(&mut self) -> Result<Option<Process>, RowError> {
        match (self.optional_integer("pid")?, self.optional_number("start_time")?) {
            (None, None) => Ok(None),
            (Some(pid), Some(start_time)) => Ok(Some(Process { pid, start_time })),
            _ => Err(RowError::Column("start_time")),
        }
    }

    fn stop(&mut self) -> Result<Option<Stop>, RowError> {
        let stopping = self.optional_integer("stopping")?.unwrap_or(2_u8);
        let kill_at = self.optional_number("kill_at")?.map(Mono);
        match (stopping, kill_at) {
            (0, None) => Ok(None),
            (0, Some(_)) => Err(RowError::Column("kill_at")),
            (1, kill_at) => Ok(Some(Stop { kill_at })),
            _ => Err(RowError::Column("stopping")),
        }
    }

    fn end(&mut self) -> Result<Option<End>, RowError> {
        let exit = self.optional_text("exit")?;
        let value = self.optional_integer("exit_value")?;
        let at = self.optional_number("ended_at")?.map(Wall);
        match (decode_exit(exit.as_deref(), value)?, at) {
            (None, None) => Ok(None),
            (Some(exit), Some(at)) => Ok(Some(End { exit, at, sequence: 0 })),
            _ => Err(RowError::Column("ended_at")),
        }
    }
}

fn encode_exit(exit: Exit) -> (Option<&'static str>, Option<i32>) {
    match exit {
        Exit::Code(code) => (Some("code"), Some(code)),
        Exit::Signal(signal) => (Some("signal"), Some(signal)),
        Exit::OomKilled => (Some("oom"), None),
        Exit::Lost => (Some("lost"), None),
        Exit::Unknown => (Some("unknown"), None),
    }
}

fn decode_exit(exit: Option<&str>, value: Option<i32>) -> Result<Option<Exit>, RowError> {
    match (exit, value) {
        (None, None) => Ok(None),
        (Some("code"), Some(code)) => Ok(Some(Exit::Code(code))),
        (Some("signal"), Some(signal)) => Ok(Some(Exit::Signal(signal))),
        (Some("oom"), None) => Ok(Some(Exit::OomKilled)),
        (Some("lost"), None) => Ok(Some(Exit::Lost)),
        (Some("unknown"), None) => Ok(Some(Exit::Unknown)),
        _ => Err(RowError::Column("exit")),
    }
}

fn encode_dialect(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::V0_15 => "0.15",
        Dialect::V0_16 => "0.16",
    }
}

fn decode_dialect(text: &str) -> Result<Dialect, RowError> {
    match text {
        "0.15" => Ok(Dialect::V0_15),
        "0.16" => Ok(Dialect::V0_16),
        _ => Err(RowError::Column("dialect")),
    }
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

/// An integer where it fits one, and decimal text where it does not.
fn number(number: u64) -> Value {
    i64::try_from(number).map_or_else(|_| text(&number.to_string()), Value::Integer)
}

fn optional<T>(value: Option<T>, encode: impl FnOnce(T) -> Value) -> Value {
    value.map_or(Value::Null, encode)
}

/// FNV-1a over the values with their types and lengths. Each step is a bijection of the state, so a
/// change within one byte always shows; others escape with a probability of 2⁻⁶⁴.
fn checksum<'a>(values: impl Iterator<Item = ValueRef<'a>>) -> i64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut add = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    };
    for (index, value) in values.enumerate() {
        if index >= FIRST_COLUMNS {
            if value == ValueRef::Null {
                // As in a row that was written before there was this column.
                continue;
            }
            add(&[b'c', index as u8]);
        }
        match value {
            ValueRef::Null => add(b"n"),
            ValueRef::Integer(integer) => {
                add(b"i");
                add(&integer.to_le_bytes());
            }
            ValueRef::Real(real) => {
                add(b"r");
                add(&real.to_bits().to_le_bytes());
            }
            ValueRef::Text(bytes) => {
                add(b"t");
                add(&(bytes.len() as u64).to_le_bytes());
                add(bytes);
            }
            ValueRef::Blob(bytes) => {
                add(b"b");
                add(&(bytes.len() as u64).to_le_bytes());
                add(bytes);
            }
        }
    }
    hash.cast_signed()
}

#[cfg(test)]
mod tests {
    use rusqlite::{Connection, params_from_iter};

    use super::{super::schema, *};

    /// Reads a worker's row in which one column was altered by somebody who knows the checksum.
    fn altered(column: usize, value: Value) -> Result<Decoded, RowError> {
        let spec = WorkerSpec {
            name: "wordcount".into(),
            job: JobId::new("job"),
            pipeline: None,
            generation: Generation(1),
            slots: NonZeroU64::MIN,
            dialect: Dialect::V0_15,
            key: None,
        };
        let worker = Worker {
            id: WorkerId(7),
            spec: Arc::new(spec),
            admitted_at: Wall(1),
            process: None,
            stop: None,
            abandoned_at: None,
            end: None,
            reported_at: None,
        };
        let mut values = encode(&worker, "boot");
        values[column] = value;
        values[COLUMNS] = Value::Integer(checksum(values[..COLUMNS].iter().map(ValueRef::from)));
        let connection = Connection::open_in_memory()?;
        connection.execute_batch(include_str!("schema_v1.sql"))?;
        connection.execute_batch(include_str!("schema_v2.sql"))?;
        connection.execute(schema::WRITE, params_from_iter(values.iter()))?;
        connection.prepare(schema::READ)?.query_one((), |row| Ok(decode(row)))?
    }

    #[test]
    fn a_row_in_another_form_than_its_own_is_not_read() {
        assert_eq!(altered(0, text("7")).unwrap().worker.id, WorkerId(7), "nothing is altered");
        for other in ["07", "+7"] {
            // It would be a second row of the same worker.
            assert!(matches!(altered(0, text(other)), Err(RowError::Form)), "{other}");
        }
        assert!(matches!(altered(4, text("1")), Err(RowError::Form)), "a small number as text");
    }

    #[test]
    fn who_is_alive_was_not_reported() {
        let reported = altered(17, Value::Integer(1));
        assert!(matches!(reported, Err(RowError::Column("reported_at"))));
    }

    #[test]
    fn who_is_alive_has_no_place_among_the_ends() {
        let ended = altered(19, Value::Integer(1));
        assert!(matches!(ended, Err(RowError::Column("end_sequence"))));
        let unknown = altered(19, Value::Integer(0));
        assert!(matches!(unknown, Err(RowError::Form)), "zero is written as NULL");
    }

    #[test]
    fn a_time_of_being_abandoned_is_a_number() {
        let abandoned = altered(18, Value::Integer(5)).unwrap().worker.abandoned_at;
        assert_eq!(abandoned, Some(Mono(5)));
        for other in [text("long ago"), Value::Integer(-1), Value::Real(0.5)] {
            let read = altered(18, other.clone());
            assert!(matches!(read, Err(RowError::Column("abandoned_at"))), "{other:?}");
        }
    }
}
