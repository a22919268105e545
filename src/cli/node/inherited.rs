//! What an agent takes from whoever starts it, and what it does not: signals that it would not get.

use std::{mem::MaybeUninit, ptr};

use nix::sys::signal::{
    SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, pthread_sigmask, sigaction,
};

/// To be called while this process has one thread: those to come take after it.
///
/// A program that blocks SIGTERM in all that it starts would have an agent that cannot be told to end.
/// One that ignores SIGCHLD (`trap '' CHLD`, and many a supervisor) would have the kernel reap what this
/// process starts, before it can see how that ended.
pub(super) fn hear_all_signals() -> nix::Result<()> {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: no handler is installed, so none can do harm.
    unsafe { sigaction(Signal::SIGCHLD, &default) }?;
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)
}

/// Whether this signal is ignored by the wish of whoever started this process, as SIGHUP is under `nohup`.
pub(super) fn is_ignored(signal: Signal) -> bool {
    let mut current = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: no action is given, so none is changed, and the current one is written where there is room
    // for it. All zeroes are an action, too, should that fail.
    let current = unsafe {
        libc::sigaction(signal as libc::c_int, ptr::null(), current.as_mut_ptr());
        current.assume_init()
    };
    current.sa_sigaction == libc::SIG_IGN
}
