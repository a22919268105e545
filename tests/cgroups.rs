//! Workers in cgroups of their own, with the real files of cgroup v2. Where none is writable the
//! tests say so.

mod support;

use std::{
    fs,
    path::{Path, PathBuf},
};

use arroyo_node::runtime::{cgroup::Mode, process::WorkerCommand};
use support::{
    agent::{Agent, Home},
    controller::Recorder,
    eventually, processes,
};

/// Starts a process that tells by nothing whose it is: it has left the session, cleared its
/// environment and lost its parent.
const ESCAPE: &str = "( env -i setsid sh -c 'echo $$ >PIDS; exec sleep 600' & ) & sleep 600";

/// The directory of the workers' cgroups; `None`: there can be none here.
fn groups(home: &Home) -> Option<PathBuf> {
    let mounts = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(Path::new);
    let mount = mounts.into_iter().find(|mount| mount.join("cgroup.procs").exists())?;
    let probe = mount.join(format!("arroyo-node-probe-{}", home.machine));
    fs::create_dir(&probe).and_then(|()| fs::remove_dir(&probe)).ok()?;
    Some(mount.join(format!("arroyo-node-{}", home.machine)))
}

/// An agent whose workers run the shell script in their variable RUN.
async fn run(home: &Home, recorder: &Recorder, mode: Mode) -> Agent {
    let mut worker = WorkerCommand::new("/bin/sh");
    worker.args = vec!["-c".into(), "eval \"$RUN\"".into()];
    let agent = home.start(&recorder.url(), |builder| builder.worker(worker).cgroup(mode)).await;
    agent.until_status("registered", |status| status.registered).await;
    agent
}

#[tokio::test]
async fn nothing_escapes_a_cgroup_and_none_is_left() {
    let home = Home::new();
    let Some(groups) = groups(&home) else {
        return println!("left out: no cgroup v2 is writable here");
    };
    let recorder = Recorder::start().await;
    let agent = run(&home, &recorder, Mode::Required).await;
    let pids = home.scratch().join("pids");
    let script = ESCAPE.replace("PIDS", pids.to_str().unwrap());
    let neighbour = agent.start(home.request("neighbour", 1, &[("RUN", "exec sleep 600")])).await;
    let worker = agent.start(home.request("job", 1, &[("RUN", &script)])).await;
    let read = || fs::read_to_string(&pids).unwrap_or_default();
    eventually("it has escaped", || read().ends_with('\n')).await;
    let escaped = processes::identify(read().trim().parse().unwrap()).unwrap();
    let procs = groups.join(worker.to_string()).join("cgroup.procs");
    assert!(fs::read_to_string(procs).unwrap().lines().any(|pid| pid == read().trim()));

    agent.stop_by_force(worker).await;
    agent.until_reported(worker).await;
    assert!(!processes::is_alive(escaped), "nothing of it is left");
    let list = || {
        let entries = fs::read_dir(&groups).unwrap().flatten();
        let dirs = entries.filter(|entry| entry.path().is_dir());
        dirs.map(|dir| dir.file_name().into_string().unwrap()).collect::<Vec<_>>()
    };
    eventually("its cgroup is removed", || list() == [neighbour.to_string()]).await;
    agent.stop_by_force(neighbour).await;
    agent.until_reported(neighbour).await;
    eventually("no cgroup is left", || list().is_empty()).await;
}

#[tokio::test]
async fn an_agent_whose_shim_died_too_finds_its_workers_by_their_cgroups() {
    let home = Home::new();
    if groups(&home).is_none() {
        return println!("left out: no cgroup v2 is writable here");
    }
    let recorder = Recorder::start().await;
    let agent = run(&home, &recorder, Mode::Auto).await;
    let pids = home.scratch().join("pids");
    let script = ESCAPE.replace("PIDS", pids.to_str().unwrap());
    let worker = agent.start(home.request("job", 1, &[("RUN", &script)])).await;
    let read = || fs::read_to_string(&pids).unwrap_or_default();
    eventually("it has escaped", || read().ends_with('\n')).await;
    let escaped = processes::identify(read().trim().parse().unwrap()).unwrap();
    drop(agent);
    processes::kill_shim(&home.state_dir()).await;

    let agent = run(&home, &recorder, Mode::Auto).await;
    assert!(processes::is_alive(escaped), "a restart ends nothing");
    agent.stop_by_force(worker).await;
    agent.until_reported(worker).await;
    assert!(!processes::is_alive(escaped), "nothing of it is left");
}

#[tokio::test]
async fn an_agent_that_is_to_use_no_cgroups_makes_none() {
    let home = Home::new();
    let recorder = Recorder::start().await;
    let agent = run(&home, &recorder, Mode::Off).await;
    let worker = agent.start(home.request("job", 1, &[("RUN", "exec sleep 600")])).await;
    agent.stop_by_force(worker).await;
    agent.until_reported(worker).await;
    if let Some(groups) = groups(&home) {
        assert!(!groups.exists());
    }
}
