//! What is true of a machine between any two events, whatever happened before. Checked after every
//! event in debug builds, simulations, property tests and fuzz runs.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;

use super::{Machine, Phase, Signal, Timer, Worker, session::State};
use crate::ids::WorkerId;

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
    ("live and promised slots stay within capacity (P1)", promises_within_capacity),
    ("the slots of a worker are promised once", promises_are_single),
    ("the indexes agree with the workers", indexes_agree),
    ("no worker is reported before it ended (P4)", reported_have_ended),
    ("every end that is not acknowledged is owed, and only those (P4, P5)", owed_is_owed),
    ("reports in flight stay within their bound", in_flight_within_bound),
    ("what is owed is on its way, or has a time to go (P4)", owed_moves_on),
    ("every forced stop has its deadline or its signal (P8)", forced_stops_escalate),
    ("only workers that are being stopped are signalled (P9)", signalled_are_stopping),
    ("starts in flight belong to workers without a process", launches_are_unborn),
    ("a worker without a process is being started or found (P7)", unborn_are_expected),
    (
        "a start waits for workers that it ends, one generation of a job at a time",
        waiting_has_a_cause,
    ),
    ("abandoned workers end in time, or are kept on purpose (P9, P15)", abandoned_come_to_an_end),
    ("a node that may be known makes itself known", registers_when_it_may),
    ("whoever waits has a time at which it ends", waiting_is_bounded),
    ("no timer outlives its purpose", timers_have_a_purpose),
    ("nothing is to be admitted that new work would not be", closed_admits_nothing),
    ("the session has a next step (P10)", session_moves_on),
    ("the fence is armed when asked for, and only then (P9)", fence_is_armed),
    ("a shutdown has an end", shutdown_ends),
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

fn promises_within_capacity(machine: &Machine) -> Result<(), String> {
    let promised = machine.waiting.iter().map(|start| start.promised_slots(&machine.roster));
    let taken = promised.fold(machine.roster.used_slots(), u64::saturating_add);
    let (inherited, most) = (!machine.inherited.is_empty(), machine.config.task_slots);
    // Beyond capacity, a start may be promised what the inherited workers that it ends hold now.
    let most = if inherited { most.max(machine.roster.used_slots()) } else { most };
    ensure(taken <= most, || format!("{taken} used or promised of {most}"))
}

fn indexes_agree(machine: &Machine) -> Result<(), String> {
    let live: Vec<_> = machine.roster.iter().filter(|worker| worker.is_live()).collect();
    let slots = live.iter().map(|worker| worker.spec.slots.get()).fold(0, u64::saturating_add);
    let indexed: BTreeSet<_> = machine.roster.live().map(|worker| worker.id).collect();
    let scanned: BTreeSet<_> = live.iter().map(|worker| worker.id).collect();
    ensure(indexed == scanned, || format!("live: indexed {indexed:?}, found {scanned:?}"))?;
    ensure(machine.roster.live_count() == live.len(), || format!("{} live", live.len()))?;
    ensure(machine.roster.used_slots() == slots, || format!("{slots} slots used"))?;
    let named: BTreeMap<_, _> = machine.roster.keys().collect();
    let keyed =
        machine.roster.iter().filter_map(|worker| Some((worker.spec.key.as_ref()?, worker.id)));
    let keyed: BTreeMap<_, _> = keyed.collect();
    ensure(named == keyed, || format!("keys: indexed {named:?}, found {keyed:?}"))
}

