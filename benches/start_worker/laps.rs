//! Times of calls, and what is said of them.

use std::time::Duration;

/// How long each call took, and what of a processor all of them took.
#[derive(Clone, Default)]
pub(crate) struct Laps {
    times: Vec<Duration>,
    cpu: Duration,
}

impl Laps {
    pub(crate) fn add(&mut self, time: Duration) {
        self.times.push(time);
    }

    pub(crate) fn add_cpu(&mut self, time: Duration) {
        self.cpu += time;
    }

    pub(crate) fn print(mut self, who: &str) {
        self.times.sort();
        let at = |share: usize| millis(self.times[(self.times.len() - 1) * share / 100]);
        print!("  {who:<28}{:>8.2} ms{:>8.2} ms{:>8.2} ms", at(50), at(90), at(99));
        print_cpu(self.cpu, self.times.len());
    }
}

pub(crate) fn heading(title: &str) {
    println!("{title:<30}{:>11}{:>11}{:>11}{:>12}", "p50", "p90", "p99", "CPU a call");
}

pub(crate) fn rate(who: &str, calls: usize, took: Duration, cpu: Duration) {
    print!("  {who:<28}{:>24.0} a second", calls as f64 / took.as_secs_f64());
    print_cpu(cpu, calls);
}

/// What the agent and its shim took; what the worker's own start takes is not theirs.
fn print_cpu(cpu: Duration, calls: usize) {
    if cpu.is_zero() {
        println!();
    } else {
        println!("{:>9.2} ms", millis(cpu) / calls as f64);
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}
