//! The rule **operate**, as far as a store keeps the operations of entities: each does what its
//! program does, once, and begins with the state that the one before left.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;

use crate::code::ProgramHash;
use crate::engine::{
    Entry, Hold, KeptOperation, OperationView, ReadError, keys, known_image, read_kept, read_kept_since,
};
use crate::kv::Read;
use crate::machine::{Data, EntityId, Image};

use super::operate::{Replay, replay};
use super::sections::Held;
use super::{Finding, Run, Store, Traced};

/// The kept operations of an entity while they are read.
struct Reading<'a> {
    store: &'a dyn Read,
    all: &'a Store,
    entity: &'a EntityId,
    /// The time since which the store keeps all operations; `None` if that is not known.
    since: Option<i64>,
    /// The state that the operation before left, when it ended, and the program of the last
    /// operation that has begun.
    left: Option<(Option<Data>, i64)>,
    program: Option<ProgramHash>,
    /// The keys of the senders.
    senders: HashSet<String>,
    traced: &'a mut Traced,
}

/// The critical sections that instances know of, by entity.
type Sections<'a> = BTreeMap<EntityId, Vec<Held<'a>>>;

pub fn check(
    store: &dyn Read,
    all: &Store,
    sections: &Sections<'_>,
    images: &mut HashMap<ProgramHash, Rc<Image>>,
    traced: &mut Traced,
) -> Result<(), ReadError> {
    let since = read_kept_since(store)?;
    for (key, _) in store.all(keys::KEPT)? {
        let entity = keys::parse_kept(&key).ok_or("the key of a list of operations is not readable")?;
        let (senders, left, program) = (HashSet::new(), None, None);
        let mut reading = Reading { store, all, entity: &entity, since, left, program, senders, traced };
        reading.operations(sections, images)?;
    }
    Ok(())
}

