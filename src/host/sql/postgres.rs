//! Statements and transactions on PostgreSQL.

use std::pin::pin;

use futures_util::TryStreamExt;
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use crate::machine::Data;
use crate::machine::sql::{Datum, Limits, Plan, Statement};

use super::error::{Tried, Trouble, TroubleKind, of_postgres, sql_error};
use super::pool::Lent;
use super::results::{Answer, Rows};
use super::values::{Cell, Param};
use super::{Begun, time_of};

/// What a statement is to give.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Wants {
    Rows,
    Count,
    /// The rows, if the statement has columns.
    Either,
}

/// Executes a statement on a connection.
pub(super) async fn execute(
    lent: &mut Lent,
    statement: &Statement,
    wants: Wants,
    limits: &Limits,
) -> Tried<Answer> {
    let (client, server) = lent.begins()?;
    match run(client, statement, wants, limits, server).await {
        // The rows that are left are not read, so the connection stays busy to its end.
        Ok(Ended::TooLarge(trouble)) => Err(trouble),
        Ok(Ended::Whole(answer)) => {
            lent.ended();
            Ok(answer)
        }
        Err(trouble) => {
            lent.ended();
            Err(trouble)
        }
    }
}

enum Ended {
    Whole(Answer),
    /// The rows that are left were not read.
    TooLarge(Trouble),
}

async fn run(
    client: &Client,
    statement: &Statement,
    wants: Wants,
    limits: &Limits,
    server: &str,
) -> Tried<Ended> {
    let problem = |error| of_postgres(error, server);
    let prepared = client.prepare(&statement.text).await.map_err(problem)?;
    let (types, given) = (prepared.params(), &statement.params);
    if types.len() != given.len() {
        let (wanted, given) = (types.len(), given.len());
        let message = format!("the statement has {wanted} parameters, and {given} were given");
        return Err(sql_error("08P01", message, Vec::new()).into());
    }
    let mut params = Vec::with_capacity(given.len());
    for (at, (datum, ty)) in given.iter().zip(types).enumerate() {
        params.push(Param::of(datum, ty).map_err(|reason| {
            sql_error("42804", format!("the parameter ${} {reason}", at + 1), Vec::new())
        })?);
    }
    let has_columns = !prepared.columns().is_empty();
    let columns = prepared.columns().iter().map(|column| column.name().to_string()).collect();
    let stream = client.query_raw(&prepared, params).await.map_err(problem)?;
    let mut stream = pin!(stream);
    let mut rows = Rows::new(columns)?;
    let counts = wants == Wants::Count;
    while let Some(row) = stream.as_mut().try_next().await.map_err(problem)? {
        if counts {
            continue;
        }
        let mut cells = Vec::with_capacity(row.len());
        for (at, column) in row.columns().iter().enumerate() {
            let cell: Cell =
                row.try_get(at).map_err(|error| unreadable(column.name(), column.type_(), error))?;
            cells.push(cell.0);
        }
        if let Err(error) = rows.add(cells, limits) {
            return Ok(Ended::TooLarge(error.into()));
        }
    }
    let changed = stream.rows_affected().unwrap_or(0);
    Ok(Ended::Whole(match wants {
        Wants::Rows => Answer::Rows(rows),
        Wants::Either if has_columns => Answer::Rows(rows),
        Wants::Count | Wants::Either => Answer::Count(changed),
    }))
}

fn unreadable(column: &str, ty: &Type, error: tokio_postgres::Error) -> Trouble {
    let reason =
        error.into_source().map_or_else(|| format!("its type is `{ty}`"), |source| source.to_string());
    sql_error("0A000", format!("the column `{column}`: {reason}"), Vec::new()).into()
}

// ---- transactions

/// Makes the table of the results of steps. `if not exists` lets two sessions begin to make a table
/// at once, and fails for one of them, so they take turns.
const STEPS: &str = "select pg_advisory_xact_lock(hashtext('durable_steps')); \
                     create table if not exists durable_steps \
                     (key text primary key, result bytea, at timestamptz not null default now())";

/// Begins a transaction. With a key, the result may be there already, from an attempt that was
/// committed; then the transaction has ended. A claim on the key waits for an attempt that is still
/// being committed.
pub(super) async fn begin(lent: &mut Lent, plan: &Plan, key: Option<&str>) -> Tried<Begun> {
    let begun = claim(lent, plan, key).await;
    match begun {
        // The table is not there.
        Err(trouble) if is_about(&trouble, "42P01") => {
            rollback(lent).await?;
            make_steps(lent).await?;
            claim(lent, plan, key).await
        }
        other => other,
    }
}

