//! The operations of entities that are kept, if the store keeps them: what was asked, by whom, what
//! came of it, and everything that a replay needs.
//!
//! Invariant: an operation is written with the state that it leaves. The operations of an entity are
//! numbered from 1, and those that are kept follow one another without a gap. They are in *parts*.
//! The first operation of a part has the state before it, and each other one begins with the state
//! that the one before left. So the oldest part can go without a look at the others.

use std::collections::VecDeque;
use std::rc::Rc;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::code::ProgramHash;
use crate::compress::{compress, decompress};
use crate::kv::{Batch, Read};
use crate::machine::{Data, EntityId, ErrorData, Identity, Image, Machine, find_operation};

use super::address::Waiter;
use super::entry::Entry;
use super::keys;
use super::read_error::ReadError;
use super::stored::{self, Stored};

/// The number of operations of an entity that are kept.
pub const MOST_OPERATIONS: u64 = 1_000;
/// The size in bytes of the kept operations of an entity. The last part is kept in any case.
pub const MOST_OPERATION_BYTES: u64 = 4 << 20;

/// The number of operations of a part, and the size in bytes after which a part ends.
const PART: u64 = 16;
const PART_BYTES: u64 = 256 << 10;

/// The first byte of a compressed operation, in the place of a version.
const PACKED: u8 = 0xc4;

/// An operation that an entity has executed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeptOperation {
    pub operation: String,
    pub args: Data,
    /// The caller that got the answer; `None` for a signal.
    pub caller: Option<Waiter>,
    /// The key of the step that called or signalled.
    pub from: String,
    /// The program of the operation; `None` if no program here declares the entity.
    pub program: Option<ProgramHash>,
    pub begun: i64,
    pub ended: i64,
    /// The state before the operation, if it is the first of a part; the inner `None` stands for no
    /// state.
    pub before: Option<Option<Data>>,
    /// The state after the operation, if it changed; the inner `None` stands for no state.
    pub after: Option<Option<Data>>,
    /// The operation's requests, their answers, and its end. An operation that was broken off has no
    /// end, and one that could not begin has no entries.
    pub entries: Vec<Entry>,
    pub result: Result<Data, ErrorData>,
}

impl Stored for KeptOperation {
    type Before = KeptOperation;
    type Earlier = KeptOperation;
}

impl KeptOperation {
    pub fn encode(&self) -> Vec<u8> {
        let plain = stored::encode(self);
        match compress(&plain) {
            Some(packed) => [&[PACKED][..], &packed].concat(),
            None => plain,
        }
    }

    pub fn decode(bytes: &[u8]) -> Option<KeptOperation> {
        match bytes.split_first() {
            Some((&PACKED, packed)) => stored::decode(&decompress(packed)?),
            _ => stored::decode(bytes),
        }
    }
}

/// The numbers and the bytes of the operations of a part.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Part {
    first: u64,
    bytes: u64,
}

/// The operations that are kept of an entity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeptRange {
    /// The number of the next operation.
    next: u64,
    parts: VecDeque<Part>,
    /// The programs of the operations, each with the number of its last one.
    programs: Vec<(ProgramHash, u64)>,
    /// The mark of the state that the last operation left.
    left: u64,
}

impl Default for KeptRange {
    fn default() -> KeptRange {
        KeptRange { next: 1, parts: VecDeque::new(), programs: Vec::new(), left: mark(None) }
    }
}

impl Stored for KeptRange {
    type Before = KeptRange;
    type Earlier = KeptRange;
}

/// Returns the mark of a state, by which it is known again.
fn mark(state: Option<&Data>) -> u64 {
    state.map_or(0, |state| xxh3_64(&state.0))
}

impl KeptRange {
    pub fn encode(&self) -> Vec<u8> {
        stored::encode(self)
    }

    /// Decodes a list. One that claims more operations than are ever kept is none.
    pub fn decode(bytes: &[u8]) -> Option<KeptRange> {
        stored::decode(bytes).filter(KeptRange::is_sound)
    }