impl Reading<'_> {
    fn found(&mut self, rule: &'static str, number: Option<u64>, what: String) {
        let what = number.map_or_else(|| what.clone(), |number| format!("operation {number}: {what}"));
        self.traced.findings.push(Finding { rule, of: self.entity.to_string(), entry: None, what });
    }

    fn operations(
        &mut self,
        sections: &Sections<'_>,
        images: &mut HashMap<ProgramHash, Rc<Image>>,
    ) -> Result<(), ReadError> {
        let Some(range) = read_kept(self.store, self.entity)? else { return Ok(()) };
        let held = sections.get(self.entity).map_or(&[][..], Vec::as_slice);
        let holds = &self.all.holds;
        let hold = holds.iter().find(|(entity, _)| entity == self.entity).map(|(_, hold)| hold);
        let mut expected = range.first();
        for (key, bytes) in self.store.all(&keys::operations(self.entity))? {
            let unreadable = || format!("an operation of {} is not readable", self.entity);
            let (_, number) = keys::parse_operation(&key).ok_or_else(unreadable)?;
            let kept = KeptOperation::decode(&bytes).ok_or_else(unreadable)?;
            if number != expected {
                self.found("operate", Some(expected), "it is missing".into());
                // The state that it left is not known.
                self.left = None;
            }
            expected = number.saturating_add(1);
            self.traced.operations += 1;
            self.within(number, &kept, held, hold);
            self.operation(number, kept, images);
        }
        if expected != range.next() {
            self.found("operate", Some(expected), "it is missing".into());
        } else {
            self.state()?;
        }
        Ok(())
    }

    /// Checks the state before an operation, the operation itself, and its caller.
    fn operation(&mut self, number: u64, kept: KeptOperation, images: &mut HashMap<ProgramHash, Rc<Image>>) {
        let left = self.left.take();
        let before = match (&kept.before, &left) {
            (Some(before), _) => Some(before.clone()),
            (None, Some((left, _))) => Some(left.clone()),
            // An operation in the middle of a part has the state of one that is missing.
            (None, None) => None,
        };
        // The first operation of another program may migrate the state before.
        let is_same_program = self.program.is_none() || kept.program == self.program;
        if let (Some(now), Some((left, ended)), true) = (&before, &left, is_same_program)
            && now != left
        {
            match self.is_kept_since(*ended) {
                true => {
                    let what = "it begins with another state than the operation before left".into();
                    self.found("operate", Some(number), what);
                }
                false => self.unknown(number, "whether the state before it was left by another operation"),
            }
        }
        let has_begun = !kept.entries.is_empty();
        if has_begun {
            self.program = kept.program;
        }
        self.sender(number, &kept);
        self.answer(number, &kept);
        let Some(before) = before else { return };
        let after = kept.after.clone().unwrap_or_else(|| before.clone());
        self.left = Some((after.clone(), kept.ended));
        let image = match kept.program.map(|program| known_image(images, program, self.store)) {
            Some(Ok(image)) if has_begun => image,
            Some(Err(reason)) => return self.unknown(number, &reason.to_string()),
            // One that could not begin has the error of that, and changes nothing.
            _ if kept.result.is_ok() || kept.after.is_some() => {
                return self.found("operate", Some(number), "it has an outcome, and has not begun".into());
            }
            _ => return,
        };
        let view = OperationView { number, operation: kept, before, after, follows_gap: false };
        match replay(&image, self.entity, &view) {
            Replay::Fits => {}
            Replay::Differs(what) => self.found("operate", Some(number), what),
            Replay::Unknown => self.unknown(number, "it waited for several answers at once"),
        }
    }

    fn unknown(&mut self, number: u64, what: &str) {
        self.traced.unknown.push(format!("{}: operation {number}: {what}", self.entity));
    }

    /// Whether all operations are kept from a time on.
    fn is_kept_since(&self, time: i64) -> bool {
        self.since.is_some_and(|since| since < time)
    }

    /// A message is taken once. A rewound sender may ask again, under the same key.
    fn sender(&mut self, number: u64, kept: &KeptOperation) {
        if self.senders.insert(kept.from.clone()) {
            return;
        }
        if self.all.runs.values().any(|run| run.made(&kept.from)) {
            self.found("operate", Some(number), format!("{} is executed a second time", kept.from));
        }
    }

    /// The answer that a caller took is the result.
    fn answer(&mut self, number: u64, kept: &KeptOperation) {
        let Some(caller) = &kept.caller else { return };
        let Some(run) = self.all.runs.get(&caller.instance) else { return };
        let record = &run.record;
        if (record.life, record.execution) != (caller.life, caller.execution) || run.is_rewound {
            return;
        }
        // The caller may have given up before, so an error need not be the operation's.
        let Some((at, Entry::Answered { result: Ok(value), .. })) = run.answer(caller.seq) else { return };
        if !kept.result.as_ref().is_ok_and(|result| result == value) {
            let what = format!("an answer that is not the result of operation {number} of {}", self.entity);
            let finding = run.finding("deliver", Some(at), what);
            self.traced.findings.push(finding);
        }
    }

    /// While an instance holds an entity, only its own calls are executed.
    fn within(&mut self, number: u64, kept: &KeptOperation, held: &[Held<'_>], hold: Option<&Hold>) {
        let is_by = |id: &str, life: u64| match &kept.caller {
            // A call of the holder's activity comes from within, too.
            Some(caller) => caller.is_of(id, life) || caller.is_outside() && caller.client_id().is_none(),
            None => false,
        };
        let during = |held: &&Held<'_>| held.from < kept.begun && kept.begun < held.to;
        let past = held.iter().filter(during).map(|held| held.run.record.life_id());
        let present = hold.filter(|hold| hold.since < kept.begun).map(|hold| hold.owner.life_id());
        if let Some(holder) = past.chain(present).find(|holder| !is_by(&holder.id, holder.life)) {
            let what = format!("it is executed while {} holds {}", holder.id, self.entity);
            self.found("acquire", Some(number), what);
        }
    }

    /// The last operation left the state that the store has.
    fn state(&mut self) -> Result<(), ReadError> {
        let Some((left, ended)) = self.left.take() else { return Ok(()) };
        let state = self.store.get(&keys::entity(self.entity))?.map(Data);
        if state == left {
            return Ok(());
        }
        match self.is_kept_since(ended) {
            true => {
                self.found("operate", None, "its state is not the one that its last operation left".into())
            }
            false => {
                self.traced.unknown.push(format!("{}: whether later operations were not kept", self.entity))
            }
        }
        Ok(())
    }
}

impl Run {
    /// Whether a step of the present execution has this key, or sent something under it, and no
    /// step was asked again.
    fn made(&self, key: &str) -> bool {
        let first = self.record.step_key(0);
        let step = first.strip_suffix('0').unwrap_or(&first);
        key.starts_with(step) && !self.is_rewound
    }
}
