//! Calling a controller over real sockets. The controller is played by the test: it sees the bytes of
//! each call, and answers them, or not.

mod calls;
mod connections;
mod controller;
mod losses;
#[path = "../stock/mod.rs"]
mod stock;
