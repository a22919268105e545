//! `arroyo-node status`: who an agent is and how it stands.

use comfy_table::{Table, presets};
use serde::Serialize;

use super::{Agent, Exit, Failure, stdout};
use crate::{
    admin::row::{Moment, age, plain},
    rpc::admin_wire::{GetStatusRequest, GetStatusResponse, NodeMode},
};

/// Which agent to ask.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    agent: Agent,
}

impl Args {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        self.agent.run(async |agent| {
            let answer = agent.call(agent.admin().get_status(GetStatusRequest {})).await?;
            let status = Status::from(answer);
            if self.agent.json {
                stdout::json(&status);
            } else {
                stdout::say(format_args!("{}", status.table(Moment::now())));
            }
            Ok(Exit::Ok)
        })
    }
}

#[derive(Serialize)]
struct Status {
    machine_id: String,
    version: String,
    mode: &'static str,
    task_slots: u64,
    free_slots: u64,
    live_workers: u64,
    abandoned_workers: u64,
    controller: String,
    registered: bool,
    reports_owed: u64,
    journal_error: Option<String>,
    program_error: Option<String>,
    started_at: Option<Moment>,
    notices: Vec<String>,
}

impl From<GetStatusResponse> for Status {
    fn from(answer: GetStatusResponse) -> Self {
        Self {
            mode: match answer.mode() {
                NodeMode::Serving => "serving",
                NodeMode::Draining => "draining",
                NodeMode::ShuttingDown => "shutting_down",
                NodeMode::Unspecified => "unknown",
            },
            machine_id: answer.machine_id,
            version: answer.version,
            task_slots: answer.task_slots,
            free_slots: answer.free_slots,
            live_workers: answer.live_workers,
            abandoned_workers: answer.abandoned_workers,
            controller: answer.controller,
            registered: answer.registered,
            reports_owed: answer.reports_owed,
            journal_error: Some(answer.journal_error).filter(|error| !error.is_empty()),
            program_error: Some(answer.program_error).filter(|error| !error.is_empty()),
            started_at: Moment::unless_zero(answer.started_at),
            notices: answer.notices,
        }
    }
}

impl Status {
    fn table(&self, now: Moment) -> String {
        let registered = if self.registered { "registered" } else { "not registered" };
        let used = self.task_slots.saturating_sub(self.free_slots);
        let up = self.started_at.map(|at| format!("{} (since {at})", age(at.before(now))));

        let workers = match self.abandoned_workers {
            0 => format!("{} alive", self.live_workers),
            abandoned => format!("{} alive, {abandoned} of them abandoned", self.live_workers),
        };
        let mut lines = vec![
            ("machine", self.machine_id.clone()),
            ("version", self.version.clone()),
            ("up", up.unwrap_or_else(|| "unknown".to_owned())),
            ("mode", self.mode.replace('_', " ")),
            ("slots", format!("{used} of {} in use", self.task_slots)),
            ("workers", workers),
            ("controller", format!("{} ({registered})", self.controller)),
            ("reports owed", self.reports_owed.to_string()),
            ("journal", self.journal_error.clone().unwrap_or_else(|| "healthy".to_owned())),
        ];
        let program = self.program_error.iter().map(|error| ("worker program", error.clone()));
        lines.extend(program);
        lines.extend(self.notices.iter().map(|notice| ("notice", notice.clone())));

        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        for (name, value) in lines {
            table.add_row([name, &plain(&value)]);
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        table.trim_fmt()
    }
}
