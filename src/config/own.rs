//! The settings that only this agent has: `arroyo-node.toml` and `ARROYO_NODE__*`. A stock worker,
//! which refuses keys that it does not know, reads neither.
//!
//! Every default is that of the code which the setting is for; `arroyo-node.example.toml` documents
//! them all, and a test compares the two.

use std::{num::NonZeroUsize, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    size::Size,
    values::{
        AbandonedPolicySetting, Auto, CgroupSetting, DialectSetting, Optionally, StopReplySetting,
        Time,
    },
};
use crate::{
    machine::{AbandonedPolicy, Backoff, Config, SHORTEST_FENCE},
    rpc::client::CallSettings,
    runtime::node::{DEFAULT_OUTPUT_LIMIT, SMALLEST_OUTPUT_LIMIT},
};

/// The agent's own settings.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Own {
    /// Where the agent keeps what must outlive it.
    pub state_dir: Auto<PathBuf>,
    /// `HOST` or `HOST:PORT` under which the controller reaches this agent.
    pub advertise_address: Auto<String>,
    /// In which dialect ends of workers are reported.
    pub dialect: DialectSetting,
    /// From a forced stop's SIGTERM to its SIGKILL.
    pub kill_after: Time,
    /// How long a StopWorker without force waits for the end before it answers.
    pub reply_wait: Time,
    /// How a forced stop that is done is answered.
    pub stop_reply: StopReplySetting,
    /// How long StartWorker waits for the workers that make room for it.
    pub supersede_wait: Time,
    /// How long StartWorker waits for the worker's program to run.
    pub spawn_wait: Time,
    /// Stop all workers after this long without a controller.
    pub fence_after: Optionally,
    /// Let a process of its own be the parent of the workers.
    pub shim: bool,
    /// Whether each worker has a cgroup of its own.
    pub cgroup: CgroupSetting,
    /// What becomes of workers that the controller has forgotten.
    pub abandoned: Abandoned,
    /// What is run as a worker.
    pub worker: Worker,
    /// What workers write.
    pub output: Output,
    /// How the agent ends.
    pub shutdown: Shutdown,
    /// How the controller hears that the agent lives.
    pub heartbeat: Heartbeat,
    /// How an unreachable controller is tried again.
    pub backoff: BackoffTimes,
    /// How the controller is called.
    pub calls: Calls,
    /// How ends are reported.
    pub reports: Reports,
    /// How long ended workers are remembered.
    pub retention: Retention,
}

/// What becomes of workers that the controller has forgotten.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Abandoned {
    /// Whether they are ended.
    pub policy: AbandonedPolicySetting,
    /// How long they may stay where it is not certain that the controller restarted.
    pub stop_after: Time,
}

/// What is run as a worker.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Worker {
    /// The program.
    pub command: Auto<PathBuf>,
    /// Its arguments.
    pub args: Auto<Vec<String>>,
}

/// What workers write.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Output {
    /// How much is kept of each worker's stdout, and of its stderr.
    pub limit: Size,
}

/// How the agent ends.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Shutdown {
    /// From SIGTERM to SIGKILL for every worker.
    pub kill_after: Time,
    /// How long to go on without workers, to deliver reports.
    pub patience: Time,
}

/// How the controller hears that the agent lives.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Heartbeat {
    /// Between two heartbeats.
    pub every: Time,
    /// How far a heartbeat's time is moved at random.
    pub jitter: Time,
}

/// How an unreachable controller is tried again.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct BackoffTimes {
    /// The first wait; it quadruples from there.
    pub first: Time,
    /// The longest wait.
    pub most: Time,
}

/// How the controller is called.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Calls {
    /// How long a call may take.
    pub deadline: Time,
    /// How long connecting may take.
    pub connect_deadline: Time,
    /// How often an open connection is tested.
    pub keepalive_every: Time,
    /// How long the answer to that may take.
    pub keepalive_patience: Time,
}

/// How ends are reported.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Reports {
    /// Reports that may be on their way at the same time.
    pub in_flight: NonZeroUsize,
}

/// How long ended workers are remembered.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Retention {
    /// After the report was acknowledged.
    pub time: Time,
    /// How many at most.
    pub workers: usize,
}

impl Default for Own {
    fn default() -> Self {
        let machine = defaults();
        Self {
            state_dir: Auto::Auto,
            advertise_address: Auto::Auto,
            dialect: DialectSetting::default(),
            kill_after: Time(machine.kill_after),
            reply_wait: Time(machine.reply_wait),
            stop_reply: StopReplySetting::default(),
            supersede_wait: Time(machine.supersede_wait),
            spawn_wait: Time(machine.spawn_wait),
            fence_after: Optionally(machine.fence_after.map(Time)),
            shim: true,
            cgroup: CgroupSetting::default(),
            abandoned: Abandoned::default(),
            worker: Worker::default(),
            output: Output::default(),
            shutdown: Shutdown::default(),
            heartbeat: Heartbeat::default(),
            backoff: BackoffTimes::default(),
            calls: Calls::default(),
            reports: Reports::default(),
            retention: Retention::default(),
        }
    }
}

