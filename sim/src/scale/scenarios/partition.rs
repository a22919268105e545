//! Every third node is cut off, and connected again later. Meanwhile some workers crash, on both
//! sides: what ends on the far side is owed until the network is whole.

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
    "Every third node is cut off for 40 s; meanwhile a worker crashes on every fifth.";

const LASTS: Duration = Duration::from_secs(40);

pub(super) fn act(scene: &mut Scene<'_>) {
    let cluster = &mut *scene.cluster;
    let mut dice = stream(cluster.settings.seed, Stream::Faults);
    cluster.await_at(Until::Heard, |_| false);
    for number in 0..cluster.nodes.len() {
        let node = NodeIndex(number);
        cluster.world.network.set_cut(node, is_cut_off(node));
        if number.is_multiple_of(5) {
            let wait = Duration::from_millis(below(&mut dice, LASTS.as_millis() as u64));
            cluster.world.after(wait, Happening::Crash(node));
        }
    }
    scene.endure(LASTS);
    let cluster = &mut *scene.cluster;
    for number in 0..cluster.nodes.len() {
        cluster.world.network.set_cut(NodeIndex(number), false);
    }
    cluster.await_at(Until::Heard, is_cut_off);
}

fn is_cut_off(node: NodeIndex) -> bool {
    node.0.is_multiple_of(3)
}
