//! Makes a process that somebody started into one that belongs to nobody.
//!
//! ```text
//!  agent ── starts ──▶ shim: lock, listen, fork ──▶ exit 0: "it listens"
//!                                            └────▶ the shim proper: init's child
//! ```
//!
//! The agent reaps the first process at once, so the second is never its zombie; and by the exit
//! status of the first it knows whether it can connect.

use std::{
    env,
    ffi::CStr,
    fs::{self, File, Metadata},
    io::{self, Write as _},
    os::{
        fd::AsFd as _,
        unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _},
    },
    path::Path,
    process,
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    sys::{
        prctl,
        signal::{
            SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, pthread_sigmask, sigaction,
        },
        signalfd::{SfdFlags, SignalFd},
    },
    unistd::{ForkResult, dup2_stderr, dup2_stdin, dup2_stdout, fork, setsid},
};

use crate::runtime::set_aside::make_room;

/// The file that a shim locks, in its directory.
pub(super) const LOCK: &str = "shim.lock";

/// What a shim calls itself, for people and for other shims.
pub(super) const PROCESS_NAME: &CStr = c"arroyo-shim";

/// Kept while the shim lives. The file holds its pid as text.
pub(super) type Lock = Flock<File>;

/// Keeps other shims out of this directory. `None`: one is in.
pub(super) fn lock(state_dir: &Path) -> io::Result<Option<Lock>> {
    let path = state_dir.join(LOCK);
    // No shim has locked anything but a file. (And who opens a pipe waits for ever.)
    make_room(&path, Metadata::is_file)?;
    let mut options = File::options();
    let file = options.write(true).create(true).truncate(false).mode(0o600);
    match Flock::lock(file.open(path)?, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, error)) => Err(error.into()),
    }
}

/// Whether what is locked is still what another shim would lock.
pub(super) fn is_in_place(lock: &Lock, state_dir: &Path) -> bool {
    let identity = |file: Metadata| (file.dev(), file.ino());
    let found = fs::metadata(state_dir.join(LOCK)).map(identity);
    found.is_ok_and(|found| lock.metadata().map(identity).is_ok_and(|ours| ours == found))
}

/// Says in the locked file whose it is, for people and tools. It is no harm if that fails.
pub(super) fn sign(lock: &mut Lock) {
    let pid = format!("{}\n", process::id());
    let _ = lock.set_len(0).and_then(|()| lock.write_all(pid.as_bytes()));
}

/// Goes on in a child of init; the process that was started exits with 0.
pub(super) fn detach(log: &Path) -> io::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    // Somebody may have had it thrown away.
    make_room(log, |found| found.is_file() || found.file_type().is_char_device())?;
    let log = File::options().append(true).create(true).mode(0o640).open(log)?;
    // SAFETY: this process has one thread, so the child has all of it.
    if let ForkResult::Parent { .. } = unsafe { fork() }? {
        // Nothing of ours is undone: the lock and the socket are the child's.
        process::exit(0);
    }
    setsid()?;
    dup2_stdin(null.as_fd())?;
    dup2_stdout(log.as_fd())?;
    dup2_stderr(log.as_fd())?;
    // No directory is kept from being unmounted.
    env::set_current_dir("/")
}

/// What ends or stops a process that does nothing about it, and says nothing about a fault of its own. A
/// worker may send any of them to its parent: many a program does to say that it is ready.
const DEAF_TO: [Signal; 17] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGPIPE,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
    Signal::SIGVTALRM,
    Signal::SIGPROF,
    Signal::SIGIO,
    Signal::SIGPWR,
    Signal::SIGXFSZ,
    Signal::SIGXCPU,
    Signal::SIGTSTP,
    Signal::SIGTTIN,
    Signal::SIGTTOU,
];

/// Becomes the parent of its workers' orphans, and deaf to what ends others: the workers need it
/// for as long as they live. Returns where it hears of children that have ended.
pub(super) fn settle() -> io::Result<SignalFd> {
    prctl::set_child_subreaper(true)?;
    prctl::set_name(PROCESS_NAME)?;
    let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
    for signal in DEAF_TO {
        // SAFETY: no handler is installed, so none can do harm.
        unsafe { sigaction(signal, &ignore) }?;
    }
    let children = SigSet::from(Signal::SIGCHLD);
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&children), None)?;
    Ok(SignalFd::with_flags(&children, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?)
}
