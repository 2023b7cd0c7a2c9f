//! Stepping through code.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::rc::Rc;

use crate::builtins::{self, Context, Kind};
use crate::code::{FunctionId, MethodTarget, Op};
use crate::syntax::Place;

use super::compare::{equal, order};
use super::error::{Fail, Failure, Trace, TraceEntry, fail};
use super::operate as op;
use super::task::{How, Outcome, Task, tasks_of};
use super::value::{Closure, EntityRef, Env, List, Record, Shared, Value, intern, memory_used};
use super::{
    Data, ErrorData, Fiber, Frame, Handler, Identity, Image, MAX_DEPTH, MAX_MEMORY, MAX_STACK, Machine, Progress, Request,
    ResultMode, Wait, What, natives,
};

/// What became of a fiber that ran.
enum Step {
    OutOfFuel,
    /// It waits, or has made way for a task that it began.
    Off,
    Finished(Result<Value, Fail>),
}

/// What became of a call of a builtin.
enum Flow {
    Go,
    /// The fiber waits for this.
    Wait(Wait),
    /// Another fiber runs first.
    Yield,
}

/// Builtins whose runtime is not there yet; the checker knows them already.
const UNSUPPORTED: [&str; 11] = [
    "receive", "wait", "status", "raise", "terminate", "set_status", "continue_as_new", "start", "signal", "lock", "unlock",
];

impl Machine {
    /// A machine that is about to call a function of the program.
    pub fn new(image: Rc<Image>, context: Context, function: FunctionId, args: Vec<Value>, identity: Identity) -> Machine {
        let main = Task::new(0);
        main.observed.set(true);
        let mut fiber = Fiber {
            stack: args,
            frames: Vec::new(),
            handlers: Vec::new(),
            task: main.clone(),
            wait: Wait::Nothing,
            thrown: None,
            cancelled: false,
        };
        let count = fiber.stack.len();
        if let Err(fail) = push_frame(&image, &mut fiber, function, 0, count, 0, Value::Null) {
            fiber.thrown = Some(fail);
        }
        let lenient = function == image.code.script;
        Machine {
            image,
            context,
            identity,
            fibers: BTreeMap::from([(0, fiber)]),
            ready: VecDeque::from([0]),
            next_fiber: 1,
            next_request: 0,
            waiting: BTreeMap::new(),
            requests: Vec::new(),
            withdrawn: Vec::new(),
            main,
            failed: Vec::new(),
            ending: false,
            result: if lenient { ResultMode::Lenient } else { ResultMode::Data },
            value: Value::Null,
        }
    }

    /// Keeps the main function's value as it is, for `take_value`.
    pub(crate) fn keep_value(&mut self) {
        self.result = ResultMode::Value;
    }

    pub(crate) fn take_value(&mut self) -> Value {
        mem::take(&mut self.value)
    }

    /// The requests made since this was last asked.
    pub fn take_requests(&mut self) -> Vec<Request> {
        mem::take(&mut self.requests)
    }

    /// The numbers of requests whose answers nobody waits for any more.
    pub fn take_withdrawn(&mut self) -> Vec<u64> {
        mem::take(&mut self.withdrawn)
    }

    /// Answers a request. An answer that nobody waits for is dropped.
    pub fn answer(&mut self, seq: u64, result: Result<Data, ErrorData>) {
        let Some(id) = self.waiting.remove(&seq) else { return };
        let Some(fiber) = self.fibers.get_mut(&id) else { return };
        fiber.wait = Wait::Nothing;
        let result = result.map(|data| data.decode()).map_err(|error| {
            Box::new(Failure { value: error.value.decode(), trace: Some(Rc::new(error.trace)) })
        });
        resume(&self.image, fiber, result);
        self.ready.push_back(id);
    }

    /// Runs until nothing is ready or the fuel is used up: about one unit a call and a repetition.
    pub fn run(&mut self, mut fuel: u64) -> Progress {
        while let Some(id) = self.ready.pop_front() {
            let Some(mut fiber) = self.fibers.remove(&id) else { continue };
            match self.step(&mut fiber, id, &mut fuel) {
                Step::OutOfFuel => {
                    self.fibers.insert(id, fiber);
                    self.ready.push_front(id);
                    return Progress::OutOfFuel;
                }
                Step::Off => {
                    self.fibers.insert(id, fiber);
                }
                Step::Finished(result) => self.finished(fiber, result),
            }
        }
        if !self.fibers.is_empty() {
            return Progress::Waiting;
        }
        let unawaited = self.failed.iter().find(|task| !task.observed.get());
        let outcome = match (&*self.main.outcome.borrow(), unawaited) {
            (Outcome::Value(_), Some(task)) => task.outcome.borrow().clone(),
            (outcome, _) => outcome.clone(),
        };
        Progress::Done(match outcome {
            Outcome::Value(value) => match self.result {
                ResultMode::Value => {
                    self.value = value;
                    Ok(Data::default())
                }
                ResultMode::Lenient => Ok(Data::encode(&value).unwrap_or_else(|_| Data(vec![0]))),
                ResultMode::Data => Data::encode_named(&value, "the result").map_err(|fail| error_data(*fail)),
            },
            Outcome::Failed(failure) => Err(error_data(failure)),
            Outcome::Running => Err(ErrorData::new("internal", "the program ended without a result")),
        })
    }

    fn finished(&mut self, fiber: Fiber, result: Result<Value, Fail>) {
        let failed = result.is_err();
        let is_main = Rc::ptr_eq(&fiber.task, &self.main);
        let task = fiber.task.clone();
        drop(fiber);
        self.settle(&task, result);
        if failed && is_main && !self.ending {
            self.ending = true;
            let others: Vec<Rc<Task>> = self.fibers.values().map(|fiber| fiber.task.clone()).collect();
            for task in others {
                self.cancel(&task);
            }
        } else if failed && !is_main {
            self.failed.push(task);
        }
    }

    /// Runs one fiber.
    ///
    /// The current frame lives in locals: its function, its window of registers, its program counter. They are
    /// written back when another frame becomes the current one.
    fn step(&mut self, fiber: &mut Fiber, id: u64, fuel: &mut u64) -> Step {
        let mut left = *fuel;
        let outcome = self.execute(fiber, id, &mut left);
        *fuel = left;
        outcome
    }

