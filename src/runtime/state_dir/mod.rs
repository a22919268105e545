//! The agent's directory: everything that must outlive the agent lies in it, and only one agent at
//! a time uses it.
//!
//! ```text
//!  lock            locked (flock) for as long as an agent runs; holds its pid as text
//!  machine-id      the agent's stable name, one line
//!  journal.sqlite  what an agent must know again after it was killed (and -wal, -shm beside it)
//!  shim.sock       where the shim listens, which outlives agents too
//!  shim.lock       locked for as long as a shim runs; holds its pid as text
//!  shim.log        what a shim complained of
//!  output/         what the workers wrote
//!  *.20251124T085400Z   something that could not be used, set aside; the agent never reads it again
//! ```
//!
//! Nothing in here keeps an agent from starting, except another agent.

mod lock;
mod unkept;

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Read, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use thiserror::Error;
use uuid::Uuid;

use self::{
    lock::{Lock, lock},
    unkept::KeepsName,
};
use super::{
    Notice,
    clock::SystemClock,
    journal::BlockingJournal,
    ports::Clock as _,
    set_aside::{append, set_aside, sync_parent},
};
use crate::ids::MachineId;

/// An agent's directory, kept from other agents until this is dropped, and its journal.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    machine_id: MachineId,
    /// Whether the next agent will have the same.
    is_kept: bool,
    notices: Vec<Notice>,
    lock: Arc<Lock>,
}

/// Why an agent cannot use a directory.
#[derive(Debug, Error)]
pub enum StateDirError {
    /// Another agent is using it.
    #[error(
        "another agent ({}) is using the state directory {}: stop it first, or give this one a \
         directory of its own", describe_pid(pid), directory.display()
    )]
    InUse {
        /// The directory.
        directory: PathBuf,
        /// The other agent's process id, if it could be read.
        pid: Option<u32>,
    },
    /// It is not there and cannot be made, or it is not a directory.
    #[error("cannot use {} as the state directory: {source}", directory.display())]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It cannot be told whether another agent is using it.
    #[error(
        "cannot lock {} to keep other agents out of the state directory: {source}; see that this \
         user may write to the file, or remove it while no agent is running", path.display()
    )]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl StateDir {
    /// Takes the directory, which is made (for its owner only) if it is missing.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StateDirError> {
        let path = path.as_ref();
        make_directory(path)
            .map_err(|source| StateDirError::Directory { directory: path.to_owned(), source })?;
        let mut notices = Vec::new();
        let lock = lock(path, &mut notices)?;
        let (machine_id, is_kept) = machine_id(&path.join("machine-id"), &mut notices);
        Ok(Self { path: path.to_owned(), machine_id, is_kept, notices, lock: lock.into() })
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The agent's stable name: made once, kept in the file `machine-id`.
    pub fn machine_id(&self) -> &MachineId {
        &self.machine_id
    }

    /// Makes this the agent's name from now on, in place of the one that was kept.
    pub fn keep_machine_id(&mut self, id: &MachineId) {
        if *id != self.machine_id {
            self.is_kept = keep_machine_id(&self.machine_id_file(), id, &mut self.notices);
            self.machine_id = id.clone();
        }
    }

    /// The journal, which keeps the machine id before it writes, should that not be kept.
    pub(crate) fn keep_name_before(
        &self,
        journal: Box<dyn BlockingJournal>,
    ) -> Box<dyn BlockingJournal> {
        let (path, id) = (self.machine_id_file(), self.machine_id.clone());
        let (is_kept, lock) = (self.is_kept, self.lock.clone());
        Box::new(KeepsName { journal, path, id, is_kept, _lock: lock })
    }

    fn machine_id_file(&self) -> PathBuf {
        self.path.join("machine-id")
    }

    /// What opening it turned up that a person should know.
    pub fn notices(&self) -> &[Notice] {
        &self.notices
    }

    /// The journal's file.
    pub fn journal(&self) -> PathBuf {
        self.path.join("journal.sqlite")
    }

    /// The shim's socket.
    pub fn shim_socket(&self) -> PathBuf {
        self.path.join("shim.sock")
    }

    /// The directory of the workers' output. Not made here.
    pub fn output(&self) -> PathBuf {
        self.path.join("output")
    }
}

