//! The store's files: the write-ahead log with its frames, the database's nodes, snapshots and
//! messages, and the record of commits.

use durable::store::probe::wal::{BEFORE, Log, Written, read, save};
use durable::store::probe::{raw, record};

use super::bytes::Bytes;

/// The generation of the written frames.
const GENERATION: u64 = 3;

/// Reads the bytes as the part of a store that the first byte selects.
pub fn run(bytes: &[u8]) {
    let mut bytes = Bytes(bytes);
    match bytes.byte() % 7 {
        0 => writes(&mut bytes),
        1 => changes(&mut bytes),
        2 => damage(&mut bytes),
        3 => nodes(&mut bytes),
        4 => {
            raw::pages(bytes.0);
            raw::names(bytes.0);
        }
        5 => messages(&mut bytes),
        _ => {
            record(bytes.0);
        }
    }
}

/// Reads a short key, often one that was written before.
fn key(bytes: &mut Bytes<'_>, written: &Written) -> Vec<u8> {
    let how = usize::from(bytes.byte());
    match written.get(how % 8) {
        Some((key, _)) if how < 128 => key.clone(),
        Some((key, _)) if how < 192 => [key, bytes.take(3)].concat(),
        _ => bytes.take(how % 16).to_vec(),
    }
}

/// Builds a log with frames of writes. Returns it with the state of the keys before the first frame
/// and after each.
fn log(bytes: &mut Bytes<'_>) -> (Log, Vec<Written>) {
    let mut log = Log::new(u64::from(bytes.byte()));
    let mut states = vec![Written::new()];
    for number in 0..u64::from(bytes.byte() % 6) {
        let mut written = Written::new();
        for _ in 0..=bytes.byte() % 6 {
            let key = key(bytes, &log.written());
            let how = bytes.byte();
            let value = match how {
                0..=31 => None,
                // Long values are compressed.
                32..=63 => Some(bytes.take(8).repeat(usize::from(how))),
                _ => Some(bytes.take(usize::from(how % 32)).to_vec()),
            };
            written.push((key, value));
        }
        log.write(GENERATION, number, &written);
        states.push(log.written());
    }
    (log, states)
}

/// Checks that frames are read and saved as they were written, and that saving mends one flipped
/// bit.
fn writes(bytes: &mut Bytes<'_>) {
    let (log, states) = log(bytes);
    let (frames, written, whole) = (states.len() as u64 - 1, log.written(), log.bytes.clone());
    assert_eq!(read(&whole, GENERATION, Some(frames)), Ok(Some((frames, written.clone()))));
    assert!(read(&whole, GENERATION, Some(frames + 1)).is_err(), "one is missing");
    assert_eq!(read(&whole, GENERATION + 1, None), Ok(Some((0, Written::new()))), "it is old");
    assert!(frames == 0 || read(&whole, GENERATION - 1, None).is_err(), "the database is older");
    // Saving scans the whole file and takes most of the time.
    if log.end.is_multiple_of(4) {
        assert_eq!(save(whole.clone(), GENERATION), (written.clone(), Vec::new()));
    }
    let bit = u16::from_le_bytes([bytes.byte(), bytes.byte()]);
    let (at, bit) = (usize::from(bit / 8) % log.end, bit % 8);
    let mut turned = whole;
    turned[at] ^= 1 << bit;
    assert!(
        frames == 0 || read(&turned, GENERATION, Some(frames)).is_err(),
        "bit {bit} of byte {at} is turned"
    );
    let (saved, lost) = save(turned, GENERATION);
    assert_eq!((saved, &lost[..]), (written, &[][..]), "bit {bit} of byte {at} is turned");
}

/// Appends frames with valid checksums and arbitrary changes. Each is taken as a whole or not at
/// all.
fn changes(bytes: &mut Bytes<'_>) {
    let (mut log, states) = log(bytes);
    let frames = states.len() as u64 - 1;
    for number in frames..frames + u64::from(bytes.byte() % 4) {
        let (how, most) = (bytes.byte(), usize::from(bytes.byte()));
        let generation = if how.is_multiple_of(16) { u64::from(how) } else { GENERATION };
        log.frame(generation, number, how.is_multiple_of(3), bytes.take(most));
    }
    if let Ok(Some((count, written))) = read(&log.bytes, GENERATION, Some(frames)) {
        assert!(count >= frames);
        assert!(count > frames || states.last() == Some(&written), "a frame that is none left something");
    }
    if log.end.is_multiple_of(4) {
        let _ = save(log.bytes, GENERATION);
    }
}

/// Overwrites some bytes of a log. Reading returns a state after some frame, and the last one if
/// the number of frames is known.
fn damage(bytes: &mut Bytes<'_>) {
    let (log, states) = log(bytes);
    let frames = states.len() - 1;
    let mut damaged = log.bytes;
    for _ in 0..bytes.byte() % 8 {
        let at = usize::from(u16::from_le_bytes([bytes.byte(), bytes.byte()])) % (log.end + 2 * BEFORE);
        let most = usize::from(bytes.byte() % 16);
        let patch = bytes.take(most);
        damaged[at..at + patch.len()].copy_from_slice(patch);
    }
    for expected in [None, Some(frames as u64)] {
        if let Ok(Some((count, written))) = read(&damaged, GENERATION, expected) {
            assert_eq!(states.get(count as usize), Some(&written));
            assert!(expected.is_none() || count as usize == frames);
        }
    }
    let _ = read(bytes.0, GENERATION, None);
    let _ = save(if log.end.is_multiple_of(4) { bytes.0.to_vec() } else { damaged }, GENERATION);
}

/// Reads any bytes as a node with changes.
fn nodes(bytes: &mut Bytes<'_>) {
    let mut changes = Vec::new();
    for _ in 0..bytes.byte() % 6 {
        let most = usize::from(bytes.byte() % 64);
        changes.push(bytes.take(most));
    }
    let _ = raw::leaf(bytes.0, &changes);
}

/// Reads any bytes as the messages of a segment. There are no more pages than bytes.
fn messages(bytes: &mut Bytes<'_>) {
    if let Ok(pages) = raw::walk(bytes.0) {
        assert!(pages <= bytes.0.len(), "{pages} pages");
    }
}
