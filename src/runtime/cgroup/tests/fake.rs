//! In directories of our own: what is decided, and how it is told. No cgroup, no root.

use std::{
    fs,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use crate::runtime::cgroup::{
    Discovery, Error, Group, Host, Mode, Role, Unavailable, discover, list,
};

/// A computer with a hybrid hierarchy, in a directory.
struct Fake {
    dir: TempDir,
}

impl Fake {
    fn new(cgroup: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let fake = Self { dir };
        let mountinfo = "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        fs::create_dir_all(fake.path("proc")).unwrap();
        fs::write(fake.path("proc/mountinfo"), mountinfo).unwrap();
        fs::write(fake.path("proc/cgroup"), format!("1:cpu:/\n0::{cgroup}\n")).unwrap();
        fake.cgroup(cgroup, "4711\n");
        fake
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path.trim_start_matches('/'))
    }

    /// A cgroup that holds these processes.
    fn cgroup(&self, cgroup: &str, processes: &str) -> PathBuf {
        let path = self.path(&format!("sys/fs/cgroup/unified/{cgroup}"));
        fs::create_dir_all(&path).unwrap();
        for (file, text) in [
            ("cgroup.procs", processes),
            ("cgroup.events", "populated 1\nfrozen 0\n"),
            ("cgroup.type", "domain\n"),
            ("cgroup.kill", ""),
        ] {
            fs::write(path.join(file), text).unwrap();
        }
        path
    }

    fn host(&self) -> Host {
        Host { proc_self: self.path("proc"), root: self.dir.path().to_owned(), pid: 4711 }
    }

    fn reason(&self) -> Unavailable {
        match discover(&self.host(), Mode::Auto, "n", Role::Agent).unwrap() {
            Discovery::Without(reason) => reason,
            Discovery::Ready(subtree) => panic!("nothing is wrong: {subtree:?}"),
        }
    }
}

#[test]
fn off_looks_at_nothing() {
    let host = Host { proc_self: "/nowhere".into(), root: "/nowhere".into(), pid: 1 };
    let found = discover(&host, Mode::Off, "n", Role::Agent).unwrap();
    assert!(matches!(found, Discovery::Without(Unavailable::Off)));
}

#[test]
fn required_is_an_error_where_auto_goes_without() {
    let fake = Fake::new("/unit.service");
    fs::write(fake.path("proc/mountinfo"), "").unwrap();
    assert!(matches!(fake.reason(), Unavailable::NotMounted { .. }));
    let error = discover(&fake.host(), Mode::Required, "n", Role::Agent).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("no cgroup2 file system is mounted (/"), "{text}");
    assert!(text.ends_with("/proc/mountinfo lists none)"), "{text}");
}

#[test]
fn a_process_in_no_v2_cgroup_is_told() {
    let fake = Fake::new("/unit.service");
    fs::write(fake.path("proc/cgroup"), "4:memory:/a\n").unwrap();
    assert!(matches!(fake.reason(), Unavailable::NoMembership { .. }));
}

#[test]
fn a_cgroup_outside_of_the_mount_is_told() {
    let fake = Fake::new("/unit.service");
    fs::write(fake.path("proc/cgroup"), "0::/../other\n").unwrap();
    let text = fake.reason().to_string();
    let expected = "no cgroup2 mount shows this process's cgroup /../other: mounted is / at \
                    /sys/fs/cgroup/unified";
    assert_eq!(text, expected);
}

#[test]
fn a_directory_that_does_not_list_the_process_is_not_its_cgroup() {
    let fake = Fake::new("/unit.service");
    fake.cgroup("/unit.service", "1\n");
    let text = fake.reason().to_string();
    assert!(text.ends_with("cgroup.procs: it does not list this process, 4711"), "{text}");
}

/// A plain directory has no `cgroup.kill`, just like a cgroup before Linux 5.14.
#[test]
fn a_kernel_that_cannot_kill_is_told_and_nothing_is_left() {
    let fake = Fake::new("/unit.service");
    let Unavailable::NoKill { path } = fake.reason() else { panic!("{}", fake.reason()) };
    let workers = fake.path("sys/fs/cgroup/unified/unit.service/arroyo-node-n");
    assert!(path.starts_with(&workers), "{}", path.display());
    assert_eq!(fs::read_dir(&workers).unwrap().count(), 0, "the probe is gone");
}

