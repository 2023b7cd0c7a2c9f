//! The run loop, which executes instructions.

use std::mem;
use std::rc::Rc;

use crate::code::{Function, FunctionId, MethodTarget, Op};

use super::calls::Flow;
use super::compare::{equal, holds};
use super::error::{Fail, fail};
use super::frames::{fill_missing, grow, release, unwind};
use super::operate as op;
use super::value::{List, Name, Record, Value, memory_used};
use super::{
    Fiber, Frame, Handler, Image, MAX_DEPTH, MAX_MEMORY, Machine, coverage, natives, parts, plain, work,
};

/// The variants of the run loop: one that only runs, one that records coverage, and one that pauses
/// for the debugger.
pub(super) const PLAIN: u8 = 0;
pub(super) const NOTING: u8 = 1;
pub(super) const PAUSING: u8 = 2;

/// The reason why a fiber stopped.
pub(super) enum Step {
    OutOfFuel,
    /// The fiber waits, or a task that it began runs first.
    Off,
    Finished(Result<Value, Fail>),
}

/// The kind of a call.
#[derive(Clone, Copy, PartialEq)]
enum Call {
    /// A function of the code, in a frame of its own.
    Function,
    /// A function of the code, in place of the current frame.
    Tail,
    Builtin,
}

impl Machine {
    /// Runs one fiber.
    ///
    /// The current frame lives in locals: its function, its window of registers and its program
    /// counter. They are written back when another frame becomes the current one. `VARIANT` is
    /// that of the run loop.
    pub(super) fn step<const VARIANT: u8>(&mut self, fiber: &mut Fiber, id: u64, left: &mut u64) -> Step {
        let image = self.image.clone();
        if let Some(cause) = fiber.cancelled.take() {
            fiber.thrown = Some(cause.error(&image));
        }
        let image: &Image = &image;
        let functions = &image.code.functions[..];
        let natives = natives::table();
        let mut thrown: Option<Fail> = fiber.thrown.take();
        'frame: loop {
            if let Some(failure) = thrown.take() {
                if VARIANT == PAUSING && self.pauses_at_error(fiber, id, &failure) {
                    fiber.thrown = Some(failure);
                    return Step::OutOfFuel;
                }
                let from = self.provenance.thrown(&failure);
                if let Err(failure) = unwind(image, fiber, failure) {
                    return Step::Finished(Err(failure));
                }
                if VARIANT == PAUSING {
                    self.left_call(id, fiber.frames.len());
                }
                if let Some(from) = from {
                    self.provenance.caught(from);
                }
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
            // Takes one unit of fuel, and checks the memory limit from time to time.
            macro_rules! burn {
                () => {
                    *left = left.saturating_sub(1);
                    if *left & 0x3ff == 0 && memory_used() > MAX_MEMORY {
                        throw!(fail("limit", "out of memory: this program's values take more than 1 GiB"));
                    }
                };
            }
            macro_rules! jump {
                ($by:expr) => {
                    pc = (pc as i64 + $by as i64) as usize
                };
            }
            // Counts long work as fuel.
            macro_rules! account {
                () => {
                    let worked = work::take();
                    if worked > 0 {
                        // The work can exceed the fuel that is left.
                        self.spent += worked.saturating_sub(*left);
                        *left = left.saturating_sub(worked);
                    }
                };
            }
            // Jumps back in a loop.
            macro_rules! repeat {
                ($by:expr) => {{
                    burn!();
                    jump!($by);
                    if *left == 0 {
                        save!();
                        return Step::OutOfFuel;
                    }
                    continue;
                }};
            }
            // Continues after a call that left the code. The fiber's place was saved before.
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
            // Calls the function in a register with the arguments in a list, in place of the
            // current frame.
            macro_rules! replace {
                ($at:expr, $target:expr, $list:expr) => {{
                    burn!();
                    let env = environment(&regs[$at as usize]);
                    release(regs);
                    if let Err(failure) = replace_frame(fiber, functions, $target, $list.as_slice(), env) {
                        thrown = Some(failure);
                        continue 'frame;
                    }
                    if *left == 0 {
                        return Step::OutOfFuel;
                    }
                    continue 'frame;
                }};
            }
            macro_rules! test {
                ($want:expr, $outcome:expr) => {{
                    if $outcome == $want {
                        pc += 1;
                    } else if let Op::Jump { by } = ops[pc] {
                        jump!(by + 1);
                    }
                    continue;
                }};
            }
            macro_rules! test_order {
                ($want:expr, $a:expr, $b:expr, $cmp:tt, $order:ident) => {{
                    let outcome = match (&regs[$a as usize], &regs[$b as usize]) {
                        (Value::Int(x), Value::Int(y)) => x $cmp y,
                        (Value::Float(x), Value::Float(y)) => x.get() $cmp y.get(),
                        (a, b) => check!(holds(a, b, |order| order.$order())),
                    };
                    test!($want, outcome)
                }};
            }
            macro_rules! test_int {
                ($want:expr, $a:expr, $value:expr, $cmp:tt, $order:ident) => {{
                    let outcome = match &regs[$a as usize] {
                        Value::Int(x) => *x $cmp $value as i64,
                        a => check!(holds(a, &Value::Int($value as i64), |order| order.$order())),
                    };
                    test!($want, outcome)
                }};
            }
            macro_rules! arithmetic {
                ($to:expr, $a:expr, $b:expr, $int:ident, $float:tt, $slow:path) => {{
                    match (&regs[$a as usize], &regs[$b as usize]) {
                        (Value::Int(x), Value::Int(y)) if let Some(n) = x.$int(*y) => regs[$to as usize].put(Value::Int(n)),
                        (Value::Float(x), Value::Float(y)) => {
                            let x = x.get() $float y.get();
                            regs[$to as usize].put(Value::float(x));
                        }
                        _ => check!($slow(regs, $to, $a, $b)),
                    }
                    continue;
                }};
            }
            loop {
                let op = ops[pc];
                if VARIANT == NOTING {
                    coverage::note(functions, function, pc);
                }
                pc += 1;
                if VARIANT == PAUSING
                    && let Op::Mark { statement, .. } = op
                {
                    if self.pauses_at_statement(id, fiber.frames.len(), statement) {
                        save!();
                        return Step::OutOfFuel;
                    }
                    continue;
                }
                // Calling instructions result in their target and operands; all others end with
                // `continue`.
                let (call, target, at, count, result, env) = match op {
                    Op::Move { to, from } => {
                        let value = regs[from as usize].clone();
                        regs[to as usize].put(value);
                        continue;
                    }
                    Op::Take { to, from } => {
                        shift(regs, from as usize, to as usize);
                        continue;
                    }
                    Op::Constant { to, index } => {
                        regs[to as usize].put(image.constants[index as usize].clone());
                        continue;
                    }
                    Op::Int { to, value } => {
                        regs[to as usize].put(Value::Int(value as i64));
                        continue;
                    }
                    Op::Null { to } => {
                        regs[to as usize].put(Value::Null);
                        continue;
                    }
                    Op::Bool { to, value } => {
                        regs[to as usize].put(Value::bool(value));
                        continue;
                    }
                    Op::Add { to, a, b } => arithmetic!(to, a, b, checked_add, +, plain::add),
                    Op::Subtract { to, a, b } => arithmetic!(to, a, b, checked_sub, -, plain::subtract),
                    Op::Multiply { to, a, b } => arithmetic!(to, a, b, checked_mul, *, plain::multiply),
                    Op::Divide { to, a, b } => {
                        match (&regs[a as usize], &regs[b as usize]) {
                            (Value::Float(x), Value::Float(y)) if y.get() != 0.0 => {
                                let x = x.get() / y.get();
                                regs[to as usize].put(Value::float(x));
                            }
                            (Value::Float(x), Value::Int(y)) if *y != 0 => {
                                let x = x.get() / *y as f64;
                                regs[to as usize].put(Value::float(x));
                            }
                            (Value::Int(x), Value::Int(y)) if *y != 0 => {
                                let x = *x as f64 / *y as f64;
                                regs[to as usize].put(Value::float(x));
                            }
                            _ => check!(plain::divide(regs, to, a, b)),
                        }
                        continue;
                    }
                    Op::Remainder { to, a, b } => {
                        match (&regs[a as usize], &regs[b as usize]) {
                            (Value::Int(x), Value::Int(y)) if *x >= 0 && *y > 0 => {
                                // A division of half the width takes half the time.
                                let n = match ((x | y) as u64) >> 32 {
                                    0 => (*x as u32 % *y as u32) as i64,
                                    _ => x % y,
                                };
                                regs[to as usize].put(Value::Int(n));
                            }
                            _ => check!(plain::remainder(regs, to, a, b)),
                        }
                        continue;
                    }
                    Op::Quotient { to, a, b } => {
                        match (&regs[a as usize], &regs[b as usize]) {
                            (Value::Int(x), Value::Int(y)) if *x >= 0 && *y > 0 => {
                                // A division of half the width takes half the time.
                                let n = match ((x | y) as u64) >> 32 {
                                    0 => (*x as u32 / *y as u32) as i64,
                                    _ => x / y,
                                };
                                regs[to as usize].put(Value::Int(n));
                            }
                            _ => check!(plain::quotient(regs, to, a, b)),
                        }
                        continue;
                    }
                    Op::AddInt { to, a, value } => {
                        match &regs[a as usize] {
                            Value::Int(x) if let Some(n) = x.checked_add(value as i64) => {
                                regs[to as usize].put(Value::Int(n))
                            }
                            Value::Float(x) => {
                                let x = x.get() + value as f64;
                                regs[to as usize].put(Value::float(x));
                            }
                            other => throw!(plain::add_int_failed(other, value)),
                        }
                        continue;
                    }
                    Op::MultiplyInt { to, a, value } => {
                        match &regs[a as usize] {
                            Value::Int(x) if let Some(n) = x.checked_mul(value as i64) => {
                                regs[to as usize].put(Value::Int(n));
                            }
                            _ => check!(plain::with_int(op::multiply, regs, to, a, value)),
                        }
                        continue;
                    }
                    Op::RemainderInt { to, a, value } => {
                        match &regs[a as usize] {
                            Value::Int(x) if *x >= 0 && value > 0 => {
                                // A division of half the width takes half the time.
                                let n = match (*x as u64) >> 32 {
                                    0 => (*x as u32 % value as u32) as i64,
                                    _ => x % value as i64,
                                };
                                regs[to as usize].put(Value::Int(n));
                            }
                            _ => check!(plain::with_int(op::remainder, regs, to, a, value)),
                        }
                        continue;
                    }
                    Op::Compare { how, to, a, b } => {
                        let outcome = match (&regs[a as usize], &regs[b as usize]) {
                            (Value::Int(x), Value::Int(y)) => plain::compare_ints(how, *x, *y),
                            (a, b) => check!(plain::compare(how, a, b)),
                        };
                        regs[to as usize].put(Value::bool(outcome));
                        continue;
                    }
                    Op::CompareInt { how, to, a, value } => {
                        let outcome = match &regs[a as usize] {
                            Value::Int(x) => plain::compare_ints(how, *x, value as i64),
                            a => check!(plain::compare(how, a, &Value::Int(value as i64))),
                        };
                        regs[to as usize].put(Value::bool(outcome));
                        continue;
                    }
                    Op::Jump { by } => {
                        jump!(by);
                        continue;
                    }
                    Op::Repeat { by } => repeat!(by),
                    Op::TestTrue { want, a } => match &regs[a as usize] {
                        Value::Bool(b) => test!(want, b.get()),
                        other => throw!(op::not_bool(other)),
                    },
                    Op::TestNull { want, a } => test!(want, matches!(&regs[a as usize], Value::Null)),
                    Op::TestMissing { want, a } => test!(want, matches!(&regs[a as usize], Value::Missing)),
                    Op::TestEqual { want, a, b } => {
                        let outcome = match (&regs[a as usize], &regs[b as usize]) {
                            (Value::Int(x), Value::Int(y)) => x == y,
                            (a, b) => {
                                let outcome = check!(equal(a, b));
                                account!();
                                outcome
                            }
                        };
                        test!(want, outcome)
                    }
                    Op::TestLess { want, a, b } => test_order!(want, a, b, <, is_lt),
                    Op::TestLessEqual { want, a, b } => test_order!(want, a, b, <=, is_le),
                    Op::TestGreater { want, a, b } => test_order!(want, a, b, >, is_gt),
                    Op::TestGreaterEqual { want, a, b } => test_order!(want, a, b, >=, is_ge),
                    Op::TestEqualInt { want, a, value } => {
                        let outcome = match &regs[a as usize] {
                            Value::Int(x) => *x == value as i64,
                            Value::Float(x) => x.get() == value as f64,
                            _ => false,
                        };
                        test!(want, outcome)
                    }
                    Op::TestLessInt { want, a, value } => test_int!(want, a, value, <, is_lt),
                    Op::TestLessEqualInt { want, a, value } => test_int!(want, a, value, <=, is_le),
                    Op::TestGreaterInt { want, a, value } => test_int!(want, a, value, >, is_gt),
                    Op::TestGreaterEqualInt { want, a, value } => test_int!(want, a, value, >=, is_ge),
                    Op::TestConstant { a, index } => {
                        let outcome = match &regs[a as usize] {
                            Value::Function(_) | Value::Builtin(_) => false,
                            Value::Str(text) if let Value::Str(known) = &image.constants[index as usize] => {
                                Rc::ptr_eq(text, known) || text.as_str() == known.as_str()
                            }
                            a => check!(equal(a, &image.constants[index as usize])),
                        };
                        test!(true, outcome)
                    }
                    Op::TestList { a } => test!(true, matches!(&regs[a as usize], Value::List(_))),
                    Op::TestRecord { a } => test!(true, matches!(&regs[a as usize], Value::Record(_))),
                    Op::TestKind { .. } | Op::TestRange { .. } | Op::TestPrefix { .. } => {
                        test!(true, plain::passes(image, regs, op))
                    }
                    Op::TestLength { a, length } => {
                        let is =
                            matches!(&regs[a as usize], Value::List(list) if list.len() == length as usize);
                        test!(true, is)
                    }
                    Op::TestAtLeast { a, length } => {
                        let is =
                            matches!(&regs[a as usize], Value::List(list) if list.len() >= length as usize);
                        test!(true, is)
                    }
                    Op::TestField { to, a, name } => test!(true, parts::read_field(image, regs, to, a, name)),
                    Op::Append { list, value } => {
                        let value = mem::take(&mut regs[value as usize]);
                        match &mut regs[list as usize] {
                            Value::List(list) => check!(op::push(list, value)),
                            other => throw!(plain::append_failed(other, value)),
                        }
                        continue;
                    }
                    Op::NewRecord { to, base: from, shape } => {
                        plain::new_record(image, regs, to, from, shape);
                        continue;
                    }
                    Op::Field { to, a, name } => {
                        let found = match &regs[a as usize] {
                            Value::Record(record) => {
                                record.look_up(&image.names[name as usize], &image.guesses[name as usize])
                            }
                            _ => None,
                        };
                        match found {
                            Some(value) => {
                                let value = value.clone();
                                regs[to as usize].put(value);
                            }
                            None => throw!(op::no_field(&regs[a as usize], &image.names[name as usize])),
                        }
                        continue;
                    }
                    Op::Index { to, a, index } => {
                        let found = match (&regs[a as usize], &regs[index as usize]) {
                            (Value::List(list), index) => list.as_slice().get(index.as_index()),
                            _ => None,
                        };
                        match found {
                            Some(value) => {
                                let value = value.clone();
                                regs[to as usize].put(value);
                            }
                            None => {
                                let value = check!(op::index(&regs[a as usize], &regs[index as usize]));
                                regs[to as usize].put(value);
                            }
                        }
                        continue;
                    }
                    Op::FieldOfElement { to, a, index, name } => {
                        let found = match (&regs[a as usize], &regs[index as usize]) {
                            (Value::List(list), index) => list.as_slice().get(index.as_index()),
                            _ => None,
                        };
                        let found = match found {
                            Some(Value::Record(record)) => {
                                record.look_up(&image.names[name as usize], &image.guesses[name as usize])
                            }
                            _ => None,
                        };
                        let value = match found {
                            Some(value) => value.clone(),
                            None => check!(parts::field_of_element(image, regs, a, index, name)),
                        };
                        regs[to as usize].put(value);
                        continue;
                    }
                    Op::ElementOfElement { to, a, index, second } => {
                        check!(parts::element_of_element(regs, to, a, index, second));
                        continue;
                    }
                    Op::SetElementOfElement { a, index, second, value } => {
                        check!(parts::set_element_of_element(regs, a, index, second, value));
                        continue;
                    }
                    Op::SetElement { a, index, value } => {
                        let value = mem::take(&mut regs[value as usize]);
                        let at = regs[index as usize].as_index();
                        let slot = match &mut regs[a as usize] {
                            Value::List(list) => List::own(list, at),
                            _ => None,
                        };
                        match slot {
                            Some(slot) => slot.put(value),
                            None => check!(parts::set_element(regs, a, index, value)),
                        }
                        continue;
                    }
                    Op::SetField { a, value, name } => {
                        let value = mem::take(&mut regs[value as usize]);
                        let (known, guess) = (&image.names[name as usize], &image.guesses[name as usize]);
                        let slot = match &mut regs[a as usize] {
                            Value::Record(record) => Record::own(record, known, guess),
                            _ => None,
                        };
                        match slot {
                            Some(slot) => slot.put(value),
                            None => check!(parts::set_field(image, regs, a, name, value)),
                        }
                        continue;
                    }
                    Op::SetFieldOfElement { a, index, value, name } => {
                        let value = mem::take(&mut regs[value as usize]);
                        let (known, guess) = (&image.names[name as usize], &image.guesses[name as usize]);
                        let at = regs[index as usize].as_index();
                        let element = match &mut regs[a as usize] {
                            Value::List(list) => List::own(list, at),
                            _ => None,
                        };
                        let slot = match element {
                            Some(Value::Record(record)) => Record::own(record, known, guess),
                            _ => None,
                        };
                        match slot {
                            Some(slot) => slot.put(value),
                            None => check!(parts::set_field_of_element(image, regs, a, index, name, value)),
                        }
                        continue;
                    }
                    Op::SetPath { a, base: from, path } => {
                        check!(parts::change_path(image, regs, a, from, path, op::set_path));
                        continue;
                    }
                    Op::RangeNext { base: from, by } => {
                        // The next int, the end, and the loop's variable.
                        let Some([next, end, item]) = regs.get_mut(from as usize..from as usize + 3) else {
                            continue;
                        };
                        match (&mut *next, &*end) {
                            (Value::Int(now), Value::Int(end)) => {
                                if *now >= *end {
                                    continue;
                                }
                                item.put(Value::Int(*now));
                                // The int is less than the end, so adding 1 can't overflow.
                                *now = now.wrapping_add(1);
                            }
                            _ => {
                                if !plain::range_next(next, end, item) {
                                    continue;
                                }
                            }
                        }
                        repeat!(by);
                    }
                    Op::EachNext { base: from, by } => {
                        // The list, the index of the next element, and the element.
                        let Some([list, index, item]) = regs.get_mut(from as usize..from as usize + 3) else {
                            continue;
                        };
                        let next = match (&*list, &mut *index) {
                            (Value::List(list), Value::Int(at)) => {
                                let next = list.as_slice().get(*at as usize);
                                *at = at.wrapping_add(1);
                                next
                            }
                            _ => None,
                        };
                        match next {
                            Some(value) => item.put(value.clone()),
                            None => {
                                list.put(Value::Null);
                                continue;
                            }
                        }
                        repeat!(by);
                    }
                    Op::GetCell { to, cell } => {
                        let value = match &regs[cell as usize] {
                            Value::Cell(cell) => cell.value.borrow().clone(),
                            _ => Value::Null,
                        };
                        regs[to as usize].put(value);
                        continue;
                    }
                    Op::Capture { to, index } => {
                        let value = match &regs[function.params as usize] {
                            Value::Env(env) => env.values.get(index as usize),
                            _ => None,
                        };
                        let value = value.cloned().unwrap_or(Value::Missing);
                        regs[to as usize].put(value);
                        continue;
                    }
                    Op::WantBool { by } => {
                        want_bool(&mut fiber.frames, by);
                        continue;
                    }
                    Op::Return { from } => {
                        let (Some(frame), Some(caller)) = (fiber.frames.pop(), fiber.frames.last()) else {
                            let value = mem::take(&mut regs[from as usize]);
                            release(regs);
                            return Step::Finished(Ok(value));
                        };
                        // An int is copied as one word.
                        if let Value::Int(n) = regs[from as usize] {
                            release(regs);
                            fiber.stack[frame.result as usize].put(Value::Int(n));
                        } else {
                            let value = mem::take(&mut regs[from as usize]);
                            release(regs);
                            fiber.stack[frame.result as usize].put(value);
                        }
                        function = &functions[caller.function as usize];
                        ops = &function.ops[..];
                        base = caller.base as usize;
                        pc = caller.pc as usize;
                        if VARIANT == PAUSING {
                            self.left_call(id, fiber.frames.len());
                        }
                        regs = &mut fiber.stack[base..base + function.registers as usize];
                        continue;
                    }
                    Op::Try { error, by } => {
                        let frames = fiber.frames.len() as u32;
                        let target = (pc as i64 + by as i64) as u32;
                        fiber.handlers.push(Handler { frames, pc: target, error });
                        continue;
                    }
                    Op::EndTry => {
                        fiber.handlers.pop();
                        continue;
                    }
                    Op::Throw { from } => {
                        let value = regs[from as usize].clone();
                        throw!(self.provenance.failure(value));
                    }
                    Op::Rethrow { error } => throw!(plain::rethrown(regs, error)),
                    Op::Invoke { count, base: at, global } => {
                        save!();
                        follow!(self.invoke(fiber, id, global, base + at as usize, count as usize))
                    }
                    Op::CallFunction { count, base: at, function } => {
                        (Call::Function, function, at as usize, count as usize, at, 0)
                    }
                    Op::TailFunction { count, base: at, function } => {
                        (Call::Tail, function, at as usize, count as usize, at, 0)
                    }
                    Op::CallSibling { count, base: at, function: sibling } => {
                        check!(op::fits(&functions[sibling as usize], count as usize));
                        let env = function.params as usize;
                        (Call::Function, sibling as FunctionId, at as usize, count as usize, at, env)
                    }
                    Op::TailSibling { count, base: at, function: sibling } => {
                        check!(op::fits(&functions[sibling as usize], count as usize));
                        let env = function.params as usize;
                        (Call::Tail, sibling as FunctionId, at as usize, count as usize, at, env)
                    }
                    Op::Apply { count, base: at, builtin } => {
                        (Call::Builtin, builtin as FunctionId, at as usize, count as usize, at, 0)
                    }
                    Op::Call { count, base: at, f } => {
                        let (call, target) =
                            check!(callee(functions, &regs[f as usize], count as usize, false));
                        (call, target, at as usize, count as usize, at, f as usize)
                    }
                    Op::TailCall { count, base: at, f } => {
                        let (call, target) =
                            check!(callee(functions, &regs[f as usize], count as usize, true));
                        (call, target, at as usize, count as usize, at, f as usize)
                    }
                    Op::CallMethod { count, base: at, name } | Op::TailMethod { count, base: at, name } => {
                        let receiver = &regs[at as usize];
                        if let Value::Record(record) = receiver
                            && let Some(f) = own_function(record, &image.names[name as usize])
                        {
                            // A function in a field of the record doesn't get the record.
                            let tail = matches!(op, Op::TailMethod { .. });
                            let (call, target) = check!(callee(functions, &f, count as usize, tail));
                            regs[at as usize].put(f);
                            (call, target, at as usize + 1, count as usize, at, at as usize)
                        } else if let Some(method) = image.method_of(receiver, name) {
                            match method {
                                MethodTarget::Function(target) => {
                                    check!(op::fits_method(&functions[target as usize], count as usize));
                                    (Call::Function, target, at as usize, count as usize + 1, at, 0)
                                }
                                MethodTarget::Builtin(builtin) => (
                                    Call::Builtin,
                                    builtin as FunctionId,
                                    at as usize,
                                    count as usize + 1,
                                    at,
                                    0,
                                ),
                            }
                        } else if let Value::Entity(_) = receiver {
                            let (entity, at) = (receiver.clone(), base + at as usize + 1);
                            save!();
                            let args = fiber.stack[at..at + count as usize].to_vec();
                            let operation = image.names[name as usize].clone();
                            follow!(self.entity_call(fiber, id, &entity, &operation, &args))
                        } else {
                            throw!(image.no_method(receiver, name))
                        }
                    }
                    Op::CallSpread { base: at } | Op::TailSpread { base: at } => {
                        // The function stays in place, and the arguments go after it.
                        let list = check!(spread(mem::take(&mut regs[at as usize + 1])));
                        let tail = matches!(op, Op::TailSpread { .. });
                        let (call, target) = check!(callee(functions, &regs[at as usize], list.len(), tail));
                        save!();
                        if call == Call::Tail {
                            replace!(at, target, list);
                        }
                        if let Err(failure) = lay_out(fiber, base + at as usize + 1, list.as_slice()) {
                            thrown = Some(failure);
                            continue 'frame;
                        }
                        regs = &mut fiber.stack[base..base + function.registers as usize];
                        (call, target, at as usize + 1, list.len(), at, at as usize)
                    }
                    Op::CallMethodSpread { base: at, name } | Op::TailMethodSpread { base: at, name } => {
                        let list = check!(spread(mem::take(&mut regs[at as usize + 1])));
                        let receiver = &regs[at as usize];
                        if let Value::Entity(_) = receiver {
                            let entity = receiver.clone();
                            save!();
                            let operation = image.names[name as usize].clone();
                            follow!(self.entity_call(fiber, id, &entity, &operation, list.as_slice()))
                        }
                        let own = match receiver {
                            Value::Record(record) => own_function(record, &image.names[name as usize]),
                            _ => None,
                        };
                        let found = match (own, image.method_of(receiver, name)) {
                            (Some(f), _) => {
                                let tail = matches!(op, Op::TailMethodSpread { .. });
                                let found = check!(callee(functions, &f, list.len(), tail));
                                regs[at as usize].put(f);
                                if found.0 == Call::Tail {
                                    save!();
                                    replace!(at, found.1, list);
                                }
                                (found.0, found.1, at as usize + 1, list.len(), at, at as usize)
                            }
                            (None, Some(MethodTarget::Function(target))) => {
                                check!(op::fits_method(&functions[target as usize], list.len()));
                                (Call::Function, target, at as usize, list.len() + 1, at, 0)
                            }
                            (None, Some(MethodTarget::Builtin(builtin))) => {
                                (Call::Builtin, builtin as FunctionId, at as usize, list.len() + 1, at, 0)
                            }
                            (None, None) => throw!(image.no_method(receiver, name)),
                        };
                        save!();
                        if let Err(failure) = lay_out(fiber, base + at as usize + 1, list.as_slice()) {
                            thrown = Some(failure);
                            continue 'frame;
                        }
                        regs = &mut fiber.stack[base..base + function.registers as usize];
                        found
                    }
                    _ => {
                        check!(plain::execute(image, regs, op));
                        account!();
                        continue;
                    }
                };

                match call {
                    Call::Builtin => {
                        if let Some(args) = regs.get_mut(at..at + count)
                            && let Some(native) = natives[target as usize].taking(count)
                        {
                            let value = check!(native(args));
                            account!();
                            // The values of the arguments must not live longer than the call.
                            release(args);
                            regs[result as usize].put(value);
                            continue;
                        }
                        // The builtin may wait, or switch fibers.
                        save!();
                        let result = base + result as usize;
                        follow!(self.builtin(fiber, id, target as u16, base + at, count, result))
                    }
                    Call::Function => {
                        let callee = &functions[target as usize];
                        burn!();
                        save!();
                        let start = base + at;
                        let end = start + callee.registers as usize;
                        if (end > fiber.stack.len() || fiber.frames.len() >= MAX_DEPTH)
                            && let Err(failure) = grow(fiber, end)
                        {
                            thrown = Some(failure);
                            continue 'frame;
                        }
                        let result = base as u32 + result as u32;
                        fiber.frames.push(Frame { function: target, pc: 0, base: start as u32, result });
                        if callee.has_env {
                            let env = environment(&fiber.stack[base + env]);
                            fiber.stack[start + callee.params as usize].put(env);
                        }
                        base = start;
                        function = callee;
                    }
                    Call::Tail => {
                        let callee = &functions[target as usize];
                        burn!();
                        if VARIANT == PAUSING {
                            self.left_call(id, fiber.frames.len() - 1);
                        }
                        let env = if callee.has_env { environment(&regs[env]) } else { Value::Null };
                        for to in 0..count {
                            shift(regs, at + to, to);
                        }
                        release(&mut regs[count..]);
                        if let Some(frame) = fiber.frames.last_mut() {
                            frame.function = target;
                            frame.pc = 0;
                        }
                        let end = base + callee.registers as usize;
                        if end > fiber.stack.len()
                            && let Err(failure) = grow(fiber, end)
                        {
                            thrown = Some(failure);
                            continue 'frame;
                        }
                        if callee.has_env {
                            fiber.stack[base + callee.params as usize].put(env);
                        } else {
                            mem::forget(env);
                        }
                        function = callee;
                    }
                }
                // The run continues at the beginning of the top frame.
                ops = &function.ops[..];
                pc = 0;
                regs = &mut fiber.stack[base..base + function.registers as usize];
                if count < function.params as usize {
                    fill_missing(regs, function, count);
                }
                if *left == 0 {
                    return Step::OutOfFuel;
                }
            }
        }
    }
}