    fn is_sound(&self) -> bool {
        let firsts = || self.parts.iter().map(|part| part.first);
        let in_order = firsts().zip(firsts().skip(1)).all(|(one, next)| one < next);
        in_order
            && self.parts.back().is_none_or(|part| part.first < self.next)
            && self.next <= keys::MOST
            && self.count() <= MOST_OPERATIONS
    }

    /// Returns the number of the first operation that is kept.
    pub fn first(&self) -> u64 {
        self.parts.front().map_or(self.next, |part| part.first)
    }

    /// Returns the number after that of the last operation.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Returns the number of operations that are kept.
    pub fn count(&self) -> u64 {
        self.next.saturating_sub(self.first())
    }

    /// Returns the number of the first operation of the part with an operation.
    pub fn part_of(&self, number: u64) -> u64 {
        let parts = self.parts.iter().rev();
        parts.map(|part| part.first).find(|first| *first <= number).unwrap_or(self.first())
    }

    /// Returns the programs that a replay of the operations needs.
    pub fn programs(&self) -> impl Iterator<Item = ProgramHash> {
        self.programs.iter().map(|(program, _)| *program)
    }

    /// Whether the next operation begins a part.
    fn is_full(&self) -> bool {
        self.parts.back().is_none_or(|part| self.next - part.first >= PART || part.bytes >= PART_BYTES)
    }

    /// Adds an operation, and returns its number.
    fn add(&mut self, begins: bool, bytes: u64, program: Option<ProgramHash>) -> u64 {
        let number = self.next;
        self.next += 1;
        match self.parts.back_mut() {
            Some(part) if !begins => part.bytes = part.bytes.saturating_add(bytes),
            _ => self.parts.push_back(Part { first: number, bytes }),
        }
        if let Some(program) = program {
            match self.programs.iter_mut().find(|(known, _)| *known == program) {
                Some((_, last)) => *last = number,
                None => self.programs.push((program, number)),
            }
        }
        number
    }

    /// Removes the oldest parts while there is too much. The operations before the first that is
    /// kept are gone.
    fn prune(&mut self) {
        let is_too_much = |range: &KeptRange| {
            let bytes = range.parts.iter().fold(0u64, |sum, part| sum.saturating_add(part.bytes));
            range.count() > MOST_OPERATIONS || bytes > MOST_OPERATION_BYTES
        };
        while self.parts.len() > 1 && is_too_much(self) {
            self.parts.pop_front();
        }
        let first = self.first();
        self.programs.retain(|(_, last)| *last >= first);
    }
}

/// Reads which operations of an entity are kept; `None` if the store keeps none.
pub fn read_kept(store: &dyn Read, entity: &EntityId) -> Result<Option<KeptRange>, ReadError> {
    let Some(bytes) = store.get(&keys::kept(entity))? else { return Ok(None) };
    match KeptRange::decode(&bytes) {
        Some(range) => Ok(Some(range)),
        None => Err(format!("the list of the operations of {entity} is not readable").into()),
    }
}

/// Reads whether the operations of entities are kept from now on.
pub fn read_keeps(store: &dyn Read) -> Result<bool, ReadError> {
    Ok(store.get(keys::KEEPS_OPERATIONS)?.is_some())
}

/// Reads the time since which the operations of entities are kept; `None` if they are not, or if an
/// earlier version began to keep them.
pub fn read_kept_since(store: &dyn Read) -> Result<Option<i64>, ReadError> {
    match store.get(keys::KEEPS_OPERATIONS)?.as_deref() {
        None | Some([]) => Ok(None),
        Some(bytes) => match bytes.try_into() {
            Ok(time) => Ok(Some(i64::from_be_bytes(time))),
            Err(_) => Err("the time since which operations are kept is not readable".into()),
        },
    }
}

/// An operation under way.
pub(super) struct UnderWay {
    pub program: Option<ProgramHash>,
    pub begun: i64,
    pub before: Option<Option<Data>>,
    pub after: Option<Option<Data>>,
    pub entries: Vec<Entry>,
}

