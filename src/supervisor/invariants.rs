//! What is true of a supervisor between any two inputs, whatever happened before. Checked after
//! every input in debug builds, simulations, property tests and fuzz runs.

use thiserror::Error;

use super::{
    Reaper, Role, Supervisor,
    worker::{Group, Leader, Program, Task},
};

/// A broken invariant.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("invariant broken: {invariant}: {detail}")]
pub struct Violation {
    /// Which one, by its name in the table.
    pub invariant: &'static str,
    /// What was found instead.
    pub detail: String,
}

type Invariant = fn(&Supervisor) -> Result<(), String>;

const INVARIANTS: &[(&str, Invariant)] = &[
    ("every handle is some worker's, for what it was opened", handles_have_owners),
    ("every process that is waited for has its handle", processes_have_handles),
    ("children's pids lead to their workers", leaders_are_indexed),
    ("checks are those that the workers wait for", checks_agree),
    ("what is being killed is looked at again", kills_move_on),
    ("a worker of which nothing is left is told of", ended_are_told),
    ("only the process table's workers are scanned for", scans_have_a_purpose),
];

/// Checks every invariant.
///
/// # Errors
/// The first one that does not hold.
pub fn check(supervisor: &Supervisor) -> Result<(), Violation> {
    for (invariant, holds) in INVARIANTS {
        holds(supervisor).map_err(|detail| Violation { invariant, detail })?;
    }
    Ok(())
}

fn handles_have_owners(supervisor: &Supervisor) -> Result<(), String> {
    for (handle, role) in &supervisor.handles {
        let owned = match role {
            Role::Unreaped => supervisor.config.reaper == Reaper::Another,
            Role::Leader(id) => supervisor.workers.get(id).is_some_and(|worker| {
                let leader = match worker.leader {
                    Leader::Forking { handle } | Leader::Opening { handle, .. } => Some(handle),
                    other => other.handle(),
                };
                leader == Some(*handle)
            }),
            Role::Victim(id, process) => supervisor
                .workers
                .get(id)
                .is_some_and(|worker| worker.victims.get(process) == Some(handle)),
        };
        if !owned {
            return Err(format!("{handle:?} is open for {role:?}"));
        }
    }
    Ok(())
}

fn processes_have_handles(supervisor: &Supervisor) -> Result<(), String> {
    for (id, worker) in &supervisor.workers {
        let leader = worker.leader.handle();
        for handle in leader.into_iter().chain(worker.victims.values().copied()) {
            if !supervisor.handles.contains_key(&handle) {
                return Err(format!("worker {id} waits through {handle:?}, which is closed"));
            }
        }
    }
    Ok(())
}

fn leaders_are_indexed(supervisor: &Supervisor) -> Result<(), String> {
    for (pid, id) in &supervisor.leaders {
        let leader = supervisor.workers.get(id).and_then(|worker| worker.leader.process());
        if leader.is_none_or(|leader| leader.pid != *pid) {
            return Err(format!("pid {pid} is to be the first process of worker {id}"));
        }
    }
    Ok(())
}

fn checks_agree(supervisor: &Supervisor) -> Result<(), String> {
    let workers = supervisor.workers.iter();
    let of_workers = workers.filter_map(|(&id, worker)| Some((worker.check_at?, id)));
    let of_workers: std::collections::BTreeSet<_> = of_workers.collect();
    if of_workers == supervisor.checks {
        return Ok(());
    }
    Err(format!("{of_workers:?} are waited for, {:?} are set", supervisor.checks))
}

fn kills_move_on(supervisor: &Supervisor) -> Result<(), String> {
    for (id, worker) in &supervisor.workers {
        let asked = supervisor.scans.values().any(|scan| scan.is_about(*id));
        let moves =
            worker.check_at.is_some() || supervisor.due.contains(id) || asked || worker.has_group();
        if worker.task == (Task::Kill { empty: false }) && !moves {
            return Err(format!("nothing is done about worker {id}: {worker:?}"));
        }
    }
    Ok(())
}

fn ended_are_told(supervisor: &Supervisor) -> Result<(), String> {
    for (id, worker) in &supervisor.workers {
        let ended = worker.task == Task::Kill { empty: true }
            && worker.program != Program::Loading
            && worker.exit().is_some();
        if ended && !worker.is_tracked() {
            return Err(format!("worker {id} has ended: {worker:?}"));
        }
    }
    Ok(())
}

fn scans_have_a_purpose(supervisor: &Supervisor) -> Result<(), String> {
    for id in &supervisor.due {
        match supervisor.workers.get(id) {
            Some(worker) if matches!(worker.group, Group::None | Group::Broken) => {}
            other => return Err(format!("worker {id} is to be scanned for: {other:?}")),
        }
    }
    Ok(())
}
