//! The agent, and the shim that it started: as processes, which can be killed.

use std::{
    fs::File,
    io,
    os::unix::{ffi::OsStrExt as _, process::CommandExt as _},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::time::{Instant, sleep};

use super::town::Town;
use crate::{
    cli::node::this_program,
    machine::Process,
    runtime::process::{identify, send_signal, shim::ShimConfig},
};

/// How long an agent may take to start or to end.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// `arroyo-node node`, as a child of this process. Killed when it is dropped.
pub(super) struct Agent {
    child: Child,
    pub(super) started: Instant,
    /// Set once it has been seen to serve.
    pub(super) has_served: bool,
}

impl Agent {
    pub(super) fn start(town: &Town) -> anyhow::Result<Self> {
        let log = File::options().append(true).create(true).open(town.log())?;
        let (name, value) = town.mark();
        let mut command = Command::new(ShimConfig::THIS_PROGRAM);
        // The agent is to be as it is by default, however this process was set up.
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.as_bytes().starts_with(b"ARROYO"))
        {
            command.env_remove(name);
        }
        let slots = town.slots.to_string();
        let child = command
            .args(["node", "--id", town.machine.as_str()])
            .args(["--bind-address", "127.0.0.1", "--admin-address", "127.0.0.1"])
            .args(["--rpc-port", &town.agent_address.port().to_string(), "--admin-port", "0"])
            .args(["--controller", &format!("http://{}", town.controller_address)])
            .arg("--state-dir")
            .arg(town.state_dir())
            .arg("--worker-command")
            .arg(this_program()?)
            .args(["--task-slots", &slots, "--kill-after", "300ms"])
            .args(["--shutdown-kill-after", "1s"])
            .env(name, value)
            // Ctrl-C is for this process alone.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start an agent")?;
        Ok(Self { child, started: Instant::now(), has_served: false })
    }

    /// Sends it a signal, unless it has ended.
    pub(super) fn signal(&mut self, signal: Signal) -> anyhow::Result<()> {
        if self.ended()?.is_some() {
            return Ok(());
        }
        // It has not been waited for, so the pid is its own.
        let pid = Pid::from_raw(self.child.id().cast_signed());
        kill(pid, signal).with_context(|| format!("cannot send {signal} to the agent"))
    }

    /// How it ended, if it has.
    pub(super) fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Waits for its end.
    pub(super) async fn end(mut self) -> anyhow::Result<ExitStatus> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!("the agent did not end within {PATIENCE:?}");
            }
            sleep(Duration::from_millis(2)).await;
        }
    }

    /// `kill -9`; gone on return.
    pub(super) fn kill(mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The shim that has this run's state directory, if one has: whom its lock names, and who says
/// itself that it is that.
pub(super) fn shim(town: &Town) -> Option<Process> {
    let state_dir = town.state_dir();
    let pid = std::fs::read_to_string(state_dir.join("shim.lock")).ok()?;
    let process = identify(pid.trim().parse().ok()?).ok()??;
    let arguments = std::fs::read(format!("/proc/{}/cmdline", process.pid)).ok()?;
    let arguments: Vec<&[u8]> = arguments.split(|&byte| byte == 0).collect();
    let is_shim = arguments.contains(&b"shim".as_slice())
        && arguments.contains(&state_dir.as_os_str().as_bytes());
    (is_shim && identify(process.pid).ok()? == Some(process)).then_some(process)
}

/// `kill -9` of the shim. Returns whether there was one.
pub(super) fn kill_shim(town: &Town) -> bool {
    town.ledger().shim_dies();
    signal_shim(town, Signal::SIGKILL)
}

/// Signals the shim. Returns whether there was one.
pub(super) fn signal_shim(town: &Town, signal: Signal) -> bool {
    shim(town).is_some_and(|shim| send_signal(shim, signal as i32).unwrap_or(false))
}
