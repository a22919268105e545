//! The entropy and the clocks of the process, in the simulation's hands.
//!
//! What the code under simulation asks for it gets through its ports; what libraries ask for behind
//! its back (the order of hash maps, tokio's choice between ready branches, hyper's `date:` header,
//! `Instant`s of h2) comes from the C library. These two functions stand in for the C library's in
//! every program that links this crate: until a run [begins](begin) they hand through to the kernel,
//! from then on they answer from the seed and from simulated time. That is why a process runs one
//! seed, and why no build flag (`tokio_unstable`) is needed.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use rand_chacha::{ChaCha8Rng, rand_core::Rng as _};

use crate::streams::{Stream, stream};

static ACTIVE: AtomicBool = AtomicBool::new(false);
/// Nanoseconds since the start of the simulation.
static NOW: AtomicU64 = AtomicU64::new(0);
static ENTROPY: Mutex<Option<ChaCha8Rng>> = Mutex::new(None);

/// What the monotonic clock shows when a simulation starts, in seconds.
const MONOTONIC: i64 = 1_000;
/// What the wall clock shows then.
const REALTIME: i64 = 1_700_000_000;

/// From now on, for the rest of this process's life, entropy comes from this seed and time is what
/// [`set_now`] was last told.
pub fn begin(seed: u64) {
    *ENTROPY.lock().unwrap_or_else(PoisonError::into_inner) = Some(stream(seed, Stream::Entropy));
    ACTIVE.store(true, Ordering::SeqCst);
}

/// The simulation has come to this time.
pub fn set_now(now: Duration) {
    NOW.store(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
}

/// The C library's `getrandom`.
///
/// # Safety
/// As the C library's: `buffer` points to `length` bytes that may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(
    buffer: *mut libc::c_void,
    length: libc::size_t,
    flags: libc::c_uint,
) -> libc::ssize_t {
    if !ACTIVE.load(Ordering::SeqCst) {
        // SAFETY: the caller's arguments, handed to the system call that they are meant for.
        let got = unsafe { libc::syscall(libc::SYS_getrandom, buffer, length, flags) };
        return libc::ssize_t::try_from(got).unwrap_or(-1);
    }
    // SAFETY: the caller vouches for `length` writable bytes at `buffer`; bytes have no alignment
    // and no invalid values, and nobody else uses them during the call.
    let bytes = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), length) };
    if let Some(rng) = &mut *ENTROPY.lock().unwrap_or_else(PoisonError::into_inner) {
        rng.fill_bytes(bytes);
    }
    libc::ssize_t::try_from(length).unwrap_or(libc::ssize_t::MAX)
}

/// The C library's `clock_gettime`.
///
/// # Safety
/// As the C library's: `time` points to a `timespec` that may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(
    clock: libc::clockid_t,
    time: *mut libc::timespec,
) -> libc::c_int {
    let start = match clock {
        _ if !ACTIVE.load(Ordering::SeqCst) => None,
        libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE => Some(REALTIME),
        libc::CLOCK_MONOTONIC
        | libc::CLOCK_MONOTONIC_COARSE
        | libc::CLOCK_MONOTONIC_RAW
        | libc::CLOCK_BOOTTIME => Some(MONOTONIC),
        _ => None,
    };
    let Some(start) = start else {
        // SAFETY: the caller's arguments, handed to the system call that they are meant for.
        let result = unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) };
        return libc::c_int::try_from(result).unwrap_or(-1);
    };
    let now = Duration::from_nanos(NOW.load(Ordering::Relaxed));
    let seconds = start + i64::try_from(now.as_secs()).unwrap_or(0);
    let reading = libc::timespec { tv_sec: seconds, tv_nsec: i64::from(now.subsec_nanos()) };
    // SAFETY: the caller vouches for a writable `timespec` at `time`.
    unsafe { time.write(reading) };
    0
}
