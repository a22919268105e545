//! The promises, one file each: judged from what happened outside the agents, at every fact, after
//! every step, and at the end.

use std::{sync::Arc, time::Duration};

use arroyo_node::{controller::Snapshot, machine::View};

use crate::{fact::Entry, past::Past};

/// What an oracle finds: nothing, or what broke the promise.
pub type Verdict = Result<(), String>;

/// Watches over one promise.
pub trait Oracle: Send {
    /// Which one.
    fn promise(&self) -> &'static str;

    /// Something happened; `past` does not know of it yet.
    fn see(&mut self, entry: &Entry, past: &Past) -> Verdict {
        let _ = (entry, past);
        Ok(())
    }

    /// A step is done.
    fn look(&mut self, sight: &Sight<'_>, past: &Past) -> Verdict {
        let _ = (sight, past);
        Ok(())
    }

    /// The run is over, and everything has healed.
    fn end(&mut self, sight: &Sight<'_>, past: &Past) -> Verdict {
        let _ = (sight, past);
        Ok(())
    }
}

/// What can be seen between two steps.
#[derive(Debug)]
pub struct Sight<'a> {
    /// The simulated time.
    pub now: Duration,
    /// What each agent shows of itself; `None`: it is not there.
    pub views: &'a [Option<Arc<View>>],
    /// What the controller has in its books; `None`: it is not there.
    pub books: Option<&'a Snapshot>,
}

/// All of them.
pub fn all(_plan: &crate::plan::Plan) -> Vec<Box<dyn Oracle>> {
    Vec::new()
}
