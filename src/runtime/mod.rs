//! The world around the machine: the driver and the ports it works through.

pub mod output;
pub mod ports;
pub mod process;
