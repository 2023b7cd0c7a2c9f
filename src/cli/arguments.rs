//! What the command line takes.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::engine::Quotas;
use crate::machine::IfExists;

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
  durable repl --session notes         a prompt whose session survives
  durable test --crash                 the tests of all programs here, through every crash

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
    /// Try things at a prompt whose session survives
    Repl(Repl),
    /// Run tests: mocks for the outside, time that costs nothing
    Test(Test),
    /// Write programs in the one style
    Fmt(Fmt),
    /// Look at all that a program can do: every order, every crash
    Explore(Explore),
    /// Make a small project: a script, a module, tests
    New(New),
    /// Say what a kind of error means, with an example
    Explain(Explain),
    /// Write documentation from doc comments
    Doc(Doc),
    /// Serve an editor by the language server protocol
    Lsp,
    /// Begin an instance of an orchestration
    Start(Start),
    /// Wait for an instance's end and show its result; without a process that has the store, it runs here
    Wait(One),
    /// Raise an event for an instance
    Raise(Raise),
    /// Send a signal to an entity
    Signal(Signal),
    /// Show what an instance says of itself
    Status(One),
    /// Hold an instance up
    Suspend(One),
    /// Let a suspended instance go on
    Unsuspend(One),
    /// End an instance, and the children that it called
    Terminate(Terminate),
    /// Let a failed instance ask its failed steps again
    Rewind(Rewind),
    /// Begin a new instance with the function, the program and the arguments of another one
    Restart(Restart),
    /// Stay, and run whatever can run
    Serve(Serve),
    /// List instances
    List(List),
    /// Show one instance
    Show(One),
    /// Show what an instance asked for and what it got
    History(History),
    /// Run an instance again from its journal alone, doing nothing
    Replay(Replay),
    /// List entities: those with a state, a holder or messages
    Entities(EntitiesList),
    /// Show one entity
    Entity(OneEntity),
    /// Show who holds entities, and who waits for them
    Locks(Programs),
    /// List the programs in the store
    Programs(Programs),
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
    /// The id of the instance; the same again goes on with it, or shows its result
    #[arg(long)]
    pub id: Option<String>,
    /// What happens when there is an instance of that id
    #[arg(long, value_enum, default_value_t = WhenThere::Join, requires = "id")]
    pub if_exists: WhenThere,
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
    pub keep: Keep,
    #[command(flatten)]
    pub may: May,
    #[command(flatten)]
    pub telemetry: Telemetry,
    #[command(flatten)]
    pub store: InStore,
}

#[derive(Args, Default)]
pub struct May {
    /// What programs may do outside, and nothing else: read, write, fs (both), net, exec, env, each with `=` for some only. An
    /// instance keeps it, whoever goes on with it
    #[arg(long, value_name = "WHAT")]
    pub allow: Vec<String>,
    /// What they may not do, even where it is allowed
    #[arg(long, value_name = "WHAT")]
    pub deny: Vec<String>,
}

#[derive(Args, Default)]
pub struct Telemetry {
    /// Send spans of instances, activities and effects to an OpenTelemetry collector, over HTTP
    #[arg(long, value_name = "URL", num_args = 0..=1, require_equals = true, default_missing_value = "http://localhost:4318")]
    pub otlp: Option<String>,
}

#[derive(Args)]
pub struct Keep {
    /// What is kept of histories before their last checkpoint
    #[arg(long = "history", value_name = "KEPT", value_enum, default_value_t = Kept::All)]
    pub kept: Kept,
    /// Instances that a script or a started instance may have under way, with all that these begin
    #[arg(long, value_name = "COUNT", default_value_t = Quotas::default().instances)]
    pub max_instances: usize,
    /// Bytes of histories that a script or a started instance may write in the life of the process, with all that these begin
    #[arg(long, value_name = "BYTES", default_value_t = Quotas::default().bytes)]
    pub max_written: u64,
}

impl Default for Keep {
    fn default() -> Keep {
        let Quotas { instances, bytes } = Quotas::default();
        Keep { kept: Kept::All, max_instances: instances, max_written: bytes }
    }
}

