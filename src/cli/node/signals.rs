//! The signals that end an agent, from its first moment on.
//!
//! They are heard before anything that may take long: by default a signal kills, and a start that
//! was killed halfway leaves workers of an earlier agent unattended. An agent that is told to end
//! while it starts does so once it has started. If it does not get that far, since its disk hangs
//! say, another signal a second later or more has it exit at once.

use std::{
    process,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use nix::sys::signal::Signal;
use tokio::{
    runtime::Runtime,
    signal::unix::{SignalKind, signal},
    time::Instant,
};

use super::inherited;
use crate::{
    cli::exit::{Exit, complain},
    machine::Shutdown,
    runtime::shutdown::ShutdownTrigger,
};

/// Two signals within this time are one wish: `timeout` sends two.
const SAME_WISH: Duration = Duration::from_secs(1);

/// Whether the agent serves already, so that it hears of signals itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Serving(Arc<AtomicBool>);

impl Serving {
    pub(super) fn begin(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn has_begun(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Hears signals from now on, and acts on them once this runtime is driven.
///
/// # Errors
/// The kernel takes no handler.
pub(super) fn watch(
    runtime: &Runtime,
    trigger: ShutdownTrigger,
    serving: Serving,
) -> anyhow::Result<()> {
    let _context = runtime.enter();
    let mut terminate = signal(SignalKind::terminate()).context("cannot watch SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch SIGINT")?;
    let mut detach = signal(SignalKind::user_defined1()).context("cannot watch SIGUSR1")?;
    let hears_hangup = !inherited::is_ignored(Signal::SIGHUP);
    let hangup = hears_hangup.then(|| signal(SignalKind::hangup())).transpose();
    let mut hangup = hangup.context("cannot watch SIGHUP")?;
    runtime.spawn(async move {
        let mut next = async || {
            tokio::select! {
                _ = terminate.recv() => Shutdown::StopWorkers,
                _ = interrupt.recv() => Shutdown::StopWorkers,
                _ = detach.recv() => Shutdown::Detach,
                Some(_) = async { hangup.as_mut()?.recv().await } => Shutdown::Detach,
            }
        };
        let mut first: Option<Instant> = None;
        loop {
            trigger.shut_down(next().await);
            let told = *first.get_or_insert_with(Instant::now);
            if !serving.has_begun() && told.elapsed() >= SAME_WISH {
                complain(format_args!("error: told to end twice before it had started"));
                process::exit(i32::from(Exit::Failed as u8));
            }
        }
    });
    Ok(())
}