async fn claim(lent: &mut Lent, plan: &Plan, key: Option<&str>) -> Tried<Begun> {
    let level = plan.isolation.map_or(String::new(), |level| format!(" isolation level {level}"));
    // A process that goes away must not keep locks for longer than the transaction may take.
    let limit = time_of(plan.limits.timeout).as_millis();
    // The time limit here comes first.
    let limit = limit.clamp(1, 1_000_000_000) + 5_000;
    let begin = format!(
        "begin{level}; set local statement_timeout = {limit}; set local idle_in_transaction_session_timeout = {limit}"
    );
    simple(lent, &begin).await?;
    let Some(key) = key else { return Ok(Begun::Now) };
    let text = "insert into durable_steps (key) values ($1) on conflict (key) do nothing".to_string();
    let params = vec![Datum::Text(key.to_string())];
    let insert = Statement { text, params: params.clone(), rows: None };
    if matches!(execute(lent, &insert, Wants::Count, &plan.limits).await?, Answer::Count(1)) {
        return Ok(Begun::Now);
    }
    let text = "select result from durable_steps where key = $1".to_string();
    let select = Statement { text, params, rows: None };
    let most = Limits { max_rows: 1, max_size: u64::MAX, ..plan.limits };
    let found = execute(lent, &select, Wants::Rows, &most).await?;
    rollback(lent).await?;
    match found {
        Answer::Rows(rows) => match rows.single() {
            Some(Datum::Bytes(bytes)) => Ok(Begun::Before(Data(bytes))),
            _ => Err(no_result(key)),
        },
        Answer::Count(_) => Err(no_result(key)),
    }
}

fn no_result(key: &str) -> Trouble {
    let message =
        format!("the table `durable_steps` has no result for the key {key}, although it has the key");
    sql_error("HY000", message, Vec::new()).into()
}

/// Returns whether an error has this code.
fn is_about(trouble: &Trouble, code: &str) -> bool {
    match trouble.error.value.decode() {
        crate::machine::Value::Record(error) => {
            matches!(error.get_str("code"), Some(crate::machine::Value::Str(found)) if found.as_str() == code)
        }
        _ => false,
    }
}

async fn make_steps(lent: &mut Lent) -> Tried<()> {
    match simple(lent, STEPS).await {
        Err(trouble) if is_about(&trouble, "42501") || is_about(&trouble, "3F000") => {
            let message = "the table `durable_steps` is not there, and this user may not make it; its owner can: \
                           `create table durable_steps (key text primary key, result bytea, at timestamptz not null default now())`. \
                           With option `once: false` a transaction needs no table, and may happen more than once";
            Err(sql_error("42501", message.to_string(), Vec::new()).into())
        }
        other => other,
    }
}

async fn simple(lent: &mut Lent, text: &str) -> Tried<()> {
    let (client, server) = lent.begins()?;
    let done = client.batch_execute(text).await.map_err(|error| of_postgres(error, server));
    lent.ended();
    done
}

/// Ends a transaction without its changes.
pub(super) async fn rollback(lent: &mut Lent) -> Tried<()> {
    simple(lent, "rollback").await
}

/// Commits a transaction with its result. An error says that nothing of it was done, unless the
/// connection is lost.
pub(super) async fn commit(lent: &mut Lent, plan: &Plan, key: Option<&str>, result: &Data) -> Tried<()> {
    let committed = finish(lent, plan, key, result).await;
    if let Err(trouble) = &committed
        && trouble.kind != TroubleKind::Lost
        && rollback(lent).await.is_err()
    {
        lent.close();
    }
    committed
}

async fn finish(lent: &mut Lent, plan: &Plan, key: Option<&str>, result: &Data) -> Tried<()> {
    match key {
        Some(key) => {
            let text = "update durable_steps set result = $2 where key = $1".to_string();
            let params = vec![Datum::Text(key.to_string()), Datum::Bytes(result.0.clone())];
            let update = Statement { text, params, rows: None };
            execute(lent, &update, Wants::Count, &plan.limits).await?;
            simple(lent, "commit").await
        }
        // In a transaction that has failed, `commit` would roll back without an error.
        None => simple(lent, "select 1; commit").await,
    }
}
