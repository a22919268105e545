//! Starts a process at a cost that does not grow with this process's memory.
//!
//! ```text
//!  parent: block signals ─ clone(VM|FILES|VFORK|PIDFD) ─ ─ suspended ─ ─ ─▶ read failure, unblock
//!  child.rs:    └▶ own descriptors, start time, setsid, stdio, cwd, signals ─ execve │ or _exit
//! ```
//!
//! Parent and child share all memory until the child calls `execve` or `_exit`, and only the
//! thread that cloned is suspended. They share the table of descriptors until the child takes a copy
//! of the few that it needs: a supervisor has a descriptor for each live worker, and none is copied
//! only to be closed.

use std::{
    ffi::{CStr, c_char, c_int, c_void},
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd as _, OwnedFd},
    path::Path,
    ptr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
};

use nix::sys::signal::{SigSet, SigmaskHow, pthread_sigmask};

use super::{
    child::{
        Birth, Failure, NOTE_BYTES, Order, Step, all_signals, child, has_close_range,
        signals_not_default,
    },
    command::Image,
    descriptors::limit_before,
    pidfd::Pidfd,
    procfs,
    ticks::TickClock,
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
    /// What each child sets to its default.
    signals: Vec<c_int>,
    /// `None`: `/proc` tells another time.
    clock: Option<TickClock>,
    /// Whether `/proc` was seen to tell the same.
    clock_agrees: bool,
}

/// Whether the dispositions of signals may change while a spawner is in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Dispositions {
    /// This process has code that is not ours.
    MayChange,
    /// They are what they will ever be, and no handler does anything: what is default already need not be
    /// made so for each child.
    Settled,
}

