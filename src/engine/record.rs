//! What is kept of an instance beside its history.

use serde::{Deserialize, Serialize};

use crate::code::ProgramHash;
use crate::machine::{Data, ErrorData, child_id, later_child_id};
use crate::permissions::Permissions;

use super::address::{LifeId, Waiter};
use super::fault::{self, Fault};
use super::stored;

/// Written when an instance begins and ends, and when one of these changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InstanceRecord {
    pub id: String,
    /// The life of its id. No two instances of a store have the same id and the same life.
    pub life: u64,
    /// The program it began with, and runs to its end.
    pub program: ProgramHash,
    /// The file that the program was read from, as it was named then.
    pub file: String,
    /// What it runs: `script`, or the name of an orchestration.
    pub function: String,
    /// The arguments, a list.
    pub args: Data,
    /// The arguments that its first execution had, once it has begun anew with others.
    pub begun_with: Option<Data>,
    /// When it began, in nanoseconds since 1970.
    pub created: i64,
    /// The instance that called it.
    pub parent: Option<LifeId>,
    /// The instance that called or started it under an automatic id; it is purged with that one.
    pub owner: Option<LifeId>,
    /// The instance that all this began with: itself, its caller's, or that of who started it.
    pub root: String,
    /// How often it has continued as new.
    pub execution: u32,
    /// Which attempt of a call with `retry` it is, from 1.
    pub attempt: u32,
    /// What it said of itself by `set_status`.
    pub custom: Option<Data>,
    pub status: Status,
    /// Who is told of its end.
    pub waiters: Vec<Waiter>,
    /// The requests that are asked again when it goes on, since it was rewound to before their answers.
    pub rewound: Vec<u64>,
    /// When it ended.
    pub ended: Option<i64>,
    /// The number of its history's first chunk.
    pub first: u64,
    /// At the end: the number after its history's last chunk.
    pub chunks: u64,
    /// What it may do outside, whichever process runs it: a process may allow less, and never more.
    pub permissions: Permissions,
}

/// Where an instance is in its life.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Status {
    Running,
    /// Held up until somebody resumes it.
    Suspended,
    Completed(Data),
    Failed(ErrorData),
    /// Ended by somebody, who said why.
    Terminated(Data),
}

/// [`Status`] without its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Lifecycle {
    Running,
    /// Held up until somebody resumes it.
    Suspended,
    Completed,
    Failed,
    Terminated,
}

impl Lifecycle {
    /// One word.
    pub fn word(self) -> &'static str {
        match self {
            Lifecycle::Running => "running",
            Lifecycle::Suspended => "suspended",
            Lifecycle::Completed => "completed",
            Lifecycle::Failed => "failed",
            Lifecycle::Terminated => "terminated",
        }
    }
}

impl Status {
    /// The status without its values.
    pub fn lifecycle(&self) -> Lifecycle {
        match self {
            Status::Running => Lifecycle::Running,
            Status::Suspended => Lifecycle::Suspended,
            Status::Completed(_) => Lifecycle::Completed,
            Status::Failed(_) => Lifecycle::Failed,
            Status::Terminated(_) => Lifecycle::Terminated,
        }
    }

    /// One word.
    pub fn word(&self) -> &'static str {
        self.lifecycle().word()
    }

    /// Whether it is at its end.
    pub fn is_ended(&self) -> bool {
        !matches!(self, Status::Running | Status::Suspended)
    }

    /// What those get who wait for the instance; none while it has not ended.
    pub fn result(&self, id: &str) -> Option<Result<Data, ErrorData>> {
        match self {
            Status::Running | Status::Suspended => None,
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
    /// The record of an instance that begins at `now` of its own accord: nobody called it. The store gives it its life.
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

    /// The key of a step that is the same for each of its attempts, and of no other step of any life.
    pub(super) fn step_key(&self, seq: u64) -> String {
        // An operation on an entity makes one, so it is put together without `format!`.
        let mut key = String::with_capacity(self.id.len() + 64);
        key.push_str(&self.id);
        key.push('-');
        push_digits(&mut key, self.created.cast_unsigned(), 16);
        if self.life > 0 {
            key.push('.');
            push_digits(&mut key, self.life, 16);
        }
        // What began before lives were counted keeps its keys.
        if (self.life, self.execution) != (0, 0) {
            key.push('.');
            push_digits(&mut key, self.execution.into(), 10);
        }
        key.push('-');
        push_digits(&mut key, seq, 10);
        key
    }

    /// Who waits for the answer to a request.
    pub(super) fn waiter(&self, seq: u64) -> Waiter {
        Waiter { instance: self.id.clone(), life: self.life, execution: self.execution, seq }
    }

    /// The id of the child that a request calls or starts, unless it says one.
    pub(super) fn child_id(&self, seq: u64) -> String {
        match self.execution {
            0 => child_id(&self.id, seq),
            // What began before lives were counted keeps the ids of its children.
            execution if self.life == 0 => child_id(&format!("{}.{execution}", self.id), seq),
            execution => later_child_id(&self.id, execution, seq),
        }
    }

    /// Whether it may be rewound, by itself or with its caller: then what comes for it is kept.
    pub(super) fn keeps_mail(&self) -> bool {
        match self.status {
            Status::Failed(_) => !fault::is_in(Fault::FailedDropsAnswers),
            Status::Terminated(_) => self.parent.is_some(),
            _ => false,
        }
    }

    /// The arguments that it was called or started with; none when that is not known any more.
    pub fn first_args(&self) -> Option<&Data> {
        match (&self.begun_with, self.execution) {
            (Some(args), _) => Some(args),
            (None, 0) => Some(&self.args),
            // An earlier version did not keep them.
            (None, _) => None,
        }
    }

    /// Whether this record and a later one of the same id have one history. An instance that has begun
    /// anew or was rewound in between has another history.
    pub(super) fn has_same_history(&self, later: &InstanceRecord) -> bool {
        (self.life, self.execution, self.first) == (later.life, later.execution, later.first)
            && self.rewound == later.rewound
    }

    /// Its id and its life.
    pub fn life_id(&self) -> LifeId {
        LifeId { id: self.id.clone(), life: self.life }
    }

    pub fn encode(&self) -> Vec<u8> {
        stored::encode(self)
    }

    pub fn decode(bytes: &[u8]) -> Option<InstanceRecord> {
        stored::decode(bytes)
    }
}

/// Appends a number in a base of up to 16.
fn push_digits(out: &mut String, mut n: u64, base: u64) {
    let mut digits = [0; 64];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b"0123456789abcdef"[(n % base) as usize];
        n /= base;
        if n == 0 {
            break;
        }
    }
    out.extend(digits[at..].iter().map(|digit| char::from(*digit)));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys of steps are in stores: they stay as they were.
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
