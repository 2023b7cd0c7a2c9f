//! A key of a store and its value, as a line of an export.

use serde_json::{Value as Json, json};

use crate::engine::{
    Active, Checkpoint, Chunk, ClientCall, Deployed, Entry, Function, Hold, InstanceRecord, KeptOperation,
    KeptRange, StoredLines, StoredMail, StoredProgram, keys,
};
use crate::machine::{Data, format};

use super::chain::Chain;
use super::forms::{data, entry, error, instance, kept_operation, message, output, reference};
use super::redact::Redaction;

/// Returns the line of a key and its value. The error names the unreadable part.
pub(super) fn line(
    key: &[u8],
    bytes: &[u8],
    chain: &mut Chain,
    redaction: Option<&Redaction>,
) -> Result<Json, String> {
    if let Some(hash) = key.strip_prefix(keys::TEXTS) {
        let source = std::str::from_utf8(bytes).map_err(|_| unreadable(key))?;
        return Ok(json!({"type": "text", "hash": hex::encode(hash), "text": source}));
    }
    if let Some(hash) = key.strip_prefix(keys::PROGRAMS) {
        let program = StoredProgram::decode(bytes).ok_or_else(|| unreadable(key))?;
        let modules: Vec<Json> = program
            .modules
            .iter()
            .map(|(name, text)| json!({"name": name, "text": hex::encode(text)}))
            .collect();
        return Ok(json!({"type": "program", "hash": hex::encode(hash), "modules": modules}));
    }
    if key == keys::LIFE {
        let life: [u8; 8] = bytes.try_into().map_err(|_| unreadable(key))?;
        return Ok(json!({"type": "life", "life": u64::from_be_bytes(life)}));
    }
    if key.starts_with(keys::INSTANCES) {
        let record = InstanceRecord::decode(bytes);
        return record.map(|record| instance(&record)).ok_or_else(|| unreadable(key));
    }
    if let Some(id) = key.strip_prefix(keys::CHECKPOINTS) {
        let checkpoint = Checkpoint::decode(bytes).ok_or_else(|| unreadable(key))?;
        chain.begin(&text(id), &checkpoint);
        let (id, chunks, trimmed) = (text(id), checkpoint.chunks, checkpoint.trimmed);
        return Ok(json!({
            "type": "checkpoint", "id": id, "chunks": chunks, "trimmed": trimmed, "stored": hex::encode(bytes),
        }));
    }
    if let Some(id) = key.strip_prefix(keys::ACTIVE) {
        let Active { root, due } = Active::decode(bytes).ok_or_else(|| unreadable(key))?;
        let mut line = json!({"type": "active", "id": text(id), "root": root});
        if let Some(due) = due {
            line["due"] = json!(format::instant(due));
        }
        return Ok(line);
    }
    if let Some((id, program)) = keys::parse_former(key) {
        return Ok(json!({"type": "former", "instance": id, "program": hex::encode(program.0)}));
    }
    if let Some(name) = key.strip_prefix(keys::DEPLOYED) {
        let Deployed { program, permissions, .. } = Deployed::decode(bytes).ok_or_else(|| unreadable(key))?;
        return Ok(json!({
            "type": "deployed", "entity": text(name), "program": hex::encode(program.0), "permissions": permissions,
        }));
    }
    if let Some(name) = key.strip_prefix(keys::FUNCTIONS) {
        let function = Function::decode(bytes).ok_or_else(|| unreadable(key))?;
        return Ok(function_line(&text(name), &function));
    }
    if let Some(number) = keys::parse_lines(key) {
        let run = StoredLines::decode(bytes).ok_or_else(|| unreadable(key))?;
        let lines: Vec<Json> = run.lines.iter().map(output).collect();
        let (instance, root) = (run.instance, run.root);
        return Ok(json!({
            "type": "lines", "number": number, "instance": instance, "root": root, "lines": lines,
            "stored": hex::encode(bytes),
        }));
    }
    if let Some(id) = key.strip_prefix(keys::CALLS) {
        let call = ClientCall::decode(bytes).ok_or_else(|| unreadable(key))?;
        return Ok(call_line(&text(id), &call));
    }
    if key == keys::TIME {
        let time = bytes.try_into().map(i64::from_be_bytes).map_err(|_| unreadable(key))?;
        return Ok(json!({"type": "time", "time": format::instant(time)}));
    }
    if keys::parse_mail(key).is_some() {
        return mail_line(key, bytes);
    }
    if let Some(entity) = keys::parse_version(key) {
        let version: [u8; 4] = bytes.try_into().map_err(|_| unreadable(key))?;
        let (shown, reference) = (entity.to_string(), data(&reference(&entity)));
        let version = u32::from_be_bytes(version);
        return Ok(json!({"type": "version", "entity": shown, "reference": reference, "version": version}));
    }
    if let Some(line) = operations_line(key, bytes) {
        return line;
    }
    if keys::parse_entity_key(key).is_some() {
        return entity_line(key, bytes);
    }
    history_line(key, bytes, chain, redaction)
}