/// Returns the target of a call of a value with `count` arguments.
#[inline(always)]
fn callee(functions: &[Function], f: &Value, count: usize, tail: bool) -> Result<(Call, FunctionId), Fail> {
    match f {
        Value::Function(closure) => {
            let callee = &functions[closure.function as usize];
            if count < callee.required as usize || count > (callee.params - callee.hidden) as usize {
                return Err(op::wrong_count(callee, count));
            }
            Ok((if tail { Call::Tail } else { Call::Function }, closure.function))
        }
        Value::Builtin(builtin) => Ok((Call::Builtin, *builtin as FunctionId)),
        other => Err(op::not_a_function(other)),
    }
}

/// Returns the environment of a function, or the one in a register of a group.
#[inline(always)]
fn environment(value: &Value) -> Value {
    match value {
        Value::Function(closure) => closure.env.clone(),
        other => other.clone(),
    }
}

/// Moves a value between registers.
#[inline(always)]
fn shift(regs: &mut [Value], from: usize, to: usize) {
    if let Value::Int(n) = regs[from] {
        return regs[to].put(Value::Int(n));
    }
    let value = mem::take(&mut regs[from]);
    regs[to].put(value);
}

/// Returns the function in a field of a record. Data contains no functions, so a record of data has
/// the library's methods, whatever its keys are.
fn own_function(record: &Record, name: &Name) -> Option<Value> {
    record.get(name).filter(|field| field.is_function()).cloned()
}

