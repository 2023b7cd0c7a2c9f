//! Databases: the effects of the module `sql`.
//!
//! Invariant: a transaction with a key is committed together with a row that has its result, so a
//! repeated attempt finds either both or nothing. An open transaction ends with its activity at the
//! latest.

mod error;
mod pool;
mod postgres;
mod results;
mod server;
mod session;
mod sqlite;
mod transaction;
mod values;
mod wire;

use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use hashbrown::HashMap;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::builtins::Effect;
use crate::machine::sql::{self, Database, Limits, On, Plan, Statement};
use crate::machine::{Data, ErrorData, Fail, Value};

use super::at::Reach;
use super::effect_call::Owner;
use super::effects::{unique, unknown};
use super::{EffectResult, data};
use error::{Tried, too_slow};
use pool::Pools;
use postgres::Wants;
use session::Session;

/// The largest number of open transactions.
const MOST_OPEN: usize = 1_000;
/// The files that a call may open: a connection, or the files of SQLite.
pub(super) const FILES: u32 = 3;

/// The beginning of a transaction.
pub(super) enum Begun {
    /// The transaction is open.
    Now,
    /// An earlier attempt was committed, with this result.
    Before(Data),
}

/// A call under way.
pub(super) type Work = Pin<Box<dyn Future<Output = EffectResult> + Send>>;

/// The connections of this process, and the open transactions of activities.
#[derive(Default)]
pub(super) struct Databases {
    pools: Pools,
    open: HashMap<String, Entry>,
}

struct Entry {
    /// The ticket of the activity.
    activity: u64,
    slot: Arc<Slot>,
}

impl Entry {
    /// Whether the transaction has ended, or has failed to begin.
    fn is_over(&self) -> bool {
        // The place of one that begins is known to its work, and that of one in use is locked.
        Arc::weak_count(&self.slot) == 0 && self.slot.try_lock().is_ok_and(|open| open.is_none())
    }
}

/// The place of an open transaction, which is empty before it begins and after it has ended.
type Slot = Mutex<Option<Open>>;

struct Open {
    session: Session,
    place: Place,
    plan: Plan,
    key: Option<String>,
    ends: Instant,
}

/// A database, the right to reach it, and the connections to it.
struct Place {
    database: Database,
    reach: Reach,
    pools: Pools,
}

impl Databases {
    /// Begins the work of an effect. The key of a transaction is its last argument.
    pub(super) fn work(
        &mut self,
        effect: Effect,
        args: &Data,
        owner: &Owner,
        reach: Reach,
    ) -> Result<Work, ErrorData> {
        let args = args.items();
        let arg = |at: usize| args.get(at).unwrap_or(&Value::Null);
        let key = |at: usize| match args.get(at) {
            Some(Value::Str(key)) => Ok(key.as_str().to_string()),
            _ => Err(unknown(effect.name())),
        };
        match effect {
            Effect::SqlQuery | Effect::SqlExecute => {
                let statement = sql::statement(arg(1), arg(2))?;
                let is_query = effect == Effect::SqlQuery;
                let limits = sql::limits(arg(3), is_query)?;
                let wants = if is_query { Wants::Rows } else { Wants::Count };
                match sql::on(arg(0))? {
                    On::Database(database) => {
                        let place = self.place(database, reach);
                        Ok(Box::pin(place.execute(statement, wants, limits)))
                    }
                    On::Transaction(name) => {
                        Ok(Box::pin(execute_within(self.slot(&name, owner)?, statement, wants, limits)))
                    }
                }
            }
            Effect::SqlTransaction => {
                let place = self.place(sql::database(arg(0))?, reach);
                let (statements, plan) = (sql::statements(arg(1))?, sql::plan(arg(2))?);
                let key = chosen(&plan, key(3)?);
                Ok(Box::pin(place.transaction(statements, plan, key)))
            }
            Effect::SqlBegin => {
                let place = self.place(sql::database(arg(0))?, reach);
                let plan = sql::plan(arg(1))?;
                let key = chosen(&plan, key(2)?);
                let Owner::Activity(activity) = owner else { return Err(unknown(effect.name())) };
                if self.open.len() >= MOST_OPEN {
                    self.open.retain(|_, entry| !entry.is_over());
                }
                if self.open.len() >= MOST_OPEN {
                    let text = format!("more than {MOST_OPEN} transactions are open at once");
                    return Err(ErrorData::new("limit", text));
                }
                let (name, slot) = (unique(), Arc::new(Slot::default()));
                let weak = Arc::downgrade(&slot);
                self.open.insert(name.clone(), Entry { activity: *activity, slot });
                Ok(Box::pin(place.begin(name, weak, plan, key)))
            }
            Effect::SqlCommit => {
                let (name, result) = (self.name(arg(0))?, data(arg(1))?);
                let slot = self.slot(&name, owner)?;
                self.open.remove(&name);
                Ok(Box::pin(commit(slot, result)))
            }
            Effect::SqlRollback => {
                let name = self.name(arg(0))?;
                let slot = self.slot(&name, owner).ok();
                self.open.remove(&name);
                Ok(Box::pin(rollback(slot)))
            }
            _ => Err(unknown(effect.name())),
        }
    }

