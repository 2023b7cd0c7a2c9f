//! Who is sent to, and which request waits for an answer.

use std::rc::Rc;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::machine::EntityId;

/// Who is sent to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Address {
    Instance(Arc<str>),
    Entity(Rc<EntityId>),
}

impl Address {
    pub fn instance(id: &str) -> Address {
        Address::Instance(id.into())
    }

    pub fn entity(entity: EntityId) -> Address {
        Address::Entity(Rc::new(entity))
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Address::Instance(id) => f.write_str(id),
            Address::Entity(entity) => write!(f, "{entity}"),
        }
    }
}

/// Which request of which instance an answer is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiter {
    pub instance: String,
    /// Requests are numbered from 0 again after each `continue_as_new`.
    pub execution: u32,
    pub seq: u64,
}
