//! `/debug/pprof/profile`: where the CPU time of this process goes, in the form of pprof.
//!
//! ```text
//!  GET ?frequency=3000&duration=30
//!        │ one at a time, else 409
//!        ▼
//!  SIGPROF every 1/frequency s of CPU time ─▶ stacks ─▶ names ─▶ protobuf ─▶ gzip
//! ```
//!
//! Parameters, their defaults and the answer are stock's. `seconds` is `duration` by another name:
//! `go tool pprof http://…/debug/pprof/profile` asks with it. Who hangs up ends the sampling.
//!
//! A stack is walked in the signal's handler. Where that could meet a lock or a half-made frame, in
//! the C library, the loader and the unwinder itself, no sample is taken: so time spent in there is
//! missing.

use std::{
    io::{self, Write as _},
    ops::RangeInclusive,
    time::Duration,
};

use axum::{
    extract::RawQuery,
    http::{
        StatusCode,
        header::{CONTENT_DISPOSITION, CONTENT_TYPE},
    },
    response::{IntoResponse, Response},
};
use flate2::{Compression, write::GzEncoder};
use pprof::{ProfilerGuard, ProfilerGuardBuilder, protos::Message as _};
use thiserror::Error;
use tokio::{
    sync::Mutex,
    task::{JoinError, spawn_blocking},
};
use tracing::info;

const FREQUENCIES: RangeInclusive<i32> = 1..=10_000;
const SECONDS: RangeInclusive<i32> = 1..=600;

/// Samples whose innermost frame is in one of these are not taken.
const NOT_SAMPLED: [&str; 5] = ["libc.", "libgcc", "pthread", "vdso", "ld-linux"];

/// The profiler is the process's: there is one timer, and one handler.
static PROFILER: Mutex<()> = Mutex::const_new(());

/// Why there is no profile.
#[derive(Debug, Error)]
pub(super) enum ProfileError {
    #[error("{name} is {value:?}; it must be a whole number from {} to {}", allowed.start(), allowed.end())]
    Parameter { name: &'static str, value: String, allowed: RangeInclusive<i32> },
    #[error("duration and seconds are the same; give one of them")]
    Twice,
    #[error("another profile is being taken; try again when it has ended")]
    Busy,
    #[error("cannot take a profile: {0}; the profiler needs a temporary directory ({dir}) that it can write to", dir = std::env::temp_dir().display())]
    Profiler(pprof::Error),
    #[error("cannot write the profile: {0}")]
    Encoding(io::Error),
    #[error("the profiler failed: {0}")]
    Panicked(#[from] JoinError),
}

impl From<pprof::Error> for ProfileError {
    fn from(error: pprof::Error) -> Self {
        match error {
            pprof::Error::Running => Self::Busy,
            other => Self::Profiler(other),
        }
    }
}

impl IntoResponse for ProfileError {
    fn into_response(self) -> Response {
        let status = match self {
            Self::Parameter { .. } | Self::Twice => StatusCode::BAD_REQUEST,
            Self::Busy => StatusCode::CONFLICT,
            Self::Profiler(_) | Self::Encoding(_) | Self::Panicked(_) => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        };
        (status, format!("{self}\n")).into_response()
    }
}

/// Takes one, in as long as the caller asks for.
pub(super) async fn profile(RawQuery(query): RawQuery) -> Result<impl IntoResponse, ProfileError> {
    let wanted = Wanted::read(query.as_deref().unwrap_or_default())?;
    let _only_one = PROFILER.try_lock().map_err(|_| ProfileError::Busy)?;
    info!(frequency = wanted.frequency, duration = ?wanted.duration, "taking a CPU profile");
    // Both ends look for the names of functions, which takes its time.
    let sampling = spawn_blocking(move || wanted.start()).await??;
    tokio::time::sleep(wanted.duration).await;
    let profile = spawn_blocking(move || finish(sampling)).await??;
    let name = "attachment; filename=\"profile.pb.gz\"";
    Ok(([(CONTENT_TYPE, "application/octet-stream"), (CONTENT_DISPOSITION, name)], profile))
}

/// What the caller asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Wanted {
    /// Samples a second of CPU time.
    frequency: i32,
    duration: Duration,
}

impl Wanted {
    fn read(query: &str) -> Result<Self, ProfileError> {
        let number = |name: &'static str, allowed: RangeInclusive<i32>| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            let Some((_, value)) = pairs.find(|(key, _)| *key == name) else {
                return Ok(None);
            };
            match value.parse::<i32>() {
                Ok(number) if allowed.contains(&number) => Ok(Some(number)),
                _ => Err(ProfileError::Parameter { name, value: value.to_owned(), allowed }),
            }
        };
        let frequency = number("frequency", FREQUENCIES)?.unwrap_or(3000);
        let seconds = match (number("duration", SECONDS)?, number("seconds", SECONDS)?) {
            (Some(_), Some(_)) => return Err(ProfileError::Twice),
            (duration, seconds) => duration.or(seconds).unwrap_or(30),
        };
        Ok(Self { frequency, duration: Duration::from_secs(seconds.unsigned_abs().into()) })
    }

    fn start(self) -> Result<ProfilerGuard<'static>, ProfileError> {
        let builder = ProfilerGuardBuilder::default().frequency(self.frequency);
        Ok(builder.blocklist(&NOT_SAMPLED).build()?)
    }
}

fn finish(sampling: ProfilerGuard<'static>) -> Result<Vec<u8>, ProfileError> {
    let report = sampling.report().build()?;
    drop(sampling);
    let bytes = report.pprof()?.write_to_bytes().map_err(io::Error::other);
    let compressed = bytes.and_then(|bytes| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(&bytes)?;
        encoder.finish()
    });
    give_memory_back();
    compressed.map_err(ProfileError::Encoding)
}

/// The profiler's table of stacks is large, and in pieces that the allocator would keep.
fn give_memory_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes an integer, and touches nothing but memory that nobody has.
    unsafe {
        libc::malloc_trim(0);
    }
}
