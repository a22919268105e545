//! The `arroyo-node` command.

use std::{env, process::ExitCode, time::Duration};

use arroyo_node::runtime::process::shim;

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let options = match args[..] {
        ["shim", "--state-dir", dir] => shim::ShimOptions::new(dir),
        ["shim", "--linger-ms", linger, "--state-dir", dir] => shim::ShimOptions {
            linger: Duration::from_millis(linger.parse().unwrap_or(u64::MAX)),
            ..shim::ShimOptions::new(dir)
        },
        _ => return ExitCode::SUCCESS,
    };
    match shim::serve(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
