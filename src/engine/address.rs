//! The receivers of messages, and the requests that wait for answers.

use std::rc::Rc;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::kv::Partition;
use crate::machine::EntityId;

/// The receiver of a message.
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

/// An instance: its id, and the number of its life under that id.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LifeId {
    pub id: String,
    pub life: u64,
}

/// The request that an answer is for. The engine drops an answer to another life than the one that
/// asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiter {
    pub instance: String,
    #[serde(default)]
    pub life: u64,
    /// The number of the execution. After each `continue_as_new`, requests are numbered from 0
    /// again.
    pub execution: u32,
    pub seq: u64,
}

/// The beginning of a caller that is a client. No instance's id has a space.
const CLIENT: &str = "client ";
/// The beginning of a caller that is an activity.
const ACTIVITY: &str = "activity ";

impl Waiter {
    fn outside(instance: String) -> Waiter {
        Waiter { instance, life: 0, execution: 0, seq: 0 }
    }

    /// Returns a client as the caller of an operation, by the id of its call.
    pub fn client(id: &str) -> Waiter {
        Waiter::outside([CLIENT, id].concat())
    }

    /// Returns an activity as the caller of an operation, by the id of its call.
    pub fn activity(id: &str) -> Waiter {
        Waiter::outside([ACTIVITY, id].concat())
    }

    /// Returns the id of the call, if the caller is a client.
    pub fn client_id(&self) -> Option<&str> {
        self.instance.strip_prefix(CLIENT)
    }

    /// Whether the caller is no instance.
    pub fn is_outside(&self) -> bool {
        Waiter::is_id_outside(&self.instance)
    }

    /// Whether an id is that of a caller that is no instance.
    pub(super) fn is_id_outside(id: &str) -> bool {
        id.starts_with(CLIENT) || id.starts_with(ACTIVITY)
    }

    /// Pins a caller from outside to the partition that waits for the answer.
    pub(super) fn pin(&mut self, partition: Partition) {
        self.instance.push_str(&format!("!{partition}"));
    }

    /// Returns the id of a caller without its pin.
    pub(super) fn unpinned(id: &str) -> &str {
        id.rsplit_once('!').map_or(id, |(id, _)| id)
    }

    /// Returns the instance that waits.
    pub fn life_id(&self) -> LifeId {
        LifeId { id: self.instance.clone(), life: self.life }
    }

    /// Whether the instance that waits has this id and life.
    pub fn is_of(&self, id: &str, life: u64) -> bool {
        self.life == life && self.instance == id
    }
}