fn reported_have_ended(machine: &Machine) -> Result<(), String> {
    let early = machine.roster.live().find(|worker| worker.reported_at.is_some());
    ensure(early.is_none(), || format!("{early:?}"))
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

fn owed_moves_on(machine: &Machine) -> Result<(), String> {
    let (waiting, sent) = (machine.outbox.waiting_count(), machine.outbox.in_flight());
    let owed = machine.outbox.len();
    ensure(waiting + sent == owed, || format!("{waiting} wait, {sent} sent, {owed} owed"))?;
    let next = machine.outbox.next_due(machine.config.reports_in_flight);
    let due = machine.session.is_in_touch() && next.is_some();
    let timer = machine.timers.get(Timer::Report).is_some();
    ensure(timer == due, || format!("timer {timer}, {waiting} wait, {sent} sent"))
}

fn signalled_are_stopping(machine: &Machine) -> Result<(), String> {
    for id in machine.signalled.keys() {
        let worker = machine.roster.get(*id);
        let stopping = worker.is_some_and(|worker| worker.phase() == Phase::Stopping);
        ensure(stopping, || format!("{id}: {worker:?}"))?;
        ensure(!machine.adopting.contains(id), || format!("{id} is not adopted yet"))?;
    }
    Ok(())
}

fn forced_stops_escalate(machine: &Machine) -> Result<(), String> {
    for worker in machine.roster.live() {
        let forced = worker.stop.is_some_and(|stop| stop.kill_at.is_some());
        let signallable = worker.process.is_some() && !machine.adopting.contains(&worker.id);
        if forced && signallable && machine.begun {
            let killed = machine.signalled.get(&worker.id) == Some(&Signal::Kill);
            let timer = machine.timers.get(Timer::Kill(worker.id)).is_some();
            ensure(killed || timer, || format!("worker {}", worker.id))?;
        }
    }
    Ok(())
}

fn launches_are_unborn(machine: &Machine) -> Result<(), String> {
    for (id, callers) in &machine.launching {
        let worker = machine.roster.get(*id);
        let abandoned = worker.is_some_and(|w| w.stop.is_some_and(|stop| stop.kill_at.is_some()));
        ensure(!callers.is_empty() || abandoned, || format!("nobody waits for worker {id}"))?;
        let phase = worker.map(|worker| worker.phase());
        ensure(phase == Some(Phase::Starting), || format!("worker {id} is {phase:?}"))?;
    }
    Ok(())
}

fn unborn_are_expected(machine: &Machine) -> Result<(), String> {
    let expected = |id| machine.launching.contains_key(&id) || machine.adopting.contains(&id);
    let unborn = machine.roster.live().find(|w| w.process.is_none() && !expected(w.id));
    ensure(!machine.begun || unborn.is_none(), || format!("{unborn:?}"))?;
    let is_live = |id: &WorkerId| machine.roster.get(*id).is_some_and(|worker| worker.is_live());
    let gone = machine.adopting.iter().find(|id| !is_live(id));
    ensure(gone.is_none(), || format!("{gone:?} is being adopted and not alive"))
}

fn waiting_has_a_cause(machine: &Machine) -> Result<(), String> {
    let mut generations = BTreeMap::new();
    for start in &machine.waiting {
        let spec = &start.admission.spec;
        ensure(machine.waits_for(start) > 0, || format!("{spec:?} waits for nobody"))?;
        let first = *generations.entry(&spec.job).or_insert(spec.generation);
        ensure(first == spec.generation, || format!("{first} and {} wait", spec.generation))?;
        let ends = &start.room.ends;
        let older = machine.live_older_than(spec).find(|worker| !ends.contains(&worker.id));
        ensure(older.is_none(), || format!("{spec:?} does not wait for {older:?}"))?;
        ensure(start.room.takes.is_subset(ends), || format!("{:?}", start.room))?;
        let ending = |id: &WorkerId| {
            let worker = machine.roster.get(*id).map(AsRef::as_ref);
            worker.is_none_or(|w: &Worker| {
                !w.is_live() || w.stop.is_some_and(|s| s.kill_at.is_some())
            })
        };
        let spared = ends.iter().find(|id| !ending(id));
        ensure(spared.is_none(), || format!("{spared:?} is to make room and not killed"))?;
    }
    Ok(())
}

fn promises_are_single(machine: &Machine) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for id in machine.waiting.iter().flat_map(|start| &start.room.takes) {
        ensure(seen.insert(id), || format!("worker {id} is promised twice"))?;
    }
    Ok(())
}

fn abandoned_come_to_an_end(machine: &Machine) -> Result<(), String> {
    let scanned: BTreeSet<_> =
        machine.roster.iter().filter(|worker| worker.is_abandoned()).map(|w| w.id).collect();
    let indexed: BTreeSet<_> = machine.roster.abandoned().map(|worker| worker.id).collect();
    ensure(indexed == scanned, || format!("abandoned: indexed {indexed:?}, found {scanned:?}"))?;
    for worker in machine.roster.live().filter(|_| machine.begun) {
        let until = machine.abandoned_until(worker);
        let timer = machine.timers.get(Timer::StopAbandoned(worker.id));
        ensure(until == timer, || format!("{}: until {until:?}, timer {timer:?}", worker.id))?;
    }
    Ok(())
}

fn registers_when_it_may(machine: &Machine) -> Result<(), String> {
    let abandoned = machine.roster.abandoned().len();
    match machine.session.state() {
        _ if machine.finished => Ok(()),
        State::Clearing => ensure(abandoned > 0, || "nothing is to be cleared away".into()),
        State::Withheld => ensure(!machine.may_register(), || "nothing withholds it".into()),
        State::Registered if machine.session.is_unannounced() => {
            ensure(!machine.may_register(), || "nothing keeps it from registering".into())
        }
        _ => Ok(()),
    }
}

