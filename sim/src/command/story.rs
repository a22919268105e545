//! What a person is told of a failure.

use std::{env, process::Command};

use super::one::Told;

/// Seed, commit, promise, last steps, and how to see it again; `how` goes with the seed there.
pub(super) fn failure(told: &Told, how: &str) -> String {
    let Some(broken) = &told.outcome.broken else { return String::new() };
    let seed = told.outcome.seed;
    format!(
        "\nSEED {seed} of commit {} broke: {}\n  after {}.{:06} s: {}\n  the last steps:\n    {}\n  \
         {}\n",
        commit(),
        broken.promise,
        broken.at_us / 1_000_000,
        broken.at_us % 1_000_000,
        broken.detail,
        told.last.join("\n    "),
        replay(seed, how),
    )
}

/// The command that shows a seed again.
pub(super) fn replay(seed: u64, how: &str) -> String {
    let program = env::args().next().unwrap_or_else(|| "arroyo-node-sim".into());
    format!("see it again with: {program} replay {seed}{how}")
}

fn commit() -> String {
    let output = Command::new("git").args(["describe", "--always", "--dirty"]).output();
    match output {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        }
        _ => "(unknown)".into(),
    }
}
