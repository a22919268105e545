//! StopWorker, and the way from SIGTERM to SIGKILL.

use super::*;
use Signal::{Kill, Terminate};

#[test]
fn a_gentle_stop_asks_once_and_never_kills() {
    let mut agent = Agent::new();
    let worker = agent.run(start("job", 1, 1));
    agent.stop(worker, StopHow::Gentle);
    assert_eq!(agent.phase(worker), Some(Phase::Stopping));
    assert_eq!(agent.journal.row(worker).and_then(|w| w.stop), Some(Stop { kill_at: None }));
    agent.stop(worker, StopHow::Gentle);
    agent.advance(secs(3_600));
    assert_eq!(agent.signals(worker), [Terminate]);
}

#[test]
fn a_forced_stop_kills_what_is_left_after_kill_after() {
    let mut agent = Agent::new();
    let worker = agent.run(start("job", 1, 1));
    agent.stop(worker, StopHow::Force);
    let kill_at = Some(agent.now.mono + secs(5));
    assert_eq!(agent.journal.row(worker).and_then(|w| w.stop), Some(Stop { kill_at }));
    agent.advance(millis(4_999));
    assert_eq!(agent.signals(worker), [Terminate]);
    agent.advance(millis(1));
    assert_eq!(agent.signals(worker), [Terminate, Kill]);
}

#[test]
fn kill_after_zero_kills_at_once() {
    let mut agent = Agent::with(|config| config.kill_after = Duration::ZERO);
    let worker = agent.run(start("job", 1, 1));
    agent.stop(worker, StopHow::Force);
    assert_eq!(agent.signals(worker), [Kill]);
}

#[test]
fn a_worker_that_ends_in_time_is_not_killed() {
    let mut agent = Agent::new();
    let worker = agent.run(start("job", 1, 1));
    agent.stop(worker, StopHow::Force);
    agent.exited(worker, Exit::Signal(15));
    agent.advance(secs(60));
    assert_eq!(agent.signals(worker), [Terminate]);
}

#[test]
fn asking_disturbs_nobody() {
    let mut agent = Agent::new();
    let worker = agent.run(start("job", 1, 1));
    let alive = agent.stop(worker, StopHow::Ask);
    assert_eq!(agent.answer(alive), Some(&STOPPING));
    assert_eq!(agent.phase(worker), Some(Phase::Running));
    assert_eq!(agent.signals(worker), []);

    agent.exited(worker, Exit::Code(0));
    let ended = agent.stop(worker, StopHow::Ask);
    assert_eq!(agent.answer(ended), Some(&stopped_unheard(Exit::Code(0))));
    agent.acknowledged(worker);
    let reported = agent.stop(worker, StopHow::Ask);
    assert_eq!(agent.answer(reported), Some(&stopped(Exit::Code(0))));
}

#[test]
fn the_earliest_deadline_wins() {
    let mut agent = Agent::new();
    let worker = agent.run(start("job", 1, 1));
    agent.stop(worker, StopHow::Gentle);
    agent.advance(secs(10));
    agent.stop(worker, StopHow::Force);
    agent.advance(secs(3));
    // Neither a later force nor a gentle repeat takes the deadline back.
    agent.stop(worker, StopHow::Force);
    agent.stop(worker, StopHow::Gentle);
    agent.advance(millis(1_999));
    assert_eq!(agent.signals(worker), [Terminate]);
    agent.advance(millis(1));
    assert_eq!(agent.signals(worker), [Terminate, Kill]);

    agent.stop(worker, StopHow::Force);
    agent.advance(secs(60));
    assert_eq!(agent.signals(worker), [Terminate, Kill], "the process port repeats it");
}

#[test]
fn stops_of_unknown_and_forgotten_workers_are_not_found() {
    let mut agent = Agent::with(|config| config.retain_for = secs(10));
    let unknown = agent.stop(WorkerId(1), StopHow::Force);
    assert_eq!(agent.answer(unknown), Some(&NOT_FOUND));

    let worker = agent.run(start("job", 1, 1));
    agent.exited(worker, Exit::Code(0));
    agent.acknowledged(worker);
    let known = agent.stop(worker, StopHow::Force);
    let gone = stopped(Exit::Code(0));
    assert_eq!(agent.answer(known), Some(&gone), "at once: there is nothing to wait for");
    agent.advance(secs(10));
    let forgotten = agent.stop(worker, StopHow::Force);
    assert_eq!(agent.answer(forgotten), Some(&NOT_FOUND));
}

#[test]
fn the_answer_waits_for_the_acknowledgement() {
    let mut agent = Agent::new();
    let worker = agent.run(start("job", 1, 1));
    let first = agent.stop(worker, StopHow::Force);
    let second = agent.stop(worker, StopHow::Force);
    agent.exited(worker, Exit::Signal(15));
    let third = agent.stop(worker, StopHow::Force);
    for request in [first, second, third] {
        assert_eq!(agent.answer(request), None, "the controller does not know yet");
    }
    agent.acknowledged(worker);
    for request in [first, second, third] {
        assert_eq!(agent.answer(request), Some(&stopped(Exit::Signal(15))));
    }
}

