//! One cgroup: a worker, and all that it started.

use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
};

use super::{
    core,
    error::{Error, Result},
    memory,
};

/// A worker may make and remove groups while they are being removed; as often as this, no more.
const MAX_REMOVAL_ROUNDS: u32 = 8;

/// A cgroup's directory. Only a name: the cgroup is there until [`remove`](Self::remove), and
/// processes in it do not depend on this value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Group {
    path: PathBuf,
}

impl Group {
    /// Makes the group of this worker. An empty one of the same name is stale: it is removed and
    /// made anew, so that the counters start at 0.
    ///
    /// # Errors
    ///
    /// [`Error::Populated`] if one of this name holds processes. [`Error::Name`] if the worker's
    /// id is not made of letters, digits, `-` and `_`. `EAGAIN` if the limits `cgroup.max.*` above
    /// are reached.
    pub fn create(workers: &Path, worker: &str) -> Result<Self> {
        let group = Self { path: group_path(workers, worker)? };
        match make_new_dir(&group.path) {
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {
                if group.is_populated()? {
                    return Err(Error::Populated { path: group.path });
                }
                group.remove()?;
                make_new_dir(&group.path)?;
            }
            made => made?,
        }
        Ok(group)
    }

    /// The group that this worker has. `None`: it has none.
    ///
    /// # Errors
    ///
    /// [`Error::Name`] as for [`create`](Self::create); or if the directory cannot be looked up.
    pub fn open(workers: &Path, worker: &str) -> Result<Option<Self>> {
        let path = group_path(workers, worker)?;
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() => Ok(Some(Self { path })),
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::io("look up", &path, error))
            }
            Ok(_) | Err(_) => Ok(None),
        }
    }

    /// Its directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A descriptor of the directory (`O_PATH`, close-on-exec), for `CLONE_INTO_CGROUP`.
    ///
    /// # Errors
    ///
    /// `ENOENT` if the group was removed.
    pub fn directory(&self) -> Result<OwnedFd> {
        // std adds O_CLOEXEC.
        OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_PATH | libc::O_DIRECTORY)
            .open(&self.path)
            .map(OwnedFd::from)
            .map_err(|error| Error::io("open", &self.path, error))
    }

    /// Sends SIGKILL to every process in the group and below it; none that is being forked gets
    /// away. Returns before they have ended. A group that is gone, or empty, is fine.
    ///
    /// Not reached is a process whose first thread has ended while others run (Linux 6.18: the
    /// kernel sends the signal to that thread alone). A group that stays populated after this
    /// needs one signal for each of [`processes`](Self::processes): open a pidfd, see that the
    /// pid is still listed, send SIGKILL through the pidfd.
    ///
    /// # Errors
    ///
    /// `EACCES` and the like, if the group is another user's.
    pub fn kill(&self) -> Result<()> {
        match core::kill(&self.path) {
            Err(error) if error.is_gone() => Ok(()),
            done => done,
        }
    }

    /// Whether there is a process in the group or below it. A zombie is none, unless threads of
    /// it still run. `false` also if the group is gone.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or has another form.
    pub fn is_populated(&self) -> Result<bool> {
        false_if_gone(core::is_populated(&self.path))
    }

    /// A handle that becomes ready when [`is_populated`](Self::is_populated) changes.
    ///
    /// # Errors
    ///
    /// `ENOENT` if the group was removed.
    pub fn events(&self) -> Result<Events> {
        let path = self.path.join(core::EVENTS);
        match File::open(&path) {
            Ok(file) => {
                let events = Events { file, path };
                // Until its first read a descriptor counts as changed.
                events.is_populated()?;
                Ok(events)
            }
            Err(error) => Err(Error::io("open", &path, error)),
        }
    }

    /// How many of its processes the kernel killed for want of memory, in the group and below it,
    /// also in groups below that are gone. `None`: there is no memory controller, or the group is
    /// gone. To be asked before [`remove`](Self::remove).
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or has another form.
    pub fn oom_kills(&self) -> Result<Option<u64>> {
        memory::oom_kills(&self.path)
    }

    /// The processes in the group and below it, in no order; a zombie only while threads of it
    /// still run. The list was true at no one instant, and a pid may go to another process.
    ///
    /// # Errors
    ///
    /// If a file or directory cannot be read. Groups that vanish meanwhile are fine.
    pub fn processes(&self) -> Result<Vec<u32>> {
        let mut processes = Vec::new();
        let mut unread = vec![self.path.clone()];
        while let Some(group) = unread.pop() {
            match core::processes(&group) {
                Ok(found) => processes.extend(found),
                // A threaded group: the one above it lists the processes.
                Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
                Err(error) if error.is_gone() => continue,
                Err(error) => return Err(error),
            }
            unread.extend(directories(&group)?.into_iter().map(|name| group.join(name)));
        }
        Ok(processes)
    }

    /// Removes the group and those that the worker made below it. One that is gone is fine.
    ///
    /// # Errors
    ///
    /// `EBUSY` ([`Error::is_busy`]) if processes are left, or the worker makes groups faster than
    /// they can be removed.
    pub fn remove(&self) -> Result<()> {
        for _ in 0..MAX_REMOVAL_ROUNDS {
            match remove_dir(&self.path) {
                // Groups below it, unless it holds processes: then all stays as it is.
                Err(error) if error.is_busy() && !self.is_populated()? => {}
                done => return done,
            }
            match remove_below(&self.path) {
                Err(error) if error.is_busy() => {}
                done => done?,
            }
        }
        remove_dir(&self.path)
    }
}

