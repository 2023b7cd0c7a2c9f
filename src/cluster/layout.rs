//! The places of the engine's keys in the database.

use crate::engine::{NUMBERED, QUEUED, slot_of_key};
use crate::store::postgres::Layout;

/// The layout of a cluster.
pub const LAYOUT: Layout = Layout { queue: QUEUED, slot_of: slot_of_key, numbered: NUMBERED };
