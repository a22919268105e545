//! Every agent is told to detach, one after the other within a minute; the next one of each comes
//! up a moment later, reads the rows, adopts the workers, and registers. Meanwhile some workers
//! crash, some of them while no agent runs.

use std::time::Duration;

use super::scene::Scene;
use crate::{
    scale::{
        agenda::{Happening, NodeIndex},
        node::Until,
    },
    streams::{Stream, below, between, stream},
};

pub(super) const STORY: &str = "Every agent is replaced within a minute, each in one to two \
     seconds; meanwhile a worker crashes on every fifth node.";

const WITHIN: Duration = Duration::from_secs(60);

pub(super) fn act(scene: &mut Scene<'_>) {
    let cluster = &mut *scene.cluster;
    let mut dice = stream(cluster.settings.seed, Stream::Workload);
    cluster.await_at(Until::Heard, |_| false);
    let nodes = cluster.nodes.len();
    for number in 0..nodes {
        let node = NodeIndex(number);
        let goes = WITHIN.mul_f64(number as f64 / nodes as f64);
        let comes = goes + Duration::from_millis(between(&mut dice, 1_000, 2_000));
        cluster.world.after(goes, Happening::Detach(node));
        cluster.world.after(comes, Happening::Boot(node));
        match number % 10 {
            0 => {
                let wait = Duration::from_millis(below(&mut dice, WITHIN.as_millis() as u64));
                cluster.world.after(wait, Happening::Crash(node));
            }
            // While nobody looks.
            5 => cluster.world.after((goes + comes) / 2, Happening::Crash(node)),
            _ => {}
        }
    }
    cluster.run_for(WITHIN + Duration::from_secs(2));
}
