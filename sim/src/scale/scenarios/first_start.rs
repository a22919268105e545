//! All agents come up within ten seconds, in no order; the controller has jobs for every slot.

use std::time::Duration;

use super::scene::Scene;
use crate::{
    scale::{
        agenda::{Happening, NodeIndex},
        node::Until,
    },
    streams::{Stream, below, stream},
};

pub(super) const STORY: &str =
    "All agents come up within ten seconds, and the controller has jobs for every slot.";

const WITHIN: Duration = Duration::from_secs(10);

pub(super) fn act(scene: &mut Scene<'_>) {
    let cluster = &mut *scene.cluster;
    let mut dice = stream(cluster.settings.seed, Stream::Shape);
    let within = u64::try_from(WITHIN.as_nanos()).unwrap_or(u64::MAX);
    for number in 0..cluster.nodes.len() {
        let wait = Duration::from_nanos(below(&mut dice, within));
        cluster.world.after(wait, Happening::Boot(NodeIndex(number)));
        let since = cluster.world.now + wait;
        cluster.nodes[number].await_from(since, Until::Heard);
    }
    cluster.controller.run_jobs(&mut cluster.world);
}
