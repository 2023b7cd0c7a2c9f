//! The program to explore: a script or one of its tests, with its mocks, its properties, and the
//! facts that its text reveals without running it.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use crate::builtins::{Builtin, Context, Effect, Route, TABLE};
use crate::check::STD;
use crate::code::{Code, Constant, Function, FunctionId, Mock, Op, Outcome, Property, Trials};
use crate::machine::{Data, Request, RequestKind};
use crate::syntax::tree::SCHEDULES;

use super::interventions::Interventions;
use super::name::Id;
use super::names;

/// The id of the main instance, with which a run begins.
pub const MAIN: &str = "main";

/// The part of a program that the main instance runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    Script,
    /// The test with this number.
    Test(usize),
}

/// A program with the subject to explore.
pub struct Program {
    pub code: Arc<Code>,
    pub subject: Subject,
    /// The id of the main instance.
    pub main: Id,
    /// The arguments of the script, as a list.
    pub args: Data,
    /// The naming of requests.
    pub naming: Naming,
    /// Whether the lines that an instance printed are part of its state.
    pub observes: bool,
    pub mutation: Mutation,
    /// The interventions that the operator may make in one run.
    pub interventions: Interventions,
    pub facts: Facts,
    pub properties: Vec<Property>,
    mocks: Vec<Mock>,
}

/// A fault that is put into a rule, to check that the tests find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    None,
    /// **acquire**: a critical section asks for its entities in an order of its own.
    UnsortedLocks,
    /// **acquire**: an entity does not record its holder.
    NoHolder,
    /// **begin**: a message that begins an existing instance begins it once more.
    BeginsAgain,
    /// **deliver**: the newest message of a sender comes first.
    NewestFirst,
    /// **replace**: an instance that has ended stays, with its outcome.
    ReplaceKeeps,
    /// **purge**: the instances that the purged one called or started stay.
    PurgeLeavesChildren,
    /// **purge**: the next life has the same number as the last, and takes its answers.
    NoLives,
    /// **operate**: the first message of an entity stays, and its operation runs again.
    OperationStays,
    /// **perform**: a task that was performed stays, to be performed again.
    TaskStays,
    /// **elapse**: the timers of a receiver fire in any order.
    NoOrderOfTimers,
    /// **elapse**: timers count from the beginning, not from when they are set.
    NoWork,
    /// **late**: an attempt that was given up never happens.
    NoOrphans,
    /// **lapse**: an attempt that was given up always happens.
    NoLapse,
    /// **read**: compute reads the newest message that has come.
    ReadsNewest,
    /// **commit**: the messages of a step leave before the step is stored.
    ReleaseBeforeCommit,
    /// **commit**: the message that was taken stays.
    MessageStays,
    /// **refuse**: a step that was overtaken is stored all the same.
    NoRefusal,
    /// **refuse**: a refused step is not computed again.
    RefusedIsLost,
    /// **transfer**: a message that comes twice is taken twice.
    NoDedupe,
    /// **record**: after its result is stored, a task is done and recorded again.
    RecordsAgain,
    /// **record**: a task is removed when it is performed, not when its result is recorded.
    RemovedBeforeRecord,
    /// **crash**: messages that have come are lost.
    CrashLosesInbox,
    /// **rewind**: the answers after the failed one are lost.
    RewindCutsSuccesses,
    /// **rewind**: the numbers of requests that are gone are given again.
    NumbersAgain,
    /// **rewind**: messages that come after a failure are dropped.
    FailedDrops,
    /// **rewind**: children that ended because their caller failed stay ended.
    ChildrenStayEnded,
    /// **suspend**: messages that have come for a suspended instance are lost in a crash.
    SuspensionForgets,
    /// **cancel**: a clean-up may take any time.
    NoGrace,
    /// **cancel**: a child that is given up is terminated.
    ChildrenDoNotCleanUp,
    /// **replay**: all answers are given at once.
    NoTurnBoundaries,
    /// **replay**: the last turn is not replayed.
    LastTurnIsLost,
}

