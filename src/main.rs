//! The `arroyo-node` command.
fn main() {}
