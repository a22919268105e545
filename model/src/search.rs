//! Every interleaving of a small world: breadth first over its states, each looked at once.
//!
//! ```text
//!   state ──▶ every move that is possible ──▶ the agent takes it in ──▶ killed after 0, 1, 2…
//!     ▲                                              │                  effects of it, or not
//!     └───────────── states not seen before ◀────────┘
//! ```
//!
//! A state is the machine, the reference model, the world around them and what is left of the
//! [`Budget`]. Two states are the same if all of that reads the same; of chance, little is left here
//! (no jitter, no backoff), and how much of it has been drawn makes no difference. Every transition
//! is checked as in the property tests. Then faults are ended, and a minute later all must be well.

use std::{
    collections::{HashSet, VecDeque},
    fmt::{self, Write as _},
    hash::{DefaultHasher, Hasher as _},
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use arroyo_node::{
    ids::{RequestId, WorkerId},
    machine::{Ask, Backoff, Exit, StopHow},
};

use crate::{
    scenario::{Abandoned, Action, Capacity, Outcome, Settings},
    world::{Doom, Pending, Trace, World, a_start},
};

/// A small world, and how much may happen in it.
#[derive(Clone, Debug)]
pub struct Small {
    /// What is asked: each once, at any time, in any order.
    pub requests: Vec<Request>,
    /// How often each kind of thing may happen that is not asked for.
    pub budget: Budget,
    /// Whether responses may leave later than at once.
    pub late_responses: bool,
    /// Whether faults are ended from every state, or only from those in which nothing can happen
    /// any more.
    pub heal_all: bool,
}

/// A request. Jobs and generations are small numbers; each worker takes half of the slots, or all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Request {
    Start {
        job: u8,
        generation: u8,
        slots: u8,
    },
    /// The start of this index again, under the same key.
    Repeat(usize),
    /// Of the worker that the start of this index led to.
    Stop(usize, StopHow),
    Drain,
}

/// How much may still happen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Budget {
    /// Kills of the agent: between any two effects, or at rest.
    pub crashes: u8,
    /// How many of the kills may take the computer along.
    pub reboots: u8,
    /// Calls that take effect and whose answers say that they failed; programs that end before
    /// their start is answered.
    pub lost_answers: u8,
    /// Calls that fail; programs that cannot be run.
    pub failures: u8,
    /// How often the controller forgets its nodes.
    pub forgets: u8,
    /// How often it is restarted: it forgets its nodes, and its connections are closed.
    pub restarts: u8,
    /// Commits that fail.
    pub failing_commits: u8,
    /// Signals that cannot be sent.
    pub failing_signals: u8,
    /// Workers that end by themselves.
    pub exits: u8,
    /// How often the agent is woken by its timers.
    pub wakings: u8,
}

impl Budget {
    /// Nothing but what is asked for.
    pub const NONE: Self = Self {
        crashes: 0,
        reboots: 0,
        lost_answers: 0,
        failures: 0,
        forgets: 0,
        restarts: 0,
        failing_commits: 0,
        failing_signals: 0,
        exits: 0,
        wakings: 0,
    };

    /// The kills that may still happen: whether the computer goes down, too.
    fn kills(self) -> impl Iterator<Item = bool> {
        [false, true]
            .into_iter()
            .filter(move |reboot| self.crashes > 0 && (!reboot || self.reboots > 0))
    }
}

/// What a search has seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Seen {
    /// Different states.
    pub states: usize,
    /// Moves from one to another, or to one seen before.
    pub transitions: usize,
    /// The most moves to a state.
    pub depth: usize,
    /// States from which faults were ended.
    pub healed: usize,
}

