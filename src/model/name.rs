//! Names of instances and entities. The process keeps each name once and for ever. So a copy costs
//! nothing, and threads do not contend for a reference count.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::{LazyLock, Mutex, PoisonError};

use crate::machine::EntityId;

/// The id of an instance, or another name in a program.
#[derive(Clone)]
pub struct Id(&'static str);

/// The name and the key of an entity.
#[derive(Clone)]
pub struct Entity(&'static EntityId);

/// Returns the kept copy of a value, which becomes the kept copy if it is new.
fn keep<T: Eq + Hash + ?Sized, O>(
    known: &Mutex<HashSet<&'static T>>,
    value: O,
    leak: impl FnOnce(O) -> &'static T,
) -> &'static T
where
    O: Borrow<T>,
{
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(kept) = known.get(value.borrow()) {
        return kept;
    }
    let kept = leak(value);
    known.insert(kept);
    kept
}

impl From<String> for Id {
    fn from(text: String) -> Id {
        static KNOWN: LazyLock<Mutex<HashSet<&'static str>>> = LazyLock::new(Mutex::default);
        Id(keep::<str, String>(&KNOWN, text, |text| Box::leak(text.into_boxed_str())))
    }
}

impl From<&str> for Id {
    fn from(text: &str) -> Id {
        Id::from(text.to_string())
    }
}

impl Default for Id {
    fn default() -> Id {
        Id::from("")
    }
}

impl From<EntityId> for Entity {
    fn from(id: EntityId) -> Entity {
        static KNOWN: LazyLock<Mutex<HashSet<&'static EntityId>>> = LazyLock::new(Mutex::default);
        Entity(keep::<EntityId, EntityId>(&KNOWN, id, |id| Box::leak(Box::new(id))))
    }
}

macro_rules! name {
    ($name:ident, $target:ty) => {
        impl Deref for $name {
            type Target = $target;

            fn deref(&self) -> &$target {
                self.0
            }
        }

        impl Borrow<$target> for $name {
            fn borrow(&self) -> &$target {
                self.0
            }
        }

        // Each name is kept once, so equal names have equal addresses.
        impl PartialEq for $name {
            fn eq(&self, other: &$name) -> bool {
                std::ptr::eq(self.0, other.0)
            }
        }

        impl Eq for $name {}

        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &$name) -> Option<std::cmp::Ordering> {
                Some(self.cmp(other))
            }
        }

        impl Ord for $name {
            fn cmp(&self, other: &$name) -> std::cmp::Ordering {
                match self == other {
                    true => std::cmp::Ordering::Equal,
                    false => self.0.cmp(other.0),
                }
            }
        }

        // The hash agrees with that of the borrowed form.
        impl Hash for $name {
            fn hash<H: Hasher>(&self, state: &mut H) {
                self.0.hash(state);
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self.0, f)
            }
        }
    };
}

name!(Id, str);
name!(Entity, EntityId);
