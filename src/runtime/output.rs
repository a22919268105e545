//! Where workers' output goes: for each worker two files, opened for append and handed to the
//! worker as its stdout and stderr. No pipe, so a worker never waits for a reader and never gets
//! SIGPIPE, whoever dies.
//!
//! ```text
//!  <dir>/<worker id>.out
//!  <dir>/<worker id>.err
//! ```

use std::{
    fs::{self, DirBuilder, File, Metadata, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use super::set_aside::make_room;
use crate::ids::WorkerId;

/// The directory of all workers' output.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OutputDir {
    dir: PathBuf,
}

/// Which of a worker's two streams.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stream {
    /// Its standard output.
    Stdout,
    /// Its standard error.
    Stderr,
}

/// A worker's two files, open for append.
#[derive(Debug)]
pub struct Output {
    /// For its standard output.
    pub stdout: File,
    /// For its standard error.
    pub stderr: File,
}

impl OutputDir {
    /// Uses this directory, and makes it (mode 0750) if it is not there. Whatever else has its name is
    /// set aside.
    pub fn create(dir: impl Into<PathBuf>) -> io::Result<Self> {
        let this = Self { dir: dir.into() };
        this.make(true)?;
        Ok(this)
    }

    fn make(&self, with_parents: bool) -> io::Result<()> {
        let dir = &self.dir;
        if let Some(aside) = make_room(dir, Metadata::is_dir)? {
            let (dir, aside) = (dir.display(), aside.display());
            tracing::warn!("{dir} is no directory; it was set aside as {aside}");
        }
        let made = DirBuilder::new().recursive(with_parents).mode(0o750).create(dir);
        made.map_err(|error| with_path(&error, "create the directory", dir))
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where a worker's stream is written to.
    pub fn path(&self, worker: WorkerId, stream: Stream) -> PathBuf {
        let extension = match stream {
            Stream::Stdout => "out",
            Stream::Stderr => "err",
        };
        self.dir.join(format!("{worker}.{extension}"))
    }

    /// Opens a worker's files (mode 0640). What is in them already stays. A directory that somebody has
    /// removed meanwhile is made anew.
    pub fn open(&self, worker: WorkerId) -> io::Result<Output> {
        self.try_open(worker).or_else(|error| {
            let lost =
                matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
            // Not its parent: that is the state directory, and nothing to be made up.
            if lost && self.make(false).is_ok() { self.try_open(worker) } else { Err(error) }
        })
    }

    fn try_open(&self, worker: WorkerId) -> io::Result<Output> {
        let open = |stream| {
            let path = self.path(worker, stream);
            let file = OpenOptions::new().append(true).create(true).mode(0o640).open(&path);
            file.map_err(|error| with_path(&error, "open the output file", &path))
        };
        Ok(Output { stdout: open(Stream::Stdout)?, stderr: open(Stream::Stderr)? })
    }

    /// Removes a worker's files. That there are none is no error.
    pub fn discard(&self, worker: WorkerId) -> io::Result<()> {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let path = self.path(worker, stream);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(with_path(&error, "remove the output file", &path));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn with_path(error: &io::Error, what: &str, path: &Path) -> io::Error {
    io::Error::new(error.kind(), format!("cannot {what} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn output_is_appended_until_it_is_discarded() {
        let temp = tempfile::tempdir().unwrap();
        let output = OutputDir::create(temp.path().join("a/b")).unwrap();
        let worker = WorkerId(u64::MAX);
        for line in ["one\n", "two\n"] {
            output.open(worker).unwrap().stdout.write_all(line.as_bytes()).unwrap();
        }
        let path = output.path(worker, Stream::Stdout);
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\ntwo\n");
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o137, 0, "readable by the group at most: {mode:o}");

        output.discard(worker).unwrap();
        assert_eq!(fs::read_dir(output.dir()).unwrap().count(), 0);
        output.discard(worker).unwrap();
    }

    #[test]
    fn a_directory_that_is_gone_is_made_anew_and_what_is_in_its_place_set_aside() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("output");
        fs::write(&dir, "text").unwrap();
        let output = OutputDir::create(&dir).unwrap();
        output.open(WorkerId(1)).unwrap();
        fs::remove_dir_all(&dir).unwrap();
        output.open(WorkerId(2)).unwrap();
        fs::remove_dir_all(&dir).unwrap();
        fs::write(&dir, "text").unwrap();
        output.open(WorkerId(3)).unwrap();
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 2);
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 3, "two files were set aside");
    }

    #[test]
    fn an_error_names_the_path() {
        let temp = tempfile::tempdir().unwrap();
        let output = OutputDir::create(temp.path()).unwrap();
        let path = output.path(WorkerId(1), Stream::Stderr);
        fs::create_dir(&path).unwrap();
        let error = output.open(WorkerId(1)).unwrap_err().to_string();
        assert!(error.contains(path.to_str().unwrap()), "{error}");
    }
}
