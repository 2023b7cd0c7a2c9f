//! Running instances: turns of evaluation, and the answers that come back.

use std::rc::Rc;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use crate::internal::sure;
use crate::kv::Batch;
use crate::machine::{Data, ErrorData, Request, RequestKind, Value, format, instance_handle};

use super::Status;
use super::address::Address;
use super::arrivals::{Delivery, first_text};
use super::evaluation::{Advance, Mismatch};
use super::events::{Ending, Leaving, Output, StepId};
use super::fault::{self, Fault};
use super::instance::Instance;
use super::message::{Mail, Message};
use super::open::{Children, Open};
use super::record::InstanceRecord;
use super::section::entities;
use super::send::{Sender, consume};
use super::step::Engine;
use super::timers::Timer;

/// The fuel of one slice, in calls and repetitions. A turn ends when its slices together have used
/// that much.
const SLICE: u64 = 100_000;
/// The number of answers that one turn consumes at most.
const ANSWERS: usize = 256;

/// The number of a timer that is of no request. The greatest number is that of a grace period.
pub(super) const NO_REQUEST: u64 = u64::MAX - 1;

/// The number of a timer of an instance that is not read before it is due.
pub(super) const UNREAD: u64 = u64::MAX - 2;

/// A turn of an instance.
struct Turn {
    /// The fuel that all turns before this one used.
    before: u64,
    /// The number of answers that the turn may still consume.
    answers: usize,
}

/// The reason why the evaluation of an instance stops for now.
enum Stop {
    /// The instance has ended, or is not in memory any more.
    Gone,
    /// The turn is used up.
    UsedUp,
    /// The instance is suspended, or the engine serves clients only.
    HeldUp,
    /// A control message has arrived.
    Control(Rc<Mail>),
    /// The instance waits, and its requests must be dispatched.
    Waiting,
    /// The instance is at its end, but its lines must be out before it ends.
    Ending,
    Ended,
    /// The grace period of the cancelled instance is over.
    GraceIsOver(Data),
    Nondeterminism(Mismatch),
}

impl Engine {
    pub(super) fn run_instance(&mut self, id: &Arc<str>, now: i64) {
        let mut turn = Turn { before: self.scheduler.fuel, answers: ANSWERS };
        let is_used_up = loop {
            match self.evaluate(id, &mut turn, now) {
                Stop::Gone => return,
                Stop::UsedUp => break true,
                Stop::HeldUp => break false,
                Stop::Control(mail) => self.control(id, &mail, now),
                Stop::Waiting => {
                    self.dispatch(id, now);
                    let Some(instance) = self.residents.get_mut(id) else { return };
                    if instance.has_ended() {
                        return;
                    }
                    instance.evaluation.end_turn();
                    if !instance.arrivals.has_answer() {
                        break false;
                    }
                }
                Stop::Ending => {
                    self.dispatch(id, now);
                    let Some(instance) = self.residents.get_mut(id) else { return };
                    instance.evaluation.end_turn();
                    break false;
                }
                Stop::Ended => {
                    self.dispatch(id, now);
                    self.finish(id, Children::Cancelled, now);
                    return;
                }
                Stop::GraceIsOver(reason) => return self.cut_short(id, reason, now),
                Stop::Nondeterminism(mismatch) => return self.nondeterministic(id, mismatch, now),
            }
        };
        self.end_turn(id, is_used_up, now);
    }

