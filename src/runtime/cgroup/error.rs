//! What can go wrong, with the path it went wrong at.

use std::{
    io,
    path::{Path, PathBuf},
};

/// What the operations on one group return.
pub type Result<T> = std::result::Result<T, Error>;

/// Why an operation on a cgroup failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused. Linux says `EBUSY` of a group to be removed that still holds processes.
    #[error("cannot {operation} {}: {source}", path.display())]
    Io {
        /// What was tried: a verb, like "open".
        operation: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A group of this name is there and holds processes: it is some running worker's.
    #[error("the cgroup {} is there already and holds processes", path.display())]
    Populated {
        /// Its directory.
        path: PathBuf,
    },
    /// The text cannot name a cgroup.
    #[error("{name:?} cannot name a worker's cgroup: use letters, digits, '-' and '_'")]
    Name {
        /// The text.
        name: String,
    },
    /// A file does not hold what cgroups(7) says it does.
    #[error("{} does not have the form that the kernel documents: {text:?}", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// What it holds.
        text: String,
    },
}

impl Error {
    pub(super) fn io(operation: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { operation, path: path.to_owned(), source }
    }

    pub(super) fn form(path: &Path, bytes: &[u8]) -> Self {
        Self::Form { path: path.to_owned(), text: String::from_utf8_lossy(bytes).into_owned() }
    }

    /// The kernel's error number, if it was the kernel that refused.
    #[must_use]
    pub fn raw_os_error(&self) -> Option<i32> {
        match self {
            Self::Io { source, .. } => source.raw_os_error(),
            Self::Populated { .. } | Self::Name { .. } | Self::Form { .. } => None,
        }
    }

    /// Whether processes or nested groups stand in the way, so that a later try may succeed.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        matches!(self, Self::Populated { .. }) || self.raw_os_error() == Some(libc::EBUSY)
    }

    /// Whether the group is not there (`ENOENT`), or was removed while a file of it was open
    /// (`ENODEV`).
    pub(super) fn is_gone(&self) -> bool {
        matches!(self.raw_os_error(), Some(libc::ENOENT | libc::ENODEV))
    }
}

/// Why workers get no cgroups: one sentence, for the log and the status page.
#[derive(Debug, thiserror::Error)]
pub enum Unavailable {
    /// [`Mode::Off`](super::Mode::Off).
    #[error("cgroups are switched off")]
    Off,
    /// The kernel has no cgroup v2, or it is mounted nowhere that this process sees.
    #[error("no cgroup2 file system is mounted ({} lists none)", mountinfo.display())]
    NotMounted {
        /// The list of mounts.
        mountinfo: PathBuf,
    },
    /// Only cgroup v1 is in use.
    #[error("this process is in no v2 cgroup ({} has no line \"0::\")", membership.display())]
    NoMembership {
        /// The list of this process's cgroups.
        membership: PathBuf,
    },
    /// The cgroup lies outside of the part of the hierarchy that is mounted here.
    #[error("no cgroup2 mount shows this process's cgroup {cgroup}: mounted is {mounted}")]
    NotVisible {
        /// The path of the cgroup, as the kernel tells it.
        cgroup: String,
        /// The parts of the hierarchy that are mounted, and where.
        mounted: String,
    },
    /// The name that the caller gave for this node.
    #[error("{name:?} cannot be part of a cgroup's name: use letters, digits, '-', '_' and '.'")]
    Name {
        /// The name.
        name: String,
    },
    /// The kernel cannot kill a cgroup.
    #[error("{} is missing: killing a cgroup needs Linux 5.14", path.display())]
    NoKill {
        /// The file that is missing.
        path: PathBuf,
    },
    /// The cgroup is in the threaded part of the hierarchy, where processes cannot be placed.
    #[error("{} says {kind:?}, but only a \"domain\" can hold processes", path.display())]
    NotDomain {
        /// The file `cgroup.type`.
        path: PathBuf,
        /// What it says.
        kind: String,
    },
    /// A file or directory could not be read, written or made. Mostly `EACCES` or `EPERM`: not
    /// delegated to this user (under systemd: `Delegate=yes`); or `EROFS`: mounted read-only, as
    /// in most containers.
    #[error(transparent)]
    Refused(#[from] Error),
}
