//! What the end-to-end tests share: real agents, controllers and processes. Each has a guard that
//! leaves nothing behind, even when the test panics.
//!
//! ```text
//!  Home ── what outlives an agent: its state directory, its port, its shim, the mark of its workers
//!   ├─ start ──▶ Agent         in this process, on threads of its own    ─┬─▶ Calls (NodeGrpc,
//!   └─ run ────▶ AgentProgram  the binary, as an operator runs it        ─┘    NodeAdmin)
//!  Recorder   a plain tonic controller that writes down what it is told, and can hold back answers
//!  Reference  the reference controller, which runs jobs
//!  Mark       finds, and in the end kills, every process that the test gave rise to
//! ```
//!
//! A guard that is declared later is dropped earlier: so a test declares its home first.

#![allow(dead_code, reason = "each test uses the parts that it needs")]
#![allow(unreachable_pub, reason = "each test is a program of its own")]

pub mod agent;
pub mod calls;
pub mod controller;
pub mod processes;
pub mod program;
pub mod threads;

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::PathBuf,
    time::{Duration, Instant},
};

use arroyo_node::runtime::node::Supervision;

/// How long anything may take before a test gives up on it.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_arroyo-node");

/// Whose children workers are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Parent {
    /// The agent's: their exit statuses are lost with it.
    Agent,
    /// A shim's, which keeps them while there is no agent.
    Shim,
}

/// Whose they are in the tests that do not say.
pub const USUAL_PARENT: Parent = Parent::Shim;

impl Parent {
    /// What it means on the command line.
    pub fn flags(self) -> &'static [&'static str] {
        match self {
            Self::Agent => &["--no-shim"],
            Self::Shim => &[],
        }
    }

    /// What it means to the library.
    pub fn supervision(self) -> Supervision {
        match self {
            Self::Agent => Supervision::InProcess,
            Self::Shim => Supervision::Shim(PathBuf::from(PROGRAM)),
        }
    }
}

/// Waits until this holds.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "still not so: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits for this.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(result) => result,
        Err(_) => panic!("still waiting for {what}"),
    }
}

/// A port of 127.0.0.1 that can be given up and taken again.
///
/// Below the ports that the kernel gives out: a port of those may go to somebody else meanwhile,
/// and a client that keeps on calling such a port may even be connected to itself.
pub fn port_to_keep() -> u16 {
    const FIRST: u16 = 15_000;
    let first_given_out = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|range| range.split_whitespace().next()?.parse().ok())
        .unwrap_or(32_768_u16);
    let range = u64::from(first_given_out.saturating_sub(FIRST).max(1));
    for _ in 0..1_000 {
        let random = uuid::Uuid::new_v4().as_u64_pair().1;
        let port = FIRST + u16::try_from(random % range).expect("less than a port");
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no free port between {FIRST} and {first_given_out}");
}

/// This port of 127.0.0.1.
pub fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}
