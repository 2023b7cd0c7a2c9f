//! Whether a program can see the ids that are made for its children.
//!
//! If the program can't see these ids, it makes no difference which ids there are, and the models
//! may number requests and children as they like. So this analysis must never say "no" where the
//! truth is "yes". The opposite mistake only costs configurations.
//!
//! The analysis follows handles, which come from `start`, through registers, variables and
//! functions. A program may bind a handle, capture it, pass it to a known function, or name by it
//! the instance that `wait`, `raise`, `suspend` or `resume` is for. Any other instruction that
//! reads a handle might look at its id. A program also sees ids if it names an instance by a text
//! that it made or that contains a `:`, or reads `self` outside of an operation. So does a program
//! with `status`, `terminate` or `cancel`: the status of an instance, and the error of a terminated
//! one, contain its id. `cancel` of a task is no such use.

use std::collections::BTreeSet;

use crate::builtins::{BuiltinId, Context, Effect};
use crate::code::{
    Code, Constant, FunctionId, MethodTarget, Op, Read, Reg, Registers, followers, jumped, written,
};

/// The values that a register may hold; 0 means that no value could name an instance.
type May = u8;
/// A handle, or a cell with one.
const HANDLE: May = 1;
/// A text or another value that may name an instance.
const TEXT: May = 2;

/// The facts about a program's functions that are known so far.
struct Flow<'c> {
    code: &'c Code,
    /// The functions that may run.
    reached: BTreeSet<FunctionId>,
    /// The values that the parameters, captured variables and new environments of each function may
    /// hold.
    params: Vec<Vec<May>>,
    captured: Vec<Vec<May>>,
    environments: Vec<Vec<May>>,
    /// The values that any variable shared between functions may hold.
    cells: May,
    /// Whether the program makes ids.
    makes: bool,
    /// Whether the program can see ids.
    sees: bool,
    /// Whether the program may cancel an instance.
    cancels: bool,
    grew: bool,
}

/// The facts about the names of instances in a program.
pub struct Names {
    /// Whether the program can see an id that was made.
    pub are_seen: bool,
    /// Whether the program may cancel an instance by its name.
    pub are_cancelled: bool,
}

/// Returns the facts about functions and all that they may call. `told` says whether instances are
/// told their own ids.
pub fn of(code: &Code, roots: Vec<FunctionId>, told: bool) -> Names {
    let none = || vec![Vec::new(); code.functions.len()];
    let mut flow = Flow {
        code,
        reached: BTreeSet::new(),
        params: none(),
        captured: none(),
        environments: none(),
        cells: 0,
        makes: false,
        sees: told,
        cancels: false,
        grew: false,
    };
    roots.into_iter().for_each(|root| flow.unknown_caller(root));
    while flow.grew {
        flow.grew = false;
        for function in flow.reached.clone() {
            flow.follow(function);
        }
    }
    Names { are_seen: flow.makes && flow.sees, are_cancelled: flow.cancels }
}

/// Adds possible values to an entry of a list, which grows as needed. Returns whether this adds
/// any.
fn add(list: &mut Vec<May>, at: usize, may: May) -> bool {
    if list.len() <= at {
        list.resize(at + 1, 0);
    }
    let before = list[at];
    list[at] |= may;
    list[at] != before
}

