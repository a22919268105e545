//! A run as a picture: a page of its own, with a column for each host, time going down.
//!
//! ```text
//!   world      controller          agent-1                agent-2
//!   ** Kill      │                  ┃ ▐ worker             ┃
//!                │◀──── report ─────┃ ▐                    ┃
//!                │        ×─────────┃ ▐ lost               ┃
//!                │                  ╳                      ┃
//! ```
//!
//! Rows are facts, in the order in which they came about; so busy moments get room, and silence
//! gets a line.

mod lanes;
mod layout;
mod names;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::{
    fact::{Entry, Fact, Place},
    plan::Plan,
    recorder::Broken,
};
use lanes::{Kind, Lanes, Message, faults, messages};
use layout::{COLUMN, LANE, Layout, ROW};
use names::Names;

const STYLE: &str = include_str!("picture.css");

/// What the lines and colours mean, by class.
const LEGEND: [(&str, &str); 7] = [
    ("life", "agent's process"),
    ("worker w1", "worker, until nothing of it is left"),
    ("message", "call"),
    ("message report", "WorkerFinished"),
    ("message answer", "StartWorker's answer"),
    ("message lost", "lost, or sent again"),
    ("fault", "fault"),
];

/// Colours of workers' lifelines.
const HUES: usize = 6;

struct Picture<'a> {
    entries: &'a [Entry],
    layout: Layout,
    lanes: Lanes,
    names: Names,
}

/// Draws it.
pub fn draw(plan: &Plan, entries: &[Entry], broken: Option<&Broken>) -> String {
    let lanes = Lanes::of(entries);
    let layout = Layout::of(plan, entries, lanes.widths(plan.agents.len()));
    let picture = Picture { entries, layout, lanes, names: Names::of(entries) };
    let (width, height) = (picture.layout.width(), picture.layout.height());
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                title { "seed " (plan.seed) }
                style { (PreEscaped(STYLE)) }
            }
            body style=(format!("width: {width}px")) {
                header {
                    h1 { "seed " (plan.seed) ": " (picture.verdict(broken)) }
                    (legend())
                    svg width=(width) height="18" { (picture.hosts()) }
                }
                svg width=(width) height=(height) {
                    (arrowheads())
                    (picture.axes())
                    (picture.bands())
                    (picture.lives())
                    @for message in messages(entries) { (picture.message(&message)) }
                    @for row in 0..entries.len() { (picture.label(row)) }
                    @if let Some(broken) = broken { (picture.violation(broken)) }
                }
            }
        }
    };
    page.into_string()
}

fn legend() -> Markup {
    html! {
        p.legend {
            @for (class, meaning) in LEGEND {
                svg width="30" height="10" {
                    @if class == "fault" {
                        rect.fault x="2" y="1" width="26" height="8" {}
                    } @else {
                        line class=(class) x1="28" x2="3" y1="5" y2="5" {}
                    }
                }
                span { (meaning) }
            }
            span.hint { "point at a line for the whole of it" }
        }
    }
}

fn arrowheads() -> Markup {
    let heads = [("arrow", "#8a8a8a"), ("arrow-report", "#2f6f4f"), ("arrow-answer", "#5b62b0")];
    html! {
        defs {
            @for (id, colour) in heads {
                marker id=(id) viewBox="0 0 6 6" refX="6" refY="3" markerWidth="7"
                    markerHeight="7" orient="auto" { path d="M0,0 L6,3 L0,6 z" fill=(colour) {} }
            }
        }
    }
}

