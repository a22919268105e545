//! Agents in this process, through the library's [`NodeServer`].

use std::{
    fs,
    net::SocketAddr,
    ops::Deref,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arroyo_node::{
    NodeBuilder, NodeServer, ShutdownTrigger,
    machine::{Process, Shutdown, View},
    rpc::wire::StartWorkerReq,
    runtime::process::WorkerCommand,
    shutdown_channel,
};
use tempfile::TempDir;
use tokio::sync::{oneshot, watch};

use super::{
    PROGRAM, Parent, USUAL_PARENT,
    calls::Calls,
    eventually, loopback, port_to_keep,
    processes::{self, MARK, Mark},
    soon,
    threads::Vanishing,
};

/// What one agent after the other has: a state directory, a port, a name, and workers.
pub struct Home {
    /// Of everything that runs in this home.
    pub mark: Mark,
    pub machine: String,
    pub address: SocketAddr,
    pub parent: Parent,
    dir: TempDir,
}

impl Home {
    pub fn new() -> Self {
        Self::with_workers_of(USUAL_PARENT)
    }

    pub fn with_workers_of(parent: Parent) -> Self {
        let mark = Mark::new();
        Self {
            machine: format!("machine-{}", &mark.value()[..8]),
            mark,
            address: loopback(port_to_keep()),
            parent,
            dir: tempfile::tempdir().expect("a directory"),
        }
    }

    pub fn state_dir(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// The shim that serves this home, if there is one.
    pub fn shim(&self) -> Option<Process> {
        self.shims().next()
    }

    /// The shim, and what it has just forked: that still has the shim's arguments.
    fn shims(&self) -> impl Iterator<Item = Process> {
        processes::all().filter(|process| {
            let arguments = processes::arguments(process.pid);
            let shim = arguments.get(1).is_some_and(|command| command == "shim");
            // `dev` keeps its state in a directory of its own making.
            let here = |argument: &String| Path::new(argument).starts_with(self.dir.path());
            shim && arguments.iter().any(here) && processes::is_alive(*process)
        })
    }

    /// A directory for whatever else a test needs.
    pub fn scratch(&self) -> PathBuf {
        self.dir.path().to_owned()
    }

    /// A StartWorker of generation 1, in the words of 0.15.
    pub fn request(&self, job: &str, slots: u64, env: &[(&str, &str)]) -> StartWorkerReq {
        let own = [
            (MARK, self.mark.value()),
            ("WORKER_PRINT_EVERY", "never"),
            ("WORKER_CHILDREN_LIVE", "90s"),
        ];
        let env = own.iter().chain(env).map(|(name, value)| (name.to_string(), value.to_string()));
        StartWorkerReq {
            name: format!("name of {job}"),
            job_id: job.to_owned(),
            slots,
            machine_id: self.machine.clone(),
            generation: 1,
            env_vars: env.collect(),
            pipeline_id: String::new(),
            request_id: String::new(),
        }
    }

    /// What a worker has written.
    pub fn output(&self, worker: u64) -> String {
        fs::read_to_string(self.output_file(worker)).unwrap_or_default()
    }

    pub fn output_file(&self, worker: u64) -> PathBuf {
        self.state_dir().join(format!("output/{worker}.out"))
    }

    /// Waits until the built-in worker has started all that it was asked to. Before, its mark may
    /// not be seen: the kernel calls a program started a little before its environment is in place.
    pub async fn until_ready(&self, worker: u64) {
        eventually("the worker is ready", || self.output(worker).contains("is ready")).await;
    }

    /// Waits until so many processes of a worker are alive.
    pub async fn until_alive(&self, worker: u64, count: usize) {
        let what = format!("{count} processes of worker {worker} are alive");
        eventually(&what, || self.mark.count_of(worker) == count).await;
    }

    /// Starts an agent in this process, with 16 slots and short times.
    pub async fn start(
        &self,
        controller: &str,
        change: impl FnOnce(NodeBuilder) -> NodeBuilder,
    ) -> Agent {
        let builder = NodeServer::builder()
            .machine_id(self.machine.as_str().into())
            .task_slots(16)
            .bind(self.address)
            .controller(controller)
            .state_dir(self.state_dir())
            .worker(WorkerCommand::new(PROGRAM))
            .supervision(self.parent.supervision())
            .machine(|config| {
                config.heartbeat_every = Duration::from_millis(200);
                config.heartbeat_jitter = Duration::from_millis(50);
                config.kill_after = Duration::from_millis(300);
                // Where a test waits for less than this, it is on purpose.
                config.reply_wait = Duration::from_secs(20);
                config.supersede_wait = Duration::from_secs(20);
            });
        Agent::start(change(builder)).await
    }

    /// An agent that is alone in the world: nobody listens where its controller should be.
    pub async fn start_alone_with(&self, change: impl FnOnce(NodeBuilder) -> NodeBuilder) -> Agent {
        self.start(&format!("http://{}", loopback(port_to_keep())), change).await
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // A shim goes too: it would keep exit statuses for an agent that never comes, and what it is just
        // starting has no mark yet.
        let marked = || self.mark.alive().into_iter().map(|marked| marked.process);
        processes::kill_until_none_is_left(|| self.shims().chain(marked()).collect());
        remove_groups(&self.machine);
    }
}

/// Removes the cgroups that the workers of this machine had, wherever cgroup v2 is mounted.
fn remove_groups(machine: &str) {
    for mount in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"] {
        let workers = Path::new(mount).join(format!("arroyo-node-{machine}"));
        for group in fs::read_dir(&workers).into_iter().flatten().flatten() {
            let _ = fs::remove_dir(group.path());
        }
        let _ = fs::remove_dir(workers);
    }
}

/// An agent in this process. When it is dropped it vanishes as if it had been killed; its workers
/// run on until the home is dropped.
pub struct Agent {
    pub view: watch::Receiver<Arc<View>>,
    calls: Calls,
    trigger: ShutdownTrigger,
    thread: Vanishing<anyhow::Result<()>>,
}

impl Agent {
    async fn start(builder: NodeBuilder) -> Self {
        let (trigger, guard) = shutdown_channel();
        let (bound, told) = oneshot::channel();
        let thread = Vanishing::run(move || async move {
            let node = builder.build().bind().await?;
            let _ = bound.send((node.address(), node.view()));
            node.run(guard).await
        });
        let (address, view) = soon("the agent's start", told).await.expect("the agent starts");
        Self { view, calls: Calls::to(address), trigger, thread }
    }

    /// The agent's state now.
    pub fn now(&self) -> Arc<View> {
        self.view.borrow().clone()
    }

    /// Waits until the agent's state is as wanted.
    pub async fn until_view(&self, what: &str, wanted: impl Fn(&View) -> bool) -> Arc<View> {
        let mut view = self.view.clone();
        let seen = soon(what, view.wait_for(|view| wanted(view))).await;
        seen.expect("the agent goes on").clone()
    }

    /// Ends the agent and waits for that.
    pub async fn end(mut self, how: Shutdown) {
        self.trigger.shut_down(how);
        eventually("the agent has ended", || self.thread.is_done()).await;
        let result = self.thread.result().expect("it ended by itself");
        result.expect("it ended well");
    }
}

impl Deref for Agent {
    type Target = Calls;

    fn deref(&self) -> &Calls {
        &self.calls
    }
}
