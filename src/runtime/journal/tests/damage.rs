//! Files that are no journal, and journals that are no longer in order.

use std::os::unix::fs::{PermissionsExt, symlink};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

/// Opens what must be set aside, sees that it was and that the journal works, and returns why.
fn opens_anew(dir: &Dir) -> String {
    let (mut journal, recovered, notices) = open(&dir.journal());
    assert_eq!(recovered, Recovered::default());
    let [Notice(text)] = &notices[..] else { panic!("{notices:?}") };
    assert!(text.contains(&format!("was set aside as {}", dir.path(ASIDE).display())), "{text}");
    assert!(dir.path(ASIDE).symlink_metadata().is_ok());
    journal.commit(&writes([worker(7)])).unwrap();
    drop(journal);
    assert_eq!(ids(&reopen(&dir.journal())), [7]);
    text.clone()
}

fn with_one_worker(dir: &Dir) {
    let (mut journal, ..) = open(&dir.journal());
    journal.commit(&writes([worker(1)])).unwrap();
}

#[test]
fn garbage_is_set_aside_untouched() {
    let dir = Dir::new();
    let garbage = b"not a database. ".repeat(1_000);
    fs::write(dir.journal(), &garbage).unwrap();
    let text = opens_anew(&dir);
    assert!(text.contains("file is not a database"), "{text}");
    assert_eq!(fs::read(dir.path(ASIDE)).unwrap(), garbage);
}

#[test]
fn another_programs_database_is_set_aside() {
    let dir = Dir::new();
    sqlite(&dir.journal())
        .execute_batch(
            "PRAGMA application_id = 7; CREATE TABLE theirs (a); INSERT INTO theirs VALUES (1)",
        )
        .unwrap();
    let text = opens_anew(&dir);
    assert!(text.contains("application id 7"), "{text}");
    let theirs: i64 =
        sqlite(&dir.path(ASIDE)).query_row("SELECT a FROM theirs", (), |row| row.get(0)).unwrap();
    assert_eq!(theirs, 1);
}

#[test]
fn a_database_without_any_mark_is_not_taken_over() {
    let dir = Dir::new();
    sqlite(&dir.journal()).execute_batch("CREATE TABLE theirs (a)").unwrap();
    opens_anew(&dir);
}

#[test]
fn a_newer_version_is_set_aside_with_its_log() {
    let dir = Dir::new();
    with_one_worker(&dir);
    let newer = sqlite(&dir.journal());
    newer.execute_batch("PRAGMA user_version = 3").unwrap();
    assert!(log_length(&dir.journal()) > 0);
    let text = opens_anew(&dir);
    assert!(text.contains("it has version 3, and this agent knows versions 1 to 2"), "{text}");
    assert!(log_length(&dir.path(ASIDE)) > 0);
    drop(newer);
    // A downgrade is a detour: the newer agent still finds everything where the notice says.
    let aside = sqlite(&dir.path(ASIDE));
    let version: i64 = aside.query_row("PRAGMA user_version", (), |row| row.get(0)).unwrap();
    let workers: i64 =
        aside.query_row("SELECT count(*) FROM worker", (), |row| row.get(0)).unwrap();
    assert_eq!((version, workers), (3, 1));
}

#[test]
fn whatever_is_in_the_way_is_set_aside() {
    let dir = Dir::new();
    fs::create_dir_all(dir.path("journal.sqlite/child")).unwrap();
    opens_anew(&dir);

    let dir = Dir::new();
    symlink("nowhere", dir.journal()).unwrap();
    opens_anew(&dir);

    let dir = Dir::new();
    nix::unistd::mkfifo(&dir.journal(), nix::sys::stat::Mode::S_IRWXU).unwrap();
    opens_anew(&dir);
}

#[test]
fn what_is_in_the_way_of_the_log_goes_but_not_the_workers() {
    for suffix in ["-wal", "-shm"] {
        let dir = Dir::new();
        with_one_worker(&dir);
        fs::create_dir_all(dir.path(&format!("journal.sqlite{suffix}/child"))).unwrap();
        let (mut journal, recovered, notices) = open(&dir.journal());
        assert_eq!(ids(&recovered), [1], "{notices:?}");
        assert_eq!(notices.len(), 1, "{suffix}: {notices:?}");
        assert!(dir.path(&format!("{ASIDE}{suffix}/child")).is_dir());
        journal.commit(&writes([worker(2)])).unwrap();
        drop(journal);
        assert_eq!(ids(&reopen(&dir.journal())), [1, 2]);
    }
}

