//! The controller's machine: the reference controller, with what goes wrong between it and its
//! nodes put in front of it.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use arroyo_node::{
    controller::{
        Controller, ControllerEvent, ControllerService, FinishedReport, JobSpec, JobState, Quirks,
        Settings, Snapshot, Stop,
    },
    ids::{Generation, JobId, MachineId},
    machine::Dialect,
    rpc::wire::{
        HeartbeatNodeReq, HeartbeatNodeResp, RegisterNodeReq, RegisterNodeResp, WorkerFinishedReq,
        WorkerFinishedResp,
        controller_grpc_server::{ControllerGrpc, ControllerGrpcServer},
    },
};
use std::collections::BTreeMap;
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, transport::Server};

use super::{
    agent_number,
    clock::SimClock,
    net::{self, CONTROLLER_PORT, ToNodes},
};
use crate::{
    fact::{Arrival, Fact, Place},
    plan::ControllerPlan,
    recorder::Recorder,
};

/// What outlives a controller. Clones share it.
#[derive(Clone)]
pub(super) struct ControllerHost {
    plan: ControllerPlan,
    recorder: Recorder,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    life: u32,
    start_at: Duration,
    resubmit: bool,
    mood: Mood,
    /// Calls that it has not answered yet, by number, and since when.
    open: BTreeMap<u64, Duration>,
    calls: u64,
    running: Option<Running>,
    /// What a stock controller keeps in its database.
    database: BTreeMap<JobId, Row>,
}

struct Running {
    controller: Arc<Controller>,
    commands: mpsc::UnboundedSender<Command>,
}

/// A job that survives its controller.
struct Row {
    spec: JobSpec,
    generation: Generation,
    wanted: bool,
}

/// What is wrong with a controller's answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Mood {
    /// Nothing.
    #[default]
    Fine,
    /// Each takes so long.
    Slow(Duration),
    /// None comes, and nothing is done.
    Hung,
    /// What is asked is done; the answer is lost.
    LosesAnswers,
}

/// Something for the controller to do, on its own host.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Command {
    /// Run a job.
    Submit(JobSpec),
    /// Stop one.
    Stop(JobId, Stop),
    /// One is not well.
    Unwell(JobId),
    /// Forget a node.
    Forget(MachineId),
}

impl ControllerHost {
    /// A machine whose controller begins at once.
    pub(super) fn new(plan: ControllerPlan, recorder: Recorder) -> Self {
        Self { plan, recorder, state: Arc::default() }
    }

    /// What runs on the simulated host, from one bounce to the next.
    pub(super) async fn run(self) -> turmoil::Result {
        let start_at = self.state().start_at;
        tokio::time::sleep(start_at.saturating_sub(self.recorder.now())).await;
        let controller = Arc::new(Controller::new(
            self.settings(),
            Arc::new(SimClock::new(0)),
            Arc::new(ToNodes),
        ));
        let (commands, mut todo) = mpsc::unbounded_channel();
        let mut events = controller.subscribe();
        let life = {
            let mut state = self.state();
            state.life += 1;
            state.open.clear();
            state.running = Some(Running { controller: controller.clone(), commands });
            state.life
        };
        self.note(Fact::ControllerBegan(life));
        let service = Front { inner: controller.answers(), host: self.clone() };
        let incoming = net::listen(CONTROLLER_PORT).await?;
        tokio::spawn(
            Server::builder()
                .http2_keepalive_interval(Some(Duration::from_secs(6)))
                .http2_keepalive_timeout(Some(Duration::from_secs(6)))
                .add_service(ControllerGrpcServer::new(service))
                .serve_with_incoming(incoming),
        );
        self.resubmit(&controller);
        loop {
            tokio::select! {
                biased;
                Some(event) = events.recv() => self.saw(event),
                Some(command) = todo.recv() => self.obey(&controller, command),
                else => return Ok(()),
            }
        }
    }

    /// Has the controller do something. Returns false if there is none.
    pub(super) fn tell(&self, command: Command) -> bool {
        let state = self.state();
        state.running.as_ref().is_some_and(|running| running.commands.send(command).is_ok())
    }

    /// The books, if there is a controller.
    pub(super) fn books(&self) -> Option<Snapshot> {
        let controller = self.state().running.as_ref().map(|running| running.controller.clone());
        controller.map(|controller| controller.snapshot())
    }

    /// The controller's process is killed: the next one begins at this time. To be called before
    /// the host is bounced.
    pub(super) fn bury(&self, start_at: Duration, resubmit: bool) {
        let mut state = self.state();
        state.start_at = start_at;
        state.resubmit = resubmit;
        if state.running.take().is_some() {
            drop(state);
            self.note(Fact::ControllerGone);
        }
    }

    /// Begins the controller now if it was to begin later. Returns whether its host is to be
    /// bounced.
    pub(super) fn hasten(&self, now: Duration) -> bool {
        let mut state = self.state();
        let waits = state.running.is_none() && state.start_at > now;
        if waits {
            state.start_at = now;
        }
        waits
    }

    /// Changes what is wrong with the answers.
    pub(super) fn set_mood(&self, mood: Mood) {
        self.state().mood = mood;
    }

