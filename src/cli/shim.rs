//! `arroyo-node shim`: the process that parents an agent's workers. Agents start it; people need not.

use std::{path::PathBuf, time::Duration};

use anyhow::Context as _;

use super::{Exit, Failure};
use crate::runtime::process::shim::{ShimOptions, serve};

/// Whose shim.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The agent's state directory
    #[arg(long, value_name = "DIR")]
    state_dir: PathBuf,
    /// How long to stay without workers and without an agent
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    linger: Option<Duration>,
}

impl Args {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let mut options = ShimOptions::new(&self.state_dir);
        options.linger = self.linger.unwrap_or(options.linger);
        serve(&options).with_context(|| format!("no shim in {}", self.state_dir.display()))?;
        Ok(Exit::Ok)
    }
}
