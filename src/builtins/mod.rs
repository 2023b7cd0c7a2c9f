//! The table of builtins: natives and effects, by the names that the standard library uses
//! (`native.name`). The checker, the compiler, the machine and the tools read this table. Its first
//! part is the table of [effects](Effect).

mod effects;

pub use effects::{Effect, Route, shown};
pub(crate) use effects::{
    databases, engine, files, immediate, lines, looks, messages, outside, programs, sleep,
};

/// A set of contexts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contexts(pub u8);

/// The context in which code runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Context {
    /// An orchestration or a script: effects are recorded in the history.
    Orchestration,
    /// An activity: effects are done at once.
    Activity,
    /// An operation of an entity.
    Operation,
    /// A `const` or an entity's initial state: no effects.
    Pure,
    /// A mock or a property, in tests.
    Trial,
}

impl Contexts {
    pub const ORCHESTRATION: Contexts = Contexts(1);
    pub const ACTIVITY: Contexts = Contexts(2);
    pub const ACTIVE: Contexts = Contexts(3);
    pub const OPERATION: Contexts = Contexts(4);
    pub const EFFECTFUL: Contexts = Contexts(7);
    pub const TRIAL: Contexts = Contexts(16);
    /// Tests, mocks and properties. A test runs as an orchestration; no other orchestration may
    /// look.
    pub const LOOKS: Contexts = Contexts(17);
    pub const ALL: Contexts = Contexts(31);

    /// Returns whether a context is in the set.
    pub fn allow(self, context: Context) -> bool {
        self.0 & (1 << context as u8) != 0
    }
}

impl Context {
    /// Returns the context's name in messages.
    pub fn describe(self) -> &'static str {
        match self {
            Context::Orchestration => "an orchestration",
            Context::Activity => "an activity",
            Context::Operation => "an entity's operation",
            Context::Pure => "a `const` or an initial state",
            Context::Trial => "a mock or a property",
        }
    }
}

/// The way in which the machine executes a builtin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A function that is computed from its arguments.
    Native,
    /// A value that the machine knows about the running code.
    Identity,
    /// A step of the machine's scheduler: tasks, scopes and critical sections.
    Scheduling,
    /// A request to the outside of the machine.
    Effect(Effect),
    /// A message to an instance or an entity. An orchestration requests it like any effect. An
    /// activity or an operation sends it with its result, so nothing waits for it there.
    Message(Effect),
}

/// An entry of the table.
#[derive(Clone, Copy, Debug)]
pub struct Builtin {
    pub name: &'static str,
    pub min: u8,
    pub max: u8,
    pub kind: Kind,
    pub contexts: Contexts,
}

impl Builtin {
    /// Returns the effect, if the builtin is one; messages are effects.
    pub const fn effect(&self) -> Option<Effect> {
        match self.kind {
            Kind::Effect(effect) | Kind::Message(effect) => Some(effect),
            Kind::Native | Kind::Identity | Kind::Scheduling => None,
        }
    }
}

/// An index into [`TABLE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BuiltinId(pub u16);

impl BuiltinId {
    pub fn get(self) -> &'static Builtin {
        &TABLE[self.0 as usize]
    }
}

/// Returns the builtin of a name.
pub fn find(name: &str) -> Option<BuiltinId> {
    TABLE.iter().position(|builtin| builtin.name == name).map(|at| BuiltinId(at as u16))
}

const fn native(name: &'static str, arity: u8) -> Builtin {
    Builtin { name, min: arity, max: arity, kind: Kind::Native, contexts: Contexts::ALL }
}

const fn range(name: &'static str, min: u8, max: u8) -> Builtin {
    Builtin { name, min, max, kind: Kind::Native, contexts: Contexts::ALL }
}

const fn scheduling(name: &'static str, arity: u8) -> Builtin {
    Builtin { name, min: arity, max: arity, kind: Kind::Scheduling, contexts: Contexts::ORCHESTRATION }
}

