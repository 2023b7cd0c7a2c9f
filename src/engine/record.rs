//! The record of an instance: everything that is stored of it beside its history.

use serde::{Deserialize, Serialize};

use crate::code::ProgramHash;
use crate::machine::{Data, ErrorData, child_id, later_child_id};
use crate::permissions::Permissions;

use super::address::{LifeId, Waiter};
use super::fault::{self, Fault};
use super::{keys, stored};

/// The record of an instance, written when the instance begins and ends, and when a field changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InstanceRecord {
    pub id: String,
    /// The life of the id. No two instances of a store have the same id and the same life.
    pub life: u64,
    /// The program of the instance, from its beginning to its end.
    pub program: ProgramHash,
    /// The name of the program's file when the instance began.
    pub file: String,
    /// The function that the instance runs: `script`, or the name of an orchestration.
    pub function: String,
    /// The arguments, a list.
    pub args: Data,
    /// The arguments of the first execution, if a later execution has others.
    pub begun_with: Option<Data>,
    /// The time of its beginning, in nanoseconds since 1970.
    pub created: i64,
    /// The instance that called this one.
    pub parent: Option<LifeId>,
    /// The instance that called or started this one under an automatic id. They are purged
    /// together.
    pub owner: Option<LifeId>,
    /// The root: the instance itself, or the root of its caller or starter.
    pub root: String,
    /// The number of times that the instance has continued as new.
    pub execution: u32,
    /// The number of the attempt of a call with `retry`, from 1.
    pub attempt: u32,
    /// The value that the instance set by `set_status`.
    pub custom: Option<Data>,
    pub status: Status,
    /// The requests that are told of the instance's end.
    pub waiters: Vec<Waiter>,
    /// The requests that are asked again when the instance resumes, because of a rewind.
    pub rewound: Vec<u64>,
    /// The time of its end, in nanoseconds since 1970.
    pub ended: Option<i64>,
    /// The number of the history's first chunk.
    pub first: u64,
    /// The number after the history's last chunk, once the instance has ended.
    pub chunks: u64,
    /// The permissions of the instance in every process. A process may allow less, and never more.
    pub permissions: Permissions,
}

/// The stage of an instance's life.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Status {
    Running,
    /// Stopped until somebody resumes the instance.
    Suspended,
    Completed(Data),
    Failed(ErrorData),
    /// Ended by somebody, with the reason given.
    Terminated(Data),
    /// Started, and not begun before `due`, in nanoseconds since 1970. While it is suspended, it
    /// does not begin at all.
    Scheduled {
        due: i64,
        suspended: bool,
    },
}

/// [`Status`] without its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Lifecycle {
    Running,
    /// Stopped until somebody resumes the instance.
    Suspended,
    Completed,
    Failed,
    Terminated,
    /// Started, and to begin at a later time.
    Scheduled,
}

impl Lifecycle {
    /// Returns the lifecycle in one word.
    pub fn word(self) -> &'static str {
        match self {
            Lifecycle::Running => "running",
            Lifecycle::Suspended => "suspended",
            Lifecycle::Completed => "completed",
            Lifecycle::Failed => "failed",
            Lifecycle::Terminated => "terminated",
            Lifecycle::Scheduled => "scheduled",
        }
    }
}

impl Status {
    /// The status without its values.
    pub fn lifecycle(&self) -> Lifecycle {
        match self {
            Status::Running => Lifecycle::Running,
            Status::Suspended | Status::Scheduled { suspended: true, .. } => Lifecycle::Suspended,
            Status::Scheduled { .. } => Lifecycle::Scheduled,
            Status::Completed(_) => Lifecycle::Completed,
            Status::Failed(_) => Lifecycle::Failed,
            Status::Terminated(_) => Lifecycle::Terminated,
        }
    }

    /// Returns the status in one word.
    pub fn word(&self) -> &'static str {
        self.lifecycle().word()
    }

    /// Whether the instance has ended.
    pub fn is_ended(&self) -> bool {
        !matches!(self, Status::Running | Status::Suspended | Status::Scheduled { .. })
    }

    /// Whether the instance is suspended.
    pub fn is_suspended(&self) -> bool {
        self.lifecycle() == Lifecycle::Suspended
    }

    /// Returns when the instance begins, if it has not begun.
    pub fn begins(&self) -> Option<i64> {
        match self {
            Status::Scheduled { due, .. } => Some(*due),
            _ => None,
        }
    }

    /// Returns the result for those that wait for the instance; `None` if it has not ended.
    pub fn result(&self, id: &str) -> Option<Result<Data, ErrorData>> {
        match self {
            Status::Running | Status::Suspended | Status::Scheduled { .. } => None,
            Status::Completed(value) => Some(Ok(value.clone())),
            Status::Failed(error) => Some(Err(error.clone())),
            Status::Terminated(why) => {
                let why = why.decode();
                let message = match &why {
                    crate::machine::Value::Null => format!("{id} was terminated"),
                    why => format!("{id} was terminated: {}", crate::machine::format::display(why)),
                };
                Some(Err(ErrorData::with("terminated", message, [("why", why)])))
            }
        }
    }
}

