//! What is explored: a program's script or one of its tests, with its mocks, its properties, and what can be said of
//! its text without running it.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use crate::builtins::{Builtin, Context, Effect, Route, TABLE};
use crate::check::STD;
use crate::code::{Code, Constant, Function, FunctionId, Mock, Op, Outcome, Property, Trials};
use crate::machine::{Data, Request, RequestKind};

use super::interventions::Interventions;
use super::name::Id;
use super::names;
use super::pace::takes_the_clock;

/// The id of the instance that all begins with.
pub const MAIN: &str = "main";

/// What the main instance runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    Script,
    /// The test of that number.
    Test(usize),
}

/// A program with a subject.
pub struct Program {
    pub code: Arc<Code>,
    pub subject: Subject,
    /// The id of the main instance.
    pub main: Id,
    /// The arguments of the script, a list.
    pub args: Data,
    /// How requests are named.
    pub naming: Naming,
    /// What each instance printed is part of its state.
    pub observes: bool,
    pub mutation: Mutation,
    /// What the operator may do in one run.
    pub interventions: Interventions,
    pub facts: Facts,
    pub properties: Vec<Property>,
    mocks: Vec<Mock>,
}

/// A fault that is put into a rule, to see that it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    None,
    /// **acquire**: a critical section asks for its entities in an order of its own.
    UnsortedLocks,
    /// **acquire**: nobody notes who holds an entity.
    NoHolder,
    /// **begin**: what begins an instance that is there begins it once more.
    BeginsAgain,
    /// **deliver**: the newest message of a sender comes first.
    NewestFirst,
    /// **replace**: the instance that has ended stays, with its outcome.
    ReplaceKeeps,
    /// **purge**: what the instance called or started stays.
    PurgeLeavesChildren,
    /// **purge**: the next life is not told from the last, and takes its answers.
    NoLives,
    /// **operate**: the first message of an entity stays, and its operation runs again.
    OperationStays,
    /// **perform**: what was done is still to be done.
    TaskStays,
    /// **elapse**: of a receiver's timers any may be heeded first.
    NoOrderOfTimers,
    /// **elapse**: what is set is due from the beginning on, not from when it was set.
    NoWork,
    /// **late**: an attempt that was given up does not happen any more.
    NoOrphans,
    /// **lapse**: an attempt that was given up always happens.
    NoLapse,
    /// **read**: the newest message that has come is read.
    ReadsNewest,
    /// **commit**: what a step sends leaves before the step is stored.
    ReleaseBeforeCommit,
    /// **commit**: the message that was taken stays.
    MessageStays,
    /// **refuse**: what was overtaken is stored all the same.
    NoRefusal,
    /// **refuse**: what is refused is not done again.
    RefusedIsLost,
    /// **transfer**: a message that comes twice is taken twice.
    NoDedupe,
    /// **record**: a result is stored, and the task is done and recorded again.
    RecordsAgain,
    /// **record**: a task is removed when it is performed, not when its result is recorded.
    RemovedBeforeRecord,
    /// **crash**: messages that have come are lost.
    CrashLosesInbox,
    /// **rewind**: the answers after the failed one are lost.
    RewindCutsSuccesses,
    /// **rewind**: the numbers of requests that are gone are given again.
    NumbersAgain,
    /// **rewind**: what comes while an instance has failed is dropped.
    FailedDrops,
    /// **rewind**: children that ended because their caller failed stay ended.
    ChildrenStayEnded,
    /// **suspend**: what has come for an instance that is held up is lost in a crash.
    SuspensionForgets,
    /// **replay**: it gives all answers at once.
    NoTurnBoundaries,
    /// **replay**: the last turn is not replayed.
    LastTurnIsLost,
}

/// How the requests of an instance are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// By their number since the instance began, as programs see it in keys and in ids of children.
    ByNumber,
    /// By the least number that is not in use, so that a loop comes back to where it was. Not for programs that
    /// look at such names.
    ByPlace,
}