/// A worker that goes on, one that ends unreported, and what a stop of each is answered after
/// waiting for so long, and not before.
fn late_answers(how: StopHow, wait: Duration) {
    let mut agent = Agent::with(|config| {
        config.reply_wait = secs(1);
        config.kill_after = secs(3);
    });
    let alive = agent.run(start("a", 1, 1));
    let ended = agent.run(start("b", 1, 1));
    let requests = [agent.stop(alive, how), agent.stop(ended, how)];
    agent.exited(ended, Exit::Code(0));
    agent.advance(wait - millis(1));
    assert_eq!(requests.map(|request| agent.answer(request).cloned()), [None, None]);
    agent.advance(millis(1));
    let unheard = stopped_unheard(Exit::Code(0));
    assert_eq!(agent.answer(requests[0]), Some(&STOPPING));
    assert_eq!(agent.answer(requests[1]), Some(&unheard));
    agent.acknowledged(ended);
    assert_eq!(agent.answer(requests[1]), Some(&unheard), "once");
}

#[test]
fn the_answer_to_a_gentle_stop_waits_at_most_reply_wait() {
    late_answers(StopHow::Gentle, secs(1));
}

#[test]
fn the_answer_to_a_forced_stop_waits_for_the_kill_and_at_most_two_seconds_more() {
    late_answers(StopHow::Force, secs(3 + 2));
}

#[test]
fn a_worker_that_its_forced_stop_has_to_kill_is_gone_by_the_answer() {
    let mut agent = Agent::new();
    let worker = agent.run(start("job", 1, 1));
    let request = agent.stop(worker, StopHow::Force);
    agent.advance(secs(5));
    assert_eq!(agent.signals(worker), [Terminate, Kill]);
    agent.exited(worker, Exit::Signal(9));
    agent.advance(secs(1));
    assert_eq!(agent.answer(request), None, "the controller does not know yet");
    agent.acknowledged(worker);
    assert_eq!(agent.answer(request), Some(&stopped(Exit::Signal(9))));
}

#[test]
fn a_signal_that_cannot_be_sent_is_said_and_tried_again() {
    let mut agent = Agent::new();
    let worker = agent.run(start("job", 1, 1));
    let request = agent.stop(worker, StopHow::Gentle);
    let failed = Event::SignalFailed { worker, error: "EPERM".into() };
    agent.give(failed.clone());
    assert_eq!(agent.answer(request), Some(&STOP_FAILED));
    agent.stop(worker, StopHow::Gentle);
    assert_eq!(agent.signals(worker), [Terminate, Terminate], "a repeat signals again");

    agent.stop(worker, StopHow::Force);
    agent.advance(secs(5));
    agent.give(failed.clone());
    agent.advance(millis(999));
    assert_eq!(agent.signals(worker), [Terminate, Terminate, Kill]);
    agent.advance(millis(1));
    assert_eq!(agent.signals(worker), [Terminate, Terminate, Kill, Kill], "by itself");

    agent.give(failed);
    agent.stop(worker, StopHow::Force);
    assert_eq!(agent.signals(worker)[4..], [Kill], "or at the next request");
}

#[test]
fn a_failed_sigterm_does_not_disarm_the_sigkill() {
    let mut agent = Agent::new();
    let worker = agent.run(start("job", 1, 1));
    agent.stop(worker, StopHow::Force);
    agent.give(Event::SignalFailed { worker, error: "EPERM".into() });
    agent.advance(secs(5));
    assert_eq!(agent.signals(worker), [Terminate, Kill]);
}

#[test]
fn a_worker_stopped_before_it_runs_is_signalled_once_it_does() {
    let mut agent = Agent::new();
    agent.start(start("a", 1, 1));
    let in_time = agent.last_spawn();
    agent.start(start("b", 1, 1));
    let too_late = agent.last_spawn();
    agent.stop(in_time, StopHow::Force);
    agent.stop(too_late, StopHow::Force);
    assert_eq!(agent.signals(in_time), []);

    agent.advance(secs(4));
    agent.spawned(in_time);
    assert_eq!(agent.signals(in_time), [Terminate]);
    agent.advance(secs(1));
    assert_eq!(agent.signals(in_time), [Terminate, Kill]);
    agent.spawned(too_late);
    assert_eq!(agent.signals(too_late), [Kill], "its time is over already");
}

#[test]
fn a_stop_of_a_worker_that_never_runs_is_answered() {
    let mut agent = Agent::new();
    agent.start(start("job", 1, 1));
    let worker = agent.last_spawn();
    let request = agent.stop(worker, StopHow::Force);
    agent.give(Event::SpawnFailed { worker, error: spawn_error() });
    let never_ran = StopStatus::Stopped { exit: None, acknowledged: true };
    assert_eq!(agent.answer(request), Some(&Reply::Stopped(never_ran)));
    agent.advance(secs(60));
}

#[test]
fn a_worker_that_ended_cannot_fail_to_stop() {
    let mut agent = Agent::new();
    let worker = agent.run(start("job", 1, 1));
    let request = agent.stop(worker, StopHow::Force);
    agent.exited(worker, Exit::Code(0));
    // The word of a signal that missed it comes after that of its end.
    agent.give(Event::SignalFailed { worker, error: "ESRCH".into() });
    assert_eq!(agent.answer(request), None);
    agent.acknowledged(worker);
    assert_eq!(agent.answer(request), Some(&stopped(Exit::Code(0))));
}
