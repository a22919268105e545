//! The `arroyo-node` command: see [`arroyo_node::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    arroyo_node::cli::main()
}
