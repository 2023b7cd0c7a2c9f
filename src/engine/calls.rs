//! Calls of clients, and their answers.
//!
//! Answers are kept, so that a client that has lost one can ask again, until many later ones have
//! come.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use crate::kv::Batch;
use crate::machine::{Data, EntityId, ErrorData, ids};

use super::keys;
use super::stored::{self, Stored};

/// The number of answers that are kept.
pub const MOST_ANSWERS: usize = 4_096;
/// The size in bytes of the calls and answers that are kept. The last answer is kept in any case.
pub const MOST_ANSWER_BYTES: u64 = 64 << 20;

/// A client's call, with its answer once that has come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClientCall {
    pub entity: EntityId,
    pub operation: String,
    pub args: Data,
    /// The time at which the call was accepted, in nanoseconds since 1970.
    pub asked: i64,
    pub answer: Option<Result<Data, ErrorData>>,
}

impl Stored for ClientCall {
    type Before = ClientCall;
    type Earlier = ClientCall;
}

impl ClientCall {
    pub fn encode(&self) -> Vec<u8> {
        stored::encode(self)
    }

    pub fn decode(bytes: &[u8]) -> Option<ClientCall> {
        stored::decode(bytes)
    }

    /// Returns the call as it is shown: `Account@ada.add(1)`.
    pub fn shown(&self) -> String {
        ids::shown_call(&format!("{}.{}", self.entity, self.operation), &self.args)
    }

    /// Returns the error of an id that belongs to another call than the wanted one, or `None` if
    /// the calls are the same.
    pub fn conflict(&self, id: &str, wanted: &ClientCall) -> Option<ErrorData> {
        let same = self.entity == wanted.entity
            && self.operation == wanted.operation
            && ids::same_arguments(&self.args, &wanted.args);
        (!same).then(|| ids::taken(id, &self.shown(), &wanted.shown()))
    }
}

/// A kept answer: its place in the order of all answers, its call, and the bytes of the call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    pub number: u64,
    pub id: String,
    pub bytes: u64,
}

impl Kept {
    pub fn encode(&self) -> Vec<u8> {
        stored::append(self.bytes.to_be_bytes().to_vec(), &self.id)
    }

    pub fn decode(number: u64, value: &[u8]) -> Option<Kept> {
        let (bytes, id) = value.split_first_chunk()?;
        Some(Kept { number, id: stored::read(id)?, bytes: u64::from_be_bytes(*bytes) })
    }
}

/// The kept answers, the oldest first, and what is not written of the calls.
#[derive(Default)]
pub(super) struct Calls {
    kept: VecDeque<Kept>,
    bytes: u64,
    next: u64,
    /// The encoded calls to write.
    unwritten: BTreeMap<String, Vec<u8>>,
    /// The calls to remove.
    forgotten: BTreeSet<String>,
    /// The places to write or to remove.
    places: BTreeMap<u64, Option<Vec<u8>>>,
}

impl Calls {
    /// Takes in the answers that the store has, in order.
    pub fn recover(&mut self, kept: Vec<Kept>) {
        self.bytes = kept.iter().fold(0, |sum, kept| sum.saturating_add(kept.bytes));
        self.next = kept.last().map_or(0, |last| last.number + 1);
        self.kept = kept.into();
    }

    /// Notes a call that is accepted.
    pub fn begin(&mut self, id: &str, call: &ClientCall) {
        self.forgotten.remove(id);
        self.unwritten.insert(id.to_string(), call.encode());
    }

    /// Keeps an answer, and forgets the oldest ones if there are too many.
    pub fn keep(&mut self, id: &str, call: &ClientCall) {
        let encoded = call.encode();
        let kept = Kept { number: self.next, id: id.to_string(), bytes: encoded.len() as u64 };
        self.next += 1;
        self.unwritten.insert(id.to_string(), encoded);
        self.places.insert(kept.number, Some(kept.encode()));
        self.bytes = self.bytes.saturating_add(kept.bytes);
        self.kept.push_back(kept);
        let is_too_much = |calls: &Calls| calls.kept.len() > MOST_ANSWERS || calls.bytes > MOST_ANSWER_BYTES;
        while self.kept.len() > 1 && is_too_much(self) {
            let Some(oldest) = self.kept.pop_front() else { break };
            self.bytes = self.bytes.saturating_sub(oldest.bytes);
            self.places.insert(oldest.number, None);
            self.unwritten.remove(&oldest.id);
            self.forgotten.insert(oldest.id);
        }
    }

