//! What a trace must contain for a scenario to have happened, in which order.

use arroyo_node::{
    controller::{ControllerEvent, JobState},
    ids::{Generation, WorkerId},
};

use crate::fact::{Entry, Fact};

/// A trace, or the rest of one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Story<'a> {
    trace: &'a [Entry],
}

impl<'a> Story<'a> {
    pub(super) fn of(trace: &'a [Entry]) -> Self {
        Self { trace }
    }

    /// What follows the first of these; that it never comes is an error.
    pub(super) fn after(self, what: &str, is: impl Fn(&Fact) -> bool) -> Result<Self, String> {
        let found = self.trace.iter().position(|entry| is(&entry.fact));
        let found = found.ok_or_else(|| format!("never, or not when it should: {what}"))?;
        Ok(Self { trace: &self.trace[found + 1..] })
    }

    /// What comes before the first of these.
    pub(super) fn before(self, what: &str, is: impl Fn(&Fact) -> bool) -> Result<Self, String> {
        let found = self.trace.iter().position(|entry| is(&entry.fact));
        let found = found.ok_or_else(|| format!("never, or not when it should: {what}"))?;
        Ok(Self { trace: &self.trace[..found] })
    }

    /// What stood before `later`, which is a rest of this.
    pub(super) fn until(self, later: Self) -> Self {
        Self { trace: &self.trace[..self.trace.len() - later.trace.len()] }
    }

    /// That there is one of these is an error.
    pub(super) fn never(self, what: &str, is: impl Fn(&Fact) -> bool) -> Result<(), String> {
        match self.trace.iter().find(|entry| is(&entry.fact)) {
            Some(entry) => Err(format!("{what}: {entry}")),
            None => Ok(()),
        }
    }

    /// Everything that this makes something of.
    pub(super) fn all<T>(self, of: impl Fn(&Fact) -> Option<T>) -> Vec<T> {
        self.trace.iter().filter_map(|entry| of(&entry.fact)).collect()
    }

    /// The worker that the controller was named for this job and generation.
    pub(super) fn worker(self, job: &str, generation: u64) -> Result<WorkerId, String> {
        let named = self.all(|fact| match at_controller(fact)? {
            ControllerEvent::WorkerStarted {
                worker, job: of, generation: Generation(at), ..
            } if of.as_str() == job && *at == generation => Some(*worker),
            _ => None,
        });
        named.first().copied().ok_or_else(|| format!("no worker of {job}, {generation}"))
    }

    /// What follows this job's running in this generation.
    pub(super) fn once_it_runs(self, job: &str, generation: u64) -> Result<Self, String> {
        self.after(&format!("{job} runs in generation {generation}"), |fact| {
            matches!(at_controller(fact), Some(ControllerEvent::JobChanged {
                job: of, generation: Generation(at), state: JobState::Running,
            }) if of.as_str() == job && *at == generation)
        })
    }

    /// No job was given up.
    pub(super) fn no_job_fails(self) -> Result<(), String> {
        self.never("a job failed", |fact| {
            let event = at_controller(fact);
            matches!(event, Some(ControllerEvent::JobChanged { state: JobState::Failed(_), .. }))
        })
    }

    /// Nobody has signalled this worker.
    pub(super) fn untouched(self, worker: WorkerId) -> Result<(), String> {
        self.never("it was signalled", |fact| matches!(fact, Fact::Signals(id, _) if *id == worker))
    }
}

/// What the controller says, if that is what it is.
pub(super) fn at_controller(fact: &Fact) -> Option<&ControllerEvent> {
    match fact {
        Fact::Controller(event) => Some(event),
        _ => None,
    }
}
