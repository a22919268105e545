//! The node state machine (contract follows).
#![forbid(unsafe_code)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

mod config;
mod effect;
mod event;
mod record;
mod time;
mod view;
mod worker;

pub use config::{Backoff, Config};
pub use effect::{Effect, Effects, Launch, Registration, Report, Signal};
pub use event::{
    Ask, CallError, Event, JournalDown, Reply, Shutdown, SpawnError, Start, StartError, StopHow,
    StopStatus, WrongMachine,
};
pub use record::{Commit, Record, Recovered};
pub use time::{Mono, Now, Wall};
pub use view::{Mode, View};
pub use worker::{Dialect, End, Exit, Phase, Process, StartKey, Stop, Worker, WorkerSpec};
