//! `scale`: many nodes, and what a controller has to bear from them.

use std::{
    fs,
    io::Write as _,
    mem::MaybeUninit,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use arroyo_node_sim::scale::{
    self, Planted, Results, Settings, chart,
    table::{self, Cost},
};
use clap::{Args, ValueEnum};
use serde::Serialize;

/// The cluster, its network, and what to write.
#[derive(Debug, Args)]
pub(super) struct Scale {
    /// How many nodes.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    nodes: u32,
    /// The slots of each; every worker takes one.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    slots: u32,
    /// The least time that a message takes one way; up to as much again is added at random.
    #[arg(long, default_value = "500us", value_parser = duration)]
    delay: Duration,
    /// What is added to the delay at random, at most. Default: the delay.
    #[arg(long, value_parser = duration)]
    jitter: Option<Duration>,
    /// How long each call of an agent holds the controller's one lock.
    #[arg(long, default_value = "20us", value_parser = duration)]
    service: Duration,
    /// How long the controller is down: a restart for each.
    #[arg(long, default_value = "200ms,4s,4s,60s", value_delimiter = ',', value_parser = duration)]
    outages: Vec<Duration>,
    /// Where all randomness comes from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Draw the calls of each second into a picture.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Write everything that was measured.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Plant a bug, to see that it is noticed.
    #[arg(long, hide = true)]
    planted: Option<Bug>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Bug {
    InStep,
    LosesRows,
}

/// What is written: the same for the same settings, and what it cost here.
#[derive(Serialize)]
struct Written<'a> {
    #[serde(flatten)]
    results: &'a Results,
    cost: &'a Cost,
}

impl Scale {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let mut cost = Cost::default();
        let mut begun = Instant::now();
        let results = scale::run(&self.settings(), |outcome| {
            let wall = begun.elapsed().as_secs_f64();
            begun = Instant::now();
            cost.wall_seconds.push(wall);
            eprintln!("{}: over after {wall:.1} s", outcome.name);
        });
        cost.cpu_seconds = cpu_seconds()?;
        cost.peak_rss = peak_rss()?;
        let mut out = std::io::stdout().lock();
        writeln!(out, "{}\n", table::calls(&results))?;
        writeln!(out, "{}\n", table::outcomes(&results, &cost))?;
        writeln!(out, "{}\n", table::bounds(&results))?;
        writeln!(out, "{}", table::summary(&results, &cost))?;
        self.write(&results, &cost)?;
        let broken = results.broken().count();
        if broken > 0 {
            writeln!(out, "FAILED: {broken} bounds are broken")?;
            return Ok(ExitCode::FAILURE);
        }
        writeln!(out, "every bound holds")?;
        Ok(ExitCode::SUCCESS)
    }

    fn settings(&self) -> Settings {
        Settings {
            seed: self.seed,
            delay: self.delay,
            jitter: self.jitter.unwrap_or(self.delay),
            service: self.service,
            outages: self.outages.clone(),
            planted: self.planted.map(|bug| match bug {
                Bug::InStep => Planted::InStep,
                Bug::LosesRows => Planted::LosesRows,
            }),
            ..Settings::new(self.nodes as usize, self.slots.into())
        }
    }

    fn write(&self, results: &Results, cost: &Cost) -> anyhow::Result<()> {
        if let Some(path) = &self.json {
            put(path, &serde_json::to_string_pretty(&Written { results, cost })?)?;
        }
        if let Some(path) = &self.svg {
            put(path, &chart::draw(results))?;
        }
        Ok(())
    }
}

fn put(path: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// The most memory that this process had, in bytes. Not what `getrusage` says: that counts what
/// whoever started this process had, too.
fn peak_rss() -> anyhow::Result<u64> {
    let status =
        fs::read_to_string("/proc/self/status").context("cannot read /proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    let kib: u64 = kib.context("/proc/self/status has no line VmHWM")?.parse()?;
    Ok(kib << 10)
}

/// Seconds of one core that this process has used.
fn cpu_seconds() -> anyhow::Result<f64> {
    let mut usage = MaybeUninit::<libc::rusage>::uninit();
    // SAFETY: `usage` has room for the one `rusage` that the call writes; the call keeps no pointer.
    let result = unsafe { libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) };
    if result != 0 {
        return Err(std::io::Error::last_os_error()).context("cannot ask for this process's usage");
    }
    // SAFETY: the call has succeeded, and so has written all of it.
    let usage = unsafe { usage.assume_init() };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    Ok(seconds(usage.ru_utime) + seconds(usage.ru_stime))
}

/// `500us`, `20ms`, `4s`, `1.5s`.
fn duration(text: &str) -> Result<Duration, String> {
    let at = text.find(|c: char| c.is_ascii_alphabetic() || c == 'µ').unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let scale = match unit {
        "s" => 1.0,
        "ms" => 1e-3,
        "us" | "µs" => 1e-6,
        _ => return Err(format!("{text:?} has no unit that is known: write 500us, 20ms or 4s")),
    };
    let number: f64 = number.parse().map_err(|_| format!("{number:?} is not a number"))?;
    Duration::try_from_secs_f64(number * scale)
        .map_err(|error| format!("{text:?} is not a duration: {error}"))
}
