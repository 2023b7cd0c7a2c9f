//! The engine's stored forms: data, records, histories, checkpoints, states of machines, mail and
//! keys.

use std::cell::RefCell;
use std::fmt::Debug;
use std::rc::Rc;

use durable::builtins::Context;
use durable::compress::{compress, decompress};
use durable::engine::{
    Checkpoint, Chunk, Deployed, History, Hold, InstanceRecord, KeptOperation, KeptRange, StoredLines,
    StoredMail, StoredProgram, keys,
};
use durable::machine::{Data, Identity, Image, Machine, Progress, Value, format, json};
use durable::{check, code, core};
use xxhash_rust::xxh3::xxh3_64;

use super::bytes::Bytes;
use super::memory::within;

/// The memory that decoding may take: a fixed number of bytes, and a number for each input byte.
const FIXED: usize = 4 << 20;
const EACH: usize = 2_000;

/// Decodes the bytes as the form that the first byte selects.
///
/// Decoding succeeds or fails, within the memory that the bytes allow. A decoded value survives a
/// round trip.
pub fn run(bytes: &[u8]) {
    let Some((what, bytes)) = bytes.split_first() else { return };
    let most = FIXED + EACH * bytes.len();
    match what % 16 {
        0 => data(bytes),
        1 => survives(bytes, InstanceRecord::decode, InstanceRecord::encode),
        2 => survives(bytes, StoredMail::decode, StoredMail::encode),
        3 => survives(bytes, StoredLines::decode, StoredLines::encode),
        4 => survives(bytes, StoredProgram::decode, StoredProgram::encode),
        5 => survives(bytes, Hold::decode, Hold::encode),
        6 => survives(bytes, Deployed::decode, Deployed::encode),
        7 => chunk(bytes),
        8 => histories(bytes),
        9 => checkpoint(bytes),
        10 => machine(bytes),
        11 => known_keys(bytes),
        12 => {
            // A compressed byte stands for at most 255 bytes.
            if let Some(plain) = within(most, || decompress(bytes)) {
                assert!(compress(&plain).is_none_or(|packed| decompress(&packed).as_ref() == Some(&plain)));
            }
        }
        14 => survives(bytes, KeptRange::decode, KeptRange::encode),
        // A compressed operation stands for more bytes than these.
        15 if bytes.first() != Some(&0xc4) => survives(bytes, KeptOperation::decode, KeptOperation::encode),
        _ => {
            let text = String::from_utf8_lossy(bytes);
            if let Ok(data) = within(most, || json::to_data(&text)) {
                assert_eq!(json::to_data(&json::from_data(&data)).ok(), Some(data));
            }
        }
    }
}

/// Checks that a decoded value survives a round trip.
fn survives<T: Debug>(bytes: &[u8], decode: fn(&[u8]) -> Option<T>, encode: fn(&T) -> Vec<u8>) {
    let Some(value) = within(FIXED + EACH * bytes.len(), || decode(bytes)) else { return };
    let written = encode(&value);
    let again = decode(&written).expect("what was written is read");
    assert_eq!(encode(&again), written);
    assert_eq!(format!("{again:?}"), format!("{value:?}"));
}

fn data(bytes: &[u8]) {
    let data = Data(bytes.to_vec());
    let Some(value) = within(FIXED + EACH * bytes.len(), || data.try_decode()) else { return };
    let again = Data::encode(&value).expect("what was data is data");
    let value = again.try_decode().expect("what was encoded is decoded");
    assert_eq!(Data::encode(&value).ok(), Some(again.clone()));
    assert_eq!(json::to_data(&json::from_data(&again)).ok(), Some(again));
    format::write(&value, 1_000);
}

/// Decodes bytes as a chunk without a check of its checksum.
fn chunk(bytes: &[u8]) {
    let sealed = [bytes, &[0; 8]].concat();
    // The chunk's content may be compressed.
    let most = 255 * (FIXED + EACH * bytes.len());
    let Ok(Chunk { entries, .. }) = within(most, || Chunk::decode_alone(&sealed)) else { return };
    let (bytes, checksum) = Chunk::encode(entries.clone(), 7);
    let again = Chunk::decode(&bytes, 7).expect("what was encoded is decoded");
    assert_eq!(format!("{:?}", again.entries), format!("{entries:?}"));
    assert_eq!(again.checksum, checksum);
    assert!(Chunk::decode(&bytes, 8).is_err(), "it fits another chunk before it");
}

