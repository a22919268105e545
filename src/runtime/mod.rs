//! The world around the machine: the driver and the ports it works through.

mod address;
pub mod cgroup;
pub mod clock;
pub mod controller;
pub mod driver;
pub mod essential;
mod execute;
pub mod journal;
mod log;
pub mod metrics;
pub mod node;
mod notice;
pub mod observer;
pub mod output;
mod output_limit;
pub mod ports;
pub mod process;
mod set_aside;
pub mod shutdown;
pub mod state_dir;
pub mod time_slice;
pub mod tls;

pub use notice::Notice;
