//! How a client gets a shim, keeps it and replaces it.

use super::{
    super::{
        ClientAction, ClientInput, LinkId, ShimError,
        client::LogLevel,
        protocol::{self, Response, ResponseKind},
    },
    client::{LINK, Talking, W1, W2, hello, known, list, local, signal, take_over},
};
use crate::{
    machine::{Event, Exit, Signal},
    supervisor::Request as LocalRequest,
};

const SLACK: u64 = 3_000;

fn backup_kill() -> ClientAction {
    local(LocalRequest::BackupKill { worker: W1 })
}

#[test]
fn a_shim_that_lives_is_greeted_and_asked_what_it_knows() {
    let mut talking = Talking::begun();
    talking.does(&[ClientAction::Connect]);
    talking.input(ClientInput::Connected(LINK)).does(&[hello(), list()]);
    assert_eq!(talking.wait(), Some(2_000));
    let welcome = protocol::Welcome { version: 3, capabilities: 0, pid: 7 };
    talking.hears(ResponseKind::Welcome(welcome)).does(&[]);
    let mut talking = Talking::begun();
    talking.ignore().connects(&[known(W1, 10)]);
    let track = LocalRequest::Track { worker: W1, process: super::client::process(10) };
    let ready = ClientAction::Ready(vec![known(W1, 10)]);
    talking.does(&[hello(), list(), local(track), ready]);
    assert_eq!(talking.wait(), None);
}

#[test]
fn where_the_lock_is_free_a_shim_is_started() {
    let mut talking = Talking::begun();
    talking.ignore().connect_fails().does(&[ClientAction::CheckLock]);
    talking.lock(false).does(&[ClientAction::Launch]).launched().does(&[ClientAction::Connect]);
    talking.connects(&[]).does(&[hello(), list(), ClientAction::Ready(Vec::new())]);
}

#[test]
fn a_shim_that_has_the_lock_is_given_time_before_it_is_killed() {
    let mut talking = Talking::begun();
    talking.ignore();
    for _ in 0..100 {
        talking.connect_fails().does(&[ClientAction::CheckLock]).lock(true).does(&[]);
        assert_eq!(talking.wait(), Some(20));
        talking.after(19).does(&[]).after(1).does(&[ClientAction::Connect]);
    }
    talking.connect_fails().ignore().lock(true);
    let log = "the shim does not answer: refused; it is killed".to_owned();
    let log = ClientAction::Log(LogLevel::Warn, log);
    assert_eq!(talking.actions, [log, ClientAction::KillHolders]);
    talking.ignore().input(ClientInput::HoldersKilled(Ok(1))).does(&[]);
    assert_eq!(talking.wait(), Some(10));
    talking.after(10).does(&[ClientAction::KillHolders]);
    talking.input(ClientInput::HoldersKilled(Ok(0))).does(&[ClientAction::Launch]);
}

#[test]
fn a_shim_that_cannot_be_killed_is_told() {
    let mut talking = Talking::begun();
    talking.now += std::time::Duration::from_secs(2);
    talking.connect_fails().lock(true).ignore();
    for _ in 0..200 {
        talking.input(ClientInput::HoldersKilled(Ok(1))).after(10);
        talking.does(&[ClientAction::KillHolders]);
    }
    talking.input(ClientInput::HoldersKilled(Ok(1)));
    talking.fails(ShimError::Stale("it was killed and is still there".to_owned()));
    let mut talking = Talking::begun();
    talking.now += std::time::Duration::from_secs(2);
    talking.connect_fails().lock(true).input(ClientInput::HoldersKilled(Err("no".to_owned())));
    talking.fails(ShimError::Stale("no".to_owned()));
}

#[test]
fn before_the_first_connection_errors_end_it() {
    let mut talking = Talking::begun();
    talking.connect_fails().input(ClientInput::LockChecked(Err("no disk".to_owned())));
    talking.fails(ShimError::Lock("no disk".to_owned()));
    let mut talking = Talking::begun();
    talking.connect_fails().lock(false).input(ClientInput::Launched(Err("no file".to_owned())));
    talking.fails(ShimError::Start("no file".to_owned()));
    let mut talking = Talking::begun();
    talking.input(ClientInput::Connected(LINK)).ignore();
    talking.hears(ResponseKind::Refused(protocol::Refused { reason: "too old".to_owned() }));
    assert_eq!(talking.actions.pop_front(), Some(ClientAction::Disconnect(LINK)));
    talking.fails(ShimError::Refused("too old".to_owned()));
}

#[test]
fn a_shim_that_ends_at_once_is_started_three_times_more() {
    let mut talking = Talking::begun();
    talking.connect_fails().lock(false).ignore();
    for _ in 0..3 {
        talking.launched().does(&[ClientAction::Connect]);
        talking.connect_fails().lock(false);
        talking.does(&[ClientAction::CheckLock, ClientAction::Launch]);
    }
    talking.launched().connect_fails().lock(false);
    talking.fails(ShimError::Connect("refused".to_owned()));
}