/// What is kept of histories before their last checkpoint.
#[derive(Clone, Copy, Default, ValueEnum)]
pub enum Kept {
    /// All: an instance can be replayed from its beginning
    #[default]
    All,
    /// Nothing: one that runs forever takes no more space than its state
    Latest,
}

#[derive(Args)]
pub struct Serve {
    #[command(flatten)]
    pub keep: Keep,
    #[command(flatten)]
    pub may: May,
    #[command(flatten)]
    pub telemetry: Telemetry,
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
    pub keep: Keep,
    #[command(flatten)]
    pub may: May,
    #[command(flatten)]
    pub telemetry: Telemetry,
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
    /// Print what a program may ask for outside, as far as its text says so
    #[arg(long, conflicts_with = "dump")]
    pub permissions: bool,
}

#[derive(Args)]
#[command(after_help = "Examples:
  durable repl                     a new session
  durable repl --session bank      one by name: the same name again goes on with it
  durable repl bank.df             with all of a file
  echo '1 + 1' | durable repl      entries from a pipe")]
pub struct Repl {
    /// A program that is evaluated first
    pub file: Option<PathBuf>,
    /// The name of the session
    #[arg(long, value_name = "NAME")]
    pub session: Option<String>,
    #[command(flatten)]
    pub may: May,
    #[command(flatten)]
    pub store: InStore,
}

#[derive(Args)]
#[command(after_help = "Examples:
  durable test                        all tests of the programs in this folder and below
  durable test bank.df --filter move  those whose names have `move` in them
  durable test --crash                each again, with a crash before and after every commit")]
