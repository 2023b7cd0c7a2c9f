//! A client of a cluster: commands go through the database to the owners of partitions, and
//! queries are answered from the database.
//!
//! Invariant: a command is a row of the database, under a number that is given once. So the command
//! is carried out once, whatever happens to the client, the workers or the connection, and waits if
//! no worker is alive.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use crate::api::{Answer, Command, Queries, Query, QueryError, Reply, Starting, Upgrading, answered};
use crate::engine::{Address, Placement, read_record};
use crate::host::unique;
use crate::kv::{Partition, Reader, StoreError};
use crate::store::postgres::{Cluster, Overview};

use super::hints::{Hint, Hints};
use super::news::{Owners, placement};

/// The first and the longest time between two looks for an answer.
const FIRST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_millis(100);
/// The time after which a client that gets no answer looks whether a worker is alive.
const PATIENCE: Duration = Duration::from_secs(2);

/// A client of a cluster.
pub struct Client {
    cluster: Cluster,
    reader: Reader,
    hints: Option<Hints>,
    owners: Owners,
    /// Tells people something that they should know while they wait.
    note: Box<dyn Fn(&str) + Send + Sync>,
}

/// The reason why a command has no reply.
#[derive(Clone, Debug, PartialEq)]
pub enum ClientError {
    Store(StoreError),
    /// The worker that carried the command out is of a version that this one does not understand.
    OtherVersion,
    /// The command makes no sense on a cluster.
    NotHere(&'static str),
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientError::Store(error) => error.fmt(f),
            ClientError::OtherVersion => f.write_str("the worker that answered is of another version"),
            ClientError::NotHere(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for ClientError {}

impl From<StoreError> for ClientError {
    fn from(error: StoreError) -> ClientError {
        ClientError::Store(error)
    }
}

impl Client {
    /// Returns a client. `note` tells people something that they should know while they wait.
    pub fn new(cluster: Cluster, note: impl Fn(&str) + Send + Sync + 'static) -> Client {
        let any = SocketAddr::from(([0, 0, 0, 0], 0));
        Client {
            reader: cluster.reader(),
            cluster,
            hints: Hints::open(any).ok(),
            owners: Owners::default(),
            note: Box::new(note),
        }
    }

    /// Uses the owners that a worker of this process reads.
    pub(super) fn with(self, owners: Owners) -> Client {
        Client { owners, ..self }
    }

    /// Has a command carried out by the owner of the partition that it concerns. The reply comes
    /// when the result is durable. If no worker is alive, the command waits for one.
    pub fn ask(&self, command: Command) -> Result<Reply, ClientError> {
        match command {
            Command::Purge { ids, force } => self.purge(ids, force),
            Command::Upgrade(upgrading) => self.upgrade(*upgrading),
            command => {
                let command = self.named(command)?;
                loop {
                    match self.send(self.partition_of(&command)?, &command)? {
                        // Partitions were split since the owners were read.
                        Reply::Moved => drop(self.look()?),
                        reply => return Ok(reply),
                    }
                }
            }
        }
    }

    /// Returns a command as it is carried out, and the partition that does. Purges concern several
    /// partitions, and are no such command.
    pub(super) fn placed(&self, command: Command) -> Result<(Partition, Command), ClientError> {
        let command = self.named(command)?;
        Ok((self.partition_of(&command)?, command))
    }

    /// Sends a command to a partition, and waits for the reply.
    fn send(&self, to: Partition, command: &Command) -> Result<Reply, ClientError> {
        let number = self.cluster.request_number()?;
        let body = command.to_stored();
        if !self.cluster.send(number, to, &body)? {
            let what = format!("there is no partition {to}");
            return Err(StoreError::Damaged { what }.into());
        }
        self.hint(to);
        let (began, mut pause, mut noted) = (Instant::now(), FIRST, false);
        loop {
            if let Some(bytes) = self.cluster.answer(number)? {
                self.cluster.forget(number)?;
                return Reply::from_stored(&bytes).ok_or(ClientError::OtherVersion);
            }
            if !noted && began.elapsed() > PATIENCE {
                noted = true;
                let (overview, _) = self.look()?;
                if !overview.workers.iter().any(|worker| worker.rest.is_some()) {
                    (self.note)("no worker is alive: the command is in the database, and waits for one");
                }
                self.hint(to);
            }
            thread::sleep(pause);
            pause = (pause * 3 / 2).min(LONGEST);
        }
    }

    /// Makes the owner of a partition look for the command.
    fn hint(&self, to: Partition) {
        if let (Some(hints), Some(address)) = (&self.hints, self.owners.of(to)) {
            hints.send(address, Hint::Mail);
        }
    }

    /// Reads the workers and the owners of partitions, with the places of everything.
    fn look(&self) -> Result<(Overview, Placement), ClientError> {
        let overview = self.cluster.overview()?;
        self.owners.set(&overview);
        let placement = placement(Partition::MAX, &overview)?;
        Ok((overview, placement))
    }

    /// Gives an instance that is to begin under the next id of a name an id of its own: no
    /// partition knows the ids of the others.
    fn named(&self, command: Command) -> Result<Command, ClientError> {
        Ok(match command {
            Command::Start(starting) => {
                let Starting { mut record, modules, named, if_exists } = *starting;
                if let Some(name) = named {
                    record.id = own_id(&name);
                }
                Command::Start(Box::new(Starting { record, modules, named: None, if_exists }))
            }
            Command::StartDeployed { function, args, id, if_exists } => {
                let id = Some(id.unwrap_or_else(|| own_id(&function)));
                Command::StartDeployed { function, args, id, if_exists }
            }
            Command::Attend(_) => {
                return Err(ClientError::NotHere("a script runs in the process that was started for it"));
            }
            command => command,
        })
    }

    /// Returns the partition that carries a command out.
    fn partition_of(&self, command: &Command) -> Result<Partition, ClientError> {
        let anywhere = || Address::instance(&unique());
        self.place(&command.concerns().unwrap_or_else(anywhere))
    }

    fn place(&self, address: &Address) -> Result<Partition, ClientError> {
        let placement =
            self.owners.placement().map_or_else(|| self.look().map(|(_, placement)| placement), Ok)?;
        Ok(placement.partition_of(address))
    }

    /// Upgrades instances, each in its partition. The judgements are in the order of the ids.
    fn upgrade(&self, upgrading: Upgrading) -> Result<Reply, ClientError> {
        let mut judged = BTreeMap::new();
        let mut left: Vec<usize> = (0..upgrading.ids.len()).collect();
        while !left.is_empty() {
            let by_partition = self.by_partition(&left, |at| Address::instance(&upgrading.ids[*at]))?;
            left.clear();
            for (partition, places) in by_partition {
                let ids = places.iter().map(|at| upgrading.ids[*at].clone()).collect();
                let part = Upgrading { ids, ..upgrading.clone() };
                match self.send(partition, &Command::Upgrade(Box::new(part)))? {
                    Reply::Judged(judgements) => judged.extend(places.into_iter().zip(judgements)),
                    Reply::Moved => left.extend(places),
                    other => return Ok(other),
                }
            }
            if !left.is_empty() {
                self.look()?;
            }
        }
        Ok(Reply::Judged(judged.into_values().collect()))
    }

    /// Purges instances, each in its partition. Nothing is purged if one of them does not exist.
    fn purge(&self, ids: Vec<String>, force: bool) -> Result<Reply, ClientError> {
        for id in &ids {
            match read_record(&self.reader, id) {
                Ok(Some(_)) => {}
                Ok(None) => return Ok(Reply::Unknown),
                Err(error) => return Ok(Reply::Refused(error.to_string())),
            }
        }
        let (mut removed, mut left) = (0, ids);
        while !left.is_empty() {
            let by_partition = self.by_partition(&left, |id| Address::instance(id))?;
            left.clear();
            for (partition, ids) in by_partition {
                match self.send(partition, &Command::Purge { ids: ids.clone(), force })? {
                    Reply::Removed(count) => removed += count,
                    // Purged by somebody else meanwhile.
                    Reply::Unknown => {}
                    Reply::Moved => left.extend(ids),
                    other => return Ok(other),
                }
            }
            if !left.is_empty() {
                self.look()?;
            }
        }
        Ok(Reply::Removed(removed))
    }

    /// Sorts instances by their partitions.
    fn by_partition<T: Clone>(
        &self,
        all: &[T],
        address: impl Fn(&T) -> Address,
    ) -> Result<BTreeMap<Partition, Vec<T>>, ClientError> {
        let mut by_partition = BTreeMap::<Partition, Vec<T>>::new();
        for one in all {
            by_partition.entry(self.place(&address(one))?).or_default().push(one.clone());
        }
        Ok(by_partition)
    }
}

impl Queries for Client {
    fn query(&self, query: Query) -> Result<Answer, QueryError> {
        Ok(answered(&self.reader, &query)?)
    }
}

/// Returns an id that no other instance has, for example `transfer-0f3k9a1c`.
fn own_id(name: &str) -> String {
    let last = name.rsplit(':').next().unwrap_or(name);
    let random: String = unique().chars().filter(char::is_ascii_alphanumeric).collect();
    format!("{last}-{}", &random[random.len().saturating_sub(10)..])
}