/// All builtins: first the effects, then the others.
pub static TABLE: &[Builtin] = &ALL;

const ALL: [Builtin; effects::EFFECTS.len() + OTHERS.len()] = {
    let mut all = [native("", 0); effects::EFFECTS.len() + OTHERS.len()];
    let (effects, others) = all.split_at_mut(effects::EFFECTS.len());
    effects.copy_from_slice(effects::EFFECTS);
    others.copy_from_slice(OTHERS);
    all
};

/// The builtins that are not effects. A new one goes to the end of its group.
const OTHERS: &[Builtin] = &[
    // Tasks.
    scheduling("async", 1),
    scheduling("await", 1),
    scheduling("all", 1),
    scheduling("any", 1),
    scheduling("race", 1),
    scheduling("section", 2),
    // The first task to settle, by its index or its name; and all tasks, once all have settled.
    scheduling("select", 1),
    scheduling("settle", 1),
    // Scopes of a fiber: when a scope fails, the tasks that began in it are cancelled.
    Builtin { name: "scope", min: 1, max: 1, kind: Kind::Scheduling, contexts: Contexts::ALL },
    Builtin { name: "scope_end", min: 2, max: 2, kind: Kind::Scheduling, contexts: Contexts::ALL },
    // Values that the machine knows about the running code.
    Builtin { name: "attempt", min: 0, max: 0, kind: Kind::Identity, contexts: Contexts::EFFECTFUL },
    Builtin { name: "has_tasks", min: 0, max: 0, kind: Kind::Identity, contexts: Contexts::ALL },
    Builtin { name: "retry_seed", min: 0, max: 0, kind: Kind::Identity, contexts: Contexts::ALL },
    Builtin { name: "self", min: 0, max: 0, kind: Kind::Identity, contexts: Contexts::EFFECTFUL },
    Builtin { name: "idempotency_key", min: 0, max: 0, kind: Kind::Identity, contexts: Contexts(6) },
    // Throws the error that follows from the request answered last: the end of a time limit.
    Builtin { name: "expired", min: 1, max: 1, kind: Kind::Identity, contexts: Contexts::ORCHESTRATION },
    Builtin { name: "delete_state", min: 0, max: 0, kind: Kind::Identity, contexts: Contexts::OPERATION },
    // Values of any kind.
    native("kind_of", 1),
    native("to_string", 1),
    native("show", 1),
    native("len", 1),
    range("min", 1, 250),
    range("max", 1, 250),
    native("div", 2),
    native("range", 3),
    native("fail", 2),
    native("assert_compared", 4),
    native("repl_text", 2),
    native("repl_kinds", 1),
    native("repl_failure", 1),
    native("compare", 2),
    native("optional_index", 2),
    // Options.
    native("retry_policy", 1),
    native("retry_again", 2),
    native("retry_pause", 3),
    native("par_map_limit", 1),
    native("check_limit", 1),
    native("check_options", 3),
    native("closest", 2),
    native("receive_limit", 1),
    native("all_waits", 1),
    // Lists.
    native("list_get", 2),
    native("list_slice", 3),
    // A native of an earlier library. Programs are stored with the library that they began with, so
    // a native is never removed.
    native("list_room", 1),
    range("list_sort", 1, 2),
    range("list_sort_by", 2, 3),
    native("list_group", 2),
    native("list_reverse", 1),
    native("list_contains", 2),
    native("list_index_of", 2),
    native("list_unique", 1),
    native("list_sum", 1),
    native("list_join", 2),
    native("list_flatten", 1),
    native("list_insert", 3),
    native("list_remove", 2),
    native("list_take", 2),
    native("list_drop", 2),
    native("list_chunk", 2),
    native("list_shuffled", 3),
    // Strings.
    native("string_split", 2),
    native("string_trim", 1),
    native("string_replace", 3),
    native("string_upper", 1),
    native("string_lower", 1),
    native("string_starts_with", 2),
    native("string_ends_with", 2),
    native("string_contains", 2),
    native("string_index_of", 2),
    native("string_slice", 3),
    native("string_chars", 1),
    native("string_lines", 1),
    native("string_repeat", 2),
    native("string_to_int", 1),
    native("string_to_float", 1),
    native("string_bytes", 1),
    native("string_padding", 3),
    native("char_code", 1),
    native("char_of", 1),
    native("string_format", 2),
    // Records.
    native("record_keys", 1),
    native("record_values", 1),
    range("record_get", 2, 3),
    native("record_set", 3),
    native("record_remove", 2),
    native("record_has", 2),
    native("record_merge", 2),
    native("record_from_entries", 1),
    native("key", 1),
    // Numbers.
    native("math_abs", 1),
    native("math_floor", 1),
    native("math_ceil", 1),
    native("math_round", 1),
    native("math_sqrt", 1),
    native("math_pow", 2),
    native("math_log", 1),
    native("math_exp", 1),
    native("math_sin", 1),
    native("math_cos", 1),
    native("math_tan", 1),
    native("to_float", 1),
    native("math_round_to", 2),
    native("bits_and", 2),
    native("bits_or", 2),
    native("bits_xor", 2),
    native("bits_not", 1),
    native("bits_count", 1),
    native("bits_shift_left", 2),
    native("bits_shift_right", 2),
    // Formats.
    range("json_parse", 1, 2),
    range("json_encode", 1, 2),
    native("json_pretty", 1),
    native("csv_parse", 2),
    native("csv_encode", 2),
    native("toml_parse", 1),
    native("toml_encode", 1),
    native("yaml_parse", 1),
    native("yaml_parse_all", 1),
    native("yaml_encode", 1),
    native("gzip_compress", 1),
    native("gzip_decompress", 2),
    native("url_encode", 1),
    native("url_decode", 1),
    native("url_query", 1),
    native("url_parse", 1),
    native("http_retry_after", 2),
    native("regex_matches", 2),
    native("regex_find", 2),
    native("regex_find_some", 3),
    native("regex_replace_some", 5),
    native("regex_split_some", 4),
    // Natives of an earlier library.
    native("regex_find_all", 2),
    native("regex_replace", 3),
    native("regex_split", 2),
    // Time.
    range("time_parse", 1, 3),
    native("time_format", 3),
    native("time_parts", 2),
    native("time_from_parts", 2),
    native("instant_from_nanos", 1),
    native("instant_nanos", 1),
    native("duration_from_nanos", 1),
    native("duration_nanos", 1),
    native("time_offset", 2),
    native("time_shift", 3),
    native("time_start", 3),
    native("time_parse_duration", 1),
    native("cron_parse", 1),
    native("cron_next", 3),
    // Schedules.
    native("schedule_next", 3),
    native("schedule_due", 5),
    // Bytes.
    native("bytes_of", 1),
    native("bytes_text", 1),
    native("bytes_slice", 3),
    native("bytes_hex", 1),
    native("bytes_base64", 1),
    native("bytes_from_hex", 1),
    native("bytes_from_base64", 1),
    native("bytes_list", 1),
    native("bytes_sha256", 1),
    native("bytes_join", 1),
    native("hash", 2),
    range("hmac", 2, 3),
    range("base64_encode", 1, 2),
    native("base64_decode", 1),
    native("uuid_v7", 2),
    // Databases.
    native("sql_connect", 2),
];

#[cfg(test)]
mod tests {
    use super::{Effect, TABLE, find};

    #[test]
    fn effects_have_their_numbers() {
        for (at, builtin) in TABLE.iter().enumerate() {
            if let Some(effect) = builtin.effect() {
                assert_eq!((usize::from(effect.id().0), effect.name()), (at, builtin.name));
            }
            assert_eq!(find(builtin.name).map(|id| usize::from(id.0)), Some(at), "{}", builtin.name);
        }
        assert_eq!(TABLE.iter().filter_map(|builtin| builtin.effect()).next_back(), Some(Effect::Cancel));
    }
}
