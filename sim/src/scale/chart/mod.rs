//! The picture: calls per second over simulated time, a panel for each kind, in a file that needs
//! nothing else.
//!
//! ```text
//!              │ first start │ restart, 4s down │ partition │ …       scenarios, from left to right
//!  connections │   ▁▂▂▁      │▒▒▇▅▃▁            │           │
//!  registrations             │▒▒▆▄▂ - - - - - - the bound - -         ▒ while the fault lasts
//!  heartbeats  │  ▂▂▂▂▂▂▂▂▂▂▂│▒▒▁▂▂▂▂▂▂▂▂▂▂▂▂▂▂▂▂│▂▂▂▂▂▂▂▂▂▂▂│
//!              0 s          30 s               60 s
//! ```

mod axis;
mod panel;

use maud::{Markup, PreEscaped, html};

use super::{
    outcome::{Outcome, Results, Span},
    table::grouped,
    tally::Kind,
};
use axis::Axis;
use panel::Panel;

const WIDTH: f64 = 1_520.0;
const LEFT: f64 = 92.0;
const RIGHT: f64 = 28.0;
/// Where the first panel begins, below title, legend and the names of scenarios.
const TOP: f64 = 172.0;
/// What of that the names of scenarios take.
const NAMES: f64 = 66.0;
const PANEL: f64 = 132.0;
const GAP: f64 = 34.0;
const BOTTOM: f64 = 62.0;

