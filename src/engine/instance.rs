//! An instance in memory: its record and its parts.
//!
//! Invariant: the record, the journal and the open requests agree. Whatever happens to an instance
//! becomes an entry of its journal, or a change of its record, in the same turn.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

use crate::builtins::Context;
use crate::machine::{Data, ErrorData, Identity, Image, Machine, Progress, Request, is_cancellation};
use crate::permissions::Permissions;

use super::active::Doing;
use super::address::{LifeId, Waiter};
use super::agenda::Agenda;
use super::arrivals::Arrivals;
use super::checkpoint::Checkpoint;
use super::entry::Entry;
use super::evaluation::{Advance, Around, Evaluation, Watch};
use super::history::History;
use super::journal::Journal;
use super::open::{Open, Requests};
use super::record::{InstanceRecord, Status};
use super::residency::Residency;
use super::saving::Saving;

/// The function in the record of a script.
pub const SCRIPT: &str = "script";

/// Returns the function in the record of a test. No orchestration has such a name.
pub fn test_function(name: &str) -> String {
    format!("test {name:?}")
}

pub(super) struct Instance {
    pub record: InstanceRecord,
    /// Whether the next commit must write the record.
    pub record_changed: bool,
    /// The id of the root. All instances of a root share this text.
    pub root: Arc<str>,
    pub image: Rc<Image>,
    pub evaluation: Evaluation,
    pub arrivals: Arrivals,
    pub journal: Journal,
    pub saving: Saving,
    pub residency: Residency,
    /// Whether the last turn left the instance among the engine's active ones; `None` before a turn
    /// has ended.
    pub listed: Option<bool>,
}

/// The part of a message that describes its sender.
pub(super) struct Envelope {
    /// The key of the sending step.
    pub from: String,
    pub root: Arc<str>,
    pub permissions: Permissions,
}

impl Instance {
    /// Returns an instance at its beginning or at a checkpoint, which first replays its history.
    /// The error says what its program lacks.
    pub fn new(image: &Rc<Image>, record: InstanceRecord, history: History) -> Result<Instance, String> {
        let code = &image.code;
        let (mut arrivals, mut open) = (Arrivals::default(), Requests::default());
        let (mut given_up, mut first_due) = (BTreeSet::new(), i64::MAX);
        let journal = Journal::after(&history);
        let saving = Saving::after(history.after.as_ref());
        let mut machine = match history.after {
            None => machine_at_beginning(image, &record)?,
            Some(saved) => {
                function_of(image, &record)?;
                given_up.extend(&saved.given_up);
                let restored = saved.is_of(code).then(|| Machine::restore(image.clone(), &saved.machine.0));
                let unfit =
                    || "its checkpoint was made by another version, or for another program".to_string();
                for saved in saved.open {
                    let again = Open::restored(saved).ok_or_else(unfit)?;
                    arrivals.expect(&again.request);
                    first_due = first_due.min(again.due().unwrap_or(i64::MAX));
                    open.insert(again);
                }
                restored.flatten().ok_or_else(unfit)?
            }
        };
        // Instances from before lives existed could choose any id.
        machine.names_freely = record.life == 0;
        let requests = open.keys().copied().filter(|seq| !arrivals.is_for_a_line(*seq)).collect();
        let agenda = Agenda::of(requests, first_due, !record.rewound.is_empty());
        Ok(Instance {
            root: record.root.as_str().into(),
            record,
            record_changed: false,
            image: image.clone(),
            evaluation: Evaluation::new(machine, history.entries, (open, given_up), agenda),
            arrivals,
            journal,
            saving,
            residency: Residency::Loaded,
            listed: None,
        })
    }

    /// Begins the next execution with new arguments. Returns the new instance, and the requests
    /// that were open.
    pub fn continued(self, args: Data) -> Result<(Instance, Requests), String> {
        let mut record = self.record;
        let before = std::mem::replace(&mut record.args, args);
        if record.execution == 0 {
            record.begun_with = Some(before);
        }
        record.execution += 1;
        record.first = self.journal.chunks();
        let history = History { chunks: self.journal.chunks(), ..History::default() };
        let mut next = Instance::new(&self.image, record, history)?;
        next.record_changed = true;
        next.root = self.root;
        next.arrivals = self.arrivals.continued();
        next.evaluation.agenda.outgoing = self.evaluation.agenda.outgoing;
        next.saving = self.saving.continued();
        next.residency = self.residency;
        next.residency.goes_on();
        Ok((next, self.evaluation.open))
    }

    /// Returns the same instance with a longer program, from its whole history. Requests under way
    /// stay so.
    pub fn extended(&self, image: &Rc<Image>, history: History) -> Result<Instance, String> {
        let record = InstanceRecord { program: image.code.hash, ..self.record.clone() };
        let mut next = Instance::new(image, record, history)?;
        next.record_changed = true;
        next.root = self.root.clone();
        self.arrivals.copy_to(&mut next.arrivals);
        next.saving.indexed = self.saving.indexed;
        next.evaluation.agenda.was_seen_to(&self.evaluation.open);
        Ok(next)
    }

