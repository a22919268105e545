//! A run as a picture.

use crate::{fact::Entry, plan::Plan, recorder::Broken};

/// Draws it.
pub fn draw(_plan: &Plan, _entries: &[Entry], _broken: Option<&Broken>) -> String {
    String::new()
}
