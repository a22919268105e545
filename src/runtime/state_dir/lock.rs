//! One agent at a time: the file `lock`, locked (flock) and signed; and the directory itself, locked
//! as well, since the file may be removed by somebody who takes it for left over.

use std::{
    fs::{self, File, OpenOptions, Permissions, TryLockError},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
    process, thread,
    time::{Duration, Instant},
};

use super::{Notice, StateDirError, set_aside_with_notice};
use crate::runtime::process::identify;

/// A file and its directory, locked until this is dropped.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
    /// `None` where directories cannot be locked.
    directory: Option<File>,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing them would not do: a process that is just being started holds a copy for a moment.
        for locked in self.directory.iter().chain([&self.file]) {
            let _ = locked.unlock();
        }
    }
}

/// Locks the directory's `lock` file and writes this process's id into it.
pub(super) fn lock(directory: &Path, notices: &mut Vec<Notice>) -> Result<Lock, StateDirError> {
    let path = directory.join("lock");
    let failed = |source| StateDirError::Lock { path: path.clone(), source };
    if path.symlink_metadata().is_ok_and(|metadata| !metadata.is_file()) {
        // No agent has locked such a thing, so it can go.
        set_aside_with_notice(&path, "it is not a regular file", notices);
    }
    let mut file = open_lock(&path).map_err(failed)?;
    let open_directory = File::open(directory).ok();
    let locked = try_lock(&mut file, |file| file.try_lock())
        .and_then(|()| lock_directory(open_directory, &mut file));
    let open_directory = match locked {
        Ok(directory) => directory,
        Err(TryLockError::WouldBlock) => {
            let pid = file.rewind().and_then(|()| read_pid(&mut file)).ok();
            return Err(StateDirError::InUse { directory: directory.to_owned(), pid });
        }
        Err(TryLockError::Error(source)) => return Err(failed(source)),
    };
    if let Err(error) = write_pid(&mut file) {
        notices.push(Notice::new(format!(
            "{} does not hold this agent's pid ({error}); it is locked all the same.",
            path.display()
        )));
    }
    Ok(Lock { file, directory: open_directory })
}

/// Not every file system can do that; then the file's lock has to do.
fn lock_directory(directory: Option<File>, file: &mut File) -> Result<Option<File>, TryLockError> {
    let Some(directory) = directory else { return Ok(None) };
    match try_lock(file, |_| directory.try_lock()) {
        Ok(()) => Ok(Some(directory)),
        Err(TryLockError::Error(_)) => Ok(None),
        Err(held) => Err(held),
    }
}

/// An agent that was killed while it started a process has left its lock to that, until that runs
/// its own program: a matter of milliseconds, which are waited for.
fn try_lock(
    file: &mut File,
    lock: impl Fn(&File) -> Result<(), TryLockError>,
) -> Result<(), TryLockError> {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        match lock(file) {
            Err(TryLockError::WouldBlock) if Instant::now() < deadline && !is_held(file) => {
                thread::sleep(Duration::from_millis(5));
            }
            result => return result,
        }
    }
}

/// Whether the process that the lock names is alive, or may be.
fn is_held(file: &mut File) -> bool {
    let pid = file.rewind().and_then(|()| read_pid(file));
    !matches!(pid.map(identify), Ok(Ok(None)))
}

fn open_lock(path: &Path) -> io::Result<File> {
    let open = || {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
    };
    open().or_else(|error| {
        let _ = fs::set_permissions(path, Permissions::from_mode(0o600));
        // On a read-only file system a lock is still a lock.
        open().or_else(|_| File::open(path)).map_err(|_| error)
    })
}

fn write_pid(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", process::id())
}

fn read_pid(file: &mut File) -> io::Result<u32> {
    let mut text = String::new();
    file.take(32).read_to_string(&mut text)?;
    text.trim().parse().map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::{super::StateDir, *};

    fn fresh() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_owned();
        (dir, path)
    }

    #[test]
    fn a_second_agent_is_told_who_is_there_and_where() {
        let (_dir, path) = fresh();
        let first = StateDir::open(&path).unwrap();
        let refusal = StateDir::open(&path).unwrap_err().to_string();
        assert!(refusal.contains(&format!("(pid {})", process::id())), "{refusal}");
        assert!(refusal.contains(path.to_str().unwrap()), "{refusal}");

        drop(first);
        StateDir::open(&path).unwrap();
    }

    #[test]
    fn who_removes_the_lock_file_lets_no_second_agent_in() {
        let (_dir, path) = fresh();
        let first = StateDir::open(&path).unwrap();
        fs::remove_file(path.join("lock")).unwrap();
        let refusal = StateDir::open(&path).unwrap_err();
        assert!(matches!(refusal, StateDirError::InUse { .. }), "{refusal}");
        drop(first);
        StateDir::open(&path).unwrap();
    }

    struct KillOnDrop(process::Child);

    impl Drop for KillOnDrop {
        fn drop(&mut self) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }

    #[test]
    fn an_agent_that_was_killed_keeps_nobody_out() {
        let (_dir, path) = fresh();
        // Holds the lock as an agent does, until it is killed.
        let killed = process::Command::new("flock")
            .args(["--exclusive", "--no-fork"])
            .arg(path.join("lock"))
            .args(["sleep", "60"])
            .spawn();
        let killed = KillOnDrop(killed.unwrap());
        let pid = killed.0.id().to_string();
        fs::write(path.join("lock"), &pid).unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        let refusal = loop {
            match StateDir::open(&path) {
                Err(refusal) => break refusal,
                // It has not got the lock yet; put back what was written over.
                Ok(state) => {
                    fs::write(path.join("lock"), &pid).unwrap();
                    drop(state);
                }
            }
            assert!(Instant::now() < deadline, "the lock was never taken");
            thread::sleep(Duration::from_millis(5));
        };
        assert!(refusal.to_string().contains(&pid), "{refusal}");

        drop(killed);
        StateDir::open(&path).unwrap();
        let pid = fs::read_to_string(path.join("lock")).unwrap();
        assert_eq!(pid.trim(), process::id().to_string());
    }

    #[test]
    fn what_a_dead_agent_leaves_of_its_lock_is_waited_for() {
        let (_dir, path) = fresh();
        let mut dead = process::Command::new("true").spawn().unwrap();
        dead.wait().unwrap();
        let lock = open_lock(&path.join("lock")).unwrap();
        lock.try_lock().unwrap();
        fs::write(path.join("lock"), dead.id().to_string()).unwrap();
        let remnant = thread::spawn(move || {
            thread::sleep(Duration::from_millis(200));
            drop(lock);
        });
        StateDir::open(&path).unwrap();
        remnant.join().unwrap();
    }
}
