//! Values of sixteen bytes: small ones in place, large ones counted by reference.

mod failure;
mod list;
mod memory;
mod record;
mod secret;
mod shapes;
mod task;
mod text;

use std::cell::RefCell;
use std::mem;
use std::rc::Rc;

use compact_str::{CompactString, ToCompactString};

use crate::code::FunctionId;

use memory::drop_values;

pub use failure::{Fail, Failure, Trace, TraceEntry, fail, fail_with, type_error};
pub use list::List;
pub use memory::{Charge, memory_used};
pub use record::{Keys, Name, Record, intern};
pub use secret::MASK;
pub use shapes::Shapes;
pub(crate) use task::Outcome;
pub use task::Task;
pub use text::{Blob, Text};

/// A value of the language, or a marker of the machine, which programs never see.
///
/// Every payload is an integer or a pointer of one word. So a value is two words that are passed,
/// returned and copied in two registers of the processor. With a payload of another kind or width,
/// each copy would go through memory, and would stall on parts that were just written.
#[derive(Debug, Default)]
pub enum Value {
    #[default]
    Null,
    /// A marker: an omitted argument, a missing field, or a variable without its value yet.
    Missing,
    Bool(Bool),
    Int(i64),
    Float(Float),
    /// Nanoseconds.
    Duration(i64),
    /// Nanoseconds since 1970-01-01T00:00:00Z.
    Instant(i64),
    /// The number in the table of builtins.
    Builtin(u64),
    // The counted variants follow the others, so that one comparison tells them apart.
    Str(Rc<Text>),
    List(Rc<List>),
    Record(Rc<Record>),
    Bytes(Rc<Blob>),
    Function(Rc<Closure>),
    Entity(Rc<EntityRef>),
    Task(Rc<Task>),
    /// A marker: the cell of a shared variable.
    Cell(Rc<Shared>),
    /// A marker: the captured variables of a function.
    Env(Rc<Env>),
    /// A marker: the origin of an error.
    Trace(Rc<Trace>),
}

// As derived, but always inlined: two words are copied and a counter is incremented.
impl Clone for Value {
    #[inline(always)]
    fn clone(&self) -> Value {
        // Most values are ints, so this test comes before the compiler's jump table.
        if let Value::Int(n) = self {
            return Value::Int(*n);
        }
        match self {
            Value::Null => Value::Null,
            Value::Missing => Value::Missing,
            Value::Bool(b) => Value::Bool(*b),
            Value::Int(n) => Value::Int(*n),
            Value::Float(x) => Value::Float(*x),
            Value::Duration(n) => Value::Duration(*n),
            Value::Instant(n) => Value::Instant(*n),
            Value::Builtin(n) => Value::Builtin(*n),
            Value::Str(text) => Value::Str(text.clone()),
            Value::List(list) => Value::List(list.clone()),
            Value::Record(record) => Value::Record(record.clone()),
            Value::Bytes(blob) => Value::Bytes(blob.clone()),
            Value::Function(closure) => Value::Function(closure.clone()),
            Value::Entity(entity) => Value::Entity(entity.clone()),
            Value::Task(task) => Value::Task(task.clone()),
            Value::Cell(cell) => Value::Cell(cell.clone()),
            Value::Env(env) => Value::Env(env.clone()),
            Value::Trace(trace) => Value::Trace(trace.clone()),
        }
    }
}

/// A bool in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bool(u64);

impl Bool {
    #[inline(always)]
    pub fn get(self) -> bool {
        self.0 != 0
    }
}

/// A float in a word, as its bits.
#[derive(Clone, Copy)]
pub struct Float(u64);

impl Float {
    #[inline(always)]
    pub fn get(self) -> f64 {
        f64::from_bits(self.0)
    }
}

impl std::fmt::Debug for Float {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.get().fmt(f)
    }
}

/// Returns the string of one ASCII character. Each such string is made once.
fn single(byte: u8) -> Value {
    thread_local! {
        static SINGLES: Vec<Rc<Text>> =
            (0..128u8).map(|byte| Text::counted(char::from(byte).to_compact_string(), 1)).collect();
    }
    SINGLES.with(|singles| Value::Str(singles[byte as usize].clone()))
}

/// The modules of the standard library with the methods of values.
pub const METHOD_MODULES: [&str; 7] = ["math", "time", "string", "list", "record", "bytes", "task"];

impl Value {
    /// Returns the address of the value's object. Small values, cells and tasks have none.
    pub(crate) fn address(&self) -> Option<*const u8> {
        Some(match self {
            Value::Str(x) => Rc::as_ptr(x).cast(),
            Value::Bytes(x) => Rc::as_ptr(x).cast(),
            Value::List(x) => Rc::as_ptr(x).cast(),
            Value::Record(x) => Rc::as_ptr(x).cast(),
            Value::Function(x) => Rc::as_ptr(x).cast(),
            Value::Env(x) => Rc::as_ptr(x).cast(),
            Value::Entity(x) => Rc::as_ptr(x).cast(),
            Value::Trace(x) => Rc::as_ptr(x).cast(),
            _ => return None,
        })
    }

