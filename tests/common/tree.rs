//! Values as plain trees, for properties.

use std::rc::Rc;

use durable::machine::value::EntityRef;
use durable::machine::{Data, Value};

/// A value as a plain tree. Proptest sends its inputs between threads, which values do not allow.
#[derive(Clone, Debug)]
pub enum Tree {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Duration(i64),
    Instant(i64),
    Text(String),
    Bytes(Vec<u8>),
    List(Vec<Tree>),
    Record(Vec<(String, Tree)>),
    Entity(Box<Tree>),
}

impl Tree {
    pub fn value(&self) -> Value {
        match self {
            Tree::Null => Value::Null,
            Tree::Bool(b) => Value::bool(*b),
            Tree::Int(n) => Value::Int(*n),
            Tree::Float(x) => Value::float(*x),
            Tree::Duration(n) => Value::Duration(*n),
            Tree::Instant(n) => Value::Instant(*n),
            Tree::Text(text) => Value::str(text.as_str()),
            Tree::Bytes(bytes) => Value::bytes(bytes.clone()),
            Tree::List(items) => Value::list(items.iter().map(Tree::value).collect()),
            Tree::Record(fields) => {
                Value::record(fields.iter().map(|(name, value)| (name.as_str(), value.value())))
            }
            Tree::Entity(key) => Value::Entity(Rc::new(EntityRef { name: "E".into(), key: key.value() })),
        }
    }

    pub fn data(&self) -> Data {
        Data::encode(&self.value()).expect("data")
    }
}
