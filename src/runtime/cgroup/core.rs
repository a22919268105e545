//! The files `cgroup.*`, which every cgroup but the root has.

use std::{
    collections::BTreeSet,
    fmt, fs,
    fs::{File, OpenOptions},
    io::{Read as _, Write as _},
    path::Path,
};

use super::error::{Error, Result};

pub(super) const CONTROLLERS: &str = "cgroup.controllers";
pub(super) const EVENTS: &str = "cgroup.events";
pub(super) const KILL: &str = "cgroup.kill";
pub(super) const PROCS: &str = "cgroup.procs";
pub(super) const SUBTREE_CONTROL: &str = "cgroup.subtree_control";
pub(super) const TYPE: &str = "cgroup.type";

/// A controller that a node has use for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Controller {
    /// CPU time: `cpu.*`.
    Cpu,
    /// Memory, and what the out-of-memory killer did: `memory.*`.
    Memory,
    /// The number of processes and threads: `pids.*`.
    Pids,
    /// Block devices: `io.*`.
    Io,
}

impl Controller {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Cpu, Self::Memory, Self::Pids, Self::Io];

    /// The kernel's name for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Pids => "pids",
            Self::Io => "io",
        }
    }
}

impl fmt::Display for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Reads a file into the buffer; whole, since these are small and made anew for each read.
pub(super) fn read_small<'b>(path: &Path, buffer: &'b mut [u8]) -> Result<&'b [u8]> {
    let length = File::open(path)
        .and_then(|mut file| file.read(buffer))
        .map_err(|error| Error::io("read", path, error))?;
    Ok(&buffer[..length])
}

/// Reads a file of any length. Paths in it need not be UTF-8; those are no longer found then.
pub(super) fn read_text(path: &Path) -> Result<String> {
    let bytes = fs::read(path).map_err(|error| Error::io("read", path, error))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Writes in one call, as the kernel wants it. Never creates a file.
pub(super) fn write(path: &Path, text: &str) -> Result<()> {
    OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| Error::io("write to", path, error))
}

/// Whether this process may write to the file. Writes nothing.
pub(super) fn check_writable(path: &Path) -> Result<()> {
    OpenOptions::new()
        .write(true)
        .open(path)
        .map(drop)
        .map_err(|error| Error::io("open for writing", path, error))
}

/// The value of a line "key value".
pub(super) fn value_of(text: &[u8], key: &str) -> Option<u64> {
    text.split(|&byte| byte == b'\n').find_map(|line| {
        let value = line.strip_prefix(key.as_bytes())?.strip_prefix(b" ")?;
        std::str::from_utf8(value).ok()?.trim_ascii_end().parse().ok()
    })
}

/// Whether there is a process in the group or below it. A zombie is none.
pub(super) fn is_populated(group: &Path) -> Result<bool> {
    let path = group.join(EVENTS);
    let mut buffer = [0; 256];
    let text = read_small(&path, &mut buffer)?;
    parse_populated(text).ok_or_else(|| Error::form(&path, text))
}

pub(super) fn parse_populated(text: &[u8]) -> Option<bool> {
    value_of(text, "populated").map(|value| value != 0)
}

/// Kills every process in the group and below it, also those that are just being forked.
pub(super) fn kill(group: &Path) -> Result<()> {
    write(&group.join(KILL), "1")
}

/// The processes of this group alone. Those that another pid namespace hides are left out.
pub(super) fn processes(group: &Path) -> Result<Vec<u32>> {
    let text = read_text(&group.join(PROCS))?;
    // A process without a pid in the reader's namespace is listed as 0.
    Ok(text.lines().filter_map(|line| line.parse().ok()).filter(|&pid| pid != 0).collect())
}

/// Moves the calling process, with all its threads. Its children stay where they are.
pub(super) fn enter(group: &Path) -> Result<()> {
    write(&group.join(PROCS), "0")
}

/// The controllers that this group has, and may pass on.
pub(super) fn available(group: &Path) -> Result<BTreeSet<Controller>> {
    read_text(&group.join(CONTROLLERS)).map(|text| parse_controllers(&text))
}

/// The controllers that this group passes on to its children.
pub(super) fn passed_on(group: &Path) -> Result<BTreeSet<Controller>> {
    read_text(&group.join(SUBTREE_CONTROL)).map(|text| parse_controllers(&text))
}

/// Passes one more controller on to the children.
pub(super) fn pass_on(group: &Path, controller: Controller) -> Result<()> {
    write(&group.join(SUBTREE_CONTROL), &format!("+{controller}"))
}

fn parse_controllers(text: &str) -> BTreeSet<Controller> {
    text.split_ascii_whitespace()
        .filter_map(|name| Controller::ALL.into_iter().find(|c| c.name() == name))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn populated_is_found_among_other_keys() {
        assert_eq!(parse_populated(b"populated 1\nfrozen 0\n"), Some(true));
        assert_eq!(parse_populated(b"frozen 1\npopulated 0\n"), Some(false));
        assert_eq!(parse_populated(b"populated_by 1\n"), None, "another key");
        for text in ["", "populated", "populated \n", "populated x\n"] {
            assert_eq!(parse_populated(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn unknown_controllers_are_passed_over() {
        let found = parse_controllers("cpuset cpu io memory hugetlb pids rdma misc\n");
        assert_eq!(found, Controller::ALL.into_iter().collect());
        assert!(parse_controllers("\n").is_empty());
    }

    #[test]
    fn a_missing_file_is_not_made() {
        let dir = tempfile::tempdir().unwrap();
        let error = kill(dir.path()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
        assert!(error.to_string().contains("/cgroup.kill: No such file"), "{error}");
        assert!(!dir.path().join(KILL).exists());
    }

    #[test]
    fn a_file_of_another_form_is_quoted() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(EVENTS), "frozen 0\n").unwrap();
        let error = is_populated(dir.path()).unwrap_err();
        assert!(error.to_string().ends_with("documents: \"frozen 0\\n\""), "{error}");
    }
}