/// Returns the list of spread arguments, if they are not too many.
fn spread(list: Value) -> Result<Rc<List>, Fail> {
    match list {
        Value::List(list) if list.len() <= 249 => Ok(list),
        Value::List(list) => {
            Err(fail("arity", format!("{} arguments are given; a function takes at most 250", list.len())))
        }
        other => Err(op::not_a_function(&other)),
    }
}

/// Puts a frame that checks the result below the current one, unless there is one already. The
/// checking frame has one register: the first of the current frame, which is free once that frame
/// has ended.
#[cold]
#[inline(never)]
fn want_bool(frames: &mut Vec<Frame>, by: FunctionId) {
    let Some(frame) = frames.pop() else { return };
    if frames.last().is_none_or(|below| below.function != by) {
        frames.push(Frame { function: by, pc: 0, base: frame.base, result: frame.result });
    }
    frames.push(Frame { result: frame.base, ..frame });
}

/// Replaces the current frame by one of another function, at its beginning.
fn replace_frame(
    fiber: &mut Fiber,
    functions: &[Function],
    target: FunctionId,
    args: &[Value],
    env: Value,
) -> Result<(), Fail> {
    let callee = &functions[target as usize];
    let base = fiber.frames.last().map_or(0, |frame| frame.base as usize);
    let end = base + callee.registers as usize;
    if end > fiber.stack.len() {
        grow(fiber, end)?;
    }
    lay_out(fiber, base, args)?;
    if args.len() < callee.params as usize {
        fill_missing(&mut fiber.stack[base..end], callee, args.len());
    }
    if callee.has_env {
        fiber.stack[base + callee.params as usize].put(env);
    }
    if let Some(frame) = fiber.frames.last_mut() {
        (frame.function, frame.pc) = (target, 0);
    }
    Ok(())
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
