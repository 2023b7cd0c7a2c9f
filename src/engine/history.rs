//! Histories: entries in order, in chunks that prove their order.

use xxhash_rust::xxh3::Xxh3;

use crate::compress::{compress, decompress};

use super::checkpoint::Checkpoint;
use super::entry::Entry;
use super::stored;

/// Entries under one key, with a checksum over them and the previous chunk.
///
/// The stored bytes are a body and that checksum. A body is one or more *blocks*, or the compressed
/// form of such a body. A block has the entries that were written together. Chunks of earlier
/// versions have their checksum first.
#[derive(Clone, Debug, PartialEq)]
pub struct Chunk {
    pub entries: Vec<Entry>,
    pub checksum: u64,
}

/// The fault of a chunk.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ChunkError {
    /// The bytes are damaged, or the chunk does not follow the previous one.
    Checksum,
    /// The chunk has a form that this version does not know.
    Form,
}

/// The words that follow the name of the chunk in a message.
impl std::fmt::Display for ChunkError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            ChunkError::Checksum => "does not fit the one before it",
            ChunkError::Form => "has a form that this version does not know",
        })
    }
}

impl Chunk {
    /// Returns the bytes and the checksum of a chunk of these entries. `before` is the checksum of
    /// the previous chunk, or 0.
    pub fn encode(entries: Vec<Entry>, before: u64) -> (Vec<u8>, u64) {
        Tail::new(0, before, block(entries)).closed()
    }

    pub fn decode(bytes: &[u8], before: u64) -> Result<Chunk, ChunkError> {
        let (body, checksum) =
            proven(bytes, before).or_else(|| earlier(bytes, before)).ok_or(ChunkError::Checksum)?;
        Chunk::of(body, checksum)
    }

    /// Decodes a chunk whose predecessor is gone, so that its checksum can't be verified.
    pub fn decode_alone(bytes: &[u8]) -> Result<Chunk, ChunkError> {
        let (body, checksum) = bytes.split_last_chunk().ok_or(ChunkError::Form)?;
        Chunk::of(body, u64::from_le_bytes(*checksum))
    }

    fn of(body: &[u8], checksum: u64) -> Result<Chunk, ChunkError> {
        let entries = match body.split_first() {
            Some((&PACKED, packed)) => decompress(packed).and_then(|body| Chunk::entries(&body)),
            _ => Chunk::entries(body),
        };
        let entries = entries.ok_or(ChunkError::Form)?;
        Ok(Chunk { entries, checksum })
    }

    fn entries(body: &[u8]) -> Option<Vec<Entry>> {
        if body.first() != Some(&RELATIVE) {
            // Earlier versions did not write relative entries.
            return stored::decode(body);
        }
        let mut all = Vec::new();
        let mut rest = body;
        while let Some((&RELATIVE, block)) = rest.split_first() {
            let (mut entries, after) = stored::take::<Vec<Entry>>(block)?;
            make_absolute(&mut entries);
            all.extend(entries);
            rest = after;
        }
        rest.is_empty().then_some(all)
    }
}

/// Returns the body and the checksum of a chunk's bytes, if the checksum fits.
fn proven(bytes: &[u8], before: u64) -> Option<(&[u8], u64)> {
    bytes.split_last_chunk().and_then(|(body, checksum)| fitting(body, checksum, before))
}

/// Does the same for a chunk of an earlier version.
fn earlier(bytes: &[u8], before: u64) -> Option<(&[u8], u64)> {
    bytes.split_first_chunk().and_then(|(checksum, body)| fitting(body, checksum, before))
}

fn fitting<'a>(body: &'a [u8], checksum: &[u8; 8], before: u64) -> Option<(&'a [u8], u64)> {
    let checksum = u64::from_le_bytes(*checksum);
    (checksum == chained(before, body)).then_some((body, checksum))
}

/// Returns the block of entries that are written together.
pub(super) fn block(mut entries: Vec<Entry>) -> Vec<u8> {
    make_relative(&mut entries);
    let mut out = Vec::with_capacity(stored::MOST);
    out.push(RELATIVE);
    stored::append(out, &entries)
}

/// The last chunk of a history while it is short. The next block is added to it, so that steps that
/// are written one after another do not take a key each.
#[derive(Clone, Debug, PartialEq)]
pub struct Tail {
    pub number: u64,
    /// The checksum of the previous chunk.
    before: u64,
    body: Vec<u8>,
}

/// The size in bytes up to which a chunk grows.
const GROWS: usize = PIECE;

/// The size from which a chunk is long.
const LONG: usize = GROWS / 2;

impl Tail {
    /// Returns a chunk with one block.
    pub fn new(number: u64, before: u64, block: Vec<u8>) -> Tail {
        Tail { number, before, body: block }
    }

    /// Decodes a chunk, if blocks can be added to it.
    fn of(number: u64, before: u64, bytes: &[u8]) -> Option<Tail> {
        let (body, _) = proven(bytes, before)?;
        let grows = body.first() == Some(&RELATIVE) && body.len() < GROWS;
        grows.then(|| Tail { number, before, body: body.to_vec() })
    }