    /// What is wrong with the answers.
    pub(super) fn mood(&self) -> Mood {
        self.state().mood
    }

    /// Whether some call has been waiting for its answer since before this time.
    pub(super) fn is_behind(&self, since: Duration) -> bool {
        self.state().open.values().any(|begun| *begun < since)
    }

    fn settings(&self) -> Settings {
        let call_deadline = self.plan.call_deadline_ms.map(Duration::from_millis);
        Settings {
            quirks: Quirks {
                hold_lock_during_start: self.plan.hold_lock,
                call_deadline,
                ..Quirks::default()
            },
            ..Settings::default()
        }
    }

    /// Jobs are run anew by a controller that starts, one generation up, as stock's are.
    fn resubmit(&self, controller: &Controller) {
        let state = self.state();
        if !state.resubmit {
            return;
        }
        let wanted = state.database.values().filter(|row| row.wanted);
        let specs: Vec<JobSpec> = wanted
            .map(|row| JobSpec { last_generation: row.generation, ..row.spec.clone() })
            .collect();
        drop(state);
        for spec in specs {
            // A new controller has no job of this name yet.
            let _ = controller.submit(spec);
        }
    }

    fn obey(&self, controller: &Controller, command: Command) {
        match command {
            Command::Submit(mut spec) => {
                let mut state = self.state();
                let row = state.database.entry(spec.id.clone()).or_insert_with(|| Row {
                    spec: spec.clone(),
                    generation: Generation(0),
                    wanted: true,
                });
                row.wanted = true;
                spec.last_generation = row.generation;
                drop(state);
                // Refused where it runs already: that is the plan's choice.
                let _ = controller.submit(spec);
            }
            Command::Stop(job, how) => {
                if let Some(row) = self.state().database.get_mut(&job) {
                    row.wanted = false;
                }
                let _ = controller.stop(&job, how);
            }
            Command::Unwell(job) => drop(controller.report_unwell(&job)),
            Command::Forget(node) => drop(controller.forget_node(&node)),
        }
    }

    fn saw(&self, event: ControllerEvent) {
        if let ControllerEvent::JobChanged { job, generation, state } = &event
            && let Some(row) = self.state().database.get_mut(job)
        {
            row.generation = row.generation.max(*generation);
            row.wanted &= !matches!(state, JobState::Stopped | JobState::Failed(_));
        }
        self.note(Fact::Controller(event));
    }

    fn note(&self, fact: Fact) {
        self.recorder.note(Place::Controller, fact);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A job in the plan's words.
pub(super) fn job_spec(job: &str, slots: u64, old_dialect: bool) -> JobSpec {
    let dialect = if old_dialect { Dialect::V0_15 } else { Dialect::V0_16 };
    JobSpec { dialect, ..JobSpec::new(job, slots) }
}

/// The controller's service, with what goes wrong put in front.
struct Front {
    inner: ControllerService,
    host: ControllerHost,
}

impl Front {
    fn arrived(&self, machine: &str, arrival: Arrival) {
        if let Some(agent) = agent_number(machine) {
            self.host.recorder.note(Place::Agent(agent), Fact::Arrived(arrival));
        }
    }

    async fn answer<T>(&self, call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
        let (mood, _open) = {
            let mut state = self.host.state();
            let number = state.calls;
            state.calls += 1;
            state.open.insert(number, self.host.recorder.now());
            (state.mood, Open { host: self.host.clone(), number })
        };
        match mood {
            Mood::Fine => call.await,
            Mood::Slow(each) => {
                tokio::time::sleep(each / 2).await;
                let answer = call.await;
                tokio::time::sleep(each / 2).await;
                answer
            }
            Mood::Hung => std::future::pending().await,
            Mood::LosesAnswers => {
                let _ = call.await;
                self.host.note(Fact::AnswerLost);
                std::future::pending().await
            }
        }
    }
}

/// A call that waits for its answer.
struct Open {
    host: ControllerHost,
    number: u64,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.host.state().open.remove(&self.number);
    }
}

#[tonic::async_trait]
impl ControllerGrpc for Front {
    async fn register_node(
        &self,
        request: Request<RegisterNodeReq>,
    ) -> Result<Response<RegisterNodeResp>, Status> {
        self.arrived(&request.get_ref().machine_id, Arrival::Register);
        self.answer(self.inner.register_node(request)).await
    }

    async fn heartbeat_node(
        &self,
        request: Request<HeartbeatNodeReq>,
    ) -> Result<Response<HeartbeatNodeResp>, Status> {
        self.arrived(&request.get_ref().machine_id, Arrival::Heartbeat);
        self.answer(self.inner.heartbeat_node(request)).await
    }

    async fn worker_finished(
        &self,
        request: Request<WorkerFinishedReq>,
    ) -> Result<Response<WorkerFinishedResp>, Status> {
        let report = FinishedReport::try_from(request.get_ref().clone())
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        self.arrived(report.node.clone().as_str(), Arrival::Finished(report));
        if self.host.mood() == Mood::LosesAnswers {
            self.host.recorder.mark("report acknowledged, answer lost");
        }
        self.answer(self.inner.worker_finished(request)).await
    }
}
