//! `arroyo-node ps`: the workers of an agent.

use comfy_table::{CellAlignment, Table, presets};

use super::{Agent, Exit, Failure, stdout};
use crate::{
    admin::row::{Moment, Row, age, plain},
    rpc::wire::GetWorkersReq,
};

/// What to list.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Also those that have ended and are not forgotten yet, with how they ended
    #[arg(long, short)]
    all: bool,
    #[command(flatten)]
    agent: Agent,
}

impl Args {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        self.agent.run(async |agent| {
            let answer = agent.call(agent.node().get_workers(GetWorkersReq {})).await?;
            let mut rows: Vec<Row> = answer.statuses.iter().map(Row::from).collect();
            rows.retain(|row| self.all || row.alive);
            rows.sort_by_key(|row| (!row.alive, row.started_at));
            if self.agent.json {
                stdout::json(&rows);
            } else {
                stdout::say(format_args!("{}", table(&rows, self.all, Moment::now())));
            }
            Ok(Exit::Ok)
        })
    }
}

fn table(rows: &[Row], all: bool, now: Moment) -> String {
    const COLUMNS: [&str; 9] =
        ["WORKER", "JOB", "GENERATION", "SLOTS", "STATE", "PID", "STARTED", "NAME", "EXIT"];
    const NUMBERS: [usize; 4] = [0, 2, 3, 5];
    let columns = if all { 9 } else { 8 };

    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(&COLUMNS[..columns]);
    for row in rows {
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let ago = |moment: Moment| format!("{} ago", age(moment.before(now)));
        let cells = [
            row.worker_id.clone(),
            plain(&row.job_id).into_owned(),
            row.generation.to_string(),
            row.slots.to_string(),
            row.state_text(),
            or_dash(row.pid.map(|pid| pid.to_string())),
            or_dash(row.started_at.map(ago)),
            plain(&row.name).into_owned(),
            or_dash(row.exit.map(|exit| exit.to_string())),
        ];
        table.add_row(&cells[..columns]);
    }
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if NUMBERS.contains(&index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt()
}
