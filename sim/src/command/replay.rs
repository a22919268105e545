//! `replay`: one run, in full.

use std::{fs, io::Write as _, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use arroyo_node_sim::picture;
use clap::Args;

use super::one::One;

/// Which run, and how to show it.
#[derive(Debug, Args)]
pub(super) struct Replay {
    #[command(flatten)]
    one: One,
    /// Draw it instead, into a page of its own.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Show only the plan.
    #[arg(long)]
    only_plan: bool,
}

impl Replay {
    pub(super) fn run(mut self) -> anyhow::Result<ExitCode> {
        let mut out = std::io::stdout().lock();
        let plan = self.one.plan()?;
        if self.only_plan {
            writeln!(out, "{}", serde_json::to_string_pretty(&plan)?)?;
            return Ok(ExitCode::SUCCESS);
        }
        // The run changes the current directory.
        self.one.plan = self.one.plan.map(fs::canonicalize).transpose()?;
        let html = self.html.map(std::path::absolute).transpose()?;
        writeln!(out, "plan: {}", serde_json::to_string(&plan)?)?;
        let (outcome, entries) = self.one.simulate()?;
        match &html {
            Some(path) => {
                fs::write(path, picture::draw(&plan, &entries, outcome.broken.as_ref()))
                    .with_context(|| format!("cannot write {}", path.display()))?;
                writeln!(out, "drawn: {}", path.display())?;
            }
            None => {
                for entry in &entries {
                    writeln!(out, "{entry}")?;
                }
            }
        }
        writeln!(out, "trace: {} facts, sha256 {}", entries.len(), outcome.digest)?;
        match &outcome.broken {
            None => {
                writeln!(out, "every promise was kept")?;
                Ok(ExitCode::SUCCESS)
            }
            Some(broken) => {
                let at = broken.at_us as f64 / 1e6;
                writeln!(out, "BROKEN after {at:.6} s: {}\n  {}", broken.promise, broken.detail)?;
                Ok(ExitCode::FAILURE)
            }
        }
    }
}
