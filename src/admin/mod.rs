//! The admin server (contract follows).

pub mod row;
