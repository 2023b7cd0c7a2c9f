//! Shapes: the names of records. Records that are read one after another are mostly alike, so those
//! with the same names share one copy of the names.

use std::rc::Rc;

use super::{Keys, Name, Record, Value};

/// The number of shapes that are kept and searched. A new shape replaces the oldest.
const KEPT: usize = 16;

/// The shapes of the records read so far, and the fields of the records being read, outermost
/// first.
#[derive(Default)]
pub struct Shapes {
    known: Vec<Rc<Keys>>,
    oldest: usize,
    names: Vec<Name>,
    values: Vec<Value>,
}

impl Shapes {
    /// Returns the place of the first field of a record that begins now.
    pub fn begin(&self) -> usize {
        self.values.len()
    }

    /// Adds the next field. All records within its value have ended.
    pub fn field(&mut self, name: Name, value: Value) {
        self.names.push(name);
        self.values.push(value);
    }

    /// Makes the record of all fields since `from`. Of two fields with one name, the later counts.
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
