//! What the translation promises, one file a direction.

mod calls;
mod replies;
mod start;
mod workers;
