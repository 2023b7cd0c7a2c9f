//! `durable store export`: the JSON forms of what a store holds.
//!
//! One JSON value a line: texts, programs, instances, their checkpoints, the chunks of their histories, entities' states, who holds them,
//! and messages that wait. Values of the language are in
//! the lossless form of `machine::json`: what JSON lacks is an object with one key that begins with `$`. Times are
//! RFC 3339 with nanoseconds.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use serde_json::{Value as Json, json};

use crate::engine::{
    Args, Checkpoint, Chunk, ChunkError, Deployed, Entry, Hold, InstanceRecord, Line, Message,
    RecordedRequest, Status, StoredLines, StoredMail, StoredProgram, keys,
};
use crate::kv::Read;
use crate::machine::{Data, EntityId, ErrorData, format, json as values};
use crate::store::{DiskStore, FORMAT};
use crate::syntax::Place;

use super::STORE;
use super::arguments::Export;
use super::problem::{Problem, note};
use super::redact::Redaction;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Data in its lossless form.
pub fn data(data: &Data) -> Json {
    serde_json::from_str(&values::from_data(data)).unwrap_or_default()
}

fn error(error: &ErrorData) -> Json {
    json!({"value": data(&error.value), "trace": error.trace})
}

fn place(place: Place) -> Json {
    json!([place.source, place.span.start, place.span.end])
}

/// An instance's record.
pub fn instance(record: &InstanceRecord) -> Json {
    let mut out = json!({
        "type": "instance",
        "id": record.id,
        "life": record.life,
        "status": record.status.word(),
        "file": record.file,
        "program": hex(&record.program.0),
        "function": record.function,
        "args": data(&record.args),
        "begun_with": record.begun_with.as_ref().map(data),
        "created": format::instant(record.created),
        "ended": record.ended.map(format::instant),
        "parent": record.parent.as_ref().map(|parent| &parent.id),
        "parent_life": record.parent.as_ref().map(|parent| parent.life),
        "owner": record.owner,
        "root": record.root,
        "execution": record.execution,
        "attempt": record.attempt,
        "custom": record.custom.as_ref().map(data),
        "waiters": record.waiters,
        "rewound": record.rewound,
        "first": record.first,
        "chunks": record.chunks,
        "permissions": record.permissions,
    });
    match &record.status {
        Status::Running | Status::Suspended => {}
        Status::Terminated(why) => out["why"] = data(why),
        Status::Completed(value) => out["result"] = data(value),
        Status::Failed(failure) => out["error"] = error(failure),
    }
    out
}

/// One entry of a history.
pub fn entry(entry: &Entry) -> Json {
    let mut out = match entry {
        Entry::Requested { seq, what, args, place: at, .. } => {
            let args = match args {
                Args::Whole(args) => data(args),
                Args::Large { bytes, checksum } => {
                    json!({"bytes": bytes, "checksum": format!("{checksum:032x}")})
                }
            };
            let mut out = json!({"kind": "requested", "seq": seq, "args": args, "place": place(*at)});
            out[what.kind()] = json!(what.name());
            match what {
                RecordedRequest::Orchestration { .. } => out["orchestration"] = json!(true),
                RecordedRequest::Operation { entity, signal, .. } => {
                    out["entity"] = data(&reference(entity));
                    if let Some(after) = signal {
                        out["after"] = data(after);
                    }
                }
                _ => {}
            }
            out
        }
        Entry::Answered { seq, result: Ok(value), .. } => {
            json!({"kind": "answered", "seq": seq, "value": data(value)})
        }
        Entry::Answered { seq, result: Err(failure), .. } => {
            json!({"kind": "answered", "seq": seq, "error": error(failure)})
        }
        Entry::Retried { seq, error: failure, again, .. } => {
            json!({"kind": "retried", "seq": seq, "error": error(failure), "again": format::instant(*again)})
        }
        Entry::Cancelled { seq, .. } => json!({"kind": "cancelled", "seq": seq}),
        Entry::Begun { seq, .. } => json!({"kind": "begun", "seq": seq}),
        Entry::Ended { .. } => json!({"kind": "ended"}),
        Entry::Terminated { .. } => json!({"kind": "terminated"}),
        Entry::Rewound { seq, .. } => json!({"kind": "rewound", "seq": seq}),
        Entry::Renewed { seq, .. } => json!({"kind": "renewed", "seq": seq}),
    };
    out["time"] = json!(format::instant(entry.time()));
    out
}

