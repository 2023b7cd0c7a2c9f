//! Executing instructions.

use std::cell::RefCell;
use std::mem;
use std::rc::Rc;

use crate::builtins::{self, Kind};
use crate::code::{FunctionId, MethodTarget, Op};

use super::calls::Flow;
use super::compare::{equal, order};
use super::error::{Fail, Failure, fail};
use super::frames::{furnish, grow, release, unwind};
use super::operate as op;
use super::value::{Closure, Env, List, Name, Record, Shared, Value, intern, memory_used};
use super::{Fiber, Frame, Handler, MAX_DEPTH, MAX_MEMORY, Machine, natives};

/// What became of a fiber that ran.
pub(super) enum Step {
    OutOfFuel,
    /// It waits, or has made way for a task that it began.
    Off,
    Finished(Result<Value, Fail>),
}

impl Machine {
    /// Runs one fiber.
    ///
    /// The current frame lives in locals: its function, its window of registers, its program counter. They are
    /// written back when another frame becomes the current one.
    pub(super) fn step(&mut self, fiber: &mut Fiber, id: u64, fuel: &mut u64) -> Step {
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
                    furnish(fiber, callee, start, count, env);
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
                    furnish(fiber, callee, base, count, env);
                    enter!(callee, base)
                }};
            }
            // Goes the way of a call that left the code; the fiber's place was saved before.
            macro_rules! follow {
                ($flow:expr) => {{
                    match $flow {
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
            // Takes a call of a builtin out of line; it may wait, or change fibers.
            macro_rules! slow_builtin {
                ($builtin:expr, $at:expr, $count:expr, $result:expr) => {{
                    save!();
                    let (at, count, result) = (base + $at as usize, $count as usize, base + $result as usize);
                    follow!(self.builtin(fiber, id, $builtin, at, count, result))
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
                        Value::Function(closure) if matches!(closure.env, Value::Null) => {
                            (closure.function, Value::Null)
                        }
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
                        (Value::Int(x), Value::Int(y)) if let Some(n) = x.checked_add(*y) => {
                            regs[to as usize].put_int(n)
                        }
                        (Value::Float(x), Value::Float(y)) => {
                            let x = x + y;
                            regs[to as usize].put_float(x);
                        }
                        _ => {
                            let in_place = to == a && a != b;
                            let left = if in_place {
                                mem::take(&mut regs[a as usize])
                            } else {
                                regs[a as usize].clone()
                            };
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
                        Value::Int(x) if let Some(n) = x.checked_add(value as i64) => {
                            regs[to as usize].put_int(n)
                        }
                        Value::Float(x) => {
                            let x = x + value as f64;
                            regs[to as usize].put_float(x);
                        }
                        other => {
                            // Errors speak of what was written.
                            let failure = match value < 0 {
                                true => op::subtract(other, &Value::Int(-(value as i64))).err(),
                                false => {
                                    op::add(other.clone(), &Value::Int(value as i64)).err().map(|(_, f)| f)
                                }
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
                        let value =
                            compare!(a, b, >=, std::cmp::Ordering::Greater | std::cmp::Ordering::Equal);
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
                        Value::Missing => {
                            throw!(fail("uninitialised", "a variable is used before it has its value"))
                        }
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
                    Op::TestGreater { want, a, b } => {
                        test!(want, compare!(a, b, >, std::cmp::Ordering::Greater))
                    }
                    Op::TestGreaterEqual { want, a, b } => {
                        test!(
                            want,
                            compare!(a, b, >=, std::cmp::Ordering::Greater | std::cmp::Ordering::Equal)
                        )
                    }
                    Op::TestEqualInt { want, a, value } => {
                        let outcome = match &regs[a as usize] {
                            Value::Int(x) => *x == value as i64,
                            Value::Float(x) => *x == value as f64,
                            _ => false,
                        };
                        test!(want, outcome)
                    }
                    Op::TestLessInt { want, a, value } => {
                        test!(want, compare_int!(a, value, <, std::cmp::Ordering::Less))
                    }
                    Op::TestLessEqualInt { want, a, value } => {
                        test!(
                            want,
                            compare_int!(a, value, <=, std::cmp::Ordering::Less | std::cmp::Ordering::Equal)
                        )
                    }
                    Op::TestGreaterInt { want, a, value } => {
                        test!(want, compare_int!(a, value, >, std::cmp::Ordering::Greater))
                    }
                    Op::TestGreaterEqualInt { want, a, value } => {
                        test!(
                            want,
                            compare_int!(a, value, >=, std::cmp::Ordering::Greater | std::cmp::Ordering::Equal)
                        )
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
                        test!(
                            true,
                            matches!(&regs[a as usize], Value::List(list) if list.len() == length as usize)
                        )
                    }
                    Op::TestAtLeast { a, length } => {
                        test!(
                            true,
                            matches!(&regs[a as usize], Value::List(list) if list.len() >= length as usize)
                        )
                    }
                    Op::NewList { to, base: from, count } => {
                        let items = regs[from as usize..from as usize + count as usize]
                            .iter_mut()
                            .map(mem::take)
                            .collect();
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
                                throw!(failure.map_or_else(
                                    || fail("internal", "a list was expected"),
                                    |(_, failure)| failure
                                ));
                            }
                        }
                    }
                    Op::Extend { list, values } => {
                        let values = check!(op::elements(&regs[values as usize]));
                        if let (Value::List(list), Value::List(values)) = (&mut regs[list as usize], &values)
                        {
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
                            other => throw!(fail(
                                "type_error",
                                format!("a record's keys are strings, not {}", other.a_kind())
                            )),
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
                            other => throw!(fail(
                                "type_error",
                                format!("`..` in a record takes a record, not {}", other.a_kind())
                            )),
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
                        let value =
                            check!(op::optional_field(&regs[a as usize], &image.names[name as usize]));
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
                            Value::List(list) => list
                                .len()
                                .checked_sub(index as usize)
                                .and_then(|at| list.as_slice().get(at).cloned()),
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
                            Value::Record(record) => Value::Record(Rc::new(
                                record.without(|name| names.iter().any(|n| &**n == name)),
                            )),
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
                        let count =
                            path.iter().filter(|step| matches!(step, crate::code::PathStep::Index)).count();
                        let mut root = mem::take(&mut regs[a as usize]);
                        let value = mem::take(&mut regs[from as usize + count]);
                        let args = &regs[from as usize..from as usize + count];
                        let result = op::set_path(&mut root, path, &image.names, args, value);
                        regs[a as usize] = root;
                        check!(result);
                    }
                    Op::SetCellPath { cell, base: from, path } => {
                        let path = &image.code.paths[path as usize];
                        let count =
                            path.iter().filter(|step| matches!(step, crate::code::PathStep::Index)).count();
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
                        let value =
                            check!(op::range(&regs[from as usize], &regs[from as usize + 1], 1, inclusive));
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
                            (Value::List(list), Value::Int(at)) => {
                                list.as_slice().get(*at as usize).map(|value| (value, *at))
                            }
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
                        let values = regs[from as usize..from as usize + count as usize]
                            .iter_mut()
                            .map(mem::take)
                            .collect();
                        regs[to as usize] = Value::Env(Rc::new(Env { values }));
                    }
                    Op::Closure { to, env, function } => {
                        let env = regs[env as usize].clone();
                        regs[to as usize] =
                            Value::Function(Rc::new(Closure { function: function as FunctionId, env }));
                    }
                    Op::CallFunction { count, base: at, function: callee } => {
                        call!(callee, at, count, Value::Null, at)
                    }
                    Op::TailFunction { count, base: at, function: callee } => {
                        tail_call!(callee, at, count, Value::Null)
                    }
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
                    Op::Call { count, base: at, f } => {
                        call_value!(&regs[f as usize], at, count as usize, at, false)
                    }
                    Op::TailCall { count, base: at, f } => {
                        call_value!(&regs[f as usize], at, count as usize, at, true)
                    }
                    Op::CallMethod { count, base: at, name } => {
                        if let Value::Entity(_) = &regs[at as usize] {
                            let (entity, at) = (regs[at as usize].clone(), base + at as usize + 1);
                            save!();
                            let args = fiber.stack[at..at + count as usize].to_vec();
                            let operation = image.names[name as usize].clone();
                            follow!(self.entity_call(fiber, id, &entity, &operation, &args))
                        }
                        if let Some(f) = own_function(&regs[at as usize], &image.names[name as usize]) {
                            call_value!(&f, at + 1, count as usize, at, false)
                        }
                        match self.method(&regs[at as usize], name) {
                            Ok(MethodTarget::Function(target)) => {
                                let callee = &functions[target as usize];
                                let (min, max) = (callee.required as usize, callee.params as usize);
                                let given = count as usize + 1;
                                if given < min || given > max {
                                    throw!(op::arity(
                                        &callee.name,
                                        min.saturating_sub(1),
                                        max.saturating_sub(1),
                                        given - 1
                                    ));
                                }
                                call!(target, at, given, Value::Null, at)
                            }
                            Ok(MethodTarget::Builtin(builtin)) => {
                                builtin_call!(builtin, at, count as usize + 1, at)
                            }
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
                        if let Value::Entity(_) = &regs[at as usize] {
                            let entity = regs[at as usize].clone();
                            save!();
                            let operation = image.names[name as usize].clone();
                            follow!(self.entity_call(fiber, id, &entity, &operation, list.as_slice()))
                        }
                        let own = own_function(&regs[at as usize], &image.names[name as usize]);
                        // A record's own function doesn't get the record.
                        let is_own = own.is_some();
                        let f = match own {
                            Some(f) => f,
                            None => match check!(self.method(&regs[at as usize], name)) {
                                MethodTarget::Builtin(builtin) => Value::Builtin(builtin),
                                MethodTarget::Function(function) => {
                                    Value::Function(Rc::new(Closure { function, env: Value::Null }))
                                }
                            },
                        };
                        save!();
                        if let Err(failure) = lay_out(fiber, base + at as usize + 1, list.as_slice()) {
                            thrown = Some(failure);
                            continue 'frame;
                        }
                        regs = &mut fiber.stack[base..base + function.registers as usize];
                        match is_own {
                            true => call_value!(&f, at + 1, list.len(), at, false),
                            false => call_value!(&f, at, list.len() + 1, at, false),
                        }
                    }
                    Op::Apply { count, base: at, builtin } => builtin_call!(builtin, at, count, at),
                    Op::Invoke { count, base: at, global } => {
                        save!();
                        follow!(self.invoke(fiber, id, global, base + at as usize, count as usize))
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

/// The function that a record has under a name. Data has no functions, so a record of data, whatever its keys, has
/// the library's methods.
#[inline(always)]
fn own_function(value: &Value, name: &Name) -> Option<Value> {
    match value {
        Value::Record(record) => {
            record.get(name).filter(|field| matches!(field, Value::Function(_) | Value::Builtin(_))).cloned()
        }
        _ => None,
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
