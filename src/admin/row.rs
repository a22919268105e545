//! One worker as people and their scripts see it: the same words in the JSON of the admin server,
//! on its page, and in the output of the commands.
//!
//! Worker ids are text: they use all 64 bits, and most readers of JSON keep only 53.

use std::{
    borrow::Cow,
    fmt,
    time::{Duration, UNIX_EPOCH},
};

use nix::sys::signal::Signal;
use serde::Serialize;

use crate::{
    machine::{Exit, Phase, Wall, Worker},
    rpc::wire,
    runtime::{clock::SystemClock, ports::Clock as _},
};

/// One worker.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Row {
    /// Its id, in decimal.
    pub worker_id: String,
    /// Of the job, for people.
    pub name: String,
    /// The job it serves.
    pub job_id: String,
    /// The job's scheduling attempt.
    pub generation: u64,
    /// The job's pipeline, if the controller sent it.
    pub pipeline_id: Option<String>,
    /// The slots it holds while it is alive.
    pub slots: u64,
    /// Where in its life it is: starting, running, stopping, exited or reported.
    pub state: &'static str,
    /// Whether it holds its slots.
    pub alive: bool,
    /// Whether the controller has forgotten it: no controller counts its slots.
    pub abandoned: bool,
    /// Its first process.
    pub pid: Option<u32>,
    /// When it was admitted.
    pub started_at: Option<Moment>,
    /// When its end was seen.
    pub ended_at: Option<Moment>,
    /// How it ended.
    pub exit: Option<Ending>,
}

/// How a worker ended. Its text is for people: `code 3`, `signal 9 (SIGKILL)`, `unknown`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(tag = "how", rename_all = "snake_case")]
pub enum Ending {
    /// It exited with this status.
    Code {
        /// The status.
        code: i32,
    },
    /// A signal killed it.
    Signal {
        /// The signal's number.
        signal: i32,
        /// Its name, if it has one.
        name: Option<&'static str>,
    },
    /// The kernel killed it for memory.
    OomKilled,
    /// The machine was restarted under it.
    Lost,
    /// Nobody could tell.
    Unknown,
}

/// A time: microseconds since the Unix epoch. In JSON, and as text, it is RFC 3339 in UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Moment(pub u64);

impl From<&Worker> for Row {
    fn from(worker: &Worker) -> Self {
        let spec = &worker.spec;
        Self {
            worker_id: worker.id.to_string(),
            name: spec.name.clone(),
            job_id: spec.job.to_string(),
            generation: spec.generation.0,
            pipeline_id: spec.pipeline.as_ref().map(ToString::to_string),
            slots: spec.slots.get(),
            state: match worker.phase() {
                Phase::Starting => "starting",
                Phase::Running => "running",
                Phase::Stopping => "stopping",
                Phase::Exited => "exited",
                Phase::Reported => "reported",
            },
            alive: worker.is_live(),
            abandoned: worker.is_abandoned(),
            pid: worker.process.map(|process| process.pid),
            started_at: Some(worker.admitted_at.into()),
            ended_at: worker.end.map(|end| end.at.into()),
            exit: worker.end.map(|end| end.exit.into()),
        }
    }
}

impl From<&wire::WorkerStatus> for Row {
    fn from(worker: &wire::WorkerStatus) -> Self {
        use wire::WorkerState::*;
        Self {
            worker_id: worker.worker_id.to_string(),
            name: worker.name.clone(),
            job_id: worker.job_id.clone(),
            generation: worker.generation,
            pipeline_id: Some(worker.pipeline_id.clone()).filter(|pipeline| !pipeline.is_empty()),
            slots: worker.slots,
            state: match worker.state() {
                Starting => "starting",
                Running => "running",
                Stopping => "stopping",
                Exited if worker.reported => "reported",
                Exited => "exited",
                // A stock node says only this much.
                Unspecified if worker.running => "running",
                Unspecified => "exited",
            },
            alive: worker.running,
            abandoned: worker.abandoned,
            pid: Some(worker.pid).filter(|pid| *pid != 0),
            started_at: Moment::unless_zero(worker.started_at),
            ended_at: Moment::unless_zero(worker.ended_at),
            exit: match &worker.exit {
                None if worker.running => None,
                None => Some(Ending::Unknown),
                Some(exit) => Some(exit.how.as_ref().map_or(Ending::Unknown, Ending::from)),
            },
        }
    }
}

impl Row {
    /// Where in its life it is, and whether anybody counts on it, for people.
    pub fn state_text(&self) -> String {
        match self.abandoned {
            true => format!("{}, abandoned", self.state),
            false => self.state.to_owned(),
        }
    }
}

impl From<Exit> for Ending {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Code(code) => Self::Code { code },
            Exit::Signal(signal) => Self::signal(signal),
            Exit::OomKilled => Self::OomKilled,
            Exit::Lost => Self::Lost,
            Exit::Unknown => Self::Unknown,
        }
    }
}

