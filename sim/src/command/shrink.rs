//! `shrink`: the fewest deeds with which a seed still breaks the same promise.

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, bail};
use arroyo_node_sim::plan::Plan;
use clap::Args;

use super::{
    child,
    one::{One, scratch},
};

/// Which seed.
#[derive(Debug, Args)]
pub(super) struct Shrink {
    /// It must fail.
    seed: u64,
    /// Where the plan goes.
    #[arg(long, value_name = "FILE", default_value = "plan.json")]
    out: PathBuf,
}

impl Shrink {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let mut best = Plan::draw(self.seed);
        let Some(broken) = child::run(&One::of(self.seed))?.outcome.broken else {
            bail!("seed {} keeps every promise: there is nothing to shrink", self.seed);
        };
        let scratch = scratch()?;
        let attempt = scratch.path().join("plan.json");
        // Nothing that happens later can have caused it.
        let fails = |plan: &Plan| -> anyhow::Result<bool> {
            fs::write(&attempt, serde_json::to_string(plan)?)?;
            let one = One { plan: Some(attempt.clone()), ..One::of(self.seed) };
            let again = child::run(&one)?.outcome.broken;
            Ok(again.is_some_and(|again| again.promise == broken.promise))
        };
        // Halves, then quarters, down to single deeds.
        let mut chunk = best.deeds.len().div_ceil(2).max(1);
        loop {
            let mut start = 0;
            while start < best.deeds.len() {
                let mut smaller = best.clone();
                smaller.deeds.drain(start..(start + chunk).min(best.deeds.len()));
                if fails(&smaller)? {
                    best = smaller;
                    println!("{} deeds", best.deeds.len());
                } else {
                    start += chunk;
                }
            }
            if chunk == 1 {
                break;
            }
            chunk = chunk.div_ceil(2);
        }
        fs::write(&self.out, serde_json::to_string_pretty(&best)?)
            .with_context(|| format!("cannot write {}", self.out.display()))?;
        for timed in &best.deeds {
            println!("{:>8} ms {:?}", timed.at_ms, timed.deed);
        }
        println!(
            "{} is still broken. See it with: arroyo-node-sim replay {} --plan {}",
            broken.promise,
            self.seed,
            self.out.display()
        );
        Ok(ExitCode::SUCCESS)
    }
}
