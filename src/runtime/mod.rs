//! The world around the machine: the driver and the ports it works through.

pub mod metrics;
pub mod ports;
