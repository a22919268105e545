//! Registered, heard of, lost, found again.

use super::*;

fn gaps(times: &[Mono]) -> Vec<Duration> {
    times.windows(2).map(|pair| pair[1].since(pair[0])).collect()
}

#[test]
fn the_agent_registers_with_all_its_slots_whatever_is_in_use() {
    let mut agent = Agent::with(|config| config.address = "10.0.0.1:5118".into());
    agent.run(start("job", 1, 10));
    agent.give(Event::Connected);
    let registration =
        Registration { machine: MACHINE.into(), task_slots: 16, address: "10.0.0.1:5118".into() };
    assert!(agent.effects().contains(&Effect::Register(registration)));
}

#[test]
fn heartbeats_keep_their_cadence_and_carry_the_wall_clock() {
    let mut agent = Agent::new();
    let begun = agent.now.mono;
    agent.advance(secs(600));
    let beats = agent.heartbeats();
    assert!(beats.len() >= 600 * 2 / 11);
    assert_eq!(beats[0], begun, "the controller may still know the agent that was here before");
    let gaps = gaps(&beats);
    assert!(gaps[0] <= secs(5), "{:?}", gaps[0]);
    for gap in &gaps[1..] {
        assert!((millis(4_500)..=millis(5_500)).contains(gap), "{gap:?}");
    }
    let distinct: BTreeSet<_> = gaps.into_iter().collect();
    assert!(distinct.len() > 50, "jitter keeps a cluster from beating in step");

    agent.effects();
    agent.now.wall = Wall(5);
    agent.advance(secs(6));
    let at = agent.effects().into_iter().find_map(|effect| match effect {
        Effect::Heartbeat { at } => Some(at),
        _ => None,
    });
    assert!(at.is_some_and(|at| at < Wall(7_000_000)), "{at:?}");
}

/// How long 200 agents wait that all come back at one time, six seconds after this has happened to
/// them, from their first heartbeat to their second; counted in seconds.
fn second_heartbeats(loss: impl Fn(&mut Agent)) -> [usize; 5] {
    let mut seconds = [0; 5];
    for seed in 0..200 {
        let mut agent = Agent::unregistered_with_seed([seed; 32]);
        agent.registered();
        agent.advance(secs(6));
        loss(&mut agent);
        agent.advance(secs(6));
        let (back, before) = (agent.now.mono, agent.heartbeats().len());
        agent.registered();
        agent.advance(secs(5));
        let beats = agent.heartbeats().split_off(before);
        assert_eq!(beats[0], back, "overdue, so at once");
        seconds[usize::try_from(beats[1].since(back).as_secs()).expect("a few")] += 1;
    }
    seconds
}

#[test]
fn agents_that_come_back_together_do_not_beat_together() {
    let refused = |agent: &mut Agent| agent.give(Event::HeartbeatAnswered(Err(refused())));
    let forgotten =
        |agent: &mut Agent| agent.give(Event::HeartbeatAnswered(Err(CallError::NotFound)));
    let connected_anew = |agent: &mut Agent| {
        agent.give(Event::Connected);
        forgotten(agent);
    };
    for seconds in [
        second_heartbeats(refused),
        second_heartbeats(forgotten),
        second_heartbeats(connected_anew),
    ] {
        assert!(seconds.iter().all(|beats| (20..=60).contains(beats)), "{seconds:?}");
    }
}

#[test]
fn no_load_of_reports_delays_a_heartbeat() {
    let mut agent = Agent::with(|config| config.task_slots = 100);
    let begun = agent.now.mono;
    let workers: Vec<_> = (0..100).map(|_| agent.run(start("job", 1, 1))).collect();
    for worker in workers {
        agent.exited(worker, Exit::Code(0));
    }
    for _ in 0..600 {
        for worker in agent.reports().split_off(agent.reports().len() - 8) {
            agent.report_refused(worker);
        }
        agent.advance(millis(100));
    }
    let mut all = vec![begun];
    all.extend(agent.heartbeats());
    assert!(gaps(&all).iter().all(|gap| *gap <= millis(5_500)), "{:?}", gaps(&all));
    assert!(all.len() >= 10);
}

#[test]
fn an_unknown_node_registers_at_once_and_goes_on() {
    let mut agent = Agent::new();
    let worker = agent.run(start("job", 1, 1));
    agent.advance(secs(6));
    agent.effects();
    agent.give(Event::HeartbeatAnswered(Err(CallError::NotFound)));
    assert_eq!(agent.registrations(), 2);
    assert!(!agent.machine.view().registered);

    // A second answer of the kind finds the registration under way.
    agent.give(Event::HeartbeatAnswered(Err(CallError::NotFound)));
    agent.give(Event::HeartbeatAnswered(Err(refused())));
    assert_eq!(agent.registrations(), 2);

    agent.registered();
    assert!(agent.machine.view().registered);
    assert_eq!(agent.phase(worker), Some(Phase::Running));
}

#[test]
fn a_new_connection_registers_anew() {
    let mut agent = Agent::new();
    agent.give(Event::Connected);
    assert_eq!(agent.registrations(), 2);
    // The registration's own connection is no reason for another.
    agent.give(Event::Connected);
    assert_eq!(agent.registrations(), 2);
}

#[test]
fn losing_the_controller_ends_no_worker() {
    let mut agent = Agent::new();
    let worker = agent.run(start("job", 1, 1));
    agent.give(Event::HeartbeatAnswered(Err(refused())));
    let attempts = agent.registrations();
    for _ in 0..1_000 {
        agent.advance(secs(10));
        agent.give(Event::Registered(Err(refused())));
    }
    assert_eq!(agent.signals(worker), []);
    assert_eq!(agent.phase(worker), Some(Phase::Running));
    assert_eq!(agent.registrations(), attempts + 1_000);
    agent.run(start("another", 1, 1));
}

