//! `durable store export` and `import`, and the JSON forms of what a store holds.
//!
//! One JSON value a line: texts, programs, instances, and the chunks of their histories. Values of the language are in
//! the lossless form of `machine::json`: what JSON lacks is an object with one key that begins with `$`. Times are
//! RFC 3339 with nanoseconds.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;

use serde_json::{Value as Json, json};

use crate::code::{ProgramHash, text_hash};
use crate::engine::{
    Args, Asked, Batch, Chunk, ChunkError, Entry, InstanceRecord, Status, StoredProgram, keys,
};
use crate::machine::{Data, ErrorData, format, json as values};
use crate::store::{self, FORMAT, Lock, Proven, SledTree, Store};
use crate::syntax::{Place, Span};

use super::arguments::{Export, Import};
use super::problem::{Problem, note};
use super::{STORE, USAGE};

// ---- from a store

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn data(data: &Data) -> Json {
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
        "status": record.status.word(),
        "file": record.file,
        "program": hex(&record.program.0),
        "function": record.function,
        "args": data(&record.args),
        "created": format::instant(record.created),
        "ended": record.ended.map(format::instant),
        "chunks": record.chunks,
    });
    match &record.status {
        Status::Running => {}
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
            json!({"kind": "requested", "seq": seq, what.kind(): what.name(), "args": args, "place": place(*at)})
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
        Entry::Ended { .. } => json!({"kind": "ended"}),
    };
    out["time"] = json!(format::instant(entry.time()));
    out
}

/// Writes a store as JSON Lines.
pub fn export(export: Export) -> Result<u8, Problem> {
    let folder = &export.store.store;
    let store = match export.damaged {
        false => store::open(folder)?,
        true => {
            let lock = Lock::take(folder)?;
            Proven::open_unchecked(SledTree::open(&folder.join("journal"))?, Some(lock))
        }
    };
    let failed = |error: std::io::Error| Problem::new(STORE, format!("the export can't be written: {error}"));
    let mut out: BufWriter<Box<dyn Write>> = BufWriter::new(match &export.file {
        Some(path) => Box::new(File::create(path).map_err(failed)?),
        None => Box::new(std::io::stdout()),
    });
    let mut written = Ok(());
    let mut bad = Vec::new();
    let mut checksums = (String::new(), 0u64);
    writeln!(out, "{}", json!({"type": "store", "format": FORMAT, "commits": store.commits()}))
        .map_err(failed)?;
    store.scan(b"", &mut |key, bytes| {
        match line(key, bytes, &mut checksums) {
            Ok(line) => written = writeln!(out, "{line}"),
            Err(reason) => bad.push(reason),
        }
        written.is_ok()
    })?;
    written.and_then(|()| out.flush()).map_err(failed)?;
    if !export.damaged {
        store.close()?;
    }
    for reason in &bad {
        note(&format!("left out: {reason}"));
    }
    match bad.is_empty() || export.damaged {
        true => Ok(0),
        false => Err(Problem::new(STORE, "the export is not whole")),
    }
}

fn line(key: &[u8], bytes: &[u8], checksums: &mut (String, u64)) -> Result<Json, String> {
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
    if key.starts_with(keys::INSTANCES) {
        return InstanceRecord::decode(bytes).map(|record| instance(&record)).ok_or_else(unreadable);
    }
    let (id, number) = keys::parse_chunk(key)
        .ok_or_else(|| format!("{} has a key that this version does not know", shown()))?;
    if checksums.0 != id {
        *checksums = (id.to_string(), 0);
    }
    let chunk = Chunk::decode(bytes, checksums.1).map_err(|error| match error {
        ChunkError::Checksum => {
            format!("part {number} of the history of {id} does not fit the one before it")
        }
        ChunkError::Form => {
            format!("part {number} of the history of {id} has a form that this version does not know")
        }
    })?;
    checksums.1 = chunk.checksum;
    let entries: Vec<Json> = chunk.entries.iter().map(entry).collect();
    Ok(json!({"type": "history", "instance": id, "number": number, "entries": entries}))
}

// ---- into a store

/// Reads JSON Lines into a store that has none of the instances in them.
pub fn import(import: Import) -> Result<u8, Problem> {
    let unreadable = |error: std::io::Error| {
        Problem::new(STORE, format!("{} can't be read: {error}", import.file.display()))
    };
    let file = File::open(&import.file).map_err(unreadable)?;
    let mut store = store::open(&import.store.store)?;
    let mut batch = Batch::default();
    let mut instances = 0;
    let mut checksums = (String::new(), 0u64);
    for (number, line) in BufReader::new(file).lines().enumerate() {
        let line = line.map_err(unreadable)?;
        if line.trim().is_empty() {
            continue;
        }
        let bad = |reason: String| bad_line(&import.file, number + 1, &reason);
        let json: Json =
            serde_json::from_str(&line).map_err(|error| bad(format!("it is not JSON: {error}")))?;
        if let Some((key, value)) =
            read_line(&json, &mut checksums).ok_or_else(|| bad("it is not a line of an export".into()))?
        {
            if key.starts_with(keys::INSTANCES) {
                instances += 1;
                if store.get(&key)?.is_some() {
                    let id = json["id"].as_str().unwrap_or_default();
                    return Err(bad(format!("the store has an instance `{id}` already")));
                }
            }
            batch.writes.retain(|(known, _)| *known != key || !key.starts_with(keys::TEXTS));
            batch.put(key, value);
        }
    }
    // All or nothing.
    store.commit(&batch)?;
    store.flush()?;
    store.close()?;
    note(&if instances == 1 { "read 1 instance".to_string() } else { format!("read {instances} instances") });
    Ok(0)
}

