//! One agent after the other over the same workers, with more and more of what the first one left
//! gone or wrong.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod dialects;
mod journal;
mod many;
mod strangers;
#[path = "../support/mod.rs"]
mod support;
mod upgrade;

use arroyo_node::rpc::wire::{WorkerExit, WorkerStatus};
use support::{
    agent::Home, calls::unknown, controller::Recorder, processes, program::AgentProgram,
};

/// A home with an agent that is registered and some workers that are ready.
struct Bench {
    agent: AgentProgram,
    recorder: Recorder,
    /// As the agent listed them, in the order of their starts: 1, 2 and 3 slots.
    workers: Vec<WorkerStatus>,
    home: Home,
}

impl Bench {
    async fn new() -> Self {
        let home = Home::new();
        let recorder = Recorder::start().await;
        let agent = home.run(&recorder.url(), &[]).await;
        agent.until_status("registered", |status| status.registered).await;
        let mut workers = Vec::new();
        for slots in 1..=3 {
            let children = if slots == 3 { "setsid,daemon" } else { "" };
            let job = format!("job-{slots}");
            let id = agent.start(home.request(&job, slots, &[("WORKER_CHILDREN", children)])).await;
            home.until_ready(id).await;
            workers.push(agent.worker(id).await);
        }
        home.until_alive(workers[2].worker_id, 3).await;
        Self { agent, recorder, workers, home }
    }

    /// Another agent, which has registered.
    async fn run(&mut self) {
        self.agent = self.home.run(&self.recorder.url(), &[]).await;
        self.agent.until_status("registered", |status| status.registered).await;
    }

    async fn kill_agent(&mut self) {
        self.agent.program.kill().await;
    }

    async fn kill_shim(&self) {
        processes::kill_shim(&self.home.state_dir()).await;
    }

    /// All workers run as they did, hold their slots, and none was reported.
    async fn assert_adopted(&self) {
        let mut listed = self.agent.workers().await;
        listed.sort_by_key(|worker| worker.slots);
        assert_eq!(listed, self.workers);
        assert_eq!(self.agent.status().await.free_slots, 10);
        assert_eq!(self.home.mark.count_of(self.workers[2].worker_id), 3);
        assert_eq!(self.recorder.record().reports, []);
    }

    /// Stops all workers, and sees each reported with its own slots.
    async fn stop_all(&self, expected: Option<WorkerExit>) {
        for worker in &self.workers {
            let id = worker.worker_id;
            self.agent.stop_by_force(id).await;
            assert_eq!(self.recorder.report_of(id).await.slots, worker.slots);
            let exit = self.agent.until_reported(id).await.exit;
            assert!(exit == expected || exit == unknown(), "{exit:?}");
        }
        assert_eq!(self.home.mark.workers(), []);
        assert_eq!(self.agent.status().await.free_slots, 16);
    }
}
