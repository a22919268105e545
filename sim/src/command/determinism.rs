//! `check-determinism`: P14, the same seed gives the same trace in another process, to the byte,
//! packets included; and P13, jumps of wall clocks change nothing but the times that are told.

use std::process::ExitCode;

use arroyo_node_sim::plan::{Kind, Plan};
use clap::Args;

use super::{
    child,
    one::{One, Told},
};

/// Which seeds.
#[derive(Debug, Args)]
pub(super) struct CheckDeterminism {
    /// How many.
    #[arg(long, default_value_t = 20)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    from: u64,
}

impl CheckDeterminism {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let mut wrong = 0;
        let mut jumped = 0;
        for seed in self.from..self.from + self.seeds {
            let one = One { wire: true, ..One::of(seed) };
            let (first, second) = (child::run(&one)?, child::run(&one)?);
            if first != second {
                wrong += 1;
                println!("seed {seed} differs from itself: {}", difference(&first, &second));
            }
            if Plan::draw(seed).deeds.iter().any(|timed| timed.deed.kind() == Some(Kind::ClockJump))
            {
                jumped += 1;
                let steady = child::run(&One { no_jumps: true, ..One::of(seed) })?;
                if steady.outcome.timeless != first.outcome.timeless {
                    wrong += 1;
                    println!("seed {seed} is changed by jumps of wall clocks (P13)");
                }
            }
        }
        println!("{} seeds run twice, {jumped} without clock jumps; {wrong} differ", self.seeds);
        Ok(if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn difference(first: &Told, second: &Told) -> &'static str {
    if first.outcome.digest != second.outcome.digest {
        "its trace"
    } else if first.outcome.wire != second.outcome.wire {
        "its packets"
    } else {
        "what came of it"
    }
}
