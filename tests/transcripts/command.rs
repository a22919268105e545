//! What can happen in a story, a line each.
//!
//! Workers are called `w1`, `w2`, … in the order in which they are admitted, callers `c1`, `c2`, …
//! in the order in which they ask.

use std::{str::FromStr, sync::Arc};

use arroyo_node::machine::{AbandonedPolicy, CallError, Exit, Loss};
use humantime::Duration;

#[derive(goldenscript::Command)]
pub(crate) enum Command {
    /// An agent starts on an empty journal: `agent slots=16 kill-after=5s`.
    Agent {
        #[arg(key)]
        slots: Option<u64>,
        #[arg(key = "kill-after")]
        kill_after: Option<Duration>,
        #[arg(key = "heartbeat")]
        heartbeat_every: Option<Duration>,
        #[arg(key = "fence-after")]
        fence_after: Option<Duration>,
        #[arg(key)]
        abandoned: Option<Policy>,
    },
    /// Time passes; every timer goes off at its time.
    After(Duration),
    /// Time passes while the agent's process is stopped: what was due goes off at the end.
    Paused(Duration),
    /// The wall clock is set forward by so much. The monotonic one is not.
    #[command(name = "clock-jumps")]
    ClockJumps(Duration),

    /// A controller asks for a worker. Its answer leaves at once, unless the command has the tag
    /// `[slow]`.
    Start {
        job: String,
        #[arg(key)]
        slots: u64,
        #[arg(key)]
        generation: Option<u64>,
        #[arg(key)]
        pipeline: Option<String>,
        #[arg(key)]
        key: Option<String>,
        #[arg(key)]
        machine: Option<String>,
    },
    /// An answer that was slow has left.
    Delivered(String),
    /// A controller has a worker stopped: `stop w1`, `stop w1 force`, `stop w1 ask`.
    Stop(String, Option<String>),
    /// An operator asks for no new workers, or ends that.
    Drain,
    Undrain,
    /// The agent is asked to end, with its workers or without them.
    Shutdown,
    Detach,
    /// The agent's process is sent SIGTERM.
    #[command(name = "sigterm")]
    Sigterm,

    /// What becomes of a worker.
    Runs(String),
    #[command(name = "cannot-run")]
    CannotRun(String),
    Ends(String, End),
    Adopted(String),
    #[command(name = "never-ran")]
    NeverRan(String),
    #[command(name = "signal-fails")]
    SignalFails(String),

    /// What comes back from the controller.
    Registers(Answer),
    #[command(name = "heartbeat-is")]
    HeartbeatIs(Answer),
    /// A heartbeat that was given up has been answered after all.
    #[command(name = "heartbeat-is-late")]
    HeartbeatIsLate,
    #[command(name = "report-is")]
    ReportIs(String, Answer),
    /// The connection has ended: `connection-is closed`, by the controller's computer, or `broken`.
    #[command(name = "connection-is")]
    ConnectionIs(Lost),

    /// Whether the worker program can be executed: `program-is ok`, or why it cannot.
    #[command(name = "program-is")]
    ProgramIs(Check),

    /// Whether the journal takes commits.
    #[command(name = "disk-is-full")]
    DiskIsFull,
    #[command(name = "disk-has-room")]
    DiskHasRoom,

    /// The agent is killed, and started again.
    Crash,
    /// The machine (the computer) is restarted, and with it the agent.
    Reboot,
    /// What others see.
    View,
}

/// How a worker ends: `0`, `1`, …, `SIGKILL`, `SIGTERM`, `oom`, `unknown`.
pub(crate) struct End(pub(crate) Exit);

impl FromStr for End {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self(match text {
            "SIGKILL" => Exit::Signal(9),
            "SIGTERM" => Exit::Signal(15),
            "oom" => Exit::OomKilled,
            "unknown" => Exit::Unknown,
            code => Exit::Code(code.parse().map_err(|_| format!("no end is called {code:?}"))?),
        }))
    }
}

/// What becomes of abandoned workers: `end`, `keep`, or after how long they are stopped.
pub(crate) struct Policy(pub(crate) AbandonedPolicy);

impl FromStr for Policy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self(match text {
            "end" => AbandonedPolicy::End,
            "keep" => AbandonedPolicy::Keep,
            time => {
                let time: Duration = time.parse().map_err(|_| format!("no policy is {time:?}"))?;
                AbandonedPolicy::StopAfter(time.into())
            }
        }))
    }
}

/// How a connection ends.
pub(crate) struct Lost(pub(crate) Loss);

impl FromStr for Lost {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "closed" => Ok(Self(Loss::Closed)),
            "broken" => Ok(Self(Loss::Broken)),
            other => Err(format!("no connection is {other:?}")),
        }
    }
}

/// `ok`, or why the worker program cannot be executed.
pub(crate) struct Check(pub(crate) Result<(), Arc<str>>);

impl FromStr for Check {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self(if text == "ok" { Ok(()) } else { Err(text.into()) }))
    }
}

/// How a call to the controller ends: `ok`, `not-found`, `not-connected`, or the text of an error.
pub(crate) struct Answer(pub(crate) Result<(), CallError>);

impl FromStr for Answer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self(match text {
            "ok" => Ok(()),
            "not-found" => Err(CallError::NotFound),
            "not-connected" => Err(CallError::NotConnected),
            error => Err(CallError::Failed(error.into())),
        }))
    }
}
