//! One simulated machine with an agent on it: the production driver, services, client and journal,
//! on simulated time, network and processes.
//!
//! ```text
//!  life 1 ── kill -9: files as they stand ──▶ life 2 ── power loss: log cut, boot id new ──▶ life 3
//!    agent-1/life-1/journal.sqlite              agent-1/life-2/…                agent-1/life-3/…
//! ```
//!
//! Closing an SQLite connection tidies its files, which a kill does not. So each life has a
//! directory of its own, and what the next one finds there is copied before the last one is dropped.

use std::{
    collections::BTreeSet,
    fs, io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use arroyo_node::{
    ids::{MachineId, WorkerId},
    machine::{self, AbandonedPolicy, Recovered, Seed, Shutdown, View, Worker},
    mailbox::{Events, Mailbox, mailbox},
    rpc::{
        self,
        client::{CallSettings, ControllerClient, Notification},
        convert::{DialectPolicy, StopReply},
        service::{About, NodeService},
    },
    runtime::{
        controller::GrpcController,
        driver::{Driver, Parts},
        essential::essential,
        journal::{Checkpoints, SqliteJournal},
        ports::Clock as _,
    },
};
use rand_chacha::rand_core::Rng as _;
use tokio::sync::{oneshot, watch};
use tonic::transport::Endpoint;

use super::{
    CONTROLLER, agent_name,
    clock::SimClock,
    disk::{Disk, Kept, WatchedJournal},
    gate::Gate,
    links::Links,
    net::{self, AGENT_PORT, AgentDial, CONTROLLER_PORT},
    ports::{WatchedController, Watcher},
};
use crate::{
    fact::{Ending, Fact, Place},
    plan::AgentPlan,
    process::{Port, Table},
    recorder::Recorder,
    streams::{Stream, stream_of},
};

/// How long abandoned workers stay where it is not certain that the controller restarted: short
/// enough that runs come to its end.
pub(crate) const STOP_ABANDONED_AFTER: Duration = Duration::from_secs(20);

/// What outlives an agent's process. Clones share it.
#[derive(Clone)]
pub(super) struct AgentHost {
    /// Its number.
    pub number: usize,
    /// The run's seed.
    pub seed: u64,
    /// What it is like.
    pub plan: AgentPlan,
    /// Its machine's clocks.
    pub clock: SimClock,
    /// Its machine's processes.
    pub table: Arc<Mutex<Table>>,
    /// Its machine's disk.
    pub disk: Disk,
    /// Stops its process for a while.
    pub gate: Gate,
    /// Who looks on.
    pub recorder: Recorder,
    /// Its way to the controller.
    pub links: Links,
    life: Arc<Mutex<Life>>,
}

/// The process of an agent that runs, or will.
struct Life {
    number: u32,
    boot: u32,
    start_at: Duration,
    running: Option<Running>,
}

struct Running {
    mailbox: Mailbox,
    view: watch::Receiver<Arc<View>>,
}

impl AgentHost {
    /// A machine whose agent begins at once.
    pub(super) fn new(
        (number, seed): (usize, u64),
        plan: AgentPlan,
        table: Table,
        recorder: Recorder,
        links: Links,
    ) -> Self {
        Self {
            number,
            seed,
            clock: SimClock::new(plan.drift_ppm),
            plan,
            table: Arc::new(Mutex::new(table)),
            disk: Disk::default(),
            gate: Gate::default(),
            recorder,
            links,
            life: Arc::new(Mutex::new(Life {
                number: 1,
                boot: 1,
                start_at: Duration::ZERO,
                running: None,
            })),
        }
    }

    /// What runs on the simulated host, from one bounce to the next.
    pub(super) async fn run(self) -> turmoil::Result {
        let start_at = self.life().start_at;
        tokio::time::sleep(start_at.saturating_sub(self.recorder.now())).await;
        self.live().await?;
        self.note(Fact::AgentGone(Ending::Finished));
        self.life().running = None;
        self.table(Table::agent_gone);
        // Until the next bounce.
        std::future::pending().await
    }

    /// One life of the agent, as `arroyo_node::NodeServer` assembles it.
    async fn live(&self) -> turmoil::Result {
        let (life, boot) = {
            let life = self.life();
            (life.number, life.boot)
        };
        let now = self.clock.now();
        let path = self.directory(life).join("journal.sqlite");
        fs::create_dir_all(self.directory(life))?;
        let (inner, journaled, notices) =
            SqliteJournal::open(&path, &format!("boot-{boot}"), now.wall, Checkpoints::Manual);
        let set_aside = notices.iter().any(|notice| notice.0.contains("was set aside"));
        let (mailbox, inbox) = mailbox();
        let known = self.table(|table| {
            table.begin(life, mailbox.events(), self.recorder.now());
            table.known()
        });
        let recovered = with_known(journaled.clone(), known);
        self.note(Fact::AgentBegan { life, journaled, recovered: recovered.clone(), set_aside });
        let incoming = net::listen(AGENT_PORT).await?;
        let config = self.config();
        let controller = self.controller(config.machine.clone(), mailbox.events())?;
        let machine = machine::Machine::new(config, self.machine_seed(life), recovered, now);
        let (view_sender, view) = watch::channel(Arc::new(machine.view()));
        let checkpoint = (self.plan.checkpoint_every, self.plan.checkpoint_every);
        let journal = WatchedJournal {
            inner: Arc::new(Mutex::new(Kept { journal: inner, checkpoint })),
            disk: self.disk.clone(),
            agent: self.number,
            recorder: self.recorder.clone(),
        };
        let driver = Driver::new(Parts {
            machine,
            inbox,
            processes: Box::new(Port::new(self.table.clone())),
            journal: Box::new(journal),
            controller: Box::new(controller),
            clock: Arc::new(self.clock.clone()),
            observer: Box::new(Watcher::new(
                self.number,
                self.recorder.clone(),
                self.links.clone(),
                self.disk.clone(),
            )),
            view: view_sender,
            announce: Box::new(drop),
        });
        self.life().running = Some(Running { mailbox: mailbox.clone(), view: view.clone() });
        let about = Arc::new(About::default());
        let service = NodeService {
            mailbox,
            view,
            dialect: DialectPolicy::PerWorker,
            stop_reply: StopReply::Stock,
            about,
        };
        let (driver_ended, stop_serving) = oneshot::channel::<()>();
        let serving = tokio::spawn(rpc::serve(service, incoming, async move {
            let _ = stop_serving.await;
        }));
        self.gate.run(driver.run()).await;
        drop(driver_ended);
        serving.await??;
        Ok(())
    }

    /// The real calls to the controller, watched.
    fn controller(
        &self,
        name: MachineId,
        events: Events,
    ) -> Result<WatchedController<GrpcController>, tonic::transport::Error> {
        let told = events.clone();
        let notify = move |notification: Notification| told.send(notification.into());
        let endpoint = Endpoint::from_shared(format!("http://{CONTROLLER}:{CONTROLLER_PORT}"))?;
        let dial = AgentDial { agent: self.number, links: self.links.clone() };
        let calls = CallSettings::default();
        let client = ControllerClient::new(name, endpoint, calls, dial, notify);
        Ok(WatchedController {
            // A panic fails the run by itself.
            inner: GrpcController::new(client, events, essential().0),
            agent: self.number,
            recorder: self.recorder.clone(),
        })
    }

    /// The machine's state, if the agent runs.
    pub(super) fn view(&self) -> Option<Arc<View>> {
        self.life().running.as_ref().map(|running| running.view.borrow().clone())
    }

    /// Sends the agent a signal that tells it to end. Returns false if it does not run.
    pub(super) fn shut_down(&self, how: Shutdown) -> bool {
        let life = self.life();
        let Some(running) = &life.running else { return false };
        running.mailbox.shut_down(how);
        true
    }

    /// Whether the agent's process runs.
    pub(super) fn is_running(&self) -> bool {
        self.life().running.is_some()
    }

    /// The agent's process has been killed, or has ended by itself: the next one begins at this
    /// time with the files as they stand. To be called before the host is bounced.
    pub(super) fn bury(&self, start_at: Duration) -> io::Result<()> {
        let mut life = self.life();
        life.running = None;
        let (from, to) = (self.directory(life.number), self.directory(life.number + 1));
        life.number += 1;
        life.start_at = start_at;
        fs::create_dir_all(&to)?;
        for file in ["journal.sqlite", "journal.sqlite-wal"] {
            if from.join(file).exists() {
                fs::copy(from.join(file), to.join(file))?;
            }
        }
        drop(life);
        self.gate.open();
        Ok(())
    }

    /// Begins the agent now if it was to begin later. Returns whether its host is to be bounced.
    pub(super) fn hasten(&self, now: Duration) -> bool {
        let mut life = self.life();
        let waits = life.running.is_none() && life.start_at > now;
        if waits {
            life.start_at = now;
        }
        waits
    }

    /// Power loss, after [`bury`](Self::bury): the log lacks its end, and the machine boots anew.
    /// Returns whether the log had an end to lose.
    pub(super) fn cut_log(&self, permille: u64, now: Duration) -> io::Result<bool> {
        let mut life = self.life();
        life.boot += 1;
        self.clock.boot(now);
        let log = self.directory(life.number).join("journal.sqlite-wal");
        let Ok(metadata) = fs::metadata(&log) else { return Ok(false) };
        let kept = metadata.len() * permille / 1_000;
        fs::OpenOptions::new().write(true).open(log)?.set_len(kept)?;
        Ok(kept < metadata.len())
    }

    /// After [`bury`](Self::bury): the journal is no database any more.
    pub(super) fn damage(&self) -> io::Result<()> {
        let life = self.life();
        let path = self.directory(life.number).join("journal.sqlite");
        fs::write(path, "this was a journal once".repeat(40))
    }

    /// Works on the machine's processes.
    pub(super) fn table<R>(&self, work: impl FnOnce(&mut Table) -> R) -> R {
        work(&mut self.table.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Notes something that happened here.
    pub(super) fn note(&self, fact: Fact) {
        self.recorder.note(Place::Agent(self.number), fact);
    }

    fn config(&self) -> machine::Config {
        let name = agent_name(self.number);
        machine::Config {
            task_slots: self.plan.slots,
            address: format!("{name}:{AGENT_PORT}"),
            retain_for: Duration::from_millis(self.plan.retain_ms),
            fence_after: self.plan.fence_after_ms.map(Duration::from_millis),
            abandoned: AbandonedPolicy::StopAfter(STOP_ABANDONED_AFTER),
            ..machine::Config::new(MachineId::new(name))
        }
    }

    fn machine_seed(&self, life: u32) -> Seed {
        let mut seed = Seed::default();
        stream_of(self.seed, Stream::Machines, &[&self.number, &life]).fill_bytes(&mut seed);
        seed
    }

    /// Relative to the run's own directory: its name reaches messages, and through them the trace.
    fn directory(&self, life: u32) -> PathBuf {
        PathBuf::from(agent_name(self.number)).join(format!("life-{life}"))
    }

    fn life(&self) -> MutexGuard<'_, Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Workers that only the shim knows are taken over, too, as `arroyo_node::NodeServer` does.
fn with_known(mut recovered: Recovered, known: Vec<Worker>) -> Recovered {
    let journaled: BTreeSet<WorkerId> = recovered.workers.iter().map(|worker| worker.id).collect();
    let strangers = known.into_iter().filter(|worker| !journaled.contains(&worker.id));
    for stranger in strangers {
        recovered.unwritten.insert(stranger.id);
        recovered.workers.push(stranger);
    }
    recovered
}
