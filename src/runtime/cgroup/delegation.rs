//! Whether this process may divide its cgroup among workers, and how.
//!
//! ```text
//!  where the process is                          top      processes move   controllers in top
//!  the root of the hierarchy                     own      no               as they are
//!  …/agent or …/shim below a delegated cgroup    parent   to its own leaf  enabled
//!  a container's root or a *.scope, and alone    own      to its own leaf  enabled
//!  anything else                                 own      no               none
//! ```
//!
//! Why not enable them everywhere: a cgroup that passes controllers on may hold no process, and may
//! be given none. systemd starts a service in the unit's cgroup. With controllers enabled there and
//! a worker alive below, the agent could never be started again (status 219/CGROUP; seen with
//! systemd 252). `DelegateSubgroup=agent` (systemd 254) has it start in `<unit>/agent` instead, and
//! that is the second row. Nor are strangers moved: where others share the cgroup, nothing is.

use std::{
    path::{Path, PathBuf},
    process,
};

use super::{
    core,
    error::{Error, Unavailable},
    mode::Mode,
    mount,
    subtree::{Placement, Subtree},
};

/// The computer as this process sees it. Tests put a directory of their own in its place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Host {
    /// The directory with `mountinfo` and `cgroup`: `/proc/self`.
    pub proc_self: PathBuf,
    /// What the paths of mount points start from: `/`.
    pub root: PathBuf,
    /// The process that is to be found in its cgroup: this one.
    pub pid: u32,
}

impl Default for Host {
    fn default() -> Self {
        Self { proc_self: "/proc/self".into(), root: "/".into(), pid: process::id() }
    }
}

/// As what this process runs. Each role has a cgroup of its own below `top`, where one is needed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// The agent, also when it supervises its workers itself.
    Agent,
    /// The shim.
    Shim,
}

impl Role {
    /// Its directory below `top`.
    #[must_use]
    pub fn leaf(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Shim => "shim",
        }
    }
}

/// What [`discover`] found.
#[derive(Debug)]
pub enum Discovery {
    /// Workers can have cgroups.
    Ready(Subtree),
    /// They cannot, for this reason.
    Without(Unavailable),
}

/// Finds the subtree for the workers of the node `name` and prepares it: makes the directories,
/// moves this process if need be, enables controllers as far as that can be done.
///
/// To be called before this process starts another, since children stay in the cgroup that they
/// were started in, and would count as strangers. Threads move along. Repeating it is harmless.
///
/// # Errors
///
/// With [`Mode::Required`] the reason why there is none.
pub fn discover(host: &Host, mode: Mode, name: &str, role: Role) -> Result<Discovery, Unavailable> {
    let found = match mode {
        Mode::Off => Err(Unavailable::Off),
        Mode::Auto | Mode::Required => find(host, name, role),
    };
    match found {
        Ok(subtree) => Ok(Discovery::Ready(subtree)),
        Err(reason) if mode == Mode::Required => Err(reason),
        Err(reason) => Ok(Discovery::Without(reason)),
    }
}

fn find(host: &Host, name: &str, role: Role) -> Result<Subtree, Unavailable> {
    let workers_dir = workers_dir(name)?;
    let own = own_cgroup(host)?;
    let facts = Facts::read(&own, host.pid, &workers_dir)?;
    let (top, placement) = place(&own, facts);
    Subtree::prepare(top.to_owned(), &workers_dir, placement, role)
}

/// What the directory of a node's workers is called, before the node's name.
pub const WORKERS_PREFIX: &str = "arroyo-node-";

/// The directory of a node's workers below `top`.
fn workers_dir(name: &str) -> Result<String, Unavailable> {
    let usable = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    // NAME_MAX is 255.
    if name.is_empty() || name.len() > 200 || !name.bytes().all(usable) {
        return Err(Unavailable::Name { name: name.to_owned() });
    }
    Ok(format!("{WORKERS_PREFIX}{name}"))
}

/// The cgroup of this process.
#[derive(Debug)]
pub(super) struct Own {
    pub(super) directory: PathBuf,
    /// Whether nothing above it is mounted.
    is_mount_root: bool,
}

pub(super) fn own_cgroup(host: &Host) -> Result<Own, Unavailable> {
    let mountinfo = host.proc_self.join("mountinfo");
    let mounts = mount::parse_mountinfo(&core::read_text(&mountinfo)?);
    if mounts.is_empty() {
        return Err(Unavailable::NotMounted { mountinfo });
    }
    let membership = host.proc_self.join("cgroup");
    let text = core::read_text(&membership)?;
    let Some(cgroup) = mount::parse_membership(&text) else {
        return Err(Unavailable::NoMembership { membership });
    };
    let Some((mount, directory)) = mount::locate(&mounts, cgroup) else {
        let shown = |mount: &mount::Mount| format!("{} at {}", mount.root, mount.point.display());
        let mounted = mounts.iter().map(shown).collect::<Vec<_>>().join(", ");
        return Err(Unavailable::NotVisible { cgroup: cgroup.to_owned(), mounted });
    };
    let is_mount_root = directory == mount.point;
    Ok(Own { directory: below(&host.root, &directory), is_mount_root })
}