pub struct Test {
    /// Programs, or folders of them
    #[arg(default_value = ".")]
    pub files: Vec<PathBuf>,
    /// Only tests whose names contain this
    #[arg(long, value_name = "TEXT")]
    pub filter: Option<String>,
    /// Run each test again with a crash at every commit and effect, and compare; of a test with very many, at so many,
    /// evenly spread
    #[arg(long, value_name = "MOST", num_args = 0..=1, require_equals = true, default_missing_value = "1000")]
    pub crash: Option<u32>,
    /// Run them again whenever a file changes
    #[arg(long)]
    pub watch: bool,
    /// Write the results to a file in JUnit's form
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
  durable doc                              the standard library, as Markdown
  durable doc lib --form html --out doc.html")]
pub struct Doc {
    /// Programs, or folders of them; the standard library without
    pub files: Vec<PathBuf>,
    /// As what
    #[arg(long, value_enum, default_value_t = Form::Markdown)]
    pub form: Form,
    /// The file that is written; standard output without
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
    /// The kind, as in `timeout`; without one they are listed
    pub kind: Option<String>,
}

#[derive(Args)]
#[command(after_help = "Examples:
  durable fmt                  all programs in this folder and below
  durable fmt --check src      which of them are not in the style; nothing is written
  durable fmt - < a.df         from standard input to standard output")]
pub struct Fmt {
    /// Programs, or folders of them; `-` for standard input
    #[arg(default_value = ".")]
    pub files: Vec<PathBuf>,
    /// Only say which files are not in the style
    #[arg(long)]
    pub check: bool,
}

#[derive(Args)]
#[command(after_help = "Examples:
  durable explore bank.df                        each test of the file, or its script
  durable explore bank.df --test 'two transfers' --save found.json
  durable explore bank.df --replay found.json    step by step through a schedule
  durable explore bank.df --model record-replay --crashes 2")]
pub struct Explore {
    /// The program
    pub file: PathBuf,
    /// What the script finds in `args`, a list of strings
    pub args: Vec<String>,
    /// The model; only the storage models have crashes
    #[arg(long, value_enum, default_value_t = ModelName::HighLevel)]
    pub model: ModelName,
    /// Only this test
    #[arg(long, value_name = "NAME")]
    pub test: Option<String>,
    /// In a storage model: how often compute vanishes in one run; for the engine: how often its process dies; 1 when
    /// left out
    #[arg(long, value_name = "N")]
    pub crashes: Option<u32>,
    /// In a storage model: how often a participant is read, or a task done, by two at once
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub slow: u32,
    /// In a storage model: how many messages come twice
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub duplicates: u32,
    /// Only schedules of up to so many steps
    #[arg(long, value_name = "N")]
    pub depth: Option<usize>,
    /// Look at so many configurations at most
    #[arg(long, value_name = "N")]
    pub configurations: Option<u64>,
    /// Take so much memory at most; 2GB when left out
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<String>,
    /// Threads; as many as there are cores when left out
    #[arg(long, value_name = "N")]
    pub jobs: Option<usize>,
    /// Take every step in every order, also where the order does not matter
    #[arg(long)]
    pub unreduced: bool,
    /// Show each outcome that there can be, instead of what is wrong
    #[arg(long)]
    pub outcomes: bool,
    /// It need not come to an end: a server
    #[arg(long)]
    pub may_run_forever: bool,
    /// Random schedules beyond a limit that was reached
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub walks: u64,
    /// The seed of the first random schedule
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Write the schedule that goes wrong to a file
    #[arg(long, value_name = "SCHEDULE")]
    pub save: Option<PathBuf>,
    /// Take a schedule from a file again, step by step
    #[arg(long, value_name = "SCHEDULE", conflicts_with = "save")]
    pub replay: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub enum ModelName {
    HighLevel,
    ComputeStorage,
    RecordReplay,
    /// The engine that runs programs, broken off before and after commits
    Engine,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Dump {
    /// The core calculus
    Core,
    /// The register code
    Code,
}

/// Which instances.
#[derive(Args, Default)]
pub struct Filter {
    /// Only those in this status
    #[arg(long, value_enum)]
    pub status: Option<Status>,
    /// Only those that run this orchestration; `script` for scripts
    #[arg(long, value_name = "NAME")]
    pub function: Option<String>,
    /// Only those whose ids begin so
    #[arg(long, value_name = "TEXT")]
    pub prefix: Option<String>,
    /// Only those that began after this time, or within this long: 2026-03-01T12:00:00Z, 2h
    #[arg(long, value_name = "TIME")]
    pub after: Option<String>,
    /// Only those that began before this time, or longer ago
    #[arg(long, value_name = "TIME")]
    pub before: Option<String>,
}

#[derive(Args)]
#[command(after_help = "Examples:
  durable list --status failed --after 1d
  durable list --function transfer --prefix order-")]
pub struct List {
    #[command(flatten)]
    pub filter: Filter,
    /// One line of JSON for each
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub store: InStore,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub enum Status {
    Running,
    Suspended,
    Completed,
    Failed,
    Terminated,
}

#[derive(Args)]
#[command(after_help = "Examples:
  durable start bank.df transfer '\"alice\"' '\"bob\"' 10
  durable start bank.df transfer alice bob 10 --id order-17 --wait")]
pub struct Start {
    /// The program
    pub file: PathBuf,
    /// The orchestration
    pub name: String,
    /// Its arguments: JSON, or text as it is
    #[arg(allow_negative_numbers = true)]
    pub args: Vec<String>,
    /// The id of the instance, without a `:`; when there is one already of the same arguments, nothing is started
    #[arg(long)]
    pub id: Option<String>,
    /// What happens when there is an instance of that id
    #[arg(long, value_enum, default_value_t = WhenThere::Join, requires = "id")]
    pub if_exists: WhenThere,
    #[command(flatten)]
    pub may: May,
    #[command(flatten)]
    pub awaited: Awaited,
    #[command(flatten)]
    pub store: InStore,
}

/// Whether the end of what begins is waited for, and how its result is shown.
#[derive(Args)]
pub struct Awaited {
    /// Wait for its end and show its result
    #[arg(long)]
    pub wait: bool,
    /// With `--wait`: the result as one line of JSON
    #[arg(long, requires = "wait")]
    pub json: bool,
}

/// What happens to a run or a start when there is an instance of its id.
#[derive(Clone, Copy, Default, ValueEnum)]
pub enum WhenThere {
    /// It is that instance, if function and arguments are the same; else an error
    #[default]
    Join,
    /// An error
    Fail,
    /// An instance that has ended is purged with its children, and another begins; else an error
    Replace,
}

impl From<WhenThere> for IfExists {
    fn from(when: WhenThere) -> IfExists {
        match when {
            WhenThere::Join => IfExists::Join,
            WhenThere::Fail => IfExists::Fail,
            WhenThere::Replace => IfExists::Replace,
        }
    }
}

#[derive(Args)]
#[command(after_help = "Examples:
  durable restart order-17
  durable restart order-17 --id order-17-again --wait
  durable restart order-17 --id order-17   # purges the old one, which must have ended")]
pub struct Restart {
    /// The instance whose function, program and arguments the new one has; it stays as it is
    pub id: String,
    /// The id of the new instance; the next that is free when left out. The old one's own: that is purged first
    #[arg(long = "id", value_name = "NEW")]
    pub new: Option<String>,
    #[command(flatten)]
    pub may: May,
    #[command(flatten)]
    pub awaited: Awaited,
    #[command(flatten)]
    pub store: InStore,
}

#[derive(Args)]
#[command(after_help = "Example:
  durable raise order-17 approval '{\"by\": \"ada\"}'")]
pub struct Raise {
    /// The instance
    pub id: String,
    /// The event's name
    pub event: String,
    /// What `receive` gives: JSON, or text as it is; null when left out
    #[arg(allow_negative_numbers = true)]
    pub payload: Option<String>,
    #[command(flatten)]
    pub store: InStore,
}

#[derive(Args)]
#[command(after_help = "Examples:
  durable signal Account@alice deposit 5
  durable signal Reminder@alice ring --after 1h")]
pub struct Signal {
    /// The entity: its name, `@` and its key
    pub entity: String,
    /// The operation
    pub operation: String,
    /// Its arguments: JSON, or text as it is
    #[arg(allow_negative_numbers = true)]
    pub args: Vec<String>,
    /// Not before this long from now
    #[arg(long, value_name = "DURATION")]
    pub after: Option<String>,
    #[command(flatten)]
    pub store: InStore,
}

#[derive(Args)]
pub struct Terminate {
    /// The instance
    pub id: String,
    /// Why, for those who wait for it
    pub why: Option<String>,
    /// Let the children go on that it called
    #[arg(long)]
    pub leave_children: bool,
    #[command(flatten)]
    pub store: InStore,
}

#[derive(Args)]
pub struct EntitiesList {
    /// Only those of this name
    pub name: Option<String>,
    /// One line of JSON for each
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub store: InStore,
}

#[derive(Args)]
pub struct OneEntity {
    /// The entity: its name, `@` and its key
    pub entity: String,
    /// As JSON
    #[arg(long)]
    pub json: bool,
    /// Remove the message that it is at, or the next one; whoever waits for it gets an error
    #[arg(long, conflicts_with = "json")]
    pub drop_message: bool,
    #[command(flatten)]
    pub store: InStore,
}

#[derive(Args)]
pub struct Programs {
    /// One line of JSON for each
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub store: InStore,
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
pub struct History {
    /// The instance
    pub id: String,
    /// As JSON
    #[arg(long)]
    pub json: bool,
    /// Leave out values of `env`, request headers and variables for programs, and what equals them elsewhere
    #[arg(long)]
    pub redact: bool,
    #[command(flatten)]
    pub store: InStore,
}

#[derive(Args)]
pub struct Rewind {
    /// The instance
    pub id: String,
    /// Show what would be asked again and what would be cut, and change nothing
    #[arg(long)]
    pub dry_run: bool,
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
  durable purge --status completed --before 30d")]
pub struct Purge {
    /// The instances; each goes with all that it called or started without naming it
    #[arg(required_unless_present_any = ["status", "function", "prefix", "after", "before"])]
    pub ids: Vec<String>,
    #[command(flatten)]
    pub filter: Filter,
    /// Also those that have not ended: they are terminated first
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
    /// Leave out values of `env`, request headers and variables for programs, and what equals them elsewhere; for people, and not to
    /// be imported
    #[arg(long)]
    pub redact: bool,
    #[command(flatten)]
    pub store: InStore,
}

#[derive(Args)]
pub struct Import {
    /// The file to read
    pub file: PathBuf,
    /// Take what is complete of an export of a damaged store, and say what is left out
    #[arg(long)]
    pub damaged: bool,
    #[command(flatten)]
    pub store: InStore,
}
