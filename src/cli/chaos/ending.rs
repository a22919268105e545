//! What becomes of a worker if nobody stops it: the plan that it is started with.

use std::{collections::BTreeMap, time::Duration};

use super::dice::Dice;
use crate::admin::row::Ending;

/// One job's workers.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Plan {
    pub(super) slots: u64,
    pub(super) by_itself: Option<ByItself>,
    env: BTreeMap<String, String>,
}

/// How a worker ends by its own plan.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ByItself {
    Exits(i32),
    Dies(i32),
}

const CHILDREN: &[&str] = &["group", "setsid", "double-fork", "daemon", "chain:2", "setsid,daemon"];

impl Plan {
    pub(super) fn draw(dice: &mut Dice) -> Self {
        let mut env = BTreeMap::from([("WORKER_CHILDREN_LIVE", "10m".to_owned())]);
        env.insert("WORKER_PRINT_EVERY", if dice.percent(20) { "50ms" } else { "never" }.into());
        let time = |dice: &mut Dice| format!("{}ms", dice.millis(20, 3_000).as_millis());
        let mut by_itself = None;
        match dice.below(100) {
            0..30 => {}
            30..50 => {
                let code = i32::try_from(dice.below(4)).expect("less than four");
                env.insert("WORKER_EXIT_AFTER", format!("{}:{code}", time(dice)));
                by_itself = Some(ByItself::Exits(code));
            }
            50..60 => {
                let (number, name) = dice.weighted(&[(1, (9, "KILL")), (1, (11, "SEGV"))]);
                env.insert("WORKER_DIE_AFTER", format!("{}:{name}", time(dice)));
                by_itself = Some(ByItself::Dies(number));
            }
            60..75 => drop(env.insert("WORKER_IGNORE_SIGTERM", "1".into())),
            _ => {
                let wait = Duration::from_millis(dice.below(400));
                env.insert("WORKER_FINISH_TAKES", format!("{}ms", wait.as_millis()));
            }
        }
        if dice.percent(35) {
            let children = dice.pick(CHILDREN).expect("there are some");
            env.insert("WORKER_CHILDREN", (*children).to_owned());
            if dice.percent(40) {
                env.insert("WORKER_CHILDREN_IGNORE_SIGTERM", "1".into());
            }
        }
        let env = env.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Self { slots: 1 + dice.below(3), by_itself, env }
    }

    /// The variables that make a built-in worker behave so.
    pub(super) fn env(&self) -> BTreeMap<String, String> {
        self.env.clone()
    }

    /// Whether this is how a worker can end that nobody has stopped.
    pub(super) fn explains(&self, ending: &Ending) -> bool {
        match (self.by_itself, *ending) {
            (Some(ByItself::Exits(planned)), Ending::Code { code }) => planned == code,
            (Some(ByItself::Dies(planned)), Ending::Signal { signal, .. }) => planned == signal,
            // With agent and shim gone there may be nobody to see how it ended.
            (Some(_), Ending::Unknown) => true,
            _ => false,
        }
    }
}