/// Returns the line of a deployed function.
fn function_line(name: &str, function: &Function) -> Json {
    json!({
        "type": "function", "name": name, "program": hex::encode(function.program.0), "file": function.file,
        "permissions": function.permissions, "arity": function.arity,
        "deployed": format::instant(function.deployed),
    })
}

/// Returns the line of a client's call.
fn call_line(id: &str, call: &ClientCall) -> Json {
    let ClientCall { entity, operation, args, asked, answer } = call;
    let mut out = json!({
        "type": "call", "id": id, "entity": entity.to_string(), "reference": data(&reference(entity)),
        "operation": operation, "args": data(args), "asked": format::instant(*asked),
    });
    match answer {
        Some(Ok(value)) => out["value"] = data(value),
        Some(Err(failure)) => out["error"] = error(failure),
        None => {}
    }
    out
}

/// Returns the line of a message.
fn mail_line(key: &[u8], bytes: &[u8]) -> Result<Json, String> {
    let (to, number) = keys::parse_mail(key).ok_or_else(|| unreadable(key))?;
    let mail = StoredMail::decode(bytes).ok_or_else(|| unreadable(key))?;
    let mut out = message(&mail.message);
    out["type"] = json!("message");
    out["to"] = json!(to.to_string());
    out["number"] = json!(number);
    out["from"] = json!(mail.from);
    out["root"] = json!(mail.root);
    out["key"] = json!(hex::encode(key));
    out["stored"] = json!(hex::encode(bytes));
    Ok(out)
}

/// Returns the line of a key about kept operations; `None` for all other keys.
fn operations_line(key: &[u8], bytes: &[u8]) -> Option<Result<Json, String>> {
    if key == keys::KEEPS_OPERATIONS {
        return Some(Ok(json!({"type": "operations"})));
    }
    let (entity, number) = match keys::parse_kept(key) {
        Some(entity) => (entity, None),
        None => keys::parse_operation(key).map(|(entity, number)| (entity, Some(number)))?,
    };
    let mut line = match number {
        None => KeptRange::decode(bytes)
            .map(|kept| json!({"type": "kept", "first": kept.first(), "next": kept.next()})),
        Some(number) => KeptOperation::decode(bytes).map(|operation| {
            let mut line = kept_operation(&operation);
            line["type"] = json!("operation");
            line["number"] = json!(number);
            line
        }),
    };
    if let Some(line) = &mut line {
        line["entity"] = json!(entity.to_string());
        line["reference"] = data(&reference(&entity));
        line["stored"] = json!(hex::encode(bytes));
    }
    Some(line.ok_or_else(|| unreadable(key)))
}

/// Returns the line of an entity's state or lock.
fn entity_line(key: &[u8], bytes: &[u8]) -> Result<Json, String> {
    let entity = keys::parse_entity_key(key).ok_or_else(|| unreadable(key))?;
    let reference = data(&reference(&entity));
    let shown = entity.to_string();
    if key.starts_with(keys::ENTITIES) {
        let state = data(&Data(bytes.to_vec()));
        return Ok(json!({"type": "entity", "entity": shown, "reference": reference, "state": state}));
    }
    let hold = Hold::decode(bytes).ok_or_else(|| unreadable(key))?;
    let since = format::instant(hold.since);
    Ok(json!({
        "type": "lock", "entity": shown, "reference": reference, "owner": hold.owner.instance,
        "since": since, "stored": hex::encode(bytes),
    }))
}

/// Returns the line of a chunk of a history.
fn history_line(
    key: &[u8],
    bytes: &[u8],
    chain: &mut Chain,
    redaction: Option<&Redaction>,
) -> Result<Json, String> {
    let (id, number) = keys::parse_chunk(key)
        .ok_or_else(|| format!("{} has a key that this version does not know", text(key)))?;
    let salvages = chain.salvages();
    let before = chain.of(id, number);
    let mut chunk = Chunk::decode(bytes, *before);
    let is_gap = salvages && chunk.is_err();
    if is_gap {
        chunk = Chunk::decode_alone(bytes);
    }
    let chunk = chunk.map_err(|error| format!("part {number} of the history of {id} {error}"))?;
    *before = chunk.checksum;
    if is_gap {
        chain.gaps.insert(id.to_string());
    }
    let redacted =
        |one: &Entry| redaction.map_or_else(|| entry(one), |redaction| entry(&redaction.entry(id, one)));
    let entries: Vec<Json> = chunk.entries.iter().map(redacted).collect();
    Ok(json!({"type": "history", "instance": id, "number": number, "entries": entries}))
}

fn unreadable(key: &[u8]) -> String {
    format!("{} is not readable", text(key))
}

/// Returns bytes as text. Ids and names are UTF-8 unless the store is damaged.
pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
