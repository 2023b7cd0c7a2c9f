//! The form in which entries are stored and sent.
//!
//! An answer with a postmark and a rewind with the greatest number before it have variants of their
//! own. So entries without these take no bytes for them, and entries of earlier versions are read
//! as they are.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::code::ProgramHash;
use crate::machine::{Cancellation, Data, ErrorData};
use crate::syntax::Place;

use super::entry::{Args, Entry, Postmark, RecordedRequest};

/// The variants are in the order of their numbers. A new one comes last.
#[derive(Serialize, Deserialize)]
enum Form<'a> {
    Requested { seq: u64, what: Cow<'a, RecordedRequest>, args: Cow<'a, Args>, place: Place, time: i64 },
    Answered { seq: u64, result: Cow<'a, Result<Data, ErrorData>>, time: i64 },
    Retried { seq: u64, error: Cow<'a, ErrorData>, again: i64, time: i64 },
    Cancelled { seq: u64, time: i64 },
    Ended { time: i64 },
    Terminated { time: i64 },
    Rewound { seq: u64, time: i64 },
    Renewed { seq: u64, time: i64 },
    Begun { seq: u64, time: i64 },
    Cancelling { what: Cow<'a, Cancellation>, time: i64 },
    Upgraded { from: ProgramHash, time: i64 },
    AnsweredByMail { seq: u64, result: Cow<'a, Result<Data, ErrorData>>, time: i64, came: Postmark },
    RewoundAfter { seq: u64, time: i64, used: u64 },
}

impl<'a> From<&'a Entry> for Form<'a> {
    fn from(entry: &'a Entry) -> Form<'a> {
        match entry {
            Entry::Requested { seq, what, args, place, time } => Form::Requested {
                seq: *seq,
                what: Cow::Borrowed(what),
                args: Cow::Borrowed(args),
                place: *place,
                time: *time,
            },
            Entry::Answered { seq, result, time, came: None } => {
                Form::Answered { seq: *seq, result: Cow::Borrowed(result), time: *time }
            }
            Entry::Answered { seq, result, time, came: Some(came) } => {
                Form::AnsweredByMail { seq: *seq, result: Cow::Borrowed(result), time: *time, came: *came }
            }
            Entry::Retried { seq, error, again, time } => {
                Form::Retried { seq: *seq, error: Cow::Borrowed(error), again: *again, time: *time }
            }
            Entry::Cancelled { seq, time } => Form::Cancelled { seq: *seq, time: *time },
            Entry::Ended { time } => Form::Ended { time: *time },
            Entry::Terminated { time } => Form::Terminated { time: *time },
            Entry::Rewound { seq, time, used: None } => Form::Rewound { seq: *seq, time: *time },
            Entry::Rewound { seq, time, used: Some(used) } => {
                Form::RewoundAfter { seq: *seq, time: *time, used: *used }
            }
            Entry::Renewed { seq, time } => Form::Renewed { seq: *seq, time: *time },
            Entry::Begun { seq, time } => Form::Begun { seq: *seq, time: *time },
            Entry::Cancelling { what, time } => {
                Form::Cancelling { what: Cow::Borrowed(&**what), time: *time }
            }
            Entry::Upgraded { from, time } => Form::Upgraded { from: *from, time: *time },
        }
    }
}

impl From<Form<'_>> for Entry {
    fn from(form: Form<'_>) -> Entry {
        match form {
            Form::Requested { seq, what, args, place, time } => {
                Entry::Requested { seq, what: what.into_owned(), args: args.into_owned(), place, time }
            }
            Form::Answered { seq, result, time } => {
                Entry::Answered { seq, result: result.into_owned(), time, came: None }
            }
            Form::AnsweredByMail { seq, result, time, came } => {
                Entry::Answered { seq, result: result.into_owned(), time, came: Some(came) }
            }
            Form::Retried { seq, error, again, time } => {
                Entry::Retried { seq, error: error.into_owned(), again, time }
            }
            Form::Cancelled { seq, time } => Entry::Cancelled { seq, time },
            Form::Ended { time } => Entry::Ended { time },
            Form::Terminated { time } => Entry::Terminated { time },
            Form::Rewound { seq, time } => Entry::Rewound { seq, time, used: None },
            Form::RewoundAfter { seq, time, used } => Entry::Rewound { seq, time, used: Some(used) },
            Form::Renewed { seq, time } => Entry::Renewed { seq, time },
            Form::Begun { seq, time } => Entry::Begun { seq, time },
            Form::Cancelling { what, time } => Entry::Cancelling { what: Box::new(what.into_owned()), time },
            Form::Upgraded { from, time } => Entry::Upgraded { from, time },
        }
    }
}

impl Serialize for Entry {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        Form::from(self).serialize(to)
    }
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Entry, D::Error> {
        Form::deserialize(from).map(Entry::from)
    }
}
