//! Follows one controller's events into the ledger, until that controller is gone.

use std::{collections::BTreeSet, sync::Arc};

use tokio::sync::mpsc::UnboundedReceiver;

use super::town::Town;
use crate::{controller::ControllerEvent, ids::WorkerId, runtime::process::alive_of};

pub(super) async fn watch(town: Arc<Town>, mut events: UnboundedReceiver<ControllerEvent>) {
    while let Some(first) = events.recv().await {
        let mut batch = vec![first];
        while let Ok(event) = events.try_recv() {
            batch.push(event);
        }
        let reported: BTreeSet<WorkerId> = batch
            .iter()
            .filter_map(|event| match event {
                ControllerEvent::WorkerFinished { report, .. } => Some(report.worker),
                _ => None,
            })
            .collect();
        // Who is alive now was alive when its end was reported.
        let alive = if reported.is_empty() { Ok(Vec::new()) } else { alive_of(&reported) };
        let mut ledger = town.ledger();
        batch.iter().for_each(|event| ledger.heard(event));
        for (worker, process) in alive.unwrap_or_default() {
            let pid = process.pid;
            ledger.broke(format!("worker {worker} was reported ended, and pid {pid} of it lives"));
        }
    }
}
