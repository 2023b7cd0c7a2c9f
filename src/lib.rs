//! `durable`: a programming language in which every program is durable.

pub mod builtins;
pub mod check;
pub mod code;
pub mod core;
pub mod machine;
pub mod syntax;
