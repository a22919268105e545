//! TLS and mTLS between an agent and everybody that it talks to: the binary, real sockets, real
//! certificate files.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod admin;
mod callers;
mod certificates;
mod commands;
mod controller;
mod files;
mod reference;
mod rotation;
#[path = "../support/mod.rs"]
mod support;

use std::path::Path;

use arroyo_node::{
    rpc::wire::{GetWorkersReq, GetWorkersResp, node_grpc_client::NodeGrpcClient},
    runtime::tls::{ClientTls, connector},
};
use certificates::{Authority, Files};
use support::{
    agent::Home,
    program::{AgentProgram, Program},
    soon,
};
use tonic::{Status, transport::Endpoint};

/// Variables in front of an agent's arguments.
pub(crate) type Env = Vec<(&'static str, String)>;

/// What Arroyo's global `tls` section says, as variables.
pub(crate) fn tls(identity: &Files, ca: Option<&Path>) -> Env {
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let mut env = vec![
        ("ARROYO__TLS__ENABLED", "true".to_owned()),
        ("ARROYO__TLS__CERT_FILE", text(&identity.cert)),
        ("ARROYO__TLS__KEY_FILE", text(&identity.key)),
    ];
    env.extend(ca.map(|path| ("ARROYO__TLS__MTLS_CA_FILE", text(path))));
    env
}

/// Runs an agent with these variables.
pub(crate) fn launch(home: &Home, controller: &str, env: &Env) -> Program {
    let arguments = home.arguments(controller);
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let env: Vec<_> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
    Program::run(&home.mark, &arguments, &env)
}

pub(crate) async fn serving(home: &Home, controller: &str, env: &Env) -> AgentProgram {
    AgentProgram::serving(launch(home, controller, env)).await
}

/// Asks an agent for its workers, over TLS or not; what comes of it, or what the connection
/// failed of.
pub(crate) async fn ask(agent: &AgentProgram, tls: Option<ClientTls>) -> Result<(), String> {
    let tls = tls.map(|tls| std::sync::Arc::new(tls.load().unwrap()));
    let scheme = if tls.is_some() { "https" } else { "http" };
    let endpoint = Endpoint::from_shared(format!("{scheme}://{}", agent.address)).unwrap();
    let connect = endpoint.connect_with_connector(connector(tls));
    let channel = soon("a connection", connect).await.map_err(|error| root_cause(&error))?;
    let answer: Result<tonic::Response<GetWorkersResp>, Status> =
        soon("GetWorkers", NodeGrpcClient::new(channel).get_workers(GetWorkersReq {})).await;
    answer.map(drop).map_err(|status| root_cause(&status))
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// Two authorities that know nothing of each other, and a place for files.
pub(crate) struct World {
    pub(crate) home: Home,
    pub(crate) ours: Authority,
    pub(crate) strange: Authority,
}

impl World {
    pub(crate) fn new() -> Self {
        let home = Home::new();
        let ours = Authority::new(&home.scratch(), "ours");
        let strange = Authority::new(&home.scratch(), "strange");
        Self { home, ours, strange }
    }
}
