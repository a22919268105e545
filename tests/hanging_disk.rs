//! A disk that does not answer, as a real agent meets it: the thread that waits for the disk stands
//! still, in the middle of a commit, and nothing else may stand still with it.
//!
//! The thread is stopped by ptrace, which stops one thread and no other. To the rest of the agent
//! that is what an uninterruptible write is.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    fs, io, ptr,
    sync::mpsc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use arroyo_node::rpc::wire::{StopWorkerStatus, WorkerState};
use support::{
    agent::Home,
    calls::Calls,
    controller::Recorder,
    program::{AgentProgram, Program},
};
use tonic::Code;

/// A thread of another process that does not run until this is dropped.
struct Held {
    release: Option<mpsc::Sender<()>>,
    tracer: Option<JoinHandle<()>>,
}

impl Held {
    /// Holds the thread of this name; an error where nobody may trace another process.
    fn thread(pid: u32, name: &str) -> io::Result<Self> {
        let tasks = fs::read_dir(format!("/proc/{pid}/task"))?.flatten().map(|task| task.path());
        let named = |comm: io::Result<String>| comm.is_ok_and(|comm| comm.trim() == name);
        let task = tasks.into_iter().find(|task| named(fs::read_to_string(task.join("comm"))));
        let task = task.unwrap_or_else(|| panic!("no thread of the agent is called {name}"));
        let tid: i32 = task.file_name().unwrap().to_str().unwrap().parse().unwrap();
        let (release, released) = mpsc::channel::<()>();
        let (report, stopped) = mpsc::channel();
        // Only the thread that traces may let go; and if it ends, the kernel does.
        let tracer = thread::spawn(move || {
            let is_stopped = stop(tid);
            let may_trace = is_stopped.is_ok();
            report.send(is_stopped).unwrap();
            if may_trace {
                let _ = released.recv();
                trace(libc::PTRACE_DETACH, tid).unwrap();
            }
        });
        stopped.recv().unwrap()?;
        Ok(Self { release: Some(release), tracer: Some(tracer) })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.release.take());
        self.tracer.take().unwrap().join().unwrap();
    }
}

fn stop(tid: i32) -> io::Result<()> {
    trace(libc::PTRACE_SEIZE, tid)?;
    trace(libc::PTRACE_INTERRUPT, tid)?;
    // SAFETY: no status is asked for.
    match unsafe { libc::waitpid(tid, ptr::null_mut(), libc::__WALL) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

fn trace(request: libc::c_uint, tid: i32) -> io::Result<()> {
    let nothing = ptr::null_mut::<libc::c_void>();
    // SAFETY: these requests read no memory of this process.
    match unsafe { libc::ptrace(request, tid, nothing, nothing) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

#[tokio::test]
async fn nothing_waits_for_a_disk() {
    let home = Home::new();
    let recorder = Recorder::start().await;
    let own = home.arguments(&recorder.url());
    let own: Vec<_> = own.iter().map(String::as_str).collect();
    let env = [
        ("ARROYO_NODE__HEARTBEAT__EVERY", "1s"),
        ("ARROYO_NODE__HEARTBEAT__JITTER", "100ms"),
        ("ARROYO_NODE__CALLS__DEADLINE", "1s"),
    ];
    let mut agent = AgentProgram::serving(Program::run(&home.mark, &own, &env)).await;
    recorder.until("it is there", |record| record.heartbeats.len() > 1).await;
    let stubborn = [("WORKER_IGNORE_SIGTERM", "1")];
    let worker = agent.start(home.request("first", 1, &stubborn)).await;
    home.until_ready(worker).await;

    let held = match Held::thread(agent.program.pid(), "journal") {
        Ok(held) => held,
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
            println!("left out: nobody may trace a process here ({error})");
            return;
        }
        Err(error) => panic!("{error}"),
    };
    let beats = recorder.record().heartbeats.len();

    // Who comes while the commit is waited for is served by the thread that waits.
    let (old, request) = (Calls::to(agent.address), home.request("refused", 1, &[]));
    let start = tokio::spawn(async move { old.refusal(request).await });
    let before = Instant::now();
    assert_eq!(Calls::to(agent.address).workers().await.len(), 1, "over a new connection");
    let refused = start.await.unwrap();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.message().contains("the disk has not answered"), "{refused}");
    assert!(before.elapsed() < Duration::from_secs(2), "{:?}", before.elapsed());

    // A forced stop is carried out, SIGKILL included, and reported.
    let before = Instant::now();
    assert_eq!(agent.stop_by_force(worker).await, StopWorkerStatus::Stopped);
    assert!(before.elapsed() < Duration::from_secs(2), "{:?}", before.elapsed());
    recorder.report_of(worker).await;
    home.until_alive(worker, 0).await;

    // Again and again nothing waits.
    for _ in 0..5 {
        let before = Instant::now();
        assert_eq!(agent.workers().await.len(), 1, "over an old connection");
        let refused = agent.refusal(home.request("refused", 1, &[])).await;
        assert_eq!(refused.code(), Code::Unavailable);
        assert!(before.elapsed() < Duration::from_millis(500), "{:?}", before.elapsed());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let enough = beats + 3;
    recorder.until("heartbeats go on", |record| record.heartbeats.len() > enough).await;
    assert_eq!(agent.metric("arroyo_node_journal_healthy").await, Some(0.0));

    drop(held);
    agent.until_status("healthy", |status| status.journal_error.is_empty()).await;
    let second = agent.start(home.request("second", 1, &[])).await;
    home.until_ready(second).await;

    // The journal has everything, for the next agent.
    agent.program.kill().await;
    let agent = home.run(&recorder.url(), &[]).await;
    let states: Vec<_> = agent.workers().await.iter().map(|w| (w.worker_id, w.state())).collect();
    assert!(states.contains(&(second, WorkerState::Running)), "{states:?}");
    assert!(states.contains(&(worker, WorkerState::Exited)), "{states:?}");
}
