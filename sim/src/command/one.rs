//! `one`: a run in this process.

use std::{
    env,
    fs::File,
    io::{BufReader, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use arroyo_node_sim::{
    fact::Entry,
    interpose,
    outcome::Outcome,
    plan::Plan,
    recorder::Broken,
    scenarios::{self, Scenario},
    watchdog,
    world::World,
};
use clap::Args;
use serde::{Deserialize, Serialize};

/// Which run.
#[derive(Clone, Debug, Args)]
pub(super) struct One {
    /// Its seed.
    pub(super) seed: u64,
    /// A plan, as JSON, instead of the one that is drawn from the seed.
    #[arg(long, value_name = "FILE")]
    pub(super) plan: Option<PathBuf>,
    /// A scenario, by its name, instead of what the seed draws.
    #[arg(long, value_name = "NAME", conflicts_with = "plan")]
    pub(super) scenario: Option<String>,
    /// Where the run keeps its files, instead of in a directory of its own that it removes.
    #[arg(long, hide = true, value_name = "DIRECTORY")]
    pub(super) files: Option<PathBuf>,
    /// Leave wall clocks alone.
    #[arg(long)]
    pub(super) no_jumps: bool,
    /// Take the fingerprint of every packet, too.
    #[arg(long)]
    pub(super) wire: bool,
}

/// What a run tells the command that started it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Told {
    /// Its result.
    pub(super) outcome: Outcome,
    /// The end of the trace, if it failed.
    pub(super) last: Vec<String>,
}

/// Lines of the trace that a failure shows.
const LAST: usize = 25;

impl One {
    /// A run as the seed has it.
    pub(super) fn of(seed: u64) -> Self {
        Self { seed, plan: None, scenario: None, files: None, no_jumps: false, wire: false }
    }

    /// The plan.
    pub(super) fn plan(&self) -> anyhow::Result<Plan> {
        let mut plan = match (&self.plan, &self.scenario) {
            (None, None) => Plan::draw(self.seed),
            (None, Some(name)) => (named(name)?.plan)(),
            (Some(path), _) => {
                let file = File::open(path)
                    .with_context(|| format!("cannot open the plan {}", path.display()))?;
                serde_json::from_reader(BufReader::new(file))
                    .with_context(|| format!("{} is no plan", path.display()))?
            }
        };
        if self.no_jumps {
            plan = plan.without_clock_jumps();
        }
        Ok(plan)
    }

    /// Runs it in this process, in a directory of its own that is the current one from then on.
    pub(super) fn simulate(&self) -> anyhow::Result<(Outcome, Vec<Entry>)> {
        let plan = self.plan()?;
        let own = if self.files.is_none() { Some(scratch()?) } else { None };
        let files = self.files.as_deref().or(own.as_ref().map(tempfile::TempDir::path));
        env::set_current_dir(files.unwrap_or(Path::new(".")))
            .context("cannot enter the directory for the run's files")?;
        interpose::begin(plan.seed);
        let world = World::new(plan);
        let recorder = world.recorder().clone();
        let wire = watchdog::install(&recorder, self.wire);
        let mut outcome = world.run();
        outcome.wire = wire.digest();
        let entries = recorder.entries();
        if let (Some(name), None) = (&self.scenario, &outcome.broken)
            && let Err(detail) = named(name)?.check(&entries)
        {
            let promise = "the scenario's story".into();
            outcome.broken = Some(Broken { promise, detail, at_us: outcome.simulated_us });
        }
        Ok((outcome, entries))
    }

    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let (outcome, entries) = self.simulate()?;
        let shown = if outcome.broken.is_some() { LAST } else { 0 };
        let first = entries.len().saturating_sub(shown);
        let last = entries[first..].iter().map(ToString::to_string).collect();
        let told = serde_json::to_string(&Told { outcome, last })?;
        writeln!(std::io::stdout(), "{told}")?;
        Ok(ExitCode::SUCCESS)
    }
}

fn named(name: &str) -> anyhow::Result<Scenario> {
    scenarios::named(name).with_context(|| {
        let known: Vec<_> = scenarios::ALL.iter().map(|scenario| scenario.name).collect();
        format!("no scenario {name:?}: there are {}", known.join(", "))
    })
}

/// A directory for journals: in memory where there is such a file system.
pub(super) fn scratch() -> anyhow::Result<tempfile::TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("arroyo-node-sim-");
    builder
        .tempdir_in("/dev/shm")
        .or_else(|_| builder.tempdir())
        .context("cannot make a scratch directory")
}
