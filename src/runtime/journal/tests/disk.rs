//! Disks that are full, read-only or limited: commits fail with SQLite's words, and succeed again by
//! themselves.

use std::{env, process::Command, thread};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::{
        resource::{Resource, getrlimit, setrlimit},
        signal::{SigHandler, Signal, signal},
    },
};

use super::*;

#[test]
fn a_database_that_may_not_grow_is_full_until_it_may() {
    let dir = Dir::new();
    let (mut journal, ..) = open(&dir.journal());
    journal.commit(&writes([worker(1)])).unwrap();
    let super::super::State::Open(store) = &journal.state else { panic!("not open") };
    store.connection().pragma_update(None, "max_page_count", 1).unwrap();
    let many = || Commit {
        rewrite: false,
        records: (0..500).map(|id| Record::Worker(worker(id).into())).collect(),
    };
    let error = journal.commit(&many()).unwrap_err();
    assert!(error.0.contains("database or disk is full"), "{error}");
    assert_eq!(ids(&reopen(&dir.journal())), [1]);

    let super::super::State::Open(store) = &journal.state else { panic!("a full disk closed it") };
    store.connection().pragma_update(None, "max_page_count", 1_000_000).unwrap();
    journal.commit(&many()).unwrap();
    assert_eq!(reopen(&dir.journal()).workers.len(), 500);
}

/// In a process of its own, since the limit is one of processes.
#[test]
fn a_write_that_the_kernel_refuses_breaks_nothing() {
    const CHILD: &str = "ARROYO_NODE_TEST_LIMITED_CHILD";
    if env::var_os(CHILD).is_some() {
        return under_a_file_size_limit();
    }
    let name = thread::current().name().unwrap().to_owned();
    let child = Command::new(env::current_exe().unwrap())
        .args(["--exact", &name, "--nocapture"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
    assert!(String::from_utf8_lossy(&child.stdout).contains("1 passed"));
}

fn under_a_file_size_limit() {
    // SAFETY: ignoring a signal installs no handler.
    unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) }.unwrap();
    let (_, hard) = getrlimit(Resource::RLIMIT_FSIZE).unwrap();
    let dir = Dir::new();
    let (mut journal, ..) = open(&dir.journal());
    journal.commit(&writes([worker(0)])).unwrap();
    setrlimit(Resource::RLIMIT_FSIZE, 8_192, hard).unwrap();
    let written = (1..1_000).find(|&id| journal.commit(&writes([worker(id)])).is_err()).unwrap();
    for _ in 0..3 {
        let error = journal.commit(&rewrites([worker(5_000)])).unwrap_err();
        assert!(error.0.contains("I/O error") || error.0.contains("full"), "{error}");
    }
    setrlimit(Resource::RLIMIT_FSIZE, hard, hard).unwrap();
    journal.commit(&writes([worker(6_000)])).unwrap();
    drop(journal);
    let recovered = ids(&reopen(&dir.journal()));
    assert_eq!(recovered, (0..written).chain([6_000]).collect::<Vec<_>>());
}

/// Runs a test on a file system of this kind that only the test's thread sees, and that goes with
/// it. Only root can.
fn on_tmpfs(options: &'static str, test: impl FnOnce(&Path) + Send + 'static) {
    let run = move || {
        if let Err(error) = unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_FS) {
            eprintln!("skipped: no mount namespace of one's own ({error})");
            return;
        }
        let none = None::<&str>;
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(none, "/", none, private, none).unwrap();
        let dir = tempfile::tempdir().unwrap();
        mount(Some("test"), dir.path(), Some("tmpfs"), MsFlags::empty(), Some(options)).unwrap();
        test(dir.path());
        nix::mount::umount2(dir.path(), nix::mount::MntFlags::MNT_DETACH).unwrap();
    };
    thread::spawn(run).join().unwrap();
}

fn fill(dir: &Path) {
    let mut filler = fs::File::create(dir.join("filler")).unwrap();
    while std::io::Write::write_all(&mut filler, &[0; 512]).is_ok() {}
}

#[test]
fn a_disk_that_fills_up_fails_commits_until_there_is_room() {
    on_tmpfs("size=1m", |dir| {
        let path = dir.join("journal.sqlite");
        let (mut journal, ..) = SqliteJournal::open(&path, BOOT, NOW, Checkpoints::Thread);
        journal.commit(&writes([worker(1)])).unwrap();
        fill(dir);
        let written = (2..1_000).find(|&id| journal.commit(&writes([worker(id)])).is_err());
        let written = written.expect("the disk is full");
        for _ in 0..3 {
            let error = journal.commit(&rewrites([worker(1)])).unwrap_err();
            assert!(error.0.contains("full"), "{error}");
        }
        fs::remove_file(dir.join("filler")).unwrap();
        journal.commit(&writes([worker(2_000)])).unwrap();
        drop(journal);
        assert_eq!(ids(&reopen(&path)), (1..written).chain([2_000]).collect::<Vec<_>>());
    });
}

