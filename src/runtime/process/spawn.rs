//! Starts a process at a cost that does not grow with this process's memory.
//!
//! ```text
//!  parent: block signals ─ clone(VM|FILES|VFORK|PIDFD) ─ ─ suspended ─ ─ ─▶ read failure, unblock
//!  child:       └▶ own descriptors, start time, setsid, stdio, cwd, signals ─ execve │ or _exit
//! ```
//!
//! Parent and child share all memory until the child calls `execve` or `_exit`, and only the
//! thread that cloned is suspended: so the child may do nothing but make system calls and write
//! to what was prepared for it. They share the table of descriptors until the child takes a copy of
//! the few that it needs: a supervisor has a descriptor for each live worker, and none is copied only
//! to be closed.

use std::{
    ffi::{CStr, c_char, c_int, c_void},
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd as _, OwnedFd},
    path::Path,
    ptr,
    sync::{
        Arc,
        atomic::{AtomicI32, AtomicUsize, Ordering::Relaxed},
    },
};

use nix::sys::signal::{SigSet, SigmaskHow, pthread_sigmask};

use super::{
    command::Image,
    descriptors::limit_before,
    pidfd::Pidfd,
    procfs::{self, Stat},
};
use crate::machine::Process;

/// A process just started, not yet waited for.
pub(super) struct Spawned {
    pub(super) process: Process,
    pub(super) pidfd: Pidfd,
}

/// Starts processes, one at a time.
pub(super) struct Spawner {
    /// Of the child, until it has memory of its own. `u128`: the ABI wants it 16-aligned.
    stack: Box<[u128]>,
    /// Where the child tells how `/proc` sees it.
    note: Box<[u8; NOTE_BYTES]>,
    null: OwnedFd,
    /// Low descriptors for a child's output, `null` in between: what is above them is not copied.
    output: [OwnedFd; 2],
    /// The first descriptor that no child needs; `None`: the kernel cannot leave any out.
    needless_from: Option<c_int>,
}

/// The line of `/proc/PID/stat` has about 50 numbers and a name of at most 64 bytes.
const NOTE_BYTES: usize = 2048;

impl Spawner {
    pub(super) fn new() -> io::Result<Self> {
        const STACK_BYTES: usize = 64 * 1024;
        let null = above_stdio(File::open("/dev/null")?.as_fd())?;
        let output = [above_stdio(null.as_fd())?, above_stdio(null.as_fd())?];
        let highest = [&null, &output[0], &output[1]].map(AsRawFd::as_raw_fd).into_iter().max();
        Ok(Self {
            stack: vec![0; STACK_BYTES / size_of::<u128>()].into_boxed_slice(),
            note: Box::new([0; NOTE_BYTES]),
            null,
            output,
            needless_from: highest.map(|fd| fd + 1).filter(|_| has_close_range()),
        })
    }

    /// Runs a program in a session of its own, with its output going to these two. When this
    /// fails, no process is left.
    pub(super) fn spawn(
        &mut self,
        image: &Image,
        stdout: BorrowedFd<'_>,
        stderr: BorrowedFd<'_>,
    ) -> Result<Spawned, String> {
        let say = |error: io::Error| error.to_string();
        for (slot, stream) in self.output.iter().zip([stdout, stderr]) {
            replace(slot, stream).map_err(say)?;
        }
        let (candidates, argv, envp) =
            (pointers(&image.candidates), pointers(&image.argv), pointers(&image.envp));
        let order = Order {
            candidates: candidates.as_ptr(),
            argv: argv.as_ptr(),
            envp: envp.as_ptr(),
            cwd: image.cwd.as_ref().map_or(ptr::null(), |cwd| cwd.as_ptr()),
            stdio: [&self.null, &self.output[0], &self.output[1]].map(AsRawFd::as_raw_fd),
            needless_from: self.needless_from,
            note: self.note.as_mut_ptr(),
            note_bytes: AtomicUsize::new(0),
            descriptors: limit_before(),
            failed_at: AtomicI32::new(Step::None as i32),
            errno: AtomicI32::new(0),
        };
        let cloned = self.clone_child(&order);
        for slot in &self.output {
            // Lest a file is held open that its worker has closed. Cannot fail: both are open.
            let _ = replace(slot, self.null.as_fd());
        }
        let (pid, pidfd) = cloned.map_err(say)?;
        if let Some(failure) = order.failure() {
            // It has let go of our memory and is about to exit, if it has not yet.
            pidfd.kill_and_reap();
            return Err(describe(failure, image));
        }
        match self.identify(pid, &order) {
            // Even if it has ended already: it is ours to reap, and so keeps its pid.
            Ok(Some(stat)) if pidfd.is_unreaped() => Ok(Spawned { process: stat.process, pidfd }),
            unreadable => {
                // Without its start time it cannot be told from a later owner of the pid.
                pidfd.kill_and_reap();
                Err(match unreadable {
                    Err(error) => format!("cannot read /proc/{pid}/stat: {error}"),
                    Ok(_) => {
                        "the embedding program reaps its children itself: let it ignore neither \
                          SIGCHLD nor wait for processes that are not its own"
                            .to_owned()
                    }
                })
            }
        }
    }