/// An absolute path, as seen from this root.
fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// What the decision rests on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Facts {
    /// It is the root of the whole hierarchy, not only of a namespace.
    is_root: bool,
    /// No other process is in this cgroup.
    is_alone: bool,
    /// The parent already has this node's workers.
    has_workers_beside: bool,
}

impl Facts {
    fn read(own: &Own, pid: u32, workers_dir: &str) -> Result<Self, Unavailable> {
        let directory = &own.directory;
        let processes = core::processes(directory)?;
        if !processes.contains(&pid) {
            // Something else is mounted over it, or the paths are another namespace's.
            let path = directory.join(core::PROCS);
            let error = std::io::Error::other(format!("it does not list this process, {pid}"));
            return Err(Error::io("use", &path, error).into());
        }
        let beside = directory.parent().map(|parent| parent.join(workers_dir));
        Ok(Self {
            is_root: !directory.join(core::EVENTS).exists(),
            is_alone: processes.len() == 1,
            has_workers_beside: !own.is_mount_root && beside.is_some_and(|path| path.is_dir()),
        })
    }
}

/// The top of the subtree, and what may be done there.
fn place(own: &Own, facts: Facts) -> (&Path, Placement) {
    let directory = own.directory.as_path();
    let name = |path: &Path| path.file_name().and_then(|name| name.to_str()).map(str::to_owned);
    let is_unit = |path: &Path, kinds: &[&str]| {
        name(path).is_some_and(|name| kinds.iter().any(|kind| name.ends_with(kind)))
    };
    if facts.is_root {
        return (directory, Placement::Root);
    }
    let is_leaf = [Role::Agent, Role::Shim].map(Role::leaf).map(Some);
    if !own.is_mount_root
        && is_leaf.contains(&name(directory).as_deref())
        && let Some(parent) = directory.parent()
        // systemd itself names no cgroup without a suffix: it was asked for this one.
        && (facts.has_workers_beside || is_unit(parent, &[".service", ".scope"]))
    {
        return (parent, Placement::Divided);
    }
    if facts.is_alone && (own.is_mount_root || is_unit(directory, &[".scope"])) {
        return (directory, Placement::Divided);
    }
    (directory, Placement::Shared)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALONE: Facts = Facts { is_root: false, is_alone: true, has_workers_beside: false };
    const CROWDED: Facts = Facts { is_alone: false, ..ALONE };

    fn placed(own: &str, is_mount_root: bool, facts: Facts) -> (String, Placement) {
        let own = Own { directory: own.into(), is_mount_root };
        let (top, placement) = place(&own, facts);
        (top.to_str().unwrap().to_owned(), placement)
    }

    #[test]
    fn in_the_root_nobody_moves() {
        let facts = Facts { is_root: true, ..CROWDED };
        assert_eq!(placed("/c", true, facts), ("/c".into(), Placement::Root));
    }

    #[test]
    fn a_service_is_not_locked_against_its_own_restart() {
        let own = "/c/system.slice/arroyo-node.service";
        assert_eq!(placed(own, false, ALONE), (own.into(), Placement::Shared));
        assert_eq!(placed(own, false, CROWDED), (own.into(), Placement::Shared));
    }

    #[test]
    fn a_subgroup_of_a_unit_leaves_the_unit_free_to_divide() {
        for facts in [ALONE, CROWDED] {
            for leaf in ["agent", "shim"] {
                let unit = "/c/system.slice/arroyo-node.service".to_owned();
                let own = format!("{unit}/{leaf}");
                assert_eq!(placed(&own, false, facts), (unit, Placement::Divided));
            }
        }
    }

    #[test]
    fn a_leaf_is_known_by_the_workers_beside_it() {
        let known = Facts { has_workers_beside: true, ..CROWDED };
        assert_eq!(placed("/c/agent", false, known), ("/c".into(), Placement::Divided));
        assert_eq!(placed("/c/shim", false, known), ("/c".into(), Placement::Divided));
        // An "agent" of somebody else's.
        assert_eq!(placed("/c/agent", false, CROWDED), ("/c/agent".into(), Placement::Shared));
        assert_eq!(placed("/c/other", false, known), ("/c/other".into(), Placement::Shared));
    }

    #[test]
    fn a_container_or_scope_of_its_own_is_divided() {
        assert_eq!(placed("/c", true, ALONE), ("/c".into(), Placement::Divided));
        let scope = "/c/user.slice/user-0.slice/run-u9.scope";
        assert_eq!(placed(scope, false, ALONE), (scope.into(), Placement::Divided));
    }

    #[test]
    fn strangers_are_not_moved() {
        assert_eq!(placed("/c", true, CROWDED), ("/c".into(), Placement::Shared));
        let scope = "/c/user.slice/user-0.slice/session-3.scope";
        assert_eq!(placed(scope, false, CROWDED), (scope.into(), Placement::Shared));
    }

    #[test]
    fn a_name_is_one_path_component() {
        assert_eq!(workers_dir("host-1.example").unwrap(), "arroyo-node-host-1.example");
        for name in ["", "a/b", "a b", "a\n", "ü", &"x".repeat(201)] {
            assert!(matches!(workers_dir(name), Err(Unavailable::Name { .. })), "{name:?}");
        }
    }
}
