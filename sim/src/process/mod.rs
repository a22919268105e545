//! A model of the processes of one machine: it outlives the agent, as processes do, and keeps what
//! the shim promises. Agents work through [`Port`], the simulator's
//! [`Processes`](arroyo_node::runtime::ports::Processes).
//!
//! ```text
//!  agent ── Port: spawn, adopt, signal, release ─▶ Table ── Spawned, Adopted, Exited … ─▶ agent
//!                                                   │ agenda: what happens when
//!                                                   ▼
//!                    leader ─┬─ child                shim: keeps exit statuses until released;
//!                            └─ child that escaped         dies; comes back
//! ```
//!
//! Time passes for it between two steps of the world. What it does it records: who ran, who was
//! hit by which signal, what is gone.

mod agenda;
mod behaviour;
mod calls;
mod port;
mod table;

pub(crate) use port::Port;
pub(crate) use table::{Machine, Table};
