//! What the built-in worker does beyond running quietly, read from its environment: for
//! demonstrations, and for tests that need a worker which does not do what it should.
//!
//! The variables are in [`HELP`]. They begin with `WORKER_` since a stock worker refuses to start
//! when it is given an `ARROYO__*` variable that it does not know.

use std::{str::FromStr, time::Duration};

use nix::sys::signal::Signal;
use thiserror::Error;

use super::descendants::Kind;

/// The variables, as `arroyo-node worker --help` shows them.
pub const HELP: &str = "\
Variables of the environment that say who the worker is:
  ARROYO__WORKER__ID, ARROYO__WORKER__TASK_SLOTS, JOB_ID, GENERATION (or RUN_ID), PIPELINE_ID

Variables that make it do something else than run quietly until SIGTERM and exit 0:
  WORKER_PRINT_EVERY=10s           print a line this often (\"never\": only when it starts and ends)
  WORKER_FLOOD=1                   print lines without end, as fast as it can
  WORKER_IGNORE_SIGTERM=1          take no notice of SIGTERM and SIGINT
  WORKER_FINISH_TAKES=3s           go on for this long after SIGTERM
  WORKER_EXIT_AFTER=2s:3           exit after this time, with this code (0 if it is left out)
  WORKER_DIE_AFTER=2s:SEGV         die by this signal (name or number; KILL if it is left out)
  WORKER_MEMORY=200                hold, and have touched, this many MiB
  WORKER_CHILDREN=group:2,daemon   start processes that outlive it, of these kinds, so many of each:
      group        an ordinary child, in the worker's process group
      setsid       a child in a session of its own
      double-fork  a grandchild whose parent is gone, in the worker's process group
      daemon       both: no parent, a session of another, no ties to the worker's output
      chain        each the child of the one before: chain:5 is five generations
  WORKER_CHILDREN_IGNORE_SIGTERM=1 those take no notice of SIGTERM
  WORKER_CHILDREN_LIVE=10m         those end by themselves after this time

Times are like 500ms, 2s or 1m 30s. A switch is on with 1 or true.";

/// What the worker has been asked to do.
#[derive(Clone, PartialEq, Debug)]
pub struct Misbehaviour {
    /// How often it prints a line; `None`: never.
    pub print_every: Option<Duration>,
    /// Print without end.
    pub flood: bool,
    /// Take no notice of SIGTERM and SIGINT.
    pub ignore_sigterm: bool,
    /// From SIGTERM to the end.
    pub finish_takes: Duration,
    /// When to exit, with which code.
    pub exit_after: Option<(Duration, i32)>,
    /// When to die, by which signal.
    pub die_after: Option<(Duration, Signal)>,
    /// MiB to hold.
    pub memory: usize,
    /// Processes to start, how many of each kind.
    pub children: Vec<(Kind, u32)>,
    /// Whether those take no notice of SIGTERM.
    pub children_ignore_sigterm: bool,
    /// When those end by themselves.
    pub children_live: Duration,
}

/// A variable that cannot be understood.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("{name}={value:?}: {problem}; see `arroyo-node worker --help`")]
pub struct BadVariable {
    name: &'static str,
    value: String,
    problem: String,
}

impl Misbehaviour {
    /// Reads what is asked, from variables that `get` looks up.
    pub fn read(get: impl Fn(&str) -> Option<String>) -> Result<Self, BadVariable> {
        let env = Variables { get: &get };
        Ok(Self {
            print_every: env.parse("WORKER_PRINT_EVERY", Some(Duration::from_secs(10)), often)?,
            flood: env.parse("WORKER_FLOOD", false, switch)?,
            ignore_sigterm: env.parse("WORKER_IGNORE_SIGTERM", false, switch)?,
            finish_takes: env.parse("WORKER_FINISH_TAKES", Duration::ZERO, duration)?,
            exit_after: env.parse("WORKER_EXIT_AFTER", None, |text| after(text, 0, code))?,
            die_after: env
                .parse("WORKER_DIE_AFTER", None, |text| after(text, Signal::SIGKILL, signal))?,
            memory: env.parse("WORKER_MEMORY", 0, number)?,
            children: env.parse("WORKER_CHILDREN", Vec::new(), children)?,
            children_ignore_sigterm: env.parse("WORKER_CHILDREN_IGNORE_SIGTERM", false, switch)?,
            children_live: env.parse("WORKER_CHILDREN_LIVE", Duration::from_secs(600), duration)?,
        })
    }
}

struct Variables<'a> {
    get: &'a dyn Fn(&str) -> Option<String>,
}

impl Variables<'_> {
    fn parse<T>(
        &self,
        name: &'static str,
        default: T,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, BadVariable> {
        match (self.get)(name) {
            None => Ok(default),
            Some(value) if value.trim().is_empty() => Ok(default),
            Some(value) => {
                parse(value.trim()).map_err(|problem| BadVariable { name, value, problem })
            }
        }
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("{text:?} is not a time: {error}"))
}