const STYLE: &str = "
text { font-family: 'Inter', 'Helvetica Neue', Helvetica, Arial, sans-serif; font-size: 12px; fill: #333 }
.title { font-size: 21px; font-weight: 600; fill: #111 }
.subtitle { font-size: 13px; fill: #555 }
.name { font-size: 11.5px; font-weight: 600; fill: #333 }
.tick { font-size: 11px; fill: #777 }
.kind { font-size: 13px; font-weight: 600 }
.peak { font-size: 11px; paint-order: stroke; stroke: #fff; stroke-width: 3px; stroke-linejoin: round }
.grid { stroke: #e4e4e0; stroke-width: 1 }
.edge { stroke: #b9b9b2; stroke-width: 1 }
.base { stroke: #888; stroke-width: 1 }
.scenario { fill: #f4f4f0 }
.fault { fill: #f3c9c4; opacity: 0.65 }
.bound { stroke: #a31515; stroke-width: 1.4; stroke-dasharray: 7 4 }
.bound-text { font-size: 11px; fill: #a31515; paint-order: stroke; stroke: #fff; stroke-width: 3px }
.line { fill: none; stroke-width: 1.5; stroke-linejoin: round }
.area { stroke: none; opacity: 0.22 }
";

/// Draws it.
pub fn draw(results: &Results) -> String {
    let end = results.outcomes.last().map_or(1_000, |outcome| outcome.span.to_ms);
    let time = Axis::new(0.0, end as f64 / 1_000.0, LEFT, WIDTH - RIGHT);
    let panels = panels(results);
    let height = y(panels.len()) - GAP + BOTTOM;
    let page = html! {
        svg xmlns="http://www.w3.org/2000/svg" width=(WIDTH) height=(height)
            viewBox={ "0 0 " (WIDTH) " " (height) } role="img" {
            title { (title(results)) }
            style { (PreEscaped(STYLE)) }
            rect width="100%" height="100%" fill="#ffffff" {}
            text.title x=(LEFT) y="34" { (title(results)) }
            text.subtitle x=(LEFT) y="55" { (subtitle(results)) }
            (legend())
            (scenarios(results, &time, y(panels.len()) - GAP))
            @for (number, panel) in panels.iter().enumerate() {
                (panel.draw(&time, y(number), PANEL))
            }
            (time_axis(&time, y(panels.len()) - GAP))
        }
    };
    format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{}\n", page.into_string())
}

fn y(panel: usize) -> f64 {
    TOP + panel as f64 * (PANEL + GAP)
}

fn panels(results: &Results) -> Vec<Panel> {
    let (bound, cap) = (results.settings.most_registrations(), results.settings.backoff_cap());
    let of = |kinds: &[Kind]| Panel::new(kinds, &results.rates);
    let bounded = of(&[Kind::Register])
        .bounded(bound, format!("bound: 3 × nodes ÷ {cap:?} = {} /s", grouped(bound as u64)));
    vec![
        of(&[Kind::Connect]),
        bounded,
        of(&[Kind::Heartbeat]),
        of(&[Kind::Report]),
        of(&[Kind::Start, Kind::Stop]),
    ]
}

fn title(results: &Results) -> String {
    format!(
        "{} nodes, {} workers, one controller: calls per second",
        grouped(results.settings.nodes as u64),
        grouped(results.settings.workers()),
    )
}

fn subtitle(results: &Results) -> String {
    let settings = &results.settings;
    format!(
        "Each point counts the calls of the second before it. Network {:?} to {:?} one way; each \
         call holds the controller's lock for {:?}; seed {}.",
        settings.delay,
        settings.delay + settings.jitter,
        settings.service,
        settings.seed,
    )
}

fn legend() -> Markup {
    const Y: f64 = 80.0;
    let mut x = LEFT;
    let mut place = |width: f64| {
        let at = x;
        x += width;
        at
    };
    html! {
        @for kind in Kind::ALL {
            @let x = place(118.0);
            rect x=(x) y=(Y - 9.0) width="16" height="10" rx="2" fill=(colour(kind)) {}
            text x=(x + 22.0) y=(Y) { (kind.name()) }
        }
        @let x = place(190.0);
        rect.fault x=(x) y=(Y - 10.0) width="16" height="12" {}
        text x=(x + 22.0) y=(Y) { "while the fault lasts" }
        @let x = place(150.0);
        line.bound x1=(x) x2=(x + 24.0) y1=(Y - 4.0) y2=(Y - 4.0) {}
        text x=(x + 30.0) y=(Y) { "bound" }
    }
}

/// What distinguishes the kinds for everybody, colour-blind or not.
fn colour(kind: Kind) -> &'static str {
    match kind {
        Kind::Connect => "#7a7a7a",
        Kind::Register => "#0072b2",
        Kind::Heartbeat => "#009e73",
        Kind::Report => "#d55e00",
        Kind::Start => "#8e5ea2",
        Kind::Stop => "#c99700",
    }
}

/// A stripe for every scenario, with its name on top; and within it the fault.
fn scenarios(results: &Results, time: &Axis, bottom: f64) -> Markup {
    html! {
        @for (number, outcome) in results.outcomes.iter().enumerate() {
            @let (from, width) = stripe(outcome.span, time);
            @if number % 2 == 0 {
                rect.scenario x=(from) y=(TOP - NAMES) width=(width) height=(bottom - TOP + NAMES) {}
            }
            @if let Some(fault) = outcome.fault {
                @let (from, width) = stripe(fault, time);
                rect.fault x=(from) y=(TOP) width=(width.max(2.0)) height=(bottom - TOP) {}
            }
            line.edge x1=(from) x2=(from) y1=(TOP - NAMES) y2=(bottom) {}
            @for (line, part) in label(outcome).iter().enumerate() {
                text.name x=(from + 5.0) y=(TOP - NAMES + 15.0 + 15.0 * line as f64) { (part) }
            }
        }
    }
}

/// A name in two lines.
fn label(outcome: &Outcome) -> Vec<&str> {
    let at = outcome.name.find(", ").map(|at| (at, at + 2));
    match at.or_else(|| outcome.name.find(' ').map(|at| (at, at + 1))) {
        Some((first, second)) => vec![&outcome.name[..first], &outcome.name[second..]],
        None => vec![&outcome.name],
    }
}

/// Where a stretch of time begins, and how wide it is.
fn stripe(span: Span, time: &Axis) -> (f64, f64) {
    let (from, to) = (span.from_ms as f64 / 1_000.0, span.to_ms as f64 / 1_000.0);
    (time.at(from), time.at(to) - time.at(from))
}

fn time_axis(time: &Axis, bottom: f64) -> Markup {
    html! {
        @for tick in time.ticks(14) {
            @let x = time.at(tick);
            line.base x1=(x) x2=(x) y1=(bottom) y2=(bottom + 5.0) {}
            text.tick x=(x) y=(bottom + 19.0) text-anchor="middle" { (tick) }
        }
        text x=((LEFT + WIDTH - RIGHT) / 2.0) y=(bottom + 42.0) text-anchor="middle" {
            "simulated time in seconds"
        }
    }
}
