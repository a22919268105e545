//! Processes that the built-in worker leaves behind on request: this program again, as the hidden
//! command `worker-child`. Nothing forks: each step is a new process.
//!
//! ```text
//! group        worker ─▶ child
//! setsid       worker ─▶ child (new session)
//! double-fork  worker ─▶ step (exits) ─▶ child
//! daemon       worker ─▶ step (new session, exits) ─▶ child (/, /dev/null)
//! chain:3      worker ─▶ child ─▶ child ─▶ child
//! ```
//!
//! Each prints one line, `child KIND pid PID`, when it is in its place, and ends by itself after a
//! time, so that a test which loses track of one does not litter for long.

use std::{
    env, fs, io,
    process::{Command, id},
    thread,
    time::Duration,
};

use clap::ValueEnum as _;
use nix::{
    sys::signal::{SigSet, Signal},
    unistd,
};

use super::{Exit, Failure, misbehave::Misbehaviour, stdout::say};

/// How a descendant is related to the worker.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Kind {
    /// An ordinary child.
    Group,
    /// A child in a session of its own.
    Setsid,
    /// A grandchild whose parent is gone.
    DoubleFork,
    /// A grandchild whose parent is gone, in another session, without the worker's output.
    Daemon,
    /// A line of descendants, each the child of the one before.
    Chain,
}

/// What one descendant is to be.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// How it is related to the worker
    #[arg(long)]
    kind: Kind,
    /// End by itself after this time
    #[arg(long, value_parser = humantime::parse_duration)]
    live: Duration,
    /// Take no notice of SIGTERM
    #[arg(long)]
    ignore_sigterm: bool,
    /// Start the real one and exit
    #[arg(long)]
    step: bool,
    /// How many are to follow in a chain
    #[arg(long, default_value_t = 0)]
    followers: u32,
}

/// Starts every process that the worker was asked to leave behind. All exist on return; each says
/// by itself when it is in its place.
///
/// # Errors
/// This program cannot be run again, or a step failed.
pub fn start_all(plan: &Misbehaviour) -> io::Result<()> {
    for &(kind, count) in &plan.children {
        let child = Args {
            kind,
            live: plan.children_live,
            ignore_sigterm: plan.children_ignore_sigterm,
            step: matches!(kind, Kind::DoubleFork | Kind::Daemon),
            followers: 0,
        };
        match kind {
            Kind::Chain => Args { followers: count - 1, ..child }.start()?,
            _ => (0..count).try_for_each(|_| child.start())?,
        }
    }
    Ok(())
}

impl Args {
    fn start(&self) -> io::Result<()> {
        let kind = self.kind.to_possible_value().expect("no kind is skipped");
        let mut command = Command::new(env::current_exe()?);
        command.args(["worker-child", "--kind", kind.get_name()]);
        command.args(["--live", &humantime::format_duration(self.live).to_string()]);
        command.args(["--followers", &self.followers.to_string()]);
        command.args(self.ignore_sigterm.then_some("--ignore-sigterm"));
        command.args(self.step.then_some("--step"));
        let mut child = command.spawn()?;
        if self.step && !child.wait()?.success() {
            return Err(io::Error::other("the step of a double fork failed"));
        }
        Ok(())
    }

    pub(super) fn run(self) -> Result<Exit, Failure> {
        self.take_place().map_err(anyhow::Error::from)?;
        if !self.step {
            thread::sleep(self.live);
        }
        Ok(Exit::Ok)
    }

    fn take_place(&self) -> io::Result<()> {
        // The worker blocks signals in order to read them, and a child inherits that.
        SigSet::all().thread_unblock()?;
        if self.ignore_sigterm {
            SigSet::from_iter([Signal::SIGTERM]).thread_block()?;
        }
        let leads_session = match self.kind {
            Kind::Setsid => true,
            Kind::Daemon => self.step,
            Kind::Group | Kind::DoubleFork | Kind::Chain => false,
        };
        if leads_session {
            unistd::setsid()?;
        }
        if self.step {
            return Args { step: false, ..self.clone() }.start();
        }
        if let Some(followers) = self.followers.checked_sub(1) {
            Args { followers, ..self.clone() }.start()?;
        }
        let kind = self.kind.to_possible_value().expect("no kind is skipped");
        say(format_args!("child {} pid {}", kind.get_name(), id()));
        if self.kind == Kind::Daemon {
            cut_ties()?;
        }
        Ok(())
    }
}

/// As a daemon does: holds on to no directory and to none of the files it was given.
fn cut_ties() -> io::Result<()> {
    env::set_current_dir("/")?;
    let nowhere = fs::File::options().read(true).write(true).open("/dev/null")?;
    unistd::dup2_stdin(&nowhere)?;
    unistd::dup2_stdout(&nowhere)?;
    unistd::dup2_stderr(&nowhere)?;
    Ok(())
}
