//! An agent's side without the agent: the port, its events, a state directory. Dropped, it leaves
//! neither worker nor shim.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    num::NonZeroU64,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    path::PathBuf,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use arroyo_node::{
    ids::{Generation, JobId, PipelineId, WorkerId},
    machine::{Dialect, Event, Exit, Launch, Process, Signal, StartKey, Wall, WorkerSpec},
    runtime::{
        essential::essential,
        output::{OutputDir, Stream},
        ports::{Events, Processes as _},
        process::{
            ProcessesConfig, WorkerCommand,
            shim::{ShimConfig, ShimProcesses},
        },
    },
    shim::Known,
};
use nix::fcntl::{Flock, FlockArg};
use tempfile::TempDir;
use tokio::{runtime::Runtime, sync::mpsc::UnboundedReceiver};

const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Bench {
    /// Of one agent: with it ends whatever that was still doing, as with its process.
    runtime: Option<Runtime>,
    pub(crate) port: Option<ShimProcesses>,
    /// What the shim knew when it was last connected to.
    pub(crate) known: Vec<Known>,
    config: ProcessesConfig,
    pub(crate) shim: ShimConfig,
    sender: Events,
    events: UnboundedReceiver<Event>,
    pub(crate) temp: TempDir,
    /// Spawned or adopted, and not ended.
    alive: BTreeSet<WorkerId>,
    /// Ended and not released.
    ended: BTreeSet<WorkerId>,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let script = WorkerCommand {
            program: "/bin/sh".into(),
            args: vec!["-c".into(), "eval \"$SCRIPT\"".into()],
            cwd: None,
            env: Vec::new(),
        };
        Self::running(script)
    }

    pub(crate) fn running(command: WorkerCommand) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let output = OutputDir::create(temp.path().join("output")).unwrap();
        let (sender, events) = Events::channel();
        let mut bench = Self {
            runtime: None,
            port: None,
            known: Vec::new(),
            config: ProcessesConfig { command, output, groups: None },
            shim: ShimConfig {
                state_dir: temp.path().to_owned(),
                program: env!("CARGO_BIN_EXE_arroyo-node").into(),
                args: ["shim", "--linger", "200ms"].map(str::to_owned).into(),
                groups: None,
                timeout: Duration::from_secs(10),
            },
            sender,
            events,
            temp,
            alive: BTreeSet::new(),
            ended: BTreeSet::new(),
        };
        bench.connect();
        bench
    }

    /// What the start of an agent is to the shim.
    pub(crate) fn connect(&mut self) {
        let (config, shim) = (self.config.clone(), self.shim.clone());
        // A panic of the port ends a test by what does not happen then.
        let (essential, _panics) = essential();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let start = ShimProcesses::start(config, shim, self.sender.clone(), &essential);
        let (port, known) = self.runtime.insert(runtime).block_on(start).unwrap();
        self.port = Some(port);
        self.known = known;
    }

    /// What the end of an agent is to the shim.
    pub(crate) fn disconnect(&mut self) {
        self.port = None;
        // Else its task might be just about to connect anew, and take the shim from the next agent.
        self.runtime = None;
    }

    pub(crate) fn port(&mut self) -> &mut ShimProcesses {
        self.port.as_mut().expect("connected")
    }

    pub(crate) fn launch(&self, script: &str) -> Launch {
        let worker = WorkerId(uuid::Uuid::new_v4().as_u64_pair().0);
        let spec = WorkerSpec {
            name: "name".to_owned(),
            job: JobId::new("job"),
            pipeline: Some(PipelineId::new("pipe")),
            generation: Generation(3),
            slots: NonZeroU64::new(2).unwrap(),
            dialect: Dialect::V0_16,
            key: Some(StartKey("key".into())),
        };
        let text = |path: PathBuf| path.to_str().unwrap().to_owned();
        let env = [
            ("SCRIPT".to_owned(), script.to_owned()),
            ("PIDS".to_owned(), text(self.file("pids"))),
            ("GO".to_owned(), text(self.file("go"))),
        ];
        let env = BTreeMap::from(env);
        Launch { worker, spec: Arc::new(spec), admitted_at: Wall(5), env }
    }

    pub(crate) fn spawn(&mut self, script: &str) -> WorkerId {
        let launch = self.launch(script);
        let worker = launch.worker;
        self.alive.insert(worker);
        self.port().spawn(launch);
        worker
    }

    pub(crate) fn start(&mut self, script: &str) -> (WorkerId, Process) {
        let worker = self.spawn(script);
        match self.next() {
            Event::Spawned { worker: spawned, process } if spawned == worker => (worker, process),
            other => panic!("{other:?} instead of Spawned"),
        }
    }

    pub(crate) fn adopt(&mut self, worker: WorkerId, process: Option<Process>) -> Event {
        self.alive.insert(worker);
        self.port().adopt(worker, process);
        let event = self.next();
        if event == Event::NeverRan(worker) {
            self.alive.remove(&worker);
        }
        event
    }

    pub(crate) fn signal(&mut self, worker: WorkerId, signal: Signal) {
        self.port().signal(worker, signal);
    }

    pub(crate) fn release(&mut self, worker: WorkerId) {
        self.ended.remove(&worker);
        self.port().release(worker);
    }

    pub(crate) fn try_next(&mut self) -> Option<Event> {
        let event = self.events.try_recv().ok()?;
        match &event {
            Event::Exited { worker, .. } => {
                self.alive.remove(worker);
                self.ended.insert(*worker);
            }
            Event::SpawnFailed { worker, .. } => drop(self.alive.remove(worker)),
            _ => {}
        }
        Some(event)
    }

    pub(crate) fn next(&mut self) -> Event {
        let mut next = None;
        eventually("an event comes", || {
            next = self.try_next();
            next.is_some()
        });
        next.unwrap()
    }

    pub(crate) fn exit_of(&mut self, worker: WorkerId) -> Exit {
        match self.next() {
            Event::Exited { worker: ended, exit } if ended == worker => exit,
            other => panic!("{other:?} instead of Exited"),
        }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    /// Lets the scripts go on that wait for the file `$GO`.
    pub(crate) fn go(&self) {
        fs::write(self.file("go"), "").unwrap();
    }

    pub(crate) fn output(&self, worker: WorkerId) -> String {
        fs::read_to_string(self.config.output.path(worker, Stream::Stdout)).unwrap()
    }

    /// Waits until that many processes have written their pid to `$PIDS`.
    pub(crate) fn wait_for_pids(&self, count: usize) -> Vec<Process> {
        let file = self.file("pids");
        let read = || fs::read_to_string(&file).unwrap_or_default();
        eventually("all processes have said their pid", || read().lines().count() == count);
        read().lines().map(|pid| process(pid.parse().unwrap()).unwrap()).collect()
    }

    /// Kills the shim of this worker, which must be alive.
    pub(crate) fn kill_shim(&self, worker: Process) {
        let shim = parent(worker.pid).unwrap();
        assert!(comm(shim) == "arroyo-shim", "the worker's parent is {}", comm(shim));
        kill(process(shim).unwrap());
    }

    /// Whether a shim is alive: it has the lock.
    pub(crate) fn has_shim(&self) -> bool {
        let file = File::options().write(true).open(self.file("shim.lock")).unwrap();
        Flock::lock(file, FlockArg::LockExclusiveNonblock).is_err()
    }
}

