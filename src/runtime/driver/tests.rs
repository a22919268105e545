//! The order of things: what is committed before somebody hears of it; and a disk that hangs.

use std::{future::ready, sync::Mutex, time::Instant};

use tokio::{sync::oneshot, task::JoinHandle};

use super::*;
use crate::{
    ids::{Generation, JobId, MachineId, WorkerId},
    machine::{
        Ask, Config, Dialect, Heartbeat, Launch, Process, Recovered, Registration, Reply, Shutdown,
        Signal, Start, StartError,
    },
    mailbox::{Events, Mailbox, mailbox},
    runtime::clock::SystemClock,
};

/// What has happened, in order.
#[derive(Clone, Default)]
struct Happened(Arc<Mutex<Vec<&'static str>>>);

impl Happened {
    fn note(&self, what: &'static str) {
        self.0.lock().unwrap().push(what);
    }
}

impl Journal for Happened {
    fn commit(&mut self, _: Commit) -> Committing {
        self.note("commit");
        Box::pin(ready(Ok(())))
    }
}

/// The disk answers when the test says so.
#[derive(Clone, Default)]
struct Slow(Arc<Mutex<Vec<Unanswered>>>);

/// A commit, and how to say that it is done.
type Unanswered = (Commit, oneshot::Sender<()>);

impl Slow {
    /// The commits that have no answer.
    fn waiting(&self) -> Vec<Commit> {
        self.0.lock().unwrap().iter().map(|(commit, _)| commit.clone()).collect()
    }

    fn answer(&self) {
        for (_, done) in self.0.lock().unwrap().drain(..) {
            let _ = done.send(());
        }
    }
}

impl Journal for Slow {
    fn commit(&mut self, commit: Commit) -> Committing {
        let (done, answered) = oneshot::channel();
        self.0.lock().unwrap().push((commit, done));
        Box::pin(async { answered.await.map_err(|_| JournalError("gone".into())) })
    }
}

/// Programs run before long.
struct Quick(Events, Happened);

impl Processes for Quick {
    fn spawn(&mut self, launch: Launch) {
        self.1.note("spawn");
        let process = Process { pid: 1 << 30, start_time: 1 };
        let events = self.0.clone();
        tokio::spawn(async move { events.send(Event::Spawned { worker: launch.worker, process }) });
    }

    fn adopt(&mut self, _: WorkerId, _: Option<Process>) {}
    fn signal(&mut self, _: WorkerId, _: Signal) {}
    fn release(&mut self, _: WorkerId) {}
    fn discard(&mut self, _: WorkerId) {}
}

struct Nobody;

impl Controller for Nobody {
    fn register(&mut self, _: Registration) {}
    fn heartbeat(&mut self, _: Heartbeat) {}
    fn report(&mut self, _: Report) {}
}

impl Observer for Nobody {
    fn event(&mut self, _: Now, _: &Event) {}
    fn effect(&mut self, _: Now, _: &Effect) {}
    fn commit(&mut self, _: std::time::Duration, _: Result<(), &JournalError>) {}
    fn batch(&mut self, _: usize) {}
    fn view(&mut self, _: &Arc<View>) {}
}

fn start(machine: MachineId) -> Ask {
    Ask::Start(Start {
        machine,
        name: "job".into(),
        job: JobId::from("job".to_owned()),
        pipeline: None,
        generation: Generation(1),
        slots: 1.try_into().unwrap(),
        dialect: Dialect::V0_16,
        env: [].into(),
        key: None,
    })
}

/// A driver at work, with a journal of its own.
struct Running {
    machine_id: MachineId,
    mailbox: Mailbox,
    view: watch::Receiver<Arc<View>>,
    driver: JoinHandle<()>,
}

impl Running {
    fn with(journal: impl Journal + 'static, happened: &Happened) -> Self {
        let (mailbox, inbox) = mailbox();
        let clock = Arc::new(SystemClock);
        let machine_id = MachineId::new("machine");
        let config = Config::new(machine_id.clone());
        let machine = Machine::new(config, [0; 32], Recovered::default(), clock.now());
        let (view_sender, view) = watch::channel(Arc::new(machine.view()));
        let driver = Driver::new(Parts {
            machine,
            inbox,
            processes: Box::new(Quick(mailbox.events(), happened.clone())),
            journal: Box::new(journal),
            controller: Box::new(Nobody),
            clock,
            observer: Box::new(Nobody),
            view: view_sender,
            announce: Box::new(drop),
        });
        Self { machine_id, mailbox, view, driver: tokio::spawn(driver.run()) }
    }

    /// The answer to a start.
    async fn start(&self) -> Result<WorkerId, StartError> {
        match self.mailbox.ask(start(self.machine_id.clone())).await.unwrap().0 {
            Reply::Started(result) => result,
            other => panic!("{other:?}"),
        }
    }

    async fn until_view(&self, wanted: impl Fn(&View) -> bool) {
        let mut view = self.view.clone();
        view.wait_for(|view| wanted(view)).await.unwrap();
    }

    async fn end(self) {
        self.mailbox.shut_down(Shutdown::Detach);
        self.driver.await.unwrap();
    }
}

#[tokio::test]
async fn a_start_is_answered_after_the_commits_of_the_worker_and_of_its_process() {
    let happened = Happened::default();
    let mut running = Running::with(happened.clone(), &happened);
    let id = running.start().await.unwrap();
    happened.note("answered");
    let seen = running.view.borrow_and_update().workers.get(id).unwrap().process;
    assert!(seen.is_some(), "who asks what runs is told of the process as soon as the caller is");
    running.end().await;
    let happened = happened.0.lock().unwrap().clone();
    assert_eq!(happened, ["commit", "spawn", "commit", "answered"]);
}

#[tokio::test]
async fn a_disk_that_hangs_is_a_journal_that_fails_until_it_answers() {
    let (slow, happened) = (Slow::default(), Happened::default());
    let running = Running::with(slow.clone(), &happened);
    let before = Instant::now();
    let StartError::JournalDown(down) = running.start().await.unwrap_err() else { panic!() };
    assert!(before.elapsed().as_millis() >= 250);
    assert!(down.reason.contains("has not answered for 2"), "{down}");
    let first = slow.waiting();

    // No other commit is begun, though one is tried every so often, and nobody waits for it.
    running.until_view(|view| view.journal_error.as_ref() != Some(&down.reason)).await;
    let before = Instant::now();
    running.start().await.unwrap_err();
    assert!(before.elapsed().as_millis() < 200);
    assert_eq!(slow.waiting(), first);
    assert_eq!(happened.0.lock().unwrap().as_slice(), [""; 0], "nothing was spawned");

    // What was given up is written late, and everything is written after it.
    slow.answer();
    while slow.waiting().is_empty() {
        tokio::task::yield_now().await;
    }
    assert!(slow.waiting()[0].rewrite);
    slow.answer();
    running.until_view(|view| view.journal_error.is_none()).await;
    let answers = tokio::spawn(async move {
        loop {
            slow.answer();
            tokio::task::yield_now().await;
        }
    });
    running.start().await.unwrap();
    running.end().await;
    answers.abort();
}
