//! A connection to a database of either kind, on which statements run one after the other.

use crate::machine::Data;
use crate::machine::sql::{Database, Limits, Plan, Statement};

use super::error::Tried;
use super::pool::Lent;
use super::postgres::{self, Wants};
use super::results::Answer;
use super::sqlite::Lite;
use super::{Begun, Place};

/// A connection to a database.
pub(super) enum Session {
    Postgres(Lent),
    Lite(Lite),
}

/// Returns a database in messages: its server or its file, and never a password.
pub(super) fn shown(database: &Database) -> String {
    match database.url.strip_prefix("sqlite:") {
        Some(path) => path.to_string(),
        None => super::server::Server::of(database)
            .map_or_else(|_| "the database".to_string(), |server| server.shown),
    }
}

impl Session {
    /// Connects to a database, or takes a connection that is there.
    pub(super) async fn open(place: &Place) -> Tried<Session> {
        Ok(match place.database.url.starts_with("sqlite:") {
            true => Session::Lite(Lite::open(&place.database.url, &place.reach).await?),
            false => {
                let pool = place.pools.of(&place.database, &place.reach)?;
                Session::Postgres(pool.get(&place.reach).await?)
            }
        })
    }

    /// Returns the database in messages.
    pub(super) fn shown(&self) -> String {
        match self {
            Session::Postgres(lent) => lent.shown().to_string(),
            Session::Lite(lite) => lite.shown().to_string(),
        }
    }

    /// Executes a statement that is no part of a transaction.
    pub(super) async fn alone(
        &mut self,
        statement: &Statement,
        wants: Wants,
        limits: &Limits,
    ) -> Tried<Answer> {
        match self {
            Session::Postgres(lent) => postgres::execute(lent, statement, wants, limits).await,
            Session::Lite(lite) => lite.alone(statement, wants, limits).await,
        }
    }

    /// Executes a statement of a transaction.
    pub(super) async fn execute(
        &mut self,
        statement: &Statement,
        wants: Wants,
        limits: &Limits,
    ) -> Tried<Answer> {
        match self {
            Session::Postgres(lent) => postgres::execute(lent, statement, wants, limits).await,
            Session::Lite(lite) => lite.execute(statement, wants, limits).await,
        }
    }

    /// Begins a transaction, unless its result is there already.
    pub(super) async fn begin(&mut self, plan: &Plan, key: Option<&str>) -> Tried<Begun> {
        match self {
            Session::Postgres(lent) => postgres::begin(lent, plan, key).await,
            Session::Lite(lite) => lite.begin(plan, key).await,
        }
    }

    /// Commits a transaction with its result.
    pub(super) async fn commit(&mut self, plan: &Plan, key: Option<&str>, result: &Data) -> Tried<()> {
        match self {
            Session::Postgres(lent) => postgres::commit(lent, plan, key, result).await,
            Session::Lite(lite) => lite.commit(key, result).await,
        }
    }

    /// Ends a transaction without its changes.
    pub(super) async fn rollback(&mut self) -> Tried<()> {
        match self {
            Session::Postgres(lent) => postgres::rollback(lent).await,
            Session::Lite(lite) => lite.rollback().await,
        }
    }
}