/// The kept operations of an entity in memory.
#[derive(Default)]
pub(super) struct Keeping {
    range: KeptRange,
    /// Whether the state is another one than the last operation left.
    is_broken: bool,
    pub under_way: Option<UnderWay>,
    unwritten: VecDeque<(u64, Vec<u8>)>,
    /// The number of the first operation that the store keeps.
    written_first: u64,
}

impl Keeping {
    pub fn new(range: KeptRange, state: Option<&Data>) -> Keeping {
        let (is_broken, written_first) = (range.left != mark(state), range.first());
        Keeping { range, is_broken, written_first, ..Keeping::default() }
    }

    /// Whether the next operation begins a part.
    pub fn begins_part(&self) -> bool {
        self.is_broken || self.range.is_full()
    }

    /// Keeps an operation that is done.
    pub fn keep(&mut self, done: &KeptOperation) {
        if let Some(state) = done.after.as_ref().or(done.before.as_ref()) {
            self.range.left = mark(state.as_ref());
        }
        self.is_broken = false;
        let bytes = done.encode();
        let number = self.range.add(done.before.is_some(), bytes.len() as u64, done.program);
        self.unwritten.push_back((number, bytes));
        self.range.prune();
        // What is gone before it was written needs no memory. The last operation is never gone.
        let first = self.range.first();
        while self.unwritten.front().is_some_and(|(number, _)| *number < first) {
            self.unwritten.pop_front();
        }
    }

    /// Forgets what is kept. The numbers go on, and the next operation begins a part.
    pub fn forget(&mut self, state: Option<Data>) {
        if let Some(under_way) = &mut self.under_way {
            under_way.before = Some(state);
        }
        let next = self.range.next;
        self.range = KeptRange { next, ..KeptRange::default() };
        self.is_broken = true;
        self.unwritten.clear();
    }

    pub fn has_writes(&self) -> bool {
        !self.unwritten.is_empty() || self.written_first != self.range.first()
    }

    /// Writes the operations since the last call, and removes those that are too many.
    pub fn take_writes(&mut self, entity: &EntityId, batch: &mut Batch) {
        if !self.has_writes() {
            return;
        }
        let first = self.range.first();
        for number in self.written_first..first {
            batch.delete(keys::operation(entity, number));
        }
        self.written_first = first;
        for (number, bytes) in self.unwritten.drain(..) {
            batch.put(keys::operation(entity, number), bytes);
        }
        if self.range.count() == 0 {
            return batch.delete(keys::kept(entity));
        }
        batch.put(keys::kept(entity), self.range.encode());
    }
}

/// A kept operation with its number, and the states before and after it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OperationView {
    pub number: u64,
    pub operation: KeptOperation,
    /// The state before; `None` for no state.
    pub before: Option<Data>,
    /// The state after; `None` for no state.
    pub after: Option<Data>,
    /// Whether the state before is another one than the operation before left: others were not kept.
    pub follows_gap: bool,
}

/// A part of the kept operations of an entity, in order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OperationsPage {
    pub items: Vec<OperationView>,
    /// The number of the first operation that is kept.
    pub first: u64,
    /// The number of operations that are kept.
    pub count: u64,
    /// The number of the operation that the next page begins with; `None` at the end.
    pub next: Option<u64>,
    /// Whether operations are kept from now on.
    pub goes_on: bool,
}

impl OperationsPage {
    /// Returns the number of the last operation that is kept; 0 if there is none.
    pub fn last(&self) -> u64 {
        self.first.saturating_add(self.count).saturating_sub(1)
    }
}

/// Returns the machine of a kept operation at its beginning. The error says what its program lacks.
pub fn machine_of_operation(
    image: &Rc<Image>,
    entity: &EntityId,
    view: &OperationView,
) -> Result<Machine, String> {
    let kept = &view.operation;
    let name = &entity.name;
    let declared =
        image.code.find_entity(name).ok_or_else(|| format!("its program has no entity `{name}`"))?;
    let found = find_operation(declared, name, &kept.operation).map_err(|error| error.title())?;
    let (key, entity) = (kept.from.clone(), Some(entity.clone()));
    let identity = Identity { id: String::new(), key, entity, attempt: 1 };
    let state = view.before.as_ref().map(Data::decode);
    Machine::operation(image.clone(), declared, found, kept.args.items(), state, identity)
        .map_err(|error| error.title())
}

