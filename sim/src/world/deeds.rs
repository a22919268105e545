//! Carrying out the plan: work and faults, and the ends of faults.

use std::{collections::BTreeMap, time::Duration};

use arroyo_node::{controller::Stop, ids::JobId, ids::MachineId, machine::Shutdown};

use super::{
    CALLER, CONTROLLER, World, agent_name,
    controller::{Command, Mood, job_spec},
    disk::Condition,
    links::Trouble,
};
use crate::{
    fact::{Ending, Fact},
    plan::{Deed, Fault},
};

/// When which fault ends.
#[derive(Debug, Default)]
pub(super) struct Ends {
    list: BTreeMap<(Duration, u64), End>,
    next: u64,
}

/// The end of a fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    Mend(usize, Trouble),
    Resume(usize, bool),
    Disk(usize),
    Mood,
    /// A machine without power is on the network again.
    Network(usize),
}

/// Why a fault does not strike.
const BUSY: &str = "the link has another fault";
const DOWN: &str = "it is down";

/// What is said of a disk whose fault is over.
pub(crate) const DISK_WORKS: &str = "the disk takes writes";

impl Ends {
    fn take(&mut self, now: Duration) -> Option<End> {
        let entry = self.list.first_entry().filter(|entry| entry.key().0 <= now)?;
        Some(entry.remove())
    }
}

impl World {
    pub(super) fn end_after(&mut self, ms: u64, end: End) {
        let at = self.sim.elapsed() + Duration::from_millis(ms);
        self.ends.list.insert((at, self.ends.next), end);
        self.ends.next += 1;
    }

    /// Everything in the plan whose time has come.
    pub(super) fn do_what_is_due(&mut self) {
        let now = self.sim.elapsed();
        while let Some(end) = self.ends.take(now) {
            self.end(end);
        }
        while let Some(timed) = self.plan.deeds.get(self.next_deed)
            && Duration::from_millis(timed.at_ms) <= now
        {
            let deed = timed.deed.clone();
            self.next_deed += 1;
            self.note(Fact::Deed(deed.clone()));
            self.carry_out(deed);
        }
    }

    /// Ends every fault at once.
    pub(super) fn end_all(&mut self) {
        for end in std::mem::take(&mut self.ends.list).into_values() {
            self.end(end);
        }
    }

    fn carry_out(&mut self, deed: Deed) {
        match deed {
            Deed::Submit { job, slots, old_dialect } => {
                let spec = job_spec(&job, slots, old_dialect);
                self.command(Command::Submit(spec));
            }
            Deed::Stop { job, force } => {
                let how = if force { Stop::Force } else { Stop::Gentle };
                self.command(Command::Stop(JobId::from(job), how));
            }
            Deed::Unwell { job } => self.command(Command::Unwell(JobId::from(job))),
            Deed::Call { agent, call } => self.caller.call(agent, call),
            Deed::Fault(fault) => match self.strike(&fault) {
                Ok(()) => *self.faults.entry(fault.kind().to_string()).or_default() += 1,
                Err(why) => self.note(Fact::Skipped(why)),
            },
        }
    }

    fn command(&self, command: Command) {
        if !self.controller.tell(command) {
            self.note(Fact::Skipped("there is no controller"));
        }
    }

