//! What an agent does not take from whoever starts it: signals that it would not get.

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
