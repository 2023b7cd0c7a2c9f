//! `durable`: a programming language in which every program is durable.

pub mod builtins;
pub mod check;
pub mod cli;
pub mod code;
pub mod core;
pub mod engine;
pub mod explore;
pub mod format;
pub mod host;
pub mod machine;
pub mod model;
pub mod os;
pub mod store;
pub mod syntax;
