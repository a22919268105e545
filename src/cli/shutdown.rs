//! `arroyo-node shutdown` and `arroyo-node detach`: the end of an agent.

use serde_json::json;

use super::{Agent, Exit, Failure, stdout};
use crate::rpc::admin_wire::ShutdownRequest;

/// Which agent to end, and whether with its workers.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
The agent stops its workers, delivers what it owes to the controller, and exits.
The command answers when it has begun, not when it is done.")]
pub struct ShutdownArgs {
    /// Leave the workers running, for the next agent to adopt
    #[arg(long)]
    detach: bool,
    #[command(flatten)]
    agent: Agent,
}

/// Which agent to end.
#[derive(clap::Args, Debug)]
pub struct DetachArgs {
    #[command(flatten)]
    agent: Agent,
}

impl ShutdownArgs {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        end(&self.agent, self.detach)
    }
}

impl DetachArgs {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        end(&self.agent, true)
    }
}

fn end(to: &Agent, detach: bool) -> Result<Exit, Failure> {
    to.run(async |agent| {
        agent.call(agent.admin().shutdown(ShutdownRequest { detach })).await?;
        if to.json {
            stdout::json(&json!({ "shutting_down": true, "detach": detach }));
        } else if detach {
            stdout::say(format_args!(
                "the agent ends and leaves its workers running; start the next one to adopt them"
            ));
        } else {
            stdout::say(format_args!("the agent has begun to stop its workers, and ends then"));
        }
        Ok(Exit::Ok)
    })
}
