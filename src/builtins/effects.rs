//! The one table of effects: what programs ask of the outside of their machine.

use super::{Builtin, Contexts, Kind};

/// Who answers an effect, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// The engine does it by itself.
    Engine,
    /// It is answered at once, within the process.
    Immediate,
    /// It leaves the process, once the writes that it depends on are durable.
    AfterCommit,
    /// A message to an instance or an entity.
    Message,
    /// It looks into others: only tests, properties and mocks may.
    Look,
}

macro_rules! effects {
    ($($group:ident $route:ident {
        $($(#[doc = $doc:literal])+ $effect:ident $name:literal $min:literal $max:literal $contexts:ident;)+
    })+) => {
        /// A request to the outside of the machine.
        ///
        /// What is stored, and what people see, has its name.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Effect {
            $($($(#[doc = $doc])+ $effect,)+)+
        }

        // A pattern of the effects of a group, for those who treat them alike.
        $(
            macro_rules! $group {
                () => { $($crate::builtins::Effect::$effect)|+ };
            }
            pub(crate) use $group;
        )+

        impl Effect {
            /// As the standard library mentions it, and as it is stored: `fs_read`.
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

// By groups, each with its route: the variant, its name, the least and the most arguments, and where it may be asked for.
// The number of an effect is its place here, so new ones go to the end of their group.
effects! {
    lines AfterCommit {
        /// A line on standard output.
        Print "print" 1 1 EFFECTFUL;
        /// A line on standard error, with its level.
        Log "log" 2 2 EFFECTFUL;
    }
    immediate Immediate {
        /// The time.
        Now "now" 0 0 EFFECTFUL;
        /// A float from 0 up to 1.
        Random "random" 0 0 EFFECTFUL;
        /// An int between two others, which may be it.
        RandomInt "random_int" 2 2 EFFECTFUL;
        /// A text that no other is like.
        Uuid "uuid" 0 0 EFFECTFUL;
        /// A variable of the environment.
        Env "env" 1 1 EFFECTFUL;
        /// A variable of the environment, known by its name only.
        Secret "secret" 1 1 EFFECTFUL;
    }
    outside AfterCommit {
        /// A line of standard input, after a prompt.
        Input "input" 1 1 EFFECTFUL;
        /// A request: its method, its URL, its body and its options.
        Http "http" 4 4 EFFECTFUL;
    }
    files AfterCommit {
        /// The text of a file.
        FsRead "fs_read" 1 1 EFFECTFUL;
        /// The bytes of a file.
        FsReadBytes "fs_read_bytes" 1 1 EFFECTFUL;
        /// Makes a file that has this text or these bytes.
        FsWrite "fs_write" 2 2 EFFECTFUL;
        /// Adds to a file.
        FsAppend "fs_append" 2 2 EFFECTFUL;
        /// Whether there is something at a path.
        FsExists "fs_exists" 1 1 EFFECTFUL;
        /// The names in a folder.
        FsList "fs_list" 1 1 EFFECTFUL;
        /// Makes a folder.
        FsMakeDir "fs_make_dir" 1 1 EFFECTFUL;
        /// Removes what is at a path.
        FsRemove "fs_remove" 1 1 EFFECTFUL;
    }
    programs AfterCommit {
        /// Runs a program: its name, its arguments and its options.
        Exec "exec" 3 3 EFFECTFUL;
        /// What the process around does: the name of an `extern activity`, its arguments, its idempotency key.
        Extern "extern" 3 3 ACTIVITY;
    }
    sleep Engine {
        /// Waits for a duration. The host sees to it for an activity.
        Sleep "sleep" 1 1 ACTIVE;
    }
    engine Engine {
        /// Waits for an instant.
        SleepUntil "sleep_until" 1 1 ORCHESTRATION;
        /// Waits for an event of that name.
        Receive "receive" 1 1 ORCHESTRATION;
        /// Waits for the end of an instance.
        Wait "wait" 1 1 ORCHESTRATION;
        /// What is known of an instance.
        Status "status" 1 1 ORCHESTRATION;
        /// Sets what an instance says of itself.
        SetStatus "set_status" 1 1 ORCHESTRATION;
        /// Begins the instance anew, with these arguments.
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
        /// How an instance ended.
        OutcomeOf "outcome_of" 1 1 LOOKS;
    }
    messages Message {
        /// Raises an event for an instance: its id, the event's name, the payload.
        Raise "raise" 3 3 EFFECTFUL;
        /// Ends an instance: its id, why, and options.
        Terminate "terminate" 3 3 EFFECTFUL;
        /// Holds an instance up.
        Suspend "suspend" 1 1 EFFECTFUL;
        /// Lets a suspended instance go on.
        Resume "resume" 1 1 EFFECTFUL;
        /// Starts an orchestration: the machine makes a request of its own kind of it.
        Start "start" 3 3 EFFECTFUL;
        /// Signals an operation of an entity, likewise.
        Signal "signal" 4 4 EFFECTFUL;
    }
}

const fn kind(effect: Effect) -> Kind {
    match effect.route() {
        Route::Message => Kind::Message(effect),
        _ => Kind::Effect(effect),
    }
}

impl Effect {
    /// The effect of that name.
    pub fn find(name: &str) -> Option<Effect> {
        EFFECTS.iter().find(|builtin| builtin.name == name).and_then(Builtin::effect)
    }

    /// Its number in the table of builtins.
    pub const fn id(self) -> super::BuiltinId {
        super::BuiltinId(self as u16)
    }

    /// As it is written in a program: `fs.read`.
    pub fn shown(self) -> String {
        shown(self.name())
    }

    /// As a mock names it: `fs.read`, `http.request`, `random`.
    pub fn mocked_as(self) -> String {
        match self {
            Effect::Http => "http.request".to_string(),
            other => other.shown(),
        }
    }

    /// The effect that a mock of that name stands for.
    pub fn mockable(path: &str) -> Option<Effect> {
        let name = match path {
            "http.request" => "http".to_string(),
            path => path.replace('.', "_"),
        };
        Effect::find(&name).filter(|effect| effect.is_of_the_outside())
    }

    /// Whether its answer says something of the outside, which a mock can say in its place.
    fn is_of_the_outside(self) -> bool {
        match self.route() {
            Route::AfterCommit => !self.is_line() && self != Effect::Extern,
            Route::Immediate => true,
            Route::Engine | Route::Message | Route::Look => false,
        }
    }

    /// Whether it writes a line.
    pub const fn is_line(self) -> bool {
        matches!(self, lines!())
    }

    /// Whether it is about a file or a folder.
    pub const fn is_on_files(self) -> bool {
        matches!(self, files!())
    }

    /// Whether it waits for a time.
    pub const fn is_sleep(self) -> bool {
        matches!(self, Effect::Sleep | Effect::SleepUntil)
    }

    /// Whether it is a message to another instance or an entity.
    pub const fn is_message(self) -> bool {
        matches!(self, messages!())
    }
}

/// The name of an effect as it is written in a program, whether this version knows the effect or not.
pub fn shown(name: &str) -> String {
    name.replace("fs_", "fs.")
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
