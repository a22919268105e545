//! A controller that has forgotten its nodes, with real agents, processes and sockets: what it does
//! not count any more is ended, makes room, or stays for a while.

mod support;

use std::time::{Duration, Instant};

use arroyo_node::{
    ids::Generation,
    machine::{Dialect, Shutdown},
    rpc::wire::WorkerStatus,
};
use nix::sys::signal::Signal;
use support::{
    agent::{Agent, Home},
    controller::{Reference, job, only_worker_of, runs},
    eventually, soon,
};

/// Small nodes.
const SLOTS: u64 = 4;

/// The workers of an agent that are alive.
async fn live(agent: &Agent) -> Vec<WorkerStatus> {
    let workers = agent.workers().await;
    workers.into_iter().filter(|worker| worker.running).collect()
}

async fn cluster(controller: &Reference) -> Vec<(Home, Agent)> {
    let mut nodes = Vec::new();
    for _ in 0..3 {
        let home = Home::new();
        let agent = home.start(&controller.url(), |builder| builder.task_slots(SLOTS)).await;
        nodes.push((home, agent));
    }
    controller.until("three nodes", |books| books.nodes.len() == 3).await;
    nodes
}

#[tokio::test]
async fn after_a_restart_with_empty_books_every_slot_that_these_call_free_can_be_had() {
    let mut controller = Reference::start_patient().await;
    let nodes = cluster(&controller).await;
    let (home, _) = &nodes[0];
    controller.controller.submit(job(home, "a", 6, Dialect::V0_15)).expect("a new job");
    controller.until("it runs", |books| runs(books, "a", 1)).await;

    for restart in 1..=2 {
        let address = controller.die().await;
        controller = Reference::start_at(address).await;
        let mut again = job(home, "a", 6, Dialect::V0_15);
        again.last_generation = Generation(restart);
        controller.controller.submit(again).expect("its books are empty");
        controller.until("it runs anew", |books| runs(books, "a", restart + 1)).await;
        // Fits the books beside it, and needs the slots that the old workers held.
        let other = format!("b-{restart}");
        controller.controller.submit(job(home, &other, 6, Dialect::V0_15)).expect("a new job");
        let books = controller.until("both run", |books| runs(books, &other, 1)).await;

        let mut alive = Vec::new();
        for (_, agent) in &nodes {
            alive.extend(live(agent).await);
        }
        assert_eq!(alive.iter().map(|worker| worker.slots).sum::<u64>(), 12, "{alive:?}");
        let old = |worker: &&WorkerStatus| worker.abandoned || worker.generation <= restart;
        let old = alive.iter().filter(|worker| worker.job_id == "a").find(old);
        assert_eq!(old, None, "nothing of the old run is left");
        assert_eq!(books.workers.len(), alive.len(), "the books know everything that runs");
    }
    for (_, agent) in nodes {
        agent.end(Shutdown::StopWorkers).await;
    }
}

#[tokio::test]
async fn a_start_that_failed_on_one_node_is_tried_again_under_the_same_run() {
    let controller = Reference::start_patient().await;
    let (near, far) = (Home::new(), Home::new());
    let small = |builder: arroyo_node::NodeBuilder| builder.task_slots(SLOTS);
    let agent = near.start(&controller.url(), small).await;
    let other = far.start(&controller.url(), small).await;
    controller.until("two nodes", |books| books.nodes.len() == 2).await;
    other.end(Shutdown::Detach).await;

    controller.controller.submit(job(&near, "a", 8, Dialect::V0_15)).expect("a new job");
    // Its first tries start a worker here, or none, and fail there.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let other = far.start(&controller.url(), small).await;
    let books = controller.until("it runs", |books| runs(books, "a", 1)).await;
    for agent in [&agent, &other] {
        let alive = live(agent).await;
        assert_eq!(alive.len(), 1, "{alive:?}");
        assert!(books.workers.keys().any(|id| id.0 == alive[0].worker_id), "the last try's");
    }
    for agent in [agent, other] {
        agent.end(Shutdown::StopWorkers).await;
    }
}

/// For stock a node is gone after 30 s of silence, and so is what it runs; for all the agent can
/// tell, it has been asleep, and its workers may still be of use.
#[tokio::test]
async fn an_agent_that_was_stopped_keeps_its_workers_until_their_room_is_needed() {
    const ASLEEP: Duration = Duration::from_secs(32);
    let controller = Reference::start_forgetful(Duration::from_secs(10)).await;
    let home = Home::new();
    let mut agent = home.run(&controller.url(), &["--task-slots", "4"]).await;
    controller.controller.submit(job(&home, "a", 2, Dialect::V0_15)).expect("a new job");
    let books = controller.until("it runs", |books| runs(books, "a", 1)).await;
    let id = only_worker_of(&books, "a");
    home.until_ready(id).await;

    agent.program.signal(Signal::SIGSTOP);
    let stopped = Instant::now();
    // Something is to be scheduled: only then are silent nodes forgotten.
    controller.controller.submit(job(&home, "b", 4, Dialect::V0_15)).expect("a new job");
    let forgotten = controller.controller.until(|books| books.nodes.is_empty());
    tokio::time::timeout(ASLEEP, forgotten).await.expect("the node is forgotten");
    tokio::time::sleep(ASLEEP.saturating_sub(stopped.elapsed())).await;
    agent.program.signal(Signal::SIGCONT);

    // It is told, keeps its worker, and registers; then job b's start needs the room.
    agent.program.line_with("its workers are abandoned").await;
    controller.until("b runs", |books| runs(books, "b", 1)).await;
    let workers = agent.workers().await;
    let old = workers.iter().find(|worker| worker.worker_id == id).expect("it is remembered");
    assert!(!old.running, "it made room: {workers:?}");
    let killed = agent.program.said().iter().position(|line| line.contains("SIGKILL"));
    let registered = agent.program.said().iter().rposition(|line| line.contains("registered with"));
    assert!(killed > registered, "not before the node was known again");
    assert_eq!(home.mark.count_of(id), 0);
    eventually("its end is reported", || controller.controller.snapshot().counters.finished > 0)
        .await;
    agent.program.signal(Signal::SIGTERM);
    soon("its end", agent.program.end()).await;
}
