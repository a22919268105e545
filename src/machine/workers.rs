//! Workers by id, in a map that costs nothing to copy: each view of the machine has one.

use std::{fmt, ops::Index, sync::Arc};

use rpds::RedBlackTreeMapSync;

use super::worker::Worker;
use crate::ids::WorkerId;

/// Workers by id, at one moment. A clone shares what neither changes.
#[derive(Clone, PartialEq, Default)]
pub struct Workers(RedBlackTreeMapSync<WorkerId, Arc<Worker>>);

impl Workers {
    /// The worker of this id.
    pub fn get(&self, id: WorkerId) -> Option<&Arc<Worker>> {
        self.0.get(&id)
    }

    /// All of them, by id.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Worker>> {
        self.0.values()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.size()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Puts a worker in the place of whoever had its id.
    pub(super) fn insert(&mut self, worker: Arc<Worker>) {
        self.0.insert_mut(worker.id, worker);
    }

    pub(super) fn remove(&mut self, id: WorkerId) -> Option<Arc<Worker>> {
        let worker = self.get(id).cloned()?;
        self.0.remove_mut(&id);
        Some(worker)
    }
}

impl Index<WorkerId> for Workers {
    type Output = Arc<Worker>;

    fn index(&self, id: WorkerId) -> &Arc<Worker> {
        &self.0[&id]
    }
}

impl FromIterator<Arc<Worker>> for Workers {
    fn from_iter<I: IntoIterator<Item = Arc<Worker>>>(workers: I) -> Self {
        Self(workers.into_iter().map(|worker| (worker.id, worker)).collect())
    }
}

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
