//! `arroyo-node shim`: the process that parents the workers. Agents start it; people need not.

use std::{path::PathBuf, time::Duration};

use anyhow::Context as _;

use super::{Exit, Failure};
use crate::runtime::process::shim::{ShimOptions, serve};

/// Where it is, and how long it stays.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The agent's state directory: its socket, lock and log are there
    #[arg(long, value_name = "DIR")]
    state_dir: PathBuf,
    /// The cgroup below which each worker has its own
    #[arg(long, value_name = "DIR")]
    groups: Option<PathBuf>,
    /// Wait this long for the first agent; when the last one has gone, it ends with its last worker
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    linger: Duration,
}

impl Args {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let Self { state_dir, groups, linger } = self;
        let context = format!("cannot be a shim in {}", state_dir.display());
        serve(&ShimOptions { state_dir, groups, linger }).context(context)?;
        Ok(Exit::Ok)
    }
}
