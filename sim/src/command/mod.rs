//! The commands. Each run has a process of its own, started by the command that wants it: `one`.
//!
//! | command | does |
//! |---|---|
//! | `run` | a campaign: many seeds, on all cores |
//! | `replay` | one seed, with its plan and its whole trace |
//! | `check-determinism` | each seed twice, and once without jumps of wall clocks |
//! | `shrink` | finds the fewest deeds with which a seed still fails |
//! | `scenarios` | every regression that has a name |
//! | `scale` | ten thousand nodes, one controller: what it has to bear |
//! | `planted` | plants bugs and tells how soon which oracle sees them |

mod campaign;
mod child;
mod determinism;
mod one;
mod planted;
mod replay;
mod scale;
mod scenarios;
mod shrink;
mod story;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Simulates clusters of node agents, from seeds.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Command {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Run many seeds, on all cores. Exit status 0: every promise was kept, every mark reached.
    Run(campaign::Run),
    /// Run one seed and show what happened.
    Replay(replay::Replay),
    /// Run seeds in several processes and compare their traces, byte for byte.
    CheckDeterminism(determinism::CheckDeterminism),
    /// Find the fewest deeds with which a seed still fails, and write that plan.
    Shrink(shrink::Shrink),
    /// Run every regression that has a name.
    Scenarios(scenarios::Scenarios),
    /// Simulate very many nodes and one controller. Exit status 0: every bound holds.
    Scale(scale::Scale),
    /// Plant bugs in a copy of the source, and tell how soon which oracle sees them.
    Planted(planted::Planted),
    /// Run one seed in this process and print its outcome as JSON.
    #[command(hide = true)]
    One(one::One),
}

impl Command {
    /// Does it.
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        match self.what {
            What::Run(run) => run.run(),
            What::Replay(replay) => replay.run(),
            What::CheckDeterminism(check) => check.run(),
            What::Shrink(shrink) => shrink.run(),
            What::Scenarios(scenarios) => scenarios.run(),
            What::Scale(scale) => scale.run(),
            What::Planted(planted) => planted.run(),
            What::One(one) => one.run(),
        }
    }
}