    /// Evaluates an instance until its turn is used up or something else must be done.
    fn evaluate(&mut self, id: &Arc<str>, turn: &mut Turn, now: i64) -> Stop {
        let Some(instance) = self.residents.get_mut(id) else { return Stop::Gone };
        if turn.answers == ANSWERS {
            instance.residency.begin_turn();
        }
        let holds_end = self.outbox.has(id);
        while turn.answers > 0 {
            turn.answers -= 1;
            let used = self.scheduler.fuel - turn.before;
            if used >= SLICE && !fault::is_in(Fault::TurnsOfManySlices) {
                return Stop::UsedUp;
            }
            if instance.is_live() {
                if instance.has_ended() {
                    return Stop::Gone;
                }
                let held_up = instance.is_held_up() || !self.goes_on;
                if (held_up || instance.can_be_ended())
                    && let Some(mail) = instance.arrivals.mail.control.pop_front()
                {
                    return Stop::Control(mail);
                }
                if held_up {
                    return Stop::HeldUp;
                }
            }
            let advance = instance.advance(SLICE, now, holds_end, &mut |_, _| ());
            self.scheduler.spend(instance.evaluation.take_spent());
            match advance {
                Advance::More => {
                    instance.evaluation.begin_turn();
                    instance.residency.goes_on();
                }
                Advance::OutOfFuel => return Stop::UsedUp,
                Advance::Waiting => return Stop::Waiting,
                Advance::Ending => return Stop::Ending,
                Advance::Ended => return Stop::Ended,
                Advance::GraceIsOver(reason) => return Stop::GraceIsOver(reason),
                Advance::Nondeterminism(mismatch) => return Stop::Nondeterminism(mismatch),
            }
        }
        Stop::UsedUp
    }

    /// Ends the turn of an instance. If the turn was used up, the instance wants another one;
    /// otherwise it waits.
    fn end_turn(&mut self, id: &Arc<str>, is_used_up: bool, now: i64) {
        let Some(mut instance) = self.residents.instances.get_mut(id) else { return };
        // An evaluation that takes longer than a turn can be terminated between turns.
        instance.residency.end_turn(is_used_up);
        if instance.is_live() {
            if !instance.is_held_up() && self.goes_on && !instance.is_seen_to() {
                self.dispatch(id, now);
                self.changed.push(id.clone());
                let Some(same) = self.residents.instances.get_mut(id) else { return };
                instance = same;
            } else {
                self.changed.push(id.clone());
            }
        }
        take_mail(id, instance, &mut self.batch);
        if is_used_up {
            self.scheduler.wake(id, instance, &self.uses);
            return;
        }
        let is_active = instance.is_active();
        if instance.listed.replace(is_active) != Some(is_active) {
            match is_active {
                true => self.active.insert(id.clone()),
                false => self.active.remove(id),
            };
        }
        self.residents.parked.push(id, &mut instance.residency);
        if self.goes_on && instance.may_only_wait() {
            self.break_circle(id);
        }
    }

    /// Stops an instance whose replay differs from its history. It can't go on, but it can be
    /// terminated.
    fn nondeterministic(&mut self, id: &Arc<str>, mismatch: Mismatch, now: i64) {
        let Some(instance) = self.residents.get_mut(id) else { return };
        if let Some(mail) = instance.arrivals.mail.take_end() {
            self.control(id, &mail, now);
            return;
        }
        let outcome = Ending::Nondeterminism(mismatch);
        self.emit(Leaving::Ended { instance: id.clone(), outcome, told: false });
        self.stop(id);
    }

    /// Answers a request for `status`.
    pub(super) fn status(&mut self, step: StepId, record: Option<&InstanceRecord>, now: i64) {
        let Address::Instance(asker) = &step.owner else { return };
        let result = match record {
            Some(record) => Ok(status_of(record)),
            None => {
                let asker = self.residents.get(asker);
                let open = asker.and_then(|asker| asker.evaluation.open.get(&step.seq));
                Err(unknown(&open.map(|open| first_text(&open.request.args)).unwrap_or_default()))
            }
        };
        self.answer(step, result, Vec::new(), now);
    }

    // ---- what comes back

