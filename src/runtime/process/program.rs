//! Whether the worker program can be executed, and a thread that looks again and again.

use std::{
    env, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use nix::{
    errno::Errno,
    unistd::{AccessFlags, access},
};
use thiserror::Error;

use crate::{machine::Event, mailbox::Events};

/// How often it is looked for.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// The worker program cannot be executed.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("cannot run the worker program {program}: {reason}")]
pub struct NotExecutable {
    /// As it is configured.
    pub program: String,
    /// What the operating system says.
    pub reason: String,
}

/// Looks for the program where a start of a worker would.
///
/// # Errors
/// It cannot be executed: which program, and why.
pub fn check(program: &Path) -> Result<(), NotExecutable> {
    let reason = if program.as_os_str().as_encoded_bytes().contains(&b'/') {
        why_not(program)
    } else {
        let folders = env::var_os("PATH").unwrap_or_default();
        let found = |folder: PathBuf| why_not(&folder.join(program)).is_none();
        let missing = "no directory of PATH has it";
        (!env::split_paths(&folders).any(found)).then_some(missing)
    };
    match reason {
        None => Ok(()),
        Some(reason) => {
            Err(NotExecutable { program: program.display().to_string(), reason: reason.into() })
        }
    }
}

/// Looks for the program now and then, and tells the machine when that comes out differently. Until
/// the first event the machine takes it to be there.
///
/// It has a thread of its own: the file system may hang, and then nothing else is held up.
#[derive(Debug)]
pub struct ProgramWatch {
    ended: Arc<AtomicBool>,
    thread: thread::Thread,
}

impl ProgramWatch {
    /// Looks once before it returns, then every two seconds.
    ///
    /// # Errors
    /// No thread can be had.
    pub fn start(program: PathBuf, events: Events) -> io::Result<Self> {
        let ended = Arc::new(AtomicBool::new(false));
        let is_over = ended.clone();
        let mut last = Ok(());
        let mut look = move || {
            let found = check(&program).map_err(|error| Arc::from(error.to_string()));
            if found != last {
                last.clone_from(&found);
                events.send(Event::ProgramChecked(found));
            }
        };
        look();
        let watching = move || {
            while !is_over.load(Ordering::Acquire) {
                thread::park_timeout(LOOK_EVERY);
                look();
            }
        };
        let thread = thread::Builder::new().name("program".into()).spawn(watching)?;
        Ok(Self { ended, thread: thread.thread().clone() })
    }
}

impl Drop for ProgramWatch {
    /// The thread ends by itself, at once unless the file system hangs.
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

/// Why this file cannot be run; `None`: it can.
fn why_not(path: &Path) -> Option<&'static str> {
    if path.is_dir() {
        return Some("it is a directory");
    }
    access(path, AccessFlags::X_OK).err().map(Errno::desc)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(program: &str) -> String {
        check(Path::new(program)).expect_err("it cannot be run").to_string()
    }

    #[test]
    fn what_changes_is_told_once() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("worker");
        let (mailbox, mut inbox) = crate::mailbox::mailbox();
        let watch = ProgramWatch::start(program.clone(), mailbox.events()).unwrap();
        let Some(Event::ProgramChecked(Err(error))) = inbox.take() else { panic!("it is missing") };
        assert!(error.contains(&program.display().to_string()), "{error}");
        std::os::unix::fs::symlink("/bin/sh", &program).unwrap();
        watch.thread.unpark();
        let told = (0..500).find_map(|_| {
            thread::sleep(Duration::from_millis(10));
            inbox.take()
        });
        assert_eq!(told, Some(Event::ProgramChecked(Ok(()))));
        drop(watch);
        assert_eq!(inbox.take(), None);
    }

    #[test]
    fn what_can_be_run_is_let_through() {
        check(Path::new("/bin/sh")).unwrap();
        check(Path::new("sh")).unwrap();
    }

    #[test]
    fn what_cannot_is_named_with_the_reason() {
        let cannot = "cannot run the worker program";
        assert_eq!(said("/no/such"), format!("{cannot} /no/such: No such file or directory"));
        assert_eq!(said("/etc/passwd"), format!("{cannot} /etc/passwd: Permission denied"));
        assert_eq!(said("/etc"), format!("{cannot} /etc: it is a directory"));
        assert_eq!(said("no-such"), format!("{cannot} no-such: no directory of PATH has it"));
    }
}
