//! Whoever else calls agents: operators, tools, a controller that has been replaced and does not
//! know. It knows which answers are the right ones.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arroyo_node::{
    ids::WorkerId,
    rpc::{
        admin_wire::{SetDrainingRequest, node_admin_client::NodeAdminClient},
        wire::{
            GetWorkersReq, HeartbeatNodeReq, StartWorkerReq, StopWorkerReq,
            node_grpc_client::NodeGrpcClient,
        },
    },
};
use tokio::sync::mpsc;
use tonic::{Code, Status, transport::Channel, transport::Endpoint};

use super::{
    agent_name,
    net::{AGENT_PORT, Dial, patient},
};
use crate::{
    fact::{Fact, Place},
    plan::{BadCall, Call},
    recorder::Recorder,
};

/// How long it waits for an answer.
const PATIENCE: Duration = Duration::from_secs(15);

/// Calls agents on command. Clones share it.
#[derive(Clone)]
pub(super) struct Caller {
    recorder: Recorder,
    commands: Arc<Mutex<Option<Commands>>>,
}

/// Which agents to call, and what for.
type Commands = mpsc::UnboundedSender<(usize, Call)>;

/// One gRPC call.
#[derive(Clone, Debug)]
enum Request {
    Start(StartWorkerReq),
    Stop(StopWorkerReq),
    List,
    Alive(String),
    Drain(bool),
}

impl Caller {
    /// A caller that does nothing yet.
    pub(super) fn new(recorder: Recorder) -> Self {
        Self { recorder, commands: Arc::default() }
    }

    /// Has it call an agent.
    pub(super) fn call(&self, agent: usize, call: Call) {
        let commands = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(commands) = &*commands {
            // Its host is never bounced, so it listens.
            let _ = commands.send((agent, call));
        }
    }

    /// What runs on its simulated host.
    pub(super) async fn run(self) -> turmoil::Result {
        let (commands, mut todo) = mpsc::unbounded_channel();
        *self.commands.lock().unwrap_or_else(PoisonError::into_inner) = Some(commands);
        while let Some((agent, call)) = todo.recv().await {
            for call in one_by_one(call) {
                let Some((request, times, wanted)) = self.request(agent, call) else { continue };
                for _ in 0..times {
                    let (caller, request) = (self.clone(), request.clone());
                    tokio::spawn(async move { caller.send(agent, request, wanted).await });
                }
            }
        }
        Ok(())
    }

    /// What to send, how often, and the only right answer if there is just one.
    fn request(&self, agent: usize, call: Call) -> Option<(Request, u8, Option<Code>)> {
        let name = agent_name(agent);
        match call {
            Call::Start { job, generation, slots, times, named, pipeline } => {
                let request_id = format!("{job}-{generation}-{agent}-{slots}-{pipeline}");
                let start = StartWorkerReq {
                    name: job.clone(),
                    pipeline_id: if pipeline { format!("pl_{job}") } else { String::new() },
                    job_id: job,
                    slots,
                    machine_id: name,
                    generation,
                    request_id: if named { request_id } else { String::new() },
                    ..StartWorkerReq::default()
                };
                let times = if named { times } else { 1 };
                Some((Request::Start(start), times, None))
            }
            // Taken apart before.
            Call::Race { .. } => None,
            Call::StaleStart { nth } => {
                let spec = self.worker(agent, nth, true)?.1;
                let generation = spec.generation.0.checked_sub(1)?;
                let start = StartWorkerReq {
                    name: "stale".into(),
                    job_id: spec.job.to_string(),
                    slots: 1,
                    machine_id: name,
                    generation,
                    ..StartWorkerReq::default()
                };
                Some((Request::Start(start), 1, None))
            }
            Call::Bad(bad) => Some(self.bad(agent, bad)),
            Call::Stop { nth, force, ask, times } => {
                let worker_id = self.worker(agent, nth, false)?.0.0;
                let stop = StopWorkerReq {
                    worker_id,
                    force,
                    finished: ask,
                    wants_status: true,
                    ..StopWorkerReq::default()
                };
                Some((Request::Stop(stop), times, None))
            }
            Call::List => Some((Request::List, 1, Some(Code::Ok))),
            Call::Alive => Some((Request::Alive(name), 1, Some(Code::Ok))),
            Call::Drain(draining) => Some((Request::Drain(draining), 1, None)),
        }
    }

