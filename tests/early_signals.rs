//! Signals that reach an agent while it starts.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    fs::{self, File},
    process::Command,
    time::Duration,
};

use nix::sys::signal::Signal;
use support::{agent::Home, controller::Recorder, eventually, program::Program};

/// A start that takes as long as the test likes, up to five seconds: so long an agent waits for
/// what a dead one has left of its lock.
struct SlowStart {
    program: Program,
    lock: File,
}

impl SlowStart {
    async fn begin(home: &Home, recorder: &Recorder) -> Self {
        fs::create_dir_all(home.state_dir()).unwrap();
        let path = home.state_dir().join("lock");
        let lock = File::create(&path).unwrap();
        lock.lock().unwrap();
        let mut dead = Command::new("true").spawn().unwrap();
        dead.wait().unwrap();
        fs::write(&path, dead.id().to_string()).unwrap();
        let own = home.arguments(&recorder.url());
        let own: Vec<_> = own.iter().map(String::as_str).collect();
        let program = Program::run(&home.mark, &own, &[]);
        let files = format!("/proc/{}/fd", program.pid());
        eventually("it waits for the lock", || {
            let files = fs::read_dir(&files).into_iter().flatten().flatten();
            files.filter_map(|file| fs::read_link(file.path()).ok()).any(|file| file == path)
        })
        .await;
        Self { program, lock }
    }
}

#[tokio::test]
async fn an_agent_that_is_told_to_end_while_it_starts_ends_as_it_would_later() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGUSR1] {
        let home = Home::new();
        let recorder = Recorder::start().await;
        let mut start = SlowStart::begin(&home, &recorder).await;
        start.program.signal(signal);
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(start.program.ended(), None, "{signal}");
        drop(start.lock);
        assert_eq!(start.program.end().await.code(), Some(0), "{signal}");
        start.program.line_with("bound").await;
    }
}

#[tokio::test]
async fn a_start_that_hangs_is_called_off_by_a_second_signal() {
    let home = Home::new();
    let recorder = Recorder::start().await;
    let mut start = SlowStart::begin(&home, &recorder).await;
    start.program.signal(Signal::SIGINT);
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    start.program.signal(Signal::SIGINT);
    assert_eq!(start.program.end().await.code(), Some(1));
    start.program.line_with("before it had started").await;
}