/// What an agent leaves that ends in order, that is killed, and that loses power.
const CLOSED: &[&str] = &[""];
const KILLED: &[&str] = &["", "-wal", "-shm"];
const NO_POWER: &[&str] = &["", "-wal"];

/// Whatever an agent finds at its start and cannot write to is read all the same, and written once
/// it can be.
fn is_read_at_the_start(left: &'static [&'static str], hinder: fn(&Path), relieve: fn(&Path)) {
    on_tmpfs("size=1m,nr_inodes=16", move |dir| {
        let source = Dir::new();
        let (mut journal, ..) = open(&source.journal());
        let records = (1..20).map(|id| Record::Worker(worker(id).into())).collect();
        journal.commit(&Commit { rewrite: false, records }).unwrap();
        if left == CLOSED {
            drop(journal);
        }
        for suffix in left {
            let name = format!("journal.sqlite{suffix}");
            fs::copy(source.path(&name), dir.join(&name)).unwrap();
        }
        hinder(dir);
        let path = dir.join("journal.sqlite");
        let (mut journal, recovered, notices) = open(&path);
        assert_eq!(ids(&recovered), (1..20).collect::<Vec<_>>(), "{notices:?}");
        assert_eq!(notices.len(), 1, "{notices:?}");
        journal.commit(&writes([worker(20)])).unwrap_err();
        relieve(dir);
        journal.commit(&writes([worker(20)])).unwrap();
        drop(journal);
        assert_eq!(ids(&reopen(&path)), (1..=20).collect::<Vec<_>>());
    });
}

#[test]
fn on_a_full_disk() {
    for left in [CLOSED, NO_POWER] {
        is_read_at_the_start(left, fill, |dir| fs::remove_file(dir.join("filler")).unwrap());
    }
}

#[test]
fn on_a_disk_that_takes_no_more_files() {
    for left in [CLOSED, NO_POWER] {
        is_read_at_the_start(
            left,
            |dir| {
                while fs::create_dir(dir.join(format!("dir{}", fs::read_dir(dir).unwrap().count())))
                    .is_ok()
                {}
            },
            |dir| {
                for entry in fs::read_dir(dir).unwrap() {
                    let _ = fs::remove_dir(entry.unwrap().path());
                }
            },
        );
    }
}

fn remount(dir: &Path, flags: MsFlags) {
    mount(None::<&str>, dir, None::<&str>, MsFlags::MS_REMOUNT | flags, None::<&str>).unwrap();
}

#[test]
fn on_a_read_only_disk() {
    for left in [CLOSED, KILLED] {
        is_read_at_the_start(
            left,
            |dir| remount(dir, MsFlags::MS_RDONLY),
            |dir| remount(dir, MsFlags::empty()),
        );
    }
}

#[test]
fn a_damaged_journal_on_a_read_only_disk_waits() {
    on_tmpfs("size=1m", |dir| {
        let path = dir.join("journal.sqlite");
        fs::write(&path, "not a database. ".repeat(1_000)).unwrap();
        remount(dir, MsFlags::MS_RDONLY);
        let (mut journal, recovered, notices) = open(&path);
        assert_eq!((recovered, notices.len()), (Recovered::default(), 1));
        let error = journal.commit(&writes([worker(1)])).unwrap_err();
        assert!(error.0.contains("Read-only file system"), "{error}");
        remount(dir, MsFlags::empty());
        journal.commit(&rewrites([worker(1)])).unwrap();
        drop(journal);
        assert_eq!(ids(&reopen(&path)), [1]);
        assert!(dir.join(ASIDE).exists());
    });
}

#[test]
fn where_no_new_journal_can_be_made_the_old_one_keeps_its_place() {
    on_tmpfs("size=1m", |dir| {
        let path = dir.join("journal.sqlite");
        let garbage = "not a database. ".repeat(1_000);
        fs::write(&path, &garbage).unwrap();
        fill(dir);
        let (_journal, _, notices) = open(&path);
        assert_eq!(notices.len(), 1, "{notices:?}");
        assert_eq!(fs::read_to_string(&path).unwrap(), garbage);
        assert_eq!(fs::read_dir(dir).unwrap().count(), 2, "the journal, and what fills the disk");
    });
}
