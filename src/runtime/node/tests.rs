//! What ends an agent besides being told to.

use super::*;
use crate::runtime::{process::WorkerCommand, shutdown::shutdown_channel};

#[tokio::test]
async fn the_panic_of_a_part_ends_the_agent_with_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let node = NodeServer::builder()
        .bind(([127, 0, 0, 1], 0).into())
        .controller("http://127.0.0.1:9")
        .state_dir(directory.path())
        .worker(WorkerCommand::new("/bin/true"))
        .supervision(Supervision::InProcess)
        .build();
    let node = node.bind().await.unwrap();
    let essential = node.essential.clone();
    let (_trigger, guard) = shutdown_channel();
    let agent = tokio::spawn(node.run(guard));
    essential.thread("doomed", || panic!("no such thing")).unwrap();
    let error = agent.await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "the thread doomed panicked: no such thing");
}
