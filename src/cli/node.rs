//! `arroyo-node node`: the agent, as an operator runs it.
//!
//! ```text
//!  flags ──▶ config::load ──▶ apply ──▶ NodeBuilder ──▶ BoundNode ──▶ run     on this thread
//!                               └─────▶ admin server ─────────────────▶ run   ┐ on another: a page for
//!                                       signals ──────────────────────▶ told  ┘ a person is worth no wait
//! ```
//!
//! Signals (`signals`): SIGTERM and SIGINT end it with its workers; another one a second later or more kills
//! what is left of them at once. SIGUSR1 (for an upgrade) and SIGHUP (a terminal that is closed) end
//! it without them.

mod admin;
mod apply;
mod flags;
mod inherited;
mod side;
mod signals;

use std::net::SocketAddr;

use anyhow::Context as _;
use tokio::runtime::{Builder, Handle};
use tracing::{info, warn};

use super::{Exit, Failure, Options, logging};
use crate::{
    config::{self, Loaded, Places, Source},
    runtime::{
        shutdown::{ShutdownGuard, shutdown_channel},
        time_slice,
    },
};

use side::Side;
use signals::Serving;

pub(super) use admin::{AdminServer, bind_admin, run_with_admin};
pub(super) use apply::{command_line, state_dir, this_program, worker_command};
pub use flags::Args;

impl Args {
    /// The settings in effect.
    pub(super) fn settings(&self, options: &Options) -> Result<Loaded, Failure> {
        let places = Places {
            file: options.config.clone(),
            dir: options.config_dir.clone(),
            node_file: options.node_config.clone(),
            flags: self.flags(),
        };
        config::load(&places).map_err(|error| Failure::new(Exit::Failed, error.to_string(), ""))
    }

    pub(super) fn run(self, options: &Options) -> Result<Exit, Failure> {
        inherited::hear_all_signals().context("cannot set up signals")?;
        let side = Builder::new_current_thread().enable_all().build();
        let side = side.context("cannot start the runtime of the status page")?;
        let (trigger, guard) = shutdown_channel();
        let serving = Serving::default();
        signals::watch(&side, trigger, serving.clone())?;
        let side = Side::drive(side).context("cannot start the thread of the status page")?;
        let settings = self.settings(options)?;
        let mut logging = logging::Logging::from(&settings.stock.logging);
        logging.format = options.log_format.unwrap_or(logging.format);
        let _logging = logging::init(logging).context("cannot start logging")?;
        for notice in &settings.notices {
            warn!("{notice}");
        }
        let admin = side.handle.block_on(admin::bind(&settings))?;
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.context("cannot start the runtime")?;
        // A kernel that does not know it, or a sandbox that forbids it, takes nothing but promptness.
        let _ = time_slice::shorten();
        let told = (guard, serving);
        let ended = runtime.block_on(serve(&settings, options, admin, &side.handle, told));
        // The agent has ended, but a look-up of its controller's name cannot be called off, and may take
        // as long as a name server is silent: longer than whoever waits for the next agent would.
        runtime.shutdown_background();
        ended?;
        Ok(Exit::Ok)
    }
}

async fn serve(
    settings: &Loaded,
    options: &Options,
    admin: AdminServer,
    side: &Handle,
    (guard, serving): (ShutdownGuard, Serving),
) -> anyhow::Result<()> {
    let bind = &settings.stock.node;
    let address = resolve(settings, "node.bind-address", &bind.bind_address, bind.rpc_port).await?;
    let node = apply::builder(settings, options, address)?.build().bind().await?;
    info!(admin = %admin.address()?, scheme = admin.scheme, "status page and metrics");
    serving.begin();
    run_with_admin(node, admin, guard, side.clone()).await
}

/// The first address of a host.
async fn resolve(
    settings: &Loaded,
    key: &str,
    host: &str,
    port: u16,
) -> anyhow::Result<SocketAddr> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let explain = || {
        let source = match settings.source(key) {
            Source::Default => String::new(),
            source => format!(" ({source})"),
        };
        format!("{key} is {host:?}{source}, which is neither an IP address nor a known host name")
    };
    let mut found = tokio::net::lookup_host((bare, port)).await.with_context(explain)?;
    found.next().with_context(explain)
}
