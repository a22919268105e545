//! The order of things: what is committed before whom it concerns hears of it, and who need not wait.

use std::sync::Mutex;

use super::*;
use crate::{
    ids::{Generation, JobId, MachineId, WorkerId},
    machine::{
        Ask, Commit, Config, Dialect, Heartbeat, Launch, Process, Recovered, Registration, Reply,
        Shutdown, Signal, Start,
    },
    mailbox::{Events, mailbox},
    runtime::{clock::SystemClock, ports::JournalError},
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
    fn commit(&mut self, _: &Commit) -> Result<(), JournalError> {
        self.note("commit");
        Ok(())
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

#[tokio::test]
async fn a_start_is_answered_between_the_commits_of_the_worker_and_of_its_process() {
    let (mailbox, inbox) = mailbox();
    let clock = Arc::new(SystemClock);
    let machine_id = MachineId::new("machine");
    let config = Config::new(machine_id.clone());
    let machine = Machine::new(config, [0; 32], Recovered::default(), clock.now());
    let (view, mut latest) = watch::channel(Arc::new(machine.view()));
    let happened = Happened::default();
    let driver = Driver::new(Parts {
        machine,
        inbox,
        processes: Box::new(Quick(mailbox.events(), happened.clone())),
        journal: Box::new(happened.clone()),
        controller: Box::new(Nobody),
        clock,
        observer: Box::new(Nobody),
        view,
        announce: Box::new(drop),
    });
    let driver = tokio::spawn(driver.run());
    let (reply, receipt) = mailbox.ask(start(machine_id)).await.unwrap();
    happened.note("answered");
    let Reply::Started(Ok(id)) = reply else { panic!("{reply:?}") };
    let seen = latest.borrow_and_update().workers.get(id).unwrap().process;
    assert!(seen.is_some(), "who asks what runs is told of the process as soon as the caller is");
    drop(receipt);
    mailbox.shut_down(Shutdown::Detach);
    driver.await.unwrap();
    let happened = happened.0.lock().unwrap().clone();
    assert_eq!(happened, ["commit", "spawn", "answered", "commit"]);
}
