//! What an agent's calls cost, beside the raw spawn that StartWorker contains and beside an agent that
//! does no more than stock's: `cargo bench --bench start_worker`. It reports and asserts nothing:
//! machines differ.
//!
//! ```text
//!  main ── raw: posix_spawn
//!       ├─ like_stock: this program again, as a server ─┐
//!       └─ agents: `arroyo-node node`, a real process ──┴─ NodeGrpc over loopback
//! ```
//!
//! Contestants take turns of a few calls, so that a busy minute of the machine is everybody's. Whoever
//! calls has a short time slice: what is measured is not to be how long the caller waits for a core. The
//! worker is `sleep`. Nobody listens where the controller should be, so that its work is not counted.
//! State goes to a temporary directory: `TMPDIR` chooses the file system. `BASELINE` names another build
//! of arroyo-node to compare with: on a noisy machine only what takes turns can be compared. Words after
//! `--` choose what is measured, by its title: `-- paced Heartbeat`.

mod agents;
mod laps;
mod like_stock;
mod raw;

use std::{
    env,
    time::{Duration, Instant},
};

use agents::Agent;
use arroyo_node::runtime::time_slice;
use futures_util::{StreamExt as _, stream};
use laps::{Laps, heading, rate};
use raw::Raw;

const ROUNDS: usize = 300;
/// Calls of one contestant before the next one has its turn.
const TURN: usize = 20;
/// Between two paced calls: long enough for what was started to have loaded its libraries. Back to
/// back, two cores are busy with that, and the times are those of the queue.
const PACE: Duration = Duration::from_millis(5);
const CALLERS: usize = 16;

const BACK_TO_BACK: &str = "StartWorker, back to back";
const PACED: &str = "StartWorker, paced";
const AT_ONCE: &str = "StartWorker, 16 at a time";
const LIST: &str = "GetWorkers";
const HEARTBEAT: &str = "HeartbeatNode";
const STOP: &str = "StopWorker, forced";

fn main() -> anyhow::Result<()> {
    if env::args().nth(1).as_deref() == Some(like_stock::ARGUMENT) {
        return like_stock::serve();
    }
    time_slice::shorten()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(compare())
}

async fn compare() -> anyhow::Result<()> {
    let mut raw = [Raw::bare()?, Raw::with_files()?];
    let this = env!("CARGO_BIN_EXE_arroyo-node");
    let mut agents = vec![
        Agent::like_stock().await?,
        Agent::ours("arroyo-node --no-shim", this, &["--no-shim"]).await?,
        Agent::ours("arroyo-node", this, &[]).await?,
    ];
    if let Ok(other) = env::var("BASELINE") {
        agents.push(Agent::ours("the baseline", &other, &[]).await?);
    }
    for title in chosen() {
        match title {
            BACK_TO_BACK => one_at_a_time(title, Duration::ZERO, &mut raw, &mut agents).await?,
            PACED => one_at_a_time(title, PACE, &mut raw, &mut agents).await?,
            AT_ONCE => at_once(title, &mut agents).await?,
            LIST => rounds(title, &mut agents, async |agent| agent.list().await).await?,
            HEARTBEAT => rounds(title, &mut agents, async |agent| agent.heartbeat().await).await?,
            _ => rounds(STOP, &mut agents, async |agent| agent.stop().await).await?,
        }
    }
    Ok(())
}

/// The titles that have one of the arguments in them; all, if there is none.
fn chosen() -> impl Iterator<Item = &'static str> {
    let words: Vec<_> = env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    [BACK_TO_BACK, PACED, AT_ONCE, LIST, HEARTBEAT, STOP]
        .into_iter()
        .filter(move |title| words.is_empty() || words.iter().any(|word| title.contains(word)))
}

async fn one_at_a_time(
    title: &str,
    pace: Duration,
    raw: &mut [Raw],
    agents: &mut [Agent],
) -> anyhow::Result<()> {
    heading(title);
    let mut raw_laps = vec![Laps::default(); raw.len()];
    let mut calls = vec![Laps::default(); agents.len()];
    for _ in 0..ROUNDS / TURN {
        for (raw, laps) in raw.iter_mut().zip(&mut raw_laps) {
            settle().await;
            for _ in 0..TURN {
                tokio::time::sleep(pace).await;
                laps.add(raw.spawn()?);
            }
        }
        for (agent, laps) in agents.iter_mut().zip(&mut calls) {
            settle().await;
            let before = agent.cpu();
            for _ in 0..TURN {
                tokio::time::sleep(pace).await;
                let began = Instant::now();
                agent.start().await?;
                laps.add(began.elapsed());
            }
            laps.add_cpu(agent.cpu() - before);
        }
    }
    for (raw, laps) in raw.iter().zip(raw_laps) {
        laps.print(raw.name());
    }
    for (agent, laps) in agents.iter().zip(calls) {
        laps.print(agent.name());
    }
    Ok(())
}

/// Until the programs that the one before has started are loaded.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}

async fn at_once(title: &str, agents: &mut [Agent]) -> anyhow::Result<()> {
    heading(title);
    for agent in agents {
        let (before, began) = (agent.cpu(), Instant::now());
        let starts = stream::iter((0..ROUNDS).map(|_| agent.one_more()));
        let started: Vec<_> = starts.buffer_unordered(CALLERS).collect().await;
        rate(agent.name(), ROUNDS, began.elapsed(), agent.cpu() - before);
        for id in started {
            agent.add(id?);
        }
    }
    Ok(())
}

async fn rounds(
    title: &str,
    agents: &mut [Agent],
    call: impl AsyncFn(&mut Agent) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    heading(&format!("{title}, with {} workers", agents[0].workers()));
    let mut laps = vec![Laps::default(); agents.len()];
    for _ in 0..ROUNDS / TURN {
        for (agent, laps) in agents.iter_mut().zip(&mut laps) {
            settle().await;
            let before = agent.cpu();
            for _ in 0..TURN {
                let began = Instant::now();
                call(agent).await?;
                laps.add(began.elapsed());
            }
            laps.add_cpu(agent.cpu() - before);
        }
    }
    for (agent, laps) in agents.iter().zip(laps) {
        laps.print(agent.name());
    }
    Ok(())
}
