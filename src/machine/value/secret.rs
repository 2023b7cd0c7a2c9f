//! Secrets as values: references to an entity that no program can declare.

use super::{EntityRef, Value};

/// The text that is shown for a secret, and the name of the entity that the secret refers to. No
/// program can declare that name.
pub const MASK: &str = "***";

impl EntityRef {
    /// Whether the reference is that of a secret.
    pub fn is_secret(&self) -> bool {
        &*self.name == MASK
    }

    /// Returns the texts and names of a secret in turn, with texts at both ends.
    pub(crate) fn secret_parts(&self) -> Vec<String> {
        let text = |value: &Value| match value {
            Value::Str(text) => text.as_str().to_string(),
            _ => String::new(),
        };
        match &self.key {
            Value::List(list) => list.as_slice().iter().map(text).collect(),
            _ => Vec::new(),
        }
    }

    /// Returns the text that is shown for a secret.
    pub fn shown_secret(&self) -> String {
        let mut out = String::new();
        for (at, part) in self.secret_parts().iter().enumerate() {
            out.push_str(if at % 2 == 0 { part } else { MASK });
        }
        out
    }
}
