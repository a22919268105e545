//! The production controller port: each call is a task of its own, answered as an event.

use std::sync::Arc;

use super::{
    essential::Essential,
    ports::{Controller, Events},
};
use crate::{
    machine::{Event, Heartbeat, Registration, Report},
    rpc::client::{ControllerClient, Notification},
};

impl From<Notification> for Event {
    fn from(notification: Notification) -> Self {
        match notification {
            Notification::Lost(loss) => Event::ConnectionLost(loss),
            Notification::LateAnswer => Event::LateAnswer,
        }
    }
}

/// Calls the controller over gRPC.
#[derive(Clone, Debug)]
pub struct GrpcController {
    client: Arc<ControllerClient>,
    events: Events,
    essential: Essential,
}

impl GrpcController {
    /// A port that calls through `client` and answers to `events`. A call that panics has no
    /// answer, so it ends the agent.
    pub fn new(client: ControllerClient, events: Events, essential: Essential) -> Self {
        Self { client: Arc::new(client), events, essential }
    }

    fn call<F>(&self, call: impl FnOnce(Arc<ControllerClient>) -> F)
    where
        F: Future<Output = Event> + Send + 'static,
    {
        let events = self.events.clone();
        let call = call(self.client.clone());
        let task = async move { events.send(call.await) };
        self.essential.task("controller call", task);
    }
}

impl Controller for GrpcController {
    fn register(&mut self, registration: Registration) {
        self.call(|client| async move { Event::Registered(client.register(registration).await) });
    }

    fn heartbeat(&mut self, heartbeat: Heartbeat) {
        self.call(|client| async move {
            Event::HeartbeatAnswered { heartbeat, result: client.heartbeat(heartbeat).await }
        });
    }

    fn report(&mut self, report: Report) {
        self.call(|client| async move {
            let result = client.worker_finished(&report).await;
            Event::ReportAnswered { worker: report.worker, result }
        });
    }
}
