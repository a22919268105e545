//! A handle on one process that stays its own when the pid is given to another: signals sent
//! through it reach that process or nobody.
//!
//! ```text
//!  parent:    running ─▶ exited (POLLIN; peek, then reap)
//!  stranger:  running ─▶ exited (POLLIN) ─▶ reaped by its parent (POLLHUP; exit_info)
//! ```

use std::{
    io,
    mem::{self, MaybeUninit},
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
    ptr,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::procfs;
use crate::{
    machine::{Exit, Process},
    supervisor::Status,
};

/// See the module's words.
#[derive(Debug)]
pub(super) struct Pidfd(OwnedFd);

impl Pidfd {
    /// Takes a descriptor that the kernel handed out as a pidfd.
    pub(super) fn from_owned(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// Opens the process of this pid and start time, dead or alive; `None` if there is none any
    /// more, even if its pid is another's now.
    pub(super) fn open(process: Process) -> io::Result<Option<Self>> {
        // SAFETY: pidfd_open takes two integers and touches no memory of ours.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, process.pid, 0) };
        let pidfd = match i32::try_from(fd) {
            // SAFETY: the kernel just made this descriptor for us; nobody else knows it.
            Ok(fd) if fd >= 0 => Self(unsafe { OwnedFd::from_raw_fd(fd) }),
            _ => {
                let error = io::Error::last_os_error();
                // EINVAL: the pid is a thread's, or was never possible.
                let gone = matches!(error.raw_os_error(), Some(libc::ESRCH | libc::EINVAL));
                return if gone { Ok(None) } else { Err(error) };
            }
        };
        // Whoever is unreaped after the start time was read had the pid while it was read.
        Ok((procfs::is_same(process) && pidfd.is_unreaped()).then_some(pidfd))
    }

    /// Sends a signal. `Ok(false)`: the process has been reaped.
    pub(super) fn signal(&self, signal: i32) -> io::Result<bool> {
        self.send(signal, 0)
    }

    /// Sends a signal to every process of the group that this process leads.
    /// `Ok(false)`: there is none. Fails with `EINVAL` before Linux 6.9.
    pub(super) fn signal_group(&self, signal: i32) -> io::Result<bool> {
        self.send(signal, libc::PIDFD_SIGNAL_PROCESS_GROUP)
    }

    fn send(&self, signal: i32, flags: u32) -> io::Result<bool> {
        // SAFETY: a null siginfo makes the kernel fill one in as for kill(2); the rest is integers.
        let result = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.0.as_raw_fd(),
                signal,
                ptr::null::<libc::siginfo_t>(),
                flags,
            )
        };
        if result == 0 {
            return Ok(true);
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() == Some(libc::ESRCH) { Ok(false) } else { Err(error) }
    }

    /// Whether the process still holds its pid, alive or as a zombie.
    pub(super) fn is_unreaped(&self) -> bool {
        // Whoever may not be signalled is there.
        !matches!(self.signal(0), Ok(false))
    }

    /// How this child of ours ended; it stays a zombie and keeps its pid. `None`: it has not.
    /// Fails with `ECHILD` if it is no child of ours, or was reaped.
    pub(super) fn peek(&self) -> io::Result<Option<Exit>> {
        self.wait(libc::WNOHANG | libc::WNOWAIT)
    }

    /// As [`peek`](Self::peek), and lets go of it.
    pub(super) fn reap(&self) -> io::Result<Option<Exit>> {
        self.wait(libc::WNOHANG)
    }

    /// What is known of its end.
    pub(super) fn status(&self) -> Status {
        match self.peek() {
            Ok(Some(exit)) => Status::Ended(exit),
            Ok(None) if self.is_ready() => Status::Unwaitable,
            Ok(None) => Status::Alive,
            // No child of this process; or it was, and something else has reaped it.
            Err(_) => match self.exit_info() {
                Some(exit) => Status::Reaped(Some(exit)),
                None if !self.is_unreaped() => Status::Reaped(None),
                None if self.is_ready() => Status::Unwaitable,
                None => Status::Alive,
            },
        }
    }

    /// Whether the process has ended, reaped or not.
    fn is_ready(&self) -> bool {
        let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }

    /// Ends this child of ours for good, and waits for that.
    pub(super) fn kill_and_reap(&self) {
        let _ = self.signal(libc::SIGKILL);
        let _ = self.wait(0);
    }

    fn wait(&self, options: i32) -> io::Result<Option<Exit>> {
        let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
        // SAFETY: `info` is a siginfo_t for the kernel to write, and lives through the call.
        let result = unsafe {
            libc::waitid(
                libc::P_PIDFD,
                self.0.as_raw_fd().unsigned_abs(),
                info.as_mut_ptr(),
                libc::WEXITED | options,
            )
        };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: all zeroes is a valid siginfo_t, and the kernel wrote over it or left it alone;
        // after waitid its pid and status are what the union holds.
        let (pid, code, status) = unsafe {
            (
                info.assume_init_ref().si_pid(),
                info.assume_init_ref().si_code,
                info.assume_init_ref().si_status(),
            )
        };
        Ok(match (pid, code) {
            (0, _) => None,
            (_, libc::CLD_EXITED) => Some(Exit::Code(status)),
            (_, libc::CLD_KILLED | libc::CLD_DUMPED) => Some(Exit::Signal(status)),
            _ => Some(Exit::Unknown),
        })
    }

    /// How a process that need not be our child ended, once it has been reaped. `None`: it has not
    /// been, or the kernel is older than 6.15 and cannot tell.
    pub(super) fn exit_info(&self) -> Option<Exit> {
        // SAFETY: pidfd_info is made of integers only, for which all zeroes is a value.
        let mut info: libc::pidfd_info = unsafe { mem::zeroed() };
        info.mask = u64::from(libc::PIDFD_INFO_EXIT);
        // SAFETY: PIDFD_GET_INFO reads and writes a pidfd_info, which `info` is, of the size that
        // is encoded in the request.
        let result =
            unsafe { libc::ioctl(self.0.as_raw_fd(), libc::PIDFD_GET_INFO, &raw mut info) };
        let told = result == 0 && info.mask & u64::from(libc::PIDFD_INFO_EXIT) != 0;
        told.then(|| from_wait_status(info.exit_code))
    }
}

impl AsFd for Pidfd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The pid of a child that has ended and is not reaped, if there is one.
pub(super) fn first_dead_child() -> Option<u32> {
    // SAFETY: all zeroes is a valid siginfo_t, which is what waitid wants to write to; after it
    // the pid is what the union holds, zero if no child is dead.
    let pid = unsafe {
        let mut info = mem::zeroed::<libc::siginfo_t>();
        let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        if libc::waitid(libc::P_ALL, 0, &raw mut info, flags) == 0 { info.si_pid() } else { 0 }
    };
    u32::try_from(pid).ok().filter(|&pid| pid != 0)
}

fn from_wait_status(status: i32) -> Exit {
    if libc::WIFEXITED(status) {
        Exit::Code(libc::WEXITSTATUS(status))
    } else if libc::WIFSIGNALED(status) {
        Exit::Signal(libc::WTERMSIG(status))
    } else {
        Exit::Unknown
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::*;

    fn child(script: &str) -> (Child, Process) {
        let child = Command::new("/bin/sh").args(["-c", script]).spawn().unwrap();
        let process = procfs::stat(child.id()).unwrap().unwrap().process;
        (child, process)
    }

    fn wait_for_end(pidfd: &Pidfd) {
        let timeout = PollTimeout::try_from(20_000).unwrap();
        let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut fds, timeout).unwrap(), 1, "the process did not end");
    }

    #[test]
    fn the_pid_of_a_stranger_is_recognised() {
        let (mut child, process) = child("exec sleep 60");
        let reused = Process { start_time: process.start_time + 1, ..process };
        assert!(Pidfd::open(reused).unwrap().is_none());

        let pidfd = Pidfd::open(process).unwrap().unwrap();
        assert!(pidfd.signal(libc::SIGKILL).unwrap());
        child.wait().unwrap();
        assert!(!pidfd.signal(libc::SIGKILL).unwrap(), "nobody is reached after the reaping");
        assert!(Pidfd::open(process).unwrap().is_none());
    }

    #[test]
    fn a_status_can_be_peeked_at_until_it_is_reaped() {
        let (_child, process) = child("exit 7");
        let pidfd = Pidfd::open(process).unwrap().unwrap();
        wait_for_end(&pidfd);
        assert_eq!(pidfd.peek().unwrap(), Some(Exit::Code(7)));
        assert!(pidfd.is_unreaped());
        assert_eq!(pidfd.reap().unwrap(), Some(Exit::Code(7)));
        assert!(!pidfd.is_unreaped());
        assert_eq!(pidfd.peek().unwrap_err().raw_os_error(), Some(libc::ECHILD));
    }

    #[test]
    fn a_death_by_signal_is_no_exit_code() {
        // A real-time signal as well: it has no name, only a number.
        for signal in [libc::SIGTERM, libc::SIGRTMIN() + 3] {
            let (_child, process) = child("exec sleep 60");
            let pidfd = Pidfd::open(process).unwrap().unwrap();
            assert_eq!(pidfd.peek().unwrap(), None, "still alive");
            pidfd.signal(signal).unwrap();
            wait_for_end(&pidfd);
            assert_eq!(pidfd.reap().unwrap(), Some(Exit::Signal(signal)));
        }
    }

    #[test]
    fn exit_info_is_the_truth_or_nothing() {
        let (mut child, process) = child("exit 3");
        let pidfd = Pidfd::open(process).unwrap().unwrap();
        wait_for_end(&pidfd);
        assert_eq!(pidfd.exit_info(), None, "nobody has reaped it yet");
        child.wait().unwrap();
        // Older kernels cannot tell.
        assert!(matches!(pidfd.exit_info(), Some(Exit::Code(3)) | None));
    }
}
