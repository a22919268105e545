//! Between the wire and the machine. What comes in is parsed into values that cannot be wrong;
//! what goes out is derived from values that are right.

mod calls;
mod replies;
mod start;
#[cfg(test)]
mod tests;
mod workers;

pub use calls::{call_error, heartbeat, registration, root_cause, worker_finished};
pub use replies::{
    StopReply, bad_start_status, draining_status, start_status, stop_reply, stop_status,
    wrong_machine_status,
};
pub use start::{BadStart, DialectPolicy, parse_start, parse_stop};
pub use workers::worker_status;
