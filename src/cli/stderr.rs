//! A stderr that is never waited for: whoever starts an agent with a pipe and does not read it, or holds its
//! terminal, gets fewer log lines, and not an agent that has stopped.

use std::{
    io::{self, Write},
    os::fd::AsFd as _,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// So much a pipe takes without waiting if it takes anything; the others take more.
const AT_ONCE: usize = libc::PIPE_BUF;

/// Lines that were lost since one was written.
static LOST: AtomicU64 = AtomicU64::new(0);

/// Takes one line a call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stderr;

impl Write for Stderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if !takes_more() {
            LOST.fetch_add(1, Relaxed);
            return Ok(line.len());
        }
        let lost = LOST.swap(0, Relaxed);
        if lost > 0 {
            let note = format!("{lost} log lines were lost here: nobody took them from stderr\n");
            io::stderr().write_all(note.as_bytes())?;
        }
        for part in line.chunks(AT_ONCE) {
            // What is left of a line that has been begun is not worth a pause either.
            if takes_more() {
                io::stderr().write_all(part)?;
            }
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Or says at once that it never will.
fn takes_more() -> bool {
    let stderr = io::stderr();
    let mut ready = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
    matches!(poll(&mut ready, PollTimeout::ZERO), Ok(1..))
}
