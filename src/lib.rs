//! `durable`: a programming language in which every program is durable.
//!
//! A Rust program runs durable programs with a [`Runtime`], and can provide activities for them.

#![deny(unsafe_code)]

// The layers. They are reachable for tests and benches, and not part of the promise to embedders.
#[doc(hidden)]
pub mod api;
#[doc(hidden)]
pub mod archive;
#[doc(hidden)]
pub mod builtins;
#[doc(hidden)]
pub mod check;
#[doc(hidden)]
pub mod cli;
#[doc(hidden)]
pub mod cluster;
#[doc(hidden)]
pub mod code;
#[doc(hidden)]
pub mod compress;
#[doc(hidden)]
pub mod core;
#[doc(hidden)]
pub mod cron;
#[doc(hidden)]
pub mod debug;
#[doc(hidden)]
pub mod engine;
#[doc(hidden)]
pub mod explore;
#[doc(hidden)]
pub mod format;
#[doc(hidden)]
pub mod host;
#[doc(hidden)]
pub mod http;
mod internal;
#[doc(hidden)]
pub mod kv;
#[doc(hidden)]
pub mod machine;
#[doc(hidden)]
pub mod model;
#[doc(hidden)]
pub mod os;
#[doc(hidden)]
pub mod permissions;
#[doc(hidden)]
pub mod render;
#[doc(hidden)]
#[expect(unsafe_code)]
pub mod resident;
pub mod runtime;
#[doc(hidden)]
pub mod store;
#[doc(hidden)]
pub mod syntax;

/// The Rust code of `docs/embedding.md`, compiled as a test.
#[cfg(doctest)]
#[doc = include_str!("../docs/embedding.md")]
pub struct Embedding;

pub use kv::StoreError;
pub use runtime::{Error, Failure, Instance, Lifecycle, Program, Runtime, Status, idempotency_key};
