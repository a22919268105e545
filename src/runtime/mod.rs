//! The world around the machine: the driver and the ports it works through.

pub mod journal;
mod notice;
pub mod ports;
mod set_aside;
pub mod state_dir;

pub use notice::Notice;