/// The way in which the requests of an instance are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// By the number since the execution began, as programs see it in keys and in ids of children.
    ByNumber,
    /// By the least number that is not in use, so that loops come back to where they were. Not for
    /// programs that look at such names.
    ByPlace,
}

/// The facts about what a program may do, from its text.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Whether the program reads the clock, or makes instants itself.
    pub reads_clock: bool,
    /// Whether an activity may do something else in its second attempt.
    pub reads_attempts: bool,
    /// Whether the program acts on the run of instances or observes it.
    pub interferes: bool,
    /// Whether an orchestration may do something after its cancellation.
    pub cleans_up: bool,
    /// Whether an instance may replace one that has ended.
    pub replaces: bool,
    /// Whether the program reads keys of steps.
    pub reads_keys: bool,
    /// Whether the program can see ids that are made for children.
    pub sees_names: bool,
    /// Whether properties look at instances.
    pub watches_instances: bool,
    /// Whether a mock changes an entity that stands for the world.
    pub has_world: bool,
    /// Whether a mock looks at entities or instances.
    pub mocks_look: bool,
    /// Whether the outcomes of a mock come in turn.
    pub in_turn: bool,
    /// Whether the test controls the clock.
    pub takes_the_clock: bool,
    /// The activities whose bodies may wait, and those whose effects are all mocked.
    pub waits: HashSet<String>,
    pub prompt: HashSet<String>,
    /// The readings of a clock to explore besides the earliest one, as distances from it. Each is a
    /// little longer than a delay in the program; only some delays count.
    pub later: Vec<i64>,
}

