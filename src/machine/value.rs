//! Values: sixteen bytes, small things in place, large ones counted by reference.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use crate::code::FunctionId;

use super::error::Trace;
use super::task::Task;

/// A value of the language, or one of the machine's own marks, which programs never see.
#[derive(Clone, Debug, Default)]
pub enum Value {
    #[default]
    Null,
    /// A mark: an argument that was left out, a field that isn't there, a variable without its value yet.
    Missing,
    Bool(bool),
    Int(i64),
    Float(f64),
    /// Nanoseconds.
    Duration(i64),
    /// Nanoseconds since 1970-01-01T00:00:00Z.
    Instant(i64),
    Str(Rc<Text>),
    List(Rc<List>),
    Record(Rc<Record>),
    Bytes(Rc<Blob>),
    Function(Rc<Closure>),
    Builtin(u16),
    Entity(Rc<EntityRef>),
    Task(Rc<Task>),
    /// A mark: the cell of a shared variable.
    Cell(Rc<Shared>),
    /// A mark: the captured variables of a function.
    Env(Rc<Env>),
    /// A mark: where an error came from.
    Trace(Rc<Trace>),
}

impl Value {
    /// What `kind_of` says.
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
            Value::Entity(_) => "entity",
            Value::Task(_) => "task",
        }
    }

    /// The module of the standard library with this kind's methods.
    pub fn methods(&self) -> Option<&'static str> {
        Some(match self {
            Value::Int(_) | Value::Float(_) => "math",
            Value::Duration(_) | Value::Instant(_) => "time",
            Value::Str(_) => "string",
            Value::List(_) => "list",
            Value::Record(_) => "record",
            Value::Bytes(_) => "bytes",
            Value::Task(_) => "task",
            _ => return None,
        })
    }

    pub fn str(text: impl Into<String>) -> Value {
        Value::Str(Text::new(text.into()))
    }

    pub fn list(items: Vec<Value>) -> Value {
        Value::List(List::new(items))
    }

    pub fn bytes(bytes: Vec<u8>) -> Value {
        Value::Bytes(Rc::new(Blob::new(bytes)))
    }

    /// A record from names and values; later ones win.
    pub fn record<'a>(fields: impl IntoIterator<Item = (&'a str, Value)>) -> Value {
        let mut record = Record::default();
        for (name, value) in fields {
            record.set(intern(name), value);
        }
        Value::Record(Rc::new(record))
    }

    /// "an int", "a list", for messages.
    pub fn a_kind(&self) -> String {
        match self.kind() {
            "null" => "null".into(),
            "bytes" => "bytes".into(),
            kind @ ("int" | "instant" | "entity") => format!("an {kind}"),
            kind => format!("a {kind}"),
        }
    }

    // Writing a small value over one of the same kind touches its payload only. Writing tag and payload and soon
    // reading both as one piece costs a dozen cycles on current processors, which shows in every loop.

    /// Becomes an int.
    #[inline(always)]
    pub fn put_int(&mut self, n: i64) {
        match self {
            Value::Int(slot) => *slot = n,
            other => *other = Value::Int(n),
        }
    }

    /// Becomes a float.
    #[inline(always)]
    pub fn put_float(&mut self, x: f64) {
        match self {
            Value::Float(slot) => *slot = x,
            other => *other = Value::Float(x),
        }
    }

    /// Becomes a bool.
    #[inline(always)]
    pub fn put_bool(&mut self, b: bool) {
        match self {
            Value::Bool(slot) => *slot = b,
            other => *other = Value::Bool(b),
        }
    }

    /// Becomes a copy of another value.
    #[inline(always)]
    pub fn copy(&mut self, from: &Value) {
        match from {
            Value::Int(n) => self.put_int(*n),
            Value::Float(x) => self.put_float(*x),
            other => *self = other.clone(),
        }
    }

    /// Whether it holds something that is counted by reference.
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

    fn nests(&self) -> bool {
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

// ---- memory

thread_local! {
    static MEMORY: Cell<usize> = const { Cell::new(0) };
    static DROPS: Cell<u32> = const { Cell::new(0) };
    static LATER: RefCell<Vec<Vec<Value>>> = const { RefCell::new(Vec::new()) };
    static NAMES: RefCell<HashMap<Box<str>, Name>> = RefCell::new(HashMap::new());
}

/// Bytes that this thread's values take, about.
pub fn memory_used() -> usize {
    MEMORY.with(Cell::get)
}

fn charge(bytes: usize) {
    MEMORY.with(|memory| memory.set(memory.get().wrapping_add(bytes)));
}

fn discharge(bytes: usize) {
    let _ = MEMORY.try_with(|memory| memory.set(memory.get().saturating_sub(bytes)));
}

/// Drops values without recursing deeper than a fixed depth, whatever they hold.
fn drop_values(items: Vec<Value>) {
    const DEPTH: u32 = 100;
    let depth = DROPS.try_with(Cell::get).unwrap_or(0);
    if depth >= DEPTH && LATER.try_with(|later| later.borrow_mut().push(Vec::new())).is_ok() {
        let _ = LATER.try_with(|later| {
            if let Some(last) = later.borrow_mut().last_mut() {
                *last = items;
            }
        });
        return;
    }
    let _ = DROPS.try_with(|drops| drops.set(depth + 1));
    drop(items);
    if depth == 0 {
        while let Some(items) = LATER.try_with(|later| later.borrow_mut().pop()).ok().flatten() {
            drop(items);
        }
    }
    let _ = DROPS.try_with(|drops| drops.set(depth));
}

// ---- strings and bytes

/// A string. The number of its characters is counted when first asked for.
#[derive(Debug)]
pub struct Text {
    text: String,
    chars: Cell<u32>,
    charged: usize,
}

impl Text {
    pub fn new(text: String) -> Rc<Text> {
        let charged = text.capacity() + 48;
        charge(charged);
        Rc::new(Text { text, chars: Cell::new(u32::MAX), charged })
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The number of characters.
    pub fn chars(&self) -> usize {
        if self.chars.get() == u32::MAX {
            self.chars.set(self.text.chars().count() as u32);
        }
        self.chars.get() as usize
    }

    /// Whether characters are bytes.
    pub fn is_ascii(&self) -> bool {
        self.chars() == self.text.len()
    }

    /// Appends in place.
    pub fn push_str(&mut self, more: &str) {
        self.text.push_str(more);
        self.chars.set(u32::MAX);
        let charged = self.text.capacity() + 48;
        charge(charged.wrapping_sub(self.charged));
        self.charged = charged;
    }
}

impl Drop for Text {
    fn drop(&mut self) {
        discharge(self.charged);
    }
}

/// Bytes.
#[derive(Debug)]
pub struct Blob {
    pub bytes: Vec<u8>,
    charged: usize,
}

impl Blob {
    pub fn new(bytes: Vec<u8>) -> Blob {
        let charged = bytes.capacity() + 40;
        charge(charged);
        Blob { bytes, charged }
    }
}

impl Drop for Blob {
    fn drop(&mut self) {
        discharge(self.charged);
    }
}

// ---- lists

/// A list: its own elements, or a stretch of another's.
#[derive(Debug)]
pub struct List {
    items: Vec<Value>,
    view: Option<(Rc<List>, u32, u32)>,
    charged: usize,
}

impl List {
    pub fn new(items: Vec<Value>) -> Rc<List> {
        let charged = items.capacity() * 16 + 64;
        charge(charged);
        Rc::new(List { items, view: None, charged })
    }

    pub fn as_slice(&self) -> &[Value] {
        match &self.view {
            None => &self.items,
            Some((parent, from, to)) => &parent.items[*from as usize..*to as usize],
        }
    }

    pub fn len(&self) -> usize {
        self.as_slice().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A stretch of a list, without copying when it is long.
    pub fn slice(list: &Rc<List>, from: usize, to: usize) -> Rc<List> {
        if to - from == list.len() {
            return list.clone();
        }
        if to - from < 8 {
            return List::new(list.as_slice()[from..to].to_vec());
        }
        let (parent, offset) = match &list.view {
            None => (list.clone(), 0),
            Some((parent, start, _)) => (parent.clone(), *start as usize),
        };
        charge(64);
        Rc::new(List {
            items: Vec::new(),
            view: Some((parent, (offset + from) as u32, (offset + to) as u32)),
            charged: 64,
        })
    }

    /// The elements, to be changed in place; copied before when others hold the list.
    pub fn make_mut(list: &mut Rc<List>) -> ListMut<'_> {
        if Rc::get_mut(list).is_none_or(|list| list.view.is_some()) {
            let items = list.as_slice().to_vec();
            *list = List::new(items);
        }
        ListMut(list)
    }

    /// The elements, taken out when nobody else holds the list, else copied.
    pub fn take(list: Rc<List>) -> Vec<Value> {
        match Rc::try_unwrap(list) {
            Ok(mut list) if list.view.is_none() => std::mem::take(&mut list.items),
            Ok(list) => list.as_slice().to_vec(),
            Err(list) => list.as_slice().to_vec(),
        }
    }
}

/// A list that may be changed; keeps the account of its memory.
pub struct ListMut<'a>(&'a mut Rc<List>);

impl<'a> ListMut<'a> {
    /// One element.
    pub fn element(self, at: usize) -> Option<&'a mut Value> {
        Rc::get_mut(self.0)?.items.get_mut(at)
    }

    /// Runs a change on the elements.
    pub fn with<R>(self, change: impl FnOnce(&mut Vec<Value>) -> R) -> Option<R> {
        let list = Rc::get_mut(self.0)?;
        let result = change(&mut list.items);
        let charged = list.items.capacity() * 16 + 64;
        charge(charged.wrapping_sub(list.charged));
        list.charged = charged;
        Some(result)
    }
}

