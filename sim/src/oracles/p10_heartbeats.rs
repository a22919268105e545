//! P10: connected and healthy, heartbeats come at least every 5 s + jitter, whatever else the agent
//! has to say; and an agent that the controller does not know registers anew.

use std::time::Duration;

use super::{Oracle, Sight, Verdict};
use crate::past::Past;

/// 5 s, the jitter, and the way there.
const EVERY: Duration = Duration::from_millis(5_500 + 1_500);
/// Keepalive, the deadline of a call, and the longest backoff: what it takes to come back.
const RETURN: Duration = Duration::from_secs(22);

/// Watches for silence that nothing accounts for.
pub(super) struct Heartbeats;

impl Oracle for Heartbeats {
    fn promise(&self) -> &'static str {
        "P10 heartbeats come in time"
    }

    fn look(&mut self, sight: &Sight<'_>, past: &Past) -> Verdict {
        let Some(controller) = past.controller_since else { return Ok(()) };
        for (number, agent) in past.agents.iter().enumerate() {
            let Some(up) = agent.running_since else { continue };
            let calm = agent.hindered_at.max(up).max(controller);
            let heard = agent.last_heard.unwrap_or_default();
            if calm + RETURN < sight.now && heard + EVERY < sight.now {
                return Err(format!(
                    "agent {number} was last heard at {heard:?}, with nothing in its way since \
                     {calm:?}"
                ));
            }
        }
        Ok(())
    }
}