    fn execute(&mut self, fiber: &mut Fiber, id: u64, left: &mut u64) -> Step {
        if mem::take(&mut fiber.cancelled) {
            fiber.thrown = Some(fail("cancelled", "this task was cancelled"));
        }
        let image = self.image.clone();
        let functions = &image.code.functions[..];
        let natives = natives::table();
        let mut thrown: Option<Fail> = fiber.thrown.take();
        'frame: loop {
            if let Some(failure) = thrown.take()
                && let Err(failure) = unwind(&image, fiber, failure)
            {
                return Step::Finished(Err(failure));
            }
            let Some(frame) = fiber.frames.last() else {
                return Step::Finished(Ok(Value::Null));
            };
            let mut function = &functions[frame.function as usize];
            let mut ops = &function.ops[..];
            let mut base = frame.base as usize;
            let mut pc = frame.pc as usize;
            let mut regs = &mut fiber.stack[base..base + function.registers as usize];

            macro_rules! save {
                () => {
                    if let Some(frame) = fiber.frames.last_mut() {
                        frame.pc = pc as u32;
                    }
                };
            }
            macro_rules! throw {
                ($fail:expr) => {{
                    thrown = Some($fail);
                    save!();
                    continue 'frame;
                }};
            }
            macro_rules! check {
                ($result:expr) => {
                    match $result {
                        Ok(value) => value,
                        Err(failure) => throw!(failure),
                    }
                };
            }
            macro_rules! burn {
                () => {
                    *left = left.saturating_sub(1);
                    if *left & 0x3ff == 0 && memory_used() > MAX_MEMORY {
                        throw!(fail("limit", "out of memory: this program's values take more than 1 GiB"));
                    }
                };
            }
            // Makes the frame on top of the stack of frames the current one, at its beginning.
            macro_rules! enter {
                ($callee:expr, $base:expr) => {{
                    function = $callee;
                    ops = &function.ops[..];
                    base = $base;
                    pc = 0;
                    regs = &mut fiber.stack[base..base + function.registers as usize];
                    if *left == 0 {
                        return Step::OutOfFuel;
                    }
                    continue;
                }};
            }
            // Calls a function whose arguments lie from `$at` on; the result goes to `$result`.
            macro_rules! call {
                ($function:expr, $at:expr, $count:expr, $env:expr, $result:expr) => {{
                    let callee = &functions[$function as usize];
                    let (count, env): (usize, Value) = ($count as usize, $env);
                    burn!();
                    save!();
                    let start = base + $at as usize;
                    let end = start + callee.registers as usize;
                    if (end > fiber.stack.len() || fiber.frames.len() >= MAX_DEPTH)
                        && let Err(failure) = grow(fiber, end)
                    {
                        thrown = Some(failure);
                        continue 'frame;
                    }
                    if count < callee.params as usize {
                        fiber.stack[start + count..start + callee.params as usize].fill(Value::Missing);
                    }
                    if callee.has_env {
                        fiber.stack[start + callee.params as usize] = env;
                    }
                    let result = (base + $result as usize) as u32;
                    fiber.frames.push(Frame { function: $function, pc: 0, base: start as u32, result });
                    enter!(callee, start)
                }};
            }
            // Calls a function in place of the current one.
            macro_rules! tail_call {
                ($function:expr, $at:expr, $count:expr, $env:expr) => {{
                    let callee = &functions[$function as usize];
                    let (from, count, env): (usize, usize, Value) = ($at as usize, $count as usize, $env);
                    burn!();
                    for at in 0..count {
                        shift(regs, from + at, at);
                    }
                    release(&mut regs[count..]);
                    if let Some(frame) = fiber.frames.last_mut() {
                        frame.function = $function;
                        frame.pc = 0;
                    }
                    let end = base + callee.registers as usize;
                    if end > fiber.stack.len()
                        && let Err(failure) = grow(fiber, end)
                    {
                        thrown = Some(failure);
                        continue 'frame;
                    }
                    if count < callee.params as usize {
                        fiber.stack[base + count..base + callee.params as usize].fill(Value::Missing);
                    }
                    if callee.has_env {
                        fiber.stack[base + callee.params as usize] = env;
                    }
                    enter!(callee, base)
                }};
            }
            // Takes a call of a builtin out of line; it may wait, or change fibers.
            macro_rules! slow_builtin {
                ($builtin:expr, $at:expr, $count:expr, $result:expr) => {{
                    save!();
                    let (at, count, result) = (base + $at as usize, $count as usize, base + $result as usize);
                    match self.builtin(fiber, id, $builtin, at, count, result) {
                        Ok(Flow::Go) => continue 'frame,
                        Ok(Flow::Wait(wait)) => {
                            fiber.wait = wait;
                            return Step::Off;
                        }
                        Ok(Flow::Yield) => return Step::Off,
                        Err(failure) => {
                            thrown = Some(failure);
                            continue 'frame;
                        }
                    }
                }};
            }
            macro_rules! builtin_call {
                ($builtin:expr, $at:expr, $count:expr, $result:expr) => {{
                    let info = &builtins::TABLE[$builtin as usize];
                    let (at, count) = ($at as usize, $count as usize);
                    if info.kind == Kind::Native
                        && (info.min as usize..=info.max as usize).contains(&count)
                        && at + count <= regs.len()
                    {
                        let args = &mut regs[at..at + count];
                        let value = check!(natives[$builtin as usize](args));
                        // What the arguments hold must not live longer than the call.
                        release(args);
                        regs[$result as usize] = value;
                        continue;
                    }
                    slow_builtin!($builtin, $at, $count, $result)
                }};
            }
            // Calls a function value.
            macro_rules! call_value {
                ($f:expr, $at:expr, $count:expr, $result:expr, $tail:expr) => {{
                    let count: usize = $count;
                    let (target, env) = match $f {
                        Value::Function(closure) if matches!(closure.env, Value::Null) => (closure.function, Value::Null),
                        Value::Function(closure) => (closure.function, closure.env.clone()),
                        Value::Builtin(builtin) => {
                            let builtin = *builtin;
                            builtin_call!(builtin, $at, count, $result)
                        }
                        other => throw!(op::not_a_function(other)),
                    };
                    let callee = &functions[target as usize];
                    let (min, max) = (callee.required as usize, (callee.params - callee.hidden) as usize);
                    if count < min || count > max {
                        throw!(op::arity(&callee.name, min, max, count));
                    }
                    if $tail {
                        tail_call!(target, $at, count, env)
                    } else {
                        call!(target, $at, count, env, $result)
                    }
                }};
            }
            macro_rules! test {
                ($want:expr, $outcome:expr) => {
                    if $outcome == $want {
                        pc += 1;
                    } else if let Op::Jump { by } = ops[pc] {
                        pc = (pc as i64 + 1 + by as i64) as usize;
                    }
                };
            }
            macro_rules! compare {
                ($a:expr, $b:expr, $cmp:tt, $order:pat) => {
                    match (&regs[$a as usize], &regs[$b as usize]) {
                        (Value::Int(x), Value::Int(y)) => x $cmp y,
                        (Value::Float(x), Value::Float(y)) => x $cmp y,
                        (a, b) => matches!(check!(order(a, b)), $order),
                    }
                };
            }
            macro_rules! compare_int {
                ($a:expr, $value:expr, $cmp:tt, $order:pat) => {
                    match &regs[$a as usize] {
                        Value::Int(x) => *x $cmp $value as i64,
                        a => matches!(check!(order(a, &Value::Int($value as i64))), $order),
                    }
                };
            }
            macro_rules! arithmetic {
                ($to:expr, $a:expr, $b:expr, $int:ident, $float:tt, $slow:path) => {{
                    match (&regs[$a as usize], &regs[$b as usize]) {
                        (Value::Int(x), Value::Int(y)) if let Some(n) = x.$int(*y) => regs[$to as usize].put_int(n),
                        (Value::Float(x), Value::Float(y)) => {
                            let x = x $float y;
                            regs[$to as usize].put_float(x);
                        }
                        (a, b) => {
                            let value = check!($slow(a, b));
                            regs[$to as usize] = value;
                        }
                    }
                }};
            }
            loop {
                let op = ops[pc];
                pc += 1;
                match op {
                    Op::Move { to, from } => match &regs[from as usize] {
                        Value::Int(n) => {
                            let n = *n;
                            regs[to as usize].put_int(n);
                        }
                        other => regs[to as usize] = other.clone(),
                    },
                    Op::Take { to, from } => shift(regs, from as usize, to as usize),
                    Op::Constant { to, index } => regs[to as usize] = image.constants[index as usize].clone(),
                    Op::Int { to, value } => regs[to as usize].put_int(value as i64),
                    Op::Null { to } => regs[to as usize] = Value::Null,
                    Op::Bool { to, value } => regs[to as usize] = Value::Bool(value),
                    Op::Missing { to } => regs[to as usize] = Value::Missing,
                    Op::Global { to, index } => {
                        let value = image.globals.borrow()[index as usize].clone();
                        if matches!(value, Value::Missing) {
                            throw!(fail("uninitialised", "a `const` is used before it has its value"));
                        }
                        regs[to as usize] = value;
                    }
                    Op::Add { to, a, b } => match (&regs[a as usize], &regs[b as usize]) {
                        (Value::Int(x), Value::Int(y)) if let Some(n) = x.checked_add(*y) => regs[to as usize].put_int(n),
                        (Value::Float(x), Value::Float(y)) => {
                            let x = x + y;
                            regs[to as usize].put_float(x);
                        }
                        _ => {
                            let in_place = to == a && a != b;
                            let left = if in_place { mem::take(&mut regs[a as usize]) } else { regs[a as usize].clone() };
                            match op::add(left, &regs[b as usize]) {
                                Ok(value) => regs[to as usize] = value,
                                Err((left, failure)) => {
                                    if in_place {
                                        regs[a as usize] = left;
                                    }
                                    throw!(failure);
                                }
                            }
                        }
                    },
                    Op::Subtract { to, a, b } => arithmetic!(to, a, b, checked_sub, -, op::subtract),
                    Op::Multiply { to, a, b } => arithmetic!(to, a, b, checked_mul, *, op::multiply),
                    Op::Divide { to, a, b } => {
                        let value = check!(op::divide(&regs[a as usize], &regs[b as usize]));
                        regs[to as usize] = value;
                    }
                    Op::Remainder { to, a, b } => match (&regs[a as usize], &regs[b as usize]) {
                        (Value::Int(x), Value::Int(y)) if *x >= 0 && *y > 0 => {
                            let n = x % y;
                            regs[to as usize].put_int(n);
                        }
                        (a, b) => {
                            let value = check!(op::remainder(a, b));
                            regs[to as usize] = value;
                        }
                    },
                    Op::AddInt { to, a, value } => match &regs[a as usize] {
                        Value::Int(x) if let Some(n) = x.checked_add(value as i64) => regs[to as usize].put_int(n),
                        Value::Float(x) => {
                            let x = x + value as f64;
                            regs[to as usize].put_float(x);
                        }
                        other => {
                            // Errors speak of what was written.
                            let failure = match value < 0 {
                                true => op::subtract(other, &Value::Int(-(value as i64))).err(),
                                false => op::add(other.clone(), &Value::Int(value as i64)).err().map(|(_, f)| f),
                            };
                            throw!(failure.unwrap_or_else(|| fail("type_error", "`+` can't take these")));
                        }
                    },
                    Op::Equal { to, a, b } => {
                        let value = match (&regs[a as usize], &regs[b as usize]) {
                            (Value::Int(x), Value::Int(y)) => x == y,
                            (a, b) => check!(equal(a, b)),
                        };
                        regs[to as usize].put_bool(value);
                    }
                    Op::NotEqual { to, a, b } => {
                        let value = check!(equal(&regs[a as usize], &regs[b as usize]));
                        regs[to as usize].put_bool(!value);
                    }
                    Op::Less { to, a, b } => {
                        let value = compare!(a, b, <, std::cmp::Ordering::Less);
                        regs[to as usize].put_bool(value);
                    }
                    Op::LessEqual { to, a, b } => {
                        let value = compare!(a, b, <=, std::cmp::Ordering::Less | std::cmp::Ordering::Equal);
                        regs[to as usize].put_bool(value);
                    }
                    Op::Greater { to, a, b } => {
                        let value = compare!(a, b, >, std::cmp::Ordering::Greater);
                        regs[to as usize].put_bool(value);
                    }
                    Op::GreaterEqual { to, a, b } => {
                        let value = compare!(a, b, >=, std::cmp::Ordering::Greater | std::cmp::Ordering::Equal);
                        regs[to as usize].put_bool(value);
                    }
                    Op::Not { to, a } => match &regs[a as usize] {
                        Value::Bool(b) => regs[to as usize] = Value::Bool(!b),
                        other => throw!(op::not_bool(other)),
                    },
                    Op::Negate { to, a } => {
                        let value = check!(op::negate(&regs[a as usize]));
                        regs[to as usize] = value;
                    }
                    Op::CheckBool { a } => {
                        if !matches!(&regs[a as usize], Value::Bool(_)) {
                            throw!(op::not_bool(&regs[a as usize]));
                        }
                    }
                    Op::Jump { by } => pc = (pc as i64 + by as i64) as usize,
                    Op::Repeat { by } => {
                        pc = (pc as i64 + by as i64) as usize;
                        burn!();
                        if *left == 0 {
                            save!();
                            return Step::OutOfFuel;
                        }
                    }
                    Op::TestTrue { want, a } => match &regs[a as usize] {
                        Value::Bool(b) => test!(want, *b),
                        Value::Missing => throw!(fail("uninitialised", "a variable is used before it has its value")),
                        other => throw!(op::not_bool(other)),
                    },
                    Op::TestNull { want, a } => test!(want, matches!(&regs[a as usize], Value::Null)),
                    Op::TestMissing { want, a } => test!(want, matches!(&regs[a as usize], Value::Missing)),
                    Op::TestEqual { want, a, b } => {
                        let outcome = match (&regs[a as usize], &regs[b as usize]) {
                            (Value::Int(x), Value::Int(y)) => x == y,
                            (a, b) => check!(equal(a, b)),
                        };
                        test!(want, outcome)
                    }
                    Op::TestLess { want, a, b } => test!(want, compare!(a, b, <, std::cmp::Ordering::Less)),
                    Op::TestLessEqual { want, a, b } => {
                        test!(want, compare!(a, b, <=, std::cmp::Ordering::Less | std::cmp::Ordering::Equal))
                    }
                    Op::TestGreater { want, a, b } => test!(want, compare!(a, b, >, std::cmp::Ordering::Greater)),
                    Op::TestGreaterEqual { want, a, b } => {
                        test!(want, compare!(a, b, >=, std::cmp::Ordering::Greater | std::cmp::Ordering::Equal))
                    }
                    Op::TestEqualInt { want, a, value } => {
                        let outcome = match &regs[a as usize] {
                            Value::Int(x) => *x == value as i64,
                            Value::Float(x) => *x == value as f64,
                            _ => false,
                        };
                        test!(want, outcome)
                    }
                    Op::TestLessInt { want, a, value } => test!(want, compare_int!(a, value, <, std::cmp::Ordering::Less)),
                    Op::TestLessEqualInt { want, a, value } => {
                        test!(want, compare_int!(a, value, <=, std::cmp::Ordering::Less | std::cmp::Ordering::Equal))
                    }
                    Op::TestGreaterInt { want, a, value } => {
                        test!(want, compare_int!(a, value, >, std::cmp::Ordering::Greater))
                    }
                    Op::TestGreaterEqualInt { want, a, value } => {
                        test!(want, compare_int!(a, value, >=, std::cmp::Ordering::Greater | std::cmp::Ordering::Equal))
                    }
                    Op::TestConstant { a, index } => {
                        let outcome = match &regs[a as usize] {
                            Value::Function(_) | Value::Builtin(_) => false,
                            a => check!(equal(a, &image.constants[index as usize])),
                        };
                        test!(true, outcome)
                    }
                    Op::TestList { a } => test!(true, matches!(&regs[a as usize], Value::List(_))),
                    Op::TestRecord { a } => test!(true, matches!(&regs[a as usize], Value::Record(_))),
                    Op::TestLength { a, length } => {
                        test!(true, matches!(&regs[a as usize], Value::List(list) if list.len() == length as usize))
                    }
                    Op::TestAtLeast { a, length } => {
                        test!(true, matches!(&regs[a as usize], Value::List(list) if list.len() >= length as usize))
                    }
                    Op::NewList { to, base: from, count } => {
                        let items = regs[from as usize..from as usize + count as usize].iter_mut().map(mem::take).collect();
                        regs[to as usize] = Value::list(items);
                    }
                    Op::Push { list, value } => {
                        let value = regs[value as usize].clone();
                        if let Value::List(list) = &mut regs[list as usize] {
                            check!(op::reserve_items(list.len() + 1));
                            List::make_mut(list).with(|items| items.push(value));
                        }
                    }
                    Op::Append { list, value } => {
                        let value = mem::take(&mut regs[value as usize]);
                        match &mut regs[list as usize] {
                            Value::List(list) => {
                                check!(op::reserve_items(list.len() + 1));
                                List::make_mut(list).with(|items| items.push(value));
                            }
                            other => {
                                let failure = op::add(other.clone(), &Value::list(vec![value])).err();
                                throw!(failure.map_or_else(|| fail("internal", "a list was expected"), |(_, failure)| failure));
                            }
                        }
                    }
                    Op::Extend { list, values } => {
                        let values = check!(op::elements(&regs[values as usize]));
                        if let (Value::List(list), Value::List(values)) = (&mut regs[list as usize], &values) {
                            check!(op::reserve_items(list.len() + values.len()));
                            List::make_mut(list).with(|items| items.extend_from_slice(values.as_slice()));
                        }
                    }
                    Op::NewRecord { to, base: from, shape } => {
                        let keys = image.shapes[shape as usize].clone();
                        let count = keys.names().len();
                        let values: Vec<Value> =
                            regs[from as usize..from as usize + count].iter_mut().map(mem::take).collect();
                        regs[to as usize] = Value::Record(Rc::new(Record::new(keys, values)));
                    }
                    Op::Put { record, key, value } => {
                        let key = match &regs[key as usize] {
                            Value::Str(text) => intern(text.as_str()),
                            other => throw!(fail("type_error", format!("a record's keys are strings, not {}", other.a_kind()))),
                        };
                        let value = regs[value as usize].clone();
                        if let Value::Record(record) = &mut regs[record as usize]
                            && let Some(record) = Record::make_mut(record)
                        {
                            record.set(key, value);
                        }
                    }
                    Op::Merge { record, other } => {
                        let other = match &regs[other as usize] {
                            Value::Record(other) => other.clone(),
                            Value::Null => continue,
                            other => throw!(fail("type_error", format!("`..` in a record takes a record, not {}", other.a_kind()))),
                        };
                        if let Value::Record(record) = &mut regs[record as usize] {
                            if record.is_empty() {
                                *record = Rc::new((*other).clone());
                            } else if let Some(record) = Record::make_mut(record) {
                                for (name, value) in other.iter() {
                                    record.set(name.clone(), value.clone());
                                }
                            }
                        }
                    }
                    Op::Field { to, a, name } => {
                        let name = &image.names[name as usize];
                        let value = match &regs[a as usize] {
                            Value::Record(record) if let Some(value) = record.get(name) => value.clone(),
                            other => check!(op::field(other, name)),
                        };
                        regs[to as usize] = value;
                    }
                    Op::OptionalField { to, a, name } => {
                        let value = check!(op::optional_field(&regs[a as usize], &image.names[name as usize]));
                        regs[to as usize] = value;
                    }
                    Op::ReadField { to, a, name } => {
                        let value = match &regs[a as usize] {
                            Value::Record(record) => record.get(&image.names[name as usize]).cloned(),
                            _ => None,
                        };
                        regs[to as usize] = value.unwrap_or(Value::Missing);
                    }
                    Op::ReadIndex { to, a, index } => {
                        let value = match &regs[a as usize] {
                            Value::List(list) => list.as_slice().get(index as usize).cloned(),
                            _ => None,
                        };
                        regs[to as usize] = value.unwrap_or(Value::Missing);
                    }
                    Op::ReadBack { to, a, index } => {
                        let value = match &regs[a as usize] {
                            Value::List(list) => {
                                list.len().checked_sub(index as usize).and_then(|at| list.as_slice().get(at).cloned())
                            }
                            _ => None,
                        };
                        regs[to as usize] = value.unwrap_or(Value::Missing);
                    }
                    Op::ReadMiddle { to, a, slice } => {
                        let (before, after) = image.code.slices[slice as usize];
                        let value = match &regs[a as usize] {
                            Value::List(list) if list.len() >= (before + after) as usize => {
                                Value::List(List::slice(list, before as usize, list.len() - after as usize))
                            }
                            _ => Value::Missing,
                        };
                        regs[to as usize] = value;
                    }
                    Op::ReadWithout { to, a, shape } => {
                        let names = image.shapes[shape as usize].names();
                        let value = match &regs[a as usize] {
                            Value::Record(record) => {
                                Value::Record(Rc::new(record.without(|name| names.iter().any(|n| &**n == name))))
                            }
                            _ => Value::Missing,
                        };
                        regs[to as usize] = value;
                    }
                    Op::Index { to, a, index } => {
                        let found = match (&regs[a as usize], &regs[index as usize]) {
                            (Value::List(list), Value::Int(n)) => match list.as_slice().get(*n as usize) {
                                Some(Value::Int(n)) => Some(*n),
                                _ => None,
                            },
                            _ => None,
                        };
                        if let Some(n) = found {
                            regs[to as usize].put_int(n);
                            continue;
                        }
                        let value = match (&regs[a as usize], &regs[index as usize]) {
                            (Value::List(list), Value::Int(n)) if (*n as u64) < list.len() as u64 => {
                                list.as_slice()[*n as usize].clone()
                            }
                            (a, index) => check!(op::index(a, index)),
                        };
                        regs[to as usize] = value;
                    }
                    Op::SetPath { a, base: from, path } => {
                        let path = &image.code.paths[path as usize];
                        let count = path.iter().filter(|step| matches!(step, crate::code::PathStep::Index)).count();
                        let mut root = mem::take(&mut regs[a as usize]);
                        let value = mem::take(&mut regs[from as usize + count]);
                        let args = &regs[from as usize..from as usize + count];
                        let result = op::set_path(&mut root, path, &image.names, args, value);
                        regs[a as usize] = root;
                        check!(result);
                    }
                    Op::SetCellPath { cell, base: from, path } => {
                        let path = &image.code.paths[path as usize];
                        let count = path.iter().filter(|step| matches!(step, crate::code::PathStep::Index)).count();
                        let value = mem::take(&mut regs[from as usize + count]);
                        let args = &regs[from as usize..from as usize + count];
                        if let Value::Cell(cell) = &regs[cell as usize] {
                            let mut root = mem::take(&mut *cell.value.borrow_mut());
                            let result = op::set_path(&mut root, path, &image.names, args, value);
                            *cell.value.borrow_mut() = root;
                            check!(result);
                        }
                    }
                    Op::Concat { to, base: from, count } => {
                        let value = check!(op::concat(&regs[from as usize..from as usize + count as usize]));
                        regs[to as usize] = value;
                    }
                    Op::Range { to, base: from, inclusive } => {
                        let value = check!(op::range(&regs[from as usize], &regs[from as usize + 1], 1, inclusive));
                        regs[to as usize] = value;
                    }
                    Op::RangeStart { base: from, inclusive } => {
                        let from = from as usize;
                        let (_, high) = check!(op::range_ends(&regs[from], &regs[from + 1], inclusive));
                        // An end beyond the largest int is kept as a float mark: no int reaches it.
                        regs[from + 1] = i64::try_from(high).map_or(Value::Null, Value::Int);
                    }
                    Op::RangeNext { base: from, by } => {
                        let from = from as usize;
                        let (now, end) = match (&regs[from], &regs[from + 1]) {
                            (Value::Int(now), Value::Int(end)) => (*now, Some(*end)),
                            (Value::Int(now), _) => (*now, None),
                            _ => {
                                pc = (pc as i64 + by as i64) as usize;
                                continue;
                            }
                        };
                        if end.is_none_or(|end| now < end) {
                            regs[from + 2].put_int(now);
                            match now.checked_add(1) {
                                Some(next) => regs[from].put_int(next),
                                None => regs[from] = Value::Null,
                            }
                        } else {
                            pc = (pc as i64 + by as i64) as usize;
                        }
                    }
                    Op::EachStart { base: from } => {
                        let value = check!(op::elements(&regs[from as usize]));
                        regs[from as usize] = value;
                        regs[from as usize + 1] = Value::Int(0);
                    }
                    Op::EachNext { base: from, by } => {
                        let from = from as usize;
                        // The list, the index of the next element, and the element.
                        let [list, index, item, ..] = &mut regs[from..] else { continue };
                        let next = match (&*list, &*index) {
                            (Value::List(list), Value::Int(at)) => list.as_slice().get(*at as usize).map(|value| (value, *at)),
                            _ => None,
                        };
                        match next {
                            Some((value, at)) => {
                                index.put_int(at + 1);
                                item.copy(value);
                            }
                            None => {
                                *list = Value::Null;
                                pc = (pc as i64 + by as i64) as usize;
                            }
                        }
                    }
                    Op::NewCell { to, from } => {
                        let value = regs[from as usize].clone();
                        regs[to as usize] = Value::Cell(Rc::new(Shared { value: RefCell::new(value) }));
                    }
                    Op::GetCell { to, cell } => {
                        let value = match &regs[cell as usize] {
                            Value::Cell(cell) => cell.value.borrow().clone(),
                            _ => Value::Null,
                        };
                        regs[to as usize] = value;
                    }
                    Op::GetEarly { to, cell } => {
                        let value = match &regs[cell as usize] {
                            Value::Cell(cell) => cell.value.borrow().clone(),
                            _ => Value::Missing,
                        };
                        if matches!(value, Value::Missing) {
                            throw!(fail("uninitialised", "a variable is used before it has its value"));
                        }
                        regs[to as usize] = value;
                    }
                    Op::SetCell { cell, from } => {
                        let value = regs[from as usize].clone();
                        if let Value::Cell(cell) = &regs[cell as usize] {
                            let old = cell.value.replace(value);
                            drop(old);
                        }
                    }
                    Op::AddCell { cell, b } => {
                        if let Value::Cell(cell) = &regs[cell as usize] {
                            let left = mem::take(&mut *cell.value.borrow_mut());
                            match op::add(left, &regs[b as usize]) {
                                Ok(value) => *cell.value.borrow_mut() = value,
                                Err((left, failure)) => {
                                    *cell.value.borrow_mut() = left;
                                    throw!(failure);
                                }
                            }
                        }
                    }
                    Op::Capture { to, index } => {
                        let value = match &regs[function.params as usize] {
                            Value::Env(env) => env.values.get(index as usize).cloned(),
                            _ => None,
                        };
                        regs[to as usize] = value.unwrap_or(Value::Missing);
                    }
                    Op::Environment { to, base: from, count } => {
                        let values = regs[from as usize..from as usize + count as usize].iter_mut().map(mem::take).collect();
                        regs[to as usize] = Value::Env(Rc::new(Env { values }));
                    }
                    Op::Closure { to, env, function } => {
                        let env = regs[env as usize].clone();
                        regs[to as usize] = Value::Function(Rc::new(Closure { function: function as FunctionId, env }));
                    }
                    Op::CallFunction { count, base: at, function: callee } => call!(callee, at, count, Value::Null, at),
                    Op::TailFunction { count, base: at, function: callee } => tail_call!(callee, at, count, Value::Null),
                    Op::CallSibling { count, base: at, function: callee } => {
                        check!(op::fits(&functions[callee as usize], count as usize));
                        let env = regs[function.params as usize].clone();
                        call!(callee as FunctionId, at, count, env, at)
                    }
                    Op::TailSibling { count, base: at, function: callee } => {
                        check!(op::fits(&functions[callee as usize], count as usize));
                        let env = regs[function.params as usize].clone();
                        tail_call!(callee as FunctionId, at, count, env)
                    }
                    Op::Call { count, base: at, f } => call_value!(&regs[f as usize], at, count as usize, at, false),
                    Op::TailCall { count, base: at, f } => call_value!(&regs[f as usize], at, count as usize, at, true),
                    Op::CallMethod { count, base: at, name } => {
                        let own = match &regs[at as usize] {
                            Value::Record(record) => record.get(&image.names[name as usize]).cloned(),
                            _ => None,
                        };
                        if let Some(f) = own {
                            call_value!(&f, at + 1, count as usize, at, false)
                        }
                        match self.method(&regs[at as usize], name) {
                            Ok(MethodTarget::Function(target)) => {
                                let callee = &functions[target as usize];
                                let (min, max) = (callee.required as usize, callee.params as usize);
                                let given = count as usize + 1;
                                if given < min || given > max {
                                    throw!(op::arity(&callee.name, min.saturating_sub(1), max.saturating_sub(1), given - 1));
                                }
                                call!(target, at, given, Value::Null, at)
                            }
                            Ok(MethodTarget::Builtin(builtin)) => builtin_call!(builtin, at, count as usize + 1, at),
                            Err(failure) => throw!(failure),
                        }
                    }
                    Op::CallSpread { base: at } => {
                        let f = regs[at as usize].clone();
                        let list = check!(spread(mem::take(&mut regs[at as usize + 1])));
                        save!();
                        if let Err(failure) = lay_out(fiber, base + at as usize, list.as_slice()) {
                            thrown = Some(failure);
                            continue 'frame;
                        }
                        regs = &mut fiber.stack[base..base + function.registers as usize];
                        call_value!(&f, at, list.len(), at, false)
                    }
                    Op::CallMethodSpread { base: at, name } => {
                        let list = check!(spread(mem::take(&mut regs[at as usize + 1])));
                        let own = match &regs[at as usize] {
                            Value::Record(record) => record.get(&image.names[name as usize]).cloned(),
                            _ => None,
                        };
                        let f = match own {
                            Some(f) => f,
                            None => match check!(self.method(&regs[at as usize], name)) {
                                MethodTarget::Builtin(builtin) => Value::Builtin(builtin),
                                MethodTarget::Function(function) => {
                                    Value::Function(Rc::new(Closure { function, env: Value::Null }))
                                }
                            },
                        };
                        // A record's own function doesn't get the record.
                        let own = matches!(&regs[at as usize], Value::Record(r) if r.get(&image.names[name as usize]).is_some());
                        save!();
                        if let Err(failure) = lay_out(fiber, base + at as usize + 1, list.as_slice()) {
                            thrown = Some(failure);
                            continue 'frame;
                        }
                        regs = &mut fiber.stack[base..base + function.registers as usize];
                        match own {
                            true => call_value!(&f, at + 1, list.len(), at, false),
                            false => call_value!(&f, at, list.len() + 1, at, false),
                        }
                    }
                    Op::Apply { count, base: at, builtin } => builtin_call!(builtin, at, count, at),
                    Op::Invoke { count, base: at, global } => {
                        save!();
                        match self.invoke(fiber, id, global, base + at as usize, count as usize) {
                            Ok(Flow::Go) => continue 'frame,
                            Ok(Flow::Wait(wait)) => {
                                fiber.wait = wait;
                                return Step::Off;
                            }
                            Ok(Flow::Yield) => return Step::Off,
                            Err(failure) => {
                                thrown = Some(failure);
                                continue 'frame;
                            }
                        }
                    }
                    Op::Return { from } => {
                        let (Some(frame), Some(caller)) = (fiber.frames.pop(), fiber.frames.last()) else {
                            let value = mem::take(&mut regs[from as usize]);
                            release(regs);
                            return Step::Finished(Ok(value));
                        };
                        match &mut regs[from as usize] {
                            Value::Int(n) => {
                                let n = *n;
                                release(regs);
                                fiber.stack[frame.result as usize].put_int(n);
                            }
                            other => {
                                let value = mem::take(other);
                                release(regs);
                                fiber.stack[frame.result as usize] = value;
                            }
                        }
                        function = &functions[caller.function as usize];
                        ops = &function.ops[..];
                        base = caller.base as usize;
                        pc = caller.pc as usize;
                        regs = &mut fiber.stack[base..base + function.registers as usize];
                    }
                    Op::Try { error, by } => {
                        let frames = fiber.frames.len() as u32;
                        let target = (pc as i64 + by as i64) as u32;
                        fiber.handlers.push(Handler { frames, pc: target, error });
                    }
                    Op::EndTry => {
                        fiber.handlers.pop();
                    }
                    Op::Throw { from } => {
                        let value = regs[from as usize].clone();
                        throw!(Box::new(Failure { value, trace: None }));
                    }
                    Op::Rethrow { error } => {
                        let value = regs[error as usize].clone();
                        let trace = match &regs[error as usize + 1] {
                            Value::Trace(trace) => Some(trace.clone()),
                            _ => None,
                        };
                        throw!(Box::new(Failure { value, trace }));
                    }
                    Op::NoArm { from } => throw!(op::no_match(&regs[from as usize], true)),
                    Op::NoMatch { from } => throw!(op::no_match(&regs[from as usize], false)),
                }
            }
        }
    }

    /// What a method of a value that isn't its own field calls.
    fn method(&self, value: &Value, name: u16) -> Result<MethodTarget, Fail> {
        let text = &self.image.names[name as usize];
        if let Value::Entity(_) = value {
            return Err(unsupported("calling an entity"));
        }
        let Some(module) = value.methods() else { return Err(op::no_method(value, text, std::iter::empty())) };
        self.image.method(name, module).ok_or_else(|| {
            let known = crate::check::std_sources().iter().find(|(name, _)| *name == module);
            let names = known.map(|(_, text)| *text).unwrap_or("").lines().filter_map(|line| {
                line.strip_prefix("fn ").and_then(|rest| rest.split('(').next()).map(str::to_string)
            });
            op::no_method(value, text, names)
        })
    }

    fn builtin(&mut self, fiber: &mut Fiber, id: u64, builtin: u16, at: usize, count: usize, result: usize) -> Result<Flow, Fail> {
        let info = &builtins::TABLE[builtin as usize];
        if count < info.min as usize || count > info.max as usize {
            return Err(op::arity(info.name, info.min as usize, info.max as usize, count));
        }
        if !info.contexts.allow(self.context) {
            return Err(fail("context", format!("`{}` is not possible in {}", info.name, self.context.describe())));
        }
        match info.kind {
            Kind::Native => {
                let args = &mut fiber.stack[at..at + count];
                let value = natives::table()[builtin as usize](args)?;
                release(args);
                fiber.stack[result] = value;
                Ok(Flow::Go)
            }
            Kind::Identity => {
                fiber.stack[result] = match info.name {
                    "self" => Value::record([("id", Value::str(&*self.identity.id)), ("key", Value::str(&*self.identity.key))]),
                    _ => Value::str(&*self.identity.key),
                };
                Ok(Flow::Go)
            }
            Kind::Effect { .. } => {
                if UNSUPPORTED.contains(&info.name) {
                    return Err(unsupported(&format!("`{}`", info.name)));
                }
                natives::check_effect(info.name, &fiber.stack[at..at + count])?;
                let mut args = fiber.stack[at..at + count].to_vec();
                if matches!(info.name, "print" | "log") {
                    // What isn't data can be shown all the same.
                    for arg in &mut args {
                        if Data::encode(arg).is_err() {
                            *arg = Value::str(super::format::to_text(arg)?);
                        }
                    }
                }
                let args = Data::encode_named(&Value::list(args), "args")?;
                Ok(Flow::Wait(self.request(fiber, id, What::Effect(info.name), args)))
            }
            Kind::Scheduling => {
                let arg = mem::take(&mut fiber.stack[at]);
                let (how, (tasks, keys)) = match info.name {
                    "async" => {
                        let task = self.spawn(&arg, id)?;
                        fiber.stack[result] = task;
                        return Ok(Flow::Yield);
                    }
                    "cancel" => {
                        let Value::Task(task) = &arg else {
                            return Err(fail("type_error", format!("`cancel` takes a task, not {}", arg.a_kind())));
                        };
                        let task = task.clone();
                        self.cancel(&task);
                        return Ok(Flow::Go);
                    }
                    "await" => match &arg {
                        Value::Task(task) => (How::One, (vec![task.clone()], None)),
                        other => {
                            let hint = if matches!(other, Value::List(_)) { "; `all` awaits a list of tasks" } else { "" };
                            return Err(fail("type_error", format!("`await` takes a task, not {}{hint}", other.a_kind())));
                        }
                    },
                    "all" => (How::All, tasks_of(&arg, "all")?),
                    "any" => (How::Any, tasks_of(&arg, "any")?),
                    _ => (How::Race, tasks_of(&arg, "race")?),
                };
                if tasks.iter().any(|task| task.id == fiber.task.id) {
                    return Err(fail("type_error", "a task can't wait for itself"));
                }
                match self.join(id, how, tasks, keys) {
                    Ok(Some(Ok(value))) => {
                        fiber.stack[result] = value;
                        Ok(Flow::Go)
                    }
                    Ok(Some(Err(failure))) => Err(failure),
                    Ok(None) => Err(fail("internal", "a wait without an outcome")),
                    Err(join) => Ok(Flow::Wait(Wait::Tasks(join))),
                }
            }
        }
    }

    fn request(&mut self, fiber: &Fiber, id: u64, what: What, args: Data) -> Wait {
        let seq = self.next_request;
        self.next_request += 1;
        let place = call_place(&self.image, fiber);
        self.requests.push(Request { seq, what, args, place });
        self.waiting.insert(seq, id);
        Wait::Answer { seq }
    }

    /// Calls an activity, or makes a reference to an entity.
    fn invoke(&mut self, fiber: &mut Fiber, id: u64, global: u16, at: usize, count: usize) -> Result<Flow, Fail> {
        let image = self.image.clone();
        let item = &image.code.isolated[global as usize];
        match (item.context, self.context) {
            (None, _) => {
                let key = mem::take(&mut fiber.stack[at]);
                fiber.stack[at] = Value::Entity(Rc::new(EntityRef { name: item.name.as_str().into(), key }));
                Ok(Flow::Go)
            }
            (Some(Context::Activity), Context::Orchestration) => {
                let mut args = fiber.stack[at..at + count].to_vec();
                while matches!(args.last(), Some(Value::Missing)) {
                    args.pop();
                }
                let options = Data::encode_named(&fiber.stack[at + count], "options")?;
                check_options(&fiber.stack[at + count])?;
                let args = Data::encode_named(&Value::list(args), "args")?;
                Ok(Flow::Wait(self.request(fiber, id, What::Activity { name: item.name.clone(), options }, args)))
            }
            (Some(Context::Activity), Context::Activity | Context::Operation) => {
                // The stub's frame becomes the body's.
                push_frame(&image, fiber, item.body, at, count, at, Value::Null)?;
                Ok(Flow::Go)
            }
            (Some(Context::Activity), context) => {
                Err(fail("context", format!("calling an activity is not possible in {}", context.describe())))
            }
            (Some(_), Context::Orchestration) => Err(unsupported("calling an orchestration")),
            (Some(_), context) => {
                Err(fail("context", format!("calling an orchestration is not possible in {}", context.describe())))
            }
        }
    }
}

