//! A line of an export, as a key of a store and its value.

use serde_json::Value as Json;

use crate::code::{ProgramHash, text_hash};
use crate::engine::{
    Active, Args, Checkpoint, Chunk, ClientCall, Deployed, Entry, Function, Hold, InstanceRecord,
    KeptOperation, KeptRange, LifeId, Postmark, RecordedRequest, Status, StoredLines, StoredMail,
    StoredProgram, keys,
};
use crate::kv::Pair;
use crate::machine::{Cancellation, Canceller, Data, EntityId, ErrorData, Value, json as values};
use crate::permissions::Permissions;
use crate::store::FORMAT;
use crate::syntax::{Place, Span};

use super::chain::Chain;

/// The latest time that a line may say has passed: 2200. A store goes on from it, and its times end
/// with 2262.
const LATEST: i64 = 7_258_118_400_000_000_000;

/// Returns the key and the value of a line. `Some(None)` is a line without a key, such as the line
/// about the store, and `None` is no line of an export.
pub(super) fn read_line(json: &Json, chain: &mut Chain) -> Option<Option<Pair>> {
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
        "life" => Some((keys::LIFE.to_vec(), read_number(&json["life"])?.to_be_bytes().to_vec())),
        "instance" => {
            let record = read_instance(json)?;
            Some((keys::instance(&record.id), record.encode()))
        }
        "history" => {
            let (id, number) = (json["instance"].as_str()?, read_number(&json["number"])?);
            let entries = json["entries"].as_array()?.iter().map(read_entry).collect::<Option<Vec<_>>>()?;
            let before = chain.of(id, number);
            let (bytes, checksum) = Chunk::encode(entries, *before);
            *before = checksum;
            Some((keys::chunk(id, number), bytes))
        }
        "checkpoint" => {
            let (id, stored) = (json["id"].as_str()?, hex::decode(json["stored"].as_str()?).ok()?);
            let checkpoint = Checkpoint::decode(&stored)?;
            // A checkpoint with the whole history before it is made again when one is due.
            if !checkpoint.trimmed {
                return Some(None);
            }
            chain.begin(id, &checkpoint);
            Some((keys::checkpoint(id), stored))
        }
        "former" => {
            let program = ProgramHash(unhex(json["program"].as_str()?)?);
            Some((keys::former(json["instance"].as_str()?, program), Vec::new()))
        }
        "active" => {
            let due = if json["due"].is_null() { None } else { Some(read_time(&json["due"])?) };
            let active = Active { root: json["root"].as_str()?.to_string(), due };
            Some((keys::active(json["id"].as_str()?), active.encode()))
        }
        "deployed" => {
            let program = ProgramHash(unhex(json["program"].as_str()?)?);
            let deployed = Deployed { program, permissions: read_permissions(json)?, version: None };
            Some((keys::deployed(json["entity"].as_str()?), deployed.encode()))
        }
        "function" => {
            let (least, most) = (json["arity"][0].as_u64()?, json["arity"][1].as_u64()?);
            let function = Function {
                program: ProgramHash(unhex(json["program"].as_str()?)?),
                file: json["file"].as_str()?.to_string(),
                permissions: read_permissions(json)?,
                arity: (u32::try_from(least).ok()?, u32::try_from(most).ok()?),
                deployed: read_past(&json["deployed"])?,
            };
            Some((keys::function(json["name"].as_str()?), function.encode()))
        }
        "entity" => Some((keys::entity(&read_entity(&json["reference"])?), read_data(&json["state"])?.0)),
        "version" => {
            let version = u32::try_from(json["version"].as_u64()?).ok()?;
            Some((keys::version(&read_entity(&json["reference"])?), version.to_be_bytes().to_vec()))
        }
        "lock" => {
            let stored = hex::decode(json["stored"].as_str()?).ok()?;
            Hold::decode(&stored)?;
            Some((keys::lock(&read_entity(&json["reference"])?), stored))
        }
        "operations" | "kept" | "operation" => Some(read_operations(json)?),
        "lines" => {
            let stored = hex::decode(json["stored"].as_str()?).ok()?;
            StoredLines::decode(&stored)?;
            Some((keys::lines(read_number(&json["number"])?), stored))
        }
        "call" => Some((keys::call(json["id"].as_str()?), read_call(json)?.encode())),
        "time" => {
            let time = read_past(&json["time"])?;
            Some((keys::TIME.to_vec(), time.to_be_bytes().to_vec()))
        }
        "message" => {
            let (key, stored) =
                (hex::decode(json["key"].as_str()?).ok()?, hex::decode(json["stored"].as_str()?).ok()?);
            let (to, number) = keys::parse_mail(&key)?;
            let mail = StoredMail::decode(&stored)?;
            (mail.time <= LATEST).then_some(())?;
            Some((keys::mail(&to, number), stored))
        }
        _ => return None,
    })
}