/// A way to a broken promise: there is no shorter one.
#[derive(Clone, Debug)]
pub struct Broken {
    /// The moves.
    pub moves: Vec<String>,
    /// What was broken then.
    pub promise: String,
    /// What had been seen by then.
    pub seen: Seen,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Seen { states, transitions, depth, healed } = self;
        write!(f, "{states} states, {transitions} transitions, depth {depth}, {healed} healed")
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Seen { states, transitions, .. } = self.seen;
        writeln!(f, "broken after {transitions} transitions, {states} states:")?;
        self.moves.iter().try_for_each(|step| writeln!(f, "    {step}"))?;
        f.write_str(&self.promise)
    }
}

/// One thing that can happen, and whether the agent is killed on the way.
#[derive(Clone, Copy, Debug)]
struct Move {
    what: What,
    doom: Option<Doom>,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Ask(usize),
    Answer(usize, Outcome),
    Exit(WorkerId),
    Wake,
    Crash { reboot: bool },
    Forget,
    Restart,
    BreakJournal,
    BreakSignals,
    Repair,
}

#[derive(Clone)]
struct State {
    world: World,
    budget: Budget,
    /// Which requests have been made: a bit for each.
    asked: u32,
    /// The last move to it, by its index in [`Ways`]; `None`: the first state.
    way: Option<usize>,
    depth: usize,
}

/// How each state was come to: the move, and the one before that.
type Ways = Vec<(Option<usize>, Move)>;

impl Small {
    /// Looks at every state that can be reached.
    ///
    /// # Errors
    /// A promise was broken, or the machine panicked.
    pub fn search(&self) -> Result<Seen, Box<Broken>> {
        let seen = Seen { states: 1, ..Seen::default() };
        let first = caught(|| Ok(self.first(Trace::default())));
        let first = first.map_err(|promise| Broken { moves: Vec::new(), promise, seen })?;
        let mut search = Search {
            small: self,
            seen,
            known: HashSet::from([key(&first)]),
            ways: Ways::new(),
            frontier: VecDeque::from([first]),
        };
        while let Some(state) = search.frontier.pop_front() {
            search.look_at(&state)?;
        }
        Ok(search.seen)
    }

    fn first(&self, trace: Trace) -> State {
        let settings = Settings {
            seed: 0,
            capacity: Capacity::Eight,
            fencing: false,
            abandoned: Abandoned::StopAfter,
        };
        let mut config = World::config(&settings);
        config.heartbeat_jitter = Duration::ZERO;
        config.backoff = Backoff { first: Duration::ZERO, most: Duration::ZERO };
        let world = World::with_trace(config, settings.seed, trace);
        State { world, budget: self.budget, asked: 0, way: None, depth: 0 }
    }

    /// Everything that can happen next.
    fn moves(&self, state: &State) -> Vec<What> {
        let State { world, budget, .. } = state;
        let open = (0..self.requests.len()).filter(|index| state.asked >> index & 1 == 0);
        let mut moves: Vec<What> =
            open.filter(|index| self.ask(state, *index).is_some()).map(What::Ask).collect();
        for (index, call) in world.pending().iter().enumerate() {
            moves.push(What::Answer(index, Outcome::Good));
            if budget.failures > 0 && can_fail(call) {
                moves.push(What::Answer(index, Outcome::Bad));
            }
            if budget.lost_answers > 0 && can_be_lost(call) {
                moves.push(What::Answer(index, Outcome::Odd));
            }
        }
        if budget.exits > 0 {
            moves.extend(world.alive().into_iter().map(What::Exit));
        }
        moves.extend(budget.kills().map(|reboot| What::Crash { reboot }));
        let spare = [
            (budget.wakings > 0 && world.sleeps(), What::Wake),
            (budget.forgets > 0, What::Forget),
            (budget.restarts > 0, What::Restart),
            (budget.failing_commits > 0 && world.is_sound(), What::BreakJournal),
            (budget.failing_signals > 0 && world.is_sound(), What::BreakSignals),
            (!world.is_sound(), What::Repair),
        ];
        moves.extend(spare.into_iter().filter(|(can, _)| *can).map(|(_, what)| what));
        moves
    }

