//! The arguments of `durable store`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::InStore;

#[derive(Subcommand)]
pub enum StoreCommand {
    /// Make a store in a database of PostgreSQL, for several machines
    Init(InitStore),
    /// Accept a database that was restored to an earlier time
    Adopt(Adopt),
    /// Read the whole store and check that nothing is missing
    Verify(InStore),
    /// Write the whole store as JSON Lines
    Export(Export),
    /// Read JSON Lines written by `export`
    Import(Import),
}

#[derive(Args)]
#[command(after_help = "Examples:
  durable store init postgres://ann@db.example.org/shop
  durable store init postgres:///shop --partitions 16 --grant-worker worker --grant-reader grafana")]
pub struct InitStore {
    /// The URL of the database
    pub url: String,
    /// The number of partitions: the most workers that the store can be spread over; default: 64.
    /// A store that is there gets more, while workers go on
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub partitions: Option<u32>,
    /// Give a role the rights of a worker
    #[arg(long = "grant-worker", value_name = "ROLE")]
    pub worker: Vec<String>,
    /// Give a role the rights of a client: to ask for instances and to send requests
    #[arg(long = "grant-client", value_name = "ROLE")]
    pub client: Vec<String>,
    /// Give a role the right to ask for instances
    #[arg(long = "grant-reader", value_name = "ROLE")]
    pub reader: Vec<String>,
}

#[derive(Args)]
pub struct Adopt {
    /// The URL of the database
    pub url: String,
}

#[derive(Args)]
pub struct Export {
    /// The file to write; default: standard output
    pub file: Option<PathBuf>,
    /// Save what can be read of a damaged store
    #[arg(long)]
    pub damaged: bool,
    /// Hide values of `env`, of request headers and of variables for programs, wherever they occur. Such an export is for
    /// people and can't be imported
    #[arg(long)]
    pub redact: bool,
    #[command(flatten)]
    pub store: InStore,
}

#[derive(Args)]
pub struct Import {
    /// The file to read
    pub file: PathBuf,
    /// Import the complete instances of a damaged store's export, and list the others
    #[arg(long)]
    pub damaged: bool,
    #[command(flatten)]
    pub store: InStore,
}
