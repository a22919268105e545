//! The simulator's command line: see `arroyo-node-sim --help`.

use std::process::ExitCode;

use clap::Parser as _;

mod command;

fn main() -> ExitCode {
    match command::Command::parse().run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}
