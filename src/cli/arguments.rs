//! What the command line takes: all commands, and the arguments of those that use a store.

mod debug;
mod http;
mod programs;
mod runs;
mod stores;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::engine::Quotas;
use crate::machine::IfExists;

pub use debug::Debug;
pub use http::Http;
pub use programs::{Check, Doc, Dump, Explain, Explore, Fmt, Form, ModelName, New, Test};
pub use runs::{Fork, Replay, Rewind, Upgrade, VerifyRun};
pub use stores::{Adopt, Export, Import, InitStore, StoreCommand};

/// A programming language in which every program is durable.
#[derive(Parser)]
#[command(
    name = "durable",
    version,
    after_help = "Examples:
  durable run greet.df                 run a script, or continue its unfinished run
  durable run pay.df --id order-17     run it under an id: the same id is the same run
  durable resume                       continue everything that is unfinished
  durable history order-17             show its requests and their answers
  durable replay order-17 --trace      run it again from its journal, without effects
  durable repl --session notes         open a prompt whose session survives
  durable test --crash                 run all tests here, with a crash at every commit

Exit codes:
  0 done · 1 the program failed · 2 wrong arguments · 3 the program has mistakes
  4 the store or a file can't be used · 5 no such instance · 70 a fault of durable itself
  130 interrupted, can be resumed"
)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Run a script, or continue its unfinished run
    Run(Run),
    /// Continue unfinished instances
    Resume(Resume),
    /// Check programs for mistakes without running them
    Check(Check),
    /// Open a prompt whose session survives
    Repl(Repl),
    /// Run tests, with mocked effects and simulated time
    Test(Test),
    /// Format programs
    Fmt(Fmt),
    /// Check a program under every schedule and every crash
    Explore(Explore),
    /// Create a small project: a script, a module, tests
    New(New),
    /// Explain a kind of error, with an example
    Explain(Explain),
    /// Generate documentation from doc comments
    Doc(Doc),
    /// Serve an editor over the language server protocol
    Lsp,
    /// Start an instance of an orchestration
    Start(Start),
    /// Wait for an instance and show its result; if no process has the store open, run it here
    Wait(One),
    /// Raise an event for an instance
    Raise(Raise),
    /// Send a signal to an entity
    Signal(Signal),
    /// Call an operation of an entity, and show its answer
    Call(Call),
    /// Show the status that an instance has set
    Status(One),
    /// Suspend an instance
    Suspend(One),
    /// Let a suspended instance continue
    Unsuspend(One),
    /// Cancel an instance: let it clean up and end
    Cancel(Cancel),
    /// Terminate an instance and the children that it called, without a clean-up
    Terminate(Terminate),
    /// Let a failed instance retry its failed steps
    Rewind(Rewind),
    /// Let instances that have not ended go on with another program, if it fits their histories
    Upgrade(Upgrade),
    /// Show what an instance would have done from an entry on, with other answers or another text
    Fork(Fork),
    /// Check what happened in a store against the rules of the model
    VerifyRun(VerifyRun),
    /// Start a new instance with the function, program and arguments of another
    Restart(Restart),
    /// Run as a server: execute every instance that can run, and stay
    Serve(Serve),
    /// Make the orchestrations and entities of programs known under their names
    Deploy(Deploy),
    /// Open the page of the store's HTTP server
    Open(Open),
    /// Show the workers and partitions of a store in a database
    Cluster(ClusterView),
    /// List instances
    List(List),
    /// Show one instance
    Show(One),
    /// Show the requests of an instance and their answers
    History(History),
    /// Run an instance again from its journal, without effects
    Replay(Replay),
    /// Visit any moment of an instance's run, forwards and backwards
    Debug(Debug),
    /// Serve a debugging client over the Debug Adapter Protocol
    Dap,
    /// List entities that have a state, a holder, messages or kept operations
    Entities(EntitiesList),
    /// Show one entity
    Entity(OneEntity),
    /// Show which instances hold entities and which wait for them
    Locks(Programs),
    /// List the programs in the store
    Programs(Programs),
    /// Remove instances that have ended
    Purge(Purge),
    /// Make, verify, export and import a store
    #[command(subcommand)]
    Store(StoreCommand),
    /// Print completions for a shell
    Completions { shell: clap_complete::Shell },
}

