//! The arguments of the commands for what has happened: rewind, upgrade, fork, verify, replay.

use std::path::PathBuf;

use clap::Args;

use super::InStore;

#[derive(Args)]
pub struct Rewind {
    /// The instance
    pub id: String,
    /// Show which steps would be retried and which entries cut, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub store: InStore,
}

#[derive(Args)]
#[command(group = clap::ArgGroup::new("which").required(true).args(["id", "program", "function"]))]
pub struct Upgrade {
    /// The instance
    pub id: Option<String>,
    /// All instances of this program, by the beginning of its hash (`durable programs`)
    #[arg(long, value_name = "HASH")]
    pub program: Option<String>,
    /// All instances that run this function
    #[arg(long, value_name = "NAME")]
    pub function: Option<String>,
    /// The file with the new program
    #[arg(long, value_name = "FILE")]
    pub to: PathBuf,
    /// Go back to this entry of the history first, numbered from 1 as verdicts number them
    #[arg(long, value_name = "ENTRY", requires = "id")]
    pub from: Option<u64>,
    /// Go on with the text even if variables have other values with it
    #[arg(long, conflicts_with = "from")]
    pub accept_state: bool,
    /// Show the verdicts, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub store: InStore,
}

#[derive(Args)]
pub struct Fork {
    /// The instance
    pub id: String,
    /// The number of entries that have happened, as `durable history --json` prints them
    #[arg(long, value_name = "POSITION")]
    pub at: String,
    /// An answer: a request by its number, name or call, `=`, and JSON
    #[arg(long, value_name = "REQUEST=JSON")]
    pub answer: Vec<String>,
    /// A file with mocks
    #[arg(long, value_name = "FILE")]
    pub mock: Option<PathBuf>,
    /// Go on with the program in this file
    #[arg(long, value_name = "FILE")]
    pub program: Option<PathBuf>,
    /// Begin a real instance there, under this id
    #[arg(long, value_name = "NEW_ID")]
    pub start: Option<String>,
    /// With `--start`: show which steps are not repeated, and begin nothing
    #[arg(long, requires = "start")]
    pub dry_run: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub store: InStore,
}

#[derive(Args)]
#[command(group = clap::ArgGroup::new("runs").required(true).args(["id", "all"]))]
pub struct VerifyRun {
    /// The instance, with its children
    pub id: Option<String>,
    /// All instances
    #[arg(long)]
    pub all: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub store: InStore,
}

#[derive(Args)]
pub struct Replay {
    /// The instance
    pub id: String,
    /// Show each step with its source line
    #[arg(long)]
    pub trace: bool,
    #[command(flatten)]
    pub store: InStore,
}
