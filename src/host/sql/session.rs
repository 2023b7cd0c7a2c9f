//! A connection to a database of either kind, on which statements run one after the other.

use crate::machine::Data;
use crate::machine::sql::{Database, Limits, Plan, Statement};

use super::error::Tried;
use super::pool::{Lent, Pool};
use super::postgres::{self, Wants};
use super::results::Answer;
use super::sqlite::Lite;
use super::{Begun, Place};
use std::sync::Arc;

/// A connection to a database.
pub(super) struct Session {
    connection: Connection,
    place: Place,
}

enum Connection {
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
        let connection = match place.database.url.starts_with("sqlite:") {
            true => Connection::Lite(Lite::open(&place.database.url, &place.reach).await?),
            false => {
                let pool: Arc<Pool> = place.pools.of(&place.database, &place.reach)?;
                Connection::Postgres(pool.get(&place.reach).await?)
            }
        };
        Ok(Session { connection, place: place.clone() })
    }

    /// Returns the place of the database, for another connection to it.
    pub(super) fn place(&self) -> Place {
        self.place.clone()
    }

    /// Returns the database in messages.
    pub(super) fn shown(&self) -> String {
        match &self.connection {
            Connection::Postgres(lent) => lent.shown().to_string(),
            Connection::Lite(lite) => lite.shown().to_string(),
        }
    }

    /// Executes a statement that is no part of a transaction.
    pub(super) async fn alone(
        &mut self,
        statement: &Statement,
        wants: Wants,
        limits: &Limits,
    ) -> Tried<Answer> {
        match &mut self.connection {
            Connection::Postgres(lent) => postgres::execute(lent, statement, wants, limits).await,
            Connection::Lite(lite) => lite.alone(statement, wants, limits).await,
        }
    }

    /// Executes a statement of a transaction.
    pub(super) async fn execute(
        &mut self,
        statement: &Statement,
        wants: Wants,
        limits: &Limits,
    ) -> Tried<Answer> {
        match &mut self.connection {
            Connection::Postgres(lent) => postgres::execute(lent, statement, wants, limits).await,
            Connection::Lite(lite) => lite.execute(statement, wants, limits).await,
        }
    }

    /// Begins a transaction, unless its result is there already.
    pub(super) async fn begin(&mut self, plan: &Plan, key: Option<&str>) -> Tried<Begun> {
        match &mut self.connection {
            Connection::Postgres(lent) => postgres::begin(lent, plan, key).await,
            Connection::Lite(lite) => lite.begin(plan, key).await,
        }
    }

    /// Commits a transaction with its result.
    pub(super) async fn commit(&mut self, plan: &Plan, key: Option<&str>, result: &Data) -> Tried<()> {
        match &mut self.connection {
            Connection::Postgres(lent) => postgres::commit(lent, plan, key, result).await,
            Connection::Lite(lite) => lite.commit(key, result).await,
        }
    }

    /// Ends a transaction without its changes.
    pub(super) async fn rollback(&mut self) -> Tried<()> {
        match &mut self.connection {
            Connection::Postgres(lent) => postgres::rollback(lent).await,
            Connection::Lite(lite) => lite.rollback().await,
        }
    }
}
