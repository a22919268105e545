//! Each invariant notices what it is there for: the machine is damaged by hand.

use std::num::NonZeroUsize;

use super::*;
use crate::machine::invariants::check;

/// The first invariant that a damaged machine breaks.
fn broken(agent: &Agent, damage: impl FnOnce(&mut Machine)) -> &'static str {
    let mut machine = agent.machine.clone();
    assert_eq!(check(&machine), Ok(()));
    damage(&mut machine);
    check(&machine).expect_err("the damage shows").invariant
}

fn settings(config: &mut Config) {
    config.fence_after = Some(secs(600));
    config.retain_most = 3;
}

/// One worker in each phase, and a start that waits.
fn busy() -> (Agent, [WorkerId; 5]) {
    let mut agent = Agent::with(settings);
    let [running, stopping, exited, reported] = ["running", "stopping", "exited", "reported"]
        .map(|job| agent.run(with_key(job, start(job, 1, 2))));
    agent.start(start("starting", 1, 2));
    let starting = agent.last_spawn();
    agent.stop(stopping, StopHow::Force);
    agent.exited(reported, Exit::Code(0));
    agent.acknowledged(reported);
    agent.exited(exited, Exit::Code(0));
    agent.start(start("stopping", 2, 5));
    (agent, [running, stopping, exited, reported, starting])
}

#[test]
fn hold_before_the_beginning() {
    let (agent, _) = busy();
    let recovered = agent.journal.recover();
    assert_eq!(recovered.workers.len(), 5, "in every phase");
    let successor = Machine::new(agent.machine.config.clone(), [8; 32], recovered, agent.now);
    assert_eq!(check(&successor), Ok(()));
}

#[test]
fn of_capacity() {
    let (agent, [running, ..]) = busy();
    let too_few = broken(&agent, |machine| machine.config.task_slots = 5);
    assert_eq!(too_few, "live slots stay within capacity (P1)");
    let promised = broken(&agent, |machine| machine.config.task_slots = 8);
    assert_eq!(promised, "live and promised slots stay within capacity (P1)");
    let doubled = broken(&agent, |machine| {
        let start = machine.waiting[0].clone();
        machine.waiting.push(start);
    });
    assert_eq!(doubled, "the slots of a worker are promised once");
    let miscounted = broken(&agent, |machine| {
        machine.roster.remove(running);
        machine.roster.insert(agent.worker(running).expect("known").into());
        machine.roster.insert(agent.worker(running).expect("known").into());
    });
    assert_eq!(miscounted, "the indexes agree with the workers");
}

#[test]
fn of_reports() {
    let (agent, [running, _, exited, reported, _]) = busy();
    let early = broken(&agent, |machine| {
        machine.roster.amend(running, |worker| worker.reported_at = Some(Wall(1)));
    });
    assert_eq!(early, "no worker is reported before it ended (P4)");
    for (worker, reported_at) in [(exited, Some(Wall(1))), (reported, None)] {
        let wrong = broken(&agent, |machine| {
            machine.roster.amend(worker, |worker| worker.reported_at = reported_at);
        });
        assert_eq!(wrong, "every end that is not acknowledged is owed, and only those (P4, P5)");
    }
    let mut others = Agent::new();
    let stranger = others.run(start("other", 1, 1));
    others.exited(stranger, Exit::Code(0));
    let mistaken = broken(&agent, |machine| machine.outbox = others.machine.outbox.clone());
    assert_eq!(mistaken, "every end that is not acknowledged is owed, and only those (P4, P5)");
    let premature = broken(&agent, |machine| {
        machine.retired.push_back((Mono(u64::MAX), exited));
    });
    assert_eq!(premature, "reported workers are forgotten in time");
    let mut waiting = agent;
    waiting.report_refused(exited);
    let stuck = broken(&waiting, |machine| machine.timers.cancel(Timer::Report));
    assert_eq!(stuck, "what is owed is on its way, or has a time to go (P4)");
    let forgotten = broken(&waiting, |machine| machine.retired.clear());
    assert_eq!(forgotten, "no timer outlives its purpose");
    let too_many = broken(&waiting, |machine| machine.config.retain_most = 0);
    assert_eq!(too_many, "reported workers are forgotten in time");
}

#[test]
fn of_reports_under_way() {
    let mut agent = Agent::new();
    let workers = [1, 2].map(|job| agent.run(start(&format!("job {job}"), 1, 1)));
    for worker in workers {
        agent.exited(worker, Exit::Code(0));
    }
    let crowded = broken(&agent, |machine| machine.config.reports_in_flight = NonZeroUsize::MIN);
    assert_eq!(crowded, "reports in flight stay within their bound");
}

