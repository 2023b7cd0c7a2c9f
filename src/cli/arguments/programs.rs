//! The arguments of commands that use the texts of programs, and no store.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

#[derive(Args)]
pub struct Check {
    /// Programs, or folders of programs
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// Print an intermediate form of the program
    #[arg(long, value_enum)]
    pub dump: Option<Dump>,
    /// Print the permissions that the program's text asks for
    #[arg(long, conflicts_with = "dump")]
    pub permissions: bool,
}

#[derive(Args)]
#[command(after_help = "Examples:
  durable test                        run all tests in this folder and below
  durable test bank.df --filter move  run tests whose names contain `move`
  durable test --crash                repeat each test with a crash at every commit")]
pub struct Test {
    /// Programs, or folders of programs
    #[arg(default_value = ".")]
    pub files: Vec<PathBuf>,
    /// Run only tests whose names contain this text
    #[arg(long, value_name = "TEXT")]
    pub filter: Option<String>,
    /// Repeat each test with a crash at every commit and effect, and compare the outcomes; at most this many crashes a test,
    /// evenly spread
    #[arg(long, value_name = "MOST", num_args = 0..=1, require_equals = true, default_missing_value = "1000")]
    pub crash: Option<u32>,
    /// Run the tests again whenever a file changes
    #[arg(long)]
    pub watch: bool,
    /// Write what an instance did as a test, with mocks from its journal, to standard output
    #[arg(long, value_name = "ID", conflicts_with_all = ["filter", "crash", "watch", "junit"])]
    pub from: Option<String>,
    #[command(flatten)]
    pub store: super::InStore,
    /// Write the results to a file in JUnit format
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
}

#[derive(Args)]
pub struct New {
    /// The name of its folder
    pub name: String,
}

#[derive(Args)]
#[command(after_help = "Examples:
  durable doc                              document the standard library, as Markdown
  durable doc list.map                     describe one name, or one module of the library
  durable doc lib --form html --out doc.html")]
pub struct Doc {
    /// Programs, folders of programs, or names of the library; default: the standard library
    pub files: Vec<PathBuf>,
    /// The output format
    #[arg(long, value_enum, default_value_t = Form::Markdown)]
    pub form: Form,
    /// The file to write; default: standard output
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// A form of documentation.
#[derive(Clone, Copy, ValueEnum)]
pub enum Form {
    Markdown,
    Html,
}

#[derive(Args)]
pub struct Explain {
    /// The kind, such as `timeout`; default: list all kinds
    pub kind: Option<String>,
}

#[derive(Args)]
#[command(after_help = "Examples:
  durable fmt                  format all programs in this folder and below
  durable fmt --check src      list files that are not formatted, and write nothing
  durable fmt - < a.df         format standard input to standard output")]
pub struct Fmt {
    /// Programs, or folders of programs; `-` for standard input
    #[arg(default_value = ".")]
    pub files: Vec<PathBuf>,
    /// List files that are not formatted, and write nothing
    #[arg(long)]
    pub check: bool,
}

#[derive(Args)]
#[command(after_help = "Examples:
  durable explore bank.df                        explore each test of the file, or its script
  durable explore bank.df --test 'two transfers' --save found.json
  durable explore bank.df --replay found.json    show a schedule step by step
  durable explore bank.df --model record-replay --crashes 2")]
pub struct Explore {
    /// The program
    pub file: PathBuf,
    /// Arguments of the script: the list of strings `args`
    pub args: Vec<String>,
    /// The model to explore; only storage models and the engine have crashes
    #[arg(long, value_enum, default_value_t = ModelName::HighLevel)]
    pub model: ModelName,
    /// Explore this test only
    #[arg(long, value_name = "NAME")]
    pub test: Option<String>,
    /// The most crashes in one run: of compute in a storage model, of the process in the engine; default: 1
    #[arg(long, value_name = "N")]
    pub crashes: Option<u32>,
    /// The most times, in a storage model, that two workers take the same participant or task
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub slow: u32,
    /// The most messages, in a storage model, that are delivered twice
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub duplicates: u32,
    /// The most steps of a schedule
    #[arg(long, value_name = "N")]
    pub depth: Option<usize>,
    /// The most configurations to visit
    #[arg(long, value_name = "N")]
    pub configurations: Option<u64>,
    /// The most memory to use; default: 2GB
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<String>,
    /// The number of threads; default: one for each core
    #[arg(long, value_name = "N")]
    pub jobs: Option<usize>,
    /// Take every step in every order, even where the order does not matter
    #[arg(long)]
    pub unreduced: bool,
    /// List all possible outcomes instead of faults
    #[arg(long)]
    pub outcomes: bool,
    /// Accept that the program does not end, as a server does not
    #[arg(long)]
    pub may_run_forever: bool,
    /// The number of random schedules to try after a limit is reached
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub walks: u64,
    /// The seed of the first random schedule
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Save the failing schedule to a file
    #[arg(long, value_name = "SCHEDULE")]
    pub save: Option<PathBuf>,
    /// Replay a schedule from a file, step by step
    #[arg(long, value_name = "SCHEDULE", conflicts_with = "save")]
    pub replay: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub enum ModelName {
    HighLevel,
    ComputeStorage,
    RecordReplay,
    /// The engine that runs programs, with crashes before and after commits
    Engine,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Dump {
    /// The core calculus
    Core,
    /// The register code
    Code,
}
