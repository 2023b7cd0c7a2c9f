//! Transactions that happen once: their attempts, and the end of one whose answer was lost.

use std::time::Duration;

use crate::machine::sql::{Plan, Statement};
use crate::machine::{Data, ErrorData, Value};

use super::super::data;
use super::error::{Tried, Trouble, TroubleKind};
use super::postgres::Wants;
use super::results::Answer;
use super::session::Session;
use super::{Begun, Place};

/// The attempts at a transaction that loses against others.
const ATTEMPTS: u32 = 8;
/// The first pause between attempts, which doubles.
const PAUSE: Duration = Duration::from_millis(10);

/// Runs statements as one transaction, and returns the list of their results.
pub(super) async fn run(
    place: &Place,
    statements: &[Statement],
    plan: &Plan,
    key: Option<&str>,
) -> Tried<Data> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        let trouble = match Session::open(place).await {
            Ok(mut session) => match once(&mut session, statements, plan, key).await {
                Ok(result) => return Ok(result),
                Err(trouble) => trouble,
            },
            Err(trouble) if attempt == 1 => return Err(trouble),
            Err(trouble) => trouble,
        };
        let again = match trouble.kind {
            TroubleKind::Conflict => attempt < ATTEMPTS,
            // With a key, the next attempt finds out what became of this one. The time limit of the
            // transaction ends this.
            TroubleKind::Lost => key.is_some(),
            TroubleKind::Failed => false,
        };
        if !again {
            return Err(trouble);
        }
        // Others must not keep losing against one another.
        let mut byte = [0];
        let _ = getrandom::fill(&mut byte);
        tokio::time::sleep(PAUSE * (1 << attempt.min(6)) / 2 + PAUSE * u32::from(byte[0]) / 256).await;
    }
}

async fn once(
    session: &mut Session,
    statements: &[Statement],
    plan: &Plan,
    key: Option<&str>,
) -> Tried<Data> {
    if let Begun::Before(result) = session.begin(plan, key).await? {
        decoded(&result)?;
        return Ok(result);
    }
    match all(session, statements, plan).await {
        Ok(result) => session.commit(plan, key, &result).await.map(|()| result),
        Err(trouble) => {
            if trouble.kind != TroubleKind::Lost {
                let _ = session.rollback().await;
            }
            Err(trouble)
        }
    }
}

async fn all(session: &mut Session, statements: &[Statement], plan: &Plan) -> Tried<Data> {
    let mut answers = Vec::with_capacity(statements.len());
    for (at, statement) in statements.iter().enumerate() {
        let answer = session.execute(statement, Wants::Either, &plan.limits).await;
        let answer = answer.map_err(|trouble| match statements.len() {
            1 => trouble,
            _ => Trouble { error: of_statement(&trouble.error, at + 1), ..trouble },
        })?;
        let count = answer.count();
        if let Some(wanted) = statement.rows.filter(|wanted| *wanted != count) {
            return Err(unexpected(at + 1, count, wanted).into());
        }
        answers.push(answer);
    }
    let results = answers.into_iter().map(Answer::into_value).collect();
    Ok(data(&Value::list(results))?)
}

/// Returns the error of a statement that gave or changed another number of rows than it must.
fn unexpected(number: usize, count: u64, wanted: u64) -> ErrorData {
    let message =
        format!("statement {number} has {count} rows, and not {wanted}; nothing of the transaction was done");
    let more = [
        ("statement", Value::Int(number as i64)),
        ("rows", Value::Int(count.cast_signed())),
        ("wanted", Value::Int(wanted.cast_signed())),
    ];
    ErrorData::with("unexpected_rows", message, more)
}

/// Returns an error with the number of its statement.
fn of_statement(error: &ErrorData, number: usize) -> ErrorData {
    let Value::Record(fields) = error.value.decode() else { return error.clone() };
    let mut fields = (*fields).clone();
    let message = match fields.get_str("message") {
        Some(Value::Str(message)) => format!("statement {number}: {}", message.as_str()),
        _ => return error.clone(),
    };
    fields.set(crate::machine::value::intern("message"), Value::str(message));
    fields.set(crate::machine::value::intern("statement"), Value::Int(number as i64));
    ErrorData { value: Data::of(&Value::Record(fields.into())), trace: error.trace.clone() }
}

/// Commits the transaction of an activity, and returns its result. When the connection is lost
/// meanwhile, another one finds out whether the commit was done.
pub(super) async fn commit(
    session: &mut Session,
    place: &Place,
    plan: &Plan,
    key: Option<&str>,
    result: Data,
) -> Tried<Data> {
    let trouble = match session.commit(plan, key, &result).await {
        Ok(()) => return Ok(result),
        Err(trouble) => trouble,
    };
    if trouble.kind != TroubleKind::Lost || key.is_none() {
        return Err(trouble);
    }
    loop {
        match was_committed(place, plan, key).await {
            Ok(Some(result)) => return Ok(result),
            Ok(None) => return Err(trouble),
            // The time limit of the transaction ends this.
            Err(other) if other.kind == TroubleKind::Lost => tokio::time::sleep(PAUSE * 20).await,
            Err(other) => return Err(other),
        }
    }
}

/// Returns the result of a transaction that was committed, or `None` if it was not.
async fn was_committed(place: &Place, plan: &Plan, key: Option<&str>) -> Tried<Option<Data>> {
    let mut other = Session::open(place).await?;
    match other.begin(plan, key).await? {
        Begun::Before(result) => {
            decoded(&result)?;
            Ok(Some(result))
        }
        Begun::Now => {
            other.rollback().await?;
            Ok(None)
        }
    }
}

/// Reads a result that a database kept.
pub(super) fn decoded(result: &Data) -> Result<Value, ErrorData> {
    result.try_decode().ok_or_else(|| {
        let message = "the table `durable_steps` has a result that can't be read".to_string();
        super::error::sql_error("XX001", message, Vec::new())
    })
}
