//! The controller against scripted nodes, over real sockets; and its books by themselves.

mod books;
mod closing;
mod cluster;
mod determinism;
mod fake_node;
mod lock;
mod messages;
mod nodes;
mod recovery;
mod reports;
mod retries;
mod stopping;
mod words;
