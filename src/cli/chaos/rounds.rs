//! Round after round: some harm, what was killed is started again, and a look at everything.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::bail;
use nix::sys::signal::Signal;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

use super::{
    agent::{self, Agent, PATIENCE},
    dice::Dice,
    fault::Fault,
    load, promises,
    town::Town,
    watch::watch,
};
use crate::{cli::stdout::say, controller::Snapshot};

/// See the module's words.
pub(super) struct Rounds {
    town: Arc<Town>,
    seed: u64,
    dice: Dice,
    agent: Option<Agent>,
    load: JoinHandle<()>,
    /// Tell of each round as it ends.
    talk: bool,
    told: usize,
    began: Instant,
    number: u32,
    pub(super) faults: BTreeMap<Fault, u32>,
    /// From the start of each agent until it served and knew its workers.
    pub(super) adoptions: Vec<Duration>,
    /// From the end of all harm until all books were closed.
    pub(super) healed_after: Duration,
}

impl Rounds {
    pub(super) async fn begin(town: Arc<Town>, seed: u64, talk: bool) -> anyhow::Result<Self> {
        start_controller(&town).await?;
        let mut rounds = Self {
            town: town.clone(),
            seed,
            dice: Dice::new(seed, 1),
            agent: None,
            load: tokio::spawn(async {}),
            talk,
            told: 0,
            began: Instant::now(),
            number: 0,
            faults: BTreeMap::new(),
            adoptions: Vec::new(),
            healed_after: Duration::ZERO,
        };
        rounds.restore_agent().await?;
        rounds.load = tokio::spawn(load::run(town, Dice::new(seed, 2), Dice::new(seed, 3)));
        Ok(rounds)
    }

