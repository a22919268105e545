//! What commands say on stdout. A reader that has gone away (`| head`) is no reason to fail.

use std::{
    fmt,
    io::{self, Write as _},
};

use serde::Serialize;

/// Prints a line at once.
pub(super) fn say(line: fmt::Arguments<'_>) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{line}");
    let _ = out.flush();
}

/// Prints a JSON document.
pub(super) fn json(value: &impl Serialize) {
    let text = serde_json::to_string_pretty(value).expect("plain data with text keys is JSON");
    say(format_args!("{text}"));
}