    /// What the child has noted of itself; or else what is to be read of it now, which takes longer:
    /// a process that is just loading its program has others wait.
    fn identify(&self, pid: u32, order: &Order) -> io::Result<Option<Stat>> {
        let length = order.note_bytes.load(Relaxed);
        let noted = self.note.get(..length).and_then(procfs::parse_stat).flatten();
        match noted.filter(|stat| stat.process.pid == pid) {
            Some(stat) => Ok(Some(stat)),
            None => procfs::stat(pid),
        }
    }

    fn clone_child(&mut self, order: &Order) -> io::Result<(u32, Pidfd)> {
        let mut pidfd: c_int = -1;
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD;
        let shared = if order.needless_from.is_some() { libc::CLONE_FILES } else { 0 };
        let mut before = SigSet::empty();
        // A handler of this process must not run in the child: it would write to our memory.
        pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), Some(&mut before))?;
        // SAFETY: the stack is ours alone, as `self` is borrowed mutably, 16-aligned, and grows
        // down from its end. `order` and all that it points to outlive the call, which returns
        // only when the child no longer uses this memory (CLONE_VFORK). `child` never unwinds,
        // never allocates and never returns. The fifth argument is where CLONE_PIDFD writes.
        let pid = unsafe {
            libc::clone(
                child,
                self.stack.as_mut_ptr_range().end.cast::<c_void>(),
                flags | shared,
                ptr::from_ref(order).cast_mut().cast::<c_void>(),
                &raw mut pidfd,
            )
        };
        let error = io::Error::last_os_error();
        pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&before), None)?;
        match u32::try_from(pid) {
            // SAFETY: on success the kernel has made this descriptor for us; nobody else knows it.
            Ok(pid) => Ok((pid, Pidfd::from_owned(unsafe { OwnedFd::from_raw_fd(pidfd) }))),
            Err(_) => Err(error),
        }
    }
}

/// What the child is to do, and where it says that it could not. Further resource limits, user and group,
/// `no_new_privs` or joining a cgroup (by a descriptor of its `cgroup.procs`) belong here, each as
/// plain data and one more step of [`Order::run`].
struct Order {
    candidates: *const *const c_char,
    argv: *const *const c_char,
    envp: *const *const c_char,
    cwd: *const c_char,
    stdio: [c_int; 3],
    needless_from: Option<c_int>,
    note: *mut u8,
    note_bytes: AtomicUsize,
    descriptors: Option<libc::rlimit>,
    failed_at: AtomicI32,
    errno: AtomicI32,
}

/// The steps that can fail.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
enum Step {
    None = 0,
    Descriptors = 1,
    Stdio = 2,
    Cwd = 3,
    Exec = 4,
}