    pub fn has_writes(&self) -> bool {
        !self.unwritten.is_empty() || !self.forgotten.is_empty() || !self.places.is_empty()
    }

    pub fn take_writes(&mut self, batch: &mut Batch) {
        for (id, call) in std::mem::take(&mut self.unwritten) {
            batch.put(keys::call(&id), call);
        }
        for id in std::mem::take(&mut self.forgotten) {
            batch.delete(keys::call(&id));
        }
        for (number, kept) in std::mem::take(&mut self.places) {
            match kept {
                Some(kept) => batch.put(keys::answer(number), kept),
                None => batch.delete(keys::answer(number)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Value;

    fn call(bytes: usize) -> ClientCall {
        let entity = EntityId::new("Account", &Value::str("ada")).expect("a key");
        let answer = Some(Ok(Data(vec![0; bytes])));
        ClientCall { entity, operation: "add".into(), args: Data::null(), asked: 0, answer }
    }

    fn written(calls: &mut Calls) -> Batch {
        let mut batch = Batch::default();
        calls.take_writes(&mut batch);
        assert_eq!(batch.repeated(), None, "a key is written once");
        batch
    }

    #[test]
    fn answers_are_bounded_in_number() {
        let mut calls = Calls::default();
        for number in 0..MOST_ANSWERS + 3 {
            calls.keep(&number.to_string(), &call(1));
        }
        assert_eq!(calls.kept.len(), MOST_ANSWERS);
        assert_eq!(calls.kept.front().map(|kept| kept.id.as_str()), Some("3"));
        let puts = written(&mut calls).writes.iter().filter(|(_, value)| value.is_some()).count();
        assert_eq!(puts, 2 * MOST_ANSWERS);
    }

    #[test]
    fn answers_are_bounded_in_bytes() {
        let mut calls = Calls::default();
        let half = MOST_ANSWER_BYTES as usize / 2;
        ["a", "b", "c"].iter().for_each(|id| calls.keep(id, &call(half)));
        assert_eq!(calls.kept.iter().map(|kept| kept.id.as_str()).collect::<Vec<_>>(), ["c"]);
        calls.keep("large", &call(3 * half));
        assert_eq!(calls.kept.iter().map(|kept| kept.id.as_str()).collect::<Vec<_>>(), ["large"]);
        assert_eq!(calls.bytes, calls.kept[0].bytes);
    }

    #[test]
    fn a_forgotten_id_can_be_used_again() {
        let mut calls = Calls::default();
        (0..MOST_ANSWERS).for_each(|number| calls.keep(&number.to_string(), &call(1)));
        written(&mut calls);
        calls.keep("last", &call(1));
        calls.begin("0", &call(1));
        let batch = written(&mut calls);
        let first = batch.writes.iter().find(|(key, _)| *key == keys::call("0"));
        assert!(first.is_some_and(|(_, value)| value.is_some()), "it is there again");
    }

    #[test]
    fn answers_outlive_the_engine() {
        let mut calls = Calls::default();
        ["a", "b"].iter().for_each(|id| calls.keep(id, &call(1)));
        let of = |number: u64, batch: &Batch| {
            let found = batch.writes.iter().find(|(key, _)| *key == keys::answer(number));
            found.and_then(|(_, value)| Kept::decode(number, value.as_deref()?))
        };
        let batch = written(&mut calls);
        let kept: Vec<Kept> = (0..2).filter_map(|number| of(number, &batch)).collect();
        let mut again = Calls::default();
        again.recover(kept);
        assert_eq!((&again.kept, again.bytes, again.next), (&calls.kept, calls.bytes, calls.next));
    }
}
