//! `arroyo-node controller`: the reference controller, for trying agents on several machines
//! without an Arroyo cluster. It runs the jobs that are named on its command line. Of Arroyo's settings
//! it reads how to log and the `tls` sections, as stock's controller does: by its own (`controller.tls`
//! or `tls`) it serves, by the nodes' (`node.tls` or `tls`) it calls them.

use std::{net::SocketAddr, str::FromStr, sync::Arc};

use anyhow::Context as _;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tracing::{info, warn};

use super::{
    Exit, Failure, Options, logging,
    tls::{self, Service},
    waiting::Waiting,
};
use crate::{
    config::{self, Places, stock::Stock},
    controller::{
        Connector, Controller, ControllerEvent, FinishOutcome, JobSpec, JobState, Settings, Stop,
        TcpConnector, TlsConnector,
    },
    machine::Dialect,
    runtime::{
        clock::SystemClock,
        tls::{H2, Incoming},
    },
};

/// Where to listen and what to run.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The address to serve on
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:5116")]
    bind: SocketAddr,
    /// A job to run, with its slots; may be repeated
    #[arg(long, value_name = "NAME=SLOTS")]
    job: Vec<JobArg>,
    /// Variables for the workers' environment; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable)]
    env: Vec<(String, String)>,
    /// Speak as Arroyo 0.15 does
    #[arg(long)]
    old_dialect: bool,
}

#[derive(Clone, Debug)]
struct JobArg {
    name: String,
    slots: u64,
}

impl FromStr for JobArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, slots) = text.split_once('=').unwrap_or((text, "1"));
        let slots = slots.parse().map_err(|error| format!("{slots:?} slots: {error}"))?;
        Ok(Self { name: name.to_owned(), slots })
    }
}

fn variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

impl Args {
    pub(super) fn run(self, options: &Options) -> Result<Exit, Failure> {
        let places = Places {
            file: options.config.clone(),
            dir: options.config_dir.clone(),
            ..Places::default()
        };
        let settings = config::load(&places)
            .map_err(|error| Failure::new(Exit::Failed, error.to_string(), ""))?;
        let mut logging = logging::Logging::from(&settings.stock.logging);
        logging.format = options.log_format.unwrap_or(logging.format);
        let _logging = logging::init(logging).context("cannot start logging")?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .worker_threads(2)
            .build()
            .context("cannot start the runtime")?;
        runtime.block_on(self.serve(&settings.stock))?;
        Ok(Exit::Ok)
    }

    async fn serve(self, stock: &Stock) -> anyhow::Result<()> {
        let tls = tls::server(stock, Service::Controller)?;
        let tls = tls.map(|tls| tls.load(&[H2])).transpose().context("cannot serve over TLS")?;
        let to_nodes = to_nodes(stock)?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch SIGINT")?;
        let mut terminate = signal(SignalKind::terminate()).context("cannot watch SIGTERM")?;
        let listener = TcpListener::bind(self.bind).await.with_context(|| {
            format!("cannot bind {}; --bind chooses another address", self.bind)
        })?;
        info!(address = %listener.local_addr()?, tls = tls.is_some(), "controller serves");
        let incoming = Incoming::new(listener, tls.map(Arc::new))?;
        let controller = Controller::new(Settings::default(), Arc::new(SystemClock), to_nodes);
        let mut events = controller.subscribe();
        let server = tokio::spawn(controller.serve(incoming, std::future::pending()));
        for job in &self.job {
            controller.submit(self.spec(job))?;
        }
        let mut waiting = Waiting::default();
        loop {
            tokio::select! {
                Some(event) = events.recv() => line(&event, &mut waiting),
                _ = interrupt.recv() => break,
                _ = terminate.recv() => break,
            }
        }
        info!("stopping the jobs");
        let jobs = controller.snapshot().jobs;
        for job in jobs.keys() {
            controller.stop(job, Stop::Force)?;
        }
        tokio::select! {
            _ = controller.until(|books| books.jobs.values().all(|job| job.state.is_final())) => {}
            _ = interrupt.recv() => warn!("second signal: ending with jobs still running"),
            _ = terminate.recv() => warn!("second signal: ending with jobs still running"),
        }
        server.abort();
        Ok(())
    }

    fn spec(&self, job: &JobArg) -> JobSpec {
        let mut spec = JobSpec::new(job.name.as_str(), job.slots);
        spec.env = self.env.iter().cloned().collect();
        if self.old_dialect {
            spec.dialect = Dialect::V0_15;
        }
        spec
    }
}

fn to_nodes(stock: &Stock) -> anyhow::Result<Arc<dyn Connector>> {
    let Some(tls) = tls::client(stock, Service::Controller, Service::Node)? else {
        return Ok(Arc::new(TcpConnector));
    };
    let tls = tls.load().context("cannot call nodes over TLS")?;
    Ok(Arc::new(TlsConnector::new(tls)))
}

/// Logs what the controller does not log itself, as a warning or an error.
fn line(event: &ControllerEvent, waiting: &mut Waiting) {
    if let Some(job) = waiting.ended_by(event) {
        info!("job {job} no longer waits for slots");
    }
    match event {
        ControllerEvent::Heartbeat { known: true, .. }
        | ControllerEvent::Violation(_)
        | ControllerEvent::StartRefused { .. }
        | ControllerEvent::NodeExpired { .. }
        | ControllerEvent::JobChanged { state: JobState::Failed(_), .. } => {}
        ControllerEvent::WorkerFinished { outcome, .. } if *outcome != FinishOutcome::Freed => {}
        ControllerEvent::NotEnoughSlots { job, .. } if !waiting.begins(job) => {}
        other => info!("{other}"),
    }
}
