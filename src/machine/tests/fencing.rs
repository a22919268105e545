//! Workers without a controller are stopped, if the operator wishes so.

use super::*;

#[test]
fn fencing_is_off_unless_asked_for() {
    let mut agent = Agent::new();
    let worker = agent.run(start("job", 1, 1));
    agent.controller_away();
    agent.advance(secs(30 * 24 * 3_600));
    assert_eq!(agent.signals(worker), []);
}

#[test]
fn a_fenced_agent_stops_its_workers_by_force_and_lives_on() {
    let mut agent = Agent::with(|config| config.fence_after = Some(secs(60)));
    let worker = agent.run(start("job", 1, 1));
    agent.advance(secs(50));
    agent.known();
    agent.controller_away();
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