fn often(text: &str) -> Result<Option<Duration>, String> {
    match text {
        "never" => Ok(None),
        text => match duration(text)? {
            Duration::ZERO => Err("to print without end, set WORKER_FLOOD=1".to_owned()),
            often => Ok(Some(often)),
        },
    }
}

fn switch(text: &str) -> Result<bool, String> {
    match text {
        "1" | "true" | "yes" | "on" => Ok(true),
        "0" | "false" | "no" | "off" => Ok(false),
        _ => Err("neither 1 nor 0".to_owned()),
    }
}

fn number<T: FromStr<Err: ToString>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| format!("{text:?} is not a number: {}", error.to_string()))
}

fn code(text: &str) -> Result<i32, String> {
    let code: u8 = number(text)?;
    Ok(i32::from(code))
}

fn signal(text: &str) -> Result<Signal, String> {
    let unknown = || format!("{text:?} names no signal");
    match text.parse::<i32>() {
        Ok(number) => Signal::try_from(number).map_err(|_| unknown()),
        Err(_) => {
            let name = text.to_ascii_uppercase();
            let name = name.strip_prefix("SIG").unwrap_or(&name);
            Signal::from_str(&format!("SIG{name}")).map_err(|_| unknown())
        }
    }
}

fn after<T>(
    text: &str,
    default: T,
    what: impl FnOnce(&str) -> Result<T, String>,
) -> Result<Option<(Duration, T)>, String> {
    Ok(Some(match text.split_once(':') {
        None => (duration(text)?, default),
        Some((time, rest)) => (duration(time)?, what(rest)?),
    }))
}

fn children(text: &str) -> Result<Vec<(Kind, u32)>, String> {
    text.split(',')
        .map(|item| {
            let (kind, count) = item.trim().split_once(':').unwrap_or((item.trim(), "1"));
            let kind = <Kind as clap::ValueEnum>::from_str(kind, false)
                .map_err(|_| format!("{kind:?} is no kind of child"))?;
            match number(count)? {
                count @ 1..=1_000 => Ok((kind, count)),
                count => Err(format!("{count} children are not between 1 and 1000")),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Misbehaviour, String> {
        Misbehaviour::read(|name| {
            pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
        .map_err(|error| error.to_string())
    }

    #[test]
    fn without_variables_it_behaves() {
        let plan = read(&[]).unwrap();
        assert_eq!(plan.print_every, Some(Duration::from_secs(10)));
        assert!(!plan.flood && !plan.ignore_sigterm && plan.children.is_empty());
        assert_eq!((plan.exit_after, plan.die_after), (None, None));
    }

    #[test]
    fn times_carry_codes_and_signals() {
        let plan = |name, value| read(&[(name, value)]).unwrap();
        let two = Duration::from_secs(2);
        assert_eq!(plan("WORKER_EXIT_AFTER", "2s:3").exit_after, Some((two, 3)));
        assert_eq!(plan("WORKER_EXIT_AFTER", "2s").exit_after, Some((two, 0)));
        for same in ["2s:SEGV", "2s:SIGSEGV", "2s:segv", "2s:11"] {
            assert_eq!(plan("WORKER_DIE_AFTER", same).die_after, Some((two, Signal::SIGSEGV)));
        }
        assert_eq!(plan("WORKER_DIE_AFTER", "2s").die_after, Some((two, Signal::SIGKILL)));
        assert_eq!(plan("WORKER_PRINT_EVERY", "never").print_every, None);
    }

    #[test]
    fn children_are_counted_by_kind() {
        let plan = read(&[("WORKER_CHILDREN", "group:2, setsid,double-fork:3")]).unwrap();
        let expected = [(Kind::Group, 2), (Kind::Setsid, 1), (Kind::DoubleFork, 3)];
        assert_eq!(plan.children, expected);
    }

    #[test]
    fn what_makes_no_sense_is_named_with_its_variable() {
        for (name, value) in [
            ("WORKER_EXIT_AFTER", "soon"),
            ("WORKER_EXIT_AFTER", "2s:256"),
            ("WORKER_DIE_AFTER", "2s:LOUDLY"),
            ("WORKER_DIE_AFTER", "2s:0"),
            ("WORKER_FLOOD", "maybe"),
            ("WORKER_CHILDREN", "triplet:3"),
            ("WORKER_CHILDREN", "group:0"),
            ("WORKER_PRINT_EVERY", "0s"),
        ] {
            let error = read(&[(name, value)]).unwrap_err();
            assert!(error.contains(name) && error.contains(value), "{error}");
        }
    }

    #[test]
    fn help_documents_every_variable() {
        let asked = std::cell::RefCell::new(Vec::new());
        Misbehaviour::read(|name| {
            asked.borrow_mut().push(name.to_owned());
            None
        })
        .unwrap();
        for name in asked.into_inner() {
            assert!(HELP.contains(&format!("  {name}=")), "{name}");
        }
    }
}
