//! `arroyo-node start`: starts a worker, as a controller would.

use std::collections::BTreeMap;

use serde_json::json;

use super::{Agent, Exit, Failure, stdout};
use crate::rpc::{admin_wire::GetStatusRequest, wire::StartWorkerReq};

/// What to start.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
The controller does not know such a worker: it is for trials and tests.
Workers of a lower generation of the same job are stopped for it.")]
pub struct Args {
    /// The job that the worker is for
    #[arg(long, value_name = "ID")]
    job: String,
    /// The slots it holds
    #[arg(long, value_name = "N", default_value_t = 1)]
    slots: u64,
    /// The job's scheduling attempt
    #[arg(long, value_name = "N", default_value_t = 1)]
    generation: u64,
    /// The job's name, for people [default: the job's id]
    #[arg(long)]
    name: Option<String>,
    /// The job's pipeline; without it the worker's end is reported as Arroyo 0.15 expects
    #[arg(long, value_name = "ID")]
    pipeline: Option<String>,
    /// A variable for the worker's environment; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable)]
    env: Vec<(String, String)>,
    /// The machine that is meant; the agent refuses if it is another [default: whichever answers]
    #[arg(long, value_name = "ID")]
    machine: Option<String>,
    /// A name for this attempt: a repeat with the same one starts no second worker
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    request_id: String,
    #[command(flatten)]
    agent: Agent,
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE".to_owned()),
    }
}

impl Args {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let agent = self.agent.clone();
        agent.run(async |connection| {
            let machine_id = match self.machine {
                Some(machine) => machine,
                None => {
                    let mut admin = connection.admin();
                    connection.call(admin.get_status(GetStatusRequest {})).await?.machine_id
                }
            };
            let request = StartWorkerReq {
                name: self.name.unwrap_or_else(|| self.job.clone()),
                job_id: self.job,
                slots: self.slots,
                machine_id,
                generation: self.generation,
                env_vars: BTreeMap::from_iter(self.env),
                pipeline_id: self.pipeline.unwrap_or_default(),
                request_id: self.request_id,
            };
            let answer = connection.call(connection.node().start_worker(request)).await?;
            if self.agent.json {
                stdout::json(&json!({ "worker_id": answer.worker_id.to_string() }));
            } else {
                stdout::say(format_args!("worker {} started", answer.worker_id));
            }
            Ok(Exit::Ok)
        })
    }
}
