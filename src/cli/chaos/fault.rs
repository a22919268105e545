//! The kinds of harm.

use std::fmt;

use super::dice::Dice;

/// What one round does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Fault {
    /// `kill -9` of the agent.
    KillAgent,
    /// `kill -9` of the shim.
    KillShim,
    /// `kill -9` of both, in either order.
    KillBoth,
    /// `kill -9` of the agent, and again while the next one starts.
    KillAgentAgain,
    /// `kill -9` of the shim while the agent is being started.
    KillShimAtStart,
    /// The controller is gone and comes back with empty memory.
    RestartController,
    /// The controller and the agent are gone together.
    KillAgentAndController,
    /// The agent is told to leave its workers to the next one.
    Detach,
    /// The agent is stopped and continued (SIGSTOP, SIGCONT).
    PauseAgent,
    /// The shim is killed while the agent is stopped.
    PauseAgentKillShim,
    /// The shim is stopped and continued (SIGSTOP, SIGCONT).
    PauseShim,
    /// The agent is killed while the shim is stopped, and the next one started.
    PauseShimKillAgent,
    /// The controller forgets the agent.
    ForgetNode,
}

const OFTEN: &[(u64, Fault)] = &[
    (20, Fault::KillAgent),
    (15, Fault::KillShim),
    (15, Fault::KillBoth),
    (8, Fault::KillAgentAgain),
    (8, Fault::KillShimAtStart),
    (8, Fault::RestartController),
    (6, Fault::KillAgentAndController),
    (8, Fault::Detach),
    (6, Fault::PauseAgent),
    (4, Fault::PauseAgentKillShim),
    (6, Fault::PauseShim),
    (4, Fault::PauseShimKillAgent),
    (2, Fault::ForgetNode),
];

impl Fault {
    pub(super) fn draw(dice: &mut Dice) -> Self {
        dice.weighted(OFTEN)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::KillAgent => "agent killed",
            Self::KillShim => "shim killed",
            Self::KillBoth => "agent and shim killed",
            Self::KillAgentAgain => "agent killed, and again while it started",
            Self::KillShimAtStart => "shim killed while the agent started",
            Self::RestartController => "controller restarted",
            Self::KillAgentAndController => "agent and controller killed",
            Self::Detach => "agent detached",
            Self::PauseAgent => "agent paused",
            Self::PauseAgentKillShim => "shim killed while the agent was paused",
            Self::PauseShim => "shim paused",
            Self::PauseShimKillAgent => "agent killed while the shim was paused",
            Self::ForgetNode => "agent forgotten by the controller",
        })
    }
}
