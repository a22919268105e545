//! Where things stand: hosts beside each other, facts below each other, a little apart where time
//! passes without any.

use std::time::Duration;

use crate::{
    fact::{Entry, Place},
    plan::Plan,
    world::agent_name,
};

/// Of a line of text.
pub(super) const ROW: usize = 15;
/// From one host to the next.
pub(super) const COLUMN: usize = 340;
/// Between two workers' lifelines.
pub(super) const LANE: usize = 7;
const TOP: usize = 30;
const MARGIN: usize = 70;
/// The widest letter of the page's font.
const LETTER: usize = 7;
/// Silence that is worth a gap.
const SILENCE: Duration = Duration::from_millis(800);

/// The grid of a picture.
pub(super) struct Layout {
    agents: usize,
    /// Where each row stands; one more, for the end.
    rows: Vec<usize>,
    times: Vec<Duration>,
    /// How many workers each agent has at a time, at most.
    lanes: Vec<usize>,
}

impl Layout {
    pub(super) fn of(plan: &Plan, entries: &[Entry], lanes: Vec<usize>) -> Self {
        let mut y = TOP;
        let mut rows = Vec::new();
        let mut before = None;
        for entry in entries {
            if before.is_some_and(|before| entry.at > before + SILENCE) {
                y += ROW;
            }
            before = Some(entry.at);
            rows.push(y);
            y += ROW;
        }
        rows.push(y);
        let times = entries.iter().map(|entry| entry.at).collect();
        Self { agents: plan.agents.len(), rows, times, lanes }
    }

    /// The hosts' names, from left to right.
    pub(super) fn hosts(&self) -> Vec<String> {
        let agents = (0..self.agents).map(agent_name);
        let first = ["world", "controller"].map(String::from).into_iter();
        first.chain(agents).chain(["caller".into()]).collect()
    }

    pub(super) fn width(&self) -> usize {
        MARGIN + (self.agents + 3) * COLUMN
    }

    pub(super) fn height(&self) -> usize {
        self.end() + 4 * ROW
    }

    /// A host's line.
    pub(super) fn x(&self, place: Place) -> usize {
        let column = match place {
            Place::World => 0,
            Place::Controller => 1,
            Place::Agent(number) => 2 + number,
            Place::Caller => 2 + self.agents,
        };
        MARGIN + column * COLUMN
    }

    /// Where text stands at a host, and how many letters there is room for.
    pub(super) fn text(&self, place: Place) -> (usize, usize) {
        let indent = match place {
            Place::Agent(number) => 12 + LANE * self.lanes[number],
            Place::World | Place::Controller | Place::Caller => 6,
        };
        (self.x(place) + indent, (COLUMN - indent) / LETTER)
    }

    pub(super) fn y(&self, row: usize) -> usize {
        self.rows[row]
    }

    pub(super) fn end(&self) -> usize {
        self.rows[self.rows.len() - 1]
    }

    /// Where the first row stands that is at this time or later.
    pub(super) fn y_at(&self, time: Duration) -> usize {
        self.rows[self.times.partition_point(|at| *at < time)]
    }

    /// Where silence comes before a row, and how long it lasts.
    pub(super) fn silence_before(&self, row: usize) -> Option<Duration> {
        let silence = self.times[row].checked_sub(*self.times.get(row.checked_sub(1)?)?)?;
        (silence > SILENCE).then_some(silence)
    }
}
