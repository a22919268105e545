//! A short time slice for a thread that others wait for.
//!
//! A machine full of workers has no idle core. Whoever wakes up there runs when the worker at hand has
//! used up its slice of some milliseconds; unless it asked for a shorter one: then Linux's scheduler (EEVDF,
//! since 6.12) has it run at once. It gets no larger share of the core for that, only many small
//! pieces: right for a thread that does little each time.

use std::io;

/// In nanoseconds; the kernel allows no less.
const SHORT: u64 = 100_000;

/// Asks for a short slice for the calling thread, and tells whether the kernel took that. Threads and
/// processes that it starts get the usual one. Kernels that know no such wish ignore it.
///
/// Left alone is a thread that somebody has given another policy, or a negative nice value: what it
/// starts is to inherit that, and would not.
pub fn shorten() -> io::Result<bool> {
    let mut attributes = read()?;
    let usual = libc::SCHED_OTHER.cast_unsigned();
    if attributes.sched_policy != usual || attributes.sched_nice < 0 {
        return Ok(false);
    }
    attributes.sched_flags = libc::SCHED_FLAG_RESET_ON_FORK as u64;
    attributes.sched_runtime = SHORT;
    // SAFETY: 0 is the calling thread, and the struct says its own size.
    match unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(read()?.sched_runtime == SHORT),
    }
}

/// Of the calling thread.
fn read() -> io::Result<libc::sched_attr> {
    // SAFETY: integers only.
    let mut attributes: libc::sched_attr = unsafe { std::mem::zeroed() };
    // SAFETY: 0 is the calling thread, and the kernel writes no more than the size that it is told.
    let got = unsafe {
        let size = size_of::<libc::sched_attr>();
        libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size, 0)
    };
    if got == -1 { Err(io::Error::last_os_error()) } else { Ok(attributes) }
}

#[cfg(test)]
mod tests {
    use std::{fs, thread};

    use super::*;

    /// Not before Linux 6.12.
    fn kernel_knows_slices() -> bool {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        let mut numbers = release.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
        (numbers.next().unwrap(), numbers.next().unwrap()) >= (6, 12)
    }

    #[test]
    fn a_short_slice_is_the_threads_own_and_not_of_those_that_it_starts() {
        let outside = read().unwrap();
        let (taken, own, started) = thread::spawn(|| {
            let taken = shorten().unwrap();
            (taken, read().unwrap(), thread::spawn(|| read().unwrap()).join().unwrap())
        })
        .join()
        .unwrap();
        if outside.sched_policy != 0 || outside.sched_nice < 0 {
            println!("left out: the tests run with a policy or priority of their own");
            return assert!(!taken);
        }
        assert_eq!(taken, kernel_knows_slices());
        assert_eq!(own.sched_runtime == SHORT, taken);
        assert_eq!(started.sched_runtime, outside.sched_runtime);
    }

    #[test]
    fn a_thread_that_somebody_has_set_otherwise_is_left_alone() {
        let batch = thread::spawn(|| {
            let mut attributes = read().unwrap();
            attributes.sched_policy = libc::SCHED_BATCH.cast_unsigned();
            // SAFETY: as in `shorten`.
            unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
            (shorten().unwrap(), read().unwrap().sched_policy)
        });
        assert_eq!(batch.join().unwrap(), (false, libc::SCHED_BATCH.cast_unsigned()));
    }
}