/// Returns kept operations of an entity, beginning with a number. The states are those that the
/// entity had. A page ends early when it has many bytes.
pub fn operations(
    store: &dyn Read,
    entity: &EntityId,
    from: u64,
    limit: u32,
    most_bytes: usize,
) -> Result<OperationsPage, ReadError> {
    let goes_on = read_keeps(store)?;
    let Some(range) = read_kept(store, entity)? else {
        return Ok(OperationsPage { items: Vec::new(), first: 1, count: 0, next: None, goes_on });
    };
    let from = from.max(range.first());
    let mut page =
        OperationsPage { items: Vec::new(), first: range.first(), count: range.count(), next: None, goes_on };
    let begin = keys::operation(entity, range.part_of(from));
    let (mut expected, mut bytes, mut result) = (range.part_of(from), 0, Ok(()));
    let mut state: Option<Option<Data>> = None;
    store.scan_from(&keys::operations(entity), &begin, &mut |key, value| {
        let Some((_, number)) = keys::parse_operation(key) else { return true };
        if page.items.len() >= limit.max(1) as usize || bytes > most_bytes {
            page.next = Some(number);
            return false;
        }
        let Some(operation) = KeptOperation::decode(value).filter(|_| number == expected) else {
            result = Err(format!("operation {expected} of {entity} is not readable").into());
            return false;
        };
        expected += 1;
        let left = state.take();
        let before = operation.before.clone().or(left.clone()).unwrap_or_default();
        let follows_gap = left.is_some_and(|left| left != before);
        let after = operation.after.clone().unwrap_or_else(|| before.clone());
        state = Some(after.clone());
        if number >= from {
            let states = [&before, &after].into_iter().flatten().map(|state| state.0.len());
            bytes += value.len() + states.sum::<usize>();
            page.items.push(OperationView { number, operation, before, after, follows_gap });
        }
        true
    })?;
    result.map(|()| page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_parts_go_when_there_are_too_many_operations_or_bytes() {
        let mut range = KeptRange::default();
        let program = |number: u64| Some(ProgramHash([(number / 700) as u8; 32]));
        for number in 1..=3_000 {
            let begins = range.is_full();
            assert_eq!(range.add(begins, 10, program(number)), number);
            range.prune();
            assert!(range.count() <= MOST_OPERATIONS && range.count() >= number.min(MOST_OPERATIONS - PART));
            assert_eq!(range.part_of(number), range.parts.back().map_or(0, |part| part.first));
        }
        let programs: Vec<u8> = range.programs().map(|program| program.0[0]).collect();
        assert_eq!(programs, [2, 3, 4]);
        for _ in 0..50 {
            let begins = range.is_full();
            range.add(begins, MOST_OPERATION_BYTES, program(0));
            range.prune();
        }
        assert_eq!(range.count(), 1, "the last part stays, however large it is");
        assert_eq!(KeptRange::decode(&range.encode()), Some(range));
    }

    #[test]
    fn a_list_that_claims_too_much_is_refused() {
        let range = |firsts: &[u64], next| {
            let parts = firsts.iter().map(|first| Part { first: *first, bytes: u64::MAX }).collect();
            KeptRange::decode(&KeptRange { next, parts, ..KeptRange::default() }.encode())
        };
        assert!(range(&[1, 17], 20).is_some() && range(&[], 7).is_some());
        for (firsts, next) in
            [(&[1u64][..], 1u64 << 62), (&[1], u64::MAX), (&[17, 1], 20), (&[30], 20), (&[1], 5_000)]
        {
            assert_eq!(range(firsts, next), None, "{firsts:?} {next}");
        }
    }
}
