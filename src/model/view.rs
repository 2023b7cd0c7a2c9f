//! What properties and mocks see.

use crate::machine::{Data, EntityId, Value};

/// The view of a configuration that properties and mocks have.
pub trait View {
    fn state(&self, entity: &EntityId) -> Option<Data>;
    fn states(&self, kind: &str) -> Vec<(Data, Data)>;
    /// Returns the outcome of an instance, or null if there is no such instance.
    fn outcome(&self, id: &str) -> Value;
}