/// Reads a line about kept operations.
fn read_operations(json: &Json) -> Option<Pair> {
    if json["type"] == "operations" {
        return Some((keys::KEEPS_OPERATIONS.to_vec(), Vec::new()));
    }
    let stored = hex::decode(json["stored"].as_str()?).ok()?;
    let entity = read_entity(&json["reference"])?;
    if json["type"] == "kept" {
        KeptRange::decode(&stored)?;
        return Some((keys::kept(&entity), stored));
    }
    KeptOperation::decode(&stored)?;
    Some((keys::operation(&entity, read_number(&json["number"])?), stored))
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text, &mut bytes).ok()?;
    Some(bytes)
}

fn read_entity(json: &Json) -> Option<EntityId> {
    match read_data(json)?.decode() {
        Value::Entity(entity) => EntityId::of(&entity).ok(),
        _ => None,
    }
}

fn read_data(json: &Json) -> Option<Data> {
    values::stored_data(&json.to_string()).ok()
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

/// Reads the time of something that has happened.
fn read_past(json: &Json) -> Option<i64> {
    read_time(json).filter(|time| *time <= LATEST)
}

/// Reads a number from which a store counts on.
fn read_number(json: &Json) -> Option<u64> {
    json.as_u64().filter(|number| *number <= keys::MOST)
}

fn read_call(json: &Json) -> Option<ClientCall> {
    keys::bad_id(json["id"].as_str()?).is_none().then_some(())?;
    let answer = match (json.get("value"), json.get("error")) {
        (Some(value), _) => Some(Ok(read_data(value)?)),
        (None, Some(failure)) => Some(Err(read_error(failure)?)),
        (None, None) => None,
    };
    Some(ClientCall {
        entity: read_entity(&json["reference"])?,
        operation: json["operation"].as_str()?.to_string(),
        args: read_data(&json["args"])?,
        asked: read_past(&json["asked"])?,
        answer,
    })
}

fn read_instance(json: &Json) -> Option<InstanceRecord> {
    let begins = json.get("begins").and_then(read_time);
    let status = match json["status"].as_str()? {
        "scheduled" => Status::Scheduled { due: begins?, suspended: false },
        "suspended" if begins.is_some() => Status::Scheduled { due: begins?, suspended: true },
        "running" => Status::Running,
        "suspended" => Status::Suspended,
        "terminated" => Status::Terminated(read_data(&json["why"])?),
        "completed" => Status::Completed(read_data(&json["result"])?),
        "failed" => Status::Failed(read_error(&json["error"])?),
        _ => return None,
    };
    let id = json["id"].as_str()?.to_string();
    keys::bad_id(&id).is_none().then_some(())?;
    // Exports of earlier versions have no lives.
    let life = |name: &str| json[name].as_u64().unwrap_or(0);
    let parent = json["parent"].as_str().map(|id| LifeId { id: id.into(), life: life("parent_life") });
    let record = InstanceRecord {
        id,
        life: life("life"),
        program: ProgramHash(unhex(json["program"].as_str()?)?),
        file: json["file"].as_str()?.to_string(),
        function: json["function"].as_str()?.to_string(),
        args: read_data(&json["args"])?,
        begun_with: match &json["begun_with"] {
            Json::Null => None,
            args => Some(read_data(args)?),
        },
        created: read_past(&json["created"])?,
        parent,
        owner: match json.get("owner") {
            None => None,
            Some(owner) => serde_json::from_value(owner.clone()).ok()?,
        },
        root: json["root"].as_str()?.to_string(),
        execution: u32::try_from(json["execution"].as_u64()?).ok()?,
        attempt: json["attempt"].as_u64().and_then(|n| u32::try_from(n).ok()).unwrap_or(1),
        custom: match &json["custom"] {
            Json::Null => None,
            custom => Some(read_data(custom)?),
        },
        waiters: serde_json::from_value(json["waiters"].clone()).ok()?,
        rewound: match &json["rewound"] {
            Json::Array(all) => all.iter().map(Json::as_u64).collect::<Option<_>>()?,
            one => one.as_u64().into_iter().collect(),
        },
        first: json["first"].as_u64()?,
        status,
        ended: if json["ended"].is_null() { None } else { Some(read_past(&json["ended"])?) },
        chunks: json["chunks"].as_u64()?,
        permissions: read_permissions(json)?,
    };
    record.is_sound().then_some(record)
}

/// Reads permissions. Exports of earlier versions have none.
fn read_permissions(json: &Json) -> Option<Permissions> {
    match json.get("permissions") {
        None => Some(Permissions::default()),
        Some(permissions) => serde_json::from_value(permissions.clone()).ok(),
    }
}

fn read_entry(json: &Json) -> Option<Entry> {
    let time = read_past(&json["time"])?;
    let seq = || json["seq"].as_u64();
    Some(match json["kind"].as_str()? {
        "requested" => {
            let what = read_asked(json)?;
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
            let came = match json.get("came") {
                Some(came) => Some(Postmark { time: read_past(came)?, number: json["message"].as_u64()? }),
                None => None,
            };
            Entry::Answered { seq: seq()?, result, time, came }
        }
        "retried" => Entry::Retried {
            seq: seq()?,
            error: read_error(&json["error"])?,
            again: read_time(&json["again"])?,
            time,
        },
        "cancelled" => Entry::Cancelled { seq: seq()?, time },
        "begun" => Entry::Begun { seq: seq()?, time },
        "ended" => Entry::Ended { time },
        "terminated" => Entry::Terminated { time },
        "cancelling" => Entry::Cancelling { what: Box::new(read_cancellation(json)?), time },
        "rewound" => Entry::Rewound { seq: seq()?, time, used: json["used"].as_u64() },
        "renewed" => Entry::Renewed { seq: seq()?, time },
        "upgraded" => Entry::Upgraded { from: ProgramHash(unhex(json["from"].as_str()?)?), time },
        _ => return None,
    })
}

fn read_cancellation(json: &Json) -> Option<Cancellation> {
    let Value::Duration(grace) = read_data(&json["grace"])?.decode() else { return None };
    Some(Cancellation {
        by: Canceller::named(json["by"].as_str()?)?,
        place: json["place"].as_str()?.to_string(),
        reason: read_data(&json["reason"])?,
        grace,
    })
}

fn read_asked(json: &Json) -> Option<RecordedRequest> {
    let named = |kind: &str| json[kind].as_str().map(str::to_string);
    if let Some(name) = named("effect") {
        return Some(RecordedRequest::Effect(name));
    }
    if let Some(name) = named("activity") {
        return Some(RecordedRequest::Activity(name));
    }
    if json["orchestration"].as_bool() == Some(true) {
        let start = named("start").is_some();
        return Some(RecordedRequest::Orchestration {
            name: named("start").or_else(|| named("call"))?,
            start,
        });
    }
    let entity = read_entity(&json["entity"])?;
    let signal = match json.get("after") {
        Some(after) => Some(read_data(after)?),
        None => None,
    };
    let operation = named("signal").or_else(|| named("call"))?;
    Some(RecordedRequest::Operation { entity, operation, signal })
}