impl Order {
    fn failure(&self) -> Option<(Step, io::Error)> {
        let step = self.failed_at.load(Relaxed);
        let steps = [Step::Descriptors, Step::Stdio, Step::Cwd, Step::Exec];
        let step = steps.into_iter().find(|&s| s as i32 == step)?;
        Some((step, io::Error::from_raw_os_error(self.errno.load(Relaxed))))
    }

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
            self.take_note();
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
            default_signals();
            self.exec();
        }
        Step::Exec
    }

    /// Notes what `/proc` shows of this process, if it does: its start time stays what it is.
    ///
    /// # Safety
    /// As of [`Order::run`]; the note must have room for [`NOTE_BYTES`].
    unsafe fn take_note(&self) {
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

extern "C" fn child(order: *mut c_void) -> c_int {
    // SAFETY: `clone_child` passes an Order that outlives this process's use of its memory.
    unsafe {
        let order = &*order.cast::<Order>();
        let step = order.run();
        order.errno.store(*libc::__errno_location(), Relaxed);
        order.failed_at.store(step as i32, Relaxed);
        libc::_exit(127)
    }
}

/// Default dispositions (Rust programs ignore SIGPIPE, and what is ignored stays so across
/// `execve`) and an empty mask. In this order: no handler of the parent may run in between.
///
/// # Safety
/// Only in the child: dispositions are the whole process's.
unsafe fn default_signals() {
    const LAST_SIGNAL: c_int = 64;
    const SIGNAL_SET_BYTES: usize = 8;
    // SAFETY: integers, and a zeroed buffer at least as large as the kernel's struct sigaction,
    // which so says SIG_DFL. The C library's own call would leave out the signals that it keeps
    // for itself, though they too may have been ignored by whoever started this process.
    unsafe {
        let default = [0_u64; 8];
        for signal in 1..=LAST_SIGNAL {
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

/// All descriptors from this one on.
fn close_range(first: c_int, flags: u32) -> i64 {
    // SAFETY: integers only. Whoever asks for more than flags to be set has no use for them.
    unsafe { libc::syscall(libc::SYS_close_range, first, c_int::MAX, flags) }
}

/// Not before Linux 5.9.
fn has_close_range() -> bool {
    // There is no such descriptor.
    close_range(c_int::MAX, 0) == 0
}

/// Has `slot` be a duplicate of another descriptor.
fn replace(slot: &OwnedFd, by: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: integers; the slot's descriptor stays the slot's.
    match unsafe { libc::dup3(by.as_raw_fd(), slot.as_raw_fd(), libc::O_CLOEXEC) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// A duplicate that is none of 0, 1 and 2, and is closed on exec.
fn above_stdio(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // SAFETY: F_DUPFD_CLOEXEC takes an integer and returns a descriptor that is only ours.
    unsafe {
        match libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 3) {
            -1 => Err(io::Error::last_os_error()),
            duplicate => Ok(OwnedFd::from_raw_fd(duplicate)),
        }
    }
}

fn pointers(strings: &[Arc<CStr>]) -> Vec<*const c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
}

fn describe((step, error): (Step, io::Error), image: &Image) -> String {
    let show = |path: &CStr| path.to_string_lossy().into_owned();
    match step {
        Step::Cwd => {
            let cwd = image.cwd.as_deref().map(show).unwrap_or_default();
            format!("cannot change to its working directory {cwd:?}: {error}")
        }
        Step::Exec if image.candidates.len() != 1 => {
            format!(
                "{error}: no directory of PATH has it in a form that can be run; configure its full path"
            )
        }
        Step::Exec
            if error.raw_os_error() == Some(libc::ENOENT)
                && image.candidates.iter().any(|path| Path::new(&show(path)).exists()) =>
        {
            format!("{error}: the file exists, but its interpreter or loader does not")
        }
        Step::Descriptors => format!("cannot copy the table of descriptors: {error}"),
        Step::None | Step::Stdio | Step::Exec => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        ffi::CString,
        io::{Read as _, Seek as _},
        thread,
        time::Duration,
    };

    use super::*;

    /// As on a kernel that cannot leave descriptors out of a copy.
    fn without_close_range() -> Spawner {
        Spawner { needless_from: None, ..Spawner::new().unwrap() }
    }

    fn shell(script: &str) -> Image {
        Image {
            candidates: vec![c"/bin/sh".into()],
            argv: vec![c"sh".into(), c"-c".into(), CString::new(script).unwrap().into()],
            envp: Vec::new(),
            cwd: None,
        }
    }

    #[test]
    fn a_child_has_three_descriptors_and_takes_none_from_its_parent() {
        for mut spawner in [Spawner::new().unwrap(), without_close_range()] {
            // As an embedding program may have them: low and high, and not marked close-on-exec.
            let file = tempfile::tempfile().unwrap();
            let forgotten: Vec<OwnedFd> = [3, 700]
                .map(|lowest| unsafe {
                    // SAFETY: integers in, a descriptor that is only ours out.
                    OwnedFd::from_raw_fd(libc::fcntl(file.as_raw_fd(), libc::F_DUPFD, lowest))
                })
                .into();
            let mut output = tempfile::tempfile().unwrap();
            let image = shell("ls /proc/$$/fd; true");
            let Spawned { pidfd, .. } =
                spawner.spawn(&image, output.as_fd(), output.as_fd()).unwrap();
            while pidfd.reap().unwrap().is_none() {
                thread::sleep(Duration::from_millis(2));
            }
            let mut said = String::new();
            output.rewind().unwrap();
            output.read_to_string(&mut said).unwrap();
            assert_eq!(said, "0\n1\n2\n");
            for fd in &forgotten {
                assert!(fd.try_clone().is_ok(), "it is still open here");
            }
        }
    }

    #[test]
    fn a_child_is_known_as_proc_knows_it() {
        for mut spawner in [Spawner::new().unwrap(), without_close_range()] {
            let output = tempfile::tempfile().unwrap();
            let image = shell("exec sleep 600");
            let Spawned { process, pidfd } =
                spawner.spawn(&image, output.as_fd(), output.as_fd()).unwrap();
            let shown = procfs::stat(process.pid).unwrap().map(|stat| stat.process);
            pidfd.kill_and_reap();
            assert_eq!(shown, Some(process));
        }
    }

    #[test]
    fn a_program_that_is_not_there_leaves_nothing() {
        for mut spawner in [Spawner::new().unwrap(), without_close_range()] {
            let output = tempfile::tempfile().unwrap();
            let image = Image { candidates: vec![c"/nowhere".into()], ..shell("") };
            let failed = spawner.spawn(&image, output.as_fd(), output.as_fd());
            assert!(failed.is_err_and(|error| error.contains("No such file")));
        }
    }
}
