//! What stands around a worker and an agent: the worker's arguments and environment key by key, the
//! addresses under which an agent serves and is known, its admin routes.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    collections::BTreeMap, fs, net::SocketAddr, os::unix::fs::PermissionsExt as _, path::Path,
};

use support::{
    USUAL_PARENT,
    agent::Home,
    controller::Recorder,
    eventually, loopback, port_to_keep, processes,
    program::{AgentProgram, Program, get},
    soon,
};

/// A worker that writes down what it was given, and stays.
const NOTE_TAKER: &str = "#!/bin/sh\n\
    tr '\\0' '\\n' < /proc/$$/environ > \"$NOTES/environment\"\n\
    for word in \"$0\" \"$@\"; do echo \"$word\"; done > \"$NOTES/arguments\"\n\
    pwd > \"$NOTES/directory\"\n\
    touch \"$NOTES/done\"\n\
    exec sleep 90\n";

struct Notes {
    environment: BTreeMap<String, String>,
    arguments: Vec<String>,
    directory: String,
}

fn note_taker(home: &Home) -> String {
    let path = home.scratch().join("note-taker");
    fs::write(&path, NOTE_TAKER).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.to_str().unwrap().to_owned()
}

async fn notes(home: &Home) -> Notes {
    let read = |name: &str| fs::read_to_string(home.scratch().join(name)).unwrap_or_default();
    eventually("the worker's notes", || home.scratch().join("done").exists()).await;
    let environment = read("environment");
    let environment = environment.lines().filter_map(|line| line.split_once('='));
    Notes {
        environment: environment.map(|(name, value)| (name.into(), value.into())).collect(),
        arguments: read("arguments").lines().map(Into::into).collect(),
        directory: read("directory").trim_end().to_owned(),
    }
}

/// The variables that a worker is given besides those of the agent and of the request, as the
/// migration page lists them.
fn documented_variables() -> Vec<String> {
    let page = fs::read_to_string("docs/migrating.md").unwrap();
    let section = page.split("## What a worker is given").nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    rows.map(|(name, _)| name.to_owned()).collect()
}

/// An agent that is told everything by variables, beside others that it does not care about.
async fn told_by_variables(home: &Home, before: &[&str], more: &[(&str, &str)]) -> AgentProgram {
    let worker = note_taker(home);
    let (port, controller) = (home.address.port().to_string(), loopback(port_to_keep()));
    let controller = format!("http://{controller}");
    let (state, scratch) = (home.state_dir(), home.scratch());
    let mut env = vec![
        ("HOME", "/home/nobody"),
        ("ANYTHING", "at all"),
        ("RUST_LOG", "info,arroyo_node=info"),
        ("NOTES", scratch.to_str().unwrap()),
        ("ARROYO__CONTROLLER_ENDPOINT", &controller),
        ("ARROYO__CHECKPOINT_URL", "file:///checkpoints"),
        ("ARROYO__NODE__ID", &home.machine),
        ("ARROYO__NODE__BIND_ADDRESS", "127.0.0.1"),
        ("ARROYO__NODE__RPC_PORT", &port),
        ("ARROYO__ADMIN__BIND_ADDRESS", "127.0.0.1"),
        ("ARROYO__ADMIN__HTTP_PORT", "0"),
        ("ARROYO_NODE__STATE_DIR", state.to_str().unwrap()),
        ("ARROYO_NODE__WORKER__COMMAND", &worker),
        ("ARROYO_NODE__KILL_AFTER", "300ms"),
    ];
    env.extend(more);
    let flags = USUAL_PARENT.flags().iter().copied();
    let arguments: Vec<_> = before.iter().copied().chain(["node"]).chain(flags).collect();
    AgentProgram::serving(Program::run(&home.mark, &arguments, &env)).await
}