/// Names this boot of the machine: another one after every reboot.
pub fn boot_id() -> io::Result<String> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(text.trim().to_owned())
}

fn make_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn describe_pid(pid: &Option<u32>) -> String {
    pid.map_or_else(|| "of unknown pid".to_owned(), |pid| format!("pid {pid}"))
}

/// Reads the machine id, or makes one and keeps it. With it, whether it is kept.
fn machine_id(path: &Path, notices: &mut Vec<Notice>) -> (MachineId, bool) {
    match read_machine_id(path) {
        Ok(Some(id)) => return (id, true),
        Ok(None) => {}
        Err(reason) => set_aside_with_notice(path, &reason, notices),
    }
    let id = MachineId::from(Uuid::new_v4().to_string());
    let is_kept = keep_machine_id(path, &id, notices);
    (id, is_kept)
}

/// Whether it is kept.
fn keep_machine_id(path: &Path, id: &MachineId, notices: &mut Vec<Notice>) -> bool {
    match write_machine_id(path, id, notices) {
        Ok(()) => {
            tracing::info!(machine_id = %id, path = %path.display(), "new machine id");
            true
        }
        Err(error) => {
            notices.push(Notice::new(format!(
                "The machine id {id} could not be kept in {} ({error}). It is tried again whenever \
                 the journal is written; should that never succeed, the agent will have another \
                 one when it is started again.",
                path.display()
            )));
            false
        }
    }
}

/// `None` if there is none yet; otherwise why what is there is not one.
fn read_machine_id(path: &Path) -> Result<Option<MachineId>, String> {
    match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        _ => {}
    }
    // Not to wait for ever for somebody to write into a pipe.
    if !path.metadata().map_err(|error| error.to_string())?.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    file.take(LONGEST_ID + 2).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    let text = bytes.trim_ascii();
    let text = str::from_utf8(text).map_err(|_| "it is no text".to_owned())?;
    check_machine_id(text)?;
    Ok(Some(MachineId::from(text)))
}

/// Whether a text can be kept and read again as the same name; otherwise why not.
pub(super) fn check_machine_id(text: &str) -> Result<(), String> {
    if text.trim_ascii().is_empty() {
        return Err("it is empty".to_owned());
    }
    if text.len() as u64 > LONGEST_ID {
        return Err(format!("it is longer than {LONGEST_ID} bytes"));
    }
    if text.chars().any(char::is_control) || text.trim_ascii() != text {
        return Err("it is not one line without blanks around it".to_owned());
    }
    Ok(())
}

/// Longer than any name that somebody would write there.
const LONGEST_ID: u64 = 255;

/// After a power failure the file holds the id or is not there, but never a part of it.
fn write_machine_id(path: &Path, id: &MachineId, notices: &mut Vec<Notice>) -> io::Result<()> {
    let unfinished = append(path, ".new");
    if unfinished.symlink_metadata().is_ok_and(|metadata| !metadata.is_file()) {
        set_aside_with_notice(&unfinished, "it is not a regular file", notices);
    }
    let mut file = File::create(&unfinished)?;
    writeln!(file, "{id}")?;
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    sync_parent(path);
    Ok(())
}

