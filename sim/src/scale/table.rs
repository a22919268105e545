//! The outcomes as text: what was called, what came of it, what had to hold.

use comfy_table::{CellAlignment, Table, presets};

use super::{
    outcome::{Count, Outcome, Results},
    tally::Kind,
};

/// What a run cost on this computer: the only figures that differ from run to run.
#[derive(Clone, PartialEq, Debug, Default, serde::Serialize)]
pub struct Cost {
    /// Seconds for each scenario.
    pub wall_seconds: Vec<f64>,
    /// Seconds of one core, for all of it.
    pub cpu_seconds: f64,
    /// The most memory that the process had, in bytes.
    pub peak_rss: u64,
}

/// How often each kind of call was made in each scenario, and how often in its fullest second.
pub fn calls(results: &Results) -> String {
    let mut table = ruled(["calls (peak per second)"].into_iter().chain(Kind::ALL.map(Kind::name)));
    for outcome in &results.outcomes {
        let counts = outcome.calls.values().map(|count| call(*count));
        table.add_row([outcome.name.clone()].into_iter().chain(counts));
    }
    table.to_string()
}

fn call(Count { total, peak }: Count) -> String {
    if total == 0 { "–".into() } else { format!("{} ({})", grouped(total), grouped(peak)) }
}

/// What came of each scenario.
pub fn outcomes(results: &Results, cost: &Cost) -> String {
    let mut table = ruled([
        "scenario",
        "all back",
        "settled",
        "longest wait",
        "longest queue",
        "ends",
        "delivered",
        "resent",
        "events",
        "simulated",
        "wall",
    ]);
    for (number, outcome) in results.outcomes.iter().enumerate() {
        let wall = cost.wall_seconds.get(number).map(|wall| format!("{wall:.1} s"));
        table.add_row([
            outcome.name.clone(),
            maybe(outcome.back_after_ms),
            maybe(outcome.settled_after_ms),
            seconds(outcome.longest_wait_ms),
            format!("{} ms", grouped(outcome.longest_queue_ms)),
            grouped(outcome.ends),
            grouped(outcome.delivered),
            grouped(outcome.resent),
            grouped(outcome.events),
            seconds(outcome.span.to_ms - outcome.span.from_ms),
            wall.unwrap_or_default(),
        ]);
    }
    table.to_string()
}

/// What had to hold, and whether it did.
pub fn bounds(results: &Results) -> String {
    let mut lines = Vec::new();
    for outcome in &results.outcomes {
        lines.push(format!("{}: {}", outcome.name, outcome.story));
        for bound in &outcome.bounds {
            let verdict = if bound.holds { "holds " } else { "BROKEN" };
            lines.push(format!("  {verdict} {}: {}", bound.what, bound.found));
        }
    }
    lines.join("\n")
}

/// All of it together.
pub fn summary(results: &Results, cost: &Cost) -> String {
    let events: u64 = results.outcomes.iter().map(|outcome| outcome.events).sum();
    let handled: u64 = results.outcomes.iter().map(|outcome| outcome.machine_events).sum();
    let simulated = results.outcomes.last().map_or(0, |outcome: &Outcome| outcome.span.to_ms);
    let wall: f64 = cost.wall_seconds.iter().sum();
    format!(
        "{} nodes, {} workers, seed {}: {} events, {} of them handled by machines; {} simulated \
         in {wall:.1} s ({:.1} s of one core); at most {} MiB of memory",
        grouped(results.settings.nodes as u64),
        grouped(results.settings.workers()),
        results.settings.seed,
        grouped(events),
        grouped(handled),
        seconds(simulated),
        cost.cpu_seconds,
        grouped(cost.peak_rss >> 20),
    )
}

fn ruled(header: impl IntoIterator<Item = &'static str>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    for (index, column) in table.column_iter_mut().enumerate() {
        if index > 0 {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn maybe(millis: Option<u64>) -> String {
    millis.map_or("never".into(), seconds)
}

fn seconds(millis: u64) -> String {
    format!("{:.1} s", millis as f64 / 1_000.0)
}

/// With a comma at every thousand.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_a_comma_at_every_thousand() {
        let texts = [0, 999, 1_000, 160_000, 1_234_567].map(grouped);
        assert_eq!(texts, ["0", "999", "1,000", "160,000", "1,234,567"]);
    }
}