impl Bench {
    /// Kills and releases all workers; with what was lost of that when a port was dropped, the
    /// next round begins.
    fn clear_away(&mut self, deadline: Instant) {
        let mut known = std::mem::take(&mut self.known);
        known.retain(|known| !self.ended.contains(&known.worker));
        for known in known {
            self.alive.insert(known.worker);
            self.port().adopt(known.worker, Some(known.process));
        }
        for worker in self.alive.clone() {
            self.signal(worker, Signal::Kill);
        }
        while !self.alive.is_empty() && Instant::now() < deadline {
            if self.try_next().is_none() {
                thread::sleep(Duration::from_millis(2));
            }
        }
        for worker in self.ended.clone() {
            self.release(worker);
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        if self.port.is_some() {
            self.clear_away(deadline);
        }
        self.disconnect();
        self.connect();
        while !self.known.is_empty() && Instant::now() < deadline {
            self.clear_away(deadline);
            self.disconnect();
            self.connect();
        }
        // Before the runtime that it needs. Then the shim has nothing to do.
        self.disconnect();
        while self.has_shim() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Waits until this holds.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "still not so: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// The fields of `/proc/PID/stat` from the state on. The names of these tests' processes hold no
/// parenthesis.
fn stat(pid: u32) -> Option<Vec<String>> {
    let line = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields = line.rsplit(')').next()?;
    Some(fields.split_ascii_whitespace().map(str::to_owned).collect())
}

pub(crate) fn process(pid: u32) -> Option<Process> {
    Some(Process { pid, start_time: stat(pid)?[19].parse().ok()? })
}

pub(crate) fn parent(pid: u32) -> Option<u32> {
    stat(pid)?[1].parse().ok()
}

pub(crate) fn comm(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}

/// Whether it runs, rather than waits to be reaped.
pub(crate) fn is_alive(of: Process) -> bool {
    process(of.pid) == Some(of) && stat(of.pid).is_some_and(|fields| fields[0] != "Z")
}

/// The live processes that were started for this worker.
pub(crate) fn processes_of(worker: WorkerId) -> Vec<u32> {
    let variable = format!("ARROYO__WORKER__ID={worker}");
    let pids = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environ.split(|&byte| byte == 0).any(|pair| pair == variable.as_bytes())
    })
    .collect()
}

/// SIGKILL, by a pidfd.
fn kill(victim: Process) {
    // SAFETY: integers in, a descriptor that is only ours out.
    let pidfd = unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, victim.pid, 0);
        OwnedFd::from_raw_fd(i32::try_from(fd).unwrap())
    };
    assert_eq!(process(victim.pid), Some(victim));
    // SAFETY: a null siginfo stands for that of kill(2); the rest is integers.
    let sent = unsafe {
        let none = std::ptr::null::<libc::siginfo_t>();
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), libc::SIGKILL, none, 0)
    };
    assert_eq!(sent, 0);
}
