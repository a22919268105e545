//! New lines of a worker's output, by byte offset.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    path::Path,
};

use crate::{
    ids::WorkerId,
    runtime::output::{OutputDir, Stream},
};

/// How much of one file is read at a time.
const MOST: u64 = 64 * 1024;
/// Where workers write, and whether that is for errors.
const STREAMS: [(Stream, bool); 2] = [(Stream::Stdout, false), (Stream::Stderr, true)];

/// Follows the output of workers.
pub(super) struct Tail {
    output: OutputDir,
    read: BTreeMap<(WorkerId, bool), u64>,
}

impl Tail {
    pub(super) fn new(output: OutputDir) -> Self {
        Self { output, read: BTreeMap::new() }
    }

    /// Passes over what a worker has written so far.
    pub(super) fn skip(&mut self, worker: WorkerId) {
        for (stream, is_error) in STREAMS {
            let written = std::fs::metadata(self.output.path(worker, stream));
            self.read.insert((worker, is_error), written.map_or(0, |file| file.len()));
        }
    }

    /// The whole lines that have arrived since the last call.
    pub(super) fn new_lines(&mut self, worker: WorkerId) -> Vec<String> {
        let mut lines = Vec::new();
        for (stream, is_error) in STREAMS {
            let offset = self.read.entry((worker, is_error)).or_default();
            let text = read_from(&self.output.path(worker, stream), *offset);
            let Some(end) = text.iter().rposition(|byte| *byte == b'\n') else { continue };
            *offset += end as u64 + 1;
            lines.extend(String::from_utf8_lossy(&text[..end]).lines().map(str::to_owned));
        }
        lines
    }
}

/// Nothing, if the file is not there (yet, or any more).
fn read_from(path: &Path, offset: u64) -> Vec<u8> {
    let read = || {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(offset))?;
        let mut bytes = Vec::new();
        file.take(MOST).read_to_end(&mut bytes)?;
        std::io::Result::Ok(bytes)
    };
    read().unwrap_or_default()
}
