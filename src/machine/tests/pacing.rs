//! Reports that fail: each has a backoff of its own, and all share one until one is acknowledged.

use super::*;

#[test]
fn a_refused_report_comes_again_after_a_growing_backoff() {
    let mut agent = Agent::new();
    let worker = agent.run(start("job", 1, 1));
    agent.exited(worker, Exit::Code(0));
    for bound in [100, 400, 1_600, 5_000, 5_000] {
        let sent = agent.reports().len();
        agent.report_refused(worker);
        assert_eq!(agent.reports().len(), sent, "not at once");
        agent.advance(millis(bound));
        assert_eq!(agent.reports().len(), sent + 1, "within {bound} ms");
    }
}

#[test]
fn one_refused_report_does_not_hold_up_the_others_for_long() {
    let mut agent = Agent::with(|config| config.reports_in_flight = 1.try_into().expect("one"));
    let [bad, good] = ["bad", "good"].map(|job| agent.run(start(job, 1, 1)));
    agent.exited(bad, Exit::Code(0));
    agent.exited(good, Exit::Code(0));
    assert_eq!(agent.reports(), [bad]);
    agent.report_refused(bad);
    agent.advance(millis(100));
    assert_eq!(agent.reports(), [bad, good], "the next one, and not the same one again");
    agent.acknowledged(good);
    agent.advance(millis(100));
    assert_eq!(agent.reports(), [bad, good, bad]);
}

#[test]
fn a_controller_that_is_back_hears_reports_as_if_none_had_failed() {
    let mut agent = Agent::new();
    let worker = agent.run(start("job", 1, 1));
    agent.exited(worker, Exit::Code(0));
    for _ in 0..6 {
        agent.report_refused(worker);
        agent.advance(secs(5));
    }
    let sent = agent.reports().len();
    agent.report_refused(worker);
    agent.controller_away();
    agent.advance(secs(5));
    assert_eq!(agent.reports().len(), sent, "not without a controller");
    agent.registered();
    assert_eq!(agent.reports().len(), sent + 1, "at once");
    agent.report_refused(worker);
    agent.advance(millis(100));
    assert_eq!(agent.reports().len(), sent + 2, "the backoff has started over");
}

/// Lets time pass until another report is sent. A controller is found again whenever it is probed.
fn next_report(agent: &mut Agent) -> WorkerId {
    let sent = agent.reports().len();
    for _ in 0..5_001 {
        if agent.machine.session.state() == State::Probing {
            assert_eq!(agent.reports().len(), sent, "a probe comes first");
            agent.registered();
        }
        if let Some(worker) = agent.reports().get(sent) {
            return *worker;
        }
        agent.advance(millis(1));
    }
    panic!("nothing is sent for five seconds");
}

#[test]
fn a_report_that_costs_the_connection_each_time_lets_others_through() {
    for seed in 0..20 {
        let mut agent = Agent::unregistered_with_seed([seed; 32]);
        agent.registered();
        let [bad, good] = ["bad", "good"].map(|job| agent.run(start(job, 1, 1)));
        agent.exited(bad, Exit::Code(0));
        let cost_a_connection = |agent: &mut Agent| {
            agent.report_refused(bad);
            agent.connection_lost(Loss::Closed);
        };
        for bound in [100, 400, 1_600, 5_000] {
            cost_a_connection(&mut agent);
            let before = agent.now.mono;
            assert_eq!(next_report(&mut agent), bad);
            assert!(agent.now.mono.since(before) <= millis(bound + 1), "within {bound} ms");
        }
        cost_a_connection(&mut agent);
        agent.exited(good, Exit::Code(0));
        let mut rounds = 0;
        while next_report(&mut agent) == bad {
            cost_a_connection(&mut agent);
            rounds += 1;
            assert!(rounds < 10, "each new connection is a reason to send the bad one");
        }
        let sent = agent.reports().len();
        agent.acknowledged(good);
        assert_eq!(agent.reports().len(), sent, "it still has its own backoff");
    }
}

#[test]
fn a_report_that_failed_once_or_twice_goes_with_the_next_connection() {
    for seed in 0..20 {
        let mut agent = Agent::unregistered_with_seed([seed; 32]);
        agent.registered();
        let [first, other] = ["first", "other"].map(|job| agent.run(start(job, 1, 1)));
        agent.exited(first, Exit::Code(0));
        agent.report_refused(first);
        assert_eq!(next_report(&mut agent), first);
        agent.report_refused(first);
        agent.connection_lost(Loss::Closed);
        agent.exited(other, Exit::Code(0));
        assert_eq!(next_report(&mut agent), first, "whether its own backoff is over or not");
    }
}