    /// Passes an answer, which came at `time`, to its request.
    pub(super) fn answer(
        &mut self,
        step: StepId,
        result: Result<Data, ErrorData>,
        sends: Vec<Request>,
        time: i64,
    ) {
        let now = self.scheduler.now;
        let Address::Instance(id) = step.owner else { return };
        let Some(instance) = self.residents.get_mut(&id) else { return };
        if instance.execution() != (step.life, step.execution) {
            return;
        }
        // Answers to attempts that were given up, and second answers to the same step, are dropped.
        let Some(open) = instance
            .evaluation
            .open
            .get_mut(step.seq)
            .filter(|open| open.dispatched && (open.round, open.attempt) == (step.round, step.attempt))
        else {
            return;
        };
        self.scheduler.clear_timer(&id, step.seq);
        open.dispatched = false;
        let seed = |open: &Open| seed(&id, step.execution, open.request.seq);
        let again = result.as_ref().err().and_then(|error| open.again(error, seed(open), now));
        let asks = open.policy().asks;
        let result = match (result, again) {
            (Err(error), Some(again)) => {
                let verdict = if asks { instance.evaluation.judge(step.seq, &error) } else { Ok(true) };
                if verdict == Ok(true) {
                    instance.retry(step.seq, error, again, now);
                    let suspended = instance.is_suspended();
                    self.changed.push(id.clone());
                    if !suspended {
                        self.dispatch(&id, now);
                    }
                    return;
                }
                Err(verdict.err().unwrap_or(error))
            }
            (result, _) => result,
        };
        let answer = Delivery { seq: step.seq, result, sends, came: None };
        if instance.is_suspended() && !fault::is_in(Fault::SuspensionForgets) {
            return self.keep_answer(&id, answer, time, now);
        }
        let Delivery { seq, result, sends, .. } = answer;
        instance.arrivals.deliver(seq, result, sends, time);
        self.scheduler.wake(&id, instance, &self.uses);
    }

    /// Stores an answer that the instance does not consume now, and sends the activity's messages.
    pub(super) fn keep_answer(&mut self, id: &Arc<str>, answer: Delivery, time: i64, now: i64) {
        let Delivery { seq, result, sends, .. } = answer;
        let Some(instance) = self.residents.get(id) else { return };
        let (life, execution) = instance.execution();
        let (from, root) = (instance.step_key(seq), instance.root.clone());
        if !sends.is_empty() {
            let sender = Sender::of(instance, seq);
            self.send_all(&sender, sends, now);
        }
        let message = Message::Answer { life, execution, seq, result };
        self.send_at(time, Address::Instance(id.clone()), from, root, None, message);
    }

    /// Sends a timeout for a request that is answered by a message. The timeout is a message too,
    /// so that it is in the store before its consequences.
    fn too_late(&mut self, id: &Arc<str>, seq: u64, due: i64, error: ErrorData) {
        let Some(instance) = self.residents.get(id) else { return };
        let (life, execution) = instance.execution();
        let message = Message::Answer { life, execution, seq, result: Err(error) };
        let (from, root) = (instance.step_key(seq), instance.root.clone());
        self.send_at(due, Address::Instance(id.clone()), from, root, None, message);
    }

    /// Handles a timer of an instance that was due at `due`.
    pub(super) fn due(&mut self, id: &Arc<str>, life: u64, seq: u64, timer: Timer, due: i64) {
        let now = self.scheduler.now;
        let Some(instance) = self.residents.get_mut(id) else {
            self.fetch(Address::Instance(id.clone()));
            return;
        };
        if instance.record.life != life {
            return;
        }
        let Some(open) = instance.evaluation.open.get(&seq) else {
            if timer == Timer::Begin {
                self.begin_if_due(id);
            }
            return;
        };
        match timer {
            // This timer is of no request.
            Timer::Begin => {}
            Timer::Sleep => {
                let step = StepId::of(id, &instance.record, open);
                self.answer(step, Ok(Data::null()), Vec::new(), due);
            }
            Timer::Timeout => {
                let open = open.clone();
                self.timed_out(id, seq, &open, due);
                self.wake(id);
            }
            Timer::Retry => {
                instance.evaluation.agenda.add(seq);
                if !instance.is_suspended() {
                    self.dispatch(id, now);
                }
            }
        }
    }

