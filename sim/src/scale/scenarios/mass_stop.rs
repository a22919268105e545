//! Every worker is told to stop in the same moment: each end is a report, and all come at once.

use super::scene::Scene;
use crate::scale::node::Until;

pub(super) const STORY: &str = "Every worker is told to stop in the same moment.";

pub(super) fn act(scene: &mut Scene<'_>) {
    let cluster = &mut *scene.cluster;
    cluster.await_at(Until::Empty, |_| true);
    cluster.controller.stop_everything(&mut cluster.world);
}
