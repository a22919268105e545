//! The reckoning: what the agent says, what the controller says, what is really alive.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;

use super::{stage::Stage, story::Story};
use crate::{
    admin::row::Row, cli::stdout::say, controller::Snapshot, machine::Phase,
    runtime::process::alive_of,
};

/// Both sides' books at the end.
pub(super) struct Books {
    started: usize,
    ended: BTreeMap<String, usize>,
    acknowledged: usize,
    owed: usize,
    free_slots: (u64, u64),
    /// The workers that an earlier run left in the state directory, and those of them that were
    /// alive at the end. This run's books are without them.
    inherited: (usize, usize),
    controller: Snapshot,
    /// What does not add up.
    quarrels: Vec<String>,
}

impl Books {
    pub(super) fn draw_up(story: &Story, stage: &Stage, timely: bool) -> anyhow::Result<Self> {
        let view = stage.view.borrow().clone();
        let (inherited, own): (Vec<_>, Vec<_>) =
            story.workers.values().partition(|worker| story.inherited.contains(&worker.id));
        let mut ended = BTreeMap::new();
        for ending in own.iter().filter_map(|worker| Row::from(worker.as_ref()).exit) {
            *ended.entry(ending.to_string()).or_insert(0) += 1;
        }
        let mut books = Self {
            started: own.iter().filter(|worker| worker.process.is_some()).count(),
            ended,
            acknowledged: own.iter().filter(|worker| worker.phase() == Phase::Reported).count(),
            owed: view.reports_owed,
            free_slots: (view.free_slots, view.task_slots),
            inherited: (
                inherited.len(),
                inherited.iter().filter(|worker| worker.is_live()).count(),
            ),
            controller: stage.controller.snapshot(),
            quarrels: Vec::new(),
        };
        let ids: BTreeSet<_> = story.workers.keys().copied().collect();
        let left = alive_of(&ids).context("cannot look for processes that are left")?;
        books.compare(timely, &left.iter().map(|(_, process)| process.pid).collect::<Vec<_>>());
        Ok(books)
    }

    fn compare(&mut self, timely: bool, left: &[u32]) {
        let counters = self.controller.counters;
        let (started, ended) = (self.started as u64, self.ended.values().sum::<usize>() as u64);
        let finished = self.finished();
        let controller_free = self.controller.free_slots();
        let (free, total) = self.free_slots;
        let (_, inherited_alive) = self.inherited;
        let mut check = |holds: bool, quarrel: String| {
            if !holds {
                self.quarrels.push(quarrel);
            }
        };
        check(timely, "the end took too long".into());
        check(started > 0, "no worker was ever started".into());
        check(
            started == counters.started,
            format!(
                "the agent started {started} workers, the controller counts {}",
                counters.started
            ),
        );
        check(ended == started, format!("{started} workers were started, {ended} ended"));
        check(
            finished == ended,
            format!("{ended} workers ended, the controller heard of {finished}"),
        );
        check(
            inherited_alive == 0,
            format!("{inherited_alive} workers of an earlier run are alive"),
        );
        check(self.owed == 0, format!("{} reports are still owed", self.owed));
        check(free == total, format!("the agent counts {free} of {total} slots free"));
        check(
            controller_free == total,
            format!("the controller counts {controller_free} of {total} slots free"),
        );
        check(left.is_empty(), format!("processes are left: {left:?}"));
        for violation in &self.controller.violations {
            check(false, violation.to_string());
        }
    }

    /// Of how many workers that it started the controller heard the end. It hears of those of
    /// an earlier run, too, and does not know them.
    fn finished(&self) -> u64 {
        let counters = self.controller.counters;
        counters.finished - counters.duplicates - counters.unknown
    }

    pub(super) fn agree(&self) -> bool {
        self.quarrels.is_empty()
    }

    pub(super) fn print(&self) {
        let counters = self.controller.counters;
        let (free, total) = self.free_slots;
        let ended: usize = self.ended.values().sum();
        let kinds: Vec<_> =
            self.ended.iter().map(|(ending, count)| format!("{count} × {ending}")).collect();
        say(format_args!("\nThe books             agent  controller"));
        say(format_args!("  workers started  {:>8}  {:>10}", self.started, counters.started));
        say(format_args!("  workers ended    {ended:>8}  {:>10}", self.finished()));
        say(format_args!(
            "  slots free       {:>8}  {:>10}",
            format!("{free}/{total}"),
            format!("{}/{total}", self.controller.free_slots())
        ));
        say(format_args!(
            "  reports          {} acknowledged, {} owed, {} repeated",
            self.acknowledged, self.owed, counters.duplicates
        ));
        say(format_args!("  ends             {}", kinds.join(", ")));
        if let (count @ 1.., alive) = self.inherited {
            say(format_args!("  earlier runs     {count} workers, {alive} of them alive"));
        }
        say(format_args!("  heartbeats       {}", counters.heartbeats));
        if self.agree() {
            say(format_args!("They agree, and no process is left."));
        }
        for quarrel in &self.quarrels {
            say(format_args!("DISAGREEMENT: {quarrel}"));
        }
    }
}
