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

/// An instance: its id, and which of the lives under that id it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LifeId {
    pub id: String,
    pub life: u64,
}

/// Which request of which instance an answer is for. An answer to another life than the one that asked is dropped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiter {
    pub instance: String,
    #[serde(default)]
    pub life: u64,
    /// Requests are numbered from 0 again after each `continue_as_new`.
    pub execution: u32,
    pub seq: u64,
}

impl Waiter {
    /// The instance that waits.
    pub fn life_id(&self) -> LifeId {
        LifeId { id: self.instance.clone(), life: self.life }
    }

    /// Whether that instance waits.
    pub fn is_of(&self, id: &str, life: u64) -> bool {
        self.life == life && self.instance == id
    }
}
