//! `arroyo-node stop`: stops a worker, or asks whether it has ended.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{Agent, Exit, Failure, agent::Connection, stdout};
use crate::rpc::wire::{StopWorkerReq, StopWorkerStatus as Status};

/// How long to wait between two questions whether a worker has ended.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// Which worker to stop, and how.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Exits 0 once the worker has ended with everything it started, 6 while it is still alive,
4 if the agent does not know it. Repeating a stop is safe, and so is forcing one that began gently.")]
pub struct Args {
    /// The worker's id, as `arroyo-node ps` shows it
    #[arg(value_name = "WORKER")]
    worker: u64,
    /// Kill what has not ended after the agent's kill-after time
    #[arg(long)]
    force: bool,
    /// Signal nothing: only ask whether it has ended
    #[arg(long, conflicts_with = "force")]
    ask: bool,
    /// Wait this long for its end
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    wait: Option<Duration>,
    #[command(flatten)]
    agent: Agent,
}

impl Args {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        self.agent.run(async |agent| {
            let status = self.stop(agent).await?;
            if self.agent.json {
                self.tell_json(status);
            } else {
                self.tell(status)?;
            }
            Ok(exit(status))
        })
    }

    async fn stop(&self, agent: &Connection) -> Result<Status, Failure> {
        let deadline = self.wait.map(|wait| Instant::now() + wait);
        let first = self.request(agent, self.ask).await?;
        let mut status = first;
        while status == Status::Stopping && deadline.is_some_and(|at| Instant::now() < at) {
            tokio::time::sleep(ASK_EVERY).await;
            status = match self.request(agent, true).await? {
                // It was there a moment ago, so it has ended and is forgotten since.
                Status::NotFound => Status::Stopped,
                status => status,
            };
        }
        Ok(status)
    }

    async fn request(&self, agent: &Connection, ask: bool) -> Result<Status, Failure> {
        let request = StopWorkerReq {
            worker_id: self.worker,
            force: self.force && !ask,
            job_id: String::new(),
            finished: ask,
            wants_status: true,
        };
        Ok(agent.call(agent.node().stop_worker(request)).await?.status())
    }

    fn tell_json(&self, status: Status) {
        let word = match status {
            Status::Stopped => "stopped",
            Status::Stopping => "stopping",
            Status::NotFound => "not_found",
            Status::StopFailed | Status::Placeholder => "stop_failed",
        };
        stdout::json(&json!({ "worker_id": self.worker.to_string(), "status": word }));
    }

    fn tell(&self, status: Status) -> Result<(), Failure> {
        let worker = self.worker;
        let (message, hint) = match status {
            Status::Stopped => {
                stdout::say(format_args!("worker {worker} has ended"));
                return Ok(());
            }
            Status::Stopping => {
                let told = if self.ask { "" } else { "has been told to end and " };
                stdout::say(format_args!("worker {worker} {told}is still alive"));
                return Ok(());
            }
            Status::NotFound => (
                format!("the agent knows no worker {worker}"),
                "`arroyo-node ps --all` lists those it knows; it forgets ended ones in time",
            ),
            Status::StopFailed | Status::Placeholder => (
                format!("worker {worker} could not be signalled"),
                "the agent's log says why; repeating the stop is safe",
            ),
        };
        Err(Failure::new(exit(status), message, hint))
    }
}

fn exit(status: Status) -> Exit {
    match status {
        Status::Stopped => Exit::Ok,
        Status::Stopping => Exit::StillGoing,
        Status::NotFound => Exit::NotFound,
        Status::StopFailed | Status::Placeholder => Exit::Failed,
    }
}
