//! By whom each worker is looked after.

use super::{
    super::{
        ClientAction, ClientInput, Known,
        protocol::{self, RequestKind, ResponseKind},
    },
    client::{
        LINK, Talking, W1, W2, ended, exited, hello, known, list, loading, local, process, release,
        signal, spawned, take_over, tell, track, untrack,
    },
    launch,
};
use crate::{
    machine::{Event, Exit, Signal},
    supervisor::{Notice, Request as LocalRequest, StartFailure},
};

fn event_spawned(pid: u32) -> ClientAction {
    tell(Event::Spawned { worker: W1, process: process(pid) })
}

fn event_adopted(pid: u32) -> ClientAction {
    tell(Event::Adopted { worker: W1, process: process(pid) })
}

fn event_exited(exit: Exit) -> ClientAction {
    tell(Event::Exited { worker: W1, exit })
}

fn local_adopt(pid: Option<u32>) -> ClientAction {
    local(LocalRequest::Adopt { worker: W1, process: pid.map(process) })
}

fn local_signal(signal: Signal) -> ClientAction {
    local(LocalRequest::Signal { worker: W1, signal })
}

fn finish_start() -> ClientAction {
    local(LocalRequest::FinishStart { worker: W1 })
}

fn spawn_failed(reason: &str) -> ResponseKind {
    ResponseKind::SpawnFailed(protocol::Failed { worker: 1, reason: reason.to_owned() })
}

/// The text of the only event, which tells of a failed start.
fn failure(talking: &mut Talking) -> String {
    match talking.actions.pop_front() {
        Some(ClientAction::Tell(Event::SpawnFailed { worker: W1, error })) => {
            error.reason.to_string()
        }
        other => panic!("{other:?}"),
    }
}

fn release_input() -> ClientInput {
    ClientInput::Release(W1)
}

#[test]
fn a_worker_lives_at_the_shim_until_it_is_released() {
    let mut talking = Talking::connected(&[]);
    talking.start(W1);
    assert!(matches!(&talking.actions[0], ClientAction::Send(LINK, request)
        if matches!(&request.kind, Some(RequestKind::Spawn(spawn)) if !spawn.more)));
    talking.ignore().hears(spawned(W1, 10)).does(&[event_spawned(10), track(W1, 10)]);
    talking.hears(spawned(W1, 10)).does(&[]);
    talking.hears(exited(W1, Exit::Code(1)));
    talking.does(&[event_exited(Exit::Code(1)), untrack(W1)]);
    talking.hears(exited(W1, Exit::Code(1))).kill(W1).does(&[]);
    talking.input(release_input()).does(&[release(W1)]);
    talking.input(release_input()).kill(W1).does(&[]);
}

#[test]
fn an_unknown_exit_is_never_read_as_another() {
    let mut talking = Talking::with_worker(W1, 10);
    talking.hears(ResponseKind::Exited(protocol::Exited { worker: 1, exit: None }));
    talking.does(&[event_exited(Exit::Unknown), untrack(W1)]);
}