/// The variables that the request carries, over those that the agent has, under those that are the
/// agent's to set.
#[tokio::test]
async fn a_workers_environment_is_what_stock_gives_key_by_key() {
    for (generation, pipeline) in [(3, ""), (4, "pipe-1")] {
        let home = Home::new();
        let agent = told_by_variables(&home, &[], &[]).await;
        let mut request = home.request("job-1", 5, &[]);
        request.generation = generation;
        request.pipeline_id = pipeline.to_owned();
        let own = [("ANYTHING", "from the request"), ("ONLY_HERE", "with = and \"quotes\"")];
        let own = own.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let forged = documented_variables().into_iter().map(|name| (name, "forged".to_owned()));
        request.env_vars = own.into_iter().chain(forged).collect();
        let id = agent.start(request).await;

        let mut environment = notes(&home).await.environment;
        for from_here in ["PATH", processes::MARK, "NOTES", "ARROYO__CONTROLLER_ENDPOINT"] {
            assert!(environment.remove(from_here).is_some(), "{from_here}");
        }
        let mut expected = BTreeMap::from([
            ("RUST_LOG", "info".to_owned()),
            ("ARROYO__WORKER__ID", id.to_string()),
            ("ARROYO__WORKER__TASK_SLOTS", "5".into()),
            ("ARROYO__ADMIN__HTTP_PORT", "0".into()),
            ("JOB_ID", "job-1".into()),
            ("RUN_ID", generation.to_string()),
            ("GENERATION", generation.to_string()),
            // 0.15 knows no pipelines, and leaves that variable to the request.
            ("PIPELINE_ID", if pipeline.is_empty() { "forged" } else { pipeline }.into()),
        ]);
        let given: Vec<_> = expected.keys().map(|name| (*name).to_owned()).collect();
        let mut documented = documented_variables();
        documented.sort();
        assert_eq!(documented, given);
        expected.extend([
            ("ANYTHING", "from the request".to_owned()),
            ("ONLY_HERE", "with = and \"quotes\"".into()),
            ("HOME", "/home/nobody".into()),
            ("ARROYO__ADMIN__BIND_ADDRESS", "127.0.0.1".into()),
            ("ARROYO__CHECKPOINT_URL", "file:///checkpoints".into()),
            ("ARROYO__NODE__BIND_ADDRESS", "127.0.0.1".into()),
            ("ARROYO__NODE__ID", home.machine.clone()),
            ("ARROYO__NODE__RPC_PORT", home.address.port().to_string()),
        ]);
        let environment: BTreeMap<_, _> =
            environment.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
        assert_eq!(environment, expected);
    }
}

/// Its flags are the agent's alone; but a worker must find the same controller.
#[tokio::test]
async fn a_worker_is_told_of_a_controller_that_only_a_flag_names() {
    let home = Home::new();
    let recorder = Recorder::start().await;
    let flags = home.arguments(&recorder.url());
    let mut flags: Vec<_> = flags.iter().map(String::as_str).collect();
    let worker = note_taker(&home);
    let at = flags.iter().position(|word| *word == "--worker-command").unwrap();
    flags[at + 1] = &worker;
    let scratch = home.scratch();
    let env = [
        ("NOTES", scratch.to_str().unwrap()),
        ("ARROYO__CONTROLLER_ENDPOINT", "http://another.invalid:5116"),
    ];
    let agent = AgentProgram::serving(Program::run(&home.mark, &flags, &env)).await;
    agent.start(home.request("job", 1, &[])).await;
    let environment = notes(&home).await.environment;
    assert_eq!(environment["ARROYO__CONTROLLER_ENDPOINT"], recorder.url());
}

#[tokio::test]
async fn a_worker_is_run_as_stock_runs_it() {
    let home = Home::new();
    fs::write(home.scratch().join("arroyo.toml"), "[worker]\ntask-slots = 3\n").unwrap();
    fs::create_dir(home.scratch().join("conf.d")).unwrap();
    fs::write(home.scratch().join("own.toml"), "reply-wait = '100ms'\n").unwrap();
    let path = |name: &str| home.scratch().join(name).to_str().unwrap().to_owned();
    let (file, dir, own) = (path("arroyo.toml"), path("conf.d"), path("own.toml"));
    let before = ["-c", &file, "--config-dir", &dir, "--node-config", &own];
    let agent = told_by_variables(&home, &before, &[]).await;
    agent.start(home.request("job", 1, &[])).await;
    let notes = notes(&home).await;
    let program = note_taker(&home);
    assert_eq!(notes.arguments, [&program, "-c", &file, "--config-dir", &dir, "worker"]);
    assert_eq!(notes.directory, std::env::current_dir().unwrap().to_str().unwrap());
}

