//! `run`: a campaign.

use std::{
    collections::BTreeMap,
    fs,
    io::{IsTerminal as _, Write as _},
    path::PathBuf,
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use arroyo_node_sim::{marks::Marks, plan::draw::CANARY};
use clap::Args;
use serde::{Deserialize, Serialize};

use super::{child, one::One, story};

/// From this many seeds on every mark must be reached.
const ENOUGH: u64 = 400;

/// Which seeds, and for how long.
#[derive(Debug, Args)]
pub(super) struct Run {
    /// How many seeds.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Run for so many minutes instead, however many seeds that makes.
    #[arg(long, conflicts_with = "seeds")]
    minutes: Option<f64>,
    /// How many at a time. Default: one a core.
    #[arg(long)]
    jobs: Option<usize>,
    /// Write the summary as JSON, too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Fail if a mark is not reached, however few seeds there are.
    #[arg(long)]
    all_marks: bool,
    /// Go on after a failure.
    #[arg(long)]
    keep_going: bool,
}

/// What a campaign comes to.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Summary {
    /// How many runs there were.
    pub(super) seeds: u64,
    /// The seeds that failed, and what they broke.
    pub(super) failures: BTreeMap<u64, String>,
    simulated_hours: f64,
    wall_seconds: f64,
    /// Simulated seconds for each second of one core.
    ratio: f64,
    faults: BTreeMap<String, u64>,
    marks: Marks,
    missing_marks: Vec<String>,
}

struct Shared {
    next: AtomicU64,
    stop: AtomicBool,
    summary: Mutex<Summary>,
}

impl Run {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let started = Instant::now();
        let jobs =
            self.jobs.unwrap_or_else(|| thread::available_parallelism().map_or(1, Into::into));
        let shared = Shared {
            next: AtomicU64::new(self.from),
            stop: AtomicBool::new(false),
            summary: Mutex::default(),
        };
        thread::scope(|scope| {
            for _ in 0..jobs {
                scope.spawn(|| self.work(&shared, started));
            }
        });
        let mut summary = shared.summary.into_inner().unwrap_or_else(PoisonError::into_inner);
        summary.wall_seconds = started.elapsed().as_secs_f64();
        summary.ratio =
            summary.simulated_hours * 3_600.0 / (summary.wall_seconds * jobs as f64).max(0.001);
        summary.missing_marks = summary.marks.missing().into_iter().map(Into::into).collect();
        self.finish(&summary)
    }

    fn work(&self, shared: &Shared, started: Instant) {
        while !shared.stop.load(Ordering::SeqCst) {
            let seed = shared.next.fetch_add(1, Ordering::SeqCst);
            let over = match self.minutes {
                Some(minutes) => started.elapsed() > Duration::from_secs_f64(minutes * 60.0),
                None => seed >= self.from + self.seeds,
            };
            if over {
                return;
            }
            // The canary is for those who ask for it alone.
            if seed == CANARY && !(self.from == CANARY && self.seeds == 1) {
                continue;
            }
            let told = child::run(&One::of(seed));
            let mut summary = shared.summary.lock().unwrap_or_else(PoisonError::into_inner);
            summary.seeds += 1;
            match told {
                Ok(told) => {
                    let outcome = &told.outcome;
                    summary.simulated_hours += outcome.simulated_us as f64 / 3.6e9;
                    summary.marks.add(&outcome.marks);
                    for (fault, count) in &outcome.faults {
                        *summary.faults.entry(fault.clone()).or_default() += count;
                    }
                    if let Some(broken) = &outcome.broken {
                        summary.failures.insert(seed, broken.promise.clone());
                        println!("{}", story::failure(&told, ""));
                    }
                }
                Err(error) => {
                    summary.failures.insert(seed, format!("{error:#}"));
                    println!("\n{error:#}\n  {}\n", story::replay(seed, ""));
                }
            }
            let failed = !summary.failures.is_empty();
            progress(&summary, started);
            if failed && !self.keep_going {
                shared.stop.store(true, Ordering::SeqCst);
            }
        }
    }

    fn finish(&self, summary: &Summary) -> anyhow::Result<ExitCode> {
        println!("{}", text(summary));
        if let Some(path) = &self.json {
            fs::write(path, serde_json::to_string_pretty(summary)?)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        let marks_due = self.all_marks || summary.seeds >= ENOUGH;
        if marks_due && !summary.missing_marks.is_empty() {
            println!("FAILED: marks that no seed reached: {:?}", summary.missing_marks);
            return Ok(ExitCode::FAILURE);
        }
        if !summary.failures.is_empty() {
            println!("FAILED: {:?}", summary.failures);
            return Ok(ExitCode::FAILURE);
        }
        println!("every promise was kept");
        Ok(ExitCode::SUCCESS)
    }
}

fn progress(summary: &Summary, started: Instant) {
    if std::io::stderr().is_terminal() {
        let (seeds, failed) = (summary.seeds, summary.failures.len());
        let seconds = started.elapsed().as_secs();
        let hours = summary.simulated_hours;
        eprint!("\r{seeds} seeds, {failed} failed, {hours:.1} h simulated in {seconds} s ");
        // Progress that is not seen harms nobody.
        let _ = std::io::stderr().flush();
    }
}

fn text(summary: &Summary) -> String {
    let mut lines = vec![format!(
        "\n{} seeds, {} failed; {:.2} h simulated in {:.0} s: {:.0} times real time a core",
        summary.seeds,
        summary.failures.len(),
        summary.simulated_hours,
        summary.wall_seconds,
        summary.ratio,
    )];
    lines.push("faults:".into());
    lines.extend(summary.faults.iter().map(|(fault, count)| format!("  {count:>8} {fault}")));
    lines.push("marks:".into());
    lines.extend(summary.marks.0.iter().map(|(mark, count)| format!("  {count:>8} {mark}")));
    lines.extend(summary.missing_marks.iter().map(|mark| format!("         - {mark}")));
    if cfg!(not(debug_assertions)) {
        lines.push(
            "built without debug assertions: the machine's invariants were not checked".into(),
        );
    }
    lines.join("\n")
}