/// The error of a construct whose runtime is not there yet.
fn unsupported(what: &str) -> Fail {
    fail("unsupported", format!("{what} is checked, but this version can't run it yet"))
}

fn check_options(options: &Value) -> Result<(), Fail> {
    super::natives::options::policy(options).map(|_| ())
}

/// Where the innermost call of a fiber is written; within the standard library or a stub, where that was called from.
fn call_place(image: &Image, fiber: &Fiber) -> Place {
    let frames = fiber.frames.iter().rev().filter(|frame| image.code.functions[frame.function as usize].hidden == 0);
    let places = frames.map(|frame| image.code.place(frame.function, (frame.pc as usize).saturating_sub(1)));
    let mut first = None;
    for place in places.take(10) {
        if !image.code.sources.files[place.source as usize].name.starts_with(crate::check::STD) {
            return place;
        }
        first = first.or(Some(place));
    }
    first.unwrap_or_default()
}

fn too_deep() -> Fail {
    fail("limit", "calls nested too deeply: a function calls itself without end, or needs an accumulator and a tail call")
}

/// Lets go of what registers hold that are not used any more. Small values may stay: they hold nothing.
#[inline(always)]
fn release(slots: &mut [Value]) {
    for slot in slots {
        if slot.is_counted() {
            *slot = Value::Null;
        }
    }
}

