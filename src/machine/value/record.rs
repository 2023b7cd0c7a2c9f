//! Records, and the names of fields.

use std::cell::{Cell, OnceCell, RefCell};
use std::hash::BuildHasher;
use std::rc::Rc;

use hashbrown::{DefaultHashBuilder, HashSet, HashTable};

use super::Value;
use super::memory::{charge, discharge, drop_values};

thread_local! {
    static NAMES: RefCell<HashSet<Name>> = RefCell::new(HashSet::new());
}

/// A field's name.
pub type Name = Rc<str>;

/// Returns this thread's only copy of a name, if the name is short.
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
            names.insert(fresh.clone());
        }
        fresh
    })
}

/// The names of a record's fields, in order. All records that one literal makes share them.
#[derive(Debug, Default)]
pub struct Keys {
    names: Vec<Name>,
    /// The bytes that were charged for the names. The names of a literal cost nothing.
    charged: usize,
    /// The place of each name, when there are more than a few. It is built on first use.
    index: OnceCell<Index>,
    /// These names with one more: the one that a record with these names got last.
    next: RefCell<Option<Rc<Keys>>>,
}

/// Places by names. The names themselves are kept elsewhere.
#[derive(Debug, Clone, Default)]
struct Index {
    places: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl Index {
    fn of(names: &[Name]) -> Index {
        let mut index = Index::default();
        for at in 0..names.len() {
            index.add(names, at);
        }
        index
    }

    fn find(&self, names: &[Name], name: &str) -> Option<usize> {
        let hash = self.hasher.hash_one(name);
        self.places.find(hash, |at| &*names[*at as usize] == name).map(|at| *at as usize)
    }

    fn add(&mut self, names: &[Name], at: usize) {
        let hasher = &self.hasher;
        let hash = hasher.hash_one(&*names[at]);
        self.places.insert_unique(hash, at as u32, |at| hasher.hash_one(&*names[*at as usize]));
    }

    /// Removes a name from its place, and moves the places after it down by one.
    fn remove(&mut self, name: &str, at: usize) {
        let hash = self.hasher.hash_one(name);
        if let Ok(entry) = self.places.find_entry(hash, |place| *place as usize == at) {
            entry.remove();
        }
        for place in self.places.iter_mut().filter(|place| **place as usize > at) {
            *place -= 1;
        }
    }
}

const FEW: usize = 8;

impl Keys {
    pub fn new(names: Vec<Name>) -> Keys {
        Keys { names, charged: 0, index: OnceCell::new(), next: RefCell::default() }
    }

    pub fn names(&self) -> &[Name] {
        &self.names
    }

    /// Returns the place of a name.
    pub fn find(&self, name: &Name) -> Option<usize> {
        if self.names.len() <= FEW {
            return self
                .names
                .iter()
                .position(|n| Rc::ptr_eq(n, name))
                .or_else(|| self.names.iter().position(|n| n == name));
        }
        self.find_str(name)
    }

    /// Returns the place of a name that is given as text.
    pub fn find_str(&self, name: &str) -> Option<usize> {
        if self.names.len() <= FEW {
            return self.names.iter().position(|n| &**n == name);
        }
        self.index.get_or_init(|| Index::of(&self.names)).find(&self.names, name)
    }

    fn remove(&mut self, at: usize) {
        self.next.take();
        let name = self.names.remove(at);
        if let Some(index) = self.index.get_mut() {
            index.remove(&name, at);
        }
    }

    /// Adds a name, in place if only one record has these names.
    ///
    /// Records that share a few names, and then get the same new name, share their names again.
    fn add(keys: &mut Rc<Keys>, name: Name) {
        if Rc::get_mut(keys).is_none() && keys.names.len() < FEW {
            let known = keys.next.borrow().as_ref().filter(|next| next.names.last() == Some(&name)).cloned();
            *keys = known.unwrap_or_else(|| {
                let mut grown = (**keys).clone();
                grown.push(name);
                let grown = Rc::new(grown);
                keys.next.replace(Some(grown.clone()));
                grown
            });
            return;
        }
        Rc::make_mut(keys).push(name);
    }