#[test]
fn attempts_back_off_from_100_ms_to_5_s_with_full_jitter() {
    let mut agent = Agent::new();
    agent.give(Event::HeartbeatAnswered(Err(refused())));
    let mut waits = Vec::new();
    for attempt in 0..200_u32 {
        let bound = millis(100 * 4_u64.pow(attempt.min(3))).min(secs(5));
        let (at, timer) = agent.machine.next_timeout().expect("a next attempt");
        assert_eq!(timer, Timer::Register);
        let wait = at.since(agent.now.mono);
        assert!(wait <= bound, "attempt {attempt}: {wait:?}");
        waits.push(wait);
        agent.advance(wait);
        agent.give(Event::Registered(Err(refused())));
    }
    let late = &waits[50..];
    assert!(late.iter().any(|wait| *wait < secs(1)) && late.iter().any(|wait| *wait > secs(4)));

    agent.advance(secs(5));
    agent.registered();
    agent.give(Event::HeartbeatAnswered(Err(refused())));
    let (at, _) = agent.machine.next_timeout().expect("a next attempt");
    assert!(at.since(agent.now.mono) <= millis(100), "success starts it over");
}

#[test]
fn the_bounds_of_the_backoff_quadruple() {
    let backoff = Config::new(MACHINE.into()).backoff;
    let bounds = [1, 2, 3, 4, 5, 1_000, u32::MAX].map(|failures| backoff.bound(failures));
    assert_eq!(bounds, [100, 400, 1_600, 5_000, 5_000, 5_000, 5_000].map(millis));
    let slow = Backoff { first: secs(1), most: Duration::MAX };
    assert_eq!(slow.bound(4), secs(64));
    assert!(slow.bound(u32::MAX) > secs(3_600));
}

#[test]
fn an_answer_to_an_earlier_registration_is_ignored() {
    let mut agent = Agent::new();
    agent.effects();
    agent.give(Event::Registered(Err(refused())));
    assert_eq!(agent.effects(), []);
    assert!(agent.machine.view().registered);
}

#[test]
fn fencing_is_off_unless_asked_for() {
    let mut agent = Agent::new();
    let worker = agent.run(start("job", 1, 1));
    agent.give(Event::HeartbeatAnswered(Err(refused())));
    agent.advance(secs(30 * 24 * 3_600));
    assert_eq!(agent.signals(worker), []);
}

#[test]
fn a_fenced_agent_stops_its_workers_by_force_and_lives_on() {
    let mut agent = Agent::with(|config| config.fence_after = Some(secs(60)));
    let worker = agent.run(start("job", 1, 1));
    agent.advance(secs(50));
    agent.give(Event::HeartbeatAnswered(Ok(())));
    agent.give(Event::HeartbeatAnswered(Err(refused())));
    agent.advance(millis(59_999));
    assert_eq!(agent.signals(worker), []);
    agent.advance(millis(1));
    assert_eq!(agent.signals(worker), [Signal::Terminate]);
    agent.advance(secs(5));
    assert_eq!(agent.signals(worker), [Signal::Terminate, Signal::Kill]);
    agent.exited(worker, Exit::Signal(9));

    // What is started while still nobody is there is fenced, too.
    let late = agent.run(start("job", 1, 1));
    agent.advance(secs(66));
    assert_eq!(agent.signals(late), [Signal::Terminate, Signal::Kill]);
    assert!(!agent.finished());
}

#[test]
fn no_fence_is_so_short_that_nothing_else_is_ever_done() {
    let mut agent = Agent::with(|config| config.fence_after = Some(Duration::ZERO));
    let worker = agent.run(start("job", 1, 1));
    agent.advance(SHORTEST_FENCE);
    assert_eq!(agent.signals(worker), [Signal::Terminate]);
}

#[test]
fn an_acknowledged_report_is_contact_enough_to_put_off_the_fence() {
    let mut agent = Agent::with(|config| config.fence_after = Some(secs(60)));
    let [worker, ended] = ["job", "ended"].map(|job| agent.run(start(job, 1, 1)));
    agent.advance(secs(50));
    agent.exited(ended, Exit::Code(0));
    agent.acknowledged(ended);
    agent.advance(secs(59));
    assert_eq!(agent.signals(worker), []);
    agent.advance(secs(1));
    assert_eq!(agent.signals(worker), [Signal::Terminate]);
}

#[test]
fn no_number_of_new_connections_delays_a_heartbeat() {
    let mut agent = Agent::new();
    let begun = agent.now.mono;
    for _ in 0..60 {
        agent.advance(secs(1));
        // A proxy that gives each call a connection of its own.
        agent.give(Event::Connected);
        agent.registered();
    }
    let mut all = vec![begun];
    all.extend(agent.heartbeats());
    all.push(agent.now.mono);
    assert!(gaps(&all).iter().all(|gap| *gap <= millis(5_500)), "{:?}", gaps(&all));
}

#[test]
fn losing_the_controller_puts_off_no_heartbeat() {
    let mut agent = Agent::new();
    while agent.heartbeats().len() < 3 {
        agent.advance(millis(100));
    }
    let last = *agent.heartbeats().last().expect("three so far");
    for wait in [1, 20] {
        // It is lost, and found again before the next one is due, or long after.
        agent.give(Event::HeartbeatAnswered(Err(refused())));
        agent.advance(secs(wait));
        agent.registered();
        agent.advance(millis(0));
    }
    let found = agent.now.mono;
    assert_eq!(*agent.heartbeats().last().expect("another"), found, "overdue, so at once");
    let between = agent.heartbeats().iter().filter(|at| **at > last && **at < found).count();
    assert_eq!(between, 0, "and no sooner for being registered");
}