/// Moves a value between registers; an int may stay where it was as well.
#[inline(always)]
fn shift(regs: &mut [Value], from: usize, to: usize) {
    match &mut regs[from] {
        Value::Int(n) => {
            let n = *n;
            regs[to].put_int(n);
        }
        other => {
            let value = mem::take(other);
            regs[to] = value;
        }
    }
}

/// The arguments of a call with spread arguments.
fn spread(list: Value) -> Result<Rc<List>, Fail> {
    match list {
        Value::List(list) if list.len() <= 249 => Ok(list),
        Value::List(list) => {
            Err(fail("arity", format!("{} arguments are given; a function takes at most 250", list.len())))
        }
        other => Err(op::not_a_function(&other)),
    }
}

/// Puts arguments into the stack from `start` on.
fn lay_out(fiber: &mut Fiber, start: usize, args: &[Value]) -> Result<(), Fail> {
    let end = start + args.len();
    if end > fiber.stack.len() {
        grow(fiber, end)?;
    }
    fiber.stack[start..end].clone_from_slice(args);
    Ok(())
}

/// Makes room for a window that ends at `end`, or says that calls are too deep.
#[cold]
fn grow(fiber: &mut Fiber, end: usize) -> Result<(), Fail> {
    if fiber.frames.len() >= MAX_DEPTH || end > MAX_STACK {
        return Err(too_deep());
    }
    if end > fiber.stack.len() {
        let len = end.max(fiber.stack.len() * 2).min(MAX_STACK);
        fiber.stack.resize(len, Value::Null);
    }
    Ok(())
}