#[test]
fn a_log_without_its_database_is_not_deleted() {
    for empty_database in [false, true] {
        let dir = Dir::new();
        let after = Dir::new();
        let (mut journal, ..) = open(&dir.journal());
        journal.commit(&writes([worker(1)])).unwrap();
        after.copy_from(&dir.journal());
        let log = fs::read(after.path("journal.sqlite-wal")).unwrap();
        fs::remove_file(after.journal()).unwrap();
        if empty_database {
            fs::write(after.journal(), "").unwrap();
        }
        let (_journal, recovered, notices) = open(&after.journal());
        assert_eq!(recovered, Recovered::default());
        assert_eq!(notices.len(), 1);
        assert_eq!(fs::read(after.path(&format!("{ASIDE}-wal"))).unwrap(), log);
    }
}

#[test]
fn a_journal_that_may_not_be_read_is_set_aside() {
    let dir = Dir::new();
    with_one_worker(&dir);
    if nix::unistd::geteuid().is_root() {
        eprintln!("skipped: root may read everything");
        return;
    }
    // Its owner can help itself, so this takes a directory's permission, not the file's.
    fs::set_permissions(dir.journal(), PermissionsExt::from_mode(0o000)).unwrap();
    assert_eq!(ids(&reopen(&dir.journal())), [1]);
}

#[test]
fn the_file_is_for_its_owner_only() {
    let dir = Dir::new();
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let (mut journal, ..) = open(&dir.journal());
    journal.commit(&writes([worker(1)])).unwrap();
    for suffix in ["", "-wal", "-shm"] {
        assert_eq!(mode(dir.path(&format!("journal.sqlite{suffix}"))), 0o600, "{suffix}");
    }
    drop(journal);
    fs::set_permissions(dir.journal(), PermissionsExt::from_mode(0o644)).unwrap();
    reopen(&dir.journal());
    assert_eq!(mode(dir.journal()), 0o600);
}

#[test]
fn a_row_that_makes_no_sense_does_not_hide_the_others() {
    let changes = [
        "generation = 'three'",
        "slots = 0",
        "job = NULL",
        "job = x'ff'",
        "name = CAST(x'ff' AS TEXT)",
        "dialect = '0.17'",
        "exit = 'code'",
        "pid = NULL",
        "kill_at = 5",
        "abandoned_at = 5",
        "abandoned_at = 'long ago'",
        "end_sequence = 5",
        "worker_id = 'x'",
        "generation = generation + 1",
        "checksum = NULL",
    ];
    for change in changes {
        let dir = Dir::new();
        let (mut journal, ..) = open(&dir.journal());
        journal.commit(&writes([worker(1), worker(2), worker(3)])).unwrap();
        drop(journal);
        sqlite(&dir.journal())
            .execute_batch(&format!("UPDATE worker SET {change} WHERE worker_id = '2'"))
            .unwrap();

        let (_journal, recovered, notices) = open(&dir.journal());
        assert_eq!(ids(&recovered), [1, 3], "{change}");
        let [Notice(text)] = &notices[..] else { panic!("{change}: {notices:?}") };
        assert!(text.contains("wordcount") || change.starts_with("name"), "{text}");
        let kept: i64 = sqlite(&dir.journal())
            .query_row(
                "SELECT count(*) FROM rejected WHERE rejected_at = ? AND reason LIKE '%checksum%'",
                [NOW.0 as i64],
                |row| row.get(0),
            )
            .unwrap();
        assert_eq!(kept, 1, "{change}");
        assert_eq!(ids(&reopen(&dir.journal())), [1, 3], "{change}: rejected once only");
    }
}

#[test]
fn a_journal_with_other_tables_is_set_aside() {
    let dir = Dir::new();
    with_one_worker(&dir);
    sqlite(&dir.journal()).execute_batch("ALTER TABLE worker DROP COLUMN slots").unwrap_or_else(
        |_| {
            sqlite(&dir.journal()).execute_batch("DROP TABLE worker").unwrap();
        },
    );
    opens_anew(&dir);
}

/// A journal of some size whose log is empty, and one whose log is not.
fn to_be_damaged(commits: &[Commit], checkpoint: bool) -> (Dir, SqliteJournal) {
    let dir = Dir::new();
    let (mut journal, ..) = open(&dir.journal());
    for commit in commits {
        journal.commit(commit).unwrap();
    }
    if checkpoint {
        journal.checkpoint().unwrap();
    }
    (dir, journal)
}

fn flip_bits(path: &Path, random: &mut ChaCha8Rng) {
    let mut bytes = fs::read(path).unwrap();
    for _ in 0..random.random_range(1..=3) {
        let at = random.random_range(0..bytes.len());
        bytes[at] ^= 1 << random.random_range(0..8);
    }
    fs::write(path, bytes).unwrap();
}

