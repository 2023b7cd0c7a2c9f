//! The table of effects, which are the requests of programs to the outside of their machine.

use super::{Builtin, Contexts, Kind};

/// The route of an effect: the part that answers it, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// The engine answers the effect by itself.
    Engine,
    /// The process answers the effect at once.
    Immediate,
    /// The effect leaves the process, once the writes that it depends on are durable.
    AfterCommit,
    /// A message to an instance or an entity.
    Message,
    /// The effect looks at the state of others. Only tests, properties and mocks may request it.
    Look,
}

macro_rules! effects {
    ($($group:ident $route:ident {
        $($(#[doc = $doc:literal])+ $effect:ident $name:literal $min:literal $max:literal $contexts:ident;)+
    })+) => {
        /// A request to the outside of the machine.
        ///
        /// Stored forms and messages to people have the effect's name.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Effect {
            $($($(#[doc = $doc])+ $effect,)+)+
        }

        // A pattern of the effects of a group, for code that treats them alike.
        $(
            macro_rules! $group {
                () => { $($crate::builtins::Effect::$effect)|+ };
            }
            pub(crate) use $group;
        )+

        impl Effect {
            /// Returns the name in the standard library and in stored forms: `fs_read`.
            pub const fn name(self) -> &'static str {
                match self {
                    $($(Effect::$effect => $name,)+)+
                }
            }

            pub const fn route(self) -> Route {
                match self {
                    $($group!() => Route::$route,)+
                }
            }
        }

        /// The effects, in their order, as entries of the table of builtins.
        pub(super) const EFFECTS: &[Builtin] = &[
            $($(Builtin {
                name: $name,
                min: $min,
                max: $max,
                kind: kind(Effect::$effect),
                contexts: Contexts::$contexts,
            },)+)+
        ];
    };
}

// The groups, each with its route. An effect has a variant, a name, the least and the most
// arguments, and the contexts that may request it. The number of an effect is its place here, so a
// new effect goes to the end of its group.
effects! {
    lines AfterCommit {
        /// A line on standard output. A request has the line as its only argument.
        Print "print" 0 250 EFFECTFUL;
        /// A line on standard error, with its level.
        Log "log" 2 2 EFFECTFUL;
    }
    immediate Immediate {
        /// The time.
        Now "now" 0 0 EFFECTFUL;
        /// A float from 0 up to 1.
        Random "random" 0 0 EFFECTFUL;
        /// An int from the first argument to the second, both included.
        RandomInt "random_int" 2 2 EFFECTFUL;
        /// A unique text.
        Uuid "uuid" 0 0 EFFECTFUL;
        /// A variable of the environment.
        Env "env" 1 1 EFFECTFUL;
        /// A variable of the environment, which is known by name only.
        Secret "secret" 1 1 EFFECTFUL;
        /// A time zone of a name, with its rules.
        TimeZone "time_zone" 1 1 EFFECTFUL;
        /// A signature by a secret key, given the key, the text or bytes, and options.
        HashHmac "hash_hmac" 3 3 EFFECTFUL;
        /// The URL at which the outside can raise an event for the instance.
        CallbackUrl "callback_url" 1 1 ORCHESTRATION;
    }
    outside AfterCommit {
        /// A line of standard input, after a prompt.
        Input "input" 1 1 EFFECTFUL;
        /// An HTTP request: its method, URL, body and options.
        Http "http" 4 4 EFFECTFUL;
        /// An HTTP request whose body goes to a file: its URL, a path, and options.
        HttpDownload "http_download" 3 3 EFFECTFUL;
    }
    files AfterCommit {
        /// The text of a file.
        FsRead "fs_read" 1 1 EFFECTFUL;
        /// The bytes of a file.
        FsReadBytes "fs_read_bytes" 1 2 EFFECTFUL;
        /// Creates a file with the given text or bytes.
        FsWrite "fs_write" 2 2 EFFECTFUL;
        /// Appends to a file.
        FsAppend "fs_append" 2 2 EFFECTFUL;
        /// Whether a path exists.
        FsExists "fs_exists" 1 1 EFFECTFUL;
        /// The names in a folder.
        FsList "fs_list" 1 1 EFFECTFUL;
        /// Makes a folder.
        FsMakeDir "fs_make_dir" 1 1 EFFECTFUL;
        /// Removes a file or a folder.
        FsRemove "fs_remove" 1 1 EFFECTFUL;
        /// The kind, size, time and mode of what is at a path.
        FsStat "fs_stat" 2 2 EFFECTFUL;
        /// Copies a file to a path.
        FsCopy "fs_copy" 2 2 EFFECTFUL;
        /// Gives a file or a folder another path.
        FsRename "fs_rename" 2 2 EFFECTFUL;
        /// The paths below a folder.
        FsWalk "fs_walk" 2 2 EFFECTFUL;
        /// The paths that fit a pattern.
        FsGlob "fs_glob" 2 2 EFFECTFUL;
        /// Makes a folder for temporary files.
        FsTempDir "fs_temp_dir" 0 0 EFFECTFUL;
        /// Some lines of a file, given its path, where to begin, and about how many bytes.
        FsLines "fs_lines" 3 3 EFFECTFUL;
    }
    programs AfterCommit {
        /// Runs a program, given its name, arguments and options.
        Exec "exec" 3 3 EFFECTFUL;
        /// An effect of the embedding process: the name of an `extern activity`, its arguments, and
        /// its idempotency key.
        Extern "extern" 3 3 ACTIVITY;
        /// Starts a program whose lines are read while it runs, given the same as `exec`.
        ExecStart "exec_start" 3 3 EFFECTFUL;
        /// Waits for further lines of a program that was started: its handle, its name for
        /// messages, and the number of the piece of lines.
        ExecNext "exec_next" 3 3 EFFECTFUL;
        /// Ends a program that was started.
        ExecStop "exec_stop" 1 1 EFFECTFUL;
    }
    databases AfterCommit {
        /// The rows of a statement: a database or a transaction, the text, parameters, and options.
        SqlQuery "sql_query" 4 4 EFFECTFUL;
        /// The number of rows that a statement changes, given the same.
        SqlExecute "sql_execute" 4 4 EFFECTFUL;
        /// Statements in a transaction that happens once: a database, the statements, and options.
        SqlTransaction "sql_transaction" 3 3 EFFECTFUL;
        /// Begins a transaction, given a database and options.
        SqlBegin "sql_begin" 2 2 ACTIVITY;
        /// Commits a transaction with its result.
        SqlCommit "sql_commit" 2 2 ACTIVITY;
        /// Ends a transaction without its changes.
        SqlRollback "sql_rollback" 1 1 ACTIVITY;
    }
    sleep Engine {
        /// Waits for a duration. In an activity, the host does the waiting.
        Sleep "sleep" 1 1 ACTIVE;
    }
    engine Engine {
        /// Waits for an instant.
        SleepUntil "sleep_until" 1 1 ORCHESTRATION;
        /// Waits for an event of a name.
        Receive "receive" 1 1 ORCHESTRATION;
        /// Waits for the end of an instance.
        Wait "wait" 1 1 ORCHESTRATION;
        /// The status of an instance.
        Status "status" 1 1 ORCHESTRATION;
        /// Sets the status that an instance shows.
        SetStatus "set_status" 1 1 ORCHESTRATION;
        /// Begins the instance anew with the given arguments.
        ContinueAsNew "continue_as_new" 0 250 ORCHESTRATION;
        /// Enters a critical section.
        Lock "lock" 1 1 ORCHESTRATION;
        /// Leaves a critical section.
        Unlock "unlock" 1 1 ORCHESTRATION;
    }
    looks Look {
        /// The state of an entity.
        StateOf "state_of" 1 1 LOOKS;
        /// The states of all entities of a declaration.
        StatesOf "states_of" 1 1 LOOKS;
        /// The outcome of an instance.
        OutcomeOf "outcome_of" 1 1 LOOKS;
    }
    messages Message {
        /// Raises an event for an instance, given its id, the event's name and the payload.
        Raise "raise" 3 3 EFFECTFUL;
        /// Terminates an instance, given its id, the reason and options.
        Terminate "terminate" 3 3 EFFECTFUL;
        /// Suspends an instance.
        Suspend "suspend" 1 1 EFFECTFUL;
        /// Resumes a suspended instance.
        Resume "resume" 1 1 EFFECTFUL;
        /// Starts an orchestration, now, after a time or at an instant. The machine makes an
        /// orchestration request of it.
        Start "start" 3 5 EFFECTFUL;
        /// Signals an operation of an entity. The machine makes an operation request of it.
        Signal "signal" 4 4 EFFECTFUL;
        /// Cancels an instance, given its id and options. The machine makes the arguments of the
        /// request: the id, the reason, the grace period, and the place of the call. Given a task,
        /// the machine cancels that task itself.
        Cancel "cancel" 1 2 EFFECTFUL;
    }
}

const fn kind(effect: Effect) -> Kind {
    match effect.route() {
        Route::Message => Kind::Message(effect),
        _ => Kind::Effect(effect),
    }
}

impl Effect {
    /// Returns the effect of a name.
    pub fn find(name: &str) -> Option<Effect> {
        EFFECTS.iter().find(|builtin| builtin.name == name).and_then(Builtin::effect)
    }

    /// Returns the number in the table of builtins.
    pub const fn id(self) -> super::BuiltinId {
        super::BuiltinId(self as u16)
    }

    /// Returns the name in programs: `fs.read`.
    pub fn shown(self) -> String {
        shown(self.name())
    }

    /// Returns the name in mocks: `fs.read`, `http.request`, `random`.
    pub fn mocked_as(self) -> String {
        match self {
            Effect::Http => "http.request".to_string(),
            other => other.shown(),
        }
    }

    /// Returns the effect that a mock of a name stands for.
    pub fn mockable(path: &str) -> Option<Effect> {
        let name = match path {
            "http.request" => "http".to_string(),
            path => path.replace('.', "_"),
        };
        Effect::find(&name).filter(|effect| effect.is_of_the_outside())
    }

    /// Returns whether the answer depends on the outside, so that a mock can give it instead.
    pub fn is_of_the_outside(self) -> bool {
        match self.route() {
            Route::AfterCommit => !self.is_line() && self != Effect::Extern,
            Route::Immediate => true,
            Route::Engine | Route::Message | Route::Look => false,
        }
    }

    /// Returns whether the effect writes a line.
    pub const fn is_line(self) -> bool {
        matches!(self, lines!())
    }

    /// Returns whether the effect is about a file or a folder.
    pub const fn is_on_files(self) -> bool {
        matches!(self, files!())
    }

    /// Returns whether the effect waits for a time.
    pub const fn is_sleep(self) -> bool {
        matches!(self, Effect::Sleep | Effect::SleepUntil)
    }

    /// Returns whether the effect is a message to an instance or an entity.
    pub const fn is_message(self) -> bool {
        matches!(self, messages!())
    }
}

/// Returns the name of an effect in programs, even if this version does not know the effect.
pub fn shown(name: &str) -> String {
    match name.split_once('_') {
        Some((module @ ("fs" | "http" | "exec" | "time" | "hash" | "sql"), function)) => {
            format!("{module}.{function}")
        }
        _ => name.to_string(),
    }
}

impl std::fmt::Debug for Effect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.name())
    }
}

impl std::fmt::Display for Effect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