/// Begins a call: the arguments are in place, from `base` on.
fn push_frame(
    image: &Image,
    fiber: &mut Fiber,
    function: FunctionId,
    base: usize,
    count: usize,
    result: usize,
    env: Value,
) -> Result<(), Fail> {
    let f = &image.code.functions[function as usize];
    let end = base + f.registers as usize;
    if fiber.frames.len() >= MAX_DEPTH || end > fiber.stack.len() {
        grow(fiber, end)?;
    }
    if count < f.params as usize {
        fiber.stack[base + count..base + f.params as usize].fill(Value::Missing);
    }
    if f.has_env {
        fiber.stack[base + f.params as usize] = env;
    }
    fiber.frames.push(Frame { function, pc: 0, base: base as u32, result: result as u32 });
    Ok(())
}

/// Begins a fiber with a call of a function value without arguments.
pub(crate) fn enter(image: &Image, fiber: &mut Fiber, f: &Value) -> Result<(), Fail> {
    match f {
        Value::Function(closure) => push_frame(image, fiber, closure.function, 0, 0, 0, closure.env.clone()),
        other => Err(op::not_a_function(other)),
    }
}

/// Gives a fiber what it waited for.
pub(crate) fn resume(image: &Image, fiber: &mut Fiber, result: Result<Value, Fail>) {
    let value = match result {
        Ok(value) => value,
        Err(failure) => {
            fiber.thrown = Some(failure);
            return;
        }
    };
    let Some(frame) = fiber.frames.last() else { return };
    let at = (frame.pc as usize).saturating_sub(1);
    let base = match image.code.functions[frame.function as usize].ops.get(at) {
        Some(
            Op::Apply { base, .. }
            | Op::Invoke { base, .. }
            | Op::Call { base, .. }
            | Op::TailCall { base, .. }
            | Op::CallMethod { base, .. }
            | Op::CallSpread { base }
            | Op::CallMethodSpread { base, .. },
        ) => *base,
        _ => return,
    };
    let slot = frame.base as usize + base as usize;
    if let Some(slot) = fiber.stack.get_mut(slot) {
        *slot = value;
    }
}

