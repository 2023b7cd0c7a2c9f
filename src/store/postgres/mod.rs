//! The store of a cluster, in a database of PostgreSQL.
//!
//! All partitions share one ordered key space. A partition writes by one call of a function for
//! each batch, which the database executes only for the partition's owner. Everything that is safe
//! is so by the database's transactions, and by no clock.

mod check;
mod cluster;
mod connection;
mod failure;
mod import;
mod layout;
mod lease;
mod mail;
mod partition;
mod patience;
mod pgpass;
mod pool;
mod reader;
mod schema;
mod scope;
mod snapshot;
mod split;
mod tasks;
pub(crate) mod tls;
mod url;
mod watermark;

pub use cluster::Cluster;
pub use import::Home;
pub use layout::Layout;
pub use lease::{Overview, Ownership, PartitionState, WorkerId, WorkerState};
pub use partition::PartitionStore;
pub use patience::Patience;
pub use schema::{About, FORMAT, Init, Made, PARTITIONS, Right};
pub use scope::{SLOTS, Scope, Slots, own_slot};
pub use split::{Divide, PartitionRange, Raised};
pub use tasks::TaskId;
pub use url::{BadUrl, Environment, Url};
