//! What commands say on stdout. A reader that has gone away (`| head`) is no reason to fail; a disk
//! that is full is one, since somebody will read less than was said.

use std::{
    fmt,
    io::{self, ErrorKind, Write as _},
    sync::atomic::{AtomicBool, Ordering},
};

use serde::Serialize;

use super::exit::complain;

/// Whether something that was said has been lost.
static LOST: AtomicBool = AtomicBool::new(false);

/// Prints a line at once.
pub(super) fn say(line: fmt::Arguments<'_>) {
    let mut out = io::stdout().lock();
    match writeln!(out, "{line}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => lose(&error),
        Ok(()) | Err(_) => {}
    }
}

fn lose(error: &io::Error) {
    if !LOST.swap(true, Ordering::Relaxed) {
        complain(format_args!("error: cannot write to stdout: {error}"));
    }
}

/// Whether something that was said has been lost, and why has been told on stderr.
pub(super) fn lost() -> bool {
    LOST.load(Ordering::Relaxed)
}

/// Prints a JSON document.
pub(super) fn json(value: &impl Serialize) {
    let text = serde_json::to_string_pretty(value).expect("plain data with text keys is JSON");
    say(format_args!("{text}"));
}
