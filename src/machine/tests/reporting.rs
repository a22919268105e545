//! Ends are owed until they are acknowledged.

use super::*;

#[test]
fn a_report_says_who_ended_how_and_with_what_slots() {
    let mut agent = Agent::new();
    let asked =
        Start { dialect: Dialect::V0_16, pipeline: Some("pipe".into()), ..start("job", 7, 3) };
    let worker = agent.run(asked);
    agent.advance(secs(3));
    agent.exited(worker, Exit::Signal(11));
    let report = Report {
        machine: MACHINE.into(),
        worker,
        job: "job".into(),
        pipeline: Some("pipe".into()),
        generation: Generation(7),
        slots: 3,
        exit: Exit::Signal(11),
        ended_at: agent.now.wall,
        dialect: Dialect::V0_16,
    };
    let effects = agent.effects();
    assert!(effects.contains(&Effect::Report(report.clone())));
    assert!(effects.contains(&Effect::Announce(report)));
}

#[test]
fn a_report_waits_until_the_start_is_answered() {
    let mut agent = Agent::new();
    let request = agent.start(start("job", 1, 1));
    let worker = agent.last_spawn();
    agent.spawned(worker);
    agent.exited(worker, Exit::Code(0));
    agent.advance(millis(4_999));
    assert_eq!(agent.reports(), [], "the controller may not know the worker yet");
    agent.delivered(request);
    assert_eq!(agent.reports(), [worker]);
}

#[test]
fn a_report_waits_at_most_five_seconds_for_the_answer() {
    let mut agent = Agent::new();
    agent.start(start("job", 1, 1));
    let worker = agent.last_spawn();
    agent.spawned(worker);
    agent.advance(secs(60));
    agent.exited(worker, Exit::Code(0));
    // A new registration is no reason to be early.
    agent.controller_away();
    agent.give(Event::LateAnswer);
    agent.registered();
    agent.advance(millis(4_999));
    assert_eq!(agent.reports(), []);
    agent.advance(millis(1));
    assert_eq!(agent.reports(), [worker]);
}

#[test]
fn reports_go_oldest_first_and_a_bounded_number_at_a_time() {
    let mut agent = Agent::with(|config| {
        config.task_slots = 20;
        config.reports_in_flight = 3.try_into().expect("not zero");
    });
    let workers: Vec<_> = (0..10).map(|_| agent.run(start("job", 1, 1))).collect();
    let ends: Vec<_> = workers.iter().rev().copied().collect();
    for worker in &ends {
        agent.exited(*worker, Exit::Code(0));
    }
    assert_eq!(agent.reports(), ends[..3]);
    for (sent, worker) in ends.iter().enumerate().map(|(index, worker)| (index + 4, worker)) {
        agent.acknowledged(*worker);
        assert_eq!(agent.reports(), ends[..sent.min(10)]);
    }
}

#[test]
fn a_report_can_be_said_in_the_other_dialect() {
    let mut agent = Agent::new();
    let worker = agent.run(start("job", 1, 1));
    agent.exited(worker, Exit::Code(0));
    let report = agent.pick(|effect| match effect {
        Effect::Report(report) => Some(report.clone()),
        _ => None,
    });
    let other = report[0].in_the_other_dialect();
    assert_eq!(other, Report { dialect: other.dialect, ..report[0].clone() });
    assert_ne!(other.dialect, report[0].dialect);
    assert_eq!(other.in_the_other_dialect(), report[0]);
}

#[test]
fn reports_wait_while_the_controller_is_away_and_follow_its_return() {
    let mut agent = Agent::new();
    let [sent, unsent] = ["sent", "unsent"].map(|job| agent.run(start(job, 1, 1)));
    agent.exited(sent, Exit::Code(0));
    agent.controller_away();
    agent.report_refused(sent);
    agent.exited(unsent, Exit::Code(0));
    agent.advance(secs(60));
    assert_eq!(agent.reports(), [sent]);

    agent.registered();
    assert_eq!(agent.reports(), [sent, sent, unsent], "without waiting for their backoff");
}

#[test]
fn a_report_in_flight_is_not_doubled_by_a_new_registration() {
    let mut agent = Agent::new();
    let worker = agent.run(start("job", 1, 1));
    agent.exited(worker, Exit::Code(0));
    agent.reconnected();
    assert_eq!(agent.reports(), [worker]);
    agent.report_refused(worker);
    agent.advance(millis(100));
    assert_eq!(agent.reports(), [worker, worker]);
}

#[test]
fn nothing_is_sent_after_the_acknowledgement() {
    let mut agent = Agent::new();
    let worker = agent.run(start("job", 1, 1));
    agent.exited(worker, Exit::Code(0));
    agent.acknowledged(worker);
    assert!(agent.journal.row(worker).is_some_and(|row| row.reported_at.is_some()));

    agent.report_refused(worker);
    agent.reconnected();
    agent.advance(secs(60));
    assert_eq!(agent.reports(), [worker]);

    let mut next = agent.successor();
    next.registered();
    next.advance(secs(60));
    assert_eq!(next.reports(), []);
}

#[test]
fn an_answer_that_was_lost_is_asked_for_again_by_the_next_agent() {
    let mut agent = Agent::new();
    let worker = agent.run(start("job", 1, 5));
    agent.exited(worker, Exit::OomKilled);
    let sent = agent.effects();

    let mut next = agent.successor();
    assert_eq!(next.reports(), [], "not before it has registered");
    next.registered();
    let again = next.effects();
    let report = sent.iter().find(|effect| matches!(effect, Effect::Report(_)));
    assert!(again.contains(report.expect("a report")), "the same report, word for word");
}

#[test]
fn a_report_waits_for_every_caller_who_asked_for_the_start() {
    let mut agent = Agent::new();
    let asked = with_key("attempt", start("job", 1, 1));
    let first = agent.start(asked.clone());
    let worker = agent.last_spawn();
    let joined = agent.start(asked.clone());
    agent.spawned(worker);
    let late = agent.start(asked);
    agent.exited(worker, Exit::Code(0));
    for request in [first, joined] {
        agent.delivered(request);
        assert_eq!(agent.reports(), [], "the answers so far may have been lost");
    }
    agent.delivered(late);
    assert_eq!(agent.reports(), [worker]);
}
