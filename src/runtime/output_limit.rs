//! Keeps what workers write from filling the disk.
//!
//! ```text
//!  0                      cut                          size
//!  ├─ hole: no disk space ┼─ kept: half of the limit, ─┤◀─ the worker appends
//!  │                      │  up to all of it           │
//! ```
//!
//! The head of a file that has grown over the limit is made a hole. So
//! - no byte changes its offset: whoever follows a file is not disturbed; what was cut reads as zeros;
//! - the worker keeps its descriptor and appends meanwhile: it never waits, and nothing that it
//!   writes is lost between two files;
//! - there is nothing to remember: what has been cut is seen in the file itself, so the next agent
//!   goes on where this one ended.
//!
//! A file grows beyond its limit for as long as nobody looks: a second, or while there is no agent.
//! Its length, which counts the hole, only ever grows; the space that it takes is another number
//! (`du`, not `ls -l`).

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError},
    },
    thread::JoinHandle,
    time::Duration,
};

use nix::{
    errno::Errno,
    fcntl::{FallocateFlags, fallocate},
    libc::{O_NOFOLLOW, O_NONBLOCK, off_t},
    unistd::{Whence, lseek},
};
use tokio::sync::watch;
use tracing::warn;

use super::{
    essential::Essential,
    output::{OutputDir, Stream},
};
use crate::{ids::WorkerId, machine::View};

/// Between two looks; and after one that found something to cut: who writes much is watched closely.
const CALM: Duration = Duration::from_secs(1);
const BUSY: Duration = Duration::from_millis(100);

/// A thread that looks after the output of workers. Ends when it is dropped.
pub(super) struct OutputLimit {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl OutputLimit {
    /// Keeps each stream of each worker in the view to this many bytes.
    pub(super) fn start(
        dir: OutputDir,
        limit: u64,
        view: watch::Receiver<Arc<View>>,
        essential: &Essential,
    ) -> io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let watch = Watch { dir, limit, view, done: BTreeSet::new(), warned: false };
        let thread = essential.thread("output", move || watch.run(&stopped))?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for OutputLimit {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic was reported.
            let _ = thread.join();
        }
    }
}

struct Watch {
    dir: OutputDir,
    limit: u64,
    view: watch::Receiver<Arc<View>>,
    /// Ended, and looked at since.
    done: BTreeSet<WorkerId>,
    warned: bool,
}

impl Watch {
    fn run(mut self, stopped: &mpsc::Receiver<()>) {
        let mut pause = Duration::ZERO;
        while stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
            let view = self.view.borrow().clone();
            let mut cut = false;
            let mut ended = BTreeSet::new();
            for worker in view.workers.iter() {
                if !worker.is_live() {
                    ended.insert(worker.id);
                }
                // Once more after its end: its last words may have come after the last look.
                if !self.done.contains(&worker.id) {
                    for stream in [Stream::Stdout, Stream::Stderr] {
                        cut |= self.look_at(worker.id, stream);
                    }
                }
            }
            self.done = ended;
            pause = if cut { BUSY } else { CALM };
        }
    }

    fn look_at(&mut self, worker: WorkerId, stream: Stream) -> bool {
        let path = self.dir.path(worker, stream);
        match cut(&path, self.limit) {
            Ok(cut) => cut,
            Err(error) => {
                // Most likely it is so for all of them, and each second.
                if !self.warned {
                    warn!(
                        "cannot cut {} down to {} bytes: {error}; the output of workers may fill the \
                         disk",
                        path.display(),
                        self.limit
                    );
                }
                self.warned = true;
                false
            }
        }
    }
}

/// Makes a hole of a file's head if more than `limit` bytes are kept; whether there was need to.
fn cut(path: &Path, limit: u64) -> io::Result<bool> {
    let size = match fs::symlink_metadata(path) {
        Ok(found) if found.is_file() => found.len(),
        Ok(_) => return Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    if size <= limit {
        return Ok(false);
    }
    // Not what a worker may have put in its place.
    let file = OpenOptions::new().write(true).custom_flags(O_NOFOLLOW | O_NONBLOCK).open(path)?;
    let start = first_data(&file, size)?;
    if size.saturating_sub(start) <= limit {
        return Ok(false);
    }
    // Only whole blocks give back space; the rest of one would be zeros in front of the next line.
    let block = file.metadata()?.blksize().max(1);
    let end = (size - limit / 2) / block * block;
    if end <= start {
        return Ok(false);
    }
    let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    fallocate(&file, flags, offset(start), offset(end - start))?;
    Ok(true)
}

/// Where the hole at a file's head ends.
fn first_data(file: &File, size: u64) -> io::Result<u64> {
    match lseek(file, 0, Whence::SeekData) {
        Ok(start) => Ok(u64::try_from(start).unwrap_or(0)),
        Err(Errno::ENXIO) => Ok(size),
        Err(error) => Err(error.into()),
    }
}

/// Sizes of files fit.
fn offset(bytes: u64) -> off_t {
    off_t::try_from(bytes).unwrap_or(off_t::MAX)
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, os::unix::fs::symlink};

    use super::*;

    const LIMIT: u64 = 256 * 1024;

    /// A file of lines that each say where they are.
    fn written(path: &Path, lines: u64) -> File {
        let mut file = OpenOptions::new().append(true).create(true).open(path).unwrap();
        let from = file.metadata().unwrap().len() / 16;
        let text: String = (from..from + lines).map(|line| format!("{line:015}\n")).collect();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    /// The first byte that is left, after a look at all that are.
    fn kept_from(path: &Path) -> u64 {
        let text = fs::read(path).unwrap();
        let size = text.len() as u64;
        let start = first_data(&File::open(path).unwrap(), size).unwrap();
        for (line, at) in text.chunks(16).zip((0..).step_by(16)).filter(|(_, at)| *at >= start) {
            assert_eq!(line, format!("{:015}\n", at / 16).as_bytes());
        }
        start
    }

    #[test]
    fn a_file_over_the_limit_loses_its_head_and_keeps_its_offsets() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("1.out");
        let mut file = written(&path, LIMIT / 16);
        assert!(!cut(&path, LIMIT).unwrap(), "all of the limit may be used");
        assert_eq!(kept_from(&path), 0);
        for round in 1..=5 {
            written(&path, LIMIT / 16);
            match cut(&path, LIMIT) {
                Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                    println!("skipped: the file system of temporary files makes no holes");
                    return;
                }
                needed => assert!(needed.unwrap()),
            }
            let size = file.metadata().unwrap().len();
            assert_eq!(size, LIMIT * (round + 1));
            assert_eq!(kept_from(&path), size - LIMIT / 2);
            let taken = file.metadata().unwrap().blocks() * 512;
            assert!(taken <= LIMIT, "{taken} bytes of disk for {LIMIT}");
            assert!(!cut(&path, LIMIT).unwrap(), "once is enough");
        }
        // Whoever had it open appends where it appended.
        file.write_all(b"the end").unwrap();
        assert!(fs::read(&path).unwrap().ends_with(b"\nthe end"));
    }

    #[test]
    fn what_is_no_workers_file_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (precious, link) = (dir.path().join("precious"), dir.path().join("1.out"));
        written(&precious, LIMIT);
        symlink(&precious, &link).unwrap();
        assert!(!cut(&link, LIMIT).unwrap());
        assert_eq!(kept_from(&precious), 0);
        assert!(!cut(&dir.path().join("2.out"), LIMIT).unwrap());
        assert!(!cut(dir.path(), LIMIT).unwrap());
    }
}