/// Makes the file of an export. It has all that the store has, so only its owner may read it.
fn made(path: &Path) -> std::io::Result<File> {
    crate::os::private_file().create(true).truncate(true).write(true).open(path)
}

/// Writes a store as JSON Lines.
pub fn export(export: Export) -> Result<u8, Problem> {
    let folder = &export.store.store;
    super::access::is_there(folder)?;
    let (store, lost) = match export.damaged {
        false => (super::access::look(folder)?, Vec::new()),
        true => DiskStore::salvage(folder)?,
    };
    let failed = |error: std::io::Error| {
        Problem::new(STORE, format!("the export can't be written: {}", crate::os::reason(&error)))
    };
    let mut out: BufWriter<Box<dyn Write>> = BufWriter::new(match &export.file {
        Some(path) => Box::new(made(path).map_err(failed)?),
        None => Box::new(std::io::stdout()),
    });
    let mut written = Ok(());
    let mut bad = Vec::new();
    let mut chain = Chain { salvages: export.damaged, ..Chain::default() };
    let mut head = json!({"type": "store", "format": FORMAT, "commits": store.commits()});
    let redaction = match export.redact {
        true => {
            head["redacted"] = json!(true);
            Some(secrets(&store)?)
        }
        false => None,
    };
    if !export.damaged {
        let mut lines = 0u64;
        store.scan(b"", &mut |key, _| {
            lines += u64::from(key != keys::CANONICAL);
            true
        })?;
        head["lines"] = json!(lines);
    }
    writeln!(out, "{head}").map_err(failed)?;
    let mut count = 0;
    store.scan(b"", &mut |key, bytes| {
        // An import writes keys that are canonical.
        if key == keys::CANONICAL {
            return true;
        }
        match line(key, bytes, &mut chain, redaction.as_ref()) {
            Ok(mut line) => {
                if let Some(redaction) = &redaction {
                    redaction.line(&mut line);
                }
                count += 1;
                written = writeln!(out, "{line}");
            }
            Err(reason) => bad.push(reason),
        }
        written.is_ok()
    })?;
    written.and_then(|()| out.flush()).map_err(failed)?;
    for reason in &bad {
        note(&format!("left out: {reason}"));
    }
    if export.damaged {
        for reason in &lost {
            note(&format!("lost: {reason}"));
        }
        for id in &chain.gaps {
            note(&format!(
                "the history of {id} has a gap, and parts after it could not be compared with those before"
            ));
        }
        note(&format!("saved {count} {}", if count == 1 { "line" } else { "lines" }));
        return Ok(0);
    }
    store.close()?;
    if bad.is_empty() { Ok(0) } else { Err(Problem::new(STORE, "the export is not whole")) }
}

/// The checksum of the chunk before, of the history whose chunks are read or written.
#[derive(Default)]
pub struct Chain {
    id: String,
    /// The number of the chunk before.
    number: u64,
    checksum: u64,
    /// Chunks that don't fit those before are taken all the same.
    salvages: bool,
    /// The histories of which some did not.
    gaps: BTreeSet<String>,
    /// Of histories that aren't kept from their beginning: that before their first chunk.
    seeds: HashMap<String, u64>,
}

impl Chain {
    /// Takes note of where a history begins.
    pub fn begin(&mut self, id: &str, checkpoint: &Checkpoint) {
        if checkpoint.trimmed {
            self.seeds.insert(id.to_string(), checkpoint.checksum);
        }
    }

