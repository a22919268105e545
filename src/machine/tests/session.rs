//! Registered, heard of, lost, found again.

use super::*;

fn gaps(times: &[Mono]) -> Vec<Duration> {
    times.windows(2).map(|pair| pair[1].since(pair[0])).collect()
}

#[test]
fn the_first_call_is_a_probe_and_the_registration_follows_its_answer() {
    let mut agent = Agent::unregistered(|_| {}, Recovered::default());
    let heartbeat = Heartbeat { sent: agent.now, probe: true };
    assert_eq!(agent.effects(), [Effect::Heartbeat(heartbeat)]);
    agent.known();
    assert_eq!(agent.registrations(), 1);
    assert!(!agent.is_registered(), "not before the controller has taken it");
    agent.registered();
    assert!(agent.is_registered());
}

#[test]
fn the_agent_registers_with_all_its_slots_whatever_is_in_use() {
    let registration = |reconnect| {
        Effect::Register(Registration {
            machine: MACHINE.into(),
            task_slots: 16,
            address: "10.0.0.1:5118".into(),
            reconnect,
        })
    };
    let mut agent = Agent::with(|config| config.address = "10.0.0.1:5118".into());
    agent.run(start("job", 1, 10));
    agent.connection_lost(Loss::Broken);
    agent.advance_to_heartbeat();
    agent.effects();
    agent.known();
    assert_eq!(agent.effects(), [registration(false)], "only to the controller that knows it");
    agent.registered();

    agent.advance(secs(40));
    agent.effects();
    agent.forgotten();
    assert_eq!(agent.effects(), [registration(true)], "to whichever controller there is");
}

#[test]
fn a_courtesy_that_the_end_of_the_connection_prevents_is_no_loss_of_the_controller() {
    let mut agent = Agent::unregistered(|_| {}, Recovered::default());
    agent.known();
    agent.connection_lost(Loss::Closed);
    agent.give(Event::Registered(Err(CallError::NotConnected)));
    assert!(agent.is_registered(), "it has just said that it knows this node");
    assert_eq!(agent.probes().len(), 1);
    agent.advance_to_heartbeat();
    assert_eq!(agent.probes().len(), 2, "the next call asks whether that is still so");
}

#[test]
fn a_registration_that_fails_is_preceded_by_another_probe() {
    for (known, error) in [(true, refused()), (false, refused()), (false, CallError::NotConnected)]
    {
        let mut agent = Agent::unregistered(|_| {}, Recovered::default());
        agent.beat_answered(if known { Ok(()) } else { Err(CallError::NotFound) });
        assert_eq!(agent.last_registration_may_reconnect(), Some(!known));
        agent.give(Event::Registered(Err(error)));
        assert!(!agent.is_registered());
        agent.advance(millis(100));
        assert_eq!((agent.probes().len(), agent.registrations()), (2, 1));
    }
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
    assert_eq!(agent.probes(), [begun], "the others need the connection that there is");

    agent.now.wall = Wall(5);
    agent.advance_to_heartbeat();
    assert!(agent.last_heartbeat().sent.wall < Wall(7_000_000), "{:?}", agent.last_heartbeat());
    assert_eq!(agent.last_heartbeat().sent, agent.now);
}

/// How long 200 agents wait that all come back at one time, from their first heartbeat that is
/// answered then to the one after it; counted in seconds.
fn second_heartbeats(away: impl Fn(&mut Agent)) -> [usize; 5] {
    let mut seconds = [0; 5];
    for seed in 0..200 {
        let mut agent = Agent::unregistered_with_seed([seed; 32]);
        agent.registered();
        agent.advance(secs(6));
        away(&mut agent);
        agent.registered();
        agent.advance(Duration::ZERO);
        let (first, before) = (agent.now.mono, agent.heartbeats().len());
        assert_eq!(agent.heartbeats().last(), Some(&first), "overdue, so at once");
        agent.advance(secs(5));
        let wait = agent.heartbeats()[before].since(first).as_secs();
        seconds[usize::try_from(wait).expect("a few")] += 1;
    }
    seconds
}