    fn strike(&mut self, fault: &Fault) -> Result<(), &'static str> {
        let now = self.sim.elapsed();
        match *fault {
            Fault::Kill { agent, ms } => self.kill(agent, ms, Ending::Killed)?,
            Fault::KillWhen { agent, moment, ms } => {
                self.recorder.triggers(|triggers| triggers.set(agent, moment, ms));
            }
            Fault::Damage { agent, ms } => {
                self.kill(agent, ms, Ending::Killed)?;
                self.files(self.agents[agent].damage());
            }
            Fault::PowerLoss { agent, ms, cut_permille } => {
                self.lose_power(agent, ms, cut_permille)?;
            }
            Fault::Detach { agent, ms } => self.send_off(agent, Shutdown::Detach, ms)?,
            Fault::ShutDown { agent, ms } => self.send_off(agent, Shutdown::StopWorkers, ms)?,
            Fault::Pause { agent, ms } => self.pause(agent, ms)?,
            Fault::KillShim { agent } => {
                let killed = self.agents[agent].table(|table| table.kill_shim(now));
                killed.then_some(()).ok_or("there is no shim")?;
            }
            Fault::OutOfMemory { agent, nth } => {
                let killed = self.agents[agent].table(|table| table.run_out_of_memory(nth, now));
                killed.then_some(()).ok_or("there is no worker")?;
            }
            Fault::Disk { agent, ms } => {
                self.agents[agent].disk.set(Condition::Full("No space left on device"));
                self.end_after(ms, End::Disk(agent));
            }
            Fault::DiskHangs { agent, ms, writes } => {
                self.agents[agent].disk.set(Condition::Hangs(writes));
                self.end_after(ms, End::Disk(agent));
            }
            Fault::ClockJump { agent, by_ms } => self.agents[agent].clock.jump(by_ms),
            Fault::Partition { agent, ms } => self.trouble(agent, Trouble::Cut, ms)?,
            Fault::Deaf { agent, ms } => self.trouble(agent, Trouble::Deaf, ms)?,
            Fault::Mute { agent, ms } => self.trouble(agent, Trouble::Mute, ms)?,
            Fault::Hold { agent, ms } => self.trouble(agent, Trouble::Held, ms)?,
            Fault::StartAnswerLost { agent, ms } => self.links.arm(agent, ms),
            Fault::ControllerVanishes { ms } => {
                for agent in 0..self.agents.len() {
                    // A link that is cut already hides the end just as well.
                    let _ = self.trouble(agent, Trouble::Cut, ms);
                }
                self.kill_controller(ms, true);
            }
            Fault::ControllerKill { ms, resubmit } => self.kill_controller(ms, resubmit),
            Fault::Forget { agent } => {
                self.command(Command::Forget(MachineId::from(agent_name(agent))));
            }
            Fault::ControllerSlow { ms, each_ms } => {
                self.set_mood(Mood::Slow(Duration::from_millis(each_ms)), ms);
            }
            Fault::ControllerHangs { ms } => self.set_mood(Mood::Hung, ms),
            Fault::AnswersLost { ms } => self.set_mood(Mood::LosesAnswers, ms),
        }
        Ok(())
    }

    fn end(&mut self, end: End) {
        match end {
            End::Mend(agent, trouble) => {
                self.links.mend(&self.sim, agent, trouble);
                self.note(Fact::Over("the link is in order"));
            }
            End::Resume(agent, held) => {
                if held {
                    self.links.mend(&self.sim, agent, Trouble::Held);
                }
                let agent = &self.agents[agent];
                if agent.gate.is_closed() {
                    agent.gate.open();
                    agent.note(Fact::Resumed);
                }
            }
            End::Disk(agent) => {
                self.agents[agent].disk.set(Condition::Works);
                self.agents[agent].note(Fact::Over(DISK_WORKS));
            }
            End::Mood => {
                self.controller.set_mood(Mood::Fine);
                self.note(Fact::Over("the controller answers"));
            }
            End::Network(agent) => {
                self.sim.repair(agent_name(agent), CALLER);
                self.links.mend(&self.sim, agent, Trouble::Cut);
                self.note(Fact::Over("the machine is on the network"));
            }
        }
    }

    fn trouble(&mut self, agent: usize, trouble: Trouble, ms: u64) -> Result<(), &'static str> {
        if !self.links.trouble(&self.sim, agent, trouble) {
            return Err(BUSY);
        }
        self.end_after(ms, End::Mend(agent, trouble));
        Ok(())
    }

    fn set_mood(&mut self, mood: Mood, ms: u64) {
        self.controller.set_mood(mood);
        self.end_after(ms, End::Mood);
    }

    fn kill_controller(&mut self, ms: u64, resubmit: bool) {
        let start_at = self.sim.elapsed() + Duration::from_millis(ms);
        self.controller.bury(start_at, resubmit);
        self.sim.bounce(CONTROLLER);
    }

    /// kill -9: whatever is in memory is gone, the files stay as they are.
    fn kill(&mut self, agent: usize, ms: u64, how: Ending) -> Result<(), &'static str> {
        let host = self.agents[agent].clone();
        if !host.is_running() {
            return Err(DOWN);
        }
        self.leaving.remove(&agent);
        self.files(host.bury(self.sim.elapsed() + Duration::from_millis(ms)));
        self.sim.bounce(agent_name(agent));
        host.note(Fact::AgentGone(how));
        match how {
            Ending::PowerLost => host.table(|table| table.lose_power(self.sim.elapsed())),
            Ending::Killed | Ending::Finished => {
                host.table(crate::process::Table::agent_gone);
            }
        }
        Ok(())
    }

    /// Kills whose moment has come.
    pub(super) fn spring_triggers(&mut self) {
        for (agent, ms) in self.recorder.triggers(crate::triggers::Triggers::take) {
            if let Err(why) = self.kill(agent, ms, Ending::Killed) {
                self.note(Fact::Skipped(why));
            }
        }
    }

    fn lose_power(&mut self, agent: usize, ms: u64, permille: u64) -> Result<(), &'static str> {
        if !self.agents[agent].is_running() {
            return Err(DOWN);
        }
        if !self.links.trouble(&self.sim, agent, Trouble::Cut) {
            return Err(BUSY);
        }
        // Nobody gets so much as a farewell.
        self.sim.partition(agent_name(agent), CALLER);
        self.kill(agent, ms, Ending::PowerLost)?;
        let cut = self.agents[agent].cut_log(permille, self.sim.elapsed());
        if self.files(cut) == Some(true) {
            self.recorder.mark("power loss cut the journal");
        }
        self.end_after(ms, End::Network(agent));
        Ok(())
    }

    fn pause(&mut self, agent: usize, ms: u64) -> Result<(), &'static str> {
        let host = &self.agents[agent];
        if !host.is_running() || host.gate.is_closed() {
            return Err(DOWN);
        }
        host.gate.close();
        host.note(Fact::Paused);
        let held = self.links.trouble(&self.sim, agent, Trouble::Held);
        self.end_after(ms, End::Resume(agent, held));
        Ok(())
    }

    fn send_off(&mut self, agent: usize, how: Shutdown, ms: u64) -> Result<(), &'static str> {
        if self.leaving.contains_key(&agent) || !self.agents[agent].shut_down(how) {
            return Err(DOWN);
        }
        self.leaving.insert(agent, ms);
        Ok(())
    }

    /// Agents that have ended as they were told are followed by others.
    pub(super) fn restart_those_who_left(&mut self) {
        let gone = |agent: &usize| !self.agents[*agent].is_running();
        let gone: Vec<usize> = self.leaving.keys().copied().filter(gone).collect();
        for agent in gone {
            let ms = self.leaving.remove(&agent).unwrap_or(0);
            self.files(self.agents[agent].bury(self.sim.elapsed() + Duration::from_millis(ms)));
            self.sim.bounce(agent_name(agent));
        }
    }

    /// Trouble with the simulator's own files is nobody's fault but ours.
    fn files<T>(&self, result: std::io::Result<T>) -> Option<T> {
        if let Err(error) = &result {
            self.recorder.fail("simulator", format!("its own files: {error}"));
        }
        result.ok()
    }
}