#[derive(Args)]
pub struct InStore {
    /// The folder of the store, or the URL of its database: postgres://user@host/database
    #[arg(long, value_name = "DIR", default_value = ".durable")]
    pub store: PathBuf,
}

/// Which cluster to show.
#[derive(Args)]
pub struct ClusterView {
    /// Print one line of JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub store: InStore,
}

#[derive(Args)]
#[command(after_help = "Examples:
  durable run greet.df Tokyo Seattle
  durable run import.df --id nightly --input '{\"day\": \"2026-03-01\"}'")]
pub struct Run {
    /// The script
    pub file: PathBuf,
    /// Arguments of the script: the list of strings `args`
    pub args: Vec<String>,
    /// The id of the instance. The same id continues the same run, or shows its result
    #[arg(long)]
    pub id: Option<String>,
    /// What to do if the id is taken
    #[arg(long, value_enum, default_value_t = WhenThere::Join, requires = "id")]
    pub if_exists: WhenThere,
    /// A JSON value for `args`, instead of strings
    #[arg(long, value_name = "JSON", conflicts_with = "args")]
    pub input: Option<String>,
    /// Print the result as one line of JSON after the program's output
    #[arg(long)]
    pub json: bool,
    /// When to make the journal durable
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
    /// Allow these effects and no others: read, write, fs (both), net, exec, env, each with `=` for a part. An instance keeps
    /// its permissions, no matter who continues it
    #[arg(long, value_name = "WHAT")]
    pub allow: Vec<String>,
    /// Deny these effects, even where they are allowed
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
    /// Which part of a history to keep before its last checkpoint
    #[arg(long = "history", value_name = "KEPT", value_enum, default_value_t = Kept::All)]
    pub kept: Kept,
    /// The most unfinished instances of one root: of a script or a started instance, with all of its descendants
    #[arg(long, value_name = "COUNT", default_value_t = Quotas::default().instances)]
    pub max_instances: usize,
    /// The most bytes of history that one root may write while the process lives, with all of its descendants
    #[arg(long, value_name = "BYTES", default_value_t = Quotas::default().bytes)]
    pub max_written: u64,
    /// Keep the operations of entities, for `durable entity --history` and the debugger. The store remembers the choice
    #[arg(long, value_name = "WHETHER", value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "on")]
    pub journal_entities: Option<Switch>,
}

/// Whether something is done.
#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub enum Switch {
    On,
    Off,
}

impl Default for Keep {
    fn default() -> Keep {
        let Quotas { instances, bytes } = Quotas::default();
        Keep { kept: Kept::All, max_instances: instances, max_written: bytes, journal_entities: None }
    }
}

/// The part of a history to keep before its last checkpoint.
#[derive(Clone, Copy, Default, ValueEnum)]
pub enum Kept {
    /// All of it: an instance can be replayed from its beginning
    #[default]
    All,
    /// Nothing: an instance that runs forever takes constant space
    Latest,
}