    /// What a request says, if it can be made now.
    fn ask(&self, state: &State, index: usize) -> Option<Ask> {
        match self.requests[index] {
            Request::Start { job, generation, slots } => {
                let repeated = self.requests.contains(&Request::Repeat(index));
                let number = u8::try_from(index).expect("few requests");
                let mut start = a_start(job, generation, slots, repeated.then_some(number));
                start.env.insert("INDEX".into(), index.to_string());
                Some(Ask::Start(start))
            }
            Request::Repeat(first) if state.asked >> first & 1 == 1 => self.ask(state, first),
            Request::Repeat(_) => None,
            Request::Stop(start, how) => {
                let index = start.to_string();
                let worker = state.world.spawned_with("INDEX", &index)?;
                Some(Ask::Stop { worker, how })
            }
            Request::Drain => Some(Ask::SetDraining(true)),
        }
    }

    /// Makes a move. `None`: the agent was to be killed after more effects than there were.
    fn make(&self, mut state: State, made: Move) -> Result<Option<State>, String> {
        state.depth += 1;
        let (world, budget) = (&mut state.world, &mut state.budget);
        match made.what {
            What::Ask(index) => {
                let ask = self.ask(&state, index).expect("it can be made");
                state.asked |= 1 << index;
                let request = RequestId(1 + u64::try_from(index).expect("few requests"));
                state.world.ask_as(request, ask);
            }
            What::Answer(index, outcome) => {
                budget.failures -= u8::from(outcome == Outcome::Bad);
                budget.lost_answers -= u8::from(outcome == Outcome::Odd);
                world.answer(index, outcome);
            }
            What::Exit(worker) => {
                budget.exits -= 1;
                world.end(worker, Exit::Code(3));
            }
            What::Wake => {
                budget.wakings -= 1;
                world.wake();
            }
            What::Crash { reboot } => {
                budget.crashes -= 1;
                budget.reboots -= u8::from(reboot);
                world.crash(Doom { after: 0, reboot }, 0);
            }
            What::Forget => {
                budget.forgets -= 1;
                world.act(&Action::ForgetNodes);
            }
            What::Restart => {
                budget.restarts -= 1;
                world.act(&Action::ForgetNodes);
                world.act(&Action::LoseConnection { closed: true });
            }
            What::BreakJournal => {
                budget.failing_commits -= 1;
                world.act(&Action::JournalWorks(false));
            }
            What::BreakSignals => {
                budget.failing_signals -= 1;
                world.act(&Action::SignalsWork(false));
            }
            What::Repair => world.repair(),
        }
        let killed = state.world.turn_with(made.doom);
        if let Some(doom) = made.doom {
            if !killed {
                return Ok(None);
            }
            state.budget.crashes -= 1;
            state.budget.reboots -= u8::from(doom.reboot);
        }
        self.answer_at_once(&mut state);
        state.world.verdict()?;
        Ok(Some(state))
    }

    /// What makes no difference worth a move: responses leave, and the controller answers, where
    /// nothing can happen to its memory or its answers.
    fn answer_at_once(&self, state: &mut State) {
        let Budget { lost_answers, failures, forgets, restarts, .. } = state.budget;
        let (faults, losses) = (lost_answers + failures, forgets + restarts);
        let at_once = |call: &Pending| match call {
            Pending::Delivery(_) => !self.late_responses,
            Pending::Heartbeat(heartbeat) => faults == 0 && (losses == 0 || !heartbeat.probe),
            Pending::Register { .. } => faults + losses == 0,
            _ => false,
        };
        while let Some(index) = state.world.pending().iter().position(at_once) {
            state.world.answer(index, Outcome::Good);
            state.world.turn();
        }
    }

