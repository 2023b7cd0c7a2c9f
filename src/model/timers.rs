//! What is due when.

use super::map::Map;
use super::message::{EntityName, Id, Mail, Message, Name, Timer};
use super::part::Part;

/// What is due when.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Timers(pub Map<(i64, Name, u64), Mail>);

impl Timers {
    /// What may be due next: all that is due at the earliest time.
    pub fn next(&self) -> impl Iterator<Item = &(i64, Name, u64)> {
        let earliest = self.0.keys().next().map(|(due, ..)| *due);
        self.0.keys().take_while(move |(due, ..)| Some(*due) == earliest)
    }

    pub fn set(&mut self, due: i64, to: &Id, execution: u32, seq: u64, timer: Timer) {
        let message = Message::Due { execution, seq, timer };
        self.0.insert((due, Name::Instance(to.clone()), seq * 4 + timer as u64), Part::new(message));
    }

    pub fn clear(&mut self, to: &Id, seq: u64) {
        self.0.retain(|(_, name, number), _| {
            !(number / 4 == seq && matches!(name, Name::Instance(id) if id == to))
        });
    }

    /// A signal for later.
    pub fn later(&mut self, due: i64, to: &EntityName, mail: Mail) {
        let to = Name::Entity(to.clone());
        let number = (0..).find(|number| !self.0.contains_key(&(due, to.clone(), *number)));
        self.0.insert((due, to, number.unwrap_or(0)), mail);
    }

    /// All of it earlier.
    pub fn shift(&mut self, by: i64) {
        let all = std::mem::take(&mut self.0);
        self.0 = all
            .into_iter()
            .map(|((due, to, n), message)| ((due.saturating_sub(by), to, n), message))
            .collect();
    }
}
