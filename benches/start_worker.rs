//! What an agent's calls cost beside the raw spawn that StartWorker contains, measured in one run:
//! `cargo bench --bench start_worker`. It reports and asserts nothing: machines differ.
//!
//! The worker is `sleep`. The agent is whole (gRPC over loopback, journal, shim); the controller is
//! away, so that its work is not counted.

use std::{
    collections::BTreeMap,
    ffi::CString,
    io,
    mem::MaybeUninit,
    num::NonZeroU64,
    ptr,
    sync::Arc,
    time::{Duration, Instant},
};

use arroyo_node::{
    MachineId, NodeServer,
    ids::{Generation, WorkerId},
    machine::{Dialect, Event, Launch, Shutdown, Signal, Wall, WorkerSpec},
    rpc::wire::{GetWorkersReq, StartWorkerReq, StopWorkerReq, node_grpc_client::NodeGrpcClient},
    runtime::{
        node::{JournalKind, Supervision},
        output::OutputDir,
        ports::{Events, Processes as _},
        process::{InProcess, ProcessesConfig, WorkerCommand},
    },
    shutdown_channel,
};
use futures_util::{StreamExt as _, stream};
use tonic::transport::Channel;

const ROUNDS: usize = 300;
/// Between two paced calls: long enough for what was started to have loaded its libraries. Back to
/// back, two cores are busy with that, and the times are those of the queue.
const PACE: Duration = Duration::from_millis(5);
const AT_ONCE: usize = 16;

fn main() -> anyhow::Result<()> {
    println!("{:<56}{:>10}{:>10}{:>10}", "", "p50", "p99", "a second");
    raw_spawn("back to back", Duration::ZERO)?;
    raw_spawn("paced", PACE)?;
    port_alone()?;
    let shim = || Supervision::Shim(env!("CARGO_BIN_EXE_arroyo-node").into());
    agent("journal on, shim", JournalKind::Durable, shim())?;
    agent("journal off, shim", JournalKind::Memory, shim())?;
    agent("journal on, in process", JournalKind::Durable, Supervision::InProcess)?;
    // Once more, since a busy machine's minute is not like the next one.
    raw_spawn("paced", PACE)
}

/// posix_spawn of the same program, in a session of its own, with the same number of variables, and
/// nothing around it.
fn raw_spawn(name: &str, pace: Duration) -> anyhow::Result<()> {
    let words = [c"sleep".to_owned(), c"60".to_owned()];
    let argv: Vec<_> =
        words.iter().map(|w| w.as_ptr().cast_mut()).chain([ptr::null_mut()]).collect();
    let env: Vec<CString> = std::env::vars()
        .map(|(name, value)| CString::new(format!("{name}={value}")))
        .collect::<Result<_, _>>()?;
    let envp: Vec<_> = env.iter().map(|v| v.as_ptr().cast_mut()).chain([ptr::null_mut()]).collect();
    let mut laps = Laps::default();
    let mut children = Vec::new();
    let mut attributes = MaybeUninit::uninit();
    // SAFETY: the first call initialises what the second changes.
    unsafe {
        libc::posix_spawnattr_init(attributes.as_mut_ptr());
        libc::posix_spawnattr_setflags(attributes.as_mut_ptr(), POSIX_SPAWN_SETSID);
    }
    for _ in 0..ROUNDS {
        std::thread::sleep(pace);
        let mut pid = MaybeUninit::uninit();
        let began = Instant::now();
        // SAFETY: path, argv and envp are null-terminated and outlive the call, as do the attributes;
        // the null pointer asks for no file actions.
        let error = unsafe {
            libc::posix_spawnp(
                pid.as_mut_ptr(),
                c"sleep".as_ptr(),
                ptr::null(),
                attributes.as_ptr(),
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
    laps.print(&format!("raw posix_spawn, {name}"));
    Ok(())
}

/// The process port by itself: from the order to the event that the program runs.
fn port_alone() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let mut command = WorkerCommand::new("sleep");
    command.args = vec!["60".into()];
    let config = ProcessesConfig { command, output: OutputDir::create(directory.path())? };
    let (events, mut answers) = Events::channel();
    let mut port = InProcess::start(config, events)?;
    let mut laps = Laps::default();
    for number in 1..=ROUNDS as u64 {
        std::thread::sleep(PACE);
        let launch = launch(WorkerId(number));
        let began = Instant::now();
        port.spawn(launch);
        while !matches!(answers.blocking_recv(), Some(Event::Spawned { .. })) {}
        laps.add(began.elapsed());
    }
    laps.print("process port alone, in process, paced");
    for number in 1..=ROUNDS as u64 {
        port.signal(WorkerId(number), Signal::Kill);
    }
    for _ in 0..ROUNDS {
        while !matches!(answers.blocking_recv(), Some(Event::Exited { .. })) {}
    }
    Ok(())
}

fn launch(worker: WorkerId) -> Launch {
    let spec = WorkerSpec {
        name: "bench".into(),
        job: "bench".into(),
        pipeline: None,
        generation: Generation(1),
        slots: NonZeroU64::MIN,
        dialect: Dialect::V0_15,
        key: None,
    };
    Launch { worker, spec: Arc::new(spec), admitted_at: Wall(0), env: BTreeMap::new() }
}

/// As the C library's header has it.
const POSIX_SPAWN_SETSID: libc::c_short = 0x80;

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
    laps.print(&format!("StartWorker, back to back ({name})"));
    let mut laps = Laps::default();
    for _ in 0..ROUNDS {
        tokio::time::sleep(PACE).await;
        let began = Instant::now();
        ids.push(start(client.clone()).await?);
        laps.add(began.elapsed());
    }
    laps.print(&format!("StartWorker, paced ({name})"));

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
    laps.print(&format!("StopWorker, forced, not waited for ({name})"));
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