impl Program {
    pub fn new(code: Arc<Code>, subject: Subject, args: Data) -> Program {
        let own = match subject {
            Subject::Script => Trials::default(),
            Subject::Test(at) => code.tests.get(at).map(|test| test.trials.clone()).unwrap_or_default(),
        };
        // A test's own mocks come before those of the file.
        let mocks = own.mocks.into_iter().chain(code.trials.mocks.iter().cloned());
        let properties: Vec<Property> =
            code.trials.properties.iter().cloned().chain(own.properties).collect();
        let mocks: Vec<Mock> = mocks.collect();
        let mut facts = Facts::of(&code, &properties, &mocks);
        let main = function_of(&code, subject);
        let names = names_of(&code, main, &properties, &mocks);
        facts.sees_names = names.are_seen;
        facts.interferes |= names.are_cancelled;
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

    /// Returns the function that the main instance runs.
    pub fn function(&self) -> FunctionId {
        function_of(&self.code, self.subject)
    }

    /// Returns the mock of an activity or an effect.
    pub fn mock(&self, name: &str, is_activity: bool) -> Option<&Mock> {
        self.mocks.iter().find(|mock| mock.is_activity == is_activity && mock.target == name)
    }

    /// Whether an activity is mocked by operations of an entity that stands for the world.
    pub fn changes_the_world(&self, activity: &str) -> bool {
        self.mock(activity, true).is_some_and(is_of_the_world)
    }

    /// Whether an attempt at a request changes an entity that stands for the world.
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

    /// Whether an activity's work could be done twice under two keys. This holds if the activity
    /// reads its key, or if its mock changes an entity that stands for the world.
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
        // Methods of the library are not examined: a program that uses them on an instant must have
        // got the instant before.
        // Schedules have no part in tests.
        let is_schedule = |name: &str| name.starts_with(SCHEDULES);
        let is_users = |id: &u32| {
            let function = &code.functions[*id as usize];
            is_of_users(code, function) && !is_schedule(&function.name)
        };
        let users: Vec<u32> = (0..code.functions.len() as u32).filter(is_users).collect();
        let limits = has_option(code, "within");
        let orchestrations = code.isolated.iter().filter(|item| item.context == Some(Context::Orchestration));
        let orchestrations = orchestrations.filter(|item| !is_schedule(&item.name));
        let bodies = orchestrations.map(|item| item.body).collect();
        facts.cleans_up = reached_functions(code, bodies, None)
            .iter()
            .any(|id| code.functions[*id as usize].ops.iter().any(|op| matches!(op, Op::Try { .. })));
        facts.replaces = has_option(code, "if_exists") && has_text(code, "replace");
        facts.reads_clock = limits || has_option(code, "tagged");
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
                // These derive their results from the keys of their steps.
                (Some(Effect::Uuid | Effect::CallbackUrl), _) | (None, "idempotency_key") => {
                    facts.reads_keys = true
                }
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

/// Returns what any code that runs can do with an id that is made for a child.
fn names_of(code: &Code, main: FunctionId, properties: &[Property], mocks: &[Mock]) -> names::Names {
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
    // Within an operation, `self` is the entity.
    names::of(code, all, reached(code, roots).any(|builtin| builtin.name == "self"))
}

/// Returns some delays that a program names, each a little longer: the least, a middle one and the
/// greatest.
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

/// Whether a function is in a user's file.
pub(super) fn is_of_users(code: &Code, function: &Function) -> bool {
    let source = code.sources.files.get(function.place.source as usize);
    source.is_none_or(|file| !file.name.starts_with(STD))
}

pub(super) fn is_of_the_world(mock: &Mock) -> bool {
    mock.outcomes.iter().any(|outcome| matches!(outcome, Outcome::Operation(..)))
}

/// Returns the builtins that a function's own code names.
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

/// Returns the library's `task.retry`. It reads the clock only for a policy with `within`.
fn retry(code: &Code) -> Option<FunctionId> {
    let task = format!("{STD}task.df");
    (0..code.functions.len() as FunctionId).find(|id| {
        let function = &code.functions[*id as usize];
        function.name == "retry"
            && code.sources.files.get(function.place.source as usize).is_some_and(|file| file.name == task)
    })
}

/// Whether a record of the program has a field with this name. A policy with `within` limits all
/// attempts together, so the time of the first request matters.
fn has_option(code: &Code, field: &str) -> bool {
    code.shapes
        .iter()
        .flatten()
        .any(|name| code.names.get(*name as usize).is_some_and(|name| &**name == field))
}

/// Whether a text is among the program's constants.
fn has_text(code: &Code, text: &str) -> bool {
    code.constants.iter().any(|constant| matches!(constant, Constant::Str(known) if **known == *text))
}

/// Returns the builtins that functions name, or that the functions which they mention name.
pub(super) fn reached(code: &Code, functions: Vec<FunctionId>) -> impl Iterator<Item = &'static Builtin> {
    reached_without(code, functions, None)
}

/// Returns the effects that a function names, or that the functions which it mentions name.
fn reached_effects(code: &Code, function: FunctionId) -> impl Iterator<Item = Effect> {
    reached(code, vec![function]).filter_map(Builtin::effect)
}

/// Like `reached`, without what only the function `left_out` names.
fn reached_without(
    code: &Code,
    functions: Vec<FunctionId>,
    left_out: Option<FunctionId>,
) -> impl Iterator<Item = &'static Builtin> {
    reached_functions(code, functions, left_out).into_iter().flat_map(|function| called(code, function))
}

/// Returns functions and those that they mention, without what only the functions `left_out`
/// mention.
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

/// Whether a function, or any that it calls, controls the clock. A call of `advance` may be
/// compiled as a sleep in its place, so the source text tells the two apart.
fn takes_the_clock(code: &Code, main: FunctionId) -> bool {
    let sleep = |op: &Op| matches!(op, Op::Apply { builtin, .. } if *builtin == Effect::Sleep.id().0);
    reached_functions(code, vec![main], None).into_iter().any(|id| {
        let function = &code.functions[id as usize];
        if !is_of_users(code, function) {
            return function.name == "advance";
        }
        function.ops.iter().enumerate().filter(|(_, op)| sleep(op)).any(|(at, _)| {
            let place = code.place(id, at);
            let file = code.sources.files.get(place.source as usize);
            let text =
                file.and_then(|file| file.text.get(place.span.start as usize..place.span.end as usize));
            text.is_some_and(|text| text.contains("advance"))
        })
    })
}
