//! The keys of a store.
//!
//! | key | value |
//! |---|---|
//! | `i/` id | an [`InstanceRecord`](super::InstanceRecord) |
//! | `h/` id `00` number | a [`Chunk`](super::Chunk) of the instance's history |
//! | `c/` id | a [`Checkpoint`](super::Checkpoint) of the instance |
//! | `p/` hash | a [`StoredProgram`](super::StoredProgram): names and text hashes of modules |
//! | `t/` hash | a source text |
//! | `n/` entity's name | a [`Deployed`](super::Deployed): the newest program that declares it |
//! | `f/` function's name | a [`Function`](super::Function): a deployed orchestration |
//! | `a/` id | the root of an instance that has more to do than to wait for others |
//! | `e/` entity | an entity's state, as data |
//! | `w/` entity | a [`KeptRange`](super::KeptRange): which operations of the entity are kept |
//! | `d/` entity `00` number | a [`KeptOperation`](super::KeptOperation) of the entity |
//! | `v/` entity | the version of its state, four bytes, big-endian; missing while it is 0 |
//! | `l/` entity | a [`Hold`](super::Hold): the entity's holder |
//! | `s/life` | the life of instances that begin now; missing while it is the first |
//! | `m/i` id `00` number | a [`StoredMail`](super::StoredMail) that waits for an instance |
//! | `m/e` entity `00` number | a [`StoredMail`](super::StoredMail) that waits for an entity |
//! | `s/keys` | the mark that the keys of all entities are canonical |
//! | `o/` number | [`StoredLines`](super::StoredLines): a run of lines that may not be out yet |
//! | `k/` id | a [`ClientCall`](super::ClientCall): a client's call of an operation, and its answer |
//! | `r/` number | a [`Kept`](super::Kept): the place of an answer in the order of answers |
//! | `u/` id `00` hash | empty: a program with which an upgraded instance ran before |
//! | `s/time` | the time that the store has reached, in nanoseconds since 1970 |
//! | `s/operations` | empty: operations of entities are kept |
//! | `s/deploys` | in a partition: for each partition, the newest deployment that is known |
//!
//! Numbers, lives and times are eight bytes, big-endian. An entity is its name, `00`, and its key
//! as data. Keys that begin with `!` are the store's own.

use crate::code::ProgramHash;
use crate::machine::{Data, EntityId};

use super::address::Address;

pub use crate::machine::{MAX_ID, bad_id};

pub const INSTANCES: &[u8] = b"i/";
pub const HISTORY: &[u8] = b"h/";
pub const CHECKPOINTS: &[u8] = b"c/";
pub const PROGRAMS: &[u8] = b"p/";
pub const TEXTS: &[u8] = b"t/";
pub const ACTIVE: &[u8] = b"a/";
pub const MAIL: &[u8] = b"m/";
pub const ENTITIES: &[u8] = b"e/";
pub const LOCKS: &[u8] = b"l/";
pub const VERSIONS: &[u8] = b"v/";
pub const KEPT: &[u8] = b"w/";
pub const OPERATIONS: &[u8] = b"d/";
pub const DEPLOYED: &[u8] = b"n/";
/// The key of the life of instances that begin now. The life grows whenever an id becomes free, so
/// that no instance has the life of an earlier one with its id.
pub const LIFE: &[u8] = b"s/life";
pub const FUNCTIONS: &[u8] = b"f/";
pub const LINES: &[u8] = b"o/";
pub const FORMERS: &[u8] = b"u/";
pub const CALLS: &[u8] = b"k/";
pub const ANSWERS: &[u8] = b"r/";
/// The prefix of the keys with the state of an engine as a whole. An engine with nothing to do has
/// no other keys that are its own.
pub const OWN: &[u8] = b"s/";
/// The key of the time that the store has reached.
pub const TIME: &[u8] = b"s/time";
/// The key that says that operations of entities are kept.
pub const KEEPS_OPERATIONS: &[u8] = b"s/operations";
/// The key of the versions of deployments that a partition knows.
pub const DEPLOYMENTS: &[u8] = b"s/deploys";