    /// The same way again, with notes.
    fn retrace(&self, ways: &Ways, end: &State, last: Option<Move>, seen: Seen) -> Box<Broken> {
        let mut path: Vec<Move> = last.into_iter().collect();
        let mut way = end.way;
        while let Some((before, made)) = way.map(|index| ways[index]) {
            path.push(made);
            way = before;
        }
        let mut state = self.first(Trace::kept());
        let mut moves = Vec::new();
        for made in path.into_iter().rev() {
            moves.push(self.name(&state, made));
            match caught(|| self.make(state.clone(), made)) {
                Ok(next) => state = next.expect("it was possible"),
                Err(promise) => return Box::new(Broken { moves, promise, seen }),
            }
        }
        moves.push("all faults end, and a minute passes".into());
        let promise = caught(|| heal(state)).err().unwrap_or_default();
        Box::new(Broken { moves, promise, seen })
    }

    fn name(&self, state: &State, made: Move) -> String {
        let what = match made.what {
            What::Ask(index) => format!("{:?}", self.requests[index]),
            What::Answer(index, outcome) => {
                format!("{:?} is answered: {outcome:?}", state.world.pending()[index])
            }
            other => format!("{other:?}"),
        };
        match made.doom {
            None => what,
            Some(Doom { after, reboot }) => {
                format!("{what}; killed after {after} effects, reboot: {reboot}")
            }
        }
    }
}

struct Search<'a> {
    small: &'a Small,
    seen: Seen,
    known: HashSet<u64>,
    ways: Ways,
    frontier: VecDeque<State>,
}

impl Search<'_> {
    fn look_at(&mut self, state: &State) -> Result<(), Box<Broken>> {
        let moves = self.small.moves(state);
        if self.small.heal_all || moves.is_empty() {
            self.seen.healed += 1;
            let well = caught(|| heal(state.clone()));
            well.map_err(|_| self.small.retrace(&self.ways, state, None, self.seen))?;
        }
        for what in moves {
            self.follow(state, Move { what, doom: None })?;
            let handled =
                matches!(what, What::Ask(_) | What::Answer(..) | What::Exit(_) | What::Wake);
            for reboot in state.budget.kills().filter(|_| handled) {
                let mut after = 0;
                while self.follow(state, Move { what, doom: Some(Doom { after, reboot }) })? {
                    after += 1;
                }
            }
        }
        Ok(())
    }

    /// Says whether the move was possible: whether, if the agent was to be killed, it was.
    fn follow(&mut self, state: &State, made: Move) -> Result<bool, Box<Broken>> {
        let next = caught(|| self.small.make(state.clone(), made));
        let next =
            next.map_err(|_| self.small.retrace(&self.ways, state, Some(made), self.seen))?;
        let Some(mut next) = next else { return Ok(false) };
        self.seen.transitions += 1;
        if self.known.insert(key(&next)) {
            next.way = Some(self.ways.len());
            self.ways.push((state.way, made));
            self.seen.states += 1;
            self.seen.depth = self.seen.depth.max(next.depth);
            self.frontier.push_back(next);
        }
        Ok(true)
    }
}

fn heal(mut state: State) -> Result<(), String> {
    state.world.heal();
    state.world.verdict()
}

fn can_fail(call: &Pending) -> bool {
    match call {
        Pending::Spawn(_) | Pending::Adopt(_) => true,
        Pending::Register { .. } | Pending::Heartbeat(_) | Pending::Report(_) => true,
        Pending::Death(..) | Pending::SignalFailure(_) | Pending::Delivery(_) => false,
    }
}

fn can_be_lost(call: &Pending) -> bool {
    can_fail(call) && !matches!(call, Pending::Adopt(_))
}

/// What went wrong, be it a panic: the machine checks itself in debug builds.
fn caught<T>(run: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(text.unwrap_or_else(|| "a panic".into()))
    })
}

/// Says of two states whether they are the same, as good as certainly.
fn key(state: &State) -> u64 {
    struct Hashed(DefaultHasher);
    impl fmt::Write for Hashed {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0.write(text.as_bytes());
            Ok(())
        }
    }
    let mut hashed = Hashed(DefaultHasher::new());
    let State { world, budget, asked, .. } = state;
    write!(hashed, "{asked} {budget:?} {world:?}").expect("hashing does not fail");
    hashed.0.finish()
}
