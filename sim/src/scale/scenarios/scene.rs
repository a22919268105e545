//! What every scenario has in common: where it began, what it counts, and what must hold.

use std::time::Duration;

use arroyo_node::machine::Mono;

use super::Scenario;
use crate::scale::{
    audit,
    cluster::Cluster,
    outcome::{Bound, Count, Outcome, Span},
    tally::{self, Kind},
    world::DAWN,
};

/// How long a cluster may take to settle.
const PATIENCE: Duration = Duration::from_secs(300);
/// How long it is watched after that.
const CALM: Duration = Duration::from_secs(12);
/// How long any node may have to wait.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// A scenario that is being played.
pub(super) struct Scene<'a> {
    pub(super) cluster: &'a mut Cluster,
    opened: Counts,
    fault: Option<(Mono, Mono)>,
    /// What must hold beyond what must always hold.
    bounds: Vec<Bound>,
}

/// How far the counts had come.
struct Counts {
    at: Mono,
    events: u64,
    machine_events: u64,
    ends: u64,
    crashes: u64,
    delivered: u64,
    sent: u64,
}

impl Counts {
    fn of(cluster: &Cluster) -> Self {
        let (tally, ledger) = (&cluster.world.tally, &cluster.world.ledger);
        Self {
            at: cluster.world.now,
            events: tally.happenings,
            machine_events: tally.machine_events,
            ends: ledger.ends(),
            crashes: tally.crashes,
            delivered: tally.acknowledged,
            sent: tally.reports_sent,
        }
    }
}

impl<'a> Scene<'a> {
    pub(super) fn open(cluster: &'a mut Cluster) -> Self {
        cluster.world.tally.longest_queue = Duration::ZERO;
        let opened = Counts::of(cluster);
        Self { cluster, opened, fault: None, bounds: Vec::new() }
    }

    /// A fault lasts for so long from now on, and then is over.
    pub(super) fn endure(&mut self, duration: Duration) {
        let from = self.cluster.world.now;
        self.cluster.run_for(duration);
        self.fault = Some((from, self.cluster.world.now));
    }

    /// Waits until every node is back.
    pub(super) fn until_back(&mut self) {
        self.cluster.run_until(PATIENCE, Cluster::all_back);
    }

    /// The herd that comes back must not be more than this in any second.
    pub(super) fn bound_registrations(&mut self) {
        let settings = &self.cluster.settings;
        let (most, cap) = (settings.most_registrations(), settings.backoff_cap());
        let bins = tally::bin(self.opened.at)..usize::MAX;
        let found = self.cluster.world.tally.peak(Kind::Register, bins);
        self.bounds.push(Bound {
            what: format!("at most {most:.0} registrations in any second (3 × nodes ÷ {cap:?})"),
            found: found.to_string(),
            holds: found as f64 <= most,
        });
    }

    /// No worker has ended but those that crashed.
    pub(super) fn bound_ends(&mut self) {
        let now = Counts::of(self.cluster);
        let (ends, crashes) = (now.ends - self.opened.ends, now.crashes - self.opened.crashes);
        self.bounds.push(Bound {
            what: format!("no worker ends but the {crashes} that crash by themselves"),
            found: format!("{ends} ended"),
            holds: ends == crashes,
        });
    }

    /// Waits until all is well, and sees what came of it.
    pub(super) fn close(mut self, scenario: Scenario) -> Outcome {
        let restored = self.fault.map_or(self.opened.at, |(_, until)| until);
        let settled = self.cluster.run_until(PATIENCE, Cluster::is_settled);
        let settled_after = settled.then(|| self.cluster.world.now.since(restored));
        self.cluster.run_for(CALM);
        self.must_hold(scenario, settled);

        let cluster = &*self.cluster;
        let (opened, now) = (&self.opened, Counts::of(cluster));
        let (back, longest_wait) = cluster.waits();
        let bins = tally::bin(opened.at)..tally::bin(now.at);
        let count = |kind| {
            let tally = &cluster.world.tally;
            Count { total: tally.total(kind, bins.clone()), peak: tally.peak(kind, bins.clone()) }
        };
        let delivered = now.delivered - opened.delivered;
        Outcome {
            name: scenario.name(),
            story: scenario.story(),
            span: span(opened.at, now.at),
            fault: self.fault.map(|(from, until)| span(from, until)),
            calls: Kind::ALL.into_iter().map(|kind| (kind, count(kind))).collect(),
            back_after_ms: back
                .filter(|_| cluster.all_back())
                .map(|back| millis(back.since(restored))),
            settled_after_ms: settled_after.map(millis),
            longest_wait_ms: millis(longest_wait),
            longest_queue_ms: millis(cluster.world.tally.longest_queue),
            ends: now.ends - opened.ends,
            delivered,
            resent: (now.sent - opened.sent).saturating_sub(delivered),
            events: now.events - opened.events,
            machine_events: now.machine_events - opened.machine_events,
            bounds: self.bounds,
        }
    }

    fn must_hold(&mut self, scenario: Scenario, settled: bool) {
        match scenario {
            Scenario::Restart(_) | Scenario::Partition => self.bound_registrations(),
            Scenario::FirstStart | Scenario::Upgrade | Scenario::MassStop => {}
        }
        if matches!(scenario, Scenario::Partition | Scenario::Upgrade) {
            self.bound_ends();
        }
        let (_, longest) = self.cluster.waits();
        self.bounds.push(Bound {
            what: format!("no node waits for more than {LONGEST_WAIT:?}"),
            found: format!("{:.1} s", longest.as_secs_f64()),
            holds: settled && longest <= LONGEST_WAIT,
        });
        let ledger = &self.cluster.world.ledger;
        self.bounds.push(Bound {
            what: "every end is reported and acknowledged".into(),
            found: format!("{} of {}", ledger.told_of(), ledger.ends()),
            holds: settled && ledger.fault().is_none(),
        });
        let disagreement = audit::disagreement(self.cluster);
        self.bounds.push(Bound {
            what: "the books agree: nodes, workers, slots".into(),
            holds: disagreement.is_none(),
            found: disagreement.unwrap_or_else(|| "they do".into()),
        });
    }
}

fn span(from: Mono, to: Mono) -> Span {
    Span { from_ms: millis(from.since(DAWN)), to_ms: millis(to.since(DAWN)) }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