fn bad_line(file: &Path, line: usize, reason: &str) -> Problem {
    Problem::new(USAGE, format!("{}, line {line}: {reason}", file.display())).hint("nothing was imported")
}

/// A key and value.
type Write1 = (Vec<u8>, Vec<u8>);

/// The write that a line stands for; none for the line about the store. None at all when it isn't a line of an export.
fn read_line(json: &Json, checksums: &mut (String, u64)) -> Option<Option<Write1>> {
    Some(match json["type"].as_str()? {
        "store" => {
            (json["format"].as_u64()? <= u64::from(FORMAT)).then_some(())?;
            None
        }
        "text" => {
            let text = json["text"].as_str()?;
            Some((keys::text(&text_hash(text)), text.as_bytes().to_vec()))
        }
        "program" => {
            let module = |module: &Json| {
                Some((module["name"].as_str()?.to_string(), unhex(module["text"].as_str()?)?))
            };
            let modules = json["modules"].as_array()?.iter().map(module).collect::<Option<Vec<_>>>()?;
            Some((keys::program(&unhex(json["hash"].as_str()?)?), StoredProgram { modules }.encode()))
        }
        "instance" => {
            let record = read_instance(json)?;
            Some((keys::instance(&record.id), record.encode()))
        }
        "history" => {
            let (id, number) = (json["instance"].as_str()?, json["number"].as_u64()?);
            if checksums.0 != id {
                *checksums = (id.to_string(), 0);
            }
            let entries = json["entries"].as_array()?.iter().map(read_entry).collect::<Option<Vec<_>>>()?;
            let (bytes, checksum) = Chunk::encode(&entries, checksums.1);
            checksums.1 = checksum;
            Some((keys::chunk(id, number), bytes))
        }
        _ => return None,
    })
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let bytes: Option<Vec<u8>> =
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok()).collect();
    bytes?.try_into().ok()
}

fn read_data(json: &Json) -> Option<Data> {
    values::to_data(&json.to_string()).ok()
}

fn read_error(json: &Json) -> Option<ErrorData> {
    Some(ErrorData {
        value: read_data(&json["value"])?,
        trace: serde_json::from_value(json["trace"].clone()).ok()?,
    })
}

fn read_time(json: &Json) -> Option<i64> {
    let instant: jiff::Timestamp = json.as_str()?.parse().ok()?;
    i64::try_from(instant.as_nanosecond()).ok()
}

fn read_instance(json: &Json) -> Option<InstanceRecord> {
    let status = match json["status"].as_str()? {
        "running" => Status::Running,
        "completed" => Status::Completed(read_data(&json["result"])?),
        "failed" => Status::Failed(read_error(&json["error"])?),
        _ => return None,
    };
    let id = json["id"].as_str()?.to_string();
    keys::bad_id(&id).is_none().then_some(())?;
    Some(InstanceRecord {
        id,
        program: ProgramHash(unhex(json["program"].as_str()?)?),
        file: json["file"].as_str()?.to_string(),
        function: json["function"].as_str()?.to_string(),
        args: read_data(&json["args"])?,
        created: read_time(&json["created"])?,
        status,
        ended: if json["ended"].is_null() { None } else { Some(read_time(&json["ended"])?) },
        chunks: json["chunks"].as_u64()?,
    })
}

fn read_entry(json: &Json) -> Option<Entry> {
    let time = read_time(&json["time"])?;
    let seq = || json["seq"].as_u64();
    Some(match json["kind"].as_str()? {
        "requested" => {
            let what = match (json["effect"].as_str(), json["activity"].as_str()) {
                (Some(name), _) => Asked::Effect(name.to_string()),
                (_, Some(name)) => Asked::Activity(name.to_string()),
                _ => return None,
            };
            let args = match (json["args"]["bytes"].as_u64(), json["args"]["checksum"].as_str()) {
                (Some(bytes), Some(checksum)) => {
                    Args::Large { bytes, checksum: u128::from_str_radix(checksum, 16).ok()? }
                }
                _ => Args::Whole(read_data(&json["args"])?),
            };
            let at = |number: usize| json["place"][number].as_u64().and_then(|n| u32::try_from(n).ok());
            let place = Place { source: at(0)?, span: Span { start: at(1)?, end: at(2)? } };
            Entry::Requested { seq: seq()?, what, args, place, time }
        }
        "answered" => {
            let result = match json.get("error") {
                Some(failure) => Err(read_error(failure)?),
                None => Ok(read_data(&json["value"])?),
            };
            Entry::Answered { seq: seq()?, result, time }
        }
        "retried" => Entry::Retried {
            seq: seq()?,
            error: read_error(&json["error"])?,
            again: read_time(&json["again"])?,
            time,
        },
        "cancelled" => Entry::Cancelled { seq: seq()?, time },
        "ended" => Entry::Ended { time },
        _ => return None,
    })
}