#[test]
fn a_shim_that_says_nothing_is_killed() {
    let mut talking = Talking::begun();
    talking.input(ClientInput::Connected(LINK)).ignore().after(1_999).does(&[]).after(1);
    let log = "the shim does not answer: no welcome within 2s; it is killed".to_owned();
    let log = ClientAction::Log(LogLevel::Warn, log);
    assert_eq!(talking.actions, [ClientAction::Disconnect(LINK), log, ClientAction::KillHolders]);
}

#[test]
fn whatever_is_not_answered_is_given_up() {
    let mut talking = Talking::begun();
    talking.ignore();
    assert_eq!(talking.wait(), Some(SLACK));
    talking.after(SLACK - 1).does(&[]).after(1).does(&[ClientAction::CheckLock]);
    talking.after(SLACK).fails(ShimError::Lock("no answer in time".to_owned()));
    let mut talking = Talking::begun();
    talking.connect_fails().lock(false).ignore().after(SLACK);
    talking.fails(ShimError::Start("no answer in time".to_owned()));
    let mut talking = Talking::begun();
    talking.now += std::time::Duration::from_secs(2);
    talking.connect_fails().lock(true).ignore().after(SLACK);
    talking.fails(ShimError::Stale("no answer in time".to_owned()));
}

#[test]
fn late_answers_change_nothing() {
    let mut talking = Talking::connected(&[]);
    talking.launched().lock(false).lock(true).connect_fails().does(&[]);
    talking.input(ClientInput::HoldersKilled(Ok(0))).does(&[]);
    talking.input(ClientInput::Connected(LinkId(2))).does(&[ClientAction::Disconnect(LinkId(2))]);
    talking.input(ClientInput::Disconnected(LinkId(2), "closed".to_owned())).does(&[]);
    let end = Response::from(ResponseKind::ListEnd(protocol::ListEnd {}));
    talking.input(ClientInput::Received(LinkId(2), Ok(end))).does(&[]);
    talking.start(W1).hears(super::client::spawned(W1, 10)).ignore();
    talking.loses().does(&[ClientAction::Disconnect(LINK), ClientAction::Connect]);
    talking.hears(super::client::exited(W1, Exit::Code(0))).does(&[]);
}

#[test]
fn what_is_no_message_ends_the_connection() {
    let mut talking = Talking::connected(&[]);
    talking.input(ClientInput::Received(LINK, Err("garbled".to_owned())));
    let log = "lost the shim: garbled; its workers live on".to_owned();
    let log = ClientAction::Log(LogLevel::Error, log);
    assert_eq!(talking.actions, [ClientAction::Disconnect(LINK), log, ClientAction::Connect]);
}

#[test]
fn a_connection_that_ends_during_the_greeting_is_no_loss_of_workers() {
    let mut talking = Talking::begun();
    talking.input(ClientInput::Connected(LINK)).ignore().loses();
    talking.does(&[ClientAction::Disconnect(LINK), ClientAction::CheckLock]);
}

#[test]
fn a_connection_that_is_back_is_said() {
    let mut talking = Talking::connected(&[]);
    talking.loses().ignore().connects(&[]).logs(LogLevel::Info, "connected to a shim");
}

#[test]
fn after_the_first_connection_it_is_tried_again_later_and_later() {
    let mut talking = Talking::connected(&[]);
    talking.loses_shim().start(W1).ignore();
    for (nth, wait) in [100, 400, 1_600, 5_000, 5_000].into_iter().enumerate() {
        talking.input(ClientInput::Launched(Err("no file".to_owned())));
        if nth == 0 {
            let Some(ClientAction::Log(LogLevel::Error, text)) = talking.actions.pop_front() else {
                panic!("{:?}", talking.actions)
            };
            assert_eq!(text, "cannot start the shim: no file; trying again in 100ms");
            let Some(ClientAction::Tell(Event::SpawnFailed { worker: W1, error })) =
                talking.actions.pop_front()
            else {
                panic!("{:?}", talking.actions)
            };
            let text = "cannot run worker program \"/opt/arroyo\": cannot start the shim: no file";
            assert_eq!(error.to_string(), text);
        }
        talking.ignore();
        assert_eq!(talking.wait(), Some(wait));
        talking.after(wait).does(&[ClientAction::Connect]);
        talking.connect_fails().lock(false).does(&[ClientAction::CheckLock, ClientAction::Launch]);
    }
    talking.launched().connects(&[]).ignore().loses_shim().ignore();
    talking.input(ClientInput::Launched(Err("no file".to_owned())));
    assert_eq!(talking.wait(), Some(100), "a shim that worked is a new beginning");
}

#[test]
fn a_shim_that_was_started_and_ended_is_tried_again_later() {
    let mut talking = Talking::connected(&[]);
    talking
        .loses_shim()
        .launched()
        .connect_fails()
        .ignore()
        .lock(false)
        .logs(LogLevel::Error, "cannot connect to the shim: refused; trying again in 100ms");
    talking.after(100).connect_fails().lock(false);
    talking.does(&[ClientAction::Connect, ClientAction::CheckLock, ClientAction::Launch]);
}