#[test]
fn of_stops() {
    let mut agent = Agent::with(settings);
    let [running, stopping] = ["running", "stopping"].map(|job| agent.run(start(job, 1, 2)));
    agent.stop(stopping, StopHow::Force);
    let disarmed = broken(&agent, |machine| machine.timers.cancel(Timer::Kill(stopping)));
    assert_eq!(disarmed, "every forced stop has its deadline or its signal (P8)");
    let unasked = broken(&agent, |machine| {
        machine.signalled.insert(running, Signal::Terminate);
    });
    assert_eq!(unasked, "only workers that are being stopped are signalled (P9)");
    let stray = broken(&agent, |machine| {
        machine.timers.set(Timer::Kill(running), Mono(u64::MAX));
    });
    assert_eq!(stray, "no timer outlives its purpose");
    let hanging = broken(&agent, |machine| {
        machine.stop_callers.insert((running, RequestId(99)));
    });
    assert_eq!(hanging, "whoever waits has a time at which it ends");
}

#[test]
fn of_starts() {
    let (agent, [running, stopping, _, _, starting]) = busy();
    let born = broken(&agent, |machine| {
        machine.launching.insert(running, vec![RequestId(99)]);
    });
    assert_eq!(born, "starts in flight belong to workers without a process");
    let orphan = broken(&agent, |machine| {
        machine.launching.remove(&starting);
    });
    assert_eq!(orphan, "a worker without a process is being started or found (P7)");
    let idle = broken(&agent, |machine| {
        machine.signalled.remove(&stopping);
        machine.timers.cancel(Timer::Kill(stopping));
        machine.roster.amend(stopping, |worker| worker.stop = Some(Stop { kill_at: None }));
    });
    assert_eq!(idle, "a start waits for workers that it ends, one generation of a job at a time");
    let closed = broken(&agent, |machine| machine.draining = true);
    assert_eq!(closed, "nothing is to be admitted that new work would not be");
}

#[test]
fn of_abandoned_workers() {
    let mut agent = Agent::new();
    let [left, known] = ["left", "known"].map(|job| agent.run(start(job, 1, 8)));
    agent.advance(secs(40));
    agent.forgotten();
    agent.registered();
    agent.stop(known, StopHow::Ask);
    let name = "abandoned workers end in time, or are kept on purpose (P9, P15)";
    let endless = broken(&agent, |machine| machine.timers.cancel(Timer::StopAbandoned(left)));
    assert_eq!(endless, name);
    let late = broken(&agent, |machine| {
        machine.timers.set(Timer::StopAbandoned(left), Mono(u64::MAX));
    });
    assert_eq!(late, name);
    let kept = broken(&agent, |machine| machine.config.abandoned = AbandonedPolicy::Keep);
    assert_eq!(kept, name);
    let wrong = broken(&agent, |machine| {
        machine.timers.set(Timer::StopAbandoned(known), Mono(u64::MAX));
    });
    assert_eq!(wrong, name);

    agent.start(start("new", 1, 8));
    let spared = broken(&agent, |machine| {
        machine.signalled.remove(&left);
        machine.roster.amend(left, |worker| worker.stop = None);
        machine.schedule_stop_of_abandoned(left);
    });
    assert_eq!(spared, "a start waits for workers that it ends, one generation of a job at a time");
    let stolen = broken(&agent, |machine| {
        machine.waiting[0].room.takes.insert(known);
    });
    assert_eq!(stolen, "a start waits for workers that it ends, one generation of a job at a time");
}

#[test]
fn of_the_session() {
    let mut clearing = Agent::new();
    let worker = clearing.run(start("job", 1, 1));
    clearing.forgotten();
    let stuck = broken(&clearing, |machine| machine.timers.cancel(Timer::Register));
    assert_eq!(stuck, "the session has a next step (P10)");
    let idle = broken(&clearing, |machine| {
        machine.roster.amend(worker, |worker| worker.abandoned_at = None);
    });
    assert_eq!(idle, "a node that may be known makes itself known");

    let mut withheld = Agent::new();
    withheld.give(Event::ProgramChecked(Err("no such file".into())));
    withheld.forgotten();
    let hidden = broken(&withheld, |machine| machine.program_error = None);
    assert_eq!(hidden, "a node that may be known makes itself known");
    let mute = broken(&withheld, |machine| machine.timers.cancel(Timer::Heartbeat));
    assert_eq!(mute, "the session has a next step (P10)");

    let mut away = Agent::new();
    away.controller_away();
    let resigned = broken(&away, |machine| machine.timers.cancel(Timer::Probe));
    assert_eq!(resigned, "the session has a next step (P10)");
}

#[test]
fn of_the_agent() {
    let (agent, _) = busy();
    let mute = broken(&agent, |machine| machine.timers.cancel(Timer::Heartbeat));
    assert_eq!(mute, "the session has a next step (P10)");
    let unfenced = broken(&agent, |machine| machine.timers.cancel(Timer::Fence));
    assert_eq!(unfenced, "the fence is armed when asked for, and only then (P9)");

    let mut ending = Agent::new();
    ending.run(start("job", 1, 1));
    ending.give(Event::Shutdown(Shutdown::StopWorkers));
    let endless = broken(&ending, |machine| machine.timers.cancel(Timer::GiveUp));
    assert_eq!(endless, "a shutdown has an end");

    let mut down = Agent::new();
    down.journal.broken = true;
    down.request(Ask::SetDraining(true));
    let resigned = broken(&down, |machine| machine.timers.cancel(Timer::Rewrite));
    assert_eq!(resigned, "a journal that is down is tried again");
}