#[tokio::test]
async fn a_workers_arguments_can_be_set() {
    let home = Home::new();
    let args = ("ARROYO_NODE__WORKER__ARGS", "[\"run\", \"--as worker\"]");
    let agent = told_by_variables(&home, &[], &[args]).await;
    agent.start(home.request("job", 1, &[])).await;
    assert_eq!(notes(&home).await.arguments[1..], ["run", "--as worker"]);
}

/// An agent that is told of no program, and whose PATH begins in this folder.
fn without_a_program(home: &Home, controller: &str, bin: &Path, more: &[&str]) -> Program {
    let mut arguments = home.arguments(controller);
    let at = arguments.iter().position(|word| word == "--worker-command").unwrap();
    arguments.drain(at..at + 2);
    let arguments: Vec<_> =
        arguments.iter().map(String::as_str).chain(more.iter().copied()).collect();
    let path = format!("{}:/usr/bin:/bin", bin.display());
    Program::run(&home.mark, &arguments, &[("PATH", &path)])
}

#[tokio::test]
async fn without_a_program_arroyo_is_taken_from_path_and_else_there_is_no_agent() {
    let home = Home::new();
    let recorder = Recorder::start().await;
    let bin = home.scratch().join("bin");
    fs::create_dir(&bin).unwrap();
    let mut agent = without_a_program(&home, &recorder.url(), &bin, &[]);
    assert_eq!(agent.end().await.code(), Some(1));
    let said = agent.line_with("there is no worker program").await;
    assert!(said.contains("--worker-command") && said.contains("worker.command"), "{said}");
    assert!(recorder.record().registrations.is_empty());

    let built_in = ["--worker-command", "builtin"];
    let mut agent =
        AgentProgram::serving(without_a_program(&home, &recorder.url(), &bin, &built_in)).await;
    agent.program.line_with("workers are this program's own").await;
    agent.program.kill().await;

    fs::copy(note_taker(&home), bin.join("arroyo")).unwrap();
    let agent = AgentProgram::serving(without_a_program(&home, &recorder.url(), &bin, &[])).await;
    agent.program.line_with("workers are run as arroyo worker").await;
    let notes_dir = home.scratch();
    let env = [("NOTES", notes_dir.to_str().unwrap())];
    agent.start(home.request("job", 1, &env)).await;
    assert_eq!(notes(&home).await.arguments[1..], ["worker"]);
}

#[tokio::test]
async fn a_program_that_is_not_there_keeps_the_node_from_registering_until_it_is() {
    let home = Home::new();
    let recorder = Recorder::start().await;
    let program = home.scratch().join("arroyo");
    let mut arguments = home.arguments(&recorder.url());
    let at = arguments.iter().position(|word| word == "--worker-command").unwrap();
    arguments[at + 1] = program.display().to_string();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let agent = AgentProgram::serving(Program::run(&home.mark, &arguments, &[])).await;

    let missing = format!("cannot run the worker program {}", program.display());
    agent.program.line_with(&missing).await;
    let status = agent.until_status("why", |status| !status.program_error.is_empty()).await;
    assert!(status.program_error.contains(&missing), "{status:?}");
    // The controller is there and is called; what it does not know it is not told.
    recorder.until("heartbeats", |record| record.heartbeats.len() > 1).await;
    assert!(recorder.record().registrations.is_empty());
    assert_eq!(agent.metric("arroyo_node_program_runnable").await, Some(0.0));
    let ready = soon("readiness", get(agent.admin, "/readyz")).await;
    assert!(ready.contains("\"program\"") && ready.contains(&missing), "{ready}");

    fs::copy(note_taker(&home), &program).unwrap();
    recorder.until("the node", |record| !record.registrations.is_empty()).await;
    agent.program.line_with("the worker program can be run again").await;
    agent.until_status("well", |status| status.registered && status.program_error.is_empty()).await;

    fs::remove_file(&program).unwrap();
    let status = agent.until_status("gone", |status| !status.program_error.is_empty()).await;
    assert!(status.registered, "the controller knows it already");
}