    fn push(&mut self, name: Name) {
        self.next.take();
        self.names.push(name);
        let charged = self.names.len() * NAME;
        charge(charged.wrapping_sub(self.charged));
        self.charged = charged;
        if let Some(index) = self.index.get_mut() {
            index.add(&self.names, self.names.len() - 1);
        }
    }
}

/// The approximate number of bytes of a name in a record that grew.
const NAME: usize = 40;

impl Clone for Keys {
    fn clone(&self) -> Keys {
        let charged = self.names.len() * NAME;
        charge(charged);
        Keys { names: self.names.clone(), charged, index: self.index.clone(), next: RefCell::default() }
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        discharge(self.charged);
    }
}

/// A record: names and values in insertion order. It is four words, so it takes 48 bytes with its
/// counters.
#[derive(Debug)]
pub struct Record {
    keys: Rc<Keys>,
    values: Vec<Value>,
}

/// Returns the bytes of a record with these values, without its names.
fn size(values: &Vec<Value>) -> usize {
    values.capacity() * 16 + 48
}

impl Record {
    /// Makes a record. There must be as many values as names.
    pub fn new(keys: Rc<Keys>, values: Vec<Value>) -> Record {
        charge(size(&values));
        Record { keys, values }
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

    /// Iterates over names and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Name, &Value)> {
        self.keys.names.iter().zip(&self.values)
    }

    pub fn get(&self, name: &Name) -> Option<&Value> {
        self.keys.find(name).and_then(|at| self.values.get(at))
    }

    /// As `get`. `guess` is the place where the name was last found, which is usually right.
    #[inline(always)]
    pub fn look_up(&self, name: &Name, guess: &Cell<u32>) -> Option<&Value> {
        let at = guess.get() as usize;
        match self.keys.names.get(at) {
            Some(known) if Rc::ptr_eq(known, name) => self.values.get(at),
            _ => self.search(name, guess),
        }
    }

    #[cold]
    #[inline(never)]
    fn search(&self, name: &Name, guess: &Cell<u32>) -> Option<&Value> {
        let at = self.keys.find(name)?;
        guess.set(at as u32);
        self.values.get(at)
    }

    pub fn get_str(&self, name: &str) -> Option<&Value> {
        self.keys.find_str(name).and_then(|at| self.values.get(at))
    }

    /// Returns the value of a field for change in place, if the record is not shared and the guess
    /// is right.
    #[inline(always)]
    pub fn own<'a>(record: &'a mut Rc<Record>, name: &Name, guess: &Cell<u32>) -> Option<&'a mut Value> {
        let at = guess.get() as usize;
        let record = Rc::get_mut(record)?;
        match record.keys.names.get(at) {
            Some(known) if Rc::ptr_eq(known, name) => record.values.get_mut(at),
            _ => None,
        }
    }

    /// Returns the value at a place.
    pub fn value_mut(&mut self, at: usize) -> Option<&mut Value> {
        self.values.get_mut(at)
    }

    /// Sets a field. A new field goes to the end.
    pub fn set(&mut self, name: Name, value: Value) {
        match self.keys.find(&name) {
            Some(at) => self.values[at] = value,
            None => self.add(name, value),
        }
    }

    /// Adds a field at the end. The record must not have one of that name.
    pub fn add(&mut self, name: Name, value: Value) {
        Keys::add(&mut self.keys, name);
        let before = size(&self.values);
        self.values.push(value);
        charge(size(&self.values).wrapping_sub(before));
    }

    /// Returns a copy without some fields.
    pub fn without(&self, drop: impl Fn(&str) -> bool) -> Record {
        let mut out = Record::default();
        for (name, value) in self.iter().filter(|(name, _)| !drop(name)) {
            out.add(name.clone(), value.clone());
        }
        out
    }

    /// Removes a field. The fields after it move up.
    pub fn remove(&mut self, name: &str) {
        if let Some(at) = self.keys.find_str(name) {
            Rc::make_mut(&mut self.keys).remove(at);
            self.values.remove(at);
        }
    }

    /// Returns the record for change in place. A shared record is copied first.
    pub fn make_mut(record: &mut Rc<Record>) -> Option<&mut Record> {
        if Rc::get_mut(record).is_none() {
            *record = Rc::new((**record).clone());
        }
        Rc::get_mut(record)
    }
}

impl Default for Record {
    fn default() -> Record {
        Record::new(Rc::default(), Vec::new())
    }
}

impl Clone for Record {
    fn clone(&self) -> Record {
        Record::new(self.keys.clone(), self.values.clone())
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        discharge(size(&self.values));
        if self.values.iter().any(Value::nests) {
            drop_values(std::mem::take(&mut self.values));
        }
    }
}