#[test]
fn flipped_bits_are_never_believed() {
    let ended: Vec<_> = (100..140).map(ended).collect();
    let commits: Vec<_> = ended.iter().map(|worker| writes([worker.clone()])).collect();
    let (dir, _journal) = to_be_damaged(&commits, true);
    let after = Dir::new();
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let (mut whole, mut rejected, mut set_aside) = (0, 0, 0);
    for flip in 0..1_000 {
        after.copy_from(&dir.journal());
        flip_bits(&after.journal(), &mut random);
        let (mut journal, recovered, notices) = open(&after.journal());

        for worker in &recovered.workers {
            assert!(ended.contains(worker), "flip {flip}: {worker:?} was never written");
        }
        let missing = ended.len() - recovered.workers.len();
        match notices.len() {
            _ if after.path(ASIDE).exists() => set_aside += 1,
            0 => whole += 1,
            _ => rejected += 1,
        }
        assert!(missing <= notices.len() || after.path(ASIDE).exists(), "flip {flip}: {notices:?}");
        // Whatever it was, work goes on: at once, or after the machine has written everything.
        if journal.commit(&writes([worker(1)])).is_err() {
            journal.commit(&rewrites([worker(1)])).unwrap();
        }
        drop(journal);
        for name in fs::read_dir(after.0.path()).unwrap() {
            fs::remove_file(name.unwrap().path()).unwrap();
        }
    }
    assert!(whole > 0 && rejected > 0 && set_aside > 0, "{whole} {rejected} {set_aside}");
}

#[test]
fn a_flipped_bit_in_the_log_ends_it_there() {
    let commits: Vec<_> = (1..12).map(|id| writes([worker(id)])).collect();
    let (dir, _journal) = to_be_damaged(&commits, false);
    let states = states(&commits);
    let after = Dir::new();
    let mut random = ChaCha8Rng::seed_from_u64(2);
    for flip in 0..500 {
        after.copy_from(&dir.journal());
        flip_bits(&after.path("journal.sqlite-wal"), &mut random);
        let recovered = reopen(&after.journal());
        assert!(states.contains(&recovered), "flip {flip}: {recovered:?}");
    }
}

#[test]
fn a_journal_that_is_deleted_or_moved_is_made_anew() {
    let dir = Dir::new();
    let (mut journal, ..) = open(&dir.journal());
    journal.commit(&writes([worker(1), worker(2)])).unwrap();
    fs::remove_file(dir.journal()).unwrap();

    // One row is not enough for a new file to say everything that the old one said.
    let error = journal.commit(&writes([worker(3)])).unwrap_err();
    assert!(error.0.contains("waits for everything"), "{error}");
    journal.commit(&rewrites([worker(1), worker(2), worker(3)])).unwrap();
    journal.commit(&writes([worker(4)])).unwrap();
    drop(journal);
    assert_eq!(ids(&reopen(&dir.journal())), [1, 2, 3, 4]);
}

#[test]
fn a_journal_that_is_deleted_with_its_directory_is_made_anew() {
    let dir = Dir::new();
    let path = dir.path("state/journal.sqlite");
    fs::create_dir(dir.path("state")).unwrap();
    let (mut journal, ..) = open(&path);
    journal.commit(&writes([worker(1), worker(2)])).unwrap();
    fs::remove_dir_all(dir.path("state")).unwrap();
    journal.commit(&writes([worker(3)])).unwrap_err();
    journal.commit(&rewrites([worker(1), worker(2), worker(3)])).unwrap();
    drop(journal);
    assert_eq!(ids(&reopen(&path)), [1, 2, 3]);
}

#[test]
fn a_journal_that_takes_its_place_is_not_written_over() {
    let dir = Dir::new();
    let backup = Dir::new();
    let (mut other, ..) = open(&backup.journal());
    other.commit(&writes([worker(7)])).unwrap();

    let (mut journal, ..) = open(&dir.journal());
    journal.commit(&writes([worker(1)])).unwrap();
    for suffix in ["", "-wal"] {
        let name = format!("journal.sqlite{suffix}");
        fs::copy(backup.path(&name), dir.path("copy")).unwrap();
        fs::rename(dir.path("copy"), dir.path(&name)).unwrap();
    }
    journal.commit(&writes([worker(2)])).unwrap_err();
    journal.commit(&rewrites([worker(1), worker(2)])).unwrap();
    drop(journal);
    assert_eq!(ids(&reopen(&dir.journal())), [1, 2]);
    assert_eq!(ids(&reopen(&dir.path(ASIDE))), [7]);
}

#[test]
fn a_journal_that_was_never_read_is_not_written_over() {
    let dir = Dir::new();
    let path = dir.path("unmounted/journal.sqlite");
    let (mut journal, recovered, notices) = open(&path);
    assert_eq!((recovered, notices.len()), (Recovered::default(), 1));
    journal.commit(&writes([worker(1)])).unwrap_err();

    let earlier = Dir::new();
    with_one_worker(&earlier);
    fs::create_dir(dir.path("unmounted")).unwrap();
    fs::copy(earlier.journal(), &path).unwrap();
    journal.commit(&rewrites([worker(2)])).unwrap();
    drop(journal);
    assert_eq!(ids(&reopen(&path)), [2]);
    let aside = fs::read(dir.path("unmounted").join(ASIDE)).unwrap();
    assert_eq!(aside, fs::read(earlier.journal()).unwrap());
}
