//! Deeds in words, for traces and pictures.

use std::fmt;

use super::{Deed, Fault};
use crate::world::agent_name;

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Submit { job, slots, old_dialect } => {
                let dialect = if *old_dialect { ", in 0.15" } else { "" };
                write!(f, "submit {job}, {slots} slots{dialect}")
            }
            Self::Stop { job, force } => {
                write!(f, "stop {job} {}", if *force { "by force" } else { "gently" })
            }
            Self::Unwell { job } => write!(f, "{job} is not well"),
            Self::Call { agent, call } => write!(f, "call {}: {call:?}", agent_name(*agent)),
            Self::Fault(fault) => fault.fmt(f),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind())?;
        if let Some(agent) = self.agent() {
            write!(f, " {}", agent_name(agent))?;
        }
        if let Some(ms) = self.ms() {
            write!(f, " for {ms} ms")?;
        }
        match self {
            Self::KillWhen { moment, .. } => write!(f, ", at the next {moment:?}"),
            Self::PowerLoss { cut_permille, .. } => write!(f, ", {cut_permille}‰ of the log kept"),
            Self::ClockJump { by_ms, .. } => write!(f, " by {by_ms} ms"),
            Self::DiskHangs { writes, .. } => write!(f, ", it writes {writes:?}"),
            Self::Deaf { .. } => f.write_str(", towards the controller"),
            Self::Mute { .. } => f.write_str(", from the controller"),
            Self::ControllerSlow { each_ms, .. } => write!(f, ", {each_ms} ms an answer"),
            Self::ControllerKill { resubmit: true, .. } => f.write_str(", jobs go on after it"),
            _ => Ok(()),
        }
    }
}

impl Fault {
    /// Whom it strikes; `None`: the controller.
    pub fn agent(&self) -> Option<usize> {
        match self {
            Self::Kill { agent, .. }
            | Self::KillWhen { agent, .. }
            | Self::PowerLoss { agent, .. }
            | Self::Damage { agent, .. }
            | Self::Detach { agent, .. }
            | Self::ShutDown { agent, .. }
            | Self::Pause { agent, .. }
            | Self::KillShim { agent }
            | Self::OutOfMemory { agent, .. }
            | Self::Disk { agent, .. }
            | Self::DiskHangs { agent, .. }
            | Self::ClockJump { agent, .. }
            | Self::Partition { agent, .. }
            | Self::Deaf { agent, .. }
            | Self::Mute { agent, .. }
            | Self::Hold { agent, .. }
            | Self::Forget { agent }
            | Self::StartAnswerLost { agent, .. } => Some(*agent),
            Self::ControllerVanishes { .. }
            | Self::ControllerKill { .. }
            | Self::ControllerSlow { .. }
            | Self::ControllerHangs { .. }
            | Self::AnswersLost { .. } => None,
        }
    }

    /// How long it lasts, in milliseconds; `None`: it is over at once.
    pub fn ms(&self) -> Option<u64> {
        match self {
            Self::Kill { ms, .. }
            | Self::KillWhen { ms, .. }
            | Self::PowerLoss { ms, .. }
            | Self::Damage { ms, .. }
            | Self::Detach { ms, .. }
            | Self::ShutDown { ms, .. }
            | Self::Pause { ms, .. }
            | Self::Disk { ms, .. }
            | Self::DiskHangs { ms, .. }
            | Self::Partition { ms, .. }
            | Self::Deaf { ms, .. }
            | Self::Mute { ms, .. }
            | Self::Hold { ms, .. }
            | Self::StartAnswerLost { ms, .. }
            | Self::ControllerVanishes { ms }
            | Self::ControllerKill { ms, .. }
            | Self::ControllerSlow { ms, .. }
            | Self::ControllerHangs { ms }
            | Self::AnswersLost { ms } => Some(*ms),
            Self::KillShim { .. }
            | Self::OutOfMemory { .. }
            | Self::ClockJump { .. }
            | Self::Forget { .. } => None,
        }
    }
}