/// What a program's text says that it may do.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// It reads the clock, or has instants of its own.
    pub reads_clock: bool,
    /// An activity may do something else in its second attempt.
    pub reads_attempts: bool,
    /// It ends, holds up or looks at other instances.
    pub interferes: bool,
    /// An instance may take the place of one that has ended.
    pub replaces: bool,
    /// It reads keys of steps.
    pub reads_keys: bool,
    /// It can see ids that are made for children.
    pub sees_names: bool,
    /// Its properties look at instances.
    pub watches_instances: bool,
    /// A mock changes an entity that stands for the world.
    pub has_world: bool,
    /// A mock looks at entities or instances.
    pub mocks_look: bool,
    /// The outcomes of a mock come in turn.
    pub in_turn: bool,
    /// The test has the clock in its hand.
    pub takes_the_clock: bool,
    /// Activities whose bodies may wait, and those whose effects are all mocked.
    pub waits: HashSet<String>,
    pub prompt: HashSet<String>,
    /// What is looked at of a clock beside the earliest that it may show: a little later than after each delay in the
    /// program, of some of them.
    pub later: Vec<i64>,
}

impl Program {
    pub fn new(code: Arc<Code>, subject: Subject, args: Data) -> Program {
        let own = match subject {
            Subject::Script => Trials::default(),
            Subject::Test(at) => code.tests.get(at).map(|test| test.trials.clone()).unwrap_or_default(),
        };
        // A test's own mock comes before the file's.
        let mocks = own.mocks.into_iter().chain(code.trials.mocks.iter().cloned());
        let properties: Vec<Property> =
            code.trials.properties.iter().cloned().chain(own.properties).collect();
        let mocks: Vec<Mock> = mocks.collect();
        let mut facts = Facts::of(&code, &properties, &mocks);
        let main = function_of(&code, subject);
        facts.sees_names = sees_names(&code, main, &properties, &mocks);
        facts.takes_the_clock = matches!(subject, Subject::Test(_)) && takes_the_clock(&code, main);
        let naming = match facts.reads_keys || facts.sees_names {
            true => Naming::ByNumber,
            false => Naming::ByPlace,
        };
        Program {
            code,
            subject,
            main: MAIN.into(),
            args,
            naming,
            observes: false,
            mutation: Mutation::None,
            interventions: Interventions::default(),
            facts,
            properties,
            mocks,
        }
    }

    /// The function that the main instance runs.
    pub fn function(&self) -> FunctionId {
        function_of(&self.code, self.subject)
    }

    /// The mock of an activity, or of an effect.
    pub fn mock(&self, name: &str, is_activity: bool) -> Option<&Mock> {
        self.mocks.iter().find(|mock| mock.is_activity == is_activity && mock.target == name)
    }

    /// Whether an activity is mocked by operations of an entity that stands for the world.
    pub fn changes_the_world(&self, activity: &str) -> bool {
        self.mock(activity, true).is_some_and(is_of_the_world)
    }

    /// Whether an attempt changes an entity that stands for the world.
    pub fn is_of_the_world(&self, asked: &Request) -> bool {
        self.mock_of(asked).is_some_and(is_of_the_world)
    }

    pub(super) fn mocks(&self) -> &[Mock] {
        &self.mocks
    }

    pub(super) fn mock_of(&self, asked: &Request) -> Option<&Mock> {
        match &asked.what {
            RequestKind::Activity { name, .. } => self.mock(name, true),
            RequestKind::Effect(effect) => self.mock(effect.name(), false),
            _ => None,
        }
    }

    /// Whether an activity's work could be done twice under two keys: it reads its key, or a mock lets it change an
    /// entity that stands for the world.
    pub fn is_keyed(&self, activity: &str) -> bool {
        if self.changes_the_world(activity) {
            return true;
        }
        let Some(at) = self.code.find_isolated(activity) else { return false };
        reached(&self.code, vec![self.code.isolated[at].body])
            .any(|builtin| builtin.name == "idempotency_key")
    }
}