    fn place(&self, database: Database, reach: Reach) -> Place {
        Place { database, reach, pools: self.pools.clone() }
    }

    fn name(&self, handle: &Value) -> Result<String, Fail> {
        match sql::on(handle)? {
            On::Transaction(name) => Ok(name),
            On::Database(_) => {
                Err(crate::machine::error::type_error("a transaction was expected, not a database"))
            }
        }
    }

    /// Returns the place of a transaction, which only its own activity uses.
    fn slot(&self, name: &str, owner: &Owner) -> Result<Arc<Slot>, ErrorData> {
        let entry = self.open.get(name);
        let entry =
            entry.filter(|entry| matches!(owner, Owner::Activity(ticket) if *ticket == entry.activity));
        entry.map(|entry| entry.slot.clone()).ok_or_else(ended)
    }

    /// Ends the transactions of an activity, without their changes.
    pub(super) fn activity_ended(&mut self, ticket: u64) {
        self.open.retain(|_, entry| entry.activity != ticket);
    }
}

/// Returns the key under which a result is kept, if it is.
fn chosen(plan: &Plan, key: String) -> Option<String> {
    plan.once.then(|| plan.key.clone().unwrap_or(key))
}

fn ended() -> ErrorData {
    let message =
        "the transaction has ended: it is open in the function that `transaction` calls, and nowhere else";
    error::sql_error("25P01", message.to_string(), Vec::new())
}

fn time_of(nanos: i64) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
}

impl Place {
    /// Waits for work for as long as its limit allows. Work that takes longer is broken off.
    async fn within<T>(&self, timeout: i64, work: impl Future<Output = Tried<T>>) -> Result<T, ErrorData> {
        match tokio::time::timeout(time_of(timeout), work).await {
            Ok(done) => done.map_err(|trouble| trouble.error),
            Err(_) => Err(too_slow(&session::shown(&self.database), timeout)),
        }
    }

    async fn execute(self, statement: Statement, wants: Wants, limits: Limits) -> EffectResult {
        let work = async {
            let mut session = Session::open(&self).await?;
            session.alone(&statement, wants, &limits).await
        };
        let answer = self.within(limits.timeout, work).await?;
        data(&answer.into_value())
    }

    async fn transaction(self, statements: Vec<Statement>, plan: Plan, key: Option<String>) -> EffectResult {
        let work = transaction::run(&self, &statements, &plan, key.as_deref());
        self.within(plan.limits.timeout, work).await
    }

    /// Begins a transaction of an activity. The answer is its handle, or the result of an earlier
    /// attempt.
    async fn begin(self, name: String, slot: Weak<Slot>, plan: Plan, key: Option<String>) -> EffectResult {
        let ends = Instant::now() + time_of(plan.limits.timeout);
        let work = async {
            let mut session = Session::open(&self).await?;
            let begun = session.begin(&plan, key.as_deref()).await?;
            Ok((session, begun))
        };
        let (session, begun) = self.within(plan.limits.timeout, work).await?;
        match begun {
            Begun::Before(result) => data(&Value::record([("result", transaction::decoded(&result)?)])),
            Begun::Now => {
                // An activity that has ended meanwhile has no place any more.
                let slot = slot.upgrade().ok_or_else(ended)?;
                let open = Open { session, place: self, plan, key, ends };
                *slot.lock().await = Some(open);
                data(&Value::record([("transaction", Value::str(name))]))
            }
        }
    }
}

async fn execute_within(slot: Arc<Slot>, statement: Statement, wants: Wants, limits: Limits) -> EffectResult {
    let mut place = slot.lock().await;
    let mut open = place.take().ok_or_else(ended)?;
    let ends = open.ends.min(Instant::now() + time_of(limits.timeout));
    // The transaction is dropped, and so ends, when its statement is broken off.
    let done = tokio::time::timeout_at(ends, open.session.execute(&statement, wants, &limits)).await;
    match done {
        Ok(done) => {
            *place = Some(open);
            let answer = done.map_err(|trouble| trouble.error)?;
            drop(place);
            data(&answer.into_value())
        }
        Err(_) => Err(too_slow(&open.session.shown(), limits.timeout.min(open.plan.limits.timeout))),
    }
}

async fn commit(slot: Arc<Slot>, result: Data) -> EffectResult {
    let mut place = slot.lock().await;
    let mut open = place.take().ok_or_else(ended)?;
    drop(place);
    let timeout = open.plan.limits.timeout;
    let work = transaction::commit(&mut open.session, &open.place, &open.plan, open.key.as_deref(), result);
    match tokio::time::timeout_at(open.ends, work).await {
        Ok(done) => done.map_err(|trouble| trouble.error),
        Err(_) => Err(too_slow(&open.session.shown(), timeout)),
    }
}

async fn rollback(slot: Option<Arc<Slot>>) -> EffectResult {
    let open = match &slot {
        Some(slot) => slot.lock().await.take(),
        None => None,
    };
    if let Some(mut open) = open {
        // A connection that is lost has rolled back.
        let _ = tokio::time::timeout(Duration::from_secs(5), open.session.rollback()).await;
    }
    Ok(Data::null())
}
