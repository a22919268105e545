//! What a forked child does before it runs a worker's program. It may be a copy of a process with
//! many threads: so it makes system calls, and nothing else. Whatever may hang (a disk, a loader)
//! hangs here, and holds nothing of its parent.
//!
//! ```text
//!  its own name ─ session ─ close all but the status pipe ─ signals ─ output ─ directory ─ execve
//!                                                                  └ a step fails ─▶ status pipe
//! ```

use std::{
    ffi::{CStr, c_char, c_int, c_void},
    io,
    ops::RangeInclusive,
    ptr,
};

/// What the child is to do. All pointers are to C strings or lists ended by a null pointer; null
/// itself where something is left out. Further resource limits, user and group, or `no_new_privs`
/// belong here, each as plain data and one more step of [`Plan::run`].
pub(super) struct Plan {
    /// What it calls itself until the program runs.
    pub(super) name: *const c_char,
    pub(super) candidates: *const *const c_char,
    pub(super) argv: *const *const c_char,
    pub(super) envp: *const *const c_char,
    pub(super) cwd: *const c_char,
    /// The directory of its output, and the files for stdout and stderr.
    pub(super) output: [*const c_char; 3],
    pub(super) descriptors: Option<libc::rlimit>,
    /// The signals that are to have their default dispositions.
    pub(super) signals: *const [c_int],
    /// Where it says that it could not go on.
    pub(super) status: c_int,
}

/// The steps that can fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i32)]
pub(super) enum Step {
    Descriptors = 1,
    Stdout = 2,
    Stderr = 3,
    Cwd = 4,
    Exec = 5,
    Interpreter = 6,
}

/// What a child writes to its status pipe: the step, and the errno.
pub(super) const FAILURE_BYTES: usize = 8;

/// Reads what a child wrote; `None`: nothing that one writes.
pub(super) fn read_failure(bytes: &[u8]) -> Option<(Step, io::Error)> {
    let bytes: [u8; FAILURE_BYTES] = bytes.try_into().ok()?;
    let [a, b, c, d, e, f, g, h] = bytes;
    let steps =
        [Step::Descriptors, Step::Stdout, Step::Stderr, Step::Cwd, Step::Exec, Step::Interpreter];
    let step = i32::from_ne_bytes([a, b, c, d]);
    let step = steps.into_iter().find(|&known| known as i32 == step)?;
    Some((step, io::Error::from_raw_os_error(i32::from_ne_bytes([e, f, g, h]))))
}

impl Plan {
    /// Runs in the child, and never returns.
    ///
    /// # Safety
    /// Only in a process that was just forked, with all signals blocked. All pointers must be
    /// valid.
    pub(super) unsafe fn run(mut self) -> ! {
        // SAFETY: system calls on integers and on memory that the caller vouches for.
        unsafe {
            let step = self.prepare_and_exec();
            let errno = *libc::__errno_location();
            let failure = [(step as i32).to_ne_bytes(), errno.to_ne_bytes()];
            libc::write(self.status, failure.as_ptr().cast(), FAILURE_BYTES);
            libc::_exit(127)
        }
    }

    /// Returns only if the program could not be run.
    ///
    /// # Safety
    /// As of [`Plan::run`].
    unsafe fn prepare_and_exec(&mut self) -> Step {
        // SAFETY: as of `run`.
        unsafe {
            libc::prctl(libc::PR_SET_NAME, self.name);
            // Fails only for a group leader, which a child just made is not.
            libc::setsid();
            if let Err(step) = self.close_all_but_status() {
                return step;
            }
            default_signals(&*self.signals);
            if let Err(step) = self.open_output() {
                return step;
            }
            if !self.cwd.is_null() && libc::chdir(self.cwd) < 0 {
                return Step::Cwd;
            }
            if let Some(limit) = &self.descriptors {
                // Only ever lowers it, which cannot fail.
                libc::setrlimit(libc::RLIMIT_NOFILE, limit);
            }
            unblock_signals();
            self.exec()
        }
    }

    /// A lock, a socket or a pipe of the parent must not be kept by a child that hangs.
    ///
    /// # Safety
    /// As of [`Plan::run`].
    unsafe fn close_all_but_status(&mut self) -> Result<(), Step> {
        /// Below it are the standard streams.
        const LOWEST: c_int = 3;
        // SAFETY: integers only. The table of descriptors is this child's own.
        unsafe {
            if self.status < LOWEST {
                self.status = libc::fcntl(self.status, libc::F_DUPFD_CLOEXEC, LOWEST);
                if self.status < 0 {
                    return Err(Step::Descriptors);
                }
            }
            if self.status > LOWEST {
                close_range(LOWEST, self.status - 1);
            }
            close_range(self.status + 1, c_int::MAX);
        }
        Ok(())
    }

    /// # Safety
    /// As of [`Plan::run`].
    unsafe fn open_output(&self) -> Result<(), Step> {
        let [dir, stdout, stderr] = self.output;
        // SAFETY: C strings that the caller of `run` vouches for, and integers.
        unsafe {
            let null = libc::open(c"/dev/null".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC);
            if null < 0 || libc::dup2(null, 0) < 0 {
                return Err(Step::Descriptors);
            }
            for (path, to, step) in [(stdout, 1, Step::Stdout), (stderr, 2, Step::Stderr)] {
                let file = if path.is_null() { null } else { open_for_append(path, dir) };
                if file < 0 || libc::dup2(file, to) < 0 {
                    return Err(step);
                }
            }
        }
        Ok(())
    }

