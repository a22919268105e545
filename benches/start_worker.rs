//! What an agent's calls cost beside the raw spawn that StartWorker contains, measured in one run:
//! `cargo bench --bench start_worker`. It reports and asserts nothing: machines differ.
//!
//! The worker is `sleep`. The agent is whole (gRPC over loopback, journal, shim); the controller is
//! away, so that its work is not counted.

use std::{
    ffi::CString,
    io,
    mem::MaybeUninit,
    ptr,
    time::{Duration, Instant},
};

use arroyo_node::{
    MachineId, NodeServer,
    machine::Shutdown,
    rpc::wire::{GetWorkersReq, StartWorkerReq, StopWorkerReq, node_grpc_client::NodeGrpcClient},
    runtime::{
        node::{JournalKind, Supervision},
        process::WorkerCommand,
    },
    shutdown_channel,
};
use futures_util::{StreamExt as _, stream};
use tonic::transport::Channel;

const ROUNDS: usize = 300;
const AT_ONCE: usize = 16;

fn main() -> anyhow::Result<()> {
    println!("{:<56}{:>10}{:>10}{:>10}", "", "p50", "p99", "a second");
    raw_spawn()?;
    let shim = || Supervision::Shim(env!("CARGO_BIN_EXE_arroyo-node").into());
    agent("journal on, shim", JournalKind::Durable, shim())?;
    agent("journal off, shim", JournalKind::Memory, shim())?;
    agent("journal on, in process", JournalKind::Durable, Supervision::InProcess)?;
    // Once more, since a busy machine's minute is not like the next one.
    raw_spawn()
}

/// posix_spawn of the same program, with the same number of variables, and nothing around it.
fn raw_spawn() -> anyhow::Result<()> {
    let words = [c"sleep".to_owned(), c"60".to_owned()];
    let argv: Vec<_> =
        words.iter().map(|w| w.as_ptr().cast_mut()).chain([ptr::null_mut()]).collect();
    let env: Vec<CString> = std::env::vars()
        .map(|(name, value)| CString::new(format!("{name}={value}")))
        .collect::<Result<_, _>>()?;
    let envp: Vec<_> = env.iter().map(|v| v.as_ptr().cast_mut()).chain([ptr::null_mut()]).collect();
    let mut laps = Laps::default();
    let mut children = Vec::new();
    for _ in 0..ROUNDS {
        let mut pid = MaybeUninit::uninit();
        let began = Instant::now();
        // SAFETY: path, argv and envp are null-terminated and outlive the call; the null pointers
        // ask for no attributes.
        let error = unsafe {
            libc::posix_spawnp(
                pid.as_mut_ptr(),
                c"sleep".as_ptr(),
                ptr::null(),
                ptr::null(),
                argv.as_ptr(),
                envp.as_ptr(),
            )
        };
        laps.add(began.elapsed());
        if error != 0 {
            return Err(io::Error::from_raw_os_error(error).into());
        }
        // SAFETY: posix_spawnp succeeded, so it has written the pid.
        children.push(unsafe { pid.assume_init() });
    }
    for child in children {
        // SAFETY: the child is ours and not yet waited for, so the pid is still its.
        unsafe {
            libc::kill(child, libc::SIGKILL);
            libc::waitpid(child, ptr::null_mut(), 0);
        }
    }
    laps.print("raw posix_spawn");
    Ok(())
}

fn agent(name: &str, journal: JournalKind, supervision: Supervision) -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let mut command = WorkerCommand::new("sleep");
    command.args = vec!["60".into()];
    let node = NodeServer::builder()
        .machine_id(MachineId::new("bench"))
        .bind(([127, 0, 0, 1], 0).into())
        // Nobody listens on port 1.
        .controller("http://127.0.0.1:1")
        .state_dir(directory.path())
        .task_slots(1_000_000)
        .journal(journal)
        .supervision(supervision)
        .worker(command)
        .machine(|config| config.kill_after = Duration::ZERO)
        .machine(|config| config.reply_wait = Duration::ZERO)
        .build();
    let (trigger, guard) = shutdown_channel();
    let agent_runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(2).build()?;
    let bound = agent_runtime.block_on(node.bind())?;
    let address = bound.address();
    let running = agent_runtime.spawn(bound.run(guard));

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(measure(name, &format!("http://{address}")))?;
    trigger.shut_down(Shutdown::StopWorkers);
    agent_runtime.block_on(running)??;
    Ok(())
}

async fn measure(name: &str, address: &str) -> anyhow::Result<()> {
    let mut client = NodeGrpcClient::connect(address.to_owned()).await?;
    let mut laps = Laps::default();
    let mut ids = Vec::new();
    for _ in 0..ROUNDS {
        let began = Instant::now();
        ids.push(start(client.clone()).await?);
        laps.add(began.elapsed());
    }
    laps.print(&format!("StartWorker, one at a time ({name})"));

    let began = Instant::now();
    let starts = stream::iter((0..ROUNDS).map(|_| start(client.clone())));
    let more: Vec<_> = starts.buffer_unordered(AT_ONCE).collect().await;
    rate(&format!("StartWorker, {AT_ONCE} at a time ({name})"), ROUNDS, began.elapsed());
    for id in more {
        ids.push(id?);
    }

    let mut laps = Laps::default();
    for _ in 0..ROUNDS {
        let began = Instant::now();
        client.get_workers(GetWorkersReq {}).await?;
        laps.add(began.elapsed());
    }
    laps.print(&format!("GetWorkers with {} workers ({name})", ids.len()));

    let mut laps = Laps::default();
    for worker_id in ids {
        let stop = StopWorkerReq { worker_id, force: true, ..Default::default() };
        let began = Instant::now();
        client.stop_worker(stop).await?;
        laps.add(began.elapsed());
    }
    laps.print(&format!("StopWorker, forced ({name})"));
    Ok(())
}

async fn start(mut client: NodeGrpcClient<Channel>) -> anyhow::Result<u64> {
    let request = StartWorkerReq {
        name: "bench".into(),
        job_id: "bench".into(),
        slots: 1,
        machine_id: "bench".into(),
        generation: 1,
        ..Default::default()
    };
    Ok(client.start_worker(request).await?.into_inner().worker_id)
}

#[derive(Default)]
struct Laps(Vec<Duration>);

impl Laps {
    fn add(&mut self, lap: Duration) {
        self.0.push(lap);
    }

    fn print(mut self, what: &str) {
        self.0.sort();
        let at = |share: usize| self.0[(self.0.len() - 1) * share / 100];
        let total: Duration = self.0.iter().sum();
        let rate = self.0.len() as f64 / total.as_secs_f64();
        println!("{what:<56}{:>8.2}ms{:>8.2}ms{rate:>10.0}", millis(at(50)), millis(at(99)));
    }
}

fn rate(what: &str, calls: usize, took: Duration) {
    let rate = calls as f64 / took.as_secs_f64();
    println!("{what:<56}{:>10}{:>10}{rate:>10.0}", "", "");
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}
