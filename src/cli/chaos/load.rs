//! What goes on meanwhile: jobs are submitted and stopped, and an operator clears up what stock's
//! way of stopping leaves behind.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::time::{sleep, timeout};

use super::{dice::Dice, ending::Plan, town::Town};
use crate::{
    controller::{JobSpec, Snapshot, Stop},
    ids::{Generation, JobId},
    machine::Dialect,
};

/// Goes on until it is dropped.
pub(super) async fn run(town: Arc<Town>, users: Dice, operator: Dice) {
    tokio::join!(use_up(&town, users), clear_up(&town, operator));
}

async fn use_up(town: &Town, mut dice: Dice) {
    let mut number = 0;
    loop {
        sleep(dice.millis(5, 50)).await;
        let going = going(town);
        if (going.len() as u64) < town.jobs && dice.percent(80) {
            number += 1;
            submit(town, &mut dice, number);
        } else if dice.percent(50)
            && let Some(job) = dice.pick(&going)
        {
            town.ledger().stopping(job);
            let how = if dice.percent(40) { Stop::Gentle } else { Stop::Force };
            town.control.with(|controller| controller.stop(job, how).ok());
        } else if dice.percent(20) {
            force_gentle_stops(town);
        }
    }
}

async fn clear_up(town: &Town, mut dice: Dice) {
    loop {
        sleep(dice.millis(20, 150)).await;
        // A call to an agent that is stopped would hang.
        let _ = timeout(Duration::from_secs(1), stop_strays(town, &mut dice)).await;
    }
}

/// The jobs that nobody has given up.
fn going(town: &Town) -> Vec<JobId> {
    let ledger = town.ledger();
    let going = ledger.jobs.iter().filter(|(_, job)| !job.stopped && !job.abandoned);
    going.map(|(id, _)| id.clone()).collect()
}

fn submit(town: &Town, dice: &mut Dice, number: u64) {
    let job = JobId::from(format!("job-{number}"));
    let plan = Plan::draw(dice);
    town.ledger().submitted(job.clone(), plan.clone());
    let spec = spec(job.clone(), &plan, number, Generation(0));
    // Between two controllers it is lost, as it would be for anybody.
    if town.control.with(|controller| controller.submit(spec).is_ok()) != Some(true) {
        town.ledger().stopping(&job);
    }
}

fn spec(job: JobId, plan: &Plan, number: u64, last: Generation) -> JobSpec {
    let mut spec = JobSpec::new(job, plan.slots);
    spec.env = plan.env();
    spec.dialect = if number.is_multiple_of(2) { Dialect::V0_16 } else { Dialect::V0_15 };
    spec.last_generation = last;
    spec
}

/// Tells a new controller of the jobs that the last one ran, as its database would; of some it does
/// not, and nobody asks for their workers any more.
pub(super) fn resubmit(town: &Town, books: &Snapshot, dice: &mut Dice) {
    for (id, job) in &books.jobs {
        let mut ledger = town.ledger();
        let Some(entry) = ledger.jobs.get_mut(id) else { continue };
        if entry.stopped || job.state.is_final() {
            continue;
        }
        if dice.percent(20) {
            entry.abandoned = true;
            continue;
        }
        // One more than was seen: another may have been asked for at the last moment.
        let last = Generation(job.generation.0 + 1);
        ledger.superseding(id, last);
        drop(ledger);
        let mut spec = (*job.spec).clone();
        spec.last_generation = last;
        if town.control.with(|controller| controller.submit(spec).is_ok()) != Some(true) {
            town.ledger().stopping(id);
        }
    }
}

/// A gentle stop waits for ever for who ignores it.
fn force_gentle_stops(town: &Town) {
    town.control.with(|controller| {
        for (id, job) in controller.snapshot().jobs {
            if job.stop == Some(Stop::Gentle) && !job.state.is_final() {
                let _ = controller.stop(&id, Stop::Force);
            }
        }
    });
}

/// Stops, past the controller, workers of jobs that no controller cares for: most of them, for some
/// are to live through more harm.
async fn stop_strays(town: &Town, dice: &mut Dice) -> Result<(), tonic::Status> {
    let rows = town.list().await?;
    let books = town.control.with(|controller| controller.snapshot());
    let Some(books) = books else { return Ok(()) };
    let strays: Vec<_> = rows
        .into_iter()
        .filter(|row| row.alive)
        .filter(|row| {
            let job = JobId::new(&row.job_id);
            let ledger = town.ledger();
            let given_up = ledger.jobs.get(&job).is_none_or(|job| job.stopped || job.abandoned);
            given_up && books.state(&job).is_none_or(|state| state.is_final())
        })
        .collect();
    let doomed = strays.iter().filter(|_| dice.percent(70));
    join_all(doomed.map(|row| town.stop_worker(row))).await.into_iter().collect()
}
