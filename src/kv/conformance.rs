//! The rules of a store as code: every implementation of a store must pass [`check`], and every
//! [`SharedStore`] also [`check_shared`].

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::{Batch, Pair, Read, Reader, SharedStore, Store, StoreError};

/// A store under test.
pub trait Subject {
    type Store: Store;

    /// Opens the store. Each call after the first opens the same store again, after the one before
    /// has ended.
    fn open(&mut self) -> Result<Self::Store, StoreError>;

    /// Returns whether the store outlives the value that `open` returns.
    fn is_kept(&self) -> bool;
}

/// A rule that a store breaks, and the observation that shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Violation {
    pub rule: &'static str,
    pub observed: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.rule, self.observed)
    }
}

impl std::error::Error for Violation {}

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

/// Runs all rules on an empty store. `steps` is the length of the random part, whose choices follow
/// from `seed`.
pub fn check(subject: &mut impl Subject, seed: u64, steps: usize) -> Result<(), Violation> {
    let mut run = Run { random: seed | 1, model: Model::new() };
    let mut store = opened(subject)?;
    run.compare("a new store is empty", &store)?;
    run.fixed(&mut store)?;
    for step in 0..steps {
        run.step(&mut store)?;
        if step % 8 == 7 {
            run.compare("reads agree with all batches before", &store)?;
        }
        if step % 32 == 31 && subject.is_kept() {
            fallible("a store ends", store.end())?;
            drop(store);
            store = opened(subject)?;
            run.compare("every batch is there after the store is ended and opened again", &store)?;
        }
    }
    fallible("a store ends", store.end())
}

/// The keys that [`check_shared`] changes, which sort between keys that stay.
const CHANGING: u8 = 40;

/// Runs the rules of a shared store on an empty store: `batches` commits beside two threads that
/// read.
pub fn check_shared<S: Subject<Store: SharedStore>>(subject: &mut S, batches: u64) -> Result<(), Violation> {
    let mut store = opened(subject)?;
    let mut first = Batch::default();
    for key in 0..CHANGING {
        first.put(vec![b'c', key], 0u64.to_be_bytes().to_vec());
        first.put(vec![b's', key], vec![key]);
    }
    fallible("a batch is written", store.commit(&first))?;
    let (reader, is_over) = (store.reader(), AtomicBool::new(false));
    let seen = thread::scope(|scope| {
        let readers = [(); 2].map(|()| {
            let reader = store.reader();
            let is_over = &is_over;
            scope.spawn(move || read_beside(&reader, is_over))
        });
        let written = (1..=batches).try_for_each(|number| {
            let mut batch = Batch::default();
            for key in 0..CHANGING {
                batch.put(vec![b'c', key], number.to_be_bytes().to_vec());
            }
            // Large batches may take another way than small ones.
            batch.put(b"large".to_vec(), vec![number as u8; if number % 4 == 0 { 70_000 } else { 10 }]);
            fallible("a batch is written", store.commit(&batch))?;
            let read = fallible("a reader reads", reader.get(&[b'c', CHANGING - 1]))?;
            if read != Some(number.to_be_bytes().to_vec()) {
                let observed = format!("{read:?} after batch {number}");
                return Err(Violation { rule: "a reader sees a batch once it is committed", observed });
            }
            if number % 3 == 0 { flush(&mut store) } else { Ok(()) }
        });
        is_over.store(true, Ordering::Relaxed);
        let broken = || Err(Violation { rule: "a reader reads", observed: "it panicked".into() });
        let read = readers.map(|reader| reader.join().unwrap_or_else(|_| broken()));
        written.and(read.into_iter().collect::<Result<(), Violation>>())
    });
    drop(reader);
    seen?;
    fallible("a store ends", store.end())
}

/// Reads during commits, each of which counts all changing keys up.
fn read_beside(reader: &Reader, is_over: &AtomicBool) -> Result<(), Violation> {
    let mut known = vec![0; usize::from(CHANGING)];
    while !is_over.load(Ordering::Relaxed) {
        let staying = fallible("a reader reads", reader.all(b"s"))?;
        let expected = (0..CHANGING).map(|key| (vec![b's', key], vec![key]));
        if !staying.iter().cloned().eq(expected) {
            let observed = format!("{} of {CHANGING} keys", staying.len());
            return Err(Violation { rule: "a reader sees the keys that no batch changes", observed });
        }
        let changing = fallible("a reader reads", reader.all(b"c"))?;
        let values: Vec<u64> = changing
            .iter()
            .filter_map(|(_, value)| Some(u64::from_be_bytes(value.as_slice().try_into().ok()?)))
            .collect();
        let grows = values.iter().zip(&known).all(|(now, before)| now >= before);
        if values.len() != known.len() || !grows {
            let observed = format!("{values:?} after {known:?}");
            let rule = "a reader sees each key of a batch before or after its change";
            return Err(Violation { rule, observed });
        }
        known = values;
    }
    Ok(())
}

fn opened<S: Subject>(subject: &mut S) -> Result<S::Store, Violation> {
    fallible("a store opens", subject.open())
}

fn fallible<R>(rule: &'static str, result: Result<R, StoreError>) -> Result<R, Violation> {
    result.map_err(|error| Violation { rule, observed: error.to_string() })
}

fn flush(store: &mut impl Store) -> Result<(), Violation> {
    fallible("a flush succeeds", store.flush())
}

