//! `arroyo-node chaos`: an agent, its shim and its controller are killed again and again, under
//! load and with real processes, and the promises are held against what really happened.
//!
//! ```text
//!  load ──submit, stop──▶ controller ◀──gRPC──▶ agent ──▶ shim ──▶ workers
//!                          (in here)           (a child)              │
//!  rounds ──kill -9, restart, SIGSTOP, detach─────▲─────────▲         │ /proc
//!                                                                     ▼
//!  ledger ◀── what was asked for, what the controller heard, what lives ── promises: do they agree?
//! ```
//!
//! The seed decides what is done; when exactly it happens is the machine's affair. So a seed that
//! failed makes the same kind of trouble again, and finds the same fault again after some runs.

mod agent;
mod control;
mod dice;
mod ending;
mod fault;
mod ledger;
mod load;
mod port;
mod promises;
mod rounds;
mod summary;
mod town;
mod watch;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::Context as _;
use rand::{TryRng as _, rngs::SysRng};
use tokio::signal::unix::{SignalKind, signal};

use self::{rounds::Rounds, summary::Summary, town::Town};
use super::{Exit, Failure, stdout};

/// How much chaos.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Exits 0 if every promise was kept, 1 if not. Everything runs on loopback in a directory of its own.")]
pub struct Args {
    /// How often to do harm
    #[arg(long, value_name = "N", default_value_t = 100)]
    rounds: u32,
    /// Decides what is done; drawn if not given, and always printed
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// About how many jobs, of one worker each, to keep going
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = clap::value_parser!(u64).range(1..=1000))]
    workers: u64,
    /// Keep the agent's state and log here, and leave it; otherwise in a directory that is removed
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Print one JSON document at the end instead of text
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .worker_threads(2)
            .build()
            .context("cannot start the runtime")?;
        let summary = runtime.block_on(self.play())?;
        if self.json {
            stdout::json(&summary);
        } else {
            summary.print();
        }
        Ok(if summary.kept() { Exit::Ok } else { Exit::Failed })
    }

    async fn play(&self) -> anyhow::Result<Summary> {
        let interrupted = watch_signals()?;
        let seed = match self.seed {
            Some(seed) => seed,
            None => SysRng.try_next_u64().context("the system gives no entropy")?,
        };
        if !self.json {
            stdout::say(format_args!("seed {seed}, {} rounds", self.rounds));
        }
        let town = Arc::new(Town::build(self.state_dir.clone(), self.workers)?);
        let mut rounds = Rounds::begin(town.clone(), seed, !self.json).await?;
        while rounds.done() < self.rounds && !interrupted.load(Ordering::Relaxed) {
            rounds.next().await?;
        }
        rounds.end().await?;
        Ok(Summary::draw_up(&town, rounds, seed))
    }
}

/// Set once somebody wants the run to end.
fn watch_signals() -> anyhow::Result<Arc<AtomicBool>> {
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot watch SIGTERM")?;
    let interrupted = Arc::new(AtomicBool::new(false));
    let set = interrupted.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            set.store(true, Ordering::Relaxed);
        }
    });
    Ok(interrupted)
}
