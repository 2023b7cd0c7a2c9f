//! The arguments of the debugger.

use std::path::PathBuf;

use clap::Args;

#[derive(Args)]
#[command(after_help = "Examples:
  durable debug order-17
  durable debug order-17 --at 147.12
  durable debug order-17 --store backup.jsonl
  durable debug Account@alice --operation 17
  echo 'print total' | durable debug order-17")]
pub struct Debug {
    /// The instance, or an entity whose operations are kept
    pub id: String,
    /// Of an entity: the number of the operation. Default: the last one
    #[arg(long, value_name = "NUMBER")]
    pub operation: Option<u64>,
    /// The position to begin at: an entry of the history, or an entry and a statement. Default: where the error was thrown
    /// that ended the instance, otherwise the end
    #[arg(long, value_name = "POSITION")]
    pub at: Option<String>,
    #[command(flatten)]
    pub store: ReadStore,
}

/// A store that is only read.
#[derive(Args)]
pub struct ReadStore {
    /// The folder of the store, the URL of its database, or the file of an export. Nothing in it changes
    #[arg(long, value_name = "DIR", default_value = ".durable")]
    pub store: PathBuf,
}
