//! Time as `/proc` tells when a process was started: in clock ticks since boot.

use std::io;

use nix::unistd::{SysconfVar, sysconf};

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// The clock by which the kernel dates processes. Whoever looks at it before and after a process was made
/// knows the start time of that process, if both times are the same; and nearly always they are, as a tick is
/// a hundredth of a second. `/proc` takes some 40 µs to say so.
#[derive(Clone, Copy, Debug)]
pub(super) struct TickClock {
    nanos_per_tick: u64,
}

impl TickClock {
    /// `None`: this kernel rounds in a way that is not ours.
    pub(super) fn new() -> Option<Self> {
        let per_second: u64 = sysconf(SysconfVar::CLK_TCK).ok()??.try_into().ok()?;
        let whole = per_second != 0 && NANOS_PER_SECOND.is_multiple_of(per_second);
        whole.then(|| Self { nanos_per_tick: NANOS_PER_SECOND / per_second })
    }

    /// Only system calls, and none that changes anything: a child that shares memory may ask, too.
    pub(super) fn now(self) -> io::Result<u64> {
        let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the kernel writes the time there.
        if unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut now) } < 0 {
            return Err(io::Error::last_os_error());
        }
        let nanos = now.tv_sec.cast_unsigned() * NANOS_PER_SECOND + now.tv_nsec.cast_unsigned();
        Ok(nanos / self.nanos_per_tick)
    }
}
