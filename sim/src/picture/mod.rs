//! A run as a picture: a page of its own, with a column for each host, time going down.
//!
//! ```text
//!   world      controller          agent-1                agent-2
//!   ** Kill      │                  ┃ ▐ worker             ┃
//!                │◀──── report ─────┃ ▐                    ┃
//!                │                  ╳                      ┃
//! ```
//!
//! Rows are facts, in the order in which they came about; so busy moments get room, and silence
//! does not.

mod lanes;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::{
    fact::{Entry, Fact, Place},
    plan::Plan,
    recorder::Broken,
    world::agent_name,
};
use lanes::{Lanes, Message, messages};

const COLUMN: usize = 330;
const ROW: usize = 15;
const TOP: usize = 56;
const MARGIN: usize = 90;

const STYLE: &str = "
body { margin: 0; font: 11px ui-monospace, monospace; background: #fbfbf9; color: #222 }
header { position: sticky; top: 0; background: #fbfbf9ee; border-bottom: 1px solid #ccc }
header h1 { font-size: 13px; margin: 6px 10px 2px }
header svg { display: block }
.host { font-weight: 600 }
.axis { stroke: #ddd }
.life { stroke: #7a93ac; stroke-width: 3 }
.worker { stroke: #d79b3f; stroke-width: 4; stroke-linecap: round }
.message { stroke: #8a8a8a; fill: none; marker-end: url(#arrow) }
.report { stroke: #2f6f4f }
.time { fill: #999 }
.deed { fill: #a33 }
.over { fill: #2f6f4f }
.faint { fill: #999 }
.broken { fill: #c00; font-weight: 700 }
.band { fill: #ffd9d6 }
";

/// Draws it.
pub fn draw(plan: &Plan, entries: &[Entry], broken: Option<&Broken>) -> String {
    let hosts = hosts(plan);
    let width = MARGIN + hosts.len() * COLUMN;
    let height = TOP + (entries.len() + 3) * ROW;
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                title { "seed " (plan.seed) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { "seed " (plan.seed) ": " (verdict(broken)) }
                    svg width=(width) height="18" {
                        @for (index, host) in hosts.iter().enumerate() {
                            text.host x=(x(index)) y="13" { (host) }
                        }
                    }
                }
                svg width=(width) height=(height) {
                    (arrowhead())
                    @for index in 0..hosts.len() {
                        line.axis x1=(x(index)) x2=(x(index)) y1="0" y2=(height) {}
                    }
                    (lives(plan, entries))
                    @for message in messages(entries) { (arrow(&message)) }
                    @for row in 0..entries.len() { (label(row, entries, plan.agents.len())) }
                    @if let Some(broken) = broken { (band(entries.len(), width, broken)) }
                }
            }
        }
    };
    page.into_string()
}

fn verdict(broken: Option<&Broken>) -> String {
    match broken {
        None => "every promise was kept".into(),
        Some(broken) => format!("broken: {}: {}", broken.promise, broken.detail),
    }
}

fn hosts(plan: &Plan) -> Vec<String> {
    let agents = (0..plan.agents.len()).map(agent_name);
    ["world", "controller"]
        .map(String::from)
        .into_iter()
        .chain(agents)
        .chain(["caller".into()])
        .collect()
}

fn column(place: Place, agents: usize) -> usize {
    match place {
        Place::World => 0,
        Place::Controller => 1,
        Place::Agent(number) => 2 + number,
        Place::Caller => 2 + agents,
    }
}

fn x(column: usize) -> usize {
    MARGIN + column * COLUMN
}

fn y(row: usize) -> usize {
    TOP + row * ROW
}

fn arrowhead() -> Markup {
    html! {
        defs {
            marker id="arrow" viewBox="0 0 6 6" refX="6" refY="3" markerWidth="6" markerHeight="6"
                orient="auto" { path d="M0,0 L6,3 L0,6 z" fill="#8a8a8a" {} }
        }
    }
}

/// The lives of agents, and beside each those of its workers.
fn lives(plan: &Plan, entries: &[Entry]) -> Markup {
    let lanes = Lanes::of(entries);
    html! {
        @for life in &lanes.agents {
            @let at = x(column(Place::Agent(life.agent), plan.agents.len()));
            line.life x1=(at) x2=(at) y1=(y(life.from)) y2=(y(life.to)) {}
        }
        @for worker in &lanes.workers {
            @let at = x(column(Place::Agent(worker.agent), plan.agents.len())) + 6 + worker.lane * 6;
            line.worker x1=(at) x2=(at) y1=(y(worker.from)) y2=(y(worker.to)) {
                title { (worker.name) }
            }
        }
    }
}

fn arrow(message: &Message) -> Markup {
    let class = if message.is_report { "message report" } else { "message" };
    let from = x(2 + message.agent);
    html! {
        line class=(class) x1=(from) y1=(y(message.sent)) x2=(x(1)) y2=(y(message.arrived)) {}
    }
}

fn label(row: usize, entries: &[Entry], agents: usize) -> Markup {
    let entry = &entries[row];
    let full = entry.fact.to_string();
    let short: String = full.chars().take(44).collect();
    let (class, indent) = match (&entry.fact, entry.place) {
        (Fact::Deed(_), _) => ("deed", 4),
        (Fact::Over(_) | Fact::Healing | Fact::Skipped(_), _) => ("over", 4),
        (Fact::Committed(_) | Fact::Hit { .. } | Fact::Heartbeats, _) => ("faint", 40),
        (_, Place::Agent(_)) => ("fact", 40),
        _ => ("fact", 6),
    };
    html! {
        @if row == 0 || entries[row - 1].at != entry.at {
            text.time x="4" y=(y(row) + 4) { (format!("{:.3}", entry.at.as_secs_f64())) }
        }
        text class=(class) x=(x(column(entry.place, agents)) + indent) y=(y(row) + 4) {
            (short)
            title { (full) }
        }
    }
}

fn band(row: usize, width: usize, broken: &Broken) -> Markup {
    html! {
        rect.band x="0" y=(y(row)) width=(width) height=(ROW * 2) {}
        text.broken x="10" y=(y(row) + 18) { (broken.promise) ": " (broken.detail) }
    }
}
