//! Running instances: a slice of evaluation at a time, and the answers that come back.

use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use crate::machine::{Data, ErrorData, Request, RequestKind, Value, format, instance_handle};

use super::Status;
use super::address::Address;
use super::events::{Leaving, Outcome, Output, StepId};
use super::fault::{self, Fault};
use super::instance::{Advance, Delivery, first_text};
use super::message::Message;
use super::record::InstanceRecord;
use super::step::Engine;
use super::timers::Timer;

/// Fuel of one slice, in calls and repetitions. A turn ends when its slices have used it together.
const SLICE: u64 = 100_000;
/// Answers that one slice takes in.
const SLICE_ANSWERS: usize = 256;

impl Engine {
    pub(super) fn run_instance(&mut self, id: &Arc<str>, now: i64) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        instance.queued = false;
        let mut again = true;
        let before = self.fuel;
        for _ in 0..SLICE_ANSWERS {
            if self.fuel - before >= SLICE && !fault::is_in(Fault::TurnsOfManySlices) {
                break;
            }
            let Some(instance) = self.instances.get_mut(id) else { return };
            if instance.record.ended.is_some() && instance.is_live() {
                return;
            }
            if instance.is_live() {
                let held_up = instance.is_suspended() || !self.goes_on;
                if (held_up || instance.can_be_ended())
                    && let Some(mail) = instance.mail.control.pop_front()
                {
                    self.control(id, &mail, now);
                    continue;
                }
                if held_up {
                    again = false;
                    break;
                }
            }
            let holds_end = self.outbox.has(id);
            let advance = instance.advance(SLICE, now, holds_end, &mut |_, _| ());
            self.fuel = self.fuel.saturating_add(std::mem::take(&mut instance.spent));
            match advance {
                Advance::More => (instance.between, instance.computes) = (false, false),
                Advance::OutOfFuel => break,
                Advance::Waiting => {
                    self.dispatch(id, now);
                    let Some(instance) = self.instances.get_mut(id) else { return };
                    instance.between = true;
                    if !instance.has_answer() {
                        again = false;
                        break;
                    }
                }
                Advance::Ending => {
                    // Its end is no end before its lines are out.
                    self.dispatch(id, now);
                    let Some(instance) = self.instances.get_mut(id) else { return };
                    instance.between = true;
                    again = false;
                    break;
                }
                Advance::Ended => {
                    self.dispatch(id, now);
                    self.finish(id, true, now);
                    return;
                }
                Advance::Nondeterminism(mismatch) => {
                    // It can't go on, but it can be ended.
                    let Some(instance) = self.instances.get_mut(id) else { return };
                    if let Some(mail) = instance.mail.take_end() {
                        self.control(id, &mail, now);
                        return;
                    }
                    let outcome = Outcome::Nondeterminism(mismatch);
                    self.emit(Leaving::Ended { instance: id.clone(), outcome, told: false });
                    self.set_aside(id);
                    return;
                }
            }
        }
        let Some(instance) = self.instances.get_mut(id) else { return };
        // What takes longer than a slice can be ended in the middle.
        instance.computes = again;
        if instance.is_live() {
            if !instance.is_suspended() && self.goes_on {
                self.dispatch(id, now);
            }
            self.changed.push(id.clone());
        }
        self.take_mail(id);
        if again {
            self.wake(id);
            return;
        }
        let Some(instance) = self.instances.get(id) else { return };
        if instance.is_active() {
            self.active.insert(id.clone());
        } else {
            self.active.remove(id);
        }
        self.park(id);
        if self.goes_on {
            self.break_circle(id);
        }
    }

    /// Notes that mail was taken in.
    pub(super) fn take_mail(&mut self, id: &Arc<str>) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        if instance.taken.is_empty() {
            return;
        }
        let address = Address::Instance(id.clone());
        for mail in std::mem::take(&mut instance.taken) {
            self.taken(&address, &mail);
        }
    }

    /// An instance that can't go on, though it has not ended: what is sent to it waits.
    fn set_aside(&mut self, id: &Arc<str>) {
        self.left(id);
        if let Some(instance) = self.instances.remove(id)
            && !instance.mail.is_empty()
        {
            self.mailboxes.insert(id.clone(), instance.mail);
        }
        self.set_aside.insert(id.clone());
    }

    /// The answer to `status`.
    pub(super) fn status(&mut self, step: StepId, record: Option<&InstanceRecord>, now: i64) {
        let Address::Instance(asker) = &step.owner else { return };
        let result = match record {
            Some(record) => Ok(status_of(record)),
            None => {
                let open = self.instances.get(asker).and_then(|asker| asker.open.get(&step.seq));
                Err(unknown(&open.map(|open| first_text(&open.request.args)).unwrap_or_default()))
            }
        };
        self.answer(step, result, Vec::new(), now);
    }

    // ---- what comes back

    /// A step has its answer, which came at a time.
    pub(super) fn answer(
        &mut self,
        step: StepId,
        result: Result<Data, ErrorData>,
        sends: Vec<Request>,
        time: i64,
    ) {
        let now = self.now;
        let Address::Instance(id) = step.owner else { return };
        let Some(instance) = self.instances.get_mut(&id) else { return };
        if (instance.record.life, instance.record.execution) != (step.life, step.execution) {
            return;
        }
        // An answer to an attempt that was given up, or a second answer to the same step, is dropped.
        let Some(open) = instance
            .open
            .get_mut(step.seq)
            .filter(|open| open.dispatched && (open.round, open.attempt) == (step.round, step.attempt))
        else {
            return;
        };
        self.timers.clear(&(id.clone(), step.seq));
        open.dispatched = false;
        match result {
            Err(error) if let Some(again) = open.again(&error, seed(&id, step.execution, step.seq), now) => {
                if open.policy.asks {
                    match instance.judge(step.seq, &error) {
                        Ok(true) => {}
                        verdict => {
                            let error = verdict.err().unwrap_or(error);
                            self.come(&id, Delivery { seq: step.seq, result: Err(error), sends }, time, now);
                            return;
                        }
                    }
                }
                instance.retry(step.seq, error, again, now);
                let suspended = instance.is_suspended();
                self.changed.push(id.clone());
                if !suspended {
                    self.dispatch(&id, now);
                }
            }
            result => self.come(&id, Delivery { seq: step.seq, result, sends }, time, now),
        }
    }

    /// The answer to a step has come at a time.
    fn come(&mut self, id: &Arc<str>, answer: Delivery, time: i64, now: i64) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        if instance.is_suspended() && !fault::is_in(Fault::SuspensionForgets) {
            return self.keep_answer(id, answer, time, now);
        }
        let Delivery { seq, result, sends } = answer;
        instance.deliver(seq, result, sends, time);
        self.wake(id);
    }

    /// An answer that its instance does not take in now waits for it in the store. What an activity sent goes out.
    pub(super) fn keep_answer(&mut self, id: &Arc<str>, answer: Delivery, time: i64, now: i64) {
        let Delivery { seq, result, sends } = answer;
        let Some(instance) = self.instances.get(id) else { return };
        let InstanceRecord { life, execution, .. } = instance.record;
        let (from, root) = (instance.step_key(seq), instance.record.root.as_str().into());
        if let Some(sender) = self.sender(id, seq) {
            self.send_all(&sender, sends, now);
        }
        let message = Message::Answer { life, execution, seq, result };
        self.send_at(time, Address::Instance(id.clone()), from, root, None, message);
    }

    /// A request that is answered by a message was not answered in time. That it is too late is a message as well:
    /// it is in the store before, and not after, what follows from it.
    fn too_late(&mut self, id: &Arc<str>, seq: u64, due: i64, error: ErrorData) {
        let Some(instance) = self.instances.get(id) else { return };
        let InstanceRecord { life, execution, .. } = instance.record;
        let message = Message::Answer { life, execution, seq, result: Err(error) };
        let (from, root) = (instance.step_key(seq), instance.record.root.as_str().into());
        self.send_at(due, Address::Instance(id.clone()), from, root, None, message);
    }

    /// A timer of an instance was due at a time.
    pub(super) fn due(&mut self, id: &Arc<str>, life: u64, seq: u64, timer: Timer, due: i64) {
        let now = self.now;
        let Some(instance) = self.instances.get_mut(id) else {
            self.fetch(Address::Instance(id.clone()));
            return;
        };
        if instance.record.life != life {
            return;
        }
        let execution = instance.record.execution;
        let Some(open) = instance.open.get(&seq).cloned() else { return };
        let step = StepId::of(id, &instance.record, &open);
        let owner = instance.life_id();
        match timer {
            Timer::Sleep => self.answer(step, Ok(Data::null()), Vec::new(), due),
            Timer::Timeout => {
                let after = format::duration(open.policy.timeout.unwrap_or(0));
                match &open.request.what {
                    RequestKind::Activity { name, .. } => {
                        self.outputs.push(Output::Abandon { step: step.clone() });
                        let after = format::duration(open.deadline().map_or(0, |(_, after)| after));
                        let more = [("activity", Value::str(name.as_str()))];
                        let message = format!("`{name}` was not done within {after}");
                        self.answer(step, Err(ErrorData::with("timeout", message, more)), Vec::new(), due);
                    }
                    // An answer that has come in time counts.
                    _ if instance.mail.has_answer((life, execution), seq, due) => {}
                    RequestKind::Orchestration { name, .. } => {
                        let more = [("orchestration", Value::str(name.as_str()))];
                        let message = format!("`{name}` was not done within {after}");
                        self.too_late(id, seq, due, ErrorData::with("timeout", message, more));
                        self.terminate_child(id, seq, &open, "its caller did not wait longer");
                    }
                    _ => {
                        let message = format!("the entities were not free within {after}");
                        self.too_late(id, seq, due, ErrorData::new("timeout", message));
                        self.release(&owner);
                    }
                }
                self.wake(id);
            }
            Timer::Retry => {
                instance.undispatched.push(seq);
                if !instance.is_suspended() {
                    self.dispatch(id, now);
                }
            }
        }
    }
}

/// What the jitter of a request's pauses comes from: the same whoever asks, and whenever.
pub(crate) fn seed(id: &str, execution: u32, seq: u64) -> u64 {
    xxh3_64(format!("{id} {execution} {seq}").as_bytes())
}

/// What `status` gives.
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

/// The error of an instance that does not exist.
pub(super) fn unknown(id: &str) -> ErrorData {
    ErrorData::with("unknown_instance", format!("there is no instance `{id}`"), [("id", Value::str(id))])
}

/// The handle of an instance, as data.
pub(super) fn handle(id: &str) -> Data {
    Data::of(&instance_handle(id))
}

/// The status that an outcome shows.
pub(super) fn outcome_of(status: &Status) -> Outcome {
    match status.clone() {
        Status::Completed(value) => Outcome::Completed(value),
        Status::Failed(error) => Outcome::Failed(error),
        Status::Terminated(why) => Outcome::Terminated(why),
        Status::Running | Status::Suspended => Outcome::Completed(Data::null()),
    }
}