impl Drop for List {
    fn drop(&mut self) {
        discharge(self.charged);
        if self.items.iter().any(Value::nests) {
            drop_values(std::mem::take(&mut self.items));
        }
    }
}

// ---- records

/// A field's name.
pub type Name = Rc<str>;

/// The one copy of a name that this thread uses, when the name is short.
pub fn intern(name: &str) -> Name {
    if name.len() > 40 {
        return name.into();
    }
    NAMES.with(|names| {
        let mut names = names.borrow_mut();
        if let Some(known) = names.get(name) {
            return known.clone();
        }
        let fresh: Name = name.into();
        if names.len() < 20_000 {
            names.insert(name.into(), fresh.clone());
        }
        fresh
    })
}

/// The names of a record's fields, in order; shared by the records that one literal makes.
#[derive(Debug, Default, Clone)]
pub struct Keys {
    names: Vec<Name>,
    /// For more than a few names: where each is. Made when first asked for.
    index: OnceCell<HashMap<Name, u32>>,
}

const FEW: usize = 8;

impl Keys {
    pub fn new(names: Vec<Name>) -> Keys {
        Keys { names, index: OnceCell::new() }
    }

    pub fn names(&self) -> &[Name] {
        &self.names
    }

    /// Where a name is.
    pub fn find(&self, name: &Name) -> Option<usize> {
        if self.names.len() <= FEW {
            return self
                .names
                .iter()
                .position(|n| Rc::ptr_eq(n, name))
                .or_else(|| self.names.iter().position(|n| n == name));
        }
        let index = self.index.get_or_init(|| {
            self.names.iter().enumerate().map(|(at, name)| (name.clone(), at as u32)).collect()
        });
        index.get(name).map(|at| *at as usize)
    }

