//! The parts of an instance's record that lists and followers need, read without the rest.
//!
//! A list of a hundred thousand instances reads as many records. Most of a record is of no interest
//! there, and texts are borrowed.

use serde::Deserialize;

use crate::code::ProgramHash;
use crate::machine::ErrorData;

use super::address::Waiter;
use super::record::{InstanceRecord, Lifecycle};
use super::stored;

/// The parts of a record.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Head<'a> {
    pub program: ProgramHash,
    pub function: &'a str,
    pub lifecycle: Lifecycle,
    pub created: i64,
    pub ended: Option<i64>,
    pub parent: Option<&'a str>,
}

/// The beginning of a stored record: the fields of [`InstanceRecord`] in their order.
#[derive(Deserialize)]
struct Form<'a> {
    #[serde(borrow)]
    _id: &'a str,
    _life: u64,
    program: ProgramHash,
    #[serde(borrow)]
    _file: &'a str,
    #[serde(borrow)]
    function: &'a str,
    #[serde(borrow)]
    _args: &'a [u8],
    #[serde(borrow)]
    _begun_with: Option<&'a [u8]>,
    created: i64,
    #[serde(borrow)]
    parent: Option<LifeForm<'a>>,
    #[serde(borrow)]
    _owner: Option<LifeForm<'a>>,
    #[serde(borrow)]
    _root: &'a str,
    _execution: u32,
    _attempt: u32,
    #[serde(borrow)]
    _custom: Option<&'a [u8]>,
    #[serde(borrow)]
    status: StatusForm<'a>,
    _waiters: Vec<Waiter>,
    _rewound: Vec<u64>,
    ended: Option<i64>,
}

#[derive(Deserialize)]
struct LifeForm<'a> {
    #[serde(borrow)]
    id: &'a str,
    _life: u64,
}

/// The forms of [`super::record::Status`], in their order.
#[derive(Deserialize)]
enum StatusForm<'a> {
    Running,
    Suspended,
    Completed { _value: &'a [u8] },
    Failed { _error: ErrorData },
    Terminated { _why: &'a [u8] },
    Scheduled { _due: i64, suspended: bool },
}

impl StatusForm<'_> {
    fn lifecycle(&self) -> Lifecycle {
        match self {
            StatusForm::Running => Lifecycle::Running,
            StatusForm::Suspended | StatusForm::Scheduled { suspended: true, .. } => Lifecycle::Suspended,
            StatusForm::Completed { .. } => Lifecycle::Completed,
            StatusForm::Failed { .. } => Lifecycle::Failed,
            StatusForm::Terminated { .. } => Lifecycle::Terminated,
            StatusForm::Scheduled { .. } => Lifecycle::Scheduled,
        }
    }
}

/// Gives the head of a stored record to `take`. Returns `None` if the record is not readable.
pub(super) fn with_head<R>(bytes: &[u8], take: impl FnOnce(Head<'_>) -> R) -> Option<R> {
    if let Some(form) = stored::beginning::<Form>(bytes) {
        let lifecycle = form.status.lifecycle();
        let parent = form.parent.map(|parent| parent.id);
        let Form { program, function, created, ended, .. } = form;
        return Some(take(Head { program, function, lifecycle, created, ended, parent }));
    }
    // The record is of an earlier version.
    let record = InstanceRecord::decode(bytes)?;
    Some(take(Head {
        program: record.program,
        function: &record.function,
        lifecycle: record.status.lifecycle(),
        created: record.created,
        ended: record.ended,
        parent: record.parent.as_ref().map(|parent| parent.id.as_str()),
    }))
}

#[cfg(test)]
mod tests {
    use super::super::address::LifeId;
    use super::super::record::Status;
    use super::*;
    use crate::machine::{Data, Value};

    /// The head is what the whole record has, whatever the other fields hold.
    #[test]
    fn a_head_is_that_of_its_record() {
        let data = |text: &str| Data::of(&Value::str(text));
        let life = |id: &str| LifeId { id: id.into(), life: 7 };
        let mut record =
            InstanceRecord::new("a:1", ProgramHash([200; 32]), "f.df", "order", data("args"), 1_700);
        let statuses = [
            Status::Running,
            Status::Suspended,
            Status::Completed(data("value")),
            Status::Failed(ErrorData::new("timeout", "message")),
            Status::Terminated(data("why")),
            Status::Scheduled { due: 99, suspended: false },
            Status::Scheduled { due: 99, suspended: true },
        ];
        let check = |record: &InstanceRecord| {
            let shown = with_head(&record.encode(), |head| {
                assert_eq!((head.program, head.function), (record.program, record.function.as_str()));
                assert_eq!(head.lifecycle, record.status.lifecycle());
                assert_eq!((head.created, head.ended), (record.created, record.ended));
                assert_eq!(head.parent, record.parent.as_ref().map(|parent| parent.id.as_str()));
            });
            assert!(shown.is_some(), "{record:?}");
            assert!(stored::beginning::<Form>(&record.encode()).is_some(), "it is read as a whole");
        };
        for status in statuses {
            record.status = status;
            check(&record);
            let full = InstanceRecord {
                life: 300,
                begun_with: Some(data("first")),
                parent: Some(life("a")),
                owner: Some(life("o")),
                execution: 3,
                attempt: 2,
                custom: Some(data("says")),
                waiters: vec![record.waiter(5)],
                rewound: vec![1, 2],
                ended: Some(-4),
                first: 1,
                chunks: 9,
                ..record.clone()
            };
            check(&full);
        }
        assert_eq!(with_head(b"nonsense", |_| ()), None);
    }
}
