//! Do the controller's books and the agents' agree?

use std::collections::{BTreeMap, BTreeSet};

use arroyo_node::{
    controller::Snapshot,
    ids::{MachineId, WorkerId},
};

use super::{cluster::Cluster, node::Node};

/// The first thing on which they differ, if any.
pub(super) fn disagreement(cluster: &Cluster) -> Option<String> {
    if let Some(violation) = cluster.controller.violations().first() {
        return Some(format!("a node did what it must never do: {violation}"));
    }
    if let Some(fault) = cluster.world.ledger.fault() {
        return Some(fault);
    }
    let books = cluster.controller.books().snapshot();
    let mut theirs: BTreeMap<&MachineId, BTreeSet<WorkerId>> = BTreeMap::new();
    for (id, worker) in &books.workers {
        theirs.entry(&worker.node).or_default().insert(*id);
    }
    if books.nodes.len() != cluster.nodes.len() {
        return Some(format!("{} nodes, {} in the books", cluster.nodes.len(), books.nodes.len()));
    }
    let differ = |node: &Node| difference(node, &books, &theirs).err();
    cluster.nodes.iter().find_map(differ)
}

fn difference(
    node: &Node,
    books: &Snapshot,
    theirs: &BTreeMap<&MachineId, BTreeSet<WorkerId>>,
) -> Result<(), String> {
    let view = node.view().ok_or("a node on which no agent runs")?;
    let name = &view.machine;
    if !view.registered {
        return Err(format!("{name} is not registered"));
    }
    if view.reports_owed > 0 || node.rows().owed() > 0 {
        return Err(format!("{name} owes {} reports", view.reports_owed));
    }
    let entry = books.nodes.get(name).ok_or_else(|| format!("{name} is not in the books"))?;
    let live: BTreeSet<WorkerId> =
        view.workers.iter().filter(|worker| worker.is_live()).map(|worker| worker.id).collect();
    let rows = node.rows().workers().filter(|worker| worker.is_live()).map(|worker| worker.id);
    if rows.collect::<BTreeSet<_>>() != live {
        return Err(format!("{name}: its journal holds other workers than run"));
    }
    let known = theirs.get(name).cloned().unwrap_or_default();
    if known != live {
        let (known, live) = (known.len(), live.len());
        return Err(format!("{name}: {live} workers run, {known} in the books, or others"));
    }
    if (entry.slots, entry.free()) != (view.task_slots, view.free_slots) {
        return Err(format!(
            "{name}: {} of {} slots are free, in the books {} of {}",
            view.free_slots,
            view.task_slots,
            entry.free(),
            entry.slots
        ));
    }
    Ok(())
}