    /// How many there were.
    pub(super) fn done(&self) -> u32 {
        self.number
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    pub(super) async fn next(&mut self) -> anyhow::Result<()> {
        self.number += 1;
        self.town.ledger().round = self.number;
        let fault = Fault::draw(&mut self.dice);
        *self.faults.entry(fault).or_default() += 1;
        sleep(self.dice.millis(10, 250)).await;
        self.harm(fault).await?;
        self.restore_agent().await?;
        self.check().await;
        self.tell(&fault.to_string());
        Ok(())
    }

    /// Lets everything heal, ends everything, and looks at what is left.
    pub(super) async fn end(&mut self) -> anyhow::Result<()> {
        self.load.abort();
        let _ = (&mut self.load).await;
        self.restore_agent().await?;
        self.check().await;
        self.healed_after = promises::heal(&self.town).await;
        if let Some(mut agent) = self.agent.take() {
            agent.signal(Signal::SIGTERM)?;
            let status = agent.end().await?;
            if !status.success() {
                self.town.ledger().broke(format!("the agent ended with {status} on SIGTERM"));
            }
        }
        let deadline = Instant::now() + PATIENCE;
        while !self.town.alive()?.is_empty() && Instant::now() < deadline {
            sleep(Duration::from_millis(10)).await;
        }
        for left in self.town.alive()? {
            self.town.ledger().broke(format!("a process is left when all has ended: {left:?}"));
        }
        self.town.control.kill().await;
        self.tell("the end");
        Ok(())
    }

    async fn check(&mut self) {
        if let Err(error) = promises::check(&self.town).await {
            self.town.ledger().broke(format!("the agent served, and then did not: {error:#}"));
        }
    }

    async fn harm(&mut self, fault: Fault) -> anyhow::Result<()> {
        match fault {
            Fault::KillAgent => {
                self.kill_agent()?;
                self.pause(200).await;
            }
            Fault::KillShim => drop(agent::kill_shim(&self.town)),
            Fault::KillBoth => {
                let agent_first = self.dice.percent(50);
                if agent_first {
                    self.kill_agent()?;
                } else {
                    agent::kill_shim(&self.town);
                }
                self.pause(30).await;
                self.kill_agent()?;
                agent::kill_shim(&self.town);
                self.pause(200).await;
            }
            Fault::KillAgentAgain => {
                self.kill_agent()?;
                for _ in 0..=self.dice.below(3) {
                    self.start_agent()?;
                    self.pause(80).await;
                    self.kill_agent()?;
                }
            }
            Fault::KillShimAtStart => {
                self.kill_agent()?;
                self.start_agent()?;
                self.pause(60).await;
                agent::kill_shim(&self.town);
            }
            Fault::RestartController => {
                self.town.ledger().forgetting();
                let books = self.town.control.kill().await;
                self.pause(300).await;
                self.restore_controller(books).await?;
            }
            Fault::KillAgentAndController => {
                self.town.ledger().forgetting();
                let books = self.town.control.kill().await;
                // Meanwhile workers end that nobody can be told of.
                self.pause(500).await;
                self.kill_agent()?;
                if self.dice.percent(50) {
                    self.restore_agent().await?;
                }
                self.restore_controller(books).await?;
            }
            Fault::Detach => self.detach().await?,
            Fault::PauseAgent | Fault::PauseAgentKillShim => self.pause_agent(fault).await?,
            Fault::PauseShim | Fault::PauseShimKillAgent => self.pause_shim(fault).await?,
            Fault::ForgetNode => {
                self.town.ledger().forgetting();
                let machine = &self.town.machine;
                self.town.control.with(|controller| controller.forget_node(machine));
            }
        }
        Ok(())
    }

    /// A time of up to so many milliseconds, and often none.
    async fn pause(&mut self, most: u64) {
        if self.dice.percent(70) {
            sleep(self.dice.millis(0, most)).await;
        }
    }

    fn kill_agent(&mut self) -> anyhow::Result<()> {
        if let Some(mut agent) = self.agent.take() {
            self.check_runs(&mut agent)?;
            agent.kill()?;
        }
        Ok(())
    }

    async fn detach(&mut self) -> anyhow::Result<()> {
        let Some(mut agent) = self.agent.take() else { return Ok(()) };
        self.check_runs(&mut agent)?;
        agent.signal(Signal::SIGUSR1)?;
        let status = agent.end().await?;
        if !status.success() {
            self.town.ledger().broke(format!("the agent ended with {status} when detached"));
        }
        self.pause(200).await;
        Ok(())
    }

    async fn pause_agent(&mut self, fault: Fault) -> anyhow::Result<()> {
        if let Some(agent) = &mut self.agent {
            agent.signal(Signal::SIGSTOP)?;
        }
        self.pause(600).await;
        if fault == Fault::PauseAgentKillShim {
            agent::kill_shim(&self.town);
            self.pause(600).await;
        }
        if let Some(agent) = &mut self.agent {
            agent.signal(Signal::SIGCONT)?;
        }
        Ok(())
    }

    async fn pause_shim(&mut self, fault: Fault) -> anyhow::Result<()> {
        agent::signal_shim(&self.town, Signal::SIGSTOP);
        // Longer than the agent waits before it kills in the shim's place.
        self.pause(1_500).await;
        if fault == Fault::PauseShimKillAgent {
            self.kill_agent()?;
            self.start_agent()?;
            self.pause(600).await;
        }
        agent::signal_shim(&self.town, Signal::SIGCONT);
        Ok(())
    }

    async fn restore_controller(&mut self, books: Option<Snapshot>) -> anyhow::Result<()> {
        start_controller(&self.town).await?;
        self.pause(300).await;
        if let Some(books) = books {
            load::resubmit(&self.town, &books, &mut self.dice);
        }
        Ok(())
    }

    fn start_agent(&mut self) -> anyhow::Result<()> {
        self.agent = Some(Agent::start(&self.town)?);
        Ok(())
    }

    /// Sees to it that an agent runs and serves.
    async fn restore_agent(&mut self) -> anyhow::Result<()> {
        let fresh = self.agent.as_ref().is_none_or(|agent| !agent.has_served);
        let deadline = Instant::now() + PATIENCE;
        loop {
            match &mut self.agent {
                Some(agent) => {
                    if let Some(status) = agent.ended()? {
                        self.ended_by_itself(&status.to_string());
                        self.agent = None;
                        // Not as fast as it can, should it never succeed.
                        sleep(Duration::from_millis(100)).await;
                        continue;
                    }
                }
                None => self.start_agent()?,
            }
            if self.town.list().await.is_ok() {
                break;
            }
            if Instant::now() > deadline {
                let log = self.town.log();
                bail!(
                    "round {}, seed {}: no agent serves after {PATIENCE:?}; the last one said:\n    {}",
                    self.number,
                    self.seed,
                    self.town.last_words(&log)
                );
            }
            sleep(Duration::from_millis(2)).await;
        }
        if let Some(agent) = self.agent.as_mut().filter(|_| fresh) {
            agent.has_served = true;
            self.adoptions.push(agent.started.elapsed());
        }
        Ok(())
    }

    fn check_runs(&self, agent: &mut Agent) -> anyhow::Result<()> {
        if let Some(status) = agent.ended()? {
            self.ended_by_itself(&status.to_string());
        }
        Ok(())
    }

    fn ended_by_itself(&self, how: &str) {
        let said = self.town.last_words(&self.town.log());
        self.town.ledger().broke(format!("an agent ended by itself, {how}; it said:\n    {said}"));
    }

    fn tell(&mut self, what: &str) {
        if !self.talk {
            return;
        }
        let ledger = self.town.ledger();
        let workers: Vec<_> = ledger.workers.values().filter(|worker| worker.counts()).collect();
        let live = workers.iter().filter(|worker| worker.ending.is_none()).count();
        let total = workers.len();
        let at = self.began.elapsed().as_secs_f64();
        let number = self.number;
        say(format_args!(
            "{at:7.1}s  round {number:4}  {live:3} of {total:5} workers live  {what}"
        ));
        for broken in &ledger.broken[self.told..] {
            say(format_args!(
                "BROKEN in round {}, seed {}: {}",
                broken.round, self.seed, broken.what
            ));
        }
        self.told = ledger.broken.len();
    }
}

impl Drop for Rounds {
    fn drop(&mut self) {
        self.load.abort();
    }
}

async fn start_controller(town: &Arc<Town>) -> anyhow::Result<()> {
    let events = town.control.start(town.controller_address).await?;
    tokio::spawn(watch(town.clone(), events));
    Ok(())
}
