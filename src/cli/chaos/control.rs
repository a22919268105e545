//! The reference controller, which can be killed and started again at the same address.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use tokio::{
    net::TcpListener,
    sync::mpsc::UnboundedReceiver,
    task::JoinHandle,
    time::{Instant, sleep},
};

use crate::{
    controller::{Controller, ControllerEvent, Quirks, Settings, Snapshot, TcpConnector},
    runtime::clock::SystemClock,
};

/// One controller after the other.
#[derive(Default)]
pub(super) struct Control {
    running: Mutex<Option<Running>>,
}

struct Running {
    controller: Controller,
    server: JoinHandle<Result<(), tonic::transport::Error>>,
}

impl Control {
    /// Starts one with empty memory, where none runs. Returns what it is going to tell.
    pub(super) async fn start(
        &self,
        address: SocketAddr,
    ) -> anyhow::Result<UnboundedReceiver<ControllerEvent>> {
        let listener = bind(address).await?;
        let settings = Settings {
            poll_every: Duration::from_millis(50),
            retry_pause: Duration::from_millis(50),
            notice_after: Duration::from_millis(50),
            quirks: Quirks { give_up: false, ..Quirks::default() },
            ..Settings::default()
        };
        let controller = Controller::new(settings, Arc::new(SystemClock), Arc::new(TcpConnector));
        let events = controller.subscribe();
        let server = tokio::spawn(controller.serve_tcp(listener, std::future::pending()));
        *self.lock() = Some(Running { controller, server });
        Ok(events)
    }

    /// Kills it. Returns its books as they were.
    pub(super) async fn kill(&self) -> Option<Snapshot> {
        let Running { controller, server } = self.lock().take()?;
        controller.close();
        let _ = server.await;
        Some(controller.snapshot())
    }

    /// Does something with the controller, if one runs.
    pub(super) fn with<R>(&self, work: impl FnOnce(&Controller) -> R) -> Option<R> {
        self.lock().as_ref().map(|running| work(&running.controller))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Its predecessor's connections may take a moment to go.
async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return Ok(listener),
            Err(_) if Instant::now() < deadline => sleep(Duration::from_millis(5)).await,
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("cannot bind {address} for the controller"));
            }
        }
    }
}
