//! What a child does between `clone` and `execve`.
//!
//! ```text
//!  own descriptors ─ birth ─ setsid ─ stdio ─ cwd ─ limits ─ signals ─ execve │ or _exit
//! ```
//!
//! It shares all memory with its parent, whose thread stands still meanwhile: so it may do nothing but
//! make system calls, and write to what was prepared for it. Every step costs a StartWorker its
//! microseconds.

use std::{
    ffi::{c_char, c_int, c_void},
    io,
    ops::RangeInclusive,
    ptr,
    sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering::Relaxed},
};

use super::ticks::TickClock;

/// The line of `/proc/PID/stat` has about 50 numbers and a name of at most 64 bytes.
pub(super) const NOTE_BYTES: usize = 2048;

/// What the child is to do, and where it says that it could not. Further resource limits, user and group,
/// `no_new_privs` or joining a cgroup (by a descriptor of its `cgroup.procs`) belong here, each as
/// plain data and one more step of [`Order::run`].
pub(super) struct Order {
    pub(super) candidates: *const *const c_char,
    pub(super) argv: *const *const c_char,
    pub(super) envp: *const *const c_char,
    pub(super) cwd: *const c_char,
    pub(super) stdio: [c_int; 3],
    /// The first descriptor that it does not need; `None`: the kernel cannot leave any out.
    pub(super) needless_from: Option<c_int>,
    pub(super) birth: Birth,
    pub(super) descriptors: Option<libc::rlimit>,
    /// The signals that are to have their default dispositions.
    pub(super) signals: *const [c_int],
    pub(super) failure: Failure,
}

/// When the child was started: the time just before, if that was the same tick, or else what `/proc` shows.
pub(super) struct Birth {
    /// The clock and what it showed then; `None`: it is not to be trusted.
    pub(super) clock: Option<(TickClock, u64)>,
    /// Whether it shows that still.
    pub(super) same_tick: AtomicBool,
    /// Room for [`NOTE_BYTES`] of `/proc/self/stat`.
    pub(super) note: *mut u8,
    pub(super) note_bytes: AtomicUsize,
}

/// Where a child says that it could not go on.
#[derive(Default)]
pub(super) struct Failure {
    /// A [`Step`]; 0: it did not fail.
    at: AtomicI32,
    errno: AtomicI32,
}

/// The steps that can fail.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub(super) enum Step {
    Descriptors = 1,
    Stdio = 2,
    Cwd = 3,
    Exec = 4,
}

impl Failure {
    pub(super) fn get(&self) -> Option<(Step, io::Error)> {
        let step = self.at.load(Relaxed);
        let steps = [Step::Descriptors, Step::Stdio, Step::Cwd, Step::Exec];
        let step = steps.into_iter().find(|&s| s as i32 == step)?;
        Some((step, io::Error::from_raw_os_error(self.errno.load(Relaxed))))
    }
}

impl Order {
    /// Runs in the child. Returns only if the program could not be run.
    ///
    /// # Safety
    /// All pointers must be valid, the lists ended by a null pointer.
    unsafe fn run(&self) -> Step {
        // SAFETY: system calls on integers and on memory that the caller vouches for.
        unsafe {
            if let Some(first) = self.needless_from
                && close_range(first, libc::CLOSE_RANGE_UNSHARE) < 0
            {
                // The table is still the parent's.
                return Step::Descriptors;
            }
            self.birth.note();
            // Fails only for a group leader, which a child just made is not.
            libc::setsid();
            for (to, &from) in (0..).zip(&self.stdio) {
                // `from` is above 2, so no step overwrites a later one's source.
                if libc::dup2(from, to) < 0 {
                    return Step::Stdio;
                }
            }
            if !self.cwd.is_null() && libc::chdir(self.cwd) < 0 {
                return Step::Cwd;
            }
            close_on_exec_above_stdio();
            if let Some(limit) = &self.descriptors {
                // Only ever lowers it, which cannot fail.
                libc::setrlimit(libc::RLIMIT_NOFILE, limit);
            }
            default_signals(&*self.signals);
            self.exec();
        }
        Step::Exec
    }

