//! One job's task: brings its workers about, watches for their end, brings them about anew, until
//! it is told to stop.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use thiserror::Error;
use tokio::sync::Notify;

use super::{
    book::Books,
    job::{JobSpec, JobState, Stop},
    scheduling::Unscheduled,
    shared::Shared,
};
use crate::{
    ids::{Generation, JobId, WorkerId},
    machine::Dialect,
};

/// Why a job's life takes another turn.
#[derive(Debug, Error)]
enum Halt {
    #[error("told to stop")]
    Stop,
    #[error("{0}")]
    Failed(String),
    #[error("the controller is closing")]
    Closed,
}

pub(super) struct Reconcile {
    shared: Arc<Shared>,
    job: Arc<JobSpec>,
    waker: Arc<Notify>,
}

impl Reconcile {
    pub(super) fn new(shared: Arc<Shared>, job: Arc<JobSpec>) -> Self {
        let waker = shared.waker(&job.id);
        Self { shared, job, waker }
    }

    /// Ends with the job.
    pub(super) async fn run(self) {
        let mut halt = self.live().await;
        if matches!(halt, Halt::Stop) {
            self.set_state(JobState::Stopping);
            let rounds = self.shared.settings.stopping_rounds;
            halt = match self.tear_down(None, rounds).await {
                Ok(()) => return self.set_state(JobState::Stopped),
                Err(halt) => halt,
            };
        }
        if let Halt::Failed(reason) = halt {
            tracing::error!(job = %self.job.id, %reason, "job failed");
            self.set_state(JobState::Failed(reason.into()));
        }
    }

    /// Runs generation after generation.
    async fn live(&self) -> Halt {
        loop {
            if let Err(halt) = self.live_once().await {
                return halt;
            }
        }
    }

    /// Schedules, waits until that is disturbed, and clears away what is left.
    async fn live_once(&self) -> Result<(), Halt> {
        let generation = self.schedule().await?;
        while !self.shared.books(|books| books.is_disturbed(&self.job.id)) {
            self.woken().await?;
        }
        self.set_state(JobState::Recovering);
        self.pause(self.shared.settings.notice_after).await?;
        self.tear_down(Some(generation), self.shared.settings.recovering_rounds).await
    }

    /// Brings the job about, in as many attempts as that takes. Returns the generation that runs.
    async fn schedule(&self) -> Result<Generation, Halt> {
        let job = &self.job.id;
        let mut generation = self.begin(Books::next_generation)?;
        let mut failures = 0;
        loop {
            self.heed_stop()?;
            // One round, and what it leaves is left.
            if let Err(error) = self.shared.stop_round(job, None, Stop::Force).await {
                tracing::warn!(%job, %error, "old workers are left; scheduling all the same");
            }
            let failed = match self.start_workers(generation).await? {
                Ok(workers) => {
                    self.shared.books(|books| books.scheduled(job, workers));
                    return Ok(generation);
                }
                Err(failed) => failed,
            };
            self.count_failure(&mut failures, &failed)?;
            self.pause(self.shared.settings.retry_pause).await?;
            generation = self.begin(Books::retry)?;
        }
    }

    /// Begins a scheduling attempt, in the way that the books are told to.
    fn begin(
        &self,
        attempt: impl FnOnce(&mut Books, &JobId) -> Option<Generation>,
    ) -> Result<Generation, Halt> {
        let begun = self.shared.books(|books| attempt(books, &self.job.id));
        begun.ok_or_else(|| Halt::Failed("the job is no longer in the books".into()))
    }

    /// Waits for enough slots, for a long time but not for ever, then starts the workers. The inner
    /// error is one that trying again may mend.
    async fn start_workers(
        &self,
        generation: Generation,
    ) -> Result<Result<BTreeSet<WorkerId>, Unscheduled>, Halt> {
        let settings = &self.shared.settings;
        let since = self.shared.clock.now().mono;
        loop {
            match self.shared.start_workers(&self.job, generation).await {
                Err(Unscheduled::NotEnoughSlots(short)) => {
                    let waited = self.shared.clock.now().mono.since(since);
                    if settings.quirks.give_up && waited > settings.slots_patience {
                        return Err(Halt::Failed(short.to_string()));
                    }
                }
                Err(Unscheduled::Closed) => return Err(Halt::Closed),
                result => return Ok(result),
            }
            self.pause(settings.poll_every).await?;
        }
    }

    /// Stops the job's workers, of one generation or of all, round after round until none is left.
    /// So many rounds make one attempt.
    async fn tear_down(&self, generation: Option<Generation>, rounds: u32) -> Result<(), Halt> {
        let mut failures = 0;
        loop {
            for round in 0..rounds {
                let job = &self.job.id;
                if self.shared.books(|books| books.workers_of(job, generation)).is_empty() {
                    return Ok(());
                }
                if let Err(error) = self.shared.stop_round(job, generation, self.how()).await {
                    tracing::debug!(%job, %error, "a round of stops ended early");
                }
                self.pause(Duration::from_millis(50) * round).await?;
            }
            self.count_failure(&mut failures, &"its workers cannot be stopped")?;
            self.pause(self.shared.settings.retry_pause).await?;
        }
    }

    /// Counts a failed attempt; as many as stock allows fail the job.
    fn count_failure(
        &self,
        failures: &mut u32,
        reason: &(dyn std::fmt::Display + Sync),
    ) -> Result<(), Halt> {
        *failures += 1;
        let most = match self.job.dialect {
            Dialect::V0_15 => 10,
            Dialect::V0_16 => 20,
        };
        if self.shared.settings.quirks.give_up && *failures > most {
            return Err(Halt::Failed(format!("given up after {failures} attempts: {reason}")));
        }
        Ok(())
    }

    /// How to stop workers: gently only when that is what somebody asked for.
    fn how(&self) -> Stop {
        self.shared
            .books(|books| books.jobs().get(&self.job.id).and_then(|job| job.stop))
            .unwrap_or(Stop::Force)
    }

    /// A job that has been told to stop halts, unless it is stopping already.
    fn heed_stop(&self) -> Result<(), Halt> {
        let told = self.shared.books(|books| {
            let job = books.jobs().get(&self.job.id);
            job.is_some_and(|job| job.stop.is_some() && job.state != JobState::Stopping)
        });
        if told { Err(Halt::Stop) } else { Ok(()) }
    }

    async fn woken(&self) -> Result<(), Halt> {
        self.heed_stop()?;
        self.waker.notified().await;
        self.heed_stop()
    }

    async fn pause(&self, pause: Duration) -> Result<(), Halt> {
        let deadline = self.shared.clock.now().mono + pause;
        let mut over = self.shared.clock.sleep_until(deadline);
        loop {
            tokio::select! {
                biased;
                halt = self.woken() => halt?,
                () = &mut over => return Ok(()),
            }
        }
    }

    fn set_state(&self, state: JobState) {
        self.shared.books(|books| books.set_state(&self.job.id, state));
    }
}