#[derive(Args)]
pub struct Serve {
    #[command(flatten)]
    pub http: Http,
    /// On a store in a database: the time after which other workers take over when this one is silent
    #[arg(long, value_name = "DURATION")]
    pub lease: Option<String>,
    /// On a store in a database: the address at which other workers and clients reach this one with hints
    #[arg(long, value_name = "ADDRESS")]
    pub address: Option<SocketAddr>,
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
#[command(after_help = "Example:
  durable deploy orders.df && durable start order 17")]
pub struct Deploy {
    /// The programs
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    #[command(flatten)]
    pub may: May,
    /// Print one line of JSON for each file
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub store: InStore,
}

#[derive(Args)]
pub struct Open {
    /// The instance to show
    pub id: Option<String>,
    /// Print the address, and open no browser
    #[arg(long)]
    pub print: bool,
    #[command(flatten)]
    pub store: InStore,
}

/// When to make the journal durable.
#[derive(Clone, Copy, ValueEnum)]
pub enum Durability {
    /// After each turn
    Each,
    /// Before an output that depends on it leaves the process
    Output,
    /// At the end only: a crash loses the run
    None,
}

#[derive(Args)]
pub struct Resume {
    /// The instance; default: all unfinished ones
    pub id: Option<String>,
    /// Print each result as one line of JSON after the programs' output
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
#[command(after_help = "Examples:
  durable repl                     open a new session
  durable repl --session bank      open a session by name, or continue it
  durable repl bank.df             evaluate a file first
  echo '1 + 1' | durable repl      read entries from a pipe")]
pub struct Repl {
    /// A program to evaluate first
    pub file: Option<PathBuf>,
    /// The name of the session
    #[arg(long, value_name = "NAME")]
    pub session: Option<String>,
    #[command(flatten)]
    pub may: May,
    #[command(flatten)]
    pub store: InStore,
}

/// Which instances.
#[derive(Args, Default)]
pub struct Filter {
    /// Only instances in these states, separated by commas
    #[arg(long, value_enum, value_delimiter = ',')]
    pub status: Vec<Status>,
    /// Only instances of this orchestration; `script` for scripts
    #[arg(long, value_name = "NAME")]
    pub function: Option<String>,
    /// Only instances whose ids begin with this text
    #[arg(long, value_name = "TEXT")]
    pub prefix: Option<String>,
    /// Only instances that began after a time or within a duration: 2026-03-01T12:00:00Z, 2h
    #[arg(long, value_name = "TIME")]
    pub after: Option<String>,
    /// Only instances that began before a time or longer ago than a duration
    #[arg(long, value_name = "TIME")]
    pub before: Option<String>,
    /// Only instances that ended after a time or within a duration
    #[arg(long, value_name = "TIME")]
    pub ended_after: Option<String>,
    /// Only instances that ended before a time or longer ago than a duration
    #[arg(long, value_name = "TIME")]
    pub ended_before: Option<String>,
    /// Only scripts, sessions and what was started by a command
    #[arg(long)]
    pub roots: bool,
    /// Only instances for which an expression is true. It can use id, status, function, file, args, custom, result, error,
    /// created, ended, parent and root
    #[arg(long = "where", value_name = "CONDITION")]
    pub condition: Option<String>,
}

#[derive(Args)]
#[command(after_help = "Examples:
  durable list --status failed,terminated --after 1d
  durable list --function transfer --prefix order-
  durable list --roots --where 'custom.phase == \"paid\"'
  durable list --limit 20
  durable list --tree order-17")]
pub struct List {
    #[command(flatten)]
    pub filter: Filter,
    /// Only this instance, with everything that it called or started under automatic ids
    #[arg(long, value_name = "ID", conflicts_with_all = ["status", "function", "prefix", "after", "before",
        "ended_after", "ended_before", "roots", "condition", "limit", "from"])]
    pub tree: Option<String>,
    /// The most instances to list, in the order of their ids
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// The id to begin with, in the order of ids
    #[arg(long, value_name = "ID")]
    pub from: Option<String>,
    /// Print one line of JSON for each
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub store: InStore,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub enum Status {
    Running,
    Suspended,
    /// Started, and to begin at a later time
    Scheduled,
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
    /// The arguments: JSON, or plain text
    #[arg(allow_negative_numbers = true)]
    pub args: Vec<String>,
    /// The id of the instance, without a `:`. If an instance of this id has the same arguments, nothing is started
    #[arg(long)]
    pub id: Option<String>,
    /// What to do if the id is taken
    #[arg(long, value_enum, default_value_t = WhenThere::Join, requires = "id")]
    pub if_exists: WhenThere,
    /// Begin after this duration
    #[arg(long, value_name = "DURATION")]
    pub after: Option<String>,
    #[command(flatten)]
    pub may: May,
    #[command(flatten)]
    pub awaited: Awaited,
    #[command(flatten)]
    pub store: InStore,
}

/// Whether to wait for an instance that was started, and how to show its result.
#[derive(Args)]
pub struct Awaited {
    /// Wait for the instance and show its result
    #[arg(long)]
    pub wait: bool,
    /// With `--wait`: print the result as one line of JSON
    #[arg(long, requires = "wait")]
    pub json: bool,
}

