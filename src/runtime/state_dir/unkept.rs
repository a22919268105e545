//! A machine id that could not be kept when the agent started, because its disk was full, say; or that
//! was lost meanwhile, with the whole directory. The agent takes work under it once its journal can be
//! written again, and must be called so for as long as there is any of that: so it is kept before that.

use std::{path::PathBuf, sync::Arc};

use super::{lock::Lock, write_machine_id};
use crate::{
    ids::MachineId,
    machine::Commit,
    runtime::{journal::BlockingJournal, ports::JournalError, set_aside::exists},
};

/// A journal that tries to keep the machine id before each commit, until it is kept.
///
/// Work is not refused for it: where a journal can be written but this name cannot, something
/// stands in its place that a person has to look at, and was told of.
pub(super) struct KeepsName {
    pub(super) journal: Box<dyn BlockingJournal>,
    pub(super) path: PathBuf,
    pub(super) id: MachineId,
    pub(super) is_kept: bool,
    /// A journal that hangs may still write when its agent has ended: no other agent before that.
    pub(super) _lock: Arc<Lock>,
}

impl BlockingJournal for KeepsName {
    fn commit(&mut self, commit: &Commit) -> Result<(), JournalError> {
        let Self { path, id, .. } = self;
        if !self.is_kept && write_machine_id(path, id, &mut Vec::new()).is_ok() {
            tracing::info!(machine_id = %id, path = %path.display(), "the machine id is kept now");
            self.is_kept = true;
        }
        let result = self.journal.commit(commit);
        // Whoever took the journal may have taken that as well.
        self.is_kept &= result.is_ok() || exists(&self.path);
        result
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{super::StateDir, *};
    use crate::runtime::journal::MemoryJournal;

    #[test]
    fn a_name_that_could_not_be_kept_is_kept_before_anything_else_is() {
        let dir = tempfile::tempdir().unwrap();
        let obstacle = dir.path().join("machine-id");
        let mut state = StateDir::open(dir.path()).unwrap();
        // Nothing can be renamed to the name of a directory that is not empty.
        fs::remove_file(&obstacle).unwrap();
        fs::create_dir_all(obstacle.join("child")).unwrap();
        state.keep_machine_id(&MachineId::from("node-a"));
        let [notice] = state.notices() else { panic!("{:?}", state.notices()) };
        assert!(notice.0.contains("could not be kept"), "{notice}");

        let mut journal = state.keep_name_before(Box::new(MemoryJournal::default()));
        journal.commit(&Commit::default()).unwrap();
        assert!(obstacle.is_dir());
        fs::remove_dir_all(&obstacle).unwrap();
        journal.commit(&Commit::default()).unwrap();
        drop((state, journal));
        assert_eq!(StateDir::open(dir.path()).unwrap().machine_id().as_str(), "node-a");
    }
}
