//! `arroyo-node drain` and `arroyo-node undrain`: whether an agent takes new workers.

use serde_json::json;

use super::{Agent, Exit, Failure, stdout};
use crate::rpc::admin_wire::SetDrainingRequest;

/// Which agent.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    agent: Agent,
}

impl Args {
    pub(super) fn run(self, draining: bool) -> Result<Exit, Failure> {
        self.agent.run(async |agent| {
            let mut admin = agent.admin();
            agent.call(admin.set_draining(SetDrainingRequest { draining })).await?;
            if self.agent.json {
                stdout::json(&json!({ "draining": draining }));
            } else if draining {
                stdout::say(format_args!(
                    "draining: no new workers from now on, across restarts too; running ones go on"
                ));
            } else {
                stdout::say(format_args!("serving: new workers are accepted again"));
            }
            Ok(Exit::Ok)
        })
    }
}