impl InstanceRecord {
    /// Returns the record of an instance that begins at `now` without a caller. The engine sets the
    /// life.
    pub fn new(
        id: &str,
        program: ProgramHash,
        file: &str,
        function: &str,
        args: Data,
        now: i64,
    ) -> InstanceRecord {
        InstanceRecord {
            id: id.into(),
            life: 0,
            program,
            file: file.into(),
            function: function.into(),
            args,
            begun_with: None,
            created: now,
            parent: None,
            owner: None,
            root: id.into(),
            execution: 0,
            attempt: 1,
            custom: None,
            status: Status::Running,
            waiters: Vec::new(),
            rewound: Vec::new(),
            ended: None,
            first: 0,
            chunks: 0,
            permissions: Permissions::default(),
        }
    }

    /// Lets the instance begin at a later time, if there is one.
    pub fn begins_later(&mut self, due: Option<i64>) {
        if let Some(due) = due {
            self.status = Status::Scheduled { due, suspended: false };
        }
    }

    /// Returns the key of a step: the same for all attempts at the step, and different for all
    /// other steps of all lives.
    pub(crate) fn step_key(&self, seq: u64) -> String {
        // Each operation on an entity makes a key, so `format!` would cost too much here.
        let mut key = String::with_capacity(self.id.len() + 64);
        key.push_str(&self.id);
        key.push('-');
        push_hex(&mut key, self.created.cast_unsigned());
        if self.life > 0 {
            key.push('.');
            push_hex(&mut key, self.life);
        }
        // Instances from before lives were counted keep their keys.
        if (self.life, self.execution) != (0, 0) {
            key.push('.');
            push_decimal(&mut key, self.execution.into());
        }
        key.push('-');
        push_decimal(&mut key, seq);
        key
    }

    /// Returns the waiter for the answer to a request.
    pub fn waiter(&self, seq: u64) -> Waiter {
        Waiter { instance: self.id.clone(), life: self.life, execution: self.execution, seq }
    }

    /// Returns the id of the child that a request calls or starts without naming an id.
    pub fn child_id(&self, seq: u64) -> String {
        match self.execution {
            0 => child_id(&self.id, seq),
            // Instances from before lives were counted keep the ids of their children.
            execution if self.life == 0 => child_id(&format!("{}.{execution}", self.id), seq),
            execution => later_child_id(&self.id, execution, seq),
        }
    }

    /// Whether the instance may be rewound, by itself or with its caller. If so, messages for it
    /// are kept.
    pub(super) fn keeps_mail(&self) -> bool {
        match self.status {
            Status::Failed(_) => !fault::is_in(Fault::FailedDropsAnswers),
            Status::Terminated(_) => self.parent.is_some(),
            _ => false,
        }
    }

    /// Returns the arguments of the first execution; `None` if they are not known any more.
    pub fn first_args(&self) -> Option<&Data> {
        match (&self.begun_with, self.execution) {
            (Some(args), _) => Some(args),
            (None, 0) => Some(&self.args),
            // Earlier versions did not keep the first arguments.
            (None, _) => None,
        }
    }

    /// Whether this record and a later one of the same id have one history. An instance that has
    /// begun anew or was rewound in between has another history.
    pub(super) fn has_same_history(&self, later: &InstanceRecord) -> bool {
        (self.life, self.execution, self.first) == (later.life, later.execution, later.first)
            && self.rewound == later.rewound
    }

    /// Returns the id together with the life.
    pub fn life_id(&self) -> LifeId {
        LifeId { id: self.id.clone(), life: self.life }
    }

    pub fn encode(&self) -> Vec<u8> {
        stored::encode(self)
    }

    pub fn decode(bytes: &[u8]) -> Option<InstanceRecord> {
        stored::decode(bytes).filter(InstanceRecord::is_sound)
    }

    /// Whether the history of an ended instance ends after its beginning, and all numbers have room for
    /// more.
    pub fn is_sound(&self) -> bool {
        (self.ended.is_none() || self.first <= self.chunks)
            && self.chunks.max(self.first).max(self.life) <= keys::MOST
            && self.execution.max(self.attempt) <= u32::MAX / 2
    }
}

/// Appends a number in hexadecimal digits.
fn push_hex(out: &mut String, mut n: u64) {
    let mut digits = [0; 16];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b"0123456789abcdef"[(n & 15) as usize];
        n >>= 4;
        if n == 0 {
            break;
        }
    }
    out.push_str(std::str::from_utf8(&digits[at..]).unwrap_or_default());
}

/// Appends a number in decimal digits.
fn push_decimal(out: &mut String, n: u64) {
    out.push_str(itoa::Buffer::new().format(n));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The keys of steps are in stores, so they must not change.
    #[test]
    fn keys_of_steps_are_as_they_were() {
        let args = Data::null();
        let record = InstanceRecord::new(
            "order-17",
            ProgramHash([0; 32]),
            "a.df",
            "f",
            args,
            1_700_000_000_123_456_789,
        );
        let of = |life, execution| InstanceRecord { life, execution, ..record.clone() };
        assert_eq!(of(0, 0).step_key(0), "order-17-17979cfe3d85cd15-0");
        assert_eq!(of(0, 3).step_key(9), "order-17-17979cfe3d85cd15.3-9");
        assert_eq!(of(26, 0).step_key(10), "order-17-17979cfe3d85cd15.1a.0-10");
        for (life, execution, seq) in [(1, 0, 7), (u64::MAX, u32::MAX, u64::MAX), (16, 10, 100)] {
            let created = record.created;
            let wanted = format!("order-17-{created:x}.{life:x}.{execution}-{seq}");
            assert_eq!(of(life, execution).step_key(seq), wanted);
        }
        let early = InstanceRecord { created: -1, life: 0, ..record };
        assert_eq!(early.step_key(1), format!("order-17-{:x}-1", -1_i64));
    }
}
