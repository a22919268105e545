//! What can happen, as data: made up and shrunk by proptest, read from bytes by libFuzzer,
//! enumerated by the [search](crate::search).
//!
//! Any number is good: each is taken modulo what there is to choose from when its action comes.

use std::fmt;

use arbitrary::{Arbitrary, Unstructured};
use arroyo_node::machine::{Shutdown, StopHow};

/// One run of a world.
#[derive(Clone, Arbitrary)]
pub struct Scenario {
    /// What it begins with.
    pub settings: Settings,
    /// What happens then.
    pub steps: Vec<Step>,
}

/// What a world begins with.
#[derive(Clone, Debug, Arbitrary)]
pub struct Settings {
    /// Of the machine's chance.
    pub seed: u8,
    /// The agent's capacity.
    pub capacity: Capacity,
    /// Whether the agent stops its workers when it has long been without a controller.
    pub fencing: bool,
    /// What becomes of workers that the controller has forgotten.
    pub abandoned: Abandoned,
}

/// What becomes of workers that the controller has forgotten.
#[derive(Clone, Copy, Debug, Arbitrary)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Abandoned {
    StopAfter,
    End,
    Keep,
}

/// Few numbers of slots, so that they run out.
#[derive(Clone, Copy, Debug, Arbitrary)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Capacity {
    Two,
    Four,
    Eight,
}

/// An action, and whether the driver takes in what is ready before the next one: if it does not,
/// the events of both share a batch.
#[derive(Clone, Arbitrary)]
pub struct Step {
    /// What happens.
    pub action: Action,
    /// Whether the driver gets a turn then.
    pub turn: bool,
}

/// Numbers named `which` choose among what is there when the action comes.
#[derive(Clone, Debug, Arbitrary)]
pub enum Action {
    /// StartWorker, of one of few jobs, generations, sizes and keys, so that they meet.
    #[expect(missing_docs, reason = "the fields of a StartWorker")]
    Start { job: u8, generation: u8, slots: u8, key: Option<u8>, elsewhere: bool },
    /// The last StartWorker again, under another request.
    StartAgain,
    /// StopWorker, of any worker that ever was.
    #[expect(missing_docs, reason = "the fields of a StopWorker")]
    Stop {
        which: u8,
        #[arbitrary(with = stop_how)]
        how: StopHow,
    },
    /// Is this the agent that is meant?
    #[expect(missing_docs, reason = "the name says it")]
    Alive { elsewhere: bool },
    /// SetDraining.
    Drain(bool),
    /// The agent is to end.
    #[expect(missing_docs, reason = "the names say it")]
    Shutdown {
        #[arbitrary(with = shutdown)]
        how: Shutdown,
        by_request: bool,
    },
    /// Something that the agent submitted is answered.
    #[expect(missing_docs, reason = "the names say it")]
    Answer { which: u8, outcome: Outcome },
    /// Everything that the agent submitted is answered, and well.
    AnswerAll,
    /// A worker ends by itself.
    #[expect(missing_docs, reason = "the names say it")]
    Exit { which: u8, code: u8 },
    /// The connection to the controller is lost.
    LoseConnection {
        /// The controller's computer closed it.
        closed: bool,
    },
    /// A heartbeat is answered that was given up.
    LateAnswer,
    /// From now on the program of workers can be executed, or cannot.
    ProgramWorks(bool),
    /// The controller loses its memory.
    ForgetNodes,
    /// Time passes, and the agent is woken whenever it asked to be.
    Pass(Millis),
    /// Time passes, and the agent does not run: it wakes late.
    Sleep(Millis),
    /// The wall clock is set, by so many seconds.
    JumpWall(i32),
    /// From now on commits succeed, or fail.
    JournalWorks(bool),
    /// From now on signals can be sent, or cannot.
    SignalsWork(bool),
    /// The agent is killed once this many effects of the next batch are executed, and comes back.
    Crash {
        /// How many.
        after: u8,
        /// Whether the computer goes down with it.
        reboot: bool,
        /// Which workers end before it is back: a bit for each.
        deaths: u8,
        /// Of the agent that comes back.
        capacity: Capacity,
    },
}

/// Up to a minute, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Millis(pub u16);

/// How something submitted comes out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Arbitrary)]
pub enum Outcome {
    /// It happened, and the answer says so.
    Good,
    /// It did not happen.
    Bad,
    /// It happened, and the answer says that it did not; or in an order one would not expect.
    Odd,
}

impl Scenario {
    /// Any bytes are a scenario; of what would be a long one, only the beginning.
    pub fn read(bytes: &[u8]) -> Self {
        const MOST_STEPS: usize = 200;
        let read = Self::arbitrary_take_rest(Unstructured::new(bytes));
        let mut scenario = read.unwrap_or_else(|_| Self {
            settings: Settings {
                seed: 0,
                capacity: Capacity::Two,
                fencing: false,
                abandoned: Abandoned::StopAfter,
            },
            steps: Vec::new(),
        });
        scenario.steps.truncate(MOST_STEPS);
        scenario
    }
}

impl Capacity {
    /// In slots.
    pub fn slots(self) -> u64 {
        match self {
            Capacity::Two => 2,
            Capacity::Four => 4,
            Capacity::Eight => 8,
        }
    }
}

impl Arbitrary<'_> for Millis {
    fn arbitrary(bytes: &mut Unstructured<'_>) -> arbitrary::Result<Self> {
        Ok(Self(bytes.int_in_range(0..=60_000)?))
    }
}

fn stop_how(bytes: &mut Unstructured<'_>) -> arbitrary::Result<StopHow> {
    bytes.choose(&[StopHow::Ask, StopHow::Gentle, StopHow::Force]).copied()
}

fn shutdown(bytes: &mut Unstructured<'_>) -> arbitrary::Result<Shutdown> {
    bytes.choose(&[Shutdown::StopWorkers, Shutdown::Detach]).copied()
}

impl fmt::Debug for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:?}", self.settings)?;
        self.steps.iter().try_for_each(|step| {
            let turn = if step.turn { "; turn" } else { "" };
            writeln!(f, "    {:?}{turn}", step.action)
        })
    }
}
