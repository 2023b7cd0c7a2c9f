//! The HTTP server: an interface for other programs, and a page for people.
//!
//! Invariant: everything here goes through [`crate::api`], and nothing here knows the keys of a
//! store. Commands wait for their durable reply without a thread. Reads run on tokio's blocking
//! threads, and never on the engine's. Without a request, the server costs nothing: the index of
//! instances and the feed of changes exist only while somebody asks.

mod access;
mod azure;
mod azure_forms;
mod callback;
mod catalog;
mod changes;
mod counts;
mod debug;
mod entities;
mod feed;
mod guard;
mod history;
mod input;
mod instances;
mod kept;
mod listen;
mod measures;
mod metrics;
mod openapi;
mod operations;
mod page;
mod problem;
mod programs;
mod router;
mod service;
mod tally;
mod timeline;
mod workers;

pub use access::{Keys, Scope};
pub use callback::callbacks;
pub use instances::escaped;
pub use listen::{Address, Listening, Tls, listen};
pub use router::router;
pub use service::{Options, Service};
