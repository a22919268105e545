//! `arroyo-node config`: what `arroyo-node node` would run with. It takes the same flags.

use super::{Exit, Failure, Options, exit, node, stdout};

pub(super) const HELP: &str = "\
The output is TOML; the comment after each setting is the file, the variable or the flag that it
comes from. Secrets are not shown. Nothing is started, bound or written.";

pub(super) fn run(args: &node::Args, options: &Options) -> Result<Exit, Failure> {
    let settings = args.settings(options)?;
    for notice in &settings.notices {
        exit::complain(format_args!("note: {notice}"));
    }
    stdout::say(format_args!("{}", settings.render()));
    stdout::say(format_args!("# the controller is at {}", settings.stock.controller_url()));
    stdout::say(format_args!("# the state directory is {}", node::state_dir(&settings).display()));
    match node::worker_command(&settings, options) {
        Ok(worker) => {
            stdout::say(format_args!("# workers are run as {}", node::command_line(&worker)));
        }
        // The settings are what was asked for; `node` would not start.
        Err(error) => stdout::say(format_args!("# {error}")),
    }
    Ok(Exit::Ok)
}
