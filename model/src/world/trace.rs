//! All that went into a machine and came out of it.

use std::{fmt, sync::Arc};

use arroyo_node::machine::{Commit, Effect, Event, Now, Record, Wall, Worker};

/// All of it, in order; or nothing, where nobody wants to see it.
#[derive(Clone, PartialEq, Default)]
pub struct Trace(Option<Vec<Line>>);

/// One thing that went in or came out.
#[derive(Clone, PartialEq)]
pub(super) enum Line {
    Boot(Now),
    Event(Now, Event),
    Commit(Commit, bool),
    Effect(Effect),
}

impl Trace {
    pub(crate) fn kept() -> Self {
        Self(Some(Vec::new()))
    }

    pub(super) fn push(&mut self, line: impl FnOnce() -> Line) {
        if let Some(lines) = &mut self.0 {
            lines.push(line());
        }
    }

    /// The same, with every reading of the wall clock set to zero.
    #[must_use]
    pub fn without_wall_times(self) -> Self {
        Self(self.0.map(|lines| lines.into_iter().map(blank).collect()))
    }

    /// The end of it, for a person.
    pub fn tail(&self, lines: usize) -> String {
        let all = self.0.as_deref().unwrap_or_default();
        let skipped = all.len().saturating_sub(lines);
        all[skipped..].iter().map(|line| format!("{line:?}\n")).collect()
    }
}

fn blank(line: Line) -> Line {
    let still = |now: Now| Now { wall: Wall(0), ..now };
    match line {
        Line::Boot(now) => Line::Boot(still(now)),
        Line::Event(now, Event::NotDurable(effect)) => {
            Line::Event(still(now), Event::NotDurable(Box::new(blank_effect(*effect))))
        }
        Line::Event(now, Event::HeartbeatAnswered { mut heartbeat, result }) => {
            heartbeat.sent.wall = Wall(0);
            Line::Event(still(now), Event::HeartbeatAnswered { heartbeat, result })
        }
        Line::Event(now, event) => Line::Event(still(now), event),
        Line::Effect(effect) => Line::Effect(blank_effect(effect)),
        Line::Commit(mut commit, durable) => {
            for record in &mut commit.records {
                if let Record::Worker(worker) = record {
                    blank_worker(Arc::make_mut(worker));
                }
            }
            Line::Commit(commit, durable)
        }
    }
}

fn blank_worker(worker: &mut Worker) {
    worker.admitted_at = Wall(0);
    if let Some(end) = &mut worker.end {
        end.at = Wall(0);
    }
    worker.reported_at = worker.reported_at.map(|_| Wall(0));
}

fn blank_effect(mut effect: Effect) -> Effect {
    match &mut effect {
        Effect::Spawn(launch) => launch.admitted_at = Wall(0),
        Effect::Heartbeat(heartbeat) => heartbeat.sent.wall = Wall(0),
        Effect::Report(report) | Effect::Announce(report) => report.ended_at = Wall(0),
        _ => {}
    }
    effect
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Line::Boot(now) => write!(f, "{:?} boot", now.mono),
            Line::Event(now, event) => write!(f, "{:?} {event:?}", now.mono),
            Line::Commit(commit, durable) => {
                let result = if *durable { "committed" } else { "NOT committed" };
                write!(f, "    {result} {commit:?}")
            }
            Line::Effect(effect) => write!(f, "    → {effect:?}"),
        }
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.tail(usize::MAX))
    }
}