impl Default for Abandoned {
    fn default() -> Self {
        let stop_after = match defaults().abandoned {
            AbandonedPolicy::StopAfter(time) => time,
            AbandonedPolicy::End | AbandonedPolicy::Keep => Duration::ZERO,
        };
        Self { policy: AbandonedPolicySetting::default(), stop_after: Time(stop_after) }
    }
}

impl Default for Output {
    fn default() -> Self {
        Self { limit: Size(Some(DEFAULT_OUTPUT_LIMIT)) }
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        let machine = defaults();
        Self {
            kill_after: Time(machine.shutdown_kill_after),
            patience: Time(machine.shutdown_patience),
        }
    }
}

impl Default for Heartbeat {
    fn default() -> Self {
        let machine = defaults();
        Self { every: Time(machine.heartbeat_every), jitter: Time(machine.heartbeat_jitter) }
    }
}

impl Default for BackoffTimes {
    fn default() -> Self {
        let Backoff { first, most } = defaults().backoff;
        Self { first: Time(first), most: Time(most) }
    }
}

impl Default for Calls {
    fn default() -> Self {
        let calls = CallSettings::default();
        Self {
            deadline: Time(calls.deadline),
            connect_deadline: Time(calls.connect_deadline),
            keepalive_every: Time(calls.keepalive.0),
            keepalive_patience: Time(calls.keepalive.1),
        }
    }
}

impl Default for Reports {
    fn default() -> Self {
        Self { in_flight: defaults().reports_in_flight }
    }
}

impl Default for Retention {
    fn default() -> Self {
        let machine = defaults();
        Self { time: Time(machine.retain_for), workers: machine.retain_most }
    }
}

fn defaults() -> Config {
    Config::new("".into())
}

impl Own {
    /// Sets what the machine is told of these settings, for workers that find a restarted
    /// controller by themselves or not.
    pub fn apply_to(&self, config: &mut Config, workers_outlive_controller: bool) {
        config.abandoned = match self.abandoned.policy {
            AbandonedPolicySetting::Auto if workers_outlive_controller => AbandonedPolicy::Keep,
            AbandonedPolicySetting::Auto => AbandonedPolicy::StopAfter(self.abandoned.stop_after.0),
            AbandonedPolicySetting::End => AbandonedPolicy::End,
            AbandonedPolicySetting::Keep => AbandonedPolicy::Keep,
        };
        config.heartbeat_every = self.heartbeat.every.0;
        config.heartbeat_jitter = self.heartbeat.jitter.0;
        config.backoff = Backoff { first: self.backoff.first.0, most: self.backoff.most.0 };
        config.kill_after = self.kill_after.0;
        config.reply_wait = self.reply_wait.0;
        config.supersede_wait = self.supersede_wait.0;
        config.spawn_wait = self.spawn_wait.0;
        config.reports_in_flight = self.reports.in_flight;
        config.retain_for = self.retention.time.0;
        config.retain_most = self.retention.workers;
        config.fence_after = self.fence_after.0.map(|time| time.0);
        config.shutdown_kill_after = self.shutdown.kill_after.0;
        config.shutdown_patience = self.shutdown.patience.0;
    }

    /// What a person should know of settings that make sense.
    pub(super) fn notices(&self) -> Vec<String> {
        let silence =
            Time(self.heartbeat.every.0 + self.heartbeat.jitter.0 + self.calls.deadline.0);
        let short = self.fence_after.0.filter(|after| *after <= silence);
        let note = |after| {
            format!(
                "fence-after is {after}: a controller that is there may be silent for {silence}, from one \
                 heartbeat to the answer of the next, and workers are stopped then"
            )
        };
        short.map(note).into_iter().collect()
    }

    /// What is wrong with settings that are each well-formed: the key, and what it must be.
    pub(super) fn contradiction(&self) -> Option<(&'static str, String)> {
        let positive = [
            ("heartbeat.every", self.heartbeat.every),
            ("backoff.first", self.backoff.first),
            ("calls.deadline", self.calls.deadline),
            ("calls.connect-deadline", self.calls.connect_deadline),
            ("calls.keepalive-every", self.calls.keepalive_every),
            ("calls.keepalive-patience", self.calls.keepalive_patience),
        ];
        if let Some((key, _)) = positive.iter().find(|(_, time)| time.0.is_zero()) {
            return Some((key, "more than zero".into()));
        }
        let every = self.heartbeat.every;
        if self.heartbeat.jitter >= every {
            return Some(("heartbeat.jitter", format!("less than heartbeat.every, {every}")));
        }
        if self.calls.deadline > every {
            let must =
                format!("at most heartbeat.every, {every}: a mute controller would delay it");
            return Some(("calls.deadline", must));
        }
        if self.fence_after.0.is_some_and(|after| after.0 < SHORTEST_FENCE) {
            let shortest = Time(SHORTEST_FENCE);
            return Some(("fence-after", format!("\"off\", or at least {shortest}")));
        }
        if self.output.limit.0.is_some_and(|limit| limit < SMALLEST_OUTPUT_LIMIT) {
            let smallest = Size(Some(SMALLEST_OUTPUT_LIMIT));
            return Some(("output.limit", format!("\"off\", or at least {smallest}")));
        }
        if self.backoff.most < self.backoff.first {
            return Some((
                "backoff.most",
                format!("at least backoff.first, {}", self.backoff.first),
            ));
        }
        None
    }
}