    // ---- identity

    /// Returns the key of a step. It is the same for all attempts at the step, and no other step of
    /// any life has it.
    pub fn step_key(&self, seq: u64) -> String {
        self.record.step_key(seq)
    }

    /// Returns the automatic id of the child that a request calls or starts.
    pub fn child_id(&self, seq: u64) -> String {
        self.record.child_id(seq)
    }

    /// Returns the waiter for the answer to a request.
    pub fn waiter(&self, seq: u64) -> Waiter {
        self.record.waiter(seq)
    }

    /// Returns its id and its life.
    pub fn life_id(&self) -> LifeId {
        self.record.life_id()
    }

    /// Returns its life and its execution.
    pub fn execution(&self) -> (u64, u32) {
        (self.record.life, self.record.execution)
    }

    /// Returns the sender of a message that is sent for a request.
    pub fn envelope(&self, seq: u64) -> Envelope {
        Envelope {
            from: self.step_key(seq),
            root: self.root.clone(),
            permissions: self.record.permissions.clone(),
        }
    }

    // ---- activity

    /// Whether the instance has caught up with its history.
    pub fn is_live(&self) -> bool {
        self.evaluation.is_live()
    }

    pub fn is_suspended(&self) -> bool {
        self.record.status.is_suspended()
    }

    /// Whether the instance does nothing by itself: it is suspended, or has not begun.
    pub fn is_held_up(&self) -> bool {
        self.is_suspended() || self.record.status.begins().is_some()
    }

    pub fn has_ended(&self) -> bool {
        self.record.ended.is_some()
    }

    /// Whether the instance has more to do than to wait for messages.
    pub fn is_active(&self) -> bool {
        if self.is_suspended() {
            return false;
        }
        if self.record.status.begins().is_some() {
            return true;
        }
        // An instance that was read where only clients are served stands where its history ends,
        // which may be in the middle of a turn.
        !self.evaluation.is_between()
            || !self.is_live()
            || self.residency.is_queued()
            || self.arrivals.has_delivered()
            || self.evaluation.open.are_active()
    }

    /// Returns what the instance does by itself.
    pub fn doing(&self) -> Doing {
        if !self.is_active() {
            return Doing::Nothing;
        }
        if let Some(due) = self.record.status.begins() {
            return Doing::Waiting(due);
        }
        let waits = self.evaluation.is_between() && self.is_live() && !self.residency.is_queued();
        if !waits || self.arrivals.is_in_memory_alone() || !self.is_seen_to() {
            return Doing::Something;
        }
        self.evaluation.open.first_due().map_or(Doing::Something, Doing::Waiting)
    }

    /// Whether nothing is lost if a parked instance is dropped and read from the store again.
    pub fn can_be_dropped(&self) -> bool {
        self.is_live()
            && !self.arrivals.is_in_memory_alone()
            && self.evaluation.agenda.lines.is_empty()
            && !self.evaluation.is_ending()
            && self.journal.is_written()
            && !self.record_changed
            && self.evaluation.open.values().all(|open| !open.dispatched || open.is_timer())
    }

    /// Whether the instance waits.
    pub fn waits(&self) -> bool {
        self.is_live() && !self.residency.is_queued() && !self.has_ended()
    }

    /// Whether the instance waits, and its whole history is in the store.
    pub fn is_at_rest(&self) -> bool {
        self.waits() && self.journal.is_written()
    }

    /// Whether a message that ends or suspends the instance can be taken in now. It overtakes
    /// nothing that came before it, except a long computation.
    pub fn can_be_ended(&self) -> bool {
        self.residency.computes() || (self.evaluation.rests() && self.arrivals.is_control_first())
    }

    /// Whether the engine has nothing to dispatch.
    pub fn is_seen_to(&self) -> bool {
        self.evaluation.agenda.is_empty() && self.record.rewound.is_empty()
    }

    /// Takes the requests to dispatch.
    pub fn take_requests(&mut self) -> Vec<u64> {
        let of = self.execution();
        let Evaluation { agenda, open, .. } = &mut self.evaluation;
        agenda.take_requests(open, &self.arrivals.mail, of)
    }

    // ---- events

    /// Evaluates up to the next requests or the end, then takes in the next answer, from the
    /// history or from the arrivals. The end is held back if `holds_end`, or while lines of the
    /// instance are not out.
    pub fn advance(&mut self, fuel: u64, now: i64, holds_end: bool, watch: Watch<'_>) -> Advance {
        if self.evaluation.never_ran() {
            let Instance { evaluation, arrivals, journal, .. } = self;
            let mut around = Around { journal, arrivals, now, watch };
            return evaluation.replay(&mut around).unwrap_or(Advance::Ended);
        }
        if self.evaluation.renumber(watch) {
            return Advance::More;
        }
        let was_live = self.is_live();
        let (progress, spent) = self.evaluation.run(fuel);
        self.saving.computed(spent);
        if matches!(progress, Progress::OutOfFuel) {
            return Advance::OutOfFuel;
        }
        let Instance { record, evaluation, arrivals, journal, .. } = self;
        let mut around = Around { journal, arrivals, now, watch };
        if let Err(mismatch) = evaluation.take_requests(&mut around) {
            return Advance::Nondeterminism(mismatch);
        }
        if let Progress::Done(outcome) = progress {
            if evaluation.is_live() && (holds_end || !evaluation.agenda.lines.is_empty()) {
                evaluation.wait_to_end(outcome);
                return Advance::Ending;
            }
            return match evaluation.end(&mut around) {
                Ok(recorded) => self.ended(outcome, (!recorded).then_some(now)),
                Err(mismatch) => Advance::Nondeterminism(mismatch),
            };
        }
        match evaluation.replay(&mut around) {
            Some(advance) => advance,
            // The engine first checks again whether the instance may take in something new.
            None if !was_live => Advance::More,
            None => evaluation.take_in(record, &mut around),
        }
    }

