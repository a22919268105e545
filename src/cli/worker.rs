//! `arroyo-node worker`: the built-in worker. It says who it is, prints a line now and then, and
//! exits 0 when it is told to end; unless its environment asks for something else
//! ([`misbehave`]).
//!
//! One thread, no runtime: signals are read from a signalfd, everything else is an entry in a short
//! agenda. So a worker costs about as little as a process can, and hundreds of them fit anywhere.

use std::{
    env, io,
    os::fd::AsFd as _,
    process,
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        resource::{Resource, setrlimit},
        signal::{SigHandler, SigSet, Signal, raise, signal},
        signalfd::SignalFd,
    },
};

use super::{
    Exit, Failure, descendants,
    misbehave::{self, Misbehaviour},
    stdout::say,
};

/// None: who it is and what it does come from its environment, as an agent sets it.
#[derive(clap::Args, Debug)]
#[command(after_help = misbehave::HELP)]
pub struct Args {}

impl Args {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        // First of all: from here on a SIGTERM waits to be read, where it would have killed.
        let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT]);
        signals.thread_block().map_err(io_error)?;
        let signals = SignalFd::new(&signals).map_err(io_error)?;

        let plan = Misbehaviour::read(|name| env::var(name).ok())
            .map_err(|error| Failure::new(Exit::Usage, error.to_string(), ""))?;
        Worker::new(plan, signals).run().map_err(|error| anyhow::Error::from(error).into())
    }
}

fn io_error(error: nix::Error) -> anyhow::Error {
    anyhow::Error::from(error).context("cannot prepare to receive signals")
}

struct Worker {
    plan: Misbehaviour,
    signals: SignalFd,
    who: String,
    started: Instant,
    agenda: Vec<(Instant, Deed)>,
    finishing: bool,
}

/// What is to be done at some time.
#[derive(Clone, Copy)]
enum Deed {
    Print,
    Exit(i32),
    Die(Signal),
    Finish(Signal),
}

impl Worker {
    fn new(plan: Misbehaviour, signals: SignalFd) -> Self {
        let started = Instant::now();
        let who = format!("worker {}", variable(&["ARROYO__WORKER__ID"]));
        Self { plan, signals, who, started, agenda: Vec::new(), finishing: false }
    }

    fn run(&mut self) -> io::Result<Exit> {
        say(format_args!(
            "{} started: job {} generation {} pipeline {} slots {} pid {}",
            self.who,
            variable(&["JOB_ID"]),
            variable(&["GENERATION", "RUN_ID"]),
            variable(&["PIPELINE_ID"]),
            variable(&["ARROYO__WORKER__TASK_SLOTS"]),
            process::id(),
        ));
        let _held = vec![1u8; self.plan.memory << 20];
        descendants::start_all(&self.plan)?;
        self.plan_ahead();
        say(format_args!("{} is ready", self.who));

        loop {
            while let Some(deed) = self.take_due() {
                if let Some(exit) = self.carry_out(deed) {
                    return Ok(exit);
                }
            }
            if self.plan.flood {
                say(format_args!("{} prints without end, as it was told", self.who));
            }
            if let Some(signal) = self.wait_for_signal()? {
                self.told_to_end(signal);
            }
        }
    }

    fn plan_ahead(&mut self) {
        let start = self.started;
        self.agenda.extend(self.plan.print_every.map(|every| (start + every, Deed::Print)));
        self.agenda
            .extend(self.plan.exit_after.map(|(time, code)| (start + time, Deed::Exit(code))));
        self.agenda.extend(self.plan.die_after.map(|(time, sig)| (start + time, Deed::Die(sig))));
    }

    fn take_due(&mut self) -> Option<Deed> {
        let now = Instant::now();
        let due = self.agenda.iter().position(|(at, _)| *at <= now)?;
        Some(self.agenda.swap_remove(due).1)
    }

    fn carry_out(&mut self, deed: Deed) -> Option<Exit> {
        let age = humantime::format_duration(Duration::from_secs(self.started.elapsed().as_secs()));
        match deed {
            Deed::Print => {
                say(format_args!("{} has been running for {age}", self.who));
                let every = self.plan.print_every.expect("only then is printing on the agenda");
                self.agenda.push((Instant::now() + every, Deed::Print));
                None
            }
            Deed::Exit(code) => {
                say(format_args!("{} exits with code {code}, as it was told", self.who));
                process::exit(code)
            }
            Deed::Die(by) => {
                say(format_args!("{} dies by {by}, as it was told", self.who));
                Some(die(by))
            }
            Deed::Finish(by) => {
                say(format_args!("{} finished on {by} after {age}", self.who));
                Some(Exit::Ok)
            }
        }
    }

    fn told_to_end(&mut self, signal: Signal) {
        if self.plan.ignore_sigterm {
            say(format_args!("{} takes no notice of {signal}", self.who));
        } else if !self.finishing {
            self.finishing = true;
            self.agenda.push((Instant::now() + self.plan.finish_takes, Deed::Finish(signal)));
        }
    }

    /// Waits for a signal until the next entry of the agenda is due; not at all while flooding.
    fn wait_for_signal(&self) -> io::Result<Option<Signal>> {
        let next = self.agenda.iter().map(|(at, _)| *at).min();
        let timeout = match next {
            _ if self.plan.flood => PollTimeout::ZERO,
            None => PollTimeout::NONE,
            // Poll counts whole milliseconds and would return too early, again and again.
            Some(at) => {
                let wait = at.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
                PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX)
            }
        };
        let mut descriptors = [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        match poll(&mut descriptors, timeout) {
            Ok(0) | Err(nix::Error::EINTR) => return Ok(None),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        let info = self.signals.read_signal()?;
        Ok(info.and_then(|info| Signal::try_from(info.ssi_signo as i32).ok()))
    }
}

/// Dies by a signal, and leaves no core file. Returns only if the signal does not kill.
fn die(by: Signal) -> Exit {
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
    // SAFETY: SigDfl installs no handler, so no code can run in a signal's context. What it
    // replaces are the handlers of Rust's runtime, which this process does not need any more.
    let _ = unsafe { signal(by, SigHandler::SigDfl) };
    let _ = SigSet::from_iter([by]).thread_unblock();
    let _ = raise(by);
    say(format_args!("{by} did not end this process"));
    Exit::Failed
}

/// The first of these variables that is set, or a dash.
fn variable(names: &[&str]) -> String {
    names.iter().find_map(|name| env::var(name).ok()).unwrap_or_else(|| "-".to_owned())
}