impl Facts {
    fn of(code: &Code, properties: &[Property], mocks: &[Mock]) -> Facts {
        let mut facts = Facts::default();
        // Methods of the library are not looked into: what they do with an instant, somebody has got before.
        let is_users = |id: &u32| is_of_users(code, &code.functions[*id as usize]);
        let users: Vec<u32> = (0..code.functions.len() as u32).filter(is_users).collect();
        let limits = has_option(code, "within");
        facts.replaces = has_option(code, "if_exists") && has_text(code, "replace");
        facts.reads_clock = limits;
        for builtin in reached_without(code, users, retry(code).filter(|_| !limits)) {
            match (builtin.effect(), builtin.name) {
                (Some(Effect::Now | Effect::SleepUntil), _)
                | (None, "time_parse" | "time_from_parts" | "instant_from_nanos") => facts.reads_clock = true,
                (
                    Some(
                        Effect::Terminate
                        | Effect::Suspend
                        | Effect::Resume
                        | Effect::Status
                        | Effect::SetStatus,
                    ),
                    _,
                ) => facts.interferes = true,
                // What `uuid` gives is made from the key of its step.
                (Some(Effect::Uuid), _) | (None, "idempotency_key") => facts.reads_keys = true,
                (None, "attempt") => facts.reads_attempts = true,
                _ => {}
            }
        }
        facts.watches_instances = properties
            .iter()
            .any(|property| reached_effects(code, property.function).any(|it| it == Effect::OutcomeOf));
        facts.has_world = mocks.iter().any(is_of_the_world);
        facts.in_turn = mocks.iter().any(|mock| mock.in_turn);
        for item in code.isolated.iter().filter(|item| item.context == Some(Context::Activity)) {
            let effects: HashSet<Effect> = reached_effects(code, item.body).collect();
            let of =
                |effect: Effect| mocks.iter().find(|mock| !mock.is_activity && mock.target == effect.name());
            let outside = || {
                let leaves = |effect: Effect| effect.route() == Route::AfterCommit && !effect.is_line();
                effects.iter().copied().filter(move |effect| leaves(*effect) || of(*effect).is_some())
            };
            let is_mocked = |mock: &Mock| mock.within.is_none() && !is_of_the_world(mock);
            if effects.iter().any(|effect| effect.is_sleep()) {
                facts.waits.insert(item.name.clone());
            } else if outside().next().is_some() && outside().all(|effect| of(effect).is_some_and(is_mocked))
            {
                facts.prompt.insert(item.name.clone());
            }
        }
        let functions = mocks.iter().flat_map(|mock| &mock.outcomes).filter_map(|outcome| match outcome {
            Outcome::Function(function) => Some(*function),
            _ => None,
        });
        if facts.reads_clock {
            facts.later = delays(code);
        }
        let mut effects = functions.flat_map(|function| reached_effects(code, function));
        facts.mocks_look = effects.any(|effect| effect.route() == Route::Look);
        facts
    }
}

fn function_of(code: &Code, subject: Subject) -> FunctionId {
    match subject {
        Subject::Script => code.script,
        Subject::Test(at) => code.tests.get(at).map_or(code.script, |test| test.function),
    }
}

/// Whether anything that runs can see an id that is made for a child.
fn sees_names(code: &Code, main: FunctionId, properties: &[Property], mocks: &[Mock]) -> bool {
    let mut roots = vec![main];
    roots.extend(code.consts.iter().map(|(_, function)| *function));
    roots.extend(properties.iter().map(|property| property.function));
    roots.extend(mocks.iter().flat_map(|mock| &mock.outcomes).filter_map(|outcome| match outcome {
        Outcome::Function(function) | Outcome::Operation(function, _) => Some(*function),
        Outcome::Never => None,
    }));
    let operations = code.isolated.iter().filter_map(|item| item.entity.as_ref());
    let operations = operations.flat_map(|entity| &entity.operations).map(|operation| operation.function);
    let all: Vec<FunctionId> = roots.iter().copied().chain(operations).collect();
    // Within an operation `self` is the entity.
    names::are_seen(code, all, reached(code, roots).any(|builtin| builtin.name == "self"))
}

/// Delays that a program names, a little longer: the least, one in the middle and the greatest.
fn delays(code: &Code) -> Vec<i64> {
    const A_LITTLE: i64 = 1_000_000;
    let of_users = code.functions.iter().filter(|function| is_of_users(code, function));
    let ops = of_users.flat_map(|function| &function.ops);
    let delay = |op: &Op| match op {
        Op::Constant { index, .. } => match code.constants.get(*index as usize) {
            Some(Constant::Duration(delay)) if *delay > 0 => Some(*delay),
            _ => None,
        },
        _ => None,
    };
    let all: BTreeSet<i64> = ops.filter_map(delay).collect();
    let all: Vec<i64> = all.into_iter().collect();
    let Some(last) = all.len().checked_sub(1) else { return Vec::new() };
    let some: BTreeSet<usize> = [0, last / 2, last].into();
    some.into_iter().map(|at| all[at].saturating_add(A_LITTLE)).collect()
}

