//! What a client is told and what it asks for: plain data.

use std::time::Duration;

use thiserror::Error;

use super::super::{
    LinkId, label,
    protocol::{KnownWorker, Request, Response},
};
use crate::{
    ids::WorkerId,
    machine::{Event, Exit, Launch, Process, Signal, Worker},
    supervisor::{CommandTemplate, Notice, Request as LocalRequest},
};

/// What a client has to know.
#[derive(Clone, Debug)]
pub struct ClientSettings {
    /// How workers' programs are run.
    pub template: CommandTemplate,
    /// How long a shim may take to start, and to answer.
    pub timeout: Duration,
}

/// A worker that the shim knew when it was connected to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Known {
    /// Its id.
    pub worker: WorkerId,
    /// Its first process.
    pub process: Process,
    /// Whether its program has yet to run.
    pub loading: bool,
    /// How it ended, once nothing of the worker is alive.
    pub exit: Option<Exit>,
    /// What the agent that started it wrote about it.
    pub label: Vec<u8>,
}

/// Why there is no shim to work with.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum ShimError {
    /// It could not be started.
    #[error("cannot start the shim: {0}")]
    Start(String),
    /// It cannot be connected to.
    #[error("cannot connect to the shim: {0}")]
    Connect(String),
    /// It does not talk to this agent.
    #[error("the shim refuses this agent: {0}; stop the workers and the shim, then try again")]
    Refused(String),
    /// It does not answer, and cannot be ended.
    #[error("the shim does not answer, and cannot be replaced: {0}")]
    Stale(String),
    /// Whether there is one cannot be told.
    #[error("cannot tell whether there is a shim: {0}")]
    Lock(String),
}

/// What a client is told.
#[derive(Clone, PartialEq, Debug)]
pub enum ClientInput {
    /// The node wants a worker to be started.
    Start(Launch),
    /// The node asks what became of a worker.
    Adopt(WorkerId, Option<Process>),
    /// The node wants a worker to be signalled.
    Signal(WorkerId, Signal),
    /// The end of a worker is durable.
    Release(WorkerId),
    /// The local supervisor tells something.
    Local(Notice),
    /// To [`ClientAction::Connect`].
    Connected(LinkId),
    /// To [`ClientAction::Connect`]: why not.
    ConnectFailed(String),
    /// A message has come, or what is none.
    Received(LinkId, Result<Response, String>),
    /// A connection has ended, for this reason.
    Disconnected(LinkId, String),
    /// To [`ClientAction::CheckLock`]: whether a shim has it.
    LockChecked(Result<bool, String>),
    /// To [`ClientAction::KillHolders`]: how many of them are not gone yet.
    HoldersKilled(Result<usize, String>),
    /// To [`ClientAction::Launch`]: it can be connected to, or another one can.
    Launched(Result<(), String>),
    /// The time of `next_timeout` has come.
    Timeout,
}

/// What comes of it. To be carried out in order.
#[derive(Clone, PartialEq, Debug)]
pub enum ClientAction {
    /// Connect to the shim's socket. Answered by `Connected` or `ConnectFailed`.
    Connect,
    /// Close a connection.
    Disconnect(LinkId),
    /// Send this. What cannot be sent yet waits.
    Send(LinkId, Request),
    /// Tell whether a shim has the lock. Answered by `LockChecked`.
    CheckLock,
    /// Kill the shims that have the lock's file open. Answered by `HoldersKilled`.
    KillHolders,
    /// Start a shim, and wait until it listens or ends. Answered by `Launched`.
    Launch,
    /// To ask of the local supervisor.
    Local(LocalRequest),
    /// To tell the node.
    Tell(Event),
    /// The first connection is made: what that shim knows. The node may begin.
    Ready(Vec<Known>),
    /// There is no first connection. Nothing more is done.
    Fail(ShimError),
    /// For the log.
    Log(LogLevel, String),
}

/// How much a line of the log matters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogLevel {
    /// All is well.
    Info,
    /// Somebody should know.
    Warn,
    /// Something is wrong.
    Error,
}

impl Known {
    /// The worker as it was when it had been started, by its label: for a journal that was lost.
    /// `None`: the label is none that this program can read.
    pub fn worker(&self) -> Option<Worker> {
        let process = (!self.loading).then_some(self.process);
        label::read(&self.label, process).filter(|worker| worker.id == self.worker)
    }
}

impl From<KnownWorker> for Known {
    fn from(known: KnownWorker) -> Self {
        Self {
            worker: WorkerId(known.worker),
            process: Process { pid: known.pid, start_time: known.start_time },
            loading: known.loading,
            exit: known.exit.map(Into::into),
            label: known.label,
        }
    }
}