/// What the controller is told, for an agent with these flags and variables.
async fn registered_as(flags: &[&str], env: &[(&str, &str)]) -> (String, SocketAddr) {
    let home = Home::new();
    let recorder = Recorder::start().await;
    let mut arguments = home.arguments(&recorder.url());
    for flag in flags.iter().step_by(2) {
        if let Some(at) = arguments.iter().position(|word| word == flag) {
            arguments.drain(at..at + 2);
        }
    }
    let arguments: Vec<_> =
        arguments.iter().map(String::as_str).chain(flags.iter().copied()).collect();
    let agent = AgentProgram::serving(Program::run(&home.mark, &arguments, env)).await;
    let record = recorder.until("the node", |record| !record.registrations.is_empty()).await;
    (record.registrations[0].addr.clone(), agent.address)
}

#[tokio::test]
async fn a_host_name_can_be_bound() {
    let (known_as, bound) = registered_as(&["--bind-address", "localhost"], &[]).await;
    assert!(bound.ip().is_loopback());
    assert_eq!(known_as, bound.to_string());
}

#[tokio::test]
async fn an_ipv6_address_can_be_bound_and_is_told_in_brackets() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        println!("skipped: this machine has no IPv6");
        return;
    }
    for host in ["::1", "[::1]"] {
        let (known_as, bound) = registered_as(&["--bind-address", host], &[]).await;
        assert_eq!(known_as, format!("[::1]:{}", bound.port()));
    }
}

#[tokio::test]
async fn a_controller_can_be_reached_by_ipv6_and_by_name() {
    for host in ["::1", "127.0.0.1"] {
        let Ok(probe) = std::net::TcpListener::bind((host, 0)) else {
            println!("skipped: this machine has no {host}");
            continue;
        };
        drop(probe);
        let home = Home::new();
        let recorder = Recorder::start_at(SocketAddr::new(host.parse().unwrap(), 0)).await;
        let url = match host {
            "::1" => recorder.url(),
            _ => format!("http://localhost:{}", recorder.address.port()),
        };
        let _agent = home.run(&url, &[]).await;
        recorder.until("the node", |record| !record.registrations.is_empty()).await;
    }
}

#[tokio::test]
async fn a_name_for_the_controller_can_be_given() {
    let (known_as, bound) = registered_as(&[], &[("ARROYO__HOSTNAME", "node-7.example")]).await;
    assert_eq!(known_as, format!("node-7.example:{}", bound.port()));
    let own = ("ARROYO_NODE__ADVERTISE_ADDRESS", "gate.example:7000");
    let (known_as, _) = registered_as(&[], &[("ARROYO__HOSTNAME", "node-7.example"), own]).await;
    assert_eq!(known_as, "gate.example:7000");
}

#[tokio::test]
async fn a_bind_address_that_is_nowhere_is_told() {
    let home = Home::new();
    let mut arguments = home.arguments("http://127.0.0.1:1");
    let at = arguments.iter().position(|word| word == "--bind-address").unwrap();
    arguments[at + 1] = "no such host".to_owned();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let mut agent = Program::run(&home.mark, &arguments, &[]);
    assert_eq!(agent.end().await.code(), Some(1));
    let error = agent.line_with("error: ").await;
    assert!(error.contains("node.bind-address is \"no such host\" (--bind-address)"), "{error}");
}

