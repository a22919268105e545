//! A client with a test in the place of everything around it.

use std::{collections::VecDeque, time::Duration};

use super::{
    super::{
        Client, ClientAction, ClientInput, ClientSettings, Known, LinkId, ShimError,
        client::LogLevel,
        protocol::{self, Request, RequestKind, Response, ResponseKind},
    },
    launch,
};
use crate::{
    ids::WorkerId,
    machine::{Event, Exit, Mono, Process, Signal},
    supervisor::{CommandTemplate, Inherited, Places, Request as LocalRequest, WorkerCommand},
};

pub(super) const W1: WorkerId = WorkerId(1);
pub(super) const W2: WorkerId = WorkerId(2);
pub(super) const LINK: LinkId = LinkId(1);

/// A client, the time, and what it has done since the last look. Its timeout is 2 s.
pub(super) struct Talking {
    pub(super) client: Client,
    pub(super) now: Mono,
    pub(super) actions: VecDeque<ClientAction>,
}

pub(super) fn process(pid: u32) -> Process {
    Process { pid, start_time: 5 }
}

pub(super) fn signal(worker: WorkerId, signal: Signal) -> ClientAction {
    let kill = signal == Signal::Kill;
    send(RequestKind::Signal(protocol::SignalWorker { worker: worker.0, kill }))
}

pub(super) fn release(worker: WorkerId) -> ClientAction {
    send(RequestKind::Release(protocol::Release { worker: worker.0 }))
}

pub(super) fn send(kind: RequestKind) -> ClientAction {
    ClientAction::Send(LINK, Request::from(kind))
}

pub(super) fn hello() -> ClientAction {
    send(RequestKind::Hello(protocol::Hello { version: 3, lowest: 3, capabilities: 0 }))
}

pub(super) fn list() -> ClientAction {
    send(RequestKind::List(protocol::List {}))
}

pub(super) fn tell(event: Event) -> ClientAction {
    ClientAction::Tell(event)
}

pub(super) fn local(request: LocalRequest) -> ClientAction {
    ClientAction::Local(request)
}

pub(super) fn track(worker: WorkerId, pid: u32) -> ClientAction {
    local(LocalRequest::Track { worker, process: process(pid) })
}

pub(super) fn untrack(worker: WorkerId) -> ClientAction {
    local(LocalRequest::Untrack { worker })
}

pub(super) fn take_over(worker: WorkerId, pid: u32) -> ClientAction {
    local(LocalRequest::TakeOver { worker, process: process(pid) })
}

pub(super) fn known(worker: WorkerId, pid: u32) -> Known {
    let label = super::super::label::write(&launch(worker));
    Known { worker, process: process(pid), loading: false, exit: None, label }
}

pub(super) fn loading(worker: WorkerId) -> Known {
    let process = Process { pid: 0, start_time: 0 };
    Known { process, loading: true, ..known(worker, 0) }
}

pub(super) fn ended(worker: WorkerId, exit: Exit) -> Known {
    Known { exit: Some(exit), ..known(worker, 10) }
}

pub(super) fn spawned(worker: WorkerId, pid: u32) -> ResponseKind {
    ResponseKind::Spawned(protocol::Spawned { worker: worker.0, pid, start_time: 5 })
}

pub(super) fn exited(worker: WorkerId, exit: Exit) -> ResponseKind {
    ResponseKind::Exited(protocol::Exited { worker: worker.0, exit: Some(exit.into()) })
}

impl Talking {
    /// A client that has just begun.
    pub(super) fn begun() -> Self {
        let command = WorkerCommand::new("/opt/arroyo");
        let template = CommandTemplate::new(&command, &Inherited::default(), Places::default());
        let settings = ClientSettings { template, timeout: Duration::from_secs(2) };
        let mut actions = VecDeque::new();
        let now = Mono(1_000_000_000);
        let client = Client::new(settings, now, &mut actions);
        Self { client, now, actions }
    }

    /// A client that is connected to a shim that knows these.
    pub(super) fn connected(known: &[Known]) -> Self {
        let mut talking = Self::begun();
        talking.connects(known).ignore();
        talking
    }

