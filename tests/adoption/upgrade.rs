//! The program is replaced under a running agent, and then the agent.

use std::{
    fs,
    path::{Path, PathBuf},
};

use arroyo_node::rpc::wire::StartWorkerReq;

use crate::support::{
    PROGRAM,
    agent::Home,
    controller::Recorder,
    processes::kill_shim,
    program::{AgentProgram, Program},
};

/// Puts another copy of the program in its place, as a package manager does.
fn install(home: &Home) -> PathBuf {
    let installed = home.scratch().join("arroyo-node");
    let fresh = home.scratch().join("arroyo-node.new");
    fs::copy(PROGRAM, &fresh).unwrap();
    fs::rename(&fresh, &installed).unwrap();
    installed
}

/// What an agent is told that makes up its name, or is given this one.
fn arguments(home: &Home, controller: &str, id: Option<&str>) -> Vec<String> {
    let mut arguments = home.arguments(controller);
    let at = arguments.iter().position(|argument| argument == "--id").unwrap();
    arguments.drain(at..at + 2);
    arguments.extend(id.iter().flat_map(|id| ["--id".to_owned(), (*id).to_owned()]));
    arguments
}

fn run(program: &Path, home: &Home, controller: &str, id: Option<&str>) -> Program {
    let arguments = arguments(home, controller, id);
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    Program::run_copy(program, &home.mark, &arguments, &[])
}

/// Starts a worker and waits until it is ready.
async fn start(agent: &AgentProgram, home: &Home, machine: &str, job: &str) -> u64 {
    let request = home.request(job, 1, &[]);
    let request = StartWorkerReq { machine_id: machine.to_owned(), ..request };
    let id = agent.start(request).await;
    home.until_ready(id).await;
    id
}

#[tokio::test]
async fn an_agent_is_replaced_with_its_program() {
    let home = Home::new();
    let recorder = Recorder::start().await;
    let installed = install(&home);
    let mut agent = AgentProgram::serving(run(&installed, &home, &recorder.url(), None)).await;
    let machine = agent.status().await.machine_id;
    let mut workers = vec![start(&agent, &home, &machine, "before").await];

    install(&home);
    workers.push(start(&agent, &home, &machine, "replaced").await);
    kill_shim(&home.state_dir()).await;
    workers.push(start(&agent, &home, &machine, "replaced, with a new shim").await);

    fs::remove_file(&installed).unwrap();
    workers.push(start(&agent, &home, &machine, "deleted").await);
    kill_shim(&home.state_dir()).await;
    workers.push(start(&agent, &home, &machine, "deleted, with a new shim").await);
    let before = agent.workers().await;
    assert_eq!(before.len(), workers.len());

    install(&home);
    let address = agent.address.to_string();
    let detach = ["detach", "--addr", &address];
    assert!(Program::run_copy(&installed, &home.mark, &detach, &[]).end().await.success());
    assert_eq!(agent.program.end().await.code(), Some(0));
    let agent = AgentProgram::serving(run(&installed, &home, &recorder.url(), None)).await;
    assert_eq!(agent.status().await.machine_id, machine);
    assert_eq!(agent.workers().await, before, "the same workers, with the same pids");
    workers.push(start(&agent, &home, &machine, "after").await);
    assert_eq!(recorder.record().reports, []);
    for id in workers {
        agent.stop_by_force(id).await;
        assert_eq!(recorder.report_of(id).await.slots, 1);
    }
    assert_eq!(home.mark.workers(), []);
}

#[tokio::test]
async fn another_machine_id_is_refused_while_workers_depend_on_it() {
    let home = Home::new();
    let recorder = Recorder::start().await;
    let program = Path::new(PROGRAM);
    let agent = AgentProgram::serving(run(program, &home, &recorder.url(), None)).await;
    let machine = agent.status().await.machine_id;
    let worker = start(&agent, &home, &machine, "job").await;
    drop(agent);

    let mut renamed = run(program, &home, &recorder.url(), Some("another"));
    assert_eq!(renamed.end().await.code(), Some(1));
    let error = renamed.line_with("error: ").await;
    for word in [machine.as_str(), "another", "1 of its workers", "stop the workers"] {
        assert!(error.contains(word), "{error}");
    }
    assert_eq!(home.mark.count_of(worker), 1);

    let mut agent = AgentProgram::serving(run(program, &home, &recorder.url(), None)).await;
    agent.until_status("registered", |status| status.registered).await;
    agent.stop_by_force(worker).await;
    agent.until_reported(worker).await;
    agent.program.kill().await;
    let agent = AgentProgram::serving(run(program, &home, &recorder.url(), Some("another"))).await;
    assert_eq!(agent.status().await.machine_id, "another");
}