impl Flow<'_> {
    fn reach(&mut self, function: FunctionId) {
        self.grew |= self.reached.insert(function);
    }

    /// Reaches a function whose arguments may be anything but handles.
    fn unknown_caller(&mut self, function: FunctionId) {
        self.reach(function);
        for at in 0..usize::from(self.code.functions[function as usize].params) {
            self.grew |= add(&mut self.params[function as usize], at, TEXT);
        }
    }

    fn called(&mut self, function: FunctionId, args: &[May]) {
        self.reach(function);
        for (at, may) in args.iter().enumerate() {
            self.grew |= add(&mut self.params[function as usize], at, *may);
        }
    }

    /// Lets a function see everything that another has captured or puts into a new environment.
    fn shares(&mut self, function: FunctionId, with: FunctionId) {
        let with = with as usize;
        let both = [self.captured[with].clone(), self.environments[with].clone()];
        for (at, may) in both.iter().flat_map(|list| list.iter().enumerate()) {
            self.grew |= add(&mut self.captured[function as usize], at, *may);
        }
    }

    /// Follows all paths through a function.
    fn follow(&mut self, id: FunctionId) {
        let function = &self.code.functions[id as usize];
        let width = usize::from(function.registers) + 3;
        let mut before: Vec<Option<Vec<May>>> = vec![None; function.ops.len()];
        let mut first = vec![0; width];
        for (at, may) in self.params[id as usize].iter().enumerate().take(width) {
            first[at] = *may;
        }
        let tries: Vec<(usize, usize, Reg)> = function.ops.iter().enumerate().filter_map(handler).collect();
        let registers = Registers { env: function.params.into(), code: self.code };
        let mut waiting = vec![(0, first)];
        while let Some((at, more)) = waiting.pop() {
            let Some(op) = function.ops.get(at).copied() else { continue };
            match &mut before[at] {
                Some(known) => {
                    if known.iter().zip(&more).all(|(known, may)| known | may == *known) {
                        continue;
                    }
                    known.iter_mut().zip(&more).for_each(|(known, may)| *known |= may);
                }
                none => *none = Some(more),
            }
            let mut now = before[at].clone().unwrap_or_default();
            // An error may leave the registers as they are here.
            for (from, to, error) in tries.iter().filter(|(from, to, _)| (from..to).contains(&&at)) {
                debug_assert!(from < to);
                let mut caught = now.clone();
                caught[usize::from(*error)..usize::from(*error) + 2].fill(TEXT);
                waiting.push((*to, caught));
            }
            self.execute(id, op, &registers, &mut now);
            for next in followers(op, at).into_iter().flatten() {
                waiting.push((next, now.clone()));
            }
        }
    }

    /// Applies an instruction to the values that registers may hold.
    fn execute(&mut self, me: FunctionId, op: Op, registers: &Registers<'_>, now: &mut [May]) {
        match op {
            Op::Move { to, from } | Op::Take { to, from } => now[usize::from(to)] = now[usize::from(from)],
            Op::Null { to } | Op::Int { to, .. } | Op::Bool { to, .. } | Op::Missing { to } => {
                now[usize::from(to)] = 0;
            }
            Op::Constant { to, index } => now[usize::from(to)] = self.constant(index),
            Op::NewCell { to, from } => {
                self.keep(now[usize::from(from)]);
                now[usize::from(to)] = 0;
            }
            Op::SetCell { from, .. } => self.keep(now[usize::from(from)]),
            Op::AddCell { b, .. } => {
                self.sees |= now[usize::from(b)] & HANDLE != 0;
                self.keep(TEXT);
            }
            Op::GetCell { to, .. } | Op::GetEarly { to, .. } => now[usize::from(to)] = self.cells,
            Op::Environment { to, base, count } => {
                for at in 0..usize::from(count) {
                    let may = now[usize::from(base) + at];
                    self.grew |= add(&mut self.environments[me as usize], at, may);
                }
                now[usize::from(to)] = 0;
            }
            Op::Closure { to, function, .. } => {
                self.unknown_caller(function.into());
                self.shares(function.into(), me);
                now[usize::from(to)] = 0;
            }
            Op::Capture { to, index } => {
                let known = &self.captured[me as usize];
                now[usize::from(to)] = known.get(usize::from(index)).copied().unwrap_or(0);
            }
            Op::CallFunction { count, base, function } | Op::TailFunction { count, base, function } => {
                self.called(function, stretch(now, base, count));
                now[usize::from(base)] = TEXT;
            }
            Op::CallSibling { count, base, function } | Op::TailSibling { count, base, function } => {
                self.called(function.into(), stretch(now, base, count));
                self.shares(function.into(), me);
                now[usize::from(base)] = TEXT;
            }
            Op::Apply { count, base, builtin } => {
                now[usize::from(base)] = self.builtin(builtin, stretch(now, base, count));
            }
            // A test whether there is a value reveals nothing else about it.
            Op::TestNull { .. } | Op::TestMissing { .. } | Op::Forget { .. } => {}
            _ => self.other(op, registers, now),
        }
    }

    /// Returns the values that a builtin may give.
    fn builtin(&mut self, number: u16, args: &[May]) -> May {
        let builtin = BuiltinId(number).get();
        let effect = builtin.effect();
        let names = matches!(
            effect,
            Some(
                Effect::Wait
                    | Effect::Raise
                    | Effect::Terminate
                    | Effect::Cancel
                    | Effect::Suspend
                    | Effect::Resume
                    | Effect::Status
                    | Effect::OutcomeOf
            )
        );
        if effect == Some(Effect::Cancel) && args.first().is_some_and(|whom| *whom != 0) {
            (self.cancels, self.sees) = (true, true);
        }
        // The result of `status` contains the id, and so does the error of a terminated instance.
        self.sees |=
            matches!(effect, Some(Effect::Status | Effect::Terminate | Effect::Uuid | Effect::CallbackUrl))
                || builtin.name == "idempotency_key";
        if let (true, Some(whom)) = (names, args.first()) {
            self.sees |= whom & TEXT != 0;
        }
        let rest = if names { args.get(1..).unwrap_or_default() } else { args };
        self.sees |= rest.iter().any(|may| may & HANDLE != 0);
        // A task names no instance.
        if builtin.name == "async" {
            return 0;
        }
        if effect == Some(Effect::Start) {
            self.makes = true;
            return HANDLE;
        }
        TEXT
    }

    fn constant(&mut self, index: u32) -> May {
        match self.code.constants.get(index as usize) {
            // Every automatic id contains a `:`.
            Some(Constant::Str(text)) if text.contains(':') => TEXT,
            Some(Constant::Function(function)) => {
                self.unknown_caller(*function);
                0
            }
            // Other code may call the builtin, with any value.
            Some(Constant::Builtin(builtin)) => {
                self.builtin(*builtin, &[TEXT]);
                0
            }
            _ => 0,
        }
    }

    fn keep(&mut self, may: May) {
        self.grew |= self.cells | may != self.cells;
        self.cells |= may;
    }

    /// Applies any other instruction, which looks at each handle that it reads.
    fn other(&mut self, op: Op, registers: &Registers<'_>, now: &mut [May]) {
        registers.reads(op, &mut |read| {
            let (from, count) = match read {
                Read::All(from, count) => (from, count),
                Read::Field(from, _) | Read::Without(from, _) | Read::Kind(from) => (from, 1),
            };
            self.sees |= stretch(now, from, count).iter().any(|may| may & HANDLE != 0);
        });
        match op {
            Op::Invoke { global, .. } => {
                let item = &self.code.isolated[usize::from(global)];
                self.makes |= item.context == Some(Context::Orchestration);
                self.unknown_caller(item.body);
            }
            Op::CallMethod { name, .. } | Op::CallMethodSpread { name, .. } => {
                let of_that_name = self.code.methods.iter().filter(|((known, _), _)| *known == name);
                for (_, target) in of_that_name {
                    match target {
                        MethodTarget::Function(function) => self.unknown_caller(*function),
                        MethodTarget::Builtin(builtin) => {
                            self.builtin(*builtin, &[TEXT]);
                        }
                    }
                }
            }
            _ => {}
        }
        if let Some(to) = written(op) {
            now[usize::from(to)] = TEXT;
        }
        // These write several registers.
        if let Op::RangeStart { base, .. }
        | Op::RangeNext { base, .. }
        | Op::EachStart { base }
        | Op::EachNext { base, .. } = op
        {
            now[usize::from(base)..usize::from(base) + 3].fill(TEXT);
        }
    }
}

/// Returns the values of `count` registers, from `from` on.
fn stretch(now: &[May], from: Reg, count: impl Into<Reg>) -> &[May] {
    let from = usize::from(from);
    let to = from + usize::from(count.into());
    now.get(from..to.min(now.len())).unwrap_or_default()
}

/// Returns the place of a `Try`, the place of its handler, and the register of the error. Errors
/// between the two places go to the handler.
fn handler((at, op): (usize, &Op)) -> Option<(usize, usize, Reg)> {
    match op {
        Op::Try { error, by } => Some((at, jumped(at, *by), *error)),
        _ => None,
    }
}
