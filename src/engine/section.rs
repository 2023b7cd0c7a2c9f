//! The critical section of an instance, as its requests and its history show it.

use crate::builtins::Effect;
use crate::machine::{Data, EntityId, Value};

use super::address::Waiter;
use super::entry::{Args, Entry};
use super::instance::Instance;
use super::record::InstanceRecord;

/// The entities that an instance holds or asks for, and its request if it is not known to hold
/// them.
pub(super) type Section = (Option<Waiter>, Vec<EntityId>);

impl Instance {
    /// Returns what the instance holds or asks for, as far as its machine and the rest of its
    /// history show.
    pub fn section(&self) -> Option<Section> {
        let held = self.evaluation.machine().held_entities();
        let held = (!held.is_empty()).then(|| (None, held.to_vec()));
        // There is a rest only if the instance ends before it is replayed.
        section_in(&self.record, held, self.evaluation.past())
    }
}

/// Returns what an instance holds or asks for after the entries of its history.
pub(super) fn section_in<'a>(
    record: &InstanceRecord,
    before: Option<Section>,
    entries: impl Iterator<Item = &'a Entry>,
) -> Option<Section> {
    let mut section = before;
    for entry in entries {
        let asked = section.as_ref().and_then(|(asked, _)| asked.as_ref()).map(|asked| asked.seq);
        match entry {
            Entry::Requested { seq, what, args: Args::Whole(args), .. } => match what.effect() {
                Some(Effect::Lock) => section = Some((Some(record.waiter(*seq)), entities(args))),
                Some(Effect::Unlock) => section = None,
                _ => {}
            },
            Entry::Answered { seq, result: Err(_), .. } | Entry::Cancelled { seq, .. }
                if asked == Some(*seq) =>
            {
                section = None;
            }
            _ => {}
        }
    }
    section
}

/// Returns the entities of a critical section, from the arguments of its request.
pub fn entities(args: &Data) -> Vec<EntityId> {
    let Some(Value::List(all)) = args.items().into_iter().next() else { return Vec::new() };
    let entity = |value: &Value| match value {
        Value::Entity(entity) => EntityId::of(entity).ok(),
        _ => None,
    };
    all.as_slice().iter().filter_map(entity).collect()
}
