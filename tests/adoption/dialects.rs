//! In which dialect an end is reported is settled by the worker's start, and kept with the worker.

use arroyo_node::rpc::wire::FinishedWorker;

use crate::support::{agent::Home, controller::Recorder};

#[tokio::test]
async fn an_end_is_reported_in_the_dialect_of_its_start_whatever_the_next_agent_is_told() {
    let home = Home::new();
    let recorder = Recorder::start().await;
    let mut agent = home.run(&recorder.url(), &[]).await;
    let old = agent.start(home.request("old", 1, &[])).await;
    let mut request = home.request("new", 2, &[]);
    request.pipeline_id = "pl_1".to_owned();
    let new = agent.start(request).await;
    agent.program.kill().await;

    let agent = home.run(&recorder.url(), &["--dialect", "0.16"]).await;
    let forced = agent.start(home.request("forced", 3, &[])).await;
    for (worker, slots) in [(old, 1), (new, 2), (forced, 3)] {
        agent.stop_by_force(worker).await;
        let report = recorder.report_of(worker).await;
        assert_eq!(report.slots, slots);
        match report.worker.unwrap() {
            FinishedWorker::Info(info) => assert_eq!((worker, info.worker_id), (old, old)),
            FinishedWorker::Context(context) => {
                assert_ne!(worker, old);
                let pipeline = if worker == new { "pl_1" } else { "" };
                assert_eq!((context.worker_id, context.pipeline_id.as_str()), (worker, pipeline));
            }
        }
    }
}
