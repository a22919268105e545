//! The network: how long a message takes, and who is cut off.
//!
//! A message that arrives where the way is cut is lost. The two ways of one connection keep their
//! messages in order, as TCP does; see [`link`](super::link).

use std::time::Duration;

use rand_chacha::ChaCha8Rng;

use super::{agenda::NodeIndex, settings::Settings};
use crate::streams::{Stream, below, stream};

/// Between the nodes and the controller.
pub(super) struct Network {
    delay: Duration,
    jitter: Duration,
    dice: ChaCha8Rng,
    cut: Vec<bool>,
}

impl Network {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            delay: settings.delay,
            jitter: settings.jitter,
            dice: stream(settings.seed, Stream::Network),
            cut: vec![false; settings.nodes],
        }
    }

    /// How long the next message takes, one way.
    pub(super) fn leg(&mut self) -> Duration {
        let jitter = u64::try_from(self.jitter.as_nanos()).unwrap_or(u64::MAX);
        self.delay + Duration::from_nanos(below(&mut self.dice, jitter))
    }

    /// Cuts a node off, or connects it again.
    pub(super) fn set_cut(&mut self, node: NodeIndex, cut: bool) {
        self.cut[node.0] = cut;
    }

    /// Whether nothing passes between this node and the controller.
    pub(super) fn is_cut(&self, node: NodeIndex) -> bool {
        self.cut[node.0]
    }
}