    /// Whether a block is short enough to be added to a chunk that grows to `growth` bytes at most. A
    /// longer block gets a chunk of its own.
    pub fn takes(block: &[u8], growth: usize) -> bool {
        block.len() <= growth.min(GROWS) / 4
    }

    /// Whether the chunk is long.
    pub fn is_long(&self) -> bool {
        self.body.len() >= LONG
    }

    /// Adds a block if there is room, and returns whether there was.
    pub fn add(&mut self, block: &[u8], growth: usize) -> bool {
        let has_room = self.body.len() + block.len() <= growth.min(GROWS);
        if has_room {
            self.body.extend(block);
        }
        has_room
    }

    /// Returns the bytes of the chunk while it grows, and its checksum.
    pub fn bytes(&self) -> (Vec<u8>, u64) {
        sealed(self.body.clone(), self.before)
    }

    /// Returns the bytes of the chunk once it no longer grows, compressed if possible, and its
    /// checksum.
    pub fn closed(self) -> (Vec<u8>, u64) {
        match compress(&self.body) {
            Some(packed) => sealed([&[PACKED][..], &packed].concat(), self.before),
            None => sealed(self.body, self.before),
        }
    }
}

fn sealed(mut body: Vec<u8>, before: u64) -> (Vec<u8>, u64) {
    let checksum = chained(before, &body);
    body.extend(checksum.to_le_bytes());
    (body, checksum)
}

/// The first byte of a block, in the place of a record's version. The entries of the block are
/// relative to each other.
const RELATIVE: u8 = 0xc5;

/// The first byte of a compressed body. Entries are much alike. The uncompressed body begins with
/// its own form.
const PACKED: u8 = 0xc4;

/// Replaces the numbers and times of entries by the differences to the previous entry, which take
/// fewer bytes.
fn make_relative(entries: &mut [Entry]) {
    let mut before = (0, 0);
    for entry in entries {
        entry.turn_marks();
        let (seq, time) = entry.numbers();
        let now = (seq.as_deref().copied().unwrap_or(before.0), *time);
        if let Some(seq) = seq {
            let step = now.0.wrapping_sub(before.0).cast_signed();
            // The result is small in either direction: the differences 0, -1, 1, -2 become 0, 1, 2,
            // 3.
            *seq = ((step << 1) ^ (step >> 63)).cast_unsigned();
        }
        *time = now.1.wrapping_sub(before.1);
        before = now;
    }
}

fn make_absolute(entries: &mut [Entry]) {
    let mut before = (0u64, 0i64);
    for entry in entries {
        let (seq, time) = entry.numbers();
        if let Some(seq) = seq {
            let step = (*seq >> 1) ^ (*seq & 1).wrapping_neg();
            *seq = before.0.wrapping_add(step);
            before.0 = *seq;
        }
        *time = before.1.wrapping_add(*time);
        before.1 = *time;
        entry.turn_marks();
    }
}

fn chained(before: u64, body: &[u8]) -> u64 {
    let mut hasher = Xxh3::new();
    hasher.update(&before.to_le_bytes());
    hasher.update(body);
    hasher.digest()
}

/// The approximate size of a chunk in bytes, unless a single entry is larger. The store keeps
/// values of this size close together, and writes large ones several times.
const PIECE: usize = 16 << 10;

/// Splits entries into pieces, each for one chunk.
pub(super) fn pieces(entries: Vec<Entry>) -> impl Iterator<Item = Vec<Entry>> {
    let mut rest = entries.into_iter().peekable();
    std::iter::from_fn(move || {
        let first = rest.next()?;
        let mut bytes = first.size();
        let mut piece = vec![first];
        while let Some(entry) = rest.next_if(|entry| bytes + entry.size() <= PIECE) {
            bytes += entry.size();
            piece.push(entry);
        }
        Some(piece)
    })
}

/// A whole history, as read from a store.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    pub entries: Vec<Entry>,
    /// The number after that of the last chunk, and that chunk's checksum.
    pub chunks: u64,
    pub checksum: u64,
    /// The last chunk, if it can still grow.
    pub tail: Option<Tail>,
    /// The checkpoint at which the entries begin, or `None` if they begin at the beginning.
    pub after: Option<Checkpoint>,
}

impl History {
    /// Assembles a history from the chunks of an instance, numbers and bytes in order. `first` is
    /// the number of the first chunk. The error names the first wrong chunk.
    pub fn read(first: u64, chunks: impl IntoIterator<Item = (u64, Vec<u8>)>) -> Result<History, String> {
        History { chunks: first, ..History::default() }.and_then(chunks)
    }

    /// Assembles a history like `read`, from the chunks after a checkpoint.
    pub fn read_after(
        checkpoint: Checkpoint,
        chunks: impl IntoIterator<Item = (u64, Vec<u8>)>,
    ) -> Result<History, String> {
        let Checkpoint { chunks: first, checksum, .. } = checkpoint;
        let history = History { chunks: first, checksum, after: Some(checkpoint), ..History::default() };
        history.and_then(chunks)
    }