    /// Where a name is that is only at hand as text.
    pub fn find_str(&self, name: &str) -> Option<usize> {
        if self.names.len() <= FEW {
            return self.names.iter().position(|n| &**n == name);
        }
        let index = self.index.get_or_init(|| {
            self.names.iter().enumerate().map(|(at, name)| (name.clone(), at as u32)).collect()
        });
        index.get(name).map(|at| *at as usize)
    }

    fn push(&mut self, name: Name) {
        if let Some(index) = self.index.get_mut() {
            index.insert(name.clone(), self.names.len() as u32);
        }
        self.names.push(name);
    }
}

/// A record: names and values in insertion order.
#[derive(Debug, Default)]
pub struct Record {
    keys: Rc<Keys>,
    values: Vec<Value>,
    charged: usize,
}

impl Record {
    /// A record with these names; there are as many values.
    pub fn new(keys: Rc<Keys>, values: Vec<Value>) -> Record {
        let charged = values.capacity() * 16 + 64;
        charge(charged);
        Record { keys, values, charged }
    }

    pub fn len(&self) -> usize {
        self.values.len()
    }

    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    pub fn keys(&self) -> &Rc<Keys> {
        &self.keys
    }

    pub fn values(&self) -> &[Value] {
        &self.values
    }

    /// Names and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Name, &Value)> {
        self.keys.names.iter().zip(&self.values)
    }

    pub fn get(&self, name: &Name) -> Option<&Value> {
        self.keys.find(name).and_then(|at| self.values.get(at))
    }

    pub fn get_str(&self, name: &str) -> Option<&Value> {
        self.keys.find_str(name).and_then(|at| self.values.get(at))
    }

    pub fn get_mut(&mut self, name: &str) -> Option<&mut Value> {
        let at = self.keys.find_str(name)?;
        self.values.get_mut(at)
    }

    /// Gives a field a value; a new one goes to the end.
    pub fn set(&mut self, name: Name, value: Value) {
        match self.keys.find(&name) {
            Some(at) => self.values[at] = value,
            None => {
                Rc::make_mut(&mut self.keys).push(name);
                self.values.push(value);
                // Names of a record that grows are its own: count them with it.
                let charged = self.values.capacity() * 16 + 64 + self.values.len() * 40;
                charge(charged.wrapping_sub(self.charged));
                self.charged = charged;
            }
        }
    }

    /// A copy without some fields.
    pub fn without(&self, drop: impl Fn(&str) -> bool) -> Record {
        let mut out = Record::default();
        for (name, value) in self.iter().filter(|(name, _)| !drop(name)) {
            out.set(name.clone(), value.clone());
        }
        out
    }

    /// The record, to be changed in place; copied before when others hold it.
    pub fn make_mut(record: &mut Rc<Record>) -> Option<&mut Record> {
        if Rc::get_mut(record).is_none() {
            *record = Rc::new((**record).clone());
        }
        Rc::get_mut(record)
    }
}

impl Clone for Record {
    fn clone(&self) -> Record {
        Record::new(self.keys.clone(), self.values.clone())
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        discharge(self.charged);
        if self.values.iter().any(Value::nests) {
            drop_values(std::mem::take(&mut self.values));
        }
    }
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

/// What a function captured.
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

/// A variable that functions share.
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