/// Goes back to the nearest handler; the failure itself when there is none.
fn unwind(image: &Image, fiber: &mut Fiber, mut failure: Fail) -> Result<(), Fail> {
    failure.trace = Some(match failure.trace.take() {
        // An error from another instance: this one's calls come after its own.
        Some(trace) if fiber.frames.last().is_some_and(|_| is_foreign(&trace)) => joined(&trace, &trace_of(image, fiber)),
        Some(trace) => trace,
        None => Rc::new(trace_of(image, fiber)),
    });
    let Some(handler) = fiber.handlers.pop() else {
        fiber.frames.clear();
        fiber.stack.clear();
        return Err(failure);
    };
    // The windows of the frames that are left hold nothing any more.
    let window = |frame: &Frame| frame.base as usize + image.code.functions[frame.function as usize].registers as usize;
    let used = fiber.frames[handler.frames as usize..].iter().map(window).max().unwrap_or(0).min(fiber.stack.len());
    fiber.frames.truncate(handler.frames as usize);
    let Some(frame) = fiber.frames.last_mut() else { return Err(failure) };
    frame.pc = handler.pc;
    let base = frame.base as usize;
    let end = base + image.code.functions[frame.function as usize].registers as usize;
    if used > end {
        release(&mut fiber.stack[end..used]);
    }
    fiber.stack[base + handler.error as usize] = failure.value.clone();
    fiber.stack[base + handler.error as usize + 1] = failure.trace.map_or(Value::Null, Value::Trace);
    Ok(())
}