    /// The checksum before the next chunk of a history, to be replaced by that chunk's.
    pub fn of(&mut self, id: &str, number: u64) -> &mut u64 {
        // A file may have a history twice.
        let begins = self.id != id || number <= self.number;
        self.number = number;
        if begins {
            self.id = id.to_string();
            self.checksum = self.seeds.get(id).copied().unwrap_or(0);
        }
        &mut self.checksum
    }
}

/// What the histories of a store say that is secret.
fn secrets(store: &DiskStore) -> Result<Redaction, Problem> {
    let (mut redaction, mut chain) = (Redaction::default(), Chain::default());
    store.scan(b"", &mut |key, bytes| {
        if let Some(id) = key.strip_prefix(keys::CHECKPOINTS)
            && let Some(checkpoint) = Checkpoint::decode(bytes)
        {
            chain.begin(&text(id), &checkpoint);
            redaction.note(&text(id), &checkpoint.open_entries());
        } else if let Some((id, number)) = keys::parse_chunk(key) {
            let before = chain.of(id, number);
            // What is not readable is not exported either.
            if let Ok(chunk) = Chunk::decode(bytes, *before) {
                *before = chunk.checksum;
                redaction.note(id, &chunk.entries);
            }
        }
        true
    })?;
    Ok(redaction)
}

/// The line of a key and its value.
pub(super) fn line(
    key: &[u8],
    bytes: &[u8],
    chain: &mut Chain,
    redaction: Option<&Redaction>,
) -> Result<Json, String> {
    let shown = || String::from_utf8_lossy(key).into_owned();
    let unreadable = || format!("{} is not readable", shown());
    if let Some(hash) = key.strip_prefix(keys::TEXTS) {
        let text = std::str::from_utf8(bytes).map_err(|_| unreadable())?;
        return Ok(json!({"type": "text", "hash": hex(hash), "text": text}));
    }
    if let Some(hash) = key.strip_prefix(keys::PROGRAMS) {
        let program = StoredProgram::decode(bytes).ok_or_else(unreadable)?;
        let modules: Vec<Json> =
            program.modules.iter().map(|(name, text)| json!({"name": name, "text": hex(text)})).collect();
        return Ok(json!({"type": "program", "hash": hex(hash), "modules": modules}));
    }
    if key == keys::LIFE {
        let life: [u8; 8] = bytes.try_into().map_err(|_| unreadable())?;
        return Ok(json!({"type": "life", "life": u64::from_be_bytes(life)}));
    }
    if key.starts_with(keys::INSTANCES) {
        return InstanceRecord::decode(bytes).map(|record| instance(&record)).ok_or_else(unreadable);
    }
    if let Some(id) = key.strip_prefix(keys::CHECKPOINTS) {
        let checkpoint = Checkpoint::decode(bytes).ok_or_else(unreadable)?;
        chain.begin(&text(id), &checkpoint);
        let (id, chunks, trimmed) = (text(id), checkpoint.chunks, checkpoint.trimmed);
        return Ok(json!({
            "type": "checkpoint", "id": id, "chunks": chunks, "trimmed": trimmed, "stored": hex(bytes),
        }));
    }
    if let Some(id) = key.strip_prefix(keys::ACTIVE) {
        return Ok(json!({"type": "active", "id": text(id), "root": text(bytes)}));
    }
    if let Some(name) = key.strip_prefix(keys::DEPLOYED) {
        let Deployed { program, permissions } = Deployed::decode(bytes).ok_or_else(unreadable)?;
        return Ok(json!({
            "type": "deployed", "entity": text(name), "program": hex(&program.0), "permissions": permissions,
        }));
    }
    if let Some(number) = keys::parse_lines(key) {
        let run = StoredLines::decode(bytes).ok_or_else(unreadable)?;
        let lines: Vec<Json> = run.lines.iter().map(output).collect();
        let (instance, root) = (run.instance, run.root);
        return Ok(json!({
            "type": "lines", "number": number, "instance": instance, "root": root, "lines": lines,
            "stored": hex(bytes),
        }));
    }
    if key == keys::TIME {
        let time = bytes.try_into().map(i64::from_be_bytes).map_err(|_| unreadable())?;
        return Ok(json!({"type": "time", "time": format::instant(time)}));
    }
    if let Some((to, number)) = keys::parse_mail(key) {
        let mail = StoredMail::decode(bytes).ok_or_else(unreadable)?;
        let mut out = message(&mail.message);
        out["type"] = json!("message");
        out["to"] = json!(to.to_string());
        out["number"] = json!(number);
        out["from"] = json!(mail.from);
        out["root"] = json!(mail.root);
        out["key"] = json!(hex(key));
        out["stored"] = json!(hex(bytes));
        return Ok(out);
    }
    if let Some(entity) = keys::parse_entity_key(key) {
        let reference = data(&reference(&entity));
        let shown = entity.to_string();
        if key.starts_with(keys::ENTITIES) {
            let state = data(&Data(bytes.to_vec()));
            return Ok(json!({"type": "entity", "entity": shown, "reference": reference, "state": state}));
        }
        let hold = Hold::decode(bytes).ok_or_else(unreadable)?;
        let since = format::instant(hold.since);
        return Ok(json!({
            "type": "lock", "entity": shown, "reference": reference, "owner": hold.owner.instance,
            "since": since, "stored": hex(bytes),
        }));
    }
    let (id, number) = keys::parse_chunk(key)
        .ok_or_else(|| format!("{} has a key that this version does not know", shown()))?;
    let salvages = chain.salvages;
    let before = chain.of(id, number);
    let mut chunk = Chunk::decode(bytes, *before);
    let is_gap = salvages && chunk.is_err();
    if is_gap {
        chunk = Chunk::decode_alone(bytes);
    }
    let chunk = chunk.map_err(|error| match error {
        ChunkError::Checksum => {
            format!("part {number} of the history of {id} does not fit the one before it")
        }
        ChunkError::Form => {
            format!("part {number} of the history of {id} has a form that this version does not know")
        }
    })?;
    *before = chunk.checksum;
    if is_gap {
        chain.gaps.insert(id.to_string());
    }
    let redacted =
        |one: &Entry| redaction.map_or_else(|| entry(one), |redaction| entry(&redaction.entry(id, one)));
    let entries: Vec<Json> = chunk.entries.iter().map(redacted).collect();
    Ok(json!({"type": "history", "instance": id, "number": number, "entries": entries}))
}

