//! An agent's API on real sockets, as independent clients see it. The machine's part is played by
//! the test, which takes questions from the inbox and answers them by hand.

mod admin;
mod calls;
mod delivery;
mod node;
mod raw;
mod serving;
mod stops;
