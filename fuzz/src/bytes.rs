//! Values, numbers and texts from a fuzzer's bytes. Missing bytes read as zero.

use std::rc::Rc;

use durable::machine::Value;
use durable::machine::value::EntityRef;

/// A reader of bytes from front to back.
pub struct Bytes<'a>(pub &'a [u8]);

/// Numbers at the limits of operators and natives.
const BORDERS: [i64; 16] = [
    i64::MIN,
    i64::MIN + 1,
    i64::MAX,
    i64::MAX - 1,
    i32::MIN as i64,
    i32::MAX as i64,
    u32::MAX as i64,
    1 << 53,
    -(1 << 53),
    1 << 62,
    86_400_000_000_000,
    -86_400_000_000_000,
    1_000_000_000,
    -1_000_000_000,
    93_599_000_000_000,
    1_772_366_400_000_000_000,
];

/// Names of fields, so that natives find the fields that they know.
const NAMES: [&str; 24] = [
    "a",
    "b",
    "",
    "kind",
    "message",
    "header",
    "separator",
    "year",
    "month",
    "day",
    "hour",
    "minute",
    "second",
    "nanosecond",
    "times",
    "first",
    "factor",
    "max",
    "jitter",
    "within",
    "ints",
    "big",
    "$data",
    "$duration",
];

impl<'a> Bytes<'a> {
    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// Takes up to `most` of the next bytes.
    pub fn take(&mut self, most: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(most.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// Reads a number: small, at a limit, or arbitrary.
    pub fn int(&mut self) -> i64 {
        match self.byte() {
            small @ 0..=127 => i64::from(small) - 32,
            border @ 128..=191 => BORDERS[usize::from(border) % BORDERS.len()],
            192..=223 => i64::from(i16::from_le_bytes([self.byte(), self.byte()])),
            _ => i64::from_le_bytes(self.eight()),
        }
    }

    pub fn eight(&mut self) -> [u8; 8] {
        let mut eight = [0; 8];
        let taken = self.take(8);
        eight[..taken.len()].copy_from_slice(taken);
        eight
    }

    /// Reads a text of at most 255 bytes.
    pub fn text(&mut self) -> String {
        let most = usize::from(self.byte());
        String::from_utf8_lossy(self.take(most)).into_owned()
    }

    /// Reads all remaining bytes as a text.
    pub fn rest(&mut self) -> String {
        String::from_utf8_lossy(std::mem::take(&mut self.0)).into_owned()
    }

    pub fn name(&mut self) -> String {
        match self.byte() {
            at if usize::from(at) < NAMES.len() => NAMES[usize::from(at)].into(),
            _ => self.text(),
        }
    }

    /// Reads data of any kind, nested at most `depth` levels deep.
    pub fn value(&mut self, depth: usize) -> Value {
        match self.byte() % 13 {
            0 => Value::Null,
            1 => Value::bool(self.byte().is_multiple_of(2)),
            2 => Value::Int(self.int()),
            3 => Value::float(f64::from_le_bytes(self.eight())),
            4 => Value::float(self.int() as f64 / 4.0),
            5 => Value::Duration(self.int()),
            6 => Value::Instant(self.int()),
            7 | 8 => Value::str(self.text()),
            9 => Value::bytes(self.text().into_bytes()),
            _ if depth == 0 => Value::Null,
            10 => {
                let count = self.byte() % 8;
                Value::list((0..count).map(|_| self.value(depth - 1)).collect())
            }
            11 => {
                let count = self.byte() % 8;
                let fields: Vec<_> = (0..count).map(|_| (self.name(), self.value(depth - 1))).collect();
                Value::record(fields.iter().map(|(name, value)| (&**name, value.clone())))
            }
            _ => Value::Entity(Rc::new(EntityRef { name: "E".into(), key: self.value(depth - 1) })),
        }
    }
}
