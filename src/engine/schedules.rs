//! Schedules: instances that the deployment of a program begins, one for each `schedule` that it
//! declares.
//!
//! The id of a schedule is also the name of the orchestration that it runs. A schedule runs on the
//! newest program that declares it. A newer program's schedule takes the place of an older one's
//! in one step, with its state, so no occurrence is lost and none comes twice.

use std::rc::Rc;
use std::sync::Arc;

use crate::code::Code;
use crate::machine::{Data, IfExists, Value};

use super::address::Address;
use super::message::{Mail, Message};
use super::open::Children;
use super::record::{InstanceRecord, Status};
use super::step::Engine;

pub use crate::syntax::tree::SCHEDULES;

/// Returns the messages that begin the schedules of a program, and those that end the schedules
/// that its file does not declare any more. `main` is the instance with whose start the program is
/// deployed, and `known` are all instances with ids of schedules.
pub fn deployment(code: &Code, main: &InstanceRecord, known: &[InstanceRecord]) -> Vec<(Address, Message)> {
    let declared = || code.isolated.iter().filter(|item| item.name.starts_with(SCHEDULES));
    let is_gone = |record: &&InstanceRecord| {
        let is_declared = declared().any(|item| item.name == record.id);
        record.file == main.file && !record.status.is_ended() && !is_declared
    };
    let ends = known.iter().filter(is_gone).map(|record| {
        let why = Data::of(&Value::str("its program does not declare it any more"));
        (Address::instance(&record.id), Message::Terminate { why, children: true, by: None })
    });
    let begins = declared().map(|item| {
        let args = Data::of(&Value::list(Vec::new()));
        let mut record =
            InstanceRecord::new(&item.name, main.program, &main.file, &item.name, args, main.created);
        record.permissions = main.permissions.clone();
        (Address::instance(&item.name), Message::Begin(Box::new(record), IfExists::Supersede))
    });
    ends.chain(begins).collect()
}

impl Engine {
    /// Ends an instance of an earlier program, whose successor a message begins. The successor has
    /// the arguments of the present execution, and is suspended if the instance is.
    pub(super) fn supersede(&mut self, id: &Arc<str>, mail: &Rc<Mail>, wanted: &InstanceRecord, now: i64) {
        let Some(instance) = self.residents.get_mut(id) else { return };
        let known = &instance.record;
        let mut next = wanted.clone();
        if known.function == wanted.function {
            next.begun_with = Some(std::mem::replace(&mut next.args, known.args.clone()));
        }
        if known.status.is_suspended() {
            next.status = Status::Suspended;
        }
        instance.terminated(Data::of(&Value::str("a newer program declares it")), now);
        let from = [mail.from.as_str(), "+"].concat();
        let message = Message::Begin(Box::new(next), IfExists::Replace);
        self.send(Address::Instance(id.clone()), from, mail.root.clone(), None, message);
        self.finish(id, Children::Terminated, now);
    }
}
