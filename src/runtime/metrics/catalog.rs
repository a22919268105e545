//! Every metric by name, help text and buckets. Each known label value exists from the start: a
//! counter that appears with its first increment hides that increment from `rate()`.

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
    core::Collector,
};

use super::refusals;

/// Seconds, from half a millisecond to ten seconds: answers over a network, ends of processes.
const ANSWERS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Seconds, from ten microseconds to a second: transactions on a disk.
const COMMITS: &[f64] =
    &[0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.01, 0.05, 0.25, 1.0];

const BATCHES: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

const ENDS: &[&str] =
    &["success", "failure", "signal", "oom_killed", "lost", "unknown", "never_ran"];

const CALL_RESULTS: &[&str] = &["ok", "not_found", "failed"];

/// All metrics.
#[derive(Debug)]
pub(super) struct Catalog {
    pub(super) running_workers: IntGauge,
    pub(super) task_slots: IntGauge,
    pub(super) free_slots: IntGauge,
    pub(super) abandoned_workers: IntGauge,
    pub(super) reports_owed: IntGauge,
    pub(super) registered: IntGauge,
    pub(super) draining: IntGauge,
    pub(super) journal_healthy: IntGauge,
    pub(super) program_runnable: IntGauge,
    pub(super) workers_started: IntCounter,
    pub(super) worker_start_failures: IntCounterVec,
    pub(super) workers_ended: IntCounterVec,
    pub(super) signals_sent: IntCounterVec,
    pub(super) reports_sent: IntCounterVec,
    pub(super) heartbeats: IntCounterVec,
    pub(super) registrations: IntCounterVec,
    pub(super) journal_commits: IntCounterVec,
    pub(super) start_worker_seconds: Histogram,
    pub(super) stop_worker_seconds: Histogram,
    pub(super) call_seconds: HistogramVec,
    pub(super) journal_commit_seconds: Histogram,
    pub(super) batch_events: Histogram,
}

impl Catalog {
    #[rustfmt::skip]
    pub(super) fn new(registry: &Registry) -> Self {
        let to = Register(registry);
        Self {
            running_workers: to.gauge("running_workers", "Workers that hold slots."),
            task_slots: to.gauge("task_slots", "Slots offered to the controller."),
            free_slots: to.gauge("free_slots", "Slots that no worker holds."),
            abandoned_workers: to.gauge(
                "abandoned_workers",
                "Workers that hold slots and that the controller has forgotten.",
            ),
            reports_owed: to.gauge("reports_owed",
                "Ends of workers that the controller has not acknowledged."),
            registered: to.gauge("registered",
                "1 if the controller's last answer was good, else 0."),
            draining: to.gauge("draining", "1 if the agent takes no new workers, else 0."),
            journal_healthy: to.gauge("journal_healthy", "1 if the journal takes commits, else 0."),
            program_runnable: to
                .gauge("program_runnable", "1 if the worker program can be executed, else 0."),
            workers_started: to.counter("workers_started_total", "Workers whose program ran."),
            worker_start_failures: to.counters("worker_start_failures_total",
                "StartWorkers that were answered with an error, by reason.", "reason", refusals::LABELS),
            workers_ended: to.counters("workers_ended_total",
                "Workers that ended, by how their first process did.", "how", ENDS),
            signals_sent: to.counters("signals_sent_total",
                "Signals sent to workers.", "signal", &["SIGTERM", "SIGKILL"]),
            reports_sent: to.counters("reports_sent_total",
                "WorkerFinished calls to the controller, by result.", "result", CALL_RESULTS),
            heartbeats: to.counters("heartbeats_total",
                "HeartbeatNode calls to the controller, by result.", "result", CALL_RESULTS),
            registrations: to.counters("registrations_total",
                "RegisterNode calls to the controller, by result.", "result", CALL_RESULTS),
            journal_commits: to.counters("journal_commits_total",
                "Journal commits, by result.", "result", &["ok", "failed"]),
            start_worker_seconds: to.histogram("start_worker_seconds",
                "Time from a StartWorker to its answer, in seconds.", ANSWERS),
            stop_worker_seconds: to.histogram("stop_worker_seconds",
                "Time from the first signal to a worker to its end, in seconds.", ANSWERS),
            call_seconds: to.histograms("call_seconds",
                "Time from a call to the controller to its answer, in seconds.", ANSWERS,
                "call", &["register", "heartbeat", "report"]),
            journal_commit_seconds: to.histogram("journal_commit_seconds",
                "Time that a journal commit took, in seconds.", COMMITS),
            batch_events: to.histogram("batch_events",
                "Events that were handled together, under one commit.", BATCHES),
        }
    }
}

struct Register<'a>(&'a Registry);

impl Register<'_> {
    fn keep<C: Collector + Clone + 'static>(&self, metric: prometheus::Result<C>) -> C {
        let metric = metric.expect("the catalog's names and labels are well formed");
        self.0.register(Box::new(metric.clone())).expect("the catalog's names are distinct");
        metric
    }

    fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.keep(IntGauge::new(full(name), help))
    }

    fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.keep(IntCounter::new(full(name), help))
    }

    fn counters(&self, name: &str, help: &str, label: &str, values: &[&str]) -> IntCounterVec {
        let counters = self.keep(IntCounterVec::new(Opts::new(full(name), help), &[label]));
        for value in values {
            counters.with_label_values(&[value]);
        }
        counters
    }

    fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Histogram {
        self.keep(Histogram::with_opts(options(name, help, buckets)))
    }

    fn histograms(
        &self,
        name: &str,
        help: &str,
        buckets: &[f64],
        label: &str,
        values: &[&str],
    ) -> HistogramVec {
        let options = options(name, help, buckets);
        let histograms = self.keep(HistogramVec::new(options, &[label]));
        for value in values {
            histograms.with_label_values(&[value]);
        }
        histograms
    }
}

fn full(name: &str) -> String {
    format!("arroyo_node_{name}")
}

fn options(name: &str, help: &str, buckets: &[f64]) -> HistogramOpts {
    HistogramOpts::new(full(name), help).buckets(buckets.to_vec())
}
