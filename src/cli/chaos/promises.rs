//! What must be so after every round, whatever was killed; and what must be so in the end.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures_util::future::join_all;
use tokio::time::{Instant, sleep};

use super::{
    ledger::{Ledger, id_of},
    town::Town,
};
use crate::{
    admin::row::Row,
    controller::Stop,
    ids::WorkerId,
    runtime::process::{Marked, identify},
};

/// How long both sides may take until their books agree, once nobody does harm any more.
const HEALED_WITHIN: Duration = Duration::from_secs(60);

/// Looks at everything once. The agent must be serving.
pub(super) async fn check(town: &Town) -> anyhow::Result<()> {
    let owed: Vec<WorkerId> = {
        let ledger = town.ledger();
        let unreported = ledger.workers.iter().filter(|(_, w)| w.answered && w.reports == 0);
        unreported.map(|(id, _)| *id).collect()
    };
    let before: BTreeSet<Marked> = town.alive()?.into_iter().collect();
    let rows = town.list().await?;
    let after: BTreeSet<Marked> = town.alive()?.into_iter().collect();

    let mut ledger = town.ledger();
    rows.iter().for_each(|row| ledger.listed(row));
    let rows: BTreeMap<WorkerId, &Row> =
        rows.iter().filter_map(|row| Some((id_of(row)?, row))).collect();
    nothing_is_forgotten(&mut ledger, &owed, &rows);
    capacity_is_kept(&mut ledger, town.slots, &rows);
    everybody_is_known(&mut ledger, town.slots, &before, &after, &rows);
    nobody_was_killed(&mut ledger, &rows);
    Ok(())
}

/// A worker that StartWorker named is known until its end was reported.
fn nothing_is_forgotten(ledger: &mut Ledger, owed: &[WorkerId], rows: &BTreeMap<WorkerId, &Row>) {
    for id in owed.iter().filter(|id| !rows.contains_key(id)) {
        // It may have been reported meanwhile, and forgotten at once.
        if ledger.workers[id].reports == 0 {
            ledger.broke(format!("worker {id} is not listed, and its end was never reported"));
        }
    }
}

fn capacity_is_kept(ledger: &mut Ledger, slots: u64, rows: &BTreeMap<WorkerId, &Row>) {
    let held: u64 = rows.values().filter(|row| row.alive).map(|row| row.slots).sum();
    if held > slots {
        ledger.broke(format!("the agent lists live workers with {held} of {slots} slots"));
    }
}

/// Who was alive before and after the agent was asked was so at that moment.
fn everybody_is_known(
    ledger: &mut Ledger,
    slots: u64,
    before: &BTreeSet<Marked>,
    after: &BTreeSet<Marked>,
    rows: &BTreeMap<WorkerId, &Row>,
) {
    let mut alive = BTreeSet::new();
    for marked in before.intersection(after) {
        let (Some(worker), pid) = (marked.worker, marked.process.pid) else { continue };
        alive.insert(worker);
        match rows.get(&worker) {
            Some(row) if row.alive => {}
            Some(_) => ledger.broke(format!("pid {pid} of worker {worker} outlives its end")),
            None => ledger.broke(format!("pid {pid} is of worker {worker}, which nobody knows")),
        }
    }
    let held: u64 = alive.iter().filter_map(|id| rows.get(id)).map(|row| row.slots).sum();
    if held > slots {
        ledger.broke(format!("workers with {held} of {slots} slots were alive at once"));
    }
}