    /// Lets an instance begin that was started for a later time, or sets the timer for it.
    pub(super) fn begin_if_due(&mut self, id: &Arc<str>) {
        let Some(instance) = self.residents.get_mut(id).filter(|_| self.goes_on) else { return };
        let Status::Scheduled { due, suspended: false } = instance.record.status else { return };
        if due > self.scheduler.now {
            self.scheduler.set_timer(due, id, instance.record.life, NO_REQUEST, Timer::Begin);
            return;
        }
        instance.record.status = Status::Running;
        instance.record_changed = true;
        self.changed.push(id.clone());
        self.wake(id);
    }

    /// Handles a request without an answer in time. Its time was over at `due`.
    fn timed_out(&mut self, id: &Arc<str>, seq: u64, open: &Open, due: i64) {
        let Some(instance) = self.residents.get(id) else { return };
        let after = format::duration(open.policy().timeout.unwrap_or(0));
        match &open.request.what {
            RequestKind::Activity { name, .. } => {
                let step = StepId::of(id, &instance.record, open);
                self.outputs.push(Output::Abandon { step: step.clone() });
                let after = format::duration(open.deadline().map_or(0, |(_, after)| after));
                let more = [("activity", Value::str(name.as_str()))];
                let message = format!("`{name}` was not done within {after}");
                self.answer(step, Err(ErrorData::with("timeout", message, more)), Vec::new(), due);
            }
            // An answer that came in time counts.
            _ if instance.arrivals.mail.has_answer(instance.execution(), seq, due) => {}
            RequestKind::Orchestration { name, .. } => {
                let more = [("orchestration", Value::str(name.as_str()))];
                let message = format!("`{name}` was not done within {after}");
                self.too_late(id, seq, due, ErrorData::with("timeout", message, more));
                self.cancel_child(id, seq, open, "its caller did not wait longer");
            }
            _ => {
                let owner = instance.waiter(seq);
                let message = format!("the entities were not free within {after}");
                self.too_late(id, seq, due, ErrorData::new("timeout", message));
                self.withdraw(&owner, &entities(&open.request.args));
            }
        }
    }
}

/// Notes in a batch that messages of an instance were consumed.
pub(super) fn take_mail(id: &Arc<str>, instance: &mut Instance, batch: &mut Batch) {
    if instance.arrivals.taken.is_empty() {
        return;
    }
    let address = Address::Instance(id.clone());
    for mail in std::mem::take(&mut instance.arrivals.taken) {
        consume(&address, &mail, batch);
    }
}

/// Returns the seed of the jitter in a request's pauses, the same in every process and at any time.
pub(crate) fn seed(id: &str, execution: u32, seq: u64) -> u64 {
    xxh3_64(format!("{id} {execution} {seq}").as_bytes())
}

/// Returns the value of `status`.
pub fn status_of(record: &InstanceRecord) -> Data {
    let custom = record.custom.as_ref().map_or(Value::Null, Data::decode);
    let value = Value::record([
        ("id", Value::str(record.id.as_str())),
        ("function", Value::str(record.function.as_str())),
        ("status", Value::str(record.status.word())),
        ("custom", custom),
    ]);
    Data::encode(&value).unwrap_or_else(|_| Data::null())
}

/// Returns the error of an instance that does not exist.
pub(super) fn unknown(id: &str) -> ErrorData {
    ErrorData::with("unknown_instance", format!("there is no instance `{id}`"), [("id", Value::str(id))])
}

/// Returns the handle of an instance, as data.
pub(super) fn handle(id: &str) -> Data {
    Data::of(&instance_handle(id))
}

/// Returns the outcome of a status.
pub(super) fn outcome_of(status: &Status) -> Ending {
    match status.clone() {
        Status::Completed(value) => Ending::Completed(value),
        Status::Failed(error) => Ending::Failed(error),
        Status::Terminated(why) => Ending::Terminated(why),
        status @ (Status::Running | Status::Suspended | Status::Scheduled { .. }) => {
            sure(Err(status.word()), "an instance that is finished has ended")
        }
    }
}
