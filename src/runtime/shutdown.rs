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
    /// Ends them this way. To say it again, a second later or more, makes an agent that stops its
    /// workers kill them.
    pub fn shut_down(&self, how: Shutdown) {
        self.0.send_replace(Some(how));
    }
}

/// Lets an agent know when it has to end. Clones share the trigger.
#[derive(Clone, Debug)]
pub struct ShutdownGuard(watch::Receiver<Option<Shutdown>>);

impl ShutdownGuard {
    /// Ready once the trigger was pulled, and again each time that it is pulled after that. Never
    /// ready if it was dropped before.
    pub async fn told(&mut self) -> Shutdown {
        if self.0.changed().await.is_ok()
            && let Some(how) = *self.0.borrow_and_update()
        {
            return how;
        }
        std::future::pending().await
    }
}
