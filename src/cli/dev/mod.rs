//! `arroyo-node dev`: a controller and an agent on loopback, two jobs of real workers, and a live
//! account of what happens. One worker crashes on purpose. At the end the books are compared.
//!
//! ```text
//!  controller ◀──────── gRPC ────────▶ agent ──▶ workers (processes)
//!      │ events                 views │              │ output files
//!      └──────────────▶ story ◀───────┴──────────────┘
//! ```

mod books;
mod stage;
mod story;
mod tail;

use std::{ffi::OsString, path::PathBuf, pin::pin, time::Duration};

use anyhow::{Context as _, bail};
use tokio::signal::unix::{SignalKind, signal};

use self::{books::Books, stage::Stage, story::Story};
use super::{Exit, Failure, Options, logging};

/// How long the end may take: stopping the jobs, then the agent.
const FAREWELL: Duration = Duration::from_secs(30);

/// How long, and with which worker.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// End by itself after this time; otherwise Ctrl-C ends it
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
    for_time: Option<Duration>,
    /// Keep the agent's state here, and leave it; otherwise in a directory that is removed
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Say what the agent logs, too
    #[arg(long, short)]
    verbose: bool,
    /// A program to run as the worker, with its arguments, instead of the built-in one
    #[arg(last = true, value_name = "PROGRAM")]
    program: Vec<OsString>,
}

impl Args {
    pub(super) fn run(self, options: &Options) -> Result<Exit, Failure> {
        let _logging = self
            .verbose
            .then(|| logging::init(options.log_format.unwrap_or_default()))
            .transpose()
            .context("cannot start logging")?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .worker_threads(2)
            .build()
            .context("cannot start the runtime")?;
        let books = runtime.block_on(self.play())?;
        books.print();
        Ok(if books.agree() { Exit::Ok } else { Exit::Failed })
    }

    async fn play(self) -> anyhow::Result<Books> {
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch SIGINT")?;
        let mut terminate = signal(SignalKind::terminate()).context("cannot watch SIGTERM")?;
        let (stage, events) = Stage::build(self.state_dir, self.program).await?;
        let mut story = Story::begin(&stage, events)?;
        stage.submit_jobs().await?;

        let crash_after = self.for_time.map_or(Duration::from_secs(3), |time| time / 3);
        let mut crash = pin!(tokio::time::sleep(crash_after));
        let mut time_is_up = pin!(async {
            match self.for_time {
                Some(time) => tokio::time::sleep(time).await,
                None => std::future::pending().await,
            }
        });
        loop {
            tokio::select! {
                () = story.tell() => {}
                () = &mut crash, if !crash.is_elapsed() => {
                    if let Some(worker) = stage.crash_a_worker() {
                        story.note("dev", format_args!("crashing worker {worker}, as a bug would"));
                    }
                }
                () = &mut time_is_up => break,
                _ = interrupt.recv() => break,
                _ = terminate.recv() => break,
            }
        }

        story.note("dev", "ending: the jobs are stopped, then the agent");
        let finished = tokio::select! {
            () = story.tell() => bail!("the account ended before what it tells of"),
            finished = tokio::time::timeout(FAREWELL, stage.finish()) => finished,
        };
        story.catch_up();
        let timely = finished.is_ok();
        if let Ok(result) = finished {
            result?;
        }
        Books::draw_up(&story, &stage, timely)
    }
}