/// The life of instances that begin before any id becomes free. In stores from before lives
/// existed, instances have life 0.
pub const FIRST_LIFE: u64 = 1;
/// The largest number of anything that is counted. Every number that is read has room for more.
pub const MOST: u64 = u64::MAX / 2;
/// The prefix of the messages to entities.
pub const ENTITY_MAIL: &[u8] = b"m/e";
/// The key that says that the keys of all entities are canonical.
pub const CANONICAL: &[u8] = b"s/keys";

/// The prefixes of the keys that a partition reads when it is taken over. All other keys belong to
/// the whole store.
pub const QUEUED: &[&[u8]] = &[ACTIVE, MAIL, LOCKS, LINES, ANSWERS, OWN];
/// The prefixes of the partition's own keys that are numbered.
pub const NUMBERED: &[&[u8]] = &[LINES, ANSWERS];

fn joined(prefix: &[u8], rest: &[u8]) -> Vec<u8> {
    [prefix, rest].concat()
}

fn read_number(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().ok().map(u64::from_be_bytes).filter(|number| *number <= MOST)
}

pub fn instance(id: &str) -> Vec<u8> {
    joined(INSTANCES, id.as_bytes())
}

/// Returns the prefix of an instance's history.
pub fn history(id: &str) -> Vec<u8> {
    // The capacity has room for the zero byte and the number of a chunk.
    let mut key = Vec::with_capacity(HISTORY.len() + id.len() + 9);
    key.extend(HISTORY);
    key.extend(id.as_bytes());
    key.push(0);
    key
}

pub fn chunk(id: &str, number: u64) -> Vec<u8> {
    let mut key = history(id);
    key.extend(number.to_be_bytes());
    key
}

/// Returns the instance and the number of a chunk's key.
pub fn parse_chunk(key: &[u8]) -> Option<(&str, u64)> {
    let rest = key.strip_prefix(HISTORY)?;
    let (id, number) = rest.split_at_checked(rest.len().checked_sub(8)?)?;
    let id = std::str::from_utf8(id.strip_suffix(&[0])?).ok()?;
    Some((id, read_number(number)?))
}

pub fn checkpoint(id: &str) -> Vec<u8> {
    joined(CHECKPOINTS, id.as_bytes())
}

pub fn program(hash: &[u8; 32]) -> Vec<u8> {
    joined(PROGRAMS, hash)
}

pub fn text(hash: &[u8; 32]) -> Vec<u8> {
    joined(TEXTS, hash)
}

pub fn active(id: &str) -> Vec<u8> {
    joined(ACTIVE, id.as_bytes())
}

pub fn deployed(entity: &str) -> Vec<u8> {
    joined(DEPLOYED, entity.as_bytes())
}

pub fn function(name: &str) -> Vec<u8> {
    joined(FUNCTIONS, name.as_bytes())
}

fn with_entity(prefix: &[u8], entity: &EntityId) -> Vec<u8> {
    let mut key = joined(prefix, entity.name.as_bytes());
    key.push(0);
    key.extend(&entity.key.0);
    key
}

fn parse_entity(rest: &[u8]) -> Option<EntityId> {
    let end = rest.iter().position(|byte| *byte == 0)?;
    let name = std::str::from_utf8(&rest[..end]).ok()?.to_string();
    Some(EntityId::stored(name, Data(rest[end + 1..].to_vec())))
}

/// Returns the prefix of the states of all entities of a name.
pub fn entities(name: &str) -> Vec<u8> {
    let mut key = joined(ENTITIES, name.as_bytes());
    key.push(0);
    key
}

pub fn entity(entity: &EntityId) -> Vec<u8> {
    with_entity(ENTITIES, entity)
}

/// Returns the key of the version of an entity's state.
pub fn version(entity: &EntityId) -> Vec<u8> {
    with_entity(VERSIONS, entity)
}

/// Returns the entity of the key of a version.
pub fn parse_version(key: &[u8]) -> Option<EntityId> {
    parse_entity(key.strip_prefix(VERSIONS)?)
}

/// Returns the key of the list of an entity's kept operations.
pub fn kept(entity: &EntityId) -> Vec<u8> {
    with_entity(KEPT, entity)
}

/// Returns the entity of the key of such a list.
pub fn parse_kept(key: &[u8]) -> Option<EntityId> {
    parse_entity(key.strip_prefix(KEPT)?)
}

