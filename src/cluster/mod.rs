//! Workers and clients of a cluster: a store in PostgreSQL whose partitions belong to processes on
//! several machines.
//!
//! Invariant: no promise of a store rests on this layer. Who may write is decided by the database
//! in the transaction of each commit; leases, shares and hints only make sure that each partition
//! has one owner soon, and that messages do not wait for the next look.

mod claims;
mod client;
mod heart;
mod hints;
mod layout;
mod leases;
mod market;
mod news;
mod overview;
mod partition;
mod postman;
mod private;
mod router;
mod shares;
mod split;
mod worker;

pub use client::{Client, ClientError};
pub use layout::LAYOUT;
pub use overview::overview;
pub use private::Private;
pub use router::Router;
pub use shares::shares;
pub use split::raise;
pub use worker::{Stopper, Worker, WorkerOptions};