    /// Returns the kind of the value, as `kind_of` does.
    pub fn kind(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Missing | Value::Cell(_) | Value::Env(_) | Value::Trace(_) => "nothing",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Float(_) => "float",
            Value::Duration(_) => "duration",
            Value::Instant(_) => "instant",
            Value::Str(_) => "string",
            Value::List(_) => "list",
            Value::Record(_) => "record",
            Value::Bytes(_) => "bytes",
            Value::Function(_) | Value::Builtin(_) => "function",
            Value::Entity(entity) if entity.is_secret() => "secret",
            Value::Entity(_) => "entity",
            Value::Task(_) => "task",
        }
    }

    /// Returns the index in [`METHOD_MODULES`] of the module with this kind's methods.
    #[inline(always)]
    pub fn methods(&self) -> Option<usize> {
        Some(match self {
            Value::Int(_) | Value::Float(_) => 0,
            Value::Duration(_) | Value::Instant(_) => 1,
            Value::Str(_) => 2,
            Value::List(_) => 3,
            Value::Record(_) => 4,
            Value::Bytes(_) => 5,
            Value::Task(_) => 6,
            _ => return None,
        })
    }

    #[inline(always)]
    pub fn bool(b: bool) -> Value {
        Value::Bool(Bool(b as u64))
    }

    #[inline(always)]
    pub fn float(x: f64) -> Value {
        Value::Float(Float(x.to_bits()))
    }

    pub fn str(text: impl Into<CompactString>) -> Value {
        Value::Str(Text::new(text))
    }

    /// Returns a string of one character.
    pub fn char(c: char) -> Value {
        if c.is_ascii() { single(c as u8) } else { Value::str(c.to_compact_string()) }
    }

    /// Returns a string that was read somewhere. A string of one ASCII character is not made anew.
    pub fn text(text: &str) -> Value {
        match *text.as_bytes() {
            [byte] => single(byte),
            _ => Value::str(text),
        }
    }

    pub fn list(items: Vec<Value>) -> Value {
        Value::List(List::new(items))
    }

    pub fn bytes(bytes: Vec<u8>) -> Value {
        Value::Bytes(Rc::new(Blob::new(bytes)))
    }

    /// Returns a record of names and values. Of several values with one name, the last counts.
    pub fn record<'a>(fields: impl IntoIterator<Item = (&'a str, Value)>) -> Value {
        let mut record = Record::default();
        for (name, value) in fields {
            record.set(intern(name), value);
        }
        Value::Record(Rc::new(record))
    }

    /// Returns "an int", "a list" and so on, for messages.
    pub fn a_kind(&self) -> String {
        match self.kind() {
            "null" => "null".into(),
            "bytes" => "bytes".into(),
            kind @ ("int" | "instant" | "entity") => format!("an {kind}"),
            kind => format!("a {kind}"),
        }
    }

    /// Assigns a value. Unlike `=`, this makes no call when the old value is not counted.
    #[inline(always)]
    pub fn put(&mut self, value: Value) {
        if self.is_counted() {
            let_go(self);
        }
        // The old value needs no drop now, which the compiler can't know.
        mem::forget(mem::replace(self, value));
    }

    /// Returns whether the value can be called.
    pub fn is_function(&self) -> bool {
        matches!(self, Value::Function(_) | Value::Builtin(_))
    }

    /// Returns an int as an index. Anything else, and an int below zero, is beyond every list.
    #[inline(always)]
    pub fn as_index(&self) -> usize {
        match self {
            Value::Int(n) => *n as usize,
            _ => usize::MAX,
        }
    }

    /// Returns whether the payload is counted by reference.
    #[inline(always)]
    pub fn is_counted(&self) -> bool {
        !matches!(
            self,
            Value::Null
                | Value::Missing
                | Value::Bool(_)
                | Value::Int(_)
                | Value::Float(_)
                | Value::Duration(_)
                | Value::Instant(_)
                | Value::Builtin(_)
        )
    }

    pub(super) fn nests(&self) -> bool {
        matches!(
            self,
            Value::List(_)
                | Value::Record(_)
                | Value::Function(_)
                | Value::Cell(_)
                | Value::Env(_)
                | Value::Task(_)
                | Value::Entity(_)
        )
    }
}

/// Drops a counted value out of line, and leaves null.
#[cold]
#[inline(never)]
fn let_go(value: &mut Value) {
    *value = Value::Null;
}

// ---- functions, cells, entities

/// A function with its environment.
#[derive(Debug)]
pub struct Closure {
    pub function: FunctionId,
    /// Null, or an environment.
    pub env: Value,
}

impl Drop for Closure {
    fn drop(&mut self) {
        if self.env.nests() {
            drop_values(vec![std::mem::take(&mut self.env)]);
        }
    }
}

/// The captured variables of a function.
#[derive(Debug)]
pub struct Env {
    pub values: Vec<Value>,
}

impl Drop for Env {
    fn drop(&mut self) {
        if self.values.iter().any(Value::nests) {
            drop_values(std::mem::take(&mut self.values));
        }
    }
}

/// A variable that several functions share.
#[derive(Debug)]
pub struct Shared {
    pub value: RefCell<Value>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        let value = std::mem::take(self.value.get_mut());
        if value.nests() {
            drop_values(vec![value]);
        }
    }
}

/// A reference to an entity.
#[derive(Debug)]
pub struct EntityRef {
    pub name: Rc<str>,
    pub key: Value,
}

impl Drop for EntityRef {
    fn drop(&mut self) {
        if self.key.nests() {
            drop_values(vec![std::mem::take(&mut self.key)]);
        }
    }
}