/// Who was not asked to end and was not to end by itself runs as it did.
fn nobody_was_killed(ledger: &mut Ledger, rows: &BTreeMap<WorkerId, &Row>) {
    let mut broken = Vec::new();
    for (id, worker) in ledger.workers.iter().filter(|(_, worker)| !ledger.may_end(worker)) {
        let Some(process) = worker.process else { continue };
        let job = format!("{}, generation {}", worker.job, worker.generation);
        if identify(process.pid).ok().flatten() != Some(process) {
            broken.push(format!("worker {id} of {job}, pid {}, is dead", process.pid));
        }
        if worker.reports > 0 {
            broken.push(format!("worker {id} of {job} was reported though it was to go on"));
        }
        match rows.get(id) {
            Some(row) if row.state == "running" && row.pid == Some(process.pid) => {}
            Some(row) => broken.push(format!(
                "worker {id} of {job} should run as pid {}, and the agent lists it as {} with {:?}",
                process.pid, row.state, row.pid
            )),
            None => broken.push(format!("worker {id} of {job} should run and is not listed")),
        }
    }
    broken.into_iter().for_each(|what| ledger.broke(what));
}

/// Stops everything, waits until nothing is left to do, and notes what stays undone.
pub(super) async fn heal(town: &Town) -> Duration {
    let began = Instant::now();
    let going: Vec<_> = town.ledger().jobs.keys().cloned().collect();
    for job in &going {
        town.ledger().stopping(job);
        town.control.with(|controller| controller.stop(job, Stop::Force).ok());
    }
    loop {
        let undone = undone(town).await;
        if undone.is_empty() {
            // How the last ones ended.
            let rows = town.list().await.unwrap_or_default();
            rows.iter().for_each(|row| town.ledger().listed(row));
            return began.elapsed();
        }
        if began.elapsed() > HEALED_WITHIN {
            let mut ledger = town.ledger();
            for what in undone {
                ledger.broke(format!("{}s after the last harm {what}", HEALED_WITHIN.as_secs()));
            }
            return began.elapsed();
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// What there is still to do until both sides' books are closed and agree.
async fn undone(town: &Town) -> Vec<String> {
    let mut undone = Vec::new();
    let mut check = |done: bool, what: String| {
        if !done {
            undone.push(what);
        }
    };
    let Some(books) = town.control.with(|controller| controller.snapshot()) else {
        return vec!["there is no controller".to_owned()];
    };
    let open = books.jobs.iter().filter(|(_, job)| !job.state.is_final());
    let open: Vec<_> = open.map(|(id, job)| format!("{id} {:?}", job.state)).collect();
    check(open.is_empty(), format!("jobs are not stopped: {open:?}"));
    let workers: Vec<_> = books.workers.keys().collect();
    check(workers.is_empty(), format!("the controller counts workers: {workers:?}"));
    let free = books.free_slots();
    check(free == town.slots, format!("the controller counts {free} of {} slots free", town.slots));

    match (town.list().await, town.status().await) {
        (Ok(rows), Ok(status)) => {
            rows.iter().for_each(|row| town.ledger().listed(row));
            let alive: Vec<_> = rows.iter().filter(|row| row.alive).collect();
            for row in &alive {
                check(false, format!("worker {} of {} is alive", row.worker_id, row.job_id));
            }
            // What stock's way of stopping leaves behind.
            join_all(alive.iter().map(|row| town.stop_worker(row))).await;
            let (free, total) = (status.free_slots, status.task_slots);
            check(free == total, format!("the agent counts {free} of {total} slots free"));
            check(status.registered, "the agent is not registered".into());
            let owed = status.reports_owed;
            check(owed == 0, format!("the agent owes {owed} reports"));
            let error = status.journal_error;
            check(error.is_empty(), format!("the journal fails: {error}"));
        }
        (Err(status), _) | (_, Err(status)) => {
            check(false, format!("the agent does not answer: {status}"));
        }
    }
    let alive = town.alive().unwrap_or_default();
    let alive: Vec<_> = alive.iter().filter(|marked| marked.worker.is_some()).collect();
    check(alive.is_empty(), format!("processes of workers are alive: {alive:?}"));
    let ledger = town.ledger();
    let ran = ledger.workers.iter().filter(|(_, worker)| worker.counts());
    for (id, worker) in ran.filter(|(_, worker)| worker.reports == 0) {
        check(false, format!("the end of worker {id} of {} was never reported", worker.job));
    }
    undone
}
