//! Telling an agent to end, from the program that runs it.

use tokio::sync::watch;

use crate::machine::Shutdown;

/// A trigger, and the guard that an agent watches.
pub fn shutdown_channel() -> (ShutdownTrigger, ShutdownGuard) {
    let (sender, receiver) = watch::channel(None);
    (ShutdownTrigger(sender), ShutdownGuard(receiver))
}

/// Ends the agents whose guards belong to it. Dropping it ends nothing.
#[derive(Clone, Debug)]
pub struct ShutdownTrigger(watch::Sender<Option<Shutdown>>);

impl ShutdownTrigger {
    /// Ends them this way. The first call counts.
    pub fn shut_down(&self, how: Shutdown) {
        self.0.send_if_modified(|told| {
            let first = told.is_none();
            told.get_or_insert(how);
            first
        });
    }
}

/// Lets an agent know when it has to end. Clones share the trigger.
#[derive(Clone, Debug)]
pub struct ShutdownGuard(watch::Receiver<Option<Shutdown>>);

impl ShutdownGuard {
    /// Ready once the trigger was pulled. Never ready if it was dropped before.
    pub async fn told(&mut self) -> Shutdown {
        if let Ok(told) = self.0.wait_for(Option::is_some).await
            && let Some(how) = *told
        {
            return how;
        }
        std::future::pending().await
    }
}
