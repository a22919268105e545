//! A part of the kernel's hierarchy for one test, and processes that do not outlive it.

use std::{
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::runtime::cgroup::{
    Error, Events, Group, Host, Unavailable, core, delegation, group::make_dir, list,
};

const PREFIX: &str = "arroyo-node-test-";

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A cgroup below this process's own, which stays where it is. When the sandbox goes, all in it is
/// killed and removed, also when the test panics.
pub(super) struct Sandbox {
    pub(super) path: PathBuf,
}

impl Sandbox {
    /// `None`, and a line that says so, where there is no writable cgroup v2.
    pub(super) fn new(test: &str) -> Option<Self> {
        match Self::make(test) {
            Ok(sandbox) => Some(sandbox),
            Err(reason) => {
                eprintln!("LEFT OUT: {test}, since there is no writable cgroup v2: {reason}");
                None
            }
        }
    }

    fn make(test: &str) -> Result<Self, Unavailable> {
        let own = delegation::own_cgroup(&Host::default())?.directory;
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        remove_old(&own)?;
        let path = own.join(format!("{PREFIX}{}-{number}-{test}", std::process::id()));
        make_dir(&path)?;
        let sandbox = Self { path };
        // A process of ours must be allowed to move in, and to be killed there.
        for file in [sandbox.path.join("cgroup.kill"), own.join("cgroup.procs")] {
            core::check_writable(&file)?;
        }
        Ok(sandbox)
    }

    pub(super) fn group(&self) -> Group {
        Group::create(&self.path, "1").unwrap()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let name = self.path.file_name().unwrap().to_str().unwrap();
        let open = || Group::open(self.path.parent()?, name).ok()?;
        let group = open().unwrap();
        let removed = group.kill().and_then(|()| {
            let end = Instant::now() + Duration::from_secs(20);
            while group.is_populated()? && Instant::now() < end {
                thread::sleep(Duration::from_millis(2));
            }
            group.remove()
        });
        match removed {
            Err(error) if thread::panicking() => eprintln!("LEFT BEHIND: {error}"),
            removed => removed.unwrap(),
        }
    }
}

/// Removes what a run left that was killed.
fn remove_old(own: &Path) -> Result<(), Error> {
    for name in list(own)? {
        let pid = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists())
            && let Some(group) = Group::open(own, &name)?
        {
            group.kill()?;
            // What still holds processes is the next one's.
            let _ = group.remove();
        }
    }
    Ok(())
}

/// A child of ours, killed and reaped when it goes.
pub(super) struct Process(pub(super) Child);

impl Process {
    /// A shell that enters the group before it runs the script.
    pub(super) fn start(group: &Path, script: &str) -> Self {
        let script = format!("echo $$ >'{}/cgroup.procs' || exit 99; {script}", group.display());
        Self(Command::new("/bin/sh").args(["-c", &script]).spawn().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(super) fn wait_until(mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < end, "nothing happened for 20 s");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Whether the events are ready within so many milliseconds.
pub(super) fn is_ready(events: &Events, timeout: u16) -> bool {
    let mut fds = [PollFd::new(events.as_fd(), PollFlags::POLLPRI)];
    let ready = poll(&mut fds, PollTimeout::from(timeout)).unwrap();
    ready == 1 && fds[0].revents().unwrap().contains(PollFlags::POLLPRI)
}
