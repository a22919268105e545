//! Any rows, and any damage, in a journal that an agent finds: opening it never fails, what makes
//! no sense is set aside, and the machine goes on from the rest; what it then holds is what the next
//! agent finds.
//!
//! ```text
//!  Input ─▶ journal.sqlite ─▶ SqliteJournal::open ─▶ Recovered ─▶ Machine ─▶ its whole life
//!                                    ▲                               │ commits
//!                                    └─────── the next agent ◀───────┘
//! ```

mod file;
mod life;
mod row;

use std::collections::BTreeSet;

use arbitrary::{Arbitrary, Unstructured};
use arroyo_node::{
    ids::WorkerId,
    machine::{Recovered, Wall},
    runtime::journal::{Checkpoints, SqliteJournal},
};

use file::Damage;
use row::{Cell, Row};

/// The boot of the machine (the computer) that the agent runs under.
const BOOT: &str = "this boot";

/// What an agent finds.
#[derive(Debug, Arbitrary)]
struct Input {
    rows: Vec<Row>,
    /// Name and value of the table `node`.
    facts: Vec<(Cell, Cell)>,
    damage: Option<Damage>,
    /// What becomes of the workers, one bit each.
    fates: u64,
}

/// Makes a journal of `bytes`, and lets two agents live on it.
pub fn journal(bytes: &[u8]) {
    let Ok(input) = Input::arbitrary_take_rest(Unstructured::new(bytes)) else { return };
    let dir = tempfile::tempdir().expect("a directory for temporary files");
    let path = dir.path().join("journal.sqlite");
    file::write(&path, &input.rows, &input.facts, input.damage.as_ref());

    let open = || SqliteJournal::open(&path, BOOT, Wall(2), Checkpoints::Manual);
    let (mut journal, recovered, notices) = open();
    plausible(&recovered);
    if input.damage.is_none() {
        let read = i64::try_from(recovered.workers.len()).expect("a few");
        assert_eq!(
            read,
            file::count(&path),
            "rows that were not read are still there: {notices:?}"
        );
    }
    let left = life::live(recovered, &mut journal, input.fates);
    drop(journal);
    let (_, found, notices) = open();
    if input.damage.is_none() {
        // Facts that make no sense stay where they are.
        assert!(notices.len() <= input.facts.len(), "{notices:?}");
    }
    if let Some(left) = left {
        assert_eq!((found.workers, found.draining), (left.workers, left.draining));
        assert_eq!(found.known_at, left.known_at);
    }
}

/// What every reader of the journal takes for granted.
fn plausible(recovered: &Recovered) {
    let ids: BTreeSet<WorkerId> = recovered.workers.iter().map(|worker| worker.id).collect();
    assert_eq!(ids.len(), recovered.workers.len(), "two rows are of one worker");
    for worker in &recovered.workers {
        assert!(worker.reported_at.is_none() || worker.end.is_some(), "{worker:?}");
        assert!(worker.is_live() || !recovered.lost.contains(&worker.id), "{worker:?}");
    }
    assert!(recovered.lost.is_subset(&ids));
    assert!(recovered.unwritten.is_empty());
}
