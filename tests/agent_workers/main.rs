//! One agent with real workers: what StartWorker, StopWorker and GetWorkers do to processes, and
//! what the controller is told of it. The agent is the library's `NodeServer`, its controller a
//! plain tonic server, its worker this program's own.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod ends;
mod generations;
mod many;
mod refusals;
mod starts;
mod stops;
#[path = "../support/mod.rs"]
mod support;

use support::{
    agent::{Agent, Home},
    controller::Recorder,
};

/// One agent, its controller, and where it lives; dropped from the top.
struct Bench {
    agent: Agent,
    recorder: Recorder,
    home: Home,
}

impl Bench {
    async fn new() -> Self {
        Self::with(|builder| builder).await
    }

    async fn with(
        change: impl FnOnce(arroyo_node::NodeBuilder) -> arroyo_node::NodeBuilder,
    ) -> Self {
        Self::at(Home::new(), change).await
    }

    async fn at(
        home: Home,
        change: impl FnOnce(arroyo_node::NodeBuilder) -> arroyo_node::NodeBuilder,
    ) -> Self {
        let recorder = Recorder::start().await;
        let agent = home.start(&recorder.url(), change).await;
        agent.until_view("registered", |view| view.registered).await;
        Self { agent, recorder, home }
    }
}
