//! Something that is read from files, and read again when they change.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use super::TlsError;

type Load<T> = Box<dyn Fn() -> Result<T, TlsError> + Send + Sync>;

/// The latest good content of some files.
pub struct Reloading<T> {
    files: Vec<PathBuf>,
    load: Load<T>,
    state: Mutex<State<T>>,
}

struct State<T> {
    stamps: Vec<Option<Stamp>>,
    current: Arc<T>,
}

/// What changes when a file is written or replaced: inode, size, time of change.
type Stamp = (u64, u64, i64, i64);

impl<T> Reloading<T> {
    /// Reads the files.
    ///
    /// # Errors
    /// They make no sense.
    pub(super) fn new(
        files: Vec<PathBuf>,
        load: impl Fn() -> Result<T, TlsError> + Send + Sync + 'static,
    ) -> Result<Self, TlsError> {
        // Before reading: what is written meanwhile is read again rather than missed.
        let stamps = stamps(&files);
        let current = Arc::new(load()?);
        Ok(Self { files, load: Box::new(load), state: Mutex::new(State { stamps, current }) })
    }

    /// What the files say now; or, if that makes no sense, what they said before.
    pub fn get(&self) -> Arc<T> {
        let stamps = stamps(&self.files);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if stamps != state.stamps {
            state.stamps = stamps;
            match (self.load)() {
                Ok(fresh) => {
                    tracing::info!(files = ?self.files, "certificates read again");
                    state.current = Arc::new(fresh);
                }
                Err(error) => {
                    tracing::warn!("{error}; the certificates read before stay in use");
                }
            }
        }
        state.current.clone()
    }
}

fn stamps(files: &[PathBuf]) -> Vec<Option<Stamp>> {
    files.iter().map(|path| stamp(path)).collect()
}

fn stamp(path: &Path) -> Option<Stamp> {
    let data = fs::metadata(path).ok()?;
    Some((data.ino(), data.size(), data.mtime(), data.mtime_nsec()))
}

impl<T> std::fmt::Debug for Reloading<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reloading").field("files", &self.files).finish_non_exhaustive()
    }
}