    /// Sets the outcome of the instance. If the instance is being cancelled and nobody has caught the
    /// error, it was terminated. `now` is the time of its end, or `None` for a replayed
    /// end.
    fn ended(&mut self, outcome: Result<Data, ErrorData>, now: Option<i64>) -> Advance {
        if now.is_some() {
            self.record.ended = now;
            self.record_changed = true;
        }
        self.record.status = match outcome {
            Ok(value) => Status::Completed(value),
            Err(error) => match self.evaluation.open.cancelled_for() {
                Some(reason) if is_cancellation(&error) => Status::Terminated(reason),
                _ => Status::Failed(error),
            },
        };
        Advance::Ended
    }

    /// Notes that the instance was terminated.
    pub fn terminated(&mut self, why: Data, now: i64) {
        self.journal.push(Entry::Terminated { time: now });
        self.record.status = Status::Terminated(why);
        self.record.ended = Some(now);
        self.record_changed = true;
    }

    /// Notes the status that the instance sets.
    pub fn set_status(&mut self, status: Option<Data>) {
        self.record.custom = status;
        self.record_changed = true;
    }

    /// Notes that an attempt failed and when the next one begins. The request must be dispatched
    /// again.
    pub fn retry(&mut self, seq: u64, error: ErrorData, again: i64, now: i64) {
        self.journal.push(Entry::Retried { seq, error, again, time: now });
        self.evaluation.retried(seq, again);
        self.evaluation.agenda.add(seq);
    }

    /// Notes that an attempt after the first begins.
    pub fn begins(&mut self, seq: u64, now: i64) {
        if let Some(open) = self.evaluation.open.get_mut(seq).filter(|open| open.attempt > 1 && !open.begun) {
            open.begun = true;
            self.journal.push(Entry::Begun { seq, time: now });
        }
    }

    // ---- state

    /// Returns the machine's state, or `None` if entries of the history are not written yet.
    pub fn state(&self) -> Option<Vec<u8>> {
        self.journal.is_written().then(|| self.evaluation.machine().snapshot())
    }

    /// Returns the number of the first chunk that the store has of the history.
    pub fn kept_from(&self) -> u64 {
        self.saving.kept_from(self.record.first)
    }
}

/// Returns the machine of an instance at the beginning of its execution. The error says what the
/// program lacks.
pub fn machine_at_beginning(image: &Rc<Image>, record: &InstanceRecord) -> Result<Machine, String> {
    let function = function_of(image, record)?;
    let (id, attempt) = (record.id.clone(), record.attempt);
    let identity = Identity { id, attempt, ..Identity::default() };
    let args = record.args.items();
    let mut machine = Machine::new(image.clone(), Context::Orchestration, function, args, identity);
    // Instances from before lives existed could choose any id.
    machine.names_freely = record.life == 0;
    Ok(machine)
}

/// Returns the machine of an instance at a checkpoint, and its open requests. The error says why
/// the program does not fit.
pub fn machine_at_checkpoint(
    image: &Rc<Image>,
    record: &InstanceRecord,
    saved: Checkpoint,
) -> Result<(Machine, Vec<Request>), String> {
    let unfit = || "its checkpoint was made by another version, or for another program".to_string();
    let restored = saved.is_of(&image.code).then(|| Machine::restore(image.clone(), &saved.machine.0));
    let mut machine = restored.flatten().ok_or_else(unfit)?;
    machine.names_freely = record.life == 0;
    let open = saved.open.into_iter().map(|saved| Open::restored(saved).map(|open| open.request));
    Ok((machine, open.collect::<Option<_>>().ok_or_else(unfit)?))
}

/// Returns the function that an instance runs.
fn function_of(image: &Image, record: &InstanceRecord) -> Result<u32, String> {
    let code = &image.code;
    match record.function.as_str() {
        SCRIPT => Ok(code.script),
        name => {
            let found = code.isolated.iter().find(|item| item.name == name);
            let found = found.filter(|item| item.context == Some(Context::Orchestration));
            let test = || code.tests.iter().find(|test| test_function(&test.name) == name);
            let found = found.map(|item| item.body).or_else(|| test().map(|test| test.function));
            found.ok_or_else(|| format!("its program has no orchestration `{name}`"))
        }
    }
}
