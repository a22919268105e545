//! What a run did, and which promises it found broken.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use super::{ledger::Broken, rounds::Rounds, town::Town};
use crate::cli::stdout::say;

/// See the module's words. Times are in milliseconds.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    seed: u64,
    rounds: u32,
    duration_ms: u64,
    faults: BTreeMap<String, u32>,
    workers_started: usize,
    workers_ended: BTreeMap<String, usize>,
    reports: u64,
    reports_resent: u64,
    adoptions: usize,
    adoption_median_ms: u64,
    adoption_longest_ms: u64,
    healed_after_ms: u64,
    broken: Vec<Broken>,
}

impl Summary {
    pub(super) fn draw_up(town: &Town, rounds: Rounds, seed: u64) -> Self {
        let ledger = town.ledger();
        let mut workers_ended = BTreeMap::new();
        let workers: Vec<_> = ledger.workers.values().filter(|worker| worker.counts()).collect();
        for worker in &workers {
            // It ended and was forgotten between two looks at the agent's list.
            let unseen = || "not seen".to_owned();
            let how = worker.ending.map_or_else(unseen, |ending| ending.to_string());
            *workers_ended.entry(how).or_default() += 1;
        }
        let reports: u64 = workers.iter().map(|worker| worker.reports).sum();
        let first = workers.iter().filter(|worker| worker.reports > 0).count() as u64;
        let mut adoptions = rounds.adoptions.clone();
        adoptions.sort();
        let faults = rounds.faults.iter().map(|(fault, count)| (fault.to_string(), *count));
        Self {
            seed,
            rounds: rounds.done(),
            duration_ms: millis(rounds.elapsed()),
            faults: faults.collect(),
            workers_started: workers.len(),
            workers_ended,
            reports,
            reports_resent: reports - first,
            adoptions: adoptions.len(),
            adoption_median_ms: adoptions.get(adoptions.len() / 2).copied().map_or(0, millis),
            adoption_longest_ms: adoptions.last().copied().map_or(0, millis),
            healed_after_ms: millis(rounds.healed_after),
            broken: ledger.broken.clone(),
        }
    }

    /// Whether every promise was kept.
    pub(super) fn kept(&self) -> bool {
        self.broken.is_empty()
    }

    pub(super) fn print(&self) {
        let seconds = self.duration_ms as f64 / 1_000.0;
        say(format_args!("\n{} rounds in {seconds:.1} s, seed {}", self.rounds, self.seed));
        for (fault, count) in &self.faults {
            say(format_args!("  {count:5} × {fault}"));
        }
        say(format_args!("{} workers started, ended with", self.workers_started));
        for (how, count) in &self.workers_ended {
            say(format_args!("  {count:5} × {how}"));
        }
        say(format_args!("{} reports, {} of them again", self.reports, self.reports_resent));
        say(format_args!(
            "{} agents served with their workers after {} ms (median), {} ms (longest)",
            self.adoptions, self.adoption_median_ms, self.adoption_longest_ms
        ));
        say(format_args!("All books were closed {} ms after the last harm", self.healed_after_ms));
        for Broken { round, what } in &self.broken {
            say(format_args!("BROKEN in round {round}, seed {}: {what}", self.seed));
        }
        if self.kept() {
            say(format_args!("Every promise was kept."));
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