/// A group's `cgroup.events`, kept open.
///
/// Poll it for `POLLPRI` (epoll: `EPOLLPRI`; level-triggered). `POLLIN` is always set and says
/// nothing. Once ready it stays ready until [`is_populated`](Self::is_populated) reads it again, so
/// read first, then poll, and read after each wakeup. A change may be undone by the time it is
/// read. The kernel delays a notice that comes within 10 ms of the one before; on this account
/// the end of a worker that lives for a moment only is told up to about 20 ms late. Removing the
/// group makes no notice.
#[derive(Debug)]
pub struct Events {
    file: File,
    path: PathBuf,
}

impl Events {
    /// As [`Group::is_populated`]; also waits for the next change from here.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or has another form.
    pub fn is_populated(&self) -> Result<bool> {
        let mut buffer = [0; 256];
        match self.file.read_at(&mut buffer, 0) {
            Ok(length) => {
                let text = &buffer[..length];
                core::parse_populated(text).ok_or_else(|| Error::form(&self.path, text))
            }
            Err(error) => false_if_gone(Err(Error::io("read", &self.path, error))),
        }
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// The workers that have groups in this directory, in the order of their names.
///
/// # Errors
///
/// If the directory cannot be read. One that is not there has none.
pub fn list(workers: &Path) -> Result<Vec<String>> {
    let names = directories(workers)?.into_iter().filter_map(|name| name.into_string().ok());
    let mut names: Vec<String> = names.filter(|name| is_name(name)).collect();
    names.sort_unstable();
    Ok(names)
}

fn group_path(workers: &Path, worker: &str) -> Result<PathBuf> {
    if is_name(worker) {
        Ok(workers.join(worker))
    } else {
        Err(Error::Name { name: worker.to_owned() })
    }
}

/// The kernel's own files all have a dot in their names.
fn is_name(text: &str) -> bool {
    let usable = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    !text.is_empty() && text.len() <= 200 && text.bytes().all(usable)
}

fn false_if_gone(populated: Result<bool>) -> Result<bool> {
    match populated {
        Err(error) if error.is_gone() => Ok(false),
        told => told,
    }
}

fn make_new_dir(path: &Path) -> Result<()> {
    let made = DirBuilder::new().mode(0o755).create(path);
    made.map_err(|error| Error::io("make", path, error))
}

/// One that is there already is fine.
pub(super) fn make_dir(path: &Path) -> Result<()> {
    match make_new_dir(path) {
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) && path.is_dir() => Ok(()),
        made => made,
    }
}

/// One that is gone is fine.
pub(super) fn remove_dir(path: &Path) -> Result<()> {
    match fs::remove_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io("remove", path, error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The lowest first. Their depth is bounded by the longest path that the kernel takes.
fn remove_below(path: &Path) -> Result<()> {
    for name in directories(path)? {
        let below = path.join(name);
        remove_below(&below)?;
        remove_dir(&below)?;
    }
    Ok(())
}

/// The names of the groups directly below this one. A group that is gone has none.
pub(super) fn directories(path: &Path) -> Result<Vec<OsString>> {
    let fail = |error| Error::io("list", path, error);
    let mut names = Vec::new();
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(names),
        entries => entries.map_err(fail)?,
    };
    for entry in entries {
        let entry = entry.map_err(fail)?;
        if entry.file_type().map_err(fail)?.is_dir() {
            names.push(entry.file_name());
        }
    }
    Ok(names)
}