impl Picture<'_> {
    fn verdict(&self, broken: Option<&Broken>) -> Markup {
        let Some(broken) = broken else { return html! { "every promise was kept" } };
        let detail = self.names.shorten(&broken.detail);
        html! {
            a.broken href="#broken" { "broken: " (broken.promise) } ": " (detail)
        }
    }

    fn hosts(&self) -> Markup {
        let places = self.places();
        html! {
            @for (place, host) in places.into_iter().zip(self.layout.hosts()) {
                text.host x=(self.layout.x(place)) y="13" { (host) }
            }
        }
    }

    fn places(&self) -> Vec<Place> {
        let agents = self.layout.hosts().len() - 3;
        let agents = (0..agents).map(Place::Agent);
        [Place::World, Place::Controller].into_iter().chain(agents).chain([Place::Caller]).collect()
    }

    fn axes(&self) -> Markup {
        let silences = (0..self.entries.len())
            .filter_map(|row| Some((self.layout.y(row) - ROW, self.layout.silence_before(row)?)));
        html! {
            @for place in self.places() {
                @let x = self.layout.x(place);
                line.axis x1=(x) x2=(x) y1="0" y2=(self.layout.height()) {}
            }
            @for (y, silence) in silences {
                line.silence x1="0" x2=(self.layout.width()) y1=(y) y2=(y) {}
                text.silence x="4" y=(y + 3) { (format!("+{:.1} s", silence.as_secs_f64())) }
            }
        }
    }

    /// A fault reaches over the column of whom it strikes.
    fn bands(&self) -> Markup {
        html! {
            @for (fault, agent, from, to) in faults(self.entries) {
                @let x = self.layout.x(agent.map_or(Place::Controller, Place::Agent));
                @let y = self.layout.y_at(from);
                @let height = self.layout.y_at(to).saturating_sub(y).max(ROW);
                rect.fault x=(x - 6) y=(y - ROW / 2) width=(COLUMN - 10) height=(height) {
                    title { (fault) }
                }
            }
        }
    }

    /// The lives of agents, and beside each those of its workers.
    fn lives(&self) -> Markup {
        let layout = &self.layout;
        html! {
            @for life in &self.lanes.agents {
                @let at = layout.x(Place::Agent(life.agent));
                line.life x1=(at) x2=(at) y1=(layout.y(life.from)) y2=(layout.y(life.to)) {}
            }
            @for life in &self.lanes.workers {
                @let at = layout.x(Place::Agent(life.agent)) + LANE + life.lane * LANE;
                @let number = self.names.number(life.worker);
                line class=(format!("worker w{}", number % HUES))
                    x1=(at) x2=(at) y1=(layout.y(life.from)) y2=(layout.y(life.to)) {
                    title { "w" (number) ": " (life.worker) }
                }
            }
        }
    }

    fn message(&self, message: &Message) -> Markup {
        let from = self.layout.x(Place::Agent(message.agent));
        let to = self.layout.x(Place::Controller);
        let y = self.layout.y(message.sent);
        let class = match message.kind {
            Kind::Register | Kind::Heartbeat => "message",
            Kind::Report(_) => "message report",
            Kind::Started(_) => "message answer",
        };
        html! {
            @if let Some(arrived) = message.arrived {
                line class=(class) x1=(from) y1=(y) x2=(to) y2=(self.layout.y(arrived)) {}
            } @else {
                line.message.lost x1=(from) y1=(y) x2=(from - 60) y2=(y) {}
                text.lost x=(from - 68) y=(y + 5) { "×" }
            }
        }
    }

    fn label(&self, row: usize) -> Markup {
        let entry = &self.entries[row];
        let full = entry.fact.to_string();
        let (x, room) = self.layout.text(entry.place);
        let mut short = self.names.shorten(&full);
        if short.chars().count() > room {
            short = short.chars().take(room.saturating_sub(1)).chain(['…']).collect();
        }
        let y = self.layout.y(row) + 4;
        html! {
            @if row == 0 || self.entries[row - 1].at != entry.at {
                text.time x="4" y=(y) { (format!("{:.3}", entry.at.as_secs_f64())) }
            }
            text class=(class(&entry.fact)) x=(x) y=(y) { (short) title { (full) } }
        }
    }

    fn violation(&self, broken: &Broken) -> Markup {
        let y = self.layout.end();
        html! {
            g #broken {
                rect.violation x="0" y=(y) width=(self.layout.width()) height=(ROW * 3) {}
                text.broken x="10" y=(y + 18) { "broken: " (broken.promise) }
                text.broken x="10" y=(y + 36) { (self.names.shorten(&broken.detail)) }
            }
        }
    }
}

fn class(fact: &Fact) -> &'static str {
    use arroyo_node::controller::ControllerEvent;
    match fact {
        Fact::Deed(crate::plan::Deed::Fault(_)) => "deed",
        Fact::Deed(_) => "work",
        Fact::Over(_) | Fact::Healing | Fact::Skipped(_) => "over",
        Fact::AgentBegan { .. } | Fact::AgentGone(_) | Fact::ShimDied => "host",
        Fact::Panicked(_)
        | Fact::ErrorLogged(_)
        | Fact::Controller(ControllerEvent::Violation(_)) => "broken",
        Fact::Committed(_)
        | Fact::Written(_)
        | Fact::Calls { .. }
        | Fact::Hit { .. }
        | Fact::Heartbeats { .. }
        | Fact::Arrived(_)
        | Fact::Releases(_)
        | Fact::Controller(ControllerEvent::Heartbeat { known: true, .. }) => "faint",
        _ => "fact",
    }
}