    fn bad(&self, agent: usize, bad: BadCall) -> (Request, u8, Option<Code>) {
        let good = StartWorkerReq {
            name: "bad".into(),
            job_id: "bad".into(),
            slots: 1,
            machine_id: agent_name(agent),
            generation: 1,
            ..StartWorkerReq::default()
        };
        let variable = [(String::from("A=B"), String::from("C"))];
        let (start, code) = match bad {
            BadCall::NoJob => {
                (StartWorkerReq { job_id: String::new(), ..good }, Code::InvalidArgument)
            }
            BadCall::NoSlots => (StartWorkerReq { slots: 0, ..good }, Code::InvalidArgument),
            BadCall::BadVariable => {
                (StartWorkerReq { env_vars: variable.into(), ..good }, Code::InvalidArgument)
            }
            BadCall::TooLong => {
                (StartWorkerReq { name: "x".repeat(2_000), ..good }, Code::InvalidArgument)
            }
            BadCall::WrongMachine => {
                (StartWorkerReq { machine_id: "agent-99".into(), ..good }, Code::FailedPrecondition)
            }
            // Unless the agent takes no workers at all at the moment.
            BadCall::TooManySlots => {
                return (Request::Start(StartWorkerReq { slots: 1_000, ..good }), 1, None);
            }
            BadCall::NotMe => {
                let request = Request::Alive("agent-99".into());
                return (request, 1, Some(Code::FailedPrecondition));
            }
            BadCall::UnknownWorker => {
                let stop = StopWorkerReq { worker_id: 7, force: true, ..Default::default() };
                // As a stock controller needs to hear it.
                return (Request::Stop(stop), 1, Some(Code::NotFound));
            }
        };
        (Request::Start(start), 1, Some(code))
    }

    /// One of the workers that were ever started on this agent, or are alive.
    fn worker(
        &self,
        agent: usize,
        nth: u64,
        live: bool,
    ) -> Option<(WorkerId, Arc<arroyo_node::machine::WorkerSpec>)> {
        self.recorder.past(|past| {
            let of = past.workers.iter().filter(|(_, worker)| worker.agent == agent);
            let of: Vec<_> = of.filter(|(_, worker)| !live || worker.is_live()).collect();
            let nth = usize::try_from(nth).ok()? % of.len().max(1);
            of.get(nth).map(|(id, worker)| (**id, worker.spec.clone()))
        })
    }

    async fn send(&self, agent: usize, request: Request, wanted: Option<Code>) {
        let call = short(&request);
        let kills = match &request {
            Request::Stop(stop) if stop.force && !stop.finished => Some(WorkerId(stop.worker_id)),
            _ => None,
        };
        let calls = Fact::Calls { agent, call: call.clone(), kills };
        self.recorder.note(Place::Caller, calls);
        let sent = async {
            let url = format!("http://{}:{AGENT_PORT}", agent_name(agent));
            let endpoint = Endpoint::from_shared(url)
                .map_err(|error| Status::unavailable(error.to_string()))?;
            let channel = patient(endpoint)
                .connect_with_connector(Dial)
                .await
                .map_err(|error| Status::unavailable(error.to_string()))?;
            answer(channel, request).await
        };
        let answer = match tokio::time::timeout(PATIENCE, sent).await {
            Ok(answer) => answer.map_err(|status| (status.code(), status.message().to_owned())),
            Err(_) => Err((Code::Cancelled, "no answer".into())),
        };
        self.recorder.note(Place::Caller, Fact::Heard { agent, call, answer, wanted });
    }
}

/// A race is several calls.
fn one_by_one(call: Call) -> Vec<Call> {
    let Call::Race { job, generation, slots, times } = call else { return vec![call] };
    (0..u64::from(times))
        .map(|nth| Call::Start {
            job: job.clone(),
            generation: generation + nth,
            slots,
            times: 1,
            named: false,
            pipeline: false,
        })
        .collect()
}

async fn answer(channel: Channel, request: Request) -> Result<String, Status> {
    let mut node = NodeGrpcClient::new(channel.clone());
    match request {
        Request::Start(start) => {
            let response = node.start_worker(start).await?;
            Ok(response.into_inner().worker_id.to_string())
        }
        Request::Stop(stop) => {
            let response = node.stop_worker(stop).await?;
            Ok(format!("{:?}", response.into_inner().status()))
        }
        Request::List => {
            let response = node.get_workers(GetWorkersReq {}).await?;
            Ok(format!("{} workers", response.into_inner().statuses.len()))
        }
        Request::Alive(machine_id) => {
            node.heartbeat_node(HeartbeatNodeReq { machine_id, time: 0 }).await?;
            Ok("alive".into())
        }
        Request::Drain(draining) => {
            let mut admin = NodeAdminClient::new(channel);
            admin.set_draining(SetDrainingRequest { draining }).await?;
            Ok(format!("draining {draining}"))
        }
    }
}

fn short(request: &Request) -> String {
    match request {
        Request::Start(start) => format!(
            "StartWorker {} generation {} slots {} key {:?}",
            start.job_id, start.generation, start.slots, start.request_id
        ),
        Request::Stop(stop) => {
            format!("StopWorker {} force {} ask {}", stop.worker_id, stop.force, stop.finished)
        }
        Request::List => "GetWorkers".into(),
        Request::Alive(machine) => format!("HeartbeatNode {machine}"),
        Request::Drain(draining) => format!("SetDraining {draining}"),
    }
}
