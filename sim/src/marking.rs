//! Which facts reach which marks.

use crate::{fact::Entry, marks::Marks, past::Past};

/// Watches for everything interesting.
#[derive(Debug, Default)]
pub struct Marking {
    /// What was reached.
    pub marks: Marks,
}

impl Marking {
    /// Something happened; `past` does not know of it yet.
    pub fn see(&mut self, _entry: &Entry, _past: &Past) {}
}
