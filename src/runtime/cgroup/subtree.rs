//! The part of the hierarchy that this node divides among its workers.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process,
};

use super::{
    core::{self, Controller},
    delegation::Role,
    error::{Result, Unavailable},
    group::{self, Group, make_dir},
};

/// Names of groups that only try what is allowed; never a worker's, which has no dot.
const PROBE_PREFIX: &str = "probe.";

/// How `top` is used. See the table in [`discover`](super::discover)'s module.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Placement {
    /// `top` is the root of the hierarchy, where processes and controllers may be together.
    /// Which controllers it passes on is the computer's affair, and stays as it is.
    Root,
    /// Processes are in leaves of `top`, and it passes controllers on.
    Divided,
    /// `top` holds processes, and so passes no controllers on.
    Shared,
}

/// A directory for workers' groups, found and prepared by [`discover`](super::discover).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Subtree {
    top: PathBuf,
    workers: PathBuf,
    placement: Placement,
    available: BTreeSet<Controller>,
    enabled: BTreeSet<Controller>,
    notes: Vec<String>,
}

impl Subtree {
    pub(super) fn prepare(
        top: PathBuf,
        workers_dir: &str,
        placement: Placement,
        role: Role,
    ) -> std::result::Result<Self, Unavailable> {
        let workers = top.join(workers_dir);
        make_dir(&workers)?;
        // Before this process moves: one that will not use the subtree stays where it is.
        probe(&top, &workers)?;
        let available = core::available(&top)?;
        let enabled = BTreeSet::new();
        let mut subtree = Self { top, workers, placement, available, enabled, notes: Vec::new() };
        if placement == Placement::Divided {
            subtree.enter_leaf(role);
        }
        subtree.enable();
        Ok(subtree)
    }

    /// The cgroup that was delegated to this node.
    #[must_use]
    pub fn top(&self) -> &Path {
        &self.top
    }

    /// The directory of the workers' groups.
    #[must_use]
    pub fn workers(&self) -> &Path {
        &self.workers
    }

    /// How `top` is used.
    #[must_use]
    pub fn placement(&self) -> Placement {
        self.placement
    }

    /// The controllers that `top` has.
    #[must_use]
    pub fn available(&self) -> &BTreeSet<Controller> {
        &self.available
    }

    /// The controllers that workers' groups have.
    #[must_use]
    pub fn enabled(&self) -> &BTreeSet<Controller> {
        &self.enabled
    }

    /// What could not be done though one might expect it, each in one sentence for the log.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Makes the group of this worker, and the directory of the groups again should it be gone:
    /// systemd removes empty cgroups below a unit when the unit's main process ends.
    ///
    /// # Errors
    ///
    /// As [`Group::create`].
    pub fn create(&mut self, worker: &str) -> Result<Group> {
        match Group::create(&self.workers, worker) {
            Err(error) if error.is_gone() => {
                make_dir(&self.workers)?;
                self.notes.clear();
                self.enable();
                Group::create(&self.workers, worker)
            }
            done => done,
        }
    }

    /// The workers that have groups here.
    ///
    /// # Errors
    ///
    /// As [`list`](super::list).
    pub fn list(&self) -> Result<Vec<String>> {
        group::list(&self.workers)
    }

    /// Removes the directory of the groups, once it is empty: the last thing that a node does.
    /// A directory that is gone is fine.
    ///
    /// # Errors
    ///
    /// `EBUSY` while there is a worker's group.
    pub fn remove(&self) -> Result<()> {
        group::remove_dir(&self.workers)
    }

    /// Moves this process to its own leaf. Without that there are no controllers, but groups.
    fn enter_leaf(&mut self, role: Role) {
        let leaf = self.top.join(role.leaf());
        if let Err(error) = make_dir(&leaf).and_then(|()| core::enter(&leaf)) {
            self.notes.push(format!("this process stays in its cgroup: {error}"));
        }
    }

    /// Passes the controllers on from `top` and to the workers' groups, as far as that goes.
    fn enable(&mut self) {
        let wanted = self.available.clone();
        match self.placement {
            Placement::Divided => self.pass_on(&self.top.clone(), &wanted),
            Placement::Root | Placement::Shared => {}
        }
        let passed = self.look(core::available(&self.workers));
        self.pass_on(&self.workers.clone(), &passed);
        self.enabled = self.look(core::passed_on(&self.workers));

        let missing: Vec<&str> = wanted.difference(&passed).map(|c| c.name()).collect();
        let top = self.top.display();
        let missing = missing.join(", ");
        match self.placement {
            _ if missing.is_empty() => {}
            // Refused, and told above.
            Placement::Divided => {}
            Placement::Root => self.notes.push(format!(
                "workers have no controllers {missing}: {top}/{} does not list them",
                core::SUBTREE_CONTROL
            )),
            Placement::Shared => self.notes.push(format!(
                "workers have no controllers {missing}: {top} holds processes itself; under \
                 systemd 254 or later set DelegateSubgroup=agent"
            )),
        }
    }

