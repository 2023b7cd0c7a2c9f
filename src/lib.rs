//! `durable`: a programming language in which every program is durable.
//!
//! A Rust program runs durable programs by a [`Runtime`], and provides activities for them. The modules below are the
//! layers that the command line is made of as well.

#![deny(unsafe_code)]

pub mod api;
pub mod builtins;
pub mod check;
pub mod cli;
pub mod code;
pub mod compress;
pub mod core;
pub mod engine;
pub mod explore;
pub mod format;
pub mod host;
pub mod kv;
pub mod machine;
pub mod model;
pub mod os;
pub mod permissions;
pub mod render;
#[expect(unsafe_code)]
pub mod resident;
pub mod runtime;
pub mod store;
pub mod syntax;

/// The Rust of `docs/embedding.md`, which compiles.
#[cfg(doctest)]
#[doc = include_str!("../docs/embedding.md")]
pub struct Embedding;

pub use runtime::{Error, Failure, Instance, Lifecycle, Program, Runtime, Status, idempotency_key};