/// Whether a function stands in a text of the user's.
pub(super) fn is_of_users(code: &Code, function: &Function) -> bool {
    let source = code.sources.files.get(function.place.source as usize);
    source.is_none_or(|file| !file.name.starts_with(STD))
}

pub(super) fn is_of_the_world(mock: &Mock) -> bool {
    mock.outcomes.iter().any(|outcome| matches!(outcome, Outcome::Operation(..)))
}

/// The builtins that a function's own code names.
fn called(code: &Code, function: FunctionId) -> impl Iterator<Item = &'static Builtin> {
    let ops = &code.functions[function as usize].ops;
    ops.iter().filter_map(|op| match op {
        Op::Apply { builtin, .. } => Some(&TABLE[*builtin as usize]),
        Op::Constant { index, .. } => match code.constants.get(*index as usize) {
            Some(Constant::Builtin(id)) => Some(&TABLE[*id as usize]),
            _ => None,
        },
        _ => None,
    })
}

/// The library's `task.retry`. It reads the clock only for a policy with `within`.
fn retry(code: &Code) -> Option<FunctionId> {
    let task = format!("{STD}task.df");
    (0..code.functions.len() as FunctionId).find(|id| {
        let function = &code.functions[*id as usize];
        function.name == "retry"
            && code.sources.files.get(function.place.source as usize).is_some_and(|file| file.name == task)
    })
}

/// Whether a record of the program has a field of that name. With `within` a policy limits all attempts together: then
/// it matters when the first was asked for.
fn has_option(code: &Code, field: &str) -> bool {
    code.shapes
        .iter()
        .flatten()
        .any(|name| code.names.get(*name as usize).is_some_and(|name| &**name == field))
}

/// Whether a text is among the constants of the program.
fn has_text(code: &Code, text: &str) -> bool {
    code.constants.iter().any(|constant| matches!(constant, Constant::Str(known) if **known == *text))
}

/// The builtins that functions name, or those that they mention.
pub(super) fn reached(code: &Code, functions: Vec<FunctionId>) -> impl Iterator<Item = &'static Builtin> {
    reached_without(code, functions, None)
}

/// The effects that a function names, or one that it mentions.
fn reached_effects(code: &Code, function: FunctionId) -> impl Iterator<Item = Effect> {
    reached(code, vec![function]).filter_map(Builtin::effect)
}

/// As `reached`, but for what only that function names.
fn reached_without(
    code: &Code,
    functions: Vec<FunctionId>,
    left_out: Option<FunctionId>,
) -> impl Iterator<Item = &'static Builtin> {
    reached_functions(code, functions, left_out).into_iter().flat_map(|function| called(code, function))
}

/// Functions, and those that they mention, but for what only one of them mentions.
pub fn reached_functions(
    code: &Code,
    functions: Vec<FunctionId>,
    left_out: impl IntoIterator<Item = FunctionId>,
) -> Vec<FunctionId> {
    let mut known: HashSet<FunctionId> = functions.iter().copied().chain(left_out).collect();
    let mut seen = functions;
    let mut at = 0;
    while let Some(function) = seen.get(at).copied() {
        at += 1;
        for op in &code.functions[function as usize].ops {
            let mentioned = match op {
                Op::Constant { index, .. } => match code.constants.get(*index as usize) {
                    Some(Constant::Function(id)) => Some(*id),
                    _ => None,
                },
                Op::CallFunction { function, .. } | Op::TailFunction { function, .. } => Some(*function),
                Op::Closure { function, .. }
                | Op::CallSibling { function, .. }
                | Op::TailSibling { function, .. } => Some(u32::from(*function)),
                Op::Invoke { global, .. } => code.isolated.get(usize::from(*global)).map(|item| item.body),
                _ => None,
            };
            if let Some(id) = mentioned
                && known.insert(id)
            {
                seen.push(id);
            }
        }
    }
    seen
}
