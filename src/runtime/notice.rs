//! What a start turned up that a person should know.

use std::fmt;

/// Something about this start that a person should know, in one sentence or two.
///
/// Returned rather than only logged, so that the status page can show it for as long as the agent
/// runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Notice(pub String);

impl Notice {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}
