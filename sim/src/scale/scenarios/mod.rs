//! The scenarios, one after the other in the same cluster.
//!
//! ```text
//!  play: ── act (a file each) ──▶ wait until settled ──▶ calm ──▶ audit ─▶ Outcome
//! ```

mod first_start;
mod mass_stop;
mod partition;
mod restart;
mod scene;
mod upgrade;

use std::time::Duration;

use super::{cluster::Cluster, outcome::Outcome, settings::Settings};
use scene::Scene;

/// One thing that is done to the cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Scenario {
    /// All agents come up, and all jobs are run.
    FirstStart,
    /// The controller is killed, and comes back with empty memory after so long.
    Restart(Duration),
    /// A third of the nodes is cut off for a while.
    Partition,
    /// Every agent is replaced.
    Upgrade,
    /// Every worker is stopped.
    MassStop,
}

impl Scenario {
    /// All of them, in an order in which each finds what it needs.
    pub(super) fn all(settings: &Settings) -> Vec<Self> {
        let restarts = settings.outages.iter().copied().map(Self::Restart);
        let rest = [Self::Partition, Self::Upgrade, Self::MassStop];
        [Self::FirstStart].into_iter().chain(restarts).chain(rest).collect()
    }

    /// Does it, and waits until all is well.
    pub(super) fn play(self, cluster: &mut Cluster) -> Outcome {
        let mut scene = Scene::open(cluster);
        match self {
            Self::FirstStart => first_start::act(&mut scene),
            Self::Restart(outage) => restart::act(&mut scene, outage),
            Self::Partition => partition::act(&mut scene),
            Self::Upgrade => upgrade::act(&mut scene),
            Self::MassStop => mass_stop::act(&mut scene),
        }
        scene.close(self)
    }

    fn name(self) -> String {
        match self {
            Self::FirstStart => "first start".into(),
            Self::Restart(outage) => format!("restart, {} s down", outage.as_secs_f64()),
            Self::Partition => "partition".into(),
            Self::Upgrade => "rolling upgrade".into(),
            Self::MassStop => "mass stop".into(),
        }
    }

    fn story(self) -> String {
        match self {
            Self::FirstStart => first_start::STORY.into(),
            Self::Restart(outage) => {
                format!("The controller is down for {outage:?}. {}", restart::STORY)
            }
            Self::Partition => partition::STORY.into(),
            Self::Upgrade => upgrade::STORY.into(),
            Self::MassStop => mass_stop::STORY.into(),
        }
    }
}
