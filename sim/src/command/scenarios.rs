//! `scenarios`: every regression that has a name.

use std::process::ExitCode;

use arroyo_node_sim::scenarios;
use clap::Args;

use super::{child, one::One, story};

/// All of them, or these.
#[derive(Debug, Args)]
pub(super) struct Scenarios {
    /// Only these.
    names: Vec<String>,
}

impl Scenarios {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let mut failed = 0;
        for scenarios::Scenario { name, plan, .. } in scenarios::ALL {
            if !self.names.is_empty() && !self.names.iter().any(|wanted| wanted == name) {
                continue;
            }
            let seed = plan().seed;
            let told = child::run(&One { scenario: Some((*name).into()), ..One::of(seed) })?;
            match told.outcome.broken {
                None => println!("{name}: every promise was kept"),
                Some(_) => {
                    failed += 1;
                    let how = format!(" --scenario {name}");
                    println!("{name}:{}", story::failure(&told, &how));
                }
            }
        }
        Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