/// An agent that owes so many reports, from the agent before it.
fn owing(count: u64) -> Agent {
    let mut agent = Agent::with(|config| config.retain_most = 0);
    let worker = agent.run(start("job", 1, 1));
    agent.controller_away();
    agent.exited(worker, Exit::Code(0));
    agent.successor_with(|recovered| {
        let ended = recovered.workers.pop().expect("one worker has ended");
        recovered.workers = (1..=count)
            .map(|number| {
                let end = ended.end.map(|end| End { sequence: number, ..end });
                Worker { id: WorkerId(number), end, ..ended.clone() }
            })
            .collect();
    })
}

/// A controller that knows this node, and refuses or takes every report.
struct Controller {
    takes_reports: bool,
    /// How many calls of each kind it has answered.
    heartbeats: usize,
    reports: usize,
}

impl Controller {
    /// Lets this much time pass. Each call is answered at once. Returns when reports came.
    fn answer_for(&mut self, agent: &mut Agent, duration: Duration) -> Vec<Mono> {
        let until = agent.now.mono + duration;
        let before = self.reports;
        loop {
            let beats = agent.heartbeats().len();
            if beats > std::mem::replace(&mut self.heartbeats, beats) {
                agent.registered();
                agent.known();
            }
            let sent = agent.reports();
            let new = self.reports..sent.len();
            for worker in &sent[new.clone()] {
                let result = if self.takes_reports { Ok(()) } else { Err(refused()) };
                agent.give(Event::ReportAnswered { worker: *worker, result });
            }
            self.reports = new.end;
            if new.is_empty() {
                let Some((at, _)) = agent.machine.next_timeout().filter(|(at, _)| *at <= until)
                else {
                    break;
                };
                agent.advance(at.since(agent.now.mono));
            }
        }
        agent.advance(until.since(agent.now.mono));
        agent.times(|effect| matches!(effect, Effect::Report(_))).split_off(before)
    }
}

#[test]
fn a_controller_that_refuses_thousands_of_reports_is_not_flooded_with_them() {
    let mut agent = owing(2_500);
    let mut controller = Controller { takes_reports: false, heartbeats: 0, reports: 0 };
    let first_second = controller.answer_for(&mut agent, secs(1));
    assert!(first_second.len() <= 8 + 8, "{}", first_second.len());
    let next = controller.answer_for(&mut agent, secs(60));
    let mut by_second = [0; 61];
    for at in &next {
        by_second[usize::try_from(at.since(first_second[0]).as_secs()).expect("a few")] += 1;
    }
    assert!(by_second.iter().all(|count| *count <= 8), "{by_second:?}");
    assert!((12..=60).contains(&next.len()), "about one every 2.5 s: {}", next.len());
    assert_eq!(agent.machine.view().reports_owed, 2_500);
    assert!(agent.is_registered(), "which costs the agent nothing else");

    controller.takes_reports = true;
    let sent = controller.answer_for(&mut agent, secs(10));
    assert_eq!((agent.machine.view().reports_owed, sent.len()), (0, 2_500), "each once");
    let last = sent[2_499].since(sent[0]);
    assert!(last <= secs(5), "those that had failed wait for their own backoff: {last:?}");
    let at_once = sent.iter().filter(|at| **at == sent[0]).count();
    assert!(at_once > 2_400, "{at_once}");
}

#[test]
fn reports_that_fail_together_count_as_one_failure() {
    let mut agent = owing(20);
    agent.registered();
    let sent = agent.reports();
    assert_eq!(sent.len(), 8);
    for worker in &sent {
        agent.report_refused(*worker);
    }
    assert_eq!(agent.reports().len(), 8);
    agent.advance(millis(100));
    assert_eq!(agent.reports().len(), 9, "the bound is still that of one failure; one at a time");
}

#[test]
fn one_acknowledgement_ends_the_common_backoff() {
    let mut agent = owing(40);
    agent.registered();
    let mut answered = 0;
    for _ in 0..5 {
        let sent = agent.reports();
        for worker in &sent[answered..] {
            agent.report_refused(*worker);
        }
        answered = sent.len();
        agent.advance(secs(5));
    }
    let sent = agent.reports();
    assert_eq!(sent.len(), 8 + 5, "one at a time after the first eight");
    agent.acknowledged(sent[12]);
    assert_eq!(agent.reports().len(), sent.len() + 8);
    assert_eq!(agent.machine.outbox.in_flight(), 8);
}