#[tokio::test]
async fn the_admin_server_has_the_routes_of_stock() {
    let home = Home::new();
    let recorder = Recorder::start().await;
    let agent = home.run(&recorder.url(), &["--task-slots", "7"]).await;
    let get = async |path: &str| soon(path, get(agent.admin, path)).await;
    assert!(get("/status").await.ends_with("\r\n\r\nok"));
    assert!(get("/name").await.ends_with("\r\n\r\narroyo-node\n"));
    let config = get("/config").await;
    let line = config.lines().find(|line| line.starts_with("node.task-slots = 7")).unwrap();
    assert!(line.ends_with("# --task-slots"), "{line}");
    assert!(get("/metrics").await.contains("\narroyo_node_task_slots 7\n"));
    assert!(get("/details").await.contains("\"service\":\"arroyo-node\""));
}

/// A name that the next agent could not read, or an address that nobody could call, would show only
/// when something goes wrong.
#[tokio::test]
async fn a_name_or_an_address_that_cannot_be_is_told() {
    for (flag, value) in [("--id", ""), ("--id", "a\nb"), ("--advertise-address", "http://gate:1")]
    {
        let home = Home::new();
        let mut arguments = home.arguments("http://127.0.0.1:1");
        if let Some(at) = arguments.iter().position(|word| word == flag) {
            arguments.drain(at..at + 2);
        }
        arguments.push(format!("{flag}={value}"));
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let mut program = Program::run(&home.mark, &arguments, &[]);
        assert_eq!(program.end().await.code(), Some(1), "{flag}={value}");
        let error = program.line_with("error: ").await;
        assert!(error.contains(flag) && error.contains(&format!("{value:?}")), "{error}");
    }
}

/// A controller on the same machine has the same default; what was asked for is not given up.
#[tokio::test]
async fn an_admin_port_that_is_taken_is_told_if_it_was_asked_for_and_else_avoided() {
    let home = Home::new();
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = other.local_addr().unwrap().port().to_string();
    let mut arguments = home.arguments(&format!("http://{}", loopback(port_to_keep())));
    let at = arguments.iter().position(|word| word == "--admin-port").unwrap();
    arguments[at + 1].clone_from(&taken);
    let told: Vec<_> = arguments.iter().map(String::as_str).collect();
    let mut agent = Program::run(&home.mark, &told, &[]);
    assert_eq!(agent.end().await.code(), Some(1));
    let error = agent.line_with("error: ").await;
    assert!(
        error.contains(&format!("cannot bind 127.0.0.1:{taken} for the status page")),
        "{error}"
    );
    assert!(error.contains("a controller on this machine uses the same default"), "{error}");
    assert!(error.contains("ARROYO__ADMIN__HTTP_PORT"), "{error}");

    // Whoever else has it on this machine will do, too.
    let usual = std::net::TcpListener::bind("127.0.0.1:5114");
    arguments.drain(at..at + 2);
    let untold: Vec<_> = arguments.iter().map(String::as_str).collect();
    let agent = AgentProgram::serving(Program::run(&home.mark, &untold, &[])).await;
    if usual.is_ok() {
        let line = agent.program.line_with("port 5114 is taken").await;
        assert!(line.contains(&format!("are on {}", agent.admin)), "{line}");
    }
    assert!(soon("its page", get(agent.admin, "/name")).await.ends_with("arroyo-node\n"));
}

#[tokio::test]
async fn readiness_follows_the_controller_and_draining() {
    let home = Home::new();
    let address = loopback(port_to_keep());
    let agent = home.run(&format!("http://{address}"), &[]).await;
    let readiness = async || soon("readiness", get(agent.admin, "/readyz")).await;
    let until = async |status: &str, word: &str| {
        soon(word, async {
            loop {
                let answer = readiness().await;
                if answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.contains(word) {
                    return;
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        })
        .await;
    };
    until("503", "not_registered").await;
    let _recorder = Recorder::start_at(address).await;
    until("200", "\"ready\":true").await;
    agent.set_draining(true).await;
    until("503", "\"draining\"").await;
    agent.set_draining(false).await;
    until("200", "\"ready\":true").await;
    assert!(soon("health", get(agent.admin, "/healthz")).await.starts_with("HTTP/1.1 200"));
}