/// Returns the prefix of an entity's kept operations.
pub fn operations(entity: &EntityId) -> Vec<u8> {
    let mut key = with_entity(OPERATIONS, entity);
    key.push(0);
    key
}

pub fn operation(entity: &EntityId, number: u64) -> Vec<u8> {
    let mut key = operations(entity);
    key.extend(number.to_be_bytes());
    key
}

/// Returns the entity and the number of the key of a kept operation.
pub fn parse_operation(key: &[u8]) -> Option<(EntityId, u64)> {
    let (rest, number) = key.strip_prefix(OPERATIONS)?.split_last_chunk::<8>()?;
    Some((parse_entity(rest.strip_suffix(&[0])?)?, read_number(number)?))
}

pub fn lock(entity: &EntityId) -> Vec<u8> {
    with_entity(LOCKS, entity)
}

/// Returns the entity of the key of a state or a lock.
pub fn parse_entity_key(key: &[u8]) -> Option<EntityId> {
    parse_entity(key.strip_prefix(ENTITIES).or_else(|| key.strip_prefix(LOCKS))?)
}

/// Returns the prefix of the messages for a receiver.
pub fn mail_of(to: &Address) -> Vec<u8> {
    let mut key = match to {
        Address::Instance(id) => joined(b"m/i", id.as_bytes()),
        Address::Entity(entity) => with_entity(b"m/e", entity),
    };
    key.push(0);
    key
}

pub fn mail(to: &Address, number: u64) -> Vec<u8> {
    let mut key = mail_of(to);
    key.extend(number.to_be_bytes());
    key
}

/// Returns the instance of a key that belongs to one.
pub(super) fn instance_of(key: &[u8]) -> Option<String> {
    if let Some((id, _)) = parse_chunk(key) {
        return Some(id.to_string());
    }
    if let Some((Address::Instance(id), _)) = parse_mail(key) {
        return Some(id.to_string());
    }
    let id = [INSTANCES, CHECKPOINTS, ACTIVE].iter().find_map(|prefix| key.strip_prefix(*prefix))?;
    String::from_utf8(id.to_vec()).ok()
}

pub fn lines(number: u64) -> Vec<u8> {
    joined(LINES, &number.to_be_bytes())
}

/// Returns the number of a run of lines.
pub fn parse_lines(key: &[u8]) -> Option<u64> {
    read_number(key.strip_prefix(LINES)?)
}

/// Returns the prefix of the programs with which an instance ran before.
pub fn formers(id: &str) -> Vec<u8> {
    let mut key = joined(FORMERS, id.as_bytes());
    key.push(0);
    key
}

/// Returns the key of a program with which an instance ran before.
pub fn former(id: &str, program: ProgramHash) -> Vec<u8> {
    let mut key = formers(id);
    key.extend(program.0);
    key
}

/// Returns the instance and the program of the key of a former program.
pub fn parse_former(key: &[u8]) -> Option<(&str, ProgramHash)> {
    let rest = key.strip_prefix(FORMERS)?;
    let (id, program) = rest.split_at_checked(rest.len().checked_sub(32)?)?;
    let id = std::str::from_utf8(id.strip_suffix(&[0])?).ok()?;
    Some((id, ProgramHash(program.try_into().ok()?)))
}

/// Returns the key of a client's call.
pub fn call(id: &str) -> Vec<u8> {
    joined(CALLS, id.as_bytes())
}

/// Returns the key of the place of an answer.
pub fn answer(number: u64) -> Vec<u8> {
    joined(ANSWERS, &number.to_be_bytes())
}

/// Returns the number of an answer's place.
pub fn parse_answer(key: &[u8]) -> Option<u64> {
    read_number(key.strip_prefix(ANSWERS)?)
}

/// Returns the receiver and the number of a message's key.
pub fn parse_mail(key: &[u8]) -> Option<(Address, u64)> {
    let (rest, number) = key.split_at_checked(key.len().checked_sub(8)?)?;
    let rest = rest.strip_suffix(&[0])?.strip_prefix(MAIL)?;
    let to = match rest.split_first()? {
        (b'i', id) => Address::instance(std::str::from_utf8(id).ok()?),
        (b'e', entity) => Address::entity(parse_entity(entity)?),
        _ => return None,
    };
    Some((to, read_number(number)?))
}