/// What a run or a start does if its id is taken.
#[derive(Clone, Copy, Default, ValueEnum)]
pub enum WhenThere {
    /// Join that instance if its function and arguments are the same, otherwise fail
    #[default]
    Join,
    /// Fail
    Fail,
    /// Purge that instance with its children if it has ended, and start another; otherwise fail
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
    /// The instance to copy function, program and arguments from; it does not change
    pub id: String,
    /// The id of the new instance; default: the next free one. With the id of the old instance, that one is purged first
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
    /// The payload that `receive` returns: JSON, or plain text; default: null
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
    /// The arguments: JSON, or plain text
    #[arg(allow_negative_numbers = true)]
    pub args: Vec<String>,
    /// Deliver the signal after this duration
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    pub after: Option<String>,
    #[command(flatten)]
    pub store: InStore,
}

#[derive(Args)]
pub struct Cancel {
    /// The instance
    pub id: String,
    /// The reason, for the instance and for callers that wait for it
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Terminate the instance if its clean-up takes longer [default: 30s]
    #[arg(long, value_name = "DURATION")]
    pub grace: Option<String>,
    #[command(flatten)]
    pub store: InStore,
}

#[derive(Args)]
#[command(after_help = "Examples:
  durable call Account@alice balance
  durable call Account@alice deposit 5 --id deposit-17
  durable call 'Account@[\"eu\", 7]' balance --timeout 5s --json")]
pub struct Call {
    /// The entity: its name, `@` and its key
    pub entity: String,
    /// The operation
    pub operation: String,
    /// The arguments: JSON, or plain text
    #[arg(allow_negative_numbers = true)]
    pub args: Vec<String>,
    /// The id of the call: a call that is repeated with its id happens once, and has the same answer
    #[arg(long)]
    pub id: Option<String>,
    /// Wait for the answer no longer than this duration
    #[arg(long, value_name = "DURATION")]
    pub timeout: Option<String>,
    /// Print the answer as one line of JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub store: InStore,
}

#[derive(Args)]
pub struct Terminate {
    /// The instance
    pub id: String,
    /// The reason, for callers that wait for the instance
    pub why: Option<String>,
    /// Leave its children running
    #[arg(long)]
    pub leave_children: bool,
    #[command(flatten)]
    pub store: InStore,
}

#[derive(Args)]
pub struct EntitiesList {
    /// Only entities of this name
    pub name: Option<String>,
    /// Print one line of JSON for each
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub store: InStore,
}

#[derive(Args)]
#[command(after_help = "Examples:
  durable entity Account@alice
  durable entity 'Cart@[\"eu\", 17]' --history")]
pub struct OneEntity {
    /// The entity: its name, `@` and its key
    pub entity: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Remove its current or next message; a caller that waits for the answer gets an error
    #[arg(long, conflicts_with = "json")]
    pub drop_message: bool,
    /// Show the operations that are kept of it, with their callers and the states that they left
    #[arg(long, conflicts_with = "drop_message")]
    pub history: bool,
    /// With `--history`: the number of the operation to begin with
    #[arg(long, value_name = "NUMBER", requires = "history")]
    pub from: Option<u64>,
    /// Forget the operations that are kept of it
    #[arg(long, conflicts_with_all = ["json", "drop_message", "history"])]
    pub forget_history: bool,
    #[command(flatten)]
    pub store: InStore,
}

#[derive(Args)]
pub struct Programs {
    /// Print one line of JSON for each
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub store: InStore,
}

#[derive(Args)]
pub struct One {
    /// The instance
    pub id: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub store: InStore,
}

#[derive(Args)]
pub struct History {
    /// The instance
    pub id: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Hide values of `env`, of request headers and of variables for programs, wherever they occur
    #[arg(long)]
    pub redact: bool,
    /// Only its output: what it printed and logged, as far as the history is kept
    #[arg(long, conflicts_with = "redact")]
    pub output: bool,
    #[command(flatten)]
    pub store: InStore,
}

#[derive(Args)]
#[command(after_help = "Examples:
  durable purge order-17
  durable purge --status completed --before 30d")]
pub struct Purge {
    /// The instances; each is purged with everything that it called or started under automatic ids
    #[arg(required_unless_present_any = ["status", "function", "prefix", "after", "before", "ended_after",
        "ended_before", "roots", "condition"])]
    pub ids: Vec<String>,
    #[command(flatten)]
    pub filter: Filter,
    /// Terminate instances that have not ended, and purge them too
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub store: InStore,
}
