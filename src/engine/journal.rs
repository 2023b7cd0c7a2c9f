//! The end of an instance's history: its unwritten entries, and the chunks that they go to.
//!
//! Entries that are written together form a block. A short block joins the last chunk while that is
//! short, and the chunk is written again with the block. A long block is a chunk of its own; blocks
//! that have joined the previous chunk are written first.

use crate::kv::Batch;

use super::entry::Entry;
use super::history::{self, History, Tail};
use super::keys;

/// The end of a history.
///
/// Invariant: only the last chunk grows, if any does. Unwritten entries come after all chunks.
pub(super) struct Journal {
    /// The entries that are not written yet.
    fresh: Vec<Entry>,
    chunks: u64,
    /// The checksum of the last chunk.
    checksum: u64,
    /// The last chunk, while it grows.
    tail: Option<Tail>,
}

impl Journal {
    /// Returns the end of a history that was read.
    pub fn after(history: &History) -> Journal {
        let History { chunks, checksum, tail, .. } = history;
        Journal { fresh: Vec::new(), chunks: *chunks, checksum: *checksum, tail: tail.clone() }
    }

    pub fn push(&mut self, entry: Entry) {
        self.fresh.push(entry);
    }

    /// Returns the number of entries that are not written yet.
    pub fn waiting(&self) -> usize {
        self.fresh.len()
    }

    /// Whether all entries are written, or in a batch to write.
    pub fn is_written(&self) -> bool {
        self.fresh.is_empty()
    }

    /// Returns the number after that of the last chunk.
    pub fn chunks(&self) -> u64 {
        self.chunks
    }

    /// Closes the last chunk, to which nothing is added any more. Returns the number after it, and
    /// its checksum.
    pub fn sealed(&mut self) -> (u64, u64) {
        self.tail = None;
        (self.chunks, self.checksum)
    }

    /// Adds the chunks of the unwritten entries to a batch. Short blocks join the last chunk while
    /// that is no longer than `growth`. With `ends`, nothing comes after them. Returns the number of
    /// chunks before.
    pub fn write(&mut self, id: &str, growth: usize, ends: bool, batch: &mut Batch) -> u64 {
        let before = self.chunks;
        let mut is_written = true;
        for entries in history::pieces(std::mem::take(&mut self.fresh)) {
            let block = history::block(entries);
            let grows = Tail::takes(&block, growth);
            if grows && self.tail.as_mut().is_some_and(|tail| tail.add(&block, growth)) {
                is_written = false;
                continue;
            }
            // A chunk that was written before stays as it is, unless it has grown so long that its
            // compressed form is worth another write.
            if !is_written || (grows && self.tail.as_ref().is_some_and(Tail::is_long)) {
                self.close_tail(id, batch);
            }
            self.tail = Some(Tail::new(self.chunks, self.checksum, block));
            self.chunks += 1;
            if !grows {
                self.close_tail(id, batch);
            }
            is_written = !grows;
        }
        assert!(self.is_last(), "only the last chunk of a history grows");
        if is_written {
            return before;
        }
        if ends {
            self.close_tail(id, batch);
        } else if let Some(tail) = &self.tail {
            let (bytes, checksum) = tail.bytes();
            self.checksum = checksum;
            batch.put(keys::chunk(id, tail.number), bytes);
        }
        before
    }

    /// Whether the chunk that grows, if one does, is the last one.
    fn is_last(&self) -> bool {
        self.tail.as_ref().is_none_or(|tail| tail.number + 1 == self.chunks)
    }

    /// Closes the last chunk, and adds it to a batch.
    fn close_tail(&mut self, id: &str, batch: &mut Batch) {
        let Some(tail) = self.tail.take() else { return };
        let key = keys::chunk(id, tail.number);
        let (bytes, checksum) = tail.closed();
        self.checksum = checksum;
        batch.put(key, bytes);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::machine::Data;

    /// Numbers from a seed (xorshift).
    fn next(seed: &mut u64) -> u64 {
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        *seed
    }

    /// Answers of one byte to 40,000, few and many together, are written in all ways. Each commit
    /// leaves all entries so far, in order, for readers of the history and for a journal that goes
    /// on from it.
    #[test]
    fn nothing_is_lost_whatever_the_sizes() {
        for round in 1..120u64 {
            let mut seed = round.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut store: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
            let mut journal = Journal::after(&History::default());
            let mut all = Vec::new();
            for commit in 0..12 {
                for _ in 0..next(&mut seed) % 5 {
                    let size = match next(&mut seed) % 4 {
                        0 => next(&mut seed) % 40_000,
                        1 => next(&mut seed) % 5_000,
                        _ => next(&mut seed) % 60,
                    };
                    let bytes: Vec<u8> = (0..=size).map(|_| next(&mut seed) as u8).collect();
                    let seq = all.len() as u64;
                    all.push(Entry::Answered { seq, result: Ok(Data(bytes)), time: seq as i64, came: None });
                    journal.push(all[all.len() - 1].clone());
                }
                let growth = [0, 512, usize::MAX, usize::MAX][(next(&mut seed) % 4) as usize];
                let ends = commit == 11;
                let mut batch = Batch::default();
                journal.write("x", growth, ends, &mut batch);
                for (key, value) in batch.writes {
                    store.insert(key, value.expect("nothing is deleted"));
                }
                let chunks = store.iter().enumerate().map(|(n, (_, bytes))| (n as u64, bytes.clone()));
                let read =
                    History::read(0, chunks).unwrap_or_else(|reason| panic!("round {round}: {reason}"));
                assert_eq!(read.entries, all, "round {round}, commit {commit}");
                assert_eq!((read.chunks, read.checksum), (journal.chunks, journal.checksum), "round {round}");
                // Now and then another process goes on.
                if next(&mut seed).is_multiple_of(3) {
                    journal = Journal::after(&read);
                }
            }
        }
    }
}