/// A trace that came with an answer has not been joined to this instance's calls yet: its last entry says so.
fn is_foreign(trace: &Trace) -> bool {
    trace.entries.last().is_none_or(|entry| entry.boundary)
}

fn joined(inner: &Trace, outer: &Trace) -> Rc<Trace> {
    let mut entries = inner.entries.clone();
    entries.extend(outer.entries.iter().cloned());
    entries.truncate(50);
    Rc::new(Trace { entries, omitted: inner.omitted + outer.omitted })
}

/// The calls that are under way, innermost first; when there are many, the ends of the chain.
fn trace_of(image: &Image, fiber: &Fiber) -> Trace {
    const INNER: usize = 12;
    const OUTER: usize = 4;
    let count = fiber.frames.len();
    let mut entries = Vec::new();
    for (number, frame) in fiber.frames.iter().rev().enumerate() {
        if number >= INNER && number + OUTER < count {
            continue;
        }
        let f = &image.code.functions[frame.function as usize];
        if f.hidden > 0 {
            continue; // a stub is no call of the program's
        }
        let place = image.code.place(frame.function, (frame.pc as usize).saturating_sub(1));
        entries.push(TraceEntry { function: f.name.clone(), place, boundary: false });
    }
    Trace { entries, omitted: count.saturating_sub(INNER + OUTER) as u64 }
}

/// A failure as data; it crosses a boundary here.
pub(crate) fn error_data(failure: Failure) -> ErrorData {
    let value = Data::encode_named(&failure.value, "the error").or_else(|fail| Data::encode(&fail.value));
    let mut trace = failure.trace.map(|trace| (*trace).clone()).unwrap_or_default();
    if let Some(last) = trace.entries.last_mut() {
        last.boundary = true;
    }
    ErrorData { value: value.unwrap_or_default(), trace }
}