/// A line of a program.
fn output(line: &Line) -> Json {
    match line {
        Line::Print(text) => json!({"print": text}),
        Line::Log { level, text } => json!({"log": level, "text": text}),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// An entity's reference as data.
fn reference(entity: &EntityId) -> Data {
    Data::encode(&entity.value()).unwrap_or_default()
}

/// What a message says.
pub fn message(message: &Message) -> Json {
    let mut out = match message {
        Message::Begin(record, _) => json!({"function": record.function, "args": data(&record.args)}),
        Message::Answer { seq, result: Ok(value), .. } => json!({"seq": seq, "value": data(value)}),
        Message::Answer { seq, result: Err(failure), .. } => json!({"seq": seq, "error": error(failure)}),
        Message::Event { name, payload } => json!({"event": name, "payload": data(payload)}),
        Message::Wait(waiter) => json!({"waiter": waiter.instance}),
        Message::Terminate { why, children, .. } => json!({"why": data(why), "children": children}),
        Message::Suspend | Message::Resume => json!({}),
        Message::Call { caller, operation, args, .. } => {
            json!({"caller": caller.instance, "operation": operation, "args": data(args)})
        }
        Message::Signal { operation, args, due } => {
            let due = (*due > 0).then(|| format::instant(*due));
            json!({"operation": operation, "args": data(args), "due": due})
        }
        Message::Lock { owner, since, .. } => {
            json!({"owner": owner.instance, "since": format::instant(*since)})
        }
    };
    out["message"] = json!(message.word());
    out
}
