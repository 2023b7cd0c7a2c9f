//! What the command line takes.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// A programming language in which every program is durable.
#[derive(Parser)]
#[command(
    name = "durable",
    version,
    after_help = "Examples:
  durable run greet.df                 run a script, or go on with it where it was
  durable run pay.df --id order-17     one instance by name: the same id again is the same run
  durable resume                       go on with everything that is unfinished
  durable history order-17             what it asked for, and what it got
  durable replay order-17 --trace      run it again from its journal, doing nothing

Exit codes:
  0 done · 1 the program failed · 2 wrong arguments · 3 the program has mistakes
  4 the store or a file can't be used · 5 no such instance · 130 interrupted, can be resumed"
)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Run a script; an unfinished run of it goes on
    Run(Run),
    /// Go on with unfinished instances
    Resume(Resume),
    /// Look for mistakes without running anything
    Check(Check),
    /// List instances
    List(List),
    /// Show one instance
    Show(One),
    /// Show what an instance asked for and what it got
    History(One),
    /// Run an instance again from its journal alone, doing nothing
    Replay(Replay),
    /// Remove instances that have ended
    Purge(Purge),
    /// Verify, export and import a store
    #[command(subcommand)]
    Store(StoreCommand),
    /// Write the completions of a shell to standard output
    Completions { shell: clap_complete::Shell },
}

#[derive(Args)]
pub struct InStore {
    /// The folder of the store
    #[arg(long, value_name = "DIR", default_value = ".durable")]
    pub store: PathBuf,
}

#[derive(Args)]
#[command(after_help = "Examples:
  durable run greet.df Tokyo Seattle
  durable run import.df --id nightly --input '{\"day\": \"2026-03-01\"}'")]
pub struct Run {
    /// The script
    pub file: PathBuf,
    /// What the script finds in `args`, a list of strings
    pub args: Vec<String>,
    /// The name of the instance; the same again goes on with it, or shows its result
    #[arg(long)]
    pub id: Option<String>,
    /// JSON that the script finds in `args` instead
    #[arg(long, value_name = "JSON", conflicts_with = "args")]
    pub input: Option<String>,
    /// Write the result as one line of JSON after the program's output
    #[arg(long)]
    pub json: bool,
    /// When the journal is made durable
    #[arg(long, value_enum, default_value_t = Durability::Output)]
    pub durability: Durability,
    #[command(flatten)]
    pub store: InStore,
}

/// When the journal is made durable.
#[derive(Clone, Copy, ValueEnum)]
pub enum Durability {
    /// After each turn
    Each,
    /// Before anything leaves the process that depends on it
    Output,
    /// Only at the end: a crash loses the run
    None,
}

#[derive(Args)]
pub struct Resume {
    /// The instance; all that are unfinished when left out
    pub id: Option<String>,
    /// Write each result as one line of JSON after the programs' output
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub store: InStore,
}

#[derive(Args)]
pub struct Check {
    /// The programs
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// Print what a program becomes
    #[arg(long, value_enum)]
    pub dump: Option<Dump>,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Dump {
    /// The core calculus
    Core,
    /// The register code
    Code,
}

#[derive(Args)]
pub struct List {
    /// Only those in this status
    #[arg(long, value_enum)]
    pub status: Option<Status>,
    /// One line of JSON for each
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub store: InStore,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub enum Status {
    Running,
    Completed,
    Failed,
}

#[derive(Args)]
pub struct One {
    /// The instance
    pub id: String,
    /// As JSON
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

#[derive(Args)]
#[command(after_help = "Examples:
  durable purge order-17
  durable purge --status completed")]
pub struct Purge {
    /// The instances
    #[arg(required_unless_present = "status")]
    pub ids: Vec<String>,
    /// All instances in this status
    #[arg(long, value_enum, conflicts_with = "ids")]
    pub status: Option<Status>,
    /// Also those that have not ended
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub store: InStore,
}

#[derive(Subcommand)]
pub enum StoreCommand {
    /// Read everything and check that nothing is missing
    Verify(InStore),
    /// Write everything as JSON Lines
    Export(Export),
    /// Read JSON Lines that `export` wrote
    Import(Import),
}

#[derive(Args)]
pub struct Export {
    /// The file to write; standard output when left out
    pub file: Option<PathBuf>,
    /// Save what can be read of a damaged store
    #[arg(long)]
    pub damaged: bool,
    #[command(flatten)]
    pub store: InStore,
}

#[derive(Args)]
pub struct Import {
    /// The file to read
    pub file: PathBuf,
    #[command(flatten)]
    pub store: InStore,
}