fn set_aside_with_notice(path: &Path, reason: &str, notices: &mut Vec<Notice>) {
    let shown = path.display();
    notices.push(Notice::new(match set_aside(path, SystemClock.now().wall) {
        Ok(aside) => format!(
            "{shown} could not be used ({reason}) and was set aside as {}. A new one takes its \
             place.",
            aside.display()
        ),
        Err(error) => {
            format!("{shown} cannot be used ({reason}), nor can it be set aside ({error}).")
        }
    }));
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    fn fresh() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/state");
        (dir, path)
    }

    fn id_of(path: &Path) -> String {
        StateDir::open(path).unwrap().machine_id().to_string()
    }

    fn names(path: &Path) -> Vec<String> {
        let entries = fs::read_dir(path).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_missing_directory_is_made_for_its_owner_only() {
        let (_dir, path) = fresh();
        let state = StateDir::open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        assert_eq!(state.notices(), []);
        assert_eq!(names(&path), ["lock", "machine-id"]);
        assert_eq!(state.journal(), path.join("journal.sqlite"));
    }

    #[test]
    fn a_name_that_the_operator_gave_is_kept() {
        let (_dir, path) = fresh();
        let longest = "n".repeat(255);
        for name in ["node-a", "rack 7", "büro", &longest] {
            check_machine_id(name).unwrap();
            StateDir::open(&path).unwrap().keep_machine_id(&MachineId::from(name));
            assert_eq!(id_of(&path), name);
        }
    }

    #[test]
    fn a_name_that_could_not_be_read_again_is_none() {
        for name in ["", " ", " x", "x ", "a\nb", "\u{1b}[31m", "a\0", &"n".repeat(256)] {
            assert!(check_machine_id(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn the_machine_id_is_made_once() {
        let (_dir, path) = fresh();
        let id = id_of(&path);
        assert_eq!(Uuid::parse_str(&id).unwrap().get_version_num(), 4);
        assert_eq!(id_of(&path), id);
        assert_eq!(fs::read_to_string(path.join("machine-id")).unwrap(), format!("{id}\n"));
    }

    #[test]
    fn a_name_that_a_person_wrote_counts() {
        let (_dir, path) = fresh();
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("machine-id"), "rack4-node7").unwrap();
        let state = StateDir::open(&path).unwrap();
        assert_eq!(state.machine_id().as_str(), "rack4-node7");
        assert_eq!(state.notices(), []);
    }

    #[test]
    fn a_machine_id_that_is_none_is_set_aside() {
        let garbage: [&[u8]; 5] = [b"", b" \n", b"two\nlines", b"\xff\xfe\x00", &[b'a'; 300]];
        for garbage in garbage {
            let (_dir, path) = fresh();
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join("machine-id"), garbage).unwrap();

            let state = StateDir::open(&path).unwrap();
            let [Notice(text)] = state.notices() else { panic!("{:?}", state.notices()) };
            let names = names(&path);
            let aside = names.iter().find(|name| name.starts_with("machine-id.")).unwrap();
            assert!(text.contains(aside.as_str()), "{text}");
            assert_eq!(fs::read(path.join(aside)).unwrap(), garbage);

            let id = state.machine_id().to_string();
            drop(state);
            assert_eq!(id_of(&path), id);
        }
    }

    #[test]
    fn nothing_in_the_directory_keeps_an_agent_from_starting() {
        let (_dir, path) = fresh();
        for name in ["lock", "machine-id", "machine-id.new"] {
            fs::create_dir_all(path.join(name).join("child")).unwrap();
        }
        let state = StateDir::open(&path).unwrap();
        assert_eq!(state.notices().len(), 3, "{:?}", state.notices());
        let id = state.machine_id().to_string();
        assert!(matches!(StateDir::open(&path), Err(StateDirError::InUse { .. })));
        drop(state);

        for name in ["lock", "machine-id"] {
            fs::remove_file(path.join(name)).unwrap();
            symlink("nowhere", path.join(name)).unwrap();
        }
        let state = StateDir::open(&path).unwrap();
        assert_ne!(state.machine_id().as_str(), id);
        assert_eq!(state.notices().len(), 2, "{:?}", state.notices());
    }

    #[test]
    fn a_file_is_no_directory() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let refusal = StateDir::open(file.path()).unwrap_err();
        assert!(matches!(refusal, StateDirError::Directory { .. }));
        assert!(refusal.to_string().contains(file.path().to_str().unwrap()), "{refusal}");
    }

    #[test]
    fn the_boot_has_an_id() {
        let id = boot_id().unwrap();
        assert_eq!(id, boot_id().unwrap());
        Uuid::parse_str(&id).unwrap();
    }
}