/// Six seconds in which every call is refused at once, until the next one.
fn refuse_all_for_six_seconds(agent: &mut Agent) {
    let until = agent.now.mono + secs(6);
    while agent.now.mono < until {
        agent.controller_away();
        agent.advance_to_heartbeat();
    }
}

#[test]
fn agents_that_come_back_together_do_not_beat_together() {
    let forgotten = |agent: &mut Agent| {
        agent.forgotten();
        agent.advance(secs(6));
    };
    let lost_and_forgotten = |agent: &mut Agent| {
        agent.connection_lost(Loss::Closed);
        agent.advance_to_heartbeat();
        agent.forgotten();
        agent.advance(secs(6));
    };
    for seconds in [
        second_heartbeats(refuse_all_for_six_seconds),
        second_heartbeats(forgotten),
        second_heartbeats(lost_and_forgotten),
    ] {
        assert!(seconds.iter().all(|beats| (20..=60).contains(beats)), "{seconds:?}");
    }
}

#[test]
fn no_load_of_reports_delays_a_heartbeat() {
    let mut agent = Agent::with(|config| config.task_slots = 100);
    let workers: Vec<_> = (0..100).map(|_| agent.run(start("job", 1, 1))).collect();
    for worker in workers {
        agent.exited(worker, Exit::Code(0));
    }
    let mut answered = 0;
    for _ in 0..600 {
        let sent = agent.reports();
        for worker in &sent[answered..] {
            agent.report_refused(*worker);
        }
        answered = sent.len();
        agent.advance(millis(100));
    }
    let all = agent.heartbeats();
    assert!(gaps(&all).iter().all(|gap| *gap <= millis(5_500)), "{:?}", gaps(&all));
    assert!(all.len() >= 10 && answered > 20, "{answered} reports");
}

#[test]
fn an_unknown_node_registers_at_once_and_goes_on() {
    let mut agent = Agent::new();
    let worker = agent.run(start("job", 1, 1));
    agent.advance(secs(40));
    agent.forgotten();
    assert_eq!(agent.registrations(), 2);
    assert!(!agent.is_registered());

    // A second answer of the kind finds the registration under way.
    agent.forgotten();
    agent.controller_away();
    assert_eq!(agent.registrations(), 2);

    agent.registered();
    assert!(agent.is_registered());
    assert_eq!(agent.phase(worker), Some(Phase::Running));
}

#[test]
fn a_lost_connection_is_made_anew_by_the_next_heartbeat_which_is_a_probe() {
    let mut agent = Agent::new();
    agent.effects();
    agent.connection_lost(Loss::Closed);
    agent.connection_lost(Loss::Broken);
    assert_eq!(agent.effects(), [], "nothing is due");
    assert!(agent.is_registered());

    agent.advance_to_heartbeat();
    assert_eq!(agent.probes().len(), 2);
    assert!(!agent.is_registered(), "it may be another controller");
    agent.registered();
    assert_eq!((agent.registrations(), agent.is_registered()), (2, true));
    agent.advance(secs(60));
    assert_eq!(agent.probes().len(), 2, "one for each connection");
}

#[test]
fn a_lost_connection_is_made_anew_by_a_probe_before_the_next_report() {
    let mut agent = Agent::new();
    let worker = agent.run(start("job", 1, 1));
    agent.connection_lost(Loss::Closed);
    agent.exited(worker, Exit::Code(0));
    assert_eq!((agent.probes().len(), agent.reports()), (2, vec![]), "the first call is a probe");
    agent.registered();
    assert_eq!(agent.reports(), [worker]);
}

#[test]
fn while_a_probe_is_under_way_only_its_own_answer_counts() {
    let mut agent = Agent::new();
    agent.advance_to_heartbeat();
    let before = agent.last_heartbeat();
    assert!(!before.probe);
    agent.connection_lost(Loss::Closed);
    agent.advance_to_heartbeat();
    for result in [Ok(()), Err(CallError::NotFound), Err(refused())] {
        agent.effects();
        agent.give(Event::HeartbeatAnswered { heartbeat: before, result });
        assert_eq!(agent.effects(), [], "the last words of a controller that may be gone");
        assert!(!agent.is_registered());
    }
    agent.known();
    assert_eq!(agent.registrations(), 2);
}