    /// As `execvp`: the first candidate that is there and may be run. Leaves in `errno` what
    /// stopped the search, and EACCES if one was there but could not be run. A file that is there
    /// and not found lacks its interpreter.
    ///
    /// # Safety
    /// As of [`Plan::run`].
    unsafe fn exec(&self) -> Step {
        let (mut denied, mut step) = (false, Step::Exec);
        let mut candidate = self.candidates;
        // SAFETY: the list is ended by a null pointer, and each element is a C string.
        unsafe {
            while !(*candidate).is_null() {
                libc::execve(*candidate, self.argv, self.envp);
                match *libc::__errno_location() {
                    libc::EACCES => denied = true,
                    libc::ENOENT if libc::access(*candidate, libc::F_OK) == 0 => {
                        step = Step::Interpreter;
                        *libc::__errno_location() = libc::ENOENT;
                    }
                    libc::ENOENT => *libc::__errno_location() = libc::ENOENT,
                    libc::ENOTDIR => {}
                    _ => return Step::Exec,
                }
                candidate = candidate.add(1);
            }
            if denied {
                *libc::__errno_location() = libc::EACCES;
                step = Step::Exec;
            }
        }
        step
    }
}

/// The file, made (mode 0640) if it is missing, and its directory (0750), but not the parent of that.
///
/// # Safety
/// Both must be C strings.
unsafe fn open_for_append(path: *const c_char, dir: *const c_char) -> c_int {
    let flags = libc::O_WRONLY | libc::O_APPEND | libc::O_CREAT | libc::O_CLOEXEC | libc::O_NOCTTY;
    // SAFETY: C strings that the caller vouches for, and integers.
    unsafe {
        let file = libc::open(path, flags, 0o640);
        if file < 0 && *libc::__errno_location() == libc::ENOENT && libc::mkdir(dir, 0o750) == 0 {
            return libc::open(path, flags, 0o640);
        }
        file
    }
}

/// Default dispositions: Rust programs ignore SIGPIPE, and what is ignored stays so across
/// `execve`. While signals are blocked: no handler of the parent may run in between.
///
/// # Safety
/// Only in the child: dispositions are the whole process's.
unsafe fn default_signals(signals: &[c_int]) {
    // SAFETY: integers, and a zeroed buffer at least as large as the kernel's struct sigaction,
    // which so says SIG_DFL. The C library's own call would leave out the signals that it keeps
    // for itself, though they too may be ignored in this process.
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
    }
}

/// # Safety
/// Only in the child.
unsafe fn unblock_signals() {
    // SAFETY: all zeroes is the empty set.
    unsafe {
        let none: libc::sigset_t = std::mem::zeroed();
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
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
        // SAFETY: a buffer at least as large as the kernel's struct sigaction, which begins with
        // the handler.
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

/// All descriptors from the first to the last.
fn close_range(first: c_int, last: c_int) {
    // SAFETY: integers only; the caller has no use for these descriptors.
    unsafe {
        if libc::syscall(libc::SYS_close_range, first, last, 0) < 0 {
            // Before Linux 5.9. Most have few descriptors, but the limit may be a billion.
            for fd in first..=last.min(65_536) {
                libc::close(fd);
            }
        }
    }
}

/// What a child calls itself before it runs its program: the kernel keeps 15 bytes.
pub(super) fn name_of(worker: u64) -> [u8; 16] {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut name = [0; 16];
    name[..NAME_PREFIX.len()].copy_from_slice(NAME_PREFIX);
    let mut rest = worker;
    for place in name[NAME_PREFIX.len()..15].iter_mut().rev() {
        *place = DIGITS[(rest % 36) as usize];
        rest /= 36;
    }
    name
}

/// The worker after which a child is named; `None`: it is named otherwise.
pub(super) fn worker_named(name: &[u8]) -> Option<u64> {
    let digits = name.strip_prefix(NAME_PREFIX).filter(|digits| digits.len() == 13)?;
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 36).ok()
}

/// Thirteen digits to the base 36 hold any 64-bit number.
const NAME_PREFIX: &[u8] = b"w-";

/// A null pointer for `None`.
pub(super) fn pointer(string: Option<&CStr>) -> *const c_char {
    string.map_or(ptr::null(), CStr::as_ptr)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_its_worker() {
        for worker in [0, 1, 35, 36, u64::MAX] {
            let name = name_of(worker);
            assert_eq!(name[15], 0, "it is a C string");
            assert_eq!(worker_named(&name[..15]), Some(worker));
        }
        for other in
            [&b"sleep"[..], b"w-", b"w-000000000000", b"w-zzzzzzzzzzzzz", b"w-00000000000-0"]
        {
            assert_eq!(worker_named(other), None);
        }
    }

    #[test]
    fn a_failure_is_read_as_it_was_written() {
        let mut bytes = (Step::Cwd as i32).to_ne_bytes().to_vec();
        bytes.extend(libc::ENOTDIR.to_ne_bytes());
        let (step, error) = read_failure(&bytes).unwrap();
        assert_eq!((step, error.raw_os_error()), (Step::Cwd, Some(libc::ENOTDIR)));
        assert!(read_failure(&bytes[..7]).is_none());
        assert!(read_failure(&[9, 0, 0, 0, 0, 0, 0, 0]).is_none());
    }
}