#[test]
fn a_shim_that_has_the_lock_after_a_failure_has_its_time_again() {
    let mut talking = Talking::connected(&[]);
    talking.loses_shim().input(ClientInput::Launched(Err("slow".to_owned()))).after(100).ignore();
    talking.now += std::time::Duration::from_millis(1_900);
    talking.connect_fails().lock(true).does(&[ClientAction::CheckLock]);
    assert_eq!(talking.wait(), Some(20));
}

#[test]
fn a_shim_that_owes_nothing_may_be_silent() {
    let mut talking = Talking::with_worker(W1, 10);
    assert_eq!(talking.wait(), None);
    talking.input(ClientInput::Signal(W1, Signal::Terminate));
    talking.does(&[signal(W1, Signal::Terminate)]);
    assert_eq!(talking.wait(), None);
}

#[test]
fn a_silent_shim_is_pinged_helped_and_replaced() {
    let mut talking = Talking::with_worker(W1, 10);
    talking.kill(W1).does(&[signal(W1, Signal::Kill)]);
    assert_eq!(talking.wait(), Some(250));
    talking.after(250).does(&[hello()]).after(250);
    let text = "the shim is silent: 1 workers are killed in its place".to_owned();
    let log = ClientAction::Log(LogLevel::Error, text);
    assert_eq!(talking.actions, [log, backup_kill()]);
    talking.ignore();
    for _ in 0..2 {
        talking.after(500);
        assert_eq!(talking.actions, [backup_kill()]);
        talking.ignore();
    }
    talking.after(500);
    let text = "the shim does not answer: no message for 2s; it is killed".to_owned();
    let log = ClientAction::Log(LogLevel::Warn, text);
    assert_eq!(talking.actions, [ClientAction::Disconnect(LINK), log, ClientAction::KillHolders]);
    talking.ignore().input(ClientInput::HoldersKilled(Ok(0)));
    let kill = local(LocalRequest::Signal { worker: W1, signal: Signal::Kill });
    talking.does(&[take_over(W1, 10), kill, ClientAction::Launch]);
}

#[test]
fn a_shim_that_answers_is_left_alone() {
    let mut talking = Talking::with_worker(W1, 10);
    talking.kill(W1).after(250).ignore();
    let welcome = protocol::Welcome { version: 3, capabilities: 0, pid: 7 };
    talking.hears(ResponseKind::Welcome(welcome)).does(&[]);
    assert_eq!(talking.wait(), Some(5_250));
    talking.hears(super::client::exited(W1, Exit::Signal(9)));
    assert_eq!(talking.wait(), None);
}

/// A shim had answered while it waited for a process that could not die, and was left alone for
/// five seconds. Then it was stopped, and a kill of another worker waited for as long.
#[test]
fn a_shim_that_is_left_alone_is_watched_again_when_it_is_asked_for_more() {
    let mut talking = Talking::with_worker(W1, 10);
    talking.start(W2).hears(super::client::spawned(W2, 20)).kill(W1).after(250).ignore();
    let welcome = protocol::Welcome { version: 3, capabilities: 0, pid: 7 };
    talking.hears(ResponseKind::Welcome(welcome)).after(100).kill(W2);
    assert_eq!(talking.wait(), Some(250));
}

#[test]
fn a_start_that_is_not_answered_is_owed_too() {
    let mut talking = Talking::connected(&[]);
    talking.start(W1).ignore();
    assert_eq!(talking.wait(), Some(250));
    talking.after(250).does(&[hello()]).after(250).does(&[]);
    talking.hears(super::client::spawned(W1, 10)).ignore();
    assert_eq!(talking.wait(), None);
}

/// A shim was stuck in the kernel, and the connection was lost. Nothing killed its workers until it
/// was gone.
#[test]
fn while_there_is_no_connection_workers_are_killed_in_the_shims_place() {
    let mut talking = Talking::with_worker(W1, 10);
    talking.loses().ignore().kill(W1).does(&[]);
    assert_eq!(talking.wait(), Some(500));
    for _ in 0..3 {
        talking.after(500).does(&[backup_kill()]);
    }
    talking.connects(&[known(W1, 10)]).does(&[hello(), list(), signal(W1, Signal::Kill)]);
    assert_eq!(talking.wait(), Some(250));
}

#[test]
fn what_a_shim_cannot_do_is_told() {
    let mut talking = Talking::with_worker(W1, 10);
    let failed = protocol::Failed { worker: 1, reason: "EPERM".to_owned() };
    talking.hears(ResponseKind::SignalFailed(failed));
    let error = "EPERM".into();
    talking.does(&[ClientAction::Tell(Event::SignalFailed { worker: W1, error })]);
    let reason = "no such request".to_owned();
    let text = "the shim did not understand this agent: no such request";
    talking.hears(ResponseKind::Unsupported(protocol::Unsupported { reason: reason.clone() }));
    talking.logs(LogLevel::Error, text);
    talking.hears(ResponseKind::Refused(protocol::Refused { reason }));
    talking.logs(LogLevel::Error, text);
    talking.input(ClientInput::Received(LINK, Ok(Response { kind: None }))).does(&[]);
}