#[test]
fn losing_the_controller_ends_no_worker() {
    let mut agent = Agent::new();
    let worker = agent.run(start("job", 1, 1));
    agent.connection_lost(Loss::Closed);
    agent.controller_away();
    let (probes, registrations) = (agent.probes().len(), agent.registrations());
    for _ in 0..1_000 {
        agent.advance(secs(10));
        agent.connection_lost(Loss::Closed);
        agent.controller_away();
    }
    assert_eq!(agent.signals(worker), []);
    assert_eq!(agent.phase(worker), Some(Phase::Running));
    assert!(!agent.is_abandoned(worker));
    assert_eq!(agent.probes().len(), probes + 1_000);
    assert_eq!(agent.registrations(), registrations);
    agent.run(start("another", 1, 1));
}

#[test]
fn attempts_back_off_from_100_ms_to_5_s_with_full_jitter() {
    let mut agent = Agent::new();
    agent.controller_away();
    let mut waits = Vec::new();
    for attempt in 0..200_u32 {
        let bound = millis(100 * 4_u64.pow(attempt.min(3))).min(secs(5));
        let (at, timer) = agent.machine.next_timeout().expect("a next attempt");
        assert_eq!(timer, Timer::Probe);
        let wait = at.since(agent.now.mono);
        assert!(wait <= bound, "attempt {attempt}: {wait:?}");
        waits.push(wait);
        agent.advance(wait);
        agent.controller_away();
    }
    let late = &waits[50..];
    assert!(late.iter().any(|wait| *wait < secs(1)) && late.iter().any(|wait| *wait > secs(4)));

    agent.advance(secs(5));
    agent.registered();
    agent.controller_away();
    let (at, _) = agent.machine.next_timeout().expect("a next attempt");
    assert!(at.since(agent.now.mono) <= millis(100), "success starts it over");
}

#[test]
fn a_late_answer_ends_the_backoff() {
    let mut agent = Agent::new();
    for _ in 0..10 {
        agent.controller_away();
        agent.advance_to_heartbeat();
    }
    agent.controller_away();
    let probes = agent.probes().len();
    agent.give(Event::LateAnswer);
    assert_eq!(agent.probes().len(), probes + 1, "the controller is there");
    agent.give(Event::LateAnswer);
    assert_eq!(agent.probes().len(), probes + 1, "one at a time");

    agent.registered();
    agent.effects();
    agent.give(Event::LateAnswer);
    assert_eq!(agent.effects(), [], "nothing waits for a backoff");
    assert!(agent.is_registered());
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
    assert!(agent.is_registered());
}

#[test]
fn no_number_of_new_connections_delays_a_heartbeat() {
    let mut agent = Agent::new();
    for _ in 0..60 {
        agent.advance(secs(1));
        // A proxy that gives each call a connection of its own.
        if agent.machine.session.state() == State::Probing {
            agent.registered();
        }
        agent.connection_lost(Loss::Closed);
    }
    let mut all = agent.heartbeats();
    all.push(agent.now.mono);
    assert!(gaps(&all).iter().all(|gap| *gap <= millis(5_500)), "{:?}", gaps(&all));
    assert!(agent.probes().len() >= 10);
}

#[test]
fn losing_the_controller_puts_off_no_heartbeat() {
    let mut agent = Agent::new();
    for away in [1, 3, 10] {
        for _ in 0..away {
            agent.controller_away();
            agent.advance_to_heartbeat();
        }
        let found = agent.now.mono;
        agent.registered();
        agent.advance_to_heartbeat();
        assert!(agent.now.mono.since(found) <= secs(5), "the probe counts as the one before");
    }
    agent.forgotten();
    let last = agent.now.mono;
    agent.advance(secs(20));
    agent.registered();
    agent.advance(Duration::ZERO);
    assert_eq!(agent.heartbeats().last(), Some(&agent.now.mono), "overdue, so at once");
    let between = |at: &&Mono| **at > last && **at < agent.now.mono;
    let sooner = agent.heartbeats().iter().filter(between).count();
    assert_eq!(sooner, 0, "and no sooner for having been forgotten");
}
