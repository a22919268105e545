//! What can happen in a story, a line each.
//!
//! Workers are called `w1`, `w2`, … in the order in which they are admitted, callers `c1`, `c2`, …
//! in the order in which they ask.

use std::str::FromStr;

use arroyo_node::machine::{CallError, Exit};
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
    },
    /// Time passes; every timer goes off at its time.
    After(Duration),
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
    Connected,
    Registers(Answer),
    #[command(name = "heartbeat-is")]
    HeartbeatIs(Answer),
    #[command(name = "report-is")]
    ReportIs(String, Answer),

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

/// How a call to the controller ends: `ok`, `not-found`, or the text of an error.
pub(crate) struct Answer(pub(crate) Result<(), CallError>);

impl FromStr for Answer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self(match text {
            "ok" => Ok(()),
            "not-found" => Err(CallError::NotFound),
            error => Err(CallError::Failed(error.into())),
        }))
    }
}