impl From<&wire::worker_exit::How> for Ending {
    fn from(how: &wire::worker_exit::How) -> Self {
        use wire::worker_exit::How;
        match *how {
            How::Code(code) => Self::Code { code },
            How::Signal(signal) => Self::signal(signal),
            How::OomKilled(()) => Self::OomKilled,
            How::Lost(()) => Self::Lost,
            How::Unknown(()) => Self::Unknown,
        }
    }
}

impl Ending {
    fn signal(signal: i32) -> Self {
        Self::Signal { signal, name: Signal::try_from(signal).ok().map(Signal::as_str) }
    }

    /// Whether it ended as a worker should.
    pub fn is_success(self) -> bool {
        self == Self::Code { code: 0 }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code { code } => write!(f, "code {code}"),
            Self::Signal { signal, name: Some(name) } => write!(f, "signal {signal} ({name})"),
            Self::Signal { signal, name: None } => write!(f, "signal {signal}"),
            Self::OomKilled => f.write_str("out of memory"),
            Self::Lost => f.write_str("lost in a reboot"),
            Self::Unknown => f.write_str("unknown"),
        }
    }
}

impl From<Wall> for Moment {
    fn from(wall: Wall) -> Self {
        Self(wall.0)
    }
}

impl Moment {
    /// A time on the wire, where zero says that there is none.
    pub fn unless_zero(micros: u64) -> Option<Self> {
        (micros != 0).then_some(Self(micros))
    }

    /// How long ago it was, to the second; nothing if it lies ahead.
    pub fn before(self, now: Moment) -> Duration {
        Duration::from_secs(now.0.saturating_sub(self.0) / 1_000_000)
    }

    /// By the clock of this computer.
    pub fn now() -> Self {
        Self(SystemClock.now().wall.0)
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // RFC 3339 ends with the year 9999; a time that came over a network may not.
        const LAST: u64 = 253_402_300_799;
        let time = UNIX_EPOCH + Duration::from_secs((self.0 / 1_000_000).min(LAST));
        humantime::format_rfc3339_seconds(time).fmt(f)
    }
}

impl Serialize for Moment {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// An age in its two largest units: `3h 12m`.
pub fn age(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, minutes) => format!("{minutes}m {}s", seconds % 60),
        (0, hours, minutes) => format!("{hours}h {minutes}m"),
        (days, hours, _) => format!("{days}d {hours}h"),
    }
}

/// Text from outside on one line, without characters that steer a terminal.
pub fn plain(text: &str) -> Cow<'_, str> {
    if text.contains(char::is_control) {
        text.replace(char::is_control, "\u{fffd}").into()
    } else {
        text.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_truthfully() {
        let told = |exit: Exit| Ending::from(exit).to_string();
        assert_eq!(told(Exit::Code(3)), "code 3");
        assert_eq!(told(Exit::Signal(9)), "signal 9 (SIGKILL)");
        assert_eq!(told(Exit::Signal(50)), "signal 50");
        assert_eq!(told(Exit::Unknown), "unknown");
        assert!(!Ending::from(Exit::Unknown).is_success());
    }

    #[test]
    fn an_ended_worker_without_an_exit_ended_unknown() {
        let ended = wire::WorkerStatus { running: false, ..Default::default() };
        assert_eq!(Row::from(&ended).exit, Some(Ending::Unknown));
        let alive = wire::WorkerStatus { running: true, ..Default::default() };
        assert_eq!(Row::from(&alive).exit, None);
    }

    #[test]
    fn json_keeps_all_digits_of_an_id() {
        let worker = wire::WorkerStatus { worker_id: u64::MAX, ..Default::default() };
        let json = serde_json::to_value(Row::from(&worker)).unwrap();
        assert_eq!(json["worker_id"], "18446744073709551615");
        assert_eq!(json["exit"]["how"], "unknown");
    }

    #[test]
    fn any_time_has_a_text() {
        assert_eq!(Moment(1_000_000).to_string(), "1970-01-01T00:00:01Z");
        assert_eq!(Moment(u64::MAX).to_string(), "9999-12-31T23:59:59Z");
    }

    #[test]
    fn ages_have_two_units() {
        assert_eq!(age(Duration::from_millis(9_900)), "9s");
        assert_eq!(age(Duration::from_secs(100)), "1m 40s");
        assert_eq!(age(Duration::from_secs(3 * 3_600 + 12 * 60 + 5)), "3h 12m");
        assert_eq!(age(Duration::from_secs(2 * 86_400 + 3_600)), "2d 1h");
    }

    #[test]
    fn terminals_are_not_steered() {
        assert_eq!(plain("job\u{1b}[2J\n"), "job\u{fffd}[2J\u{fffd}");
        assert_eq!(plain("jöb"), "jöb");
    }
}