    /// One by one, so that one that is refused does not keep the others out.
    fn pass_on(&mut self, group: &Path, controllers: &BTreeSet<Controller>) {
        let passed = self.look(core::passed_on(group));
        for &controller in controllers.difference(&passed) {
            if let Err(error) = core::pass_on(group, controller) {
                self.notes.push(format!("workers have no controller {controller}: {error}"));
            }
        }
    }

    fn look(&mut self, read: Result<BTreeSet<Controller>>) -> BTreeSet<Controller> {
        read.unwrap_or_else(|error| {
            self.notes.push(error.to_string());
            BTreeSet::new()
        })
    }
}

/// Whether a group can be made, be entered from any group below `top`, and be killed. Nothing is
/// moved: the kernel decides by the mode of these files when they are opened, of the common
/// ancestor's as well, and by the type of the group.
fn probe(top: &Path, workers: &Path) -> std::result::Result<(), Unavailable> {
    remove_old_probes(workers)?;
    let probe = Probe(workers.join(format!("{PROBE_PREFIX}{}", process::id())));
    make_dir(&probe.0)?;
    let kill = probe.0.join(core::KILL);
    match core::check_writable(&kill) {
        Err(error) if error.is_gone() => return Err(Unavailable::NoKill { path: kill }),
        checked => checked?,
    }
    let path = probe.0.join(core::TYPE);
    let kind = core::read_text(&path)?;
    if kind.trim_ascii_end() != "domain" {
        return Err(Unavailable::NotDomain { path, kind: kind.trim_ascii_end().to_owned() });
    }
    core::check_writable(&probe.0.join(core::PROCS))?;
    core::check_writable(&top.join(core::PROCS))?;
    Ok(())
}

/// A group that is removed when it goes out of scope.
struct Probe(PathBuf);

impl Drop for Probe {
    fn drop(&mut self) {
        // If it stays, the next start removes it.
        let _ = fs::remove_dir(&self.0);
    }
}

/// Removes what an agent or a shim left that was killed during its probe.
fn remove_old_probes(workers: &Path) -> Result<()> {
    for name in group::directories(workers)? {
        let Some(pid) = name.to_str().and_then(|name| name.strip_prefix(PROBE_PREFIX)) else {
            continue;
        };
        if !Path::new("/proc").join(pid).exists() {
            group::remove_dir(&workers.join(name))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is noted where `top` has controllers, and passes these on.
    fn notes(placement: Placement, passed_on: &str) -> (BTreeSet<Controller>, Vec<String>) {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().to_owned();
        let workers = top.join("workers");
        fs::create_dir(&workers).unwrap();
        fs::write(top.join("cgroup.subtree_control"), passed_on).unwrap();
        fs::write(workers.join("cgroup.controllers"), passed_on).unwrap();
        fs::write(workers.join("cgroup.subtree_control"), passed_on).unwrap();
        let available = [Controller::Memory, Controller::Pids].into();
        let enabled = BTreeSet::new();
        let notes = Vec::new();
        let mut subtree = Subtree { top, workers, placement, available, enabled, notes };
        subtree.enable();
        let path = dir.path().to_str().unwrap();
        let notes = subtree.notes.iter().map(|note| note.replace(path, "TOP")).collect();
        (subtree.enabled, notes)
    }

    #[test]
    fn what_is_enabled_already_is_no_note() {
        for placement in [Placement::Root, Placement::Divided, Placement::Shared] {
            let (enabled, notes) = notes(placement, "memory pids\n");
            assert_eq!(enabled, [Controller::Memory, Controller::Pids].into());
            assert!(notes.is_empty(), "{notes:?}");
        }
    }

    #[test]
    fn the_root_is_left_as_it_is() {
        let (enabled, notes) = notes(Placement::Root, "pids\n");
        assert_eq!(enabled, [Controller::Pids].into());
        let expected =
            "workers have no controllers memory: TOP/cgroup.subtree_control does not list them";
        assert_eq!(notes, [expected]);
    }

    #[test]
    fn a_shared_unit_says_how_to_get_controllers() {
        let (enabled, notes) = notes(Placement::Shared, "\n");
        assert!(enabled.is_empty());
        let expected = "workers have no controllers memory, pids: TOP holds processes itself; \
                        under systemd 254 or later set DelegateSubgroup=agent";
        assert_eq!(notes, [expected]);
    }
}