struct Run {
    random: u64,
    /// The contents that the store must have.
    model: Model,
}

impl Run {
    /// Returns a number below `most`, by xorshift.
    fn below(&mut self, most: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % most
    }

    fn commit(&mut self, store: &mut impl Store, batch: Batch) -> Result<(), Violation> {
        fallible("a batch is written", store.commit(&batch))?;
        for (key, value) in batch.writes {
            match value {
                Some(value) => self.model.insert(key, value),
                None => self.model.remove(&key),
            };
        }
        Ok(())
    }

    /// Tests keys and values at the edges.
    fn fixed(&mut self, store: &mut impl Store) -> Result<(), Violation> {
        self.commit(store, Batch::default())?;
        self.compare("an empty batch changes nothing", store)?;
        let mut batch = Batch::default();
        for key in [&b"a"[..], b"a\0", b"a\0\0", b"a\xff", b"a\xff\xff", b"b", b"\xff", b"\xff\xff", b"\0"] {
            batch.put(key.to_vec(), key.repeat(3));
        }
        batch.put(b"empty".to_vec(), Vec::new());
        batch.put([b"long/".to_vec(), vec![b'k'; 300]].concat(), vec![7; 300 << 10]);
        self.commit(store, batch)?;
        self.compare("keys are compared byte by byte, and values may be empty or long", store)?;
        let mut batch = Batch::default();
        batch.put(b"a".to_vec(), b"new".to_vec());
        batch.delete(b"a\0".to_vec());
        batch.delete(b"absent".to_vec());
        self.commit(store, batch)?;
        flush(store)?;
        self.compare("a batch overwrites and deletes, also keys that are absent", store)
    }

    fn key(&mut self) -> Vec<u8> {
        let kind = [&b"a/"[..], b"b/", b"h/x\0", b"h/y\0"][self.below(4) as usize];
        let length = self.below(3);
        let rest = (0..length).map(|_| [0, b'1', b'2', 0xff][self.below(4) as usize]);
        kind.iter().copied().chain(rest.collect::<Vec<u8>>()).collect()
    }

    fn step(&mut self, store: &mut impl Store) -> Result<(), Violation> {
        let mut writes: BTreeMap<Vec<u8>, Option<Vec<u8>>> = BTreeMap::new();
        for _ in 0..=self.below(6) {
            let key = self.key();
            let value = match self.below(8) {
                0..=2 => None,
                3 => Some(vec![self.below(256) as u8; 9_000]),
                _ => Some(vec![self.below(256) as u8; self.below(40) as usize]),
            };
            writes.insert(key, value);
        }
        self.commit(store, Batch::from(Vec::from_iter(writes)))?;
        match self.below(3) {
            0 => flush(store),
            _ => Ok(()),
        }
    }

    /// Compares every kind of read with the model.
    fn compare(&mut self, rule: &'static str, store: &impl Store) -> Result<(), Violation> {
        let violated = |observed: String| Err(Violation { rule, observed });
        let all = fallible(rule, store.all(b""))?;
        if !all.iter().map(|(key, value)| (key, value)).eq(self.model.iter()) {
            return violated(format!("{} keys, and not the {} expected", all.len(), self.model.len()));
        }
        for _ in 0..8 {
            let (key, from) = (self.key(), self.key());
            if fallible(rule, store.get(&key))?.as_ref() != self.model.get(&key) {
                return violated(format!("the value of {key:?}"));
            }
            let prefix = &key[..key.len().min(self.below(4) as usize)];
            let most = self.below(4) as usize;
            let mut found = Vec::new();
            let visited = store.scan_from(prefix, &from, &mut |key, value| {
                found.push((key.to_vec(), value.to_vec()));
                found.len() <= most
            });
            fallible(rule, visited)?;
            let expected = self.model.range(from.clone()..).filter(|(key, _)| key.starts_with(prefix));
            if !found.iter().map(|(key, value)| (key, value)).eq(expected.take(most + 1)) {
                return violated(format!("a scan of {prefix:?} from {from:?}, {} keys at most", most + 1));
            }
        }
        self.compare_ranges(rule, store)
    }

    /// Compares an answer for several ranges with the model, if the store gives one.
    fn compare_ranges(&mut self, rule: &'static str, store: &impl Store) -> Result<(), Violation> {
        let (most, bytes) = (self.below(5) as usize, 8_000);
        let mut ranges: Vec<_> = (0..self.below(6)).map(|_| self.key()..self.key()).collect();
        ranges.retain(|range| range.start < range.end);
        let Some(found) = fallible(rule, store.ranges(&ranges, most, bytes))? else { return Ok(()) };
        let is_right = |(range, rows): (&Range<Vec<u8>>, &Option<Vec<Pair>>)| {
            let expected = || self.model.range(range.clone());
            match rows {
                Some(rows) => {
                    rows.len() <= most && rows.iter().map(|(key, value)| (key, value)).eq(expected())
                }
                None => true,
            }
        };
        match ranges.iter().zip(&found).find(|one| !is_right(*one)) {
            None if found.len() == ranges.len() => Ok(()),
            wrong => {
                let observed =
                    format!("an answer for {} ranges, {most} keys at most: {wrong:?}", ranges.len());
                Err(Violation { rule, observed })
            }
        }
    }
}
