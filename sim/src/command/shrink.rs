//! `shrink`: the smallest plan found with which a seed still breaks the same promise: a shorter run,
//! fewer deeds, tamer processes.

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, bail};
use arroyo_node_sim::{
    plan::{Plan, Temper},
    recorder::Broken,
};
use clap::Args;

use super::{
    child,
    one::{One, scratch},
    story,
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

/// A failing plan, getting smaller.
struct Smaller {
    best: Plan,
    broken: Broken,
    files: tempfile::TempDir,
    runs: u32,
}

/// What can be told of processes that makes them tamer.
const TAMER: [fn(&mut Temper); 8] = [
    |temper| temper.exec_fails = 0,
    |temper| temper.exec_slow = 0,
    |temper| temper.dies_at_once = 0,
    |temper| temper.mortal = 0,
    |temper| temper.stubborn = 0,
    |temper| temper.parents = 0,
    |temper| temper.escapes = 0,
    |temper| temper.slow_death = 0,
];

impl Shrink {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let plan = Plan::draw(self.seed);
        let Some(broken) = child::run(&One::of(self.seed))?.outcome.broken else {
            bail!("seed {} keeps every promise: there is nothing to shrink", self.seed);
        };
        println!("{}: {}", broken.promise, broken.detail);
        let mut smaller = Smaller { best: plan, broken, files: scratch()?, runs: 0 };
        smaller.tell();
        smaller.cut_end()?;
        smaller.drop_deeds()?;
        smaller.cut_end()?;
        smaller.tame()?;
        smaller.cut_end()?;
        self.finish(&smaller)
    }

    fn finish(&self, smaller: &Smaller) -> anyhow::Result<ExitCode> {
        let Smaller { best, broken, runs, .. } = smaller;
        fs::write(&self.out, serde_json::to_string_pretty(best)?)
            .with_context(|| format!("cannot write {}", self.out.display()))?;
        println!("after {runs} runs, what is left of it:");
        for timed in &best.deeds {
            println!("{:>9.3} s  {}", timed.at_ms as f64 / 1e3, timed.deed);
        }
        println!(
            "{:>9.3} s  broken: {}: {}",
            broken.at_us as f64 / 1e6,
            broken.promise,
            broken.detail
        );
        let plan = format!(" --plan {}", self.out.display());
        println!("{}", story::replay(self.seed, &plan));
        Ok(ExitCode::SUCCESS)
    }
}

impl Smaller {
    /// Takes this plan if the same promise is broken with it. Returns whether it was.
    fn attempt(&mut self, plan: Plan) -> anyhow::Result<bool> {
        let file = self.files.path().join("plan.json");
        fs::write(&file, serde_json::to_string(&plan)?)?;
        let one = One { plan: Some(file), ..One::of(plan.seed) };
        self.runs += 1;
        let again = child::run(&one)?.outcome.broken;
        let Some(again) = again.filter(|again| again.promise == self.broken.promise) else {
            return Ok(false);
        };
        (self.best, self.broken) = (plan, again);
        self.tell();
        Ok(true)
    }

    fn tell(&self) {
        let seconds = self.broken.at_us as f64 / 1e6;
        println!("{:>5} deeds, broken after {seconds:.3} s", self.best.deeds.len());
    }

    /// Nothing that was to happen later can have caused it; and then the trouble may end with the
    /// last deed.
    fn cut_end(&mut self) -> anyhow::Result<()> {
        let broken_ms = self.broken.at_us / 1_000 + 1;
        let mut plan = self.best.clone();
        plan.trouble_ms = plan.trouble_ms.min(broken_ms);
        plan.deeds.retain(|timed| timed.at_ms < plan.trouble_ms);
        if plan != self.best {
            self.attempt(plan)?;
        }
        let mut plan = self.best.clone();
        let last = plan.deeds.last().map_or(0, |timed| timed.at_ms);
        plan.trouble_ms = plan.trouble_ms.min(last + 1);
        if plan != self.best {
            self.attempt(plan)?;
        }
        Ok(())
    }

    /// Halves, then quarters, down to single deeds.
    fn drop_deeds(&mut self) -> anyhow::Result<()> {
        let mut chunk = self.best.deeds.len().div_ceil(2).max(1);
        loop {
            let mut start = 0;
            while start < self.best.deeds.len() {
                let mut plan = self.best.clone();
                plan.deeds.drain(start..(start + chunk).min(plan.deeds.len()));
                if !self.attempt(plan)? {
                    start += chunk;
                }
            }
            if chunk == 1 {
                return Ok(());
            }
            chunk = chunk.div_ceil(2);
        }
    }

    fn tame(&mut self) -> anyhow::Result<()> {
        for tamer in TAMER {
            let mut plan = self.best.clone();
            tamer(&mut plan.temper);
            if plan != self.best {
                self.attempt(plan)?;
            }
        }
        Ok(())
    }
}
