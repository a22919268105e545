//! What is true of a machine between any two events, whatever happened before. Checked after every
//! event in debug builds, simulations, property tests and fuzz runs.

use std::collections::BTreeSet;

use thiserror::Error;

use super::{Machine, Phase, Timer, session::State};

/// A broken invariant.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("invariant broken: {invariant}: {detail}")]
pub struct Violation {
    /// Which one, by its name in the table.
    pub invariant: &'static str,
    /// What was found instead.
    pub detail: String,
}

type Invariant = fn(&Machine) -> Result<(), String>;

const INVARIANTS: &[(&str, Invariant)] = &[
    ("live slots stay within capacity (P1)", slots_within_capacity),
    ("the indexes agree with the workers", indexes_agree),
    ("every end that is not acknowledged is owed, and only those (P4, P5)", owed_is_owed),
    ("reports in flight stay within their bound", in_flight_within_bound),
    ("every forced stop has its deadline or its signal (P8)", forced_stops_escalate),
    ("starts in flight belong to workers without a process", launches_are_unborn),
    ("superseded slots are promised once", promises_are_single),
    ("whoever waits has a time at which it ends", waiting_is_bounded),
    ("the session has a next step (P10)", session_moves_on),
    ("reported workers are forgotten in time", reported_are_retired),
    ("a journal that is down is tried again", journal_is_retried),
];

/// Checks every invariant.
///
/// # Errors
/// The first one that does not hold.
pub fn check(machine: &Machine) -> Result<(), Violation> {
    for (invariant, holds) in INVARIANTS {
        holds(machine).map_err(|detail| Violation { invariant, detail })?;
    }
    Ok(())
}

fn ensure(holds: bool, detail: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(detail()) }
}

fn slots_within_capacity(machine: &Machine) -> Result<(), String> {
    let (used, most) = (machine.roster.used_slots(), machine.config.task_slots);
    // Workers of before may hold more than there is now; nothing is added to that.
    let admitted = machine.roster.live().find(|worker| !machine.inherited.contains(&worker.id));
    ensure(used <= most || admitted.is_none(), || format!("{used} used of {most}"))
}

fn indexes_agree(machine: &Machine) -> Result<(), String> {
    let live: Vec<_> = machine.roster.iter().filter(|worker| worker.is_live()).collect();
    let slots = live.iter().map(|worker| worker.spec.slots.get()).fold(0, u64::saturating_add);
    let indexed: BTreeSet<_> = machine.roster.live().map(|worker| worker.id).collect();
    let scanned: BTreeSet<_> = live.iter().map(|worker| worker.id).collect();
    ensure(indexed == scanned, || format!("live: indexed {indexed:?}, found {scanned:?}"))?;
    ensure(machine.roster.live_count() == live.len(), || format!("{} live", live.len()))?;
    ensure(machine.roster.used_slots() == slots, || format!("{slots} slots used"))
}

fn owed_is_owed(machine: &Machine) -> Result<(), String> {
    if !machine.begun {
        return Ok(());
    }
    let mut count = 0;
    for worker in machine.roster.iter().filter(|worker| worker.is_owed()) {
        count += 1;
        let owed = machine.outbox.contains(worker.id);
        ensure(owed, || format!("the end of worker {} is not owed", worker.id))?;
    }
    let len = machine.outbox.len();
    ensure(len == count, || format!("{len} reports owed, {count} ends not acknowledged"))
}

fn in_flight_within_bound(machine: &Machine) -> Result<(), String> {
    let (counted, found) = (machine.outbox.in_flight(), machine.outbox.recount_in_flight());
    ensure(counted == found, || format!("counted {counted}, found {found}"))?;
    let most = machine.config.reports_in_flight.get();
    ensure(counted <= most, || format!("{counted} of {most}"))
}

fn forced_stops_escalate(machine: &Machine) -> Result<(), String> {
    for worker in machine.roster.live() {
        let forced = worker.stop.is_some_and(|stop| stop.kill_at.is_some());
        let signallable = worker.process.is_some() && !machine.adopting.contains(&worker.id);
        if forced && signallable && machine.begun {
            let killed = machine.signalled.get(&worker.id) == Some(&super::Signal::Kill);
            let timer = machine.timers.get(Timer::Kill(worker.id)).is_some();
            ensure(killed || timer, || format!("worker {}", worker.id))?;
        }
    }
    Ok(())
}

fn launches_are_unborn(machine: &Machine) -> Result<(), String> {
    for id in machine.launching.keys() {
        let phase = machine.roster.get(*id).map(|worker| worker.phase());
        ensure(phase == Some(Phase::Starting), || format!("worker {id} is {phase:?}"))?;
    }
    Ok(())
}

fn promises_are_single(machine: &Machine) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for id in machine.waiting.iter().flat_map(|start| &start.takes) {
        ensure(seen.insert(id), || format!("worker {id} is promised twice"))?;
    }
    Ok(())
}

fn waiting_is_bounded(machine: &Machine) -> Result<(), String> {
    for start in &machine.waiting {
        let timer = Timer::AbandonStart(start.request());
        ensure(machine.timers.get(timer).is_some(), || format!("no {timer:?}"))?;
    }
    for (worker, request) in &machine.stop_callers {
        let timer = Timer::AnswerStop(*worker, *request);
        ensure(machine.timers.get(timer).is_some(), || format!("no {timer:?}"))?;
    }
    Ok(())
}

fn session_moves_on(machine: &Machine) -> Result<(), String> {
    let timer = match machine.session.state() {
        _ if !machine.begun => return Ok(()),
        State::Disconnected => Timer::Register,
        State::Registered => Timer::Heartbeat,
        // The answer of the call in flight is the next step: calls have deadlines.
        State::Registering => return Ok(()),
    };
    ensure(machine.timers.get(timer).is_some(), || format!("no {timer:?}"))
}

fn reported_are_retired(machine: &Machine) -> Result<(), String> {
    let retired: BTreeSet<_> = machine.retired.iter().map(|(_, id)| *id).collect();
    ensure(retired.len() == machine.retired.len(), || "retired twice".into())?;
    let reported = machine.roster.iter().filter(|worker| worker.phase() == Phase::Reported);
    let reported: BTreeSet<_> = reported.map(|worker| worker.id).collect();
    ensure(!machine.begun || retired == reported, || format!("{retired:?}, not {reported:?}"))?;
    let timer = machine.timers.get(Timer::Forget).is_some();
    ensure(timer != retired.is_empty(), || format!("timer {timer}, {} retired", retired.len()))
}

fn journal_is_retried(machine: &Machine) -> Result<(), String> {
    let down = machine.journal.error().is_some();
    let tried = machine.journal.rewriting() || machine.timers.get(Timer::Rewrite).is_some();
    ensure(!down || tried, || "no timer, no rewrite under way".into())
}