    /// With a worker that runs as this process.
    pub(super) fn with_worker(worker: WorkerId, pid: u32) -> Self {
        let mut talking = Self::connected(&[]);
        talking.start(worker).hears(spawned(worker, pid)).ignore();
        talking
    }

    pub(super) fn input(&mut self, input: ClientInput) -> &mut Self {
        self.client.handle(self.now, input, &mut self.actions);
        self
    }

    pub(super) fn hears(&mut self, kind: ResponseKind) -> &mut Self {
        self.input(ClientInput::Received(LINK, Ok(Response::from(kind))))
    }

    /// It is connected to a shim that tells it of these.
    pub(super) fn connects(&mut self, known: &[Known]) -> &mut Self {
        self.input(ClientInput::Connected(LINK));
        for known in known {
            self.hears(ResponseKind::Known(protocol::KnownWorker {
                worker: known.worker.0,
                pid: known.process.pid,
                start_time: known.process.start_time,
                exit: known.exit.map(Into::into),
                label: known.label.clone(),
                loading: known.loading,
            }));
        }
        self.hears(ResponseKind::ListEnd(protocol::ListEnd {}))
    }

    /// The connection ends.
    pub(super) fn loses(&mut self) -> &mut Self {
        self.input(ClientInput::Disconnected(LINK, "reset".to_owned()))
    }

    /// The connection ends, as the shim has died: another one is being launched.
    pub(super) fn loses_shim(&mut self) -> &mut Self {
        self.loses().connect_fails().lock(false)
    }

    pub(super) fn connect_fails(&mut self) -> &mut Self {
        self.input(ClientInput::ConnectFailed("refused".to_owned()))
    }

    pub(super) fn lock(&mut self, held: bool) -> &mut Self {
        self.input(ClientInput::LockChecked(Ok(held)))
    }

    pub(super) fn launched(&mut self) -> &mut Self {
        self.input(ClientInput::Launched(Ok(())))
    }

    pub(super) fn start(&mut self, worker: WorkerId) -> &mut Self {
        self.input(ClientInput::Start(launch(worker)))
    }

    pub(super) fn adopt(&mut self, worker: WorkerId, pid: Option<u32>) -> &mut Self {
        self.input(ClientInput::Adopt(worker, pid.map(process)))
    }

    pub(super) fn kill(&mut self, worker: WorkerId) -> &mut Self {
        self.input(ClientInput::Signal(worker, Signal::Kill))
    }

    pub(super) fn after(&mut self, millis: u64) -> &mut Self {
        self.now += Duration::from_millis(millis);
        self.input(ClientInput::Timeout)
    }

    pub(super) fn ignore(&mut self) -> &mut Self {
        self.actions.clear();
        self
    }

    /// What it has done since the last look; what it has logged is left out.
    #[track_caller]
    pub(super) fn does(&mut self, expected: &[ClientAction]) -> &mut Self {
        let is_log = |action: &ClientAction| matches!(action, ClientAction::Log(..));
        let actions: Vec<_> = self.actions.drain(..).filter(|action| !is_log(action)).collect();
        assert_eq!(actions, expected);
        self
    }

    /// What it has logged since the last look; all else is left out.
    #[track_caller]
    pub(super) fn logs(&mut self, level: LogLevel, expected: &str) -> &mut Self {
        let logs: Vec<_> = self
            .actions
            .drain(..)
            .filter_map(|action| match action {
                ClientAction::Log(level, text) => Some((level, text)),
                _ => None,
            })
            .collect();
        assert_eq!(logs, [(level, expected.to_owned())]);
        self
    }

    /// That was all: it has given up.
    #[track_caller]
    pub(super) fn fails(&mut self, expected: ShimError) {
        assert_eq!(self.actions.pop_back(), Some(ClientAction::Fail(expected)));
        self.ignore().after(3_600_000).does(&[]);
        assert_eq!(self.wait(), None);
    }

    /// How long until the next timeout is due, in milliseconds.
    pub(super) fn wait(&self) -> Option<u64> {
        let at = self.client.next_timeout()?;
        Some(u64::try_from(at.since(self.now).as_millis()).unwrap())
    }
}
