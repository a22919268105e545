//! Where the cgroup v2 hierarchy is mounted, and where in it this process is.
//!
//! ```text
//!  /proc/self/mountinfo   … /docker/1f /sys/fs/cgroup rw,… - cgroup2 …   mount: root, point
//!  /proc/self/cgroup      0::/docker/1f/agent                            membership
//!                         ─▶ /sys/fs/cgroup/agent                        locate()
//! ```

use std::path::{Path, PathBuf};

/// One mount of a cgroup2 file system.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Mount {
    /// The cgroup that is seen at the mount point; `/` unless a part was bind-mounted, or the
    /// process is outside of the cgroup namespace in which it was mounted.
    pub(super) root: String,
    pub(super) point: PathBuf,
}

/// The cgroup2 mounts, in the order of the list. Of two at one point the later hides the earlier.
pub(super) fn parse_mountinfo(text: &str) -> Vec<Mount> {
    let mut mounts: Vec<Mount> = Vec::new();
    for line in text.lines() {
        let Some((point, mount)) = parse_mount(line) else { continue };
        mounts.retain(|mount| mount.point != point);
        mounts.extend(mount);
    }
    mounts
}

/// "id parent major:minor root point options [tag…] - type source options". The point of any
/// mount, and the mount if it is of cgroup2.
fn parse_mount(line: &str) -> Option<(PathBuf, Option<Mount>)> {
    let (first, second) = line.split_once(" - ")?;
    let mut fields = first.split(' ').skip(3);
    let root = unescape(fields.next()?);
    let point = PathBuf::from(unescape(fields.next()?));
    let kind = second.split(' ').next()?;
    let mount = (kind == "cgroup2").then(|| Mount { root, point: point.clone() });
    Some((point, mount))
}

/// Space, tab, newline and backslash are written as a backslash and three octal digits.
fn unescape(field: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .into_iter()
        .fold(field.to_owned(), |text, (code, plain)| text.replace(code, plain))
}

/// The path of this process's v2 cgroup, from its cgroup namespace's root.
pub(super) fn parse_membership(text: &str) -> Option<&str> {
    // The kernel adds this to the path of a cgroup that was removed under a zombie.
    let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    Some(path.strip_suffix(" (deleted)").unwrap_or(path))
}

/// The mount that shows this cgroup, and the cgroup's directory below the mount point.
/// `None`: it is outside of all of them.
pub(super) fn locate<'m>(mounts: &'m [Mount], cgroup: &str) -> Option<(&'m Mount, PathBuf)> {
    mounts.iter().find_map(|mount| {
        let below = Path::new(cgroup).strip_prefix(&mount.root).ok()?;
        // A cgroup outside of the namespace is told as "/../…".
        let outside = below.components().any(|part| part.as_os_str() == "..");
        (!outside).then(|| (mount, mount.point.join(below)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIFIED: &str = "\
22 27 0:20 / /proc rw,nosuid - proc proc rw
30 22 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 \
rw,nsdelegate,memory_recursiveprot
";
    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    fn mount(root: &str, point: &str) -> Mount {
        Mount { root: root.to_owned(), point: point.into() }
    }

    fn place(mounts: &str, cgroup: &str) -> Option<PathBuf> {
        let mounts = parse_mountinfo(mounts);
        locate(&mounts, parse_membership(cgroup).unwrap()).map(|(_, directory)| directory)
    }

    #[test]
    fn the_unified_hierarchy_is_found() {
        assert_eq!(parse_mountinfo(UNIFIED), [mount("/", "/sys/fs/cgroup")]);
        let place = place(UNIFIED, "0::/system.slice/arroyo-node.service\n");
        let expected = "/sys/fs/cgroup/system.slice/arroyo-node.service";
        assert_eq!(place, Some(expected.into()));
    }

    #[test]
    fn the_hybrid_hierarchy_is_found_beside_v1() {
        assert_eq!(parse_mountinfo(HYBRID), [mount("/", "/sys/fs/cgroup/unified")]);
        let cgroups = "9:name=systemd:/a\n4:memory:/process_api/4f08f\n1:cpu:/\n0::/\n";
        assert_eq!(place(HYBRID, cgroups), Some("/sys/fs/cgroup/unified".into()));
    }

    #[test]
    fn v1_alone_is_none() {
        let v1: String = HYBRID.lines().filter(|line| !line.contains("cgroup2")).collect();
        assert_eq!(parse_mountinfo(&v1), []);
        assert_eq!(parse_membership("4:memory:/a\n1:name=systemd:/b\n"), None);
        assert_eq!(parse_membership(""), None);
        assert_eq!(parse_mountinfo("half a line\n1 2 3\n - cgroup2 x\n"), []);
    }

    #[test]
    fn a_container_without_a_cgroup_namespace_sees_a_part() {
        let text = "700 690 0:26 /docker/1f /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw\n";
        let inside = place(text, "0::/docker/1f/agent\n");
        assert_eq!(inside, Some("/sys/fs/cgroup/agent".into()));
        assert_eq!(place(text, "0::/docker/1f\n"), Some("/sys/fs/cgroup".into()));
        assert_eq!(place(text, "0::/docker/1fe\n"), None, "a sibling with a longer name");
        assert_eq!(place(text, "0::/\n"), None, "in a namespace, but the mount is from outside");
    }

    #[test]
    fn a_nested_container_is_at_its_root() {
        let text = "900 880 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup rw,nsdelegate\n";
        assert_eq!(place(text, "0::/\n"), Some("/sys/fs/cgroup".into()));
        assert_eq!(place(text, "0::/../other\n"), None, "moved out of its own namespace");
    }

    #[test]
    fn the_mount_that_shows_the_process_is_taken() {
        let text = "\
40 31 0:38 /lxc/a /mnt/a rw - cgroup2 none rw
41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 none rw
";
        assert_eq!(place(text, "0::/b\n"), Some("/sys/fs/cgroup/unified/b".into()));
        assert_eq!(place(text, "0::/lxc/a/b\n"), Some("/mnt/a/b".into()));
    }

    #[test]
    fn a_mount_that_another_hides_is_not_taken() {
        let text = format!("{UNIFIED}50 30 0:40 / /sys/fs/cgroup ro - tmpfs tmpfs ro\n");
        assert_eq!(parse_mountinfo(&text), []);
    }

    #[test]
    fn escapes_and_deletion_are_undone() {
        let text = "41 31 0:38 /a\\040b /mnt/x\\134040y\\011 rw - cgroup2 none rw\n";
        assert_eq!(parse_mountinfo(text), [mount("/a b", "/mnt/x\\040y\t")]);
        assert_eq!(parse_membership("0::/a (deleted)\n"), Some("/a"));
    }
}
