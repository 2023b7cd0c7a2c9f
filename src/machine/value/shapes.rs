//! Records that are read one after another are mostly alike: those with the same names share one copy of them.

use std::rc::Rc;

use super::{Keys, Name, Record, Value};

/// How many shapes are looked through for the one of a record; the newest ones are kept.
const KEPT: usize = 16;

/// The shapes of the records that were read, and the fields of those that are being read, outermost first.
#[derive(Default)]
pub struct Shapes {
    known: Vec<Rc<Keys>>,
    oldest: usize,
    names: Vec<Name>,
    values: Vec<Value>,
}

impl Shapes {
    /// Where the fields begin of a record that is begun now.
    pub fn begin(&self) -> usize {
        self.values.len()
    }

    /// The next field, with its value; records that are nested in that have ended.
    pub fn field(&mut self, name: Name, value: Value) {
        self.names.push(name);
        self.values.push(value);
    }

    /// The record of the fields since `from`, which are all there; of two with one name the later counts.
    pub fn end(&mut self, from: usize) -> Record {
        let from = from.min(self.values.len());
        let names = &self.names[from..];
        if names.is_empty() {
            return Record::default();
        }
        let same = |keys: &&Rc<Keys>| {
            keys.names().len() == names.len()
                && keys.names().iter().zip(names).all(|(known, name)| Rc::ptr_eq(known, name))
        };
        let known = self.known.iter().find(same).cloned();
        let names = self.names.drain(from..);
        let values = self.values.drain(from..);
        if let Some(keys) = known {
            return Record::new(keys, values.collect());
        }
        let mut record = Record::default();
        for (name, value) in names.zip(values) {
            record.set(name, value);
        }
        let keys = record.keys().clone();
        if self.known.len() < KEPT {
            self.known.push(keys);
        } else {
            self.known[self.oldest] = keys;
            self.oldest = (self.oldest + 1) % KEPT;
        }
        record
    }
}