#[test]
fn what_is_to_be_run_is_sent_in_parts() {
    let mut talking = Talking::connected(&[]);
    let mut big = launch(W1);
    big.env.insert("BIG".to_owned(), "x".repeat(150 * 1024));
    talking.input(ClientInput::Start(big));
    let parts: Vec<(usize, bool)> = talking
        .actions
        .iter()
        .map(|action| match action {
            ClientAction::Send(
                LINK,
                protocol::Request { kind: Some(RequestKind::Spawn(spawn)) },
            ) => (spawn.payload.len(), spawn.more),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(parts.len(), 3);
    assert_eq!((parts[0], parts[1]), ((65_536, true), (65_536, true)));
    assert!(parts[2].0 < 65_536 && !parts[2].1);
}

#[test]
fn what_cannot_be_sent_fails_at_once() {
    let mut talking = Talking::connected(&[]);
    let mut bad = launch(W1);
    bad.env.insert("A=B".to_owned(), String::new());
    talking.input(ClientInput::Start(bad));
    assert!(failure(&mut talking).contains("cannot name"));
    let mut long = launch(W1);
    let mut spec = (*long.spec).clone();
    spec.name = "x".repeat(70_000);
    long.spec = spec.into();
    talking.input(ClientInput::Start(long));
    assert!(failure(&mut talking).contains("65536"));
    assert_eq!(talking.wait(), None);
}

#[test]
fn a_start_that_fails_is_over() {
    let mut talking = Talking::connected(&[]);
    talking.start(W1).kill(W1).ignore().hears(spawn_failed("no file"));
    assert_eq!(failure(&mut talking), "no file");
    talking.hears(spawn_failed("no file")).does(&[]).kill(W1).does(&[]);
    assert_eq!(talking.wait(), None, "nothing is owed");
}

#[test]
fn starts_and_signals_wait_for_a_connection() {
    let mut talking = Talking::connected(&[]);
    talking.loses_shim().ignore().start(W1).kill(W1).does(&[]);
    talking.launched().connects(&[]);
    let after_list: Vec<_> = talking.actions.iter().skip(4).cloned().collect();
    assert!(matches!(after_list[0], ClientAction::Send(..)), "{after_list:?}");
    assert_eq!(after_list[1], signal(W1, Signal::Kill));
    assert_eq!(talking.wait(), Some(250), "the shim owes that");
}

#[test]
fn a_shim_that_died_leaves_its_workers_to_the_local_supervisor() {
    let mut talking = Talking::with_worker(W1, 10);
    talking.loses().connect_fails().ignore().lock(false);
    talking.does(&[take_over(W1, 10), ClientAction::Launch]);
    talking.kill(W1).does(&[local_signal(Signal::Kill)]);
    talking.launched().connects(&[]).ignore();
    let exit = Exit::Signal(9);
    talking.input(ClientInput::Local(Notice::Ended { worker: W1, exit }));
    talking.does(&[event_exited(exit)]);
    talking.input(release_input()).does(&[]);
    assert_eq!(talking.wait(), None);
}

#[test]
fn while_the_lock_is_held_nothing_is_taken_over() {
    let mut talking = Talking::with_worker(W1, 10);
    talking.loses().connect_fails().lock(true).after(20).connect_fails().lock(true).ignore();
    talking.after(20).does(&[ClientAction::Connect]);
    talking.connects(&[known(W1, 10)]).does(&[hello(), list()]);
    talking.hears(exited(W1, Exit::Code(0))).does(&[event_exited(Exit::Code(0)), untrack(W1)]);
}

#[test]
fn an_end_that_was_lost_with_the_connection_is_in_the_list() {
    let mut talking = Talking::with_worker(W1, 10);
    talking.loses().ignore().connects(&[ended(W1, Exit::Code(4))]);
    talking.does(&[hello(), list(), event_exited(Exit::Code(4)), untrack(W1)]);
    talking.loses().ignore().connects(&[ended(W1, Exit::Code(4))]).does(&[hello(), list()]);
}

#[test]
fn an_answer_that_was_lost_with_the_connection_is_in_the_list() {
    let mut talking = Talking::connected(&[]);
    talking.start(W1).loses().ignore().connects(&[known(W1, 10)]);
    talking.does(&[hello(), list(), event_spawned(10), track(W1, 10)]);
    assert_eq!(talking.wait(), None);
    let mut talking = Talking::connected(&[]);
    talking.start(W1).loses().ignore().connects(&[ended(W1, Exit::Code(0))]);
    let exited = event_exited(Exit::Code(0));
    talking.does(&[hello(), list(), event_spawned(10), exited, track(W1, 10), untrack(W1)]);
}

#[test]
fn a_start_that_still_loads_is_answered_later() {
    let mut talking = Talking::connected(&[]);
    talking.start(W1).loses().ignore().connects(&[loading(W1)]).does(&[hello(), list()]);
    talking.hears(spawned(W1, 10)).does(&[event_spawned(10), track(W1, 10)]);
}

#[test]
fn a_start_that_a_dead_shim_has_not_answered_is_looked_for() {
    for kill in [false, true] {
        let mut talking = Talking::connected(&[]);
        talking.start(W1);
        if kill {
            talking.kill(W1);
        }
        talking.loses().connect_fails().ignore().lock(false);
        let mut expected = vec![finish_start()];
        expected.extend(kill.then(|| local_signal(Signal::Kill)));
        expected.push(ClientAction::Launch);
        talking.does(&expected);
        let failed = StartFailure::SupervisorDied;
        let notice = Notice::StartFailed { worker: W1, failure: failed };
        talking.input(ClientInput::Local(notice));
        assert_eq!(failure(&mut talking), "the shim died while it was to run it");
        talking.launched().connects(&[]).ignore();
        assert_eq!(talking.wait(), None);
    }
}

#[test]
fn a_start_that_the_shim_does_not_know_of_is_looked_for() {
    let mut talking = Talking::connected(&[]);
    talking.start(W1).loses().ignore().connects(&[]);
    talking.does(&[hello(), list(), finish_start()]);
    talking.input(ClientInput::Local(Notice::Started { worker: W1, process: process(10) }));
    talking.does(&[event_spawned(10)]);
}

/// A kill was asked for after a shim had taken over from a dead one and before it had sent its
/// first message: it was held to be on its way and lost.
#[test]
fn signals_that_may_have_been_lost_are_sent_again() {
    for which in [Signal::Terminate, Signal::Kill] {
        let mut talking = Talking::with_worker(W1, 10);
        talking.input(ClientInput::Signal(W1, which)).loses().ignore().connects(&[known(W1, 10)]);
        talking.does(&[hello(), list(), signal(W1, which)]);
    }
    let mut talking = Talking::with_worker(W1, 10);
    talking.loses().kill(W1).ignore().connects(&[known(W1, 10)]);
    talking.does(&[hello(), list(), signal(W1, Signal::Kill)]);
    let mut talking = Talking::with_worker(W1, 10);
    talking.loses().kill(W1).ignore().connects(&[ended(W1, Exit::Code(0))]);
    let told = [event_exited(Exit::Code(0)), untrack(W1), signal(W1, Signal::Kill)];
    talking.does(&[&[hello(), list()][..], &told].concat());
    assert_eq!(talking.wait(), None);
}

#[test]
fn a_release_that_may_have_been_lost_is_not_told_twice() {
    let mut talking = Talking::with_worker(W1, 10);
    talking.hears(exited(W1, Exit::Code(0))).loses().ignore();
    talking.input(release_input()).connects(&[ended(W1, Exit::Code(0))]);
    talking.does(&[hello(), list(), release(W1)]);
    talking.loses_shim().ignore();
    talking.launched().connects(&[]).does(&[ClientAction::Connect, hello(), list()]);
    let mut talking = Talking::with_worker(W1, 10);
    talking.hears(exited(W1, Exit::Code(0))).loses().input(release_input()).ignore();
    talking.connect_fails().lock(false).launched().ignore().connects(&[]);
    talking.does(&[hello(), list()]);
}

#[test]
fn an_end_that_a_dead_shim_has_told_is_not_looked_for() {
    let mut talking = Talking::with_worker(W1, 10);
    talking.hears(exited(W1, Exit::Code(0))).loses().connect_fails().ignore().lock(false);
    talking.does(&[ClientAction::Launch]);
}

#[test]
fn a_worker_of_an_earlier_agent_is_adopted_from_the_shim() {
    let mut talking = Talking::connected(&[known(W1, 10)]);
    talking.adopt(W1, Some(10)).does(&[event_adopted(10)]);
    talking.hears(exited(W1, Exit::Code(2))).does(&[event_exited(Exit::Code(2)), untrack(W1)]);
    let mut talking = Talking::connected(&[ended(W1, Exit::Code(2))]);
    talking.does(&[]).adopt(W1, None).does(&[event_exited(Exit::Code(2))]);
    talking.input(release_input()).does(&[release(W1)]);
}

#[test]
fn what_happens_before_the_node_asks_is_told_then() {
    let mut talking = Talking::connected(&[known(W1, 10)]);
    talking.hears(exited(W1, Exit::Code(2))).does(&[untrack(W1)]);
    talking.adopt(W1, Some(10)).does(&[event_exited(Exit::Code(2))]);
    let mut talking = Talking::connected(&[known(W1, 10)]);
    talking.loses().connect_fails().ignore().lock(false).does(&[ClientAction::Launch]);
    talking.kill(W1).does(&[]);
    talking.adopt(W1, Some(10)).does(&[local_adopt(Some(10))]);
    talking.kill(W1).does(&[local_signal(Signal::Kill)]);
}

#[test]
fn a_worker_that_no_shim_has_is_looked_for() {
    for pid in [None, Some(10)] {
        let mut talking = Talking::connected(&[]);
        talking.adopt(W1, pid).does(&[local_adopt(pid)]);
        talking.kill(W1).does(&[local_signal(Signal::Kill)]);
        talking.input(ClientInput::Local(Notice::NeverRan(W1))).does(&[tell(Event::NeverRan(W1))]);
        talking.kill(W1).does(&[]);
    }
}

/// Over a restart of the agent.
#[test]
fn a_start_of_an_earlier_agent_that_still_loads_is_adopted_once_it_runs() {
    let with = |adopted: bool| {
        let mut talking = Talking::connected(&[loading(W1)]);
        assert_eq!(talking.wait(), Some(250), "the shim owes an answer");
        if adopted {
            talking.adopt(W1, None).does(&[]);
        }
        talking
    };
    with(true).hears(spawned(W1, 10)).does(&[event_adopted(10), track(W1, 10)]);
    with(true).hears(spawn_failed("no file")).does(&[tell(Event::NeverRan(W1))]);
    with(false)
        .hears(spawned(W1, 10))
        .does(&[track(W1, 10)])
        .adopt(W1, None)
        .does(&[event_adopted(10)]);
    let mut failed = with(false);
    failed.hears(spawn_failed("no file")).does(&[]).adopt(W1, None).does(&[local_adopt(None)]);
    assert_eq!(failed.wait(), None);
    let mut talking = with(true);
    talking.loses().connect_fails().ignore().lock(false);
    talking.does(&[local_adopt(None), ClientAction::Launch]);
    let mut talking = with(false);
    talking.loses().connect_fails().ignore().lock(false).does(&[ClientAction::Launch]);
    talking.adopt(W1, None).does(&[local_adopt(None)]);
    talking.launched().connects(&[]).ignore();
    assert_eq!(talking.wait(), None, "nothing is owed");
}

#[test]
fn a_start_of_an_earlier_agent_that_was_known_to_run_and_failed_has_ended() {
    let mut talking = Talking::connected(&[loading(W1)]);
    talking.adopt(W1, Some(10)).hears(spawn_failed("no")).does(&[event_exited(Exit::Unknown)]);
}

#[test]
fn the_local_supervisors_workers_are_asked_for_there() {
    let mut talking = Talking::with_worker(W1, 10);
    talking.loses_shim().ignore().adopt(W1, Some(10)).does(&[local_adopt(Some(10))]);
    let text = "a disk hangs".to_owned();
    talking.input(ClientInput::Local(Notice::Warning { worker: W1, text })).does(&[]);
}

#[test]
fn when_no_shim_can_be_started_only_waiting_starts_fail() {
    let mut talking = Talking::with_worker(W2, 20);
    talking.hears(exited(W2, Exit::Code(0))).loses_shim().start(W1).kill(W1);
    talking.input(ClientInput::Release(W2)).ignore();
    talking.input(ClientInput::Launched(Err("no file".to_owned())));
    talking.actions.pop_front();
    assert_eq!(failure(&mut talking), "cannot start the shim: no file");
    talking.after(100).connect_fails().lock(false).launched().ignore().connects(&[]);
    talking.does(&[hello(), list()]);
}

#[test]
fn what_is_kept_of_a_worker_says_which_it_is() {
    assert_eq!(known(W1, 10).worker().unwrap().process, Some(process(10)));
    assert_eq!(loading(W1).worker().unwrap().process, None);
    let of_another = Known { worker: W2, ..known(W1, 10) };
    assert_eq!(of_another.worker(), None);
}