impl Spawner {
    pub(super) fn new(dispositions: Dispositions) -> io::Result<Self> {
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
            signals: match dispositions {
                Dispositions::MayChange => all_signals(),
                Dispositions::Settled => signals_not_default(),
            },
            clock: TickClock::new(),
            clock_agrees: false,
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
        let before = self.clock.and_then(|clock| clock.now().ok());
        let order = Order {
            candidates: candidates.as_ptr(),
            argv: argv.as_ptr(),
            envp: envp.as_ptr(),
            cwd: image.cwd.as_ref().map_or(ptr::null(), |cwd| cwd.as_ptr()),
            stdio: [&self.null, &self.output[0], &self.output[1]].map(AsRawFd::as_raw_fd),
            needless_from: self.needless_from,
            birth: Birth {
                clock: self.clock.filter(|_| self.clock_agrees).zip(before),
                same_tick: AtomicBool::new(false),
                note: self.note.as_mut_ptr(),
                note_bytes: AtomicUsize::new(0),
            },
            descriptors: limit_before(),
            signals: ptr::from_ref(self.signals.as_slice()),
            failure: Failure::default(),
        };
        let cloned = self.clone_child(&order);
        for slot in &self.output {
            // Lest a file is held open that its worker has closed. Cannot fail: both are open.
            let _ = replace(slot, self.null.as_fd());
        }
        let (pid, pidfd) = cloned.map_err(say)?;
        if let Some(failure) = order.failure.get() {
            // It has let go of our memory and is about to exit, if it has not yet.
            pidfd.kill_and_reap();
            return Err(describe(failure, image));
        }
        match self.identify(pid, &order.birth, before) {
            // Even if it has ended already: it is ours to reap, and so keeps its pid.
            Ok(Some(process)) if pidfd.is_unreaped() => Ok(Spawned { process, pidfd }),
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

    /// By what the child has noted; or else by what is to be read of it now, which takes longer: a process
    /// that is just loading its program has others wait.
    fn identify(
        &mut self,
        pid: u32,
        birth: &Birth,
        before: Option<u64>,
    ) -> io::Result<Option<Process>> {
        if birth.same_tick.load(Relaxed)
            && let Some(start_time) = before
        {
            return Ok(Some(Process { pid, start_time }));
        }
        let length = birth.note_bytes.load(Relaxed);
        let noted = self.note.get(..length).and_then(procfs::parse_stat).flatten();
        let process = match noted.map(|stat| stat.process).filter(|process| process.pid == pid) {
            Some(process) => process,
            None => match procfs::stat(pid)? {
                Some(stat) => stat.process,
                None => return Ok(None),
            },
        };
        self.compare_clocks(before, process.start_time);
        Ok(Some(process))
    }

    /// Whether the clock could have told what `/proc` does. Once it could not, it is never believed.
    fn compare_clocks(&mut self, before: Option<u64>, start_time: u64) {
        let after = self.clock.and_then(|clock| clock.now().ok());
        self.clock_agrees =
            before.zip(after).is_some_and(|(before, after)| (before..=after).contains(&start_time));
        if !self.clock_agrees {
            self.clock = None;
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
        Step::Stdio | Step::Exec => error.to_string(),
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

    fn spawner() -> Spawner {
        Spawner::new(Dispositions::MayChange).unwrap()
    }

    /// As on a kernel that cannot leave descriptors out of a copy.
    fn without_close_range() -> Spawner {
        Spawner { needless_from: None, ..spawner() }
    }

    /// As where `/proc` dates processes by another clock.
    fn without_clock() -> Spawner {
        Spawner { clock: None, ..spawner() }
    }

    fn shell(script: &str) -> Image {
        Image {
            candidates: vec![c"/bin/sh".into()],
            argv: vec![c"sh".into(), c"-c".into(), CString::new(script).unwrap().into()],
            envp: Vec::new(),
            cwd: None,
        }
    }

    /// Once it has ended.
    fn what_it_said(pidfd: &Pidfd, output: &mut File) -> String {
        while pidfd.reap().unwrap().is_none() {
            thread::sleep(Duration::from_millis(2));
        }
        let mut said = String::new();
        output.rewind().unwrap();
        output.read_to_string(&mut said).unwrap();
        said
    }

    #[test]
    fn a_child_has_three_descriptors_and_takes_none_from_its_parent() {
        for mut spawner in [spawner(), without_close_range()] {
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
            let said = what_it_said(&pidfd, &mut output);
            assert_eq!(said, "0\n1\n2\n");
            for fd in &forgotten {
                assert!(fd.try_clone().is_ok(), "it is still open here");
            }
        }
    }

    #[test]
    fn a_child_is_known_as_proc_knows_it() {
        for mut spawner in [spawner(), without_close_range(), without_clock()] {
            let trusts_clock = spawner.clock.is_some();
            let output = tempfile::tempfile().unwrap();
            let image = shell("exec sleep 600");
            for _ in 0..20 {
                let Spawned { process, pidfd } =
                    spawner.spawn(&image, output.as_fd(), output.as_fd()).unwrap();
                let shown = procfs::stat(process.pid).unwrap().map(|stat| stat.process);
                pidfd.kill_and_reap();
                assert_eq!(shown, Some(process));
            }
            assert_eq!(spawner.clock_agrees, trusts_clock);
        }
    }

    #[test]
    fn a_clock_that_proc_does_not_go_by_is_not_believed() {
        let mut spawner = spawner();
        let clock = spawner.clock.unwrap();
        for off_by in [100, 0] {
            let before = clock.now().unwrap();
            spawner.compare_clocks(Some(before), before + off_by);
            assert!(!spawner.clock_agrees && spawner.clock.is_none(), "it was wrong once");
        }
    }

    #[test]
    fn a_child_ignores_no_signal_that_its_parent_does() {
        // Nobody in this program uses it.
        let unused = libc::SIGRTMIN() + 7;
        // SAFETY: no handler is installed, so none can do harm.
        unsafe { libc::signal(unused, libc::SIG_IGN) };
        for dispositions in [Dispositions::MayChange, Dispositions::Settled] {
            let mut spawner = Spawner::new(dispositions).unwrap();
            assert!(spawner.signals.contains(&unused));
            let mut output = tempfile::tempfile().unwrap();
            let image = shell("exec grep SigIgn /proc/self/status");
            let Spawned { pidfd, .. } =
                spawner.spawn(&image, output.as_fd(), output.as_fd()).unwrap();
            let said = what_it_said(&pidfd, &mut output);
            assert_eq!(said, "SigIgn:\t0000000000000000\n");
        }
        // SAFETY: as above.
        unsafe { libc::signal(unused, libc::SIG_DFL) };
    }

    #[test]
    fn a_program_that_is_not_there_leaves_nothing() {
        for mut spawner in [spawner(), without_close_range()] {
            let output = tempfile::tempfile().unwrap();
            let image = Image { candidates: vec![c"/nowhere".into()], ..shell("") };
            let failed = spawner.spawn(&image, output.as_fd(), output.as_fd());
            assert!(failed.is_err_and(|error| error.contains("No such file")));
        }
    }
}
