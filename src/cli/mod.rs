//! The command line: one file per command.
//!
//! ```text
//! arroyo-node [-c FILE] [--config-dir DIR] [--node-config FILE] [--log-format FORMAT] COMMAND …
//! ```
//!
//! A command is a struct of its arguments with `run`, which gives an [`Exit`] or a [`Failure`]:
//! the process's exit code either way. Commands build their own runtime, so that those that need
//! none (the worker) have none.

pub mod agent;
pub mod chaos;
mod config;
pub mod controller;
pub mod descendants;
pub mod dev;
pub mod drain;
pub mod exit;
pub mod logging;
pub mod misbehave;
pub mod node;
pub mod ps;
pub mod shim;
pub mod shutdown;
pub mod start;
mod static_fields;
pub mod status;
mod stderr;
mod stdout;
pub mod stop;
mod tls;
mod waiting;
pub mod worker;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};

pub use agent::Agent;
pub use exit::{Exit, Failure};

/// A node agent for Arroyo clusters: starts, watches and stops worker processes for a controller.
#[derive(Parser, Debug)]
#[command(name = "arroyo-node", version, after_help = exit::HELP)]
#[command(propagate_version = true, subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    /// What stands before the command.
    #[command(flatten)]
    pub options: Options,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// Options that stand before the command, as Arroyo has them.
#[derive(Args, Clone, Debug, Default)]
pub struct Options {
    /// A configuration file (TOML or YAML), read after the default ones
    #[arg(short = 'c', long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// A directory whose configuration files are read last
    #[arg(long, value_name = "DIR")]
    pub config_dir: Option<PathBuf>,
    /// A file of the agent's own settings (arroyo-node.toml), which workers do not get to see
    #[arg(long, value_name = "FILE")]
    pub node_config: Option<PathBuf>,
    /// The form of log lines; otherwise the configuration's `logging.format`
    #[arg(long, value_name = "FORMAT", value_enum)]
    pub log_format: Option<logging::Format>,
}

/// What `arroyo-node` can be told to do.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Be the agent of this machine
    Node(node::Args),
    /// Show the settings that `node` would run with, and where each comes from
    #[command(after_help = config::HELP)]
    Config(node::Args),
    /// Run a controller and an agent here, with real workers, and tell what happens
    Dev(dev::Args),
    /// Kill agent, shim and controller again and again, and see that no promise is broken
    Chaos(chaos::Args),
    /// Be a controller, for trying agents without an Arroyo cluster
    Controller(controller::Args),
    /// List the workers of an agent
    Ps(ps::Args),
    /// Show who an agent is and how it stands
    Status(status::Args),
    /// Start a worker, as a controller would
    Start(start::Args),
    /// Stop a worker, or ask whether it has ended
    Stop(stop::Args),
    /// Take no new workers; the running ones go on
    Drain(drain::Args),
    /// Take new workers again
    Undrain(drain::Args),
    /// End an agent with its workers
    Shutdown(shutdown::ShutdownArgs),
    /// End an agent and leave its workers running, for an upgrade
    Detach(shutdown::DetachArgs),
    /// Be the parent of an agent's workers, which outlives the agent; agents start it themselves
    #[command(hide = true)]
    Shim(shim::Args),
    /// Be a worker: the built-in one, for demonstrations and tests
    Worker(worker::Args),
    /// Be a descendant of the built-in worker
    #[command(hide = true)]
    WorkerChild(descendants::Args),
}

impl Command {
    fn run(self, options: &Options) -> Result<Exit, Failure> {
        match self {
            Self::Node(args) => args.run(options),
            Self::Config(args) => config::run(&args, options),
            Self::Dev(args) => args.run(options),
            Self::Chaos(args) => args.run(),
            Self::Controller(args) => args.run(options),
            Self::Ps(args) => args.run(),
            Self::Status(args) => args.run(),
            Self::Start(args) => args.run(),
            Self::Stop(args) => args.run(),
            Self::Drain(args) => args.run(true),
            Self::Undrain(args) => args.run(false),
            Self::Shutdown(args) => args.run(),
            Self::Detach(args) => args.run(),
            Self::Shim(args) => args.run(),
            Self::Worker(args) => args.run(),
            Self::WorkerChild(args) => args.run(),
        }
    }
}

/// Runs the command that the process's arguments name, and says how the process ends.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command.run(&cli.options) {
        Ok(Exit::Ok) if stdout::lost() => Exit::Failed.into(),
        Ok(exit) => exit.into(),
        Err(failure) => failure.tell().into(),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn configuration_stands_before_the_command() {
        let cli = Cli::parse_from(["arroyo-node", "-c", "a.toml", "--config-dir", "d", "worker"]);
        assert_eq!(cli.options.config.unwrap().to_str(), Some("a.toml"));
        assert_eq!(cli.options.config_dir.unwrap().to_str(), Some("d"));
        assert!(Cli::try_parse_from(["arroyo-node", "worker", "-c", "a.toml"]).is_err());
    }

    #[test]
    fn every_command_and_argument_has_a_help_text() {
        fn check(command: &clap::Command) {
            let name = command.get_name();
            assert!(command.get_about().is_some() || command.is_hide_set(), "{name}");
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{name}: {}", argument.get_id());
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }
}