/// Reads chunks as one history. Most chunks are encoded anew with the checksum of the chunk before
/// them; a part that is left as it is must be refused.
fn histories(bytes: &[u8]) {
    let mut rest = Bytes(bytes);
    let (mut chunks, mut entries, mut before) = (Vec::new(), Vec::new(), 0);
    while !rest.0.is_empty() && chunks.len() < 16 {
        let (how, most) = (rest.byte(), usize::from(rest.byte()));
        let body = rest.take(most);
        let read = Chunk::decode_alone(&[body, &[0; 8]].concat());
        let (bytes, checksum) = match read {
            Ok(chunk) if how < 240 => {
                entries.extend(chunk.entries.iter().cloned());
                Chunk::encode(chunk.entries, before)
            }
            _ => {
                let history = History::read(0, chunks.into_iter().chain([(u64::from(how), body.to_vec())]));
                assert!(history.is_err(), "a part that is none was taken");
                return;
            }
        };
        chunks.push((chunks.len() as u64, bytes));
        before = checksum;
    }
    let history = History::read(0, chunks.clone()).expect("whole chunks are a history");
    assert_eq!(format!("{:?}", history.entries), format!("{entries:?}"));
    assert_eq!((history.chunks, history.checksum), (chunks.len() as u64, before));
    if chunks.len() > 1 {
        chunks.remove(0);
        assert!(History::read(0, chunks).is_err(), "its beginning is missing");
    }
}

/// Decodes bytes as a checkpoint with a matching checksum.
fn checkpoint(bytes: &[u8]) {
    let sealed = [&xxh3_64(bytes).to_le_bytes(), bytes].concat();
    let Some(checkpoint) = within(FIXED + EACH * bytes.len(), || Checkpoint::decode(&sealed)) else { return };
    checkpoint.open_entries();
    let again = Checkpoint::decode(&checkpoint.encode()).expect("what was encoded is decoded");
    assert!(again == checkpoint, "it is another when it is read again");
    machine(checkpoint.state());
}

/// The program whose machine states are decoded.
const PROGRAM: &str = "
fn count(n) { var all = []; for i in 0..n { all = [..all, {i, f: fn _ => i}] }; all }
activity work(n) { if n > 2 { throw {kind: \"many\"} }; n * 2 }
orchestration child(n) { sleep(1s); n }
var seen = {a: 1, \"b\": [1.5, 2s, null, true]}
let later = async child(1)
let tasks = count(3).map(fn x => async work(x.i))
try { print(all(tasks)) } catch e { log.warn(e.message) } finally { seen.a += 1 }
let [a, b] = [race({x: later, y: async sleep(5s)}), count(200)]
for x in b { seen.a += x.f(0) }
";

thread_local! {
    static IMAGE: RefCell<Option<Rc<Image>>> = const { RefCell::new(None) };
}

/// Returns the image of the program, compiled once per thread.
pub fn image() -> Rc<Image> {
    let made = || {
        let program = check::load("x.df", PROGRAM.into(), &|_: &str| Err("no files".to_string()));
        assert!(program.is_sound(), "{:?}", program.diagnostics);
        let code = code::compile(&core::lower(&program), &program).expect("it is compiled");
        Image::new(code.into()).expect("it has no constants")
    };
    IMAGE.with_borrow_mut(|image| image.get_or_insert_with(made).clone())
}

/// Restores bytes as the state of a machine. A snapshot of the restored machine restores to the
/// same snapshot.
fn machine(bytes: &[u8]) {
    let image = image();
    let restore = || Machine::restore(image.clone(), bytes);
    let Some(machine) = within(FIXED + EACH * bytes.len(), restore) else { return };
    let first = machine.snapshot();
    if let Some(again) = Machine::restore(image, &first) {
        assert!(again.snapshot() == first, "the snapshot of what was restored is another");
    }
}

/// Returns states from a run of the program, as first inputs of the fuzzer.
pub fn states() -> Vec<Vec<u8>> {
    let image = image();
    let (script, args) = (image.code.script, vec![Value::list(Vec::new())]);
    let mut machine = Machine::new(image, Context::Orchestration, script, args, Identity::default());
    let mut states = vec![machine.snapshot()];
    for _ in 0..60 {
        let progress = machine.run(40);
        states.push(machine.snapshot());
        if let Progress::Done(_) = progress {
            break;
        }
        for request in machine.take_requests() {
            machine.answer(request.seq, Ok(Data::null()));
        }
    }
    states
}

/// Parses bytes as keys. A parsed key builds the same key.
fn known_keys(bytes: &[u8]) {
    if let Some((id, number)) = keys::parse_chunk(bytes) {
        assert_eq!(keys::chunk(id, number), bytes);
    }
    if let Some(number) = keys::parse_lines(bytes) {
        assert_eq!(keys::lines(number), bytes);
    }
    if let Some((to, number)) = keys::parse_mail(bytes) {
        let key = keys::mail(&to, number);
        assert_eq!(keys::parse_mail(&key).map(|(to, number)| keys::mail(&to, number)), Some(key));
    }
    if let Some(entity) = keys::parse_entity_key(bytes) {
        let key = keys::entity(&entity);
        assert_eq!(keys::parse_entity_key(&key), Some(entity));
    }
}