    fn and_then(self, chunks: impl IntoIterator<Item = (u64, Vec<u8>)>) -> Result<History, String> {
        let (mut history, mut last) = (self, None);
        for (number, bytes) in chunks {
            if number != history.chunks {
                return Err(format!("part {} of its history is missing", history.chunks));
            }
            let chunk = Chunk::decode(&bytes, history.checksum)
                .map_err(|error| format!("part {number} of its history {error}"))?;
            history.entries.extend(chunk.entries);
            last = Some((number, history.checksum, bytes));
            history.checksum = chunk.checksum;
            history.chunks += 1;
        }
        history.tail = last.and_then(|(number, before, bytes)| Tail::of(number, before, &bytes));
        Ok(history)
    }
}

#[cfg(test)]
mod tests {
    use lz4_flex::block::compress_prepend_size;

    use super::super::entry::Postmark;
    use super::*;
    use crate::machine::Data;

    fn steps(count: u64) -> Vec<Entry> {
        let answer = |seq| {
            let came = (seq % 2 == 0).then_some(Postmark { time: seq as i64 - 3, number: seq / 2 });
            Entry::Answered { seq, result: Ok(Data(vec![seq as u8; 20])), time: seq as i64, came }
        };
        (0..count).map(answer).collect()
    }

    #[test]
    fn long_chunks_are_shorter_and_come_back() {
        for count in [0, 1, 5, 20, 500] {
            let entries = steps(count);
            let (bytes, checksum) = Chunk::encode(entries.clone(), 7);
            assert_eq!(Chunk::decode(&bytes, 7), Ok(Chunk { entries, checksum }));
            assert_eq!(Chunk::decode(&bytes, 8), Err(ChunkError::Checksum));
            assert!(count < 100 || bytes.len() < count as usize * 15, "{count}: {}", bytes.len());
        }
    }

    /// Blocks are added as long as there is room. At every size, the history can be read,
    /// continued, and closed.
    #[test]
    fn a_tail_grows() {
        let first = Chunk::encode(steps(3), 0);
        let mut tail = Tail::new(1, first.1, block(steps(2)));
        let mut all = [steps(3), steps(2)].concat();
        loop {
            let (bytes, checksum) = tail.bytes();
            let history = History::read(0, [(0, first.0.clone()), (1, bytes)]).expect("a history");
            assert_eq!(history.entries, all);
            assert_eq!((history.chunks, history.checksum), (2, checksum));
            assert_eq!(history.tail, Some(tail.clone()));
            let (closed, checksum) = tail.clone().closed();
            let after = Chunk::encode(steps(4), checksum);
            let chunks = [(0, first.0.clone()), (1, closed), (2, after.0)];
            let whole = History::read(0, chunks).expect("a history");
            assert_eq!(whole.entries, [all.clone(), steps(4)].concat());
            if !tail.add(&block(steps(5)), usize::MAX) {
                break;
            }
            all.extend(steps(5));
        }
        assert!(all.len() > 100 && tail.closed().0.len() < GROWS / 2);
    }

    #[test]
    fn numbers_and_times_may_go_anywhere() {
        let places = [(5, 7), (u64::MAX, i64::MIN), (0, i64::MAX), (1 << 63, 0), (6, -1)];
        let mut entries: Vec<Entry> = places.map(|(seq, time)| Entry::Cancelled { seq, time }).into();
        entries.insert(2, Entry::Ended { time: 3 });
        let came = [(i64::MIN, 0), (i64::MAX, u64::MAX)].map(|(time, number)| Postmark { time, number });
        entries.extend(came.map(|came| Entry::Answered {
            seq: 7,
            result: Ok(Data::null()),
            time: 5,
            came: Some(came),
        }));
        entries.extend([Some(4), Some(u64::MAX), None].map(|used| Entry::Rewound { seq: 5, time: 9, used }));
        let (bytes, checksum) = Chunk::encode(entries.clone(), 7);
        assert_eq!(Chunk::decode(&bytes, 7), Ok(Chunk { entries, checksum }));
    }

    #[test]
    fn chunks_from_before_entries_were_relative_are_read() {
        for count in [0, 3, 500] {
            let entries = steps(count);
            let plain = stored::encode(&entries);
            let packed = [&[PACKED][..], &compress_prepend_size(&plain)].concat();
            for body in [plain, packed] {
                let checksum = chained(7, &body);
                let bytes = [&checksum.to_le_bytes()[..], &body].concat();
                assert_eq!(Chunk::decode(&bytes, 7), Ok(Chunk { entries: entries.clone(), checksum }));
            }
        }
    }

    /// A chunk with a fitting checksum and an unknown form allocates no more memory than its bytes.
    #[test]
    fn what_claims_to_be_too_long_is_refused() {
        let claim = |size: u32| {
            let body = [&[PACKED][..], &size.to_le_bytes(), &[1, 2, 3]].concat();
            [&chained(0, &body).to_le_bytes()[..], &body].concat()
        };
        for size in [0, 100, u32::MAX] {
            assert_eq!(Chunk::decode(&claim(size), 0), Err(ChunkError::Form));
        }
    }
}