/// Where a plain file stands in the way of the directory, as for want of permission: the path and
/// the kernel's error are told.
#[test]
fn a_refusal_carries_the_path_and_the_error() {
    let fake = Fake::new("/unit.service");
    let own = fake.path("sys/fs/cgroup/unified/unit.service");
    fs::write(own.join("arroyo-node-n"), "").unwrap();
    let text = fake.reason().to_string();
    assert!(text.contains("/unit.service/arroyo-node-n: File exists (os error 17)"), "{text}");
}

#[test]
fn an_unusable_name_is_told() {
    let fake = Fake::new("/unit.service");
    let found = discover(&fake.host(), Mode::Auto, "../x", Role::Agent).unwrap();
    assert!(matches!(found, Discovery::Without(Unavailable::Name { .. })));
}

fn populate(group: &Path, populated: u32) {
    fs::create_dir_all(group).unwrap();
    fs::write(group.join("cgroup.events"), format!("populated {populated}\nfrozen 0\n")).unwrap();
}

#[test]
fn a_group_in_use_is_not_made_again() {
    let dir = tempfile::tempdir().unwrap();
    populate(&dir.path().join("7"), 1);
    let error = Group::create(dir.path(), "7").unwrap_err();
    assert!(matches!(error, Error::Populated { .. }) && error.is_busy());
    assert!(error.to_string().ends_with("/7 is there already and holds processes"), "{error}");
}

#[test]
fn a_worker_id_cannot_leave_its_directory() {
    let dir = tempfile::tempdir().unwrap();
    for id in ["", "..", "a/b", "cgroup.procs", "probe.1", "7 ", "a\0"] {
        assert!(matches!(Group::create(dir.path(), id), Err(Error::Name { .. })), "{id:?}");
        assert!(matches!(Group::open(dir.path(), id), Err(Error::Name { .. })), "{id:?}");
    }
}

#[test]
fn groups_are_listed_without_files_and_probes() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["18", "7", "probe.1"] {
        fs::create_dir(dir.path().join(name)).unwrap();
    }
    fs::write(dir.path().join("cgroup"), "").unwrap();
    assert_eq!(list(dir.path()).unwrap(), ["18", "7"]);
    assert!(list(&dir.path().join("none")).unwrap().is_empty());
    assert!(Group::open(dir.path(), "7").unwrap().is_some());
    assert!(Group::open(dir.path(), "8").unwrap().is_none());
    assert!(Group::open(dir.path(), "cgroup").unwrap().is_none(), "a file");
}

#[test]
fn a_group_that_is_gone_is_empty_dead_and_removed() {
    let dir = tempfile::tempdir().unwrap();
    let group = Group::create(dir.path(), "7").unwrap();
    fs::remove_dir(group.path()).unwrap();
    assert!(!group.is_populated().unwrap());
    assert_eq!(group.oom_kills().unwrap(), None);
    assert!(group.processes().unwrap().is_empty());
    group.kill().unwrap();
    group.remove().unwrap();
    assert_eq!(group.directory().unwrap_err().raw_os_error(), Some(libc::ENOENT));
    assert_eq!(group.events().unwrap_err().raw_os_error(), Some(libc::ENOENT));
}

#[test]
fn nested_groups_count() {
    let dir = tempfile::tempdir().unwrap();
    let group = Group::create(dir.path(), "7").unwrap();
    let below = group.path().join("a/b");
    fs::create_dir_all(&below).unwrap();
    fs::write(group.path().join("cgroup.procs"), "1\n0\n").unwrap();
    fs::write(group.path().join("a/cgroup.procs"), "").unwrap();
    fs::write(below.join("cgroup.procs"), "2\n3\n").unwrap();
    let mut processes = group.processes().unwrap();
    processes.sort_unstable();
    assert_eq!(processes, [1, 2, 3]);
}