fn waiting_is_bounded(machine: &Machine) -> Result<(), String> {
    for start in &machine.waiting {
        let timer = Timer::AbandonStart(start.request());
        ensure(machine.timers.get(timer).is_some(), || format!("no {timer:?}"))?;
    }
    for (worker, _) in machine.launching.iter().filter(|(_, callers)| !callers.is_empty()) {
        let timer = Timer::AbandonSpawn(*worker);
        ensure(machine.timers.get(timer).is_some(), || format!("no {timer:?}"))?;
    }
    for (worker, request) in &machine.stop_callers {
        let timer = Timer::AnswerStop(*worker, *request);
        ensure(machine.timers.get(timer).is_some(), || format!("no {timer:?}"))?;
    }
    Ok(())
}

fn timers_have_a_purpose(machine: &Machine) -> Result<(), String> {
    for timer in machine.timers.iter() {
        let wanted = match timer {
            Timer::Kill(id) => machine.roster.get(id).is_some_and(|worker| {
                worker.is_live() && worker.stop.is_some_and(|stop| stop.kill_at.is_some())
            }),
            Timer::AnswerStop(id, request) => machine.stop_callers.contains(&(id, request)),
            Timer::AbandonStart(request) => {
                machine.waiting.iter().any(|start| start.request() == request)
            }
            Timer::AbandonSpawn(id) => machine.launching.get(&id).is_some_and(|c| !c.is_empty()),
            Timer::Probe => machine.session.state() == State::Disconnected,
            Timer::Register => machine.session.state() == State::Clearing,
            Timer::StopAbandoned(id) => {
                machine.roster.get(id).is_some_and(|worker| worker.is_abandoned())
            }
            Timer::Heartbeat | Timer::Report => machine.session.is_in_touch(),
            Timer::Forget => !machine.retired.is_empty(),
            Timer::Rewrite => machine.journal.error().is_some(),
            Timer::Fence => machine.config.fence_after.is_some(),
            Timer::GiveUp => machine.is_shutting_down(),
        };
        ensure(wanted, || format!("{timer:?}"))?;
    }
    Ok(())
}

fn closed_admits_nothing(machine: &Machine) -> Result<(), String> {
    let closed = machine.draining || machine.is_shutting_down();
    ensure(!closed || machine.waiting.is_empty(), || format!("{} wait", machine.waiting.len()))
}

fn session_moves_on(machine: &Machine) -> Result<(), String> {
    let timer = match machine.session.state() {
        _ if !machine.begun => return Ok(()),
        State::Disconnected => Timer::Probe,
        State::Clearing => Timer::Register,
        State::Registered | State::Withheld => Timer::Heartbeat,
        // The answer of the call in flight is the next step: calls have deadlines.
        State::Probing | State::Registering => return Ok(()),
    };
    ensure(machine.timers.get(timer).is_some(), || format!("no {timer:?}"))
}

fn fence_is_armed(machine: &Machine) -> Result<(), String> {
    let wanted = machine.config.fence_after.is_some() && machine.begun;
    let armed = machine.timers.get(Timer::Fence).is_some();
    ensure(armed == wanted, || format!("armed {armed}, wanted {wanted}"))
}

fn shutdown_ends(machine: &Machine) -> Result<(), String> {
    let ends = machine.finished || machine.timers.get(Timer::GiveUp).is_some();
    ensure(!machine.is_shutting_down() || ends, || "no timer".into())?;
    let done = machine.roster.live_count() == 0 && machine.outbox.len() == 0;
    let over = machine.is_shutting_down() && machine.begun && done;
    ensure(!over || machine.finished, || "nothing is left to wait for".into())
}

fn reported_are_retired(machine: &Machine) -> Result<(), String> {
    let retired: BTreeSet<_> = machine.retired.iter().map(|(_, id)| *id).collect();
    ensure(retired.len() == machine.retired.len(), || "retired twice".into())?;
    let most = machine.config.retain_most;
    ensure(retired.len() <= most, || format!("{} of {most}", retired.len()))?;
    ensure(machine.retired.iter().is_sorted_by_key(|(until, _)| until), || "out of order".into())?;
    let reported = machine.roster.iter().filter(|worker| worker.phase() == Phase::Reported);
    let reported: BTreeSet<_> = reported.map(|worker| worker.id).collect();
    ensure(!machine.begun || retired == reported, || format!("{retired:?}, not {reported:?}"))?;
    let timer = machine.timers.get(Timer::Forget).is_some();
    ensure(timer != retired.is_empty(), || format!("timer {timer}, {} retired", retired.len()))
}

fn journal_is_retried(machine: &Machine) -> Result<(), String> {
    let down = machine.journal.error().is_some();
    let tried = machine.journal.rewriting() || machine.timers.get(Timer::Rewrite).is_some();
    ensure(!down || tried, || "no timer, no rewrite under way".into())?;
    let unreleased = machine.journal.unreleased_count();
    ensure(down || unreleased == 0, || format!("{unreleased} ends are not released"))
}
