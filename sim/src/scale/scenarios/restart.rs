//! The controller is killed and comes back with empty memory. Every agent registers again; then
//! the controller runs every job anew, one generation up, which ends the workers of before.

use std::time::Duration;

use super::scene::Scene;
use crate::scale::node::Until;

pub(super) const STORY: &str =
    "It comes back with empty memory, and when all nodes are back it runs every job anew.";

pub(super) fn act(scene: &mut Scene<'_>, outage: Duration) {
    scene.cluster.kill_controller();
    scene.endure(outage);
    let now = scene.cluster.world.now;
    scene.cluster.controller.rise(now);
    scene.cluster.await_at(Until::Heard, |_| true);
    scene.until_back();
    scene.cluster.controller.run_jobs(&mut scene.cluster.world);
}
