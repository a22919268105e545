//! What stock's controller does, and nobody would do on purpose: real agents, workers and sockets
//! under the reference controller, which does it, too. The same in the simulator:
//! `sim/src/scenarios/quirks.rs`.
//!
//! | quirk | test |
//! |---|---|
//! | the lock held during StartWorker | [`lock`] |
//! | sequential stops that believe nothing but an error | [`mod@stops`] |
//! | registration that changes nothing | [`registration`] |
//! | NOT_FOUND heartbeats | [`registration`]; `a_node_that_is_forgotten_registers_again` (`agent_controller.rs`) |
//! | books that are lost with the process, and workers left behind | `abandoned_workers.rs` |
//! | restart under the same id within 30 s | [`restart`] |
//! | a newer generation while old workers hold every slot | `after_a_restart_a_job_gets_its_slots_back_from_its_own_old_workers` (`agent_controller.rs`) |

mod lock;
mod registration;
mod restart;
mod stops;
#[path = "../support/mod.rs"]
mod support;

use arroyo_node::{
    controller::{ControllerEvent, StopAnswer},
    ids::WorkerId,
};
use tokio::sync::mpsc::UnboundedReceiver;

use support::soon;

/// Waits until the controller says that this has happened, and returns what it said up to then.
async fn told(
    events: &mut UnboundedReceiver<ControllerEvent>,
    what: &str,
    is: impl Fn(&ControllerEvent) -> bool,
) -> Vec<ControllerEvent> {
    soon(what, async {
        let mut seen = Vec::new();
        while !seen.last().is_some_and(&is) {
            seen.push(events.recv().await.expect("the controller goes on"));
        }
        seen
    })
    .await
}

/// Stops that a node was asked for, and what it made of them, in order.
fn stop_answers(events: &[ControllerEvent]) -> Vec<(WorkerId, StopAnswer)> {
    let tried = events.iter().filter_map(|event| match event {
        ControllerEvent::StopTried {
            worker,
            answer: answer @ (StopAnswer::Answered(_) | StopAnswer::CallFailed(_)),
        } => Some((*worker, answer.clone())),
        _ => None,
    });
    tried.collect()
}
