//! P12: bad input gets a clear error and changes nothing.

use tonic::Code;

use super::{Oracle, Verdict};
use crate::{
    fact::{Entry, Fact},
    past::Past,
};

/// Holds the answers to calls that have only one right answer against it. No answer at all is
/// nobody's fault here.
pub(super) struct BadInput;

impl Oracle for BadInput {
    fn promise(&self) -> &'static str {
        "P12 bad input is refused"
    }

    fn see(&mut self, entry: &Entry, _past: &Past) -> Verdict {
        match &entry.fact {
            Fact::Heard { call, answer, wanted: Some(wanted), .. } => {
                let (code, text) = match answer {
                    Ok(text) => (Code::Ok, text),
                    Err((code, text)) => (*code, text),
                };
                let absent = matches!(code, Code::Unavailable | Code::Cancelled | Code::Unknown);
                if code != *wanted && !absent {
                    return Err(format!("{call:?} was answered {code:?} {text:?}, not {wanted:?}"));
                }
                if code != Code::Ok && !absent && text.is_empty() {
                    return Err(format!("{call:?} was answered {code:?} without a word"));
                }
                Ok(())
            }
            Fact::Spawns(launch) if launch.spec.job.as_str() == "bad" => {
                Err(format!("worker {} was started for a call that is no good", launch.worker))
            }
            _ => Ok(()),
        }
    }
}
