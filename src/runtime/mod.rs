//! The world around the machine: the driver and the ports it works through.

pub mod clock;
pub mod controller;
pub mod driver;
mod execute;
pub mod metrics;
pub mod ports;
pub mod shutdown;