    /// As `execvp`: the first candidate that is there and may be run. Leaves in `errno` what
    /// stopped the search, and EACCES if one was there but could not be run.
    ///
    /// # Safety
    /// As of [`Order::run`].
    unsafe fn exec(&self) {
        let mut denied = false;
        let mut candidate = self.candidates;
        // SAFETY: the list is ended by a null pointer, and each element is a C string.
        unsafe {
            while !(*candidate).is_null() {
                libc::execve(*candidate, self.argv, self.envp);
                match *libc::__errno_location() {
                    libc::EACCES => denied = true,
                    libc::ENOENT | libc::ENOTDIR => {}
                    _ => return,
                }
                candidate = candidate.add(1);
            }
            if denied {
                *libc::__errno_location() = libc::EACCES;
            }
        }
    }
}

impl Birth {
    /// Notes it. It stays what it is.
    ///
    /// # Safety
    /// As of [`Order::run`].
    unsafe fn note(&self) {
        if let Some((clock, before)) = self.clock
            && clock.now().is_ok_and(|now| now == before)
        {
            return self.same_tick.store(true, Relaxed);
        }
        // SAFETY: a C string, integers, and memory that the caller vouches for.
        unsafe {
            let stat = libc::open(c"/proc/self/stat".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
            if stat < 0 {
                return;
            }
            let length = libc::read(stat, self.note.cast(), NOTE_BYTES);
            libc::close(stat);
            self.note_bytes.store(length.try_into().unwrap_or(0), Relaxed);
        }
    }
}

/// The function to clone a child with. The argument is an [`Order`] that outlives the child's use of its
/// memory.
pub(super) extern "C" fn child(order: *mut c_void) -> c_int {
    // SAFETY: as the documentation demands.
    unsafe {
        let order = &*order.cast::<Order>();
        let step = order.run();
        order.failure.errno.store(*libc::__errno_location(), Relaxed);
        order.failure.at.store(step as i32, Relaxed);
        libc::_exit(127)
    }
}

/// Default dispositions (Rust programs ignore SIGPIPE, and what is ignored stays so across
/// `execve`) and an empty mask. In this order: no handler of the parent may run in between.
///
/// # Safety
/// Only in the child: dispositions are the whole process's.
unsafe fn default_signals(signals: &[c_int]) {
    // SAFETY: integers, and a zeroed buffer at least as large as the kernel's struct sigaction,
    // which so says SIG_DFL. The C library's own call would leave out the signals that it keeps
    // for itself, though they too may have been ignored by whoever started this process.
    unsafe {
        let default = [0_u64; 8];
        for &signal in signals {
            // Fails for SIGKILL and SIGSTOP, which need no reset.
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                ptr::null::<c_void>(),
                SIGNAL_SET_BYTES,
            );
        }
        let none: libc::sigset_t = std::mem::zeroed();
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
    }
}

/// An embedding program may have opened files without O_CLOEXEC.
///
/// # Safety
/// Only in the child, which has its own table of descriptors.
unsafe fn close_on_exec_above_stdio() {
    const FIRST: c_int = 3;
    // SAFETY: integers only.
    unsafe {
        if close_range(FIRST, libc::CLOSE_RANGE_CLOEXEC) < 0 {
            // Before Linux 5.11. Most have few descriptors, but the limit may be a billion.
            for fd in 3..65_536 {
                libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC);
            }
        }
    }
}

/// All signals there are.
const ALL_SIGNALS: RangeInclusive<c_int> = 1..=64;
const SIGNAL_SET_BYTES: usize = 8;

/// The signals that a child may have to set to their defaults.
pub(super) fn all_signals() -> Vec<c_int> {
    ALL_SIGNALS.collect()
}

/// Those of them that have another disposition in this process now.
pub(super) fn signals_not_default() -> Vec<c_int> {
    let not_default = |&signal: &c_int| {
        let mut action = [0_u64; 8];
        // SAFETY: a buffer at least as large as the kernel's struct sigaction, which begins with the
        // handler.
        let got = unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                ptr::null::<c_void>(),
                action.as_mut_ptr(),
                SIGNAL_SET_BYTES,
            )
        };
        got < 0 || action[0] != 0
    };
    ALL_SIGNALS.filter(not_default).collect()
}

/// All descriptors from this one on.
fn close_range(first: c_int, flags: u32) -> i64 {
    // SAFETY: integers only. Whoever asks for more than flags to be set has no use for them.
    unsafe { libc::syscall(libc::SYS_close_range, first, c_int::MAX, flags) }
}

/// Not before Linux 5.9.
pub(super) fn has_close_range() -> bool {
    // There is no such descriptor.
    close_range(c_int::MAX, 0) == 0
}
