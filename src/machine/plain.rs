//! Instructions that only read and write registers, and are not worth a place in the run loop.
//!
//! The run loop is fast by being small: the state that it keeps from one instruction to the next
//! has to fit in the processor's registers. So an instruction stands here unless a measurement has
//! shown that it belongs there.

use std::cell::RefCell;
use std::cmp::Ordering;
use std::mem;
use std::rc::Rc;

use crate::code::{Comparison, FunctionId, Op, Reg};
use crate::syntax::tree::Kind;

use super::Image;
use super::compare::{equal, holds, whole};
use super::error::{Fail, Failure, fail};
use super::operate as op;
use super::parts;
use super::value::{Closure, Env, List, Record, Shared, Value, intern};

/// Executes one of these instructions on the window of its function.
#[cold]
#[inline(never)]
pub(super) fn execute(image: &Image, regs: &mut [Value], op: Op) -> Result<(), Fail> {
    match op {
        Op::Mark { .. } => {}
        Op::Missing { to } => regs[to as usize].put(Value::Missing),
        Op::Global { to, index } => {
            let value = image.globals.borrow()[index as usize].clone();
            if matches!(value, Value::Missing) {
                return Err(fail("uninitialised", "a `const` is used before it has its value"));
            }
            regs[to as usize].put(value);
        }
        Op::Not { to, a } => match &regs[a as usize] {
            Value::Bool(b) => {
                let b = b.get();
                regs[to as usize].put(Value::bool(!b))
            }
            other => return Err(op::not_bool(other)),
        },
        Op::Negate { to, a } => {
            let value = op::negate(&regs[a as usize])?;
            regs[to as usize].put(value);
        }
        Op::CheckBool { a } => match &regs[a as usize] {
            Value::Bool(_) => {}
            other => return Err(op::not_bool(other)),
        },
        Op::NewList { to, base: from, count } => {
            let items =
                regs[from as usize..from as usize + count as usize].iter_mut().map(mem::take).collect();
            regs[to as usize].put(Value::list(items));
        }
        Op::Push { list, value } => {
            let value = regs[value as usize].clone();
            if let Value::List(list) = &mut regs[list as usize] {
                op::reserve_items(list.len() + 1)?;
                List::make_mut(list).with(|items| items.push(value));
            }
        }
        Op::AddTaken { to, a, b } => {
            let left = mem::take(&mut regs[a as usize]);
            let value = op::add(left, &regs[b as usize]).map_err(|(_, failure)| failure)?;
            regs[to as usize].put(value);
        }
        Op::Extend { list, values } => {
            let values = op::elements(&regs[values as usize])?;
            extend(&mut regs[list as usize], values)?;
        }
        Op::ExtendTaken { list, values } => {
            let values = match mem::take(&mut regs[values as usize]) {
                list @ Value::List(_) => list,
                other => op::elements(&other)?,
            };
            extend(&mut regs[list as usize], values)?;
        }
        Op::Put { record, key, value } => {
            let key = match &regs[key as usize] {
                Value::Str(text) => intern(text.as_str()),
                other => {
                    return Err(fail(
                        "type_error",
                        format!("a record's keys are strings, not {}", other.a_kind()),
                    ));
                }
            };
            let value = regs[value as usize].clone();
            if let Value::Record(record) = &mut regs[record as usize]
                && let Some(record) = Record::make_mut(record)
            {
                record.set(key, value);
            }
        }
        Op::Merge { record, other } => {
            let other = regs[other as usize].clone();
            merge(&mut regs[record as usize], other)?;
        }
        Op::MergeTaken { record, other } => {
            let other = mem::take(&mut regs[other as usize]);
            merge(&mut regs[record as usize], other)?;
        }
        Op::CheckSpread { a } => match &regs[a as usize] {
            Value::Record(_) | Value::Null => {}
            other => return Err(no_spread(other)),
        },
        Op::Update { base: from, a, shape } => {
            let given = regs[a as usize].clone();
            update(image, regs, from, given, shape);
        }
        Op::UpdateTaken { base: from, a, shape } => {
            let given = mem::take(&mut regs[a as usize]);
            update(image, regs, from, given, shape);
        }
        Op::ReadIndex { to, a, index } => {
            let value = match &regs[a as usize] {
                Value::List(list) => list.as_slice().get(index as usize).cloned(),
                _ => None,
            };
            regs[to as usize].put(value.unwrap_or(Value::Missing));
        }
        Op::ReadBack { to, a, index } => {
            let value = match &regs[a as usize] {
                Value::List(list) => {
                    list.len().checked_sub(index as usize).and_then(|at| list.as_slice().get(at).cloned())
                }
                _ => None,
            };
            regs[to as usize].put(value.unwrap_or(Value::Missing));
        }
        Op::ReadMiddle { to, a, slice } => {
            let (before, after) = image.code.slices[slice as usize];
            let value = match &regs[a as usize] {
                Value::List(list) if list.len() >= (before + after) as usize => {
                    Value::List(List::slice(list, before as usize, list.len() - after as usize))
                }
                _ => Value::Missing,
            };
            regs[to as usize].put(value);
        }
        Op::ReadAfter { to, a, name } => {
            let value = match &regs[a as usize] {
                Value::Str(text) => {
                    let rest = text.as_str().strip_prefix(&*image.names[name as usize]).unwrap_or("");
                    op::reserve_text(rest.len())?;
                    Value::str(rest)
                }
                _ => Value::Missing,
            };
            regs[to as usize].put(value);
        }
        Op::ReadWithout { to, a, shape } => {
            let names = image.shapes[shape as usize].names();
            let value = match &regs[a as usize] {
                Value::Record(record) => {
                    Value::Record(Rc::new(record.without(|name| names.iter().any(|n| &**n == name))))
                }
                _ => Value::Missing,
            };
            regs[to as usize].put(value);
        }
        Op::Concat { to, base: from, count } => {
            let value = op::concat(&mut regs[from as usize..from as usize + count as usize])?;
            regs[to as usize].put(value);
        }
        Op::Range { to, base: from, inclusive } => {
            let value = op::range(&regs[from as usize], &regs[from as usize + 1], 1, inclusive)?;
            regs[to as usize].put(value);
        }
        Op::RangeStart { base: from, inclusive } => {
            let from = from as usize;
            let (_, high) = op::range_ends(&regs[from], &regs[from + 1], inclusive)?;
            // An end beyond the largest int is kept as null: no int reaches it.
            regs[from + 1] = i64::try_from(high).map_or(Value::Null, Value::Int);
        }
        Op::EachStart { base: from } => {
            let value = op::elements(&regs[from as usize])?;
            regs[from as usize].put(value);
            regs[from as usize + 1] = Value::Int(0);
        }
        Op::NewCell { to, from } => {
            let value = regs[from as usize].clone();
            regs[to as usize].put(Value::Cell(Rc::new(Shared { value: RefCell::new(value) })));
        }
        Op::GetEarly { to, cell } => {
            let value = match &regs[cell as usize] {
                Value::Cell(cell) => cell.value.borrow().clone(),
                _ => Value::Missing,
            };
            if matches!(value, Value::Missing) {
                return Err(fail("uninitialised", "a variable is used before it has its value"));
            }
            regs[to as usize].put(value);
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
                        return Err(failure);
                    }
                }
            }
        }
        Op::Environment { to, base: from, count } => {
            let values =
                regs[from as usize..from as usize + count as usize].iter_mut().map(mem::take).collect();
            regs[to as usize].put(Value::Env(Rc::new(Env { values })));
        }
        Op::Closure { to, env, function } => {
            let env = regs[env as usize].clone();
            regs[to as usize] = Value::Function(Rc::new(Closure { function: function as FunctionId, env }));
        }
        Op::NoArm { from } => return Err(op::no_match(&regs[from as usize], true)),
        Op::NoMatch { from } => return Err(op::no_match(&regs[from as usize], false)),
        // The run loop executes all others itself.
        other => return parts::execute(image, regs, other),
    }
    Ok(())
}

/// Returns the outcome of one of the rarer tests of patterns.
#[cold]
#[inline(never)]
pub(super) fn passes(image: &Image, regs: &[Value], op: Op) -> bool {
    match op {
        Op::TestKind { a, kind } => Kind::ALL.get(usize::from(kind)).is_some_and(|kind| {
            let found = regs[a as usize].kind();
            found == kind.name() || *kind == Kind::Number && matches!(found, "int" | "float")
        }),
        Op::TestRange { a, range } => {
            let (low, high) = image.code.ranges[range as usize];
            let int = match &regs[a as usize] {
                Value::Int(n) => Some(*n),
                Value::Float(x) => whole(x.get()),
                _ => None,
            };
            int.is_some_and(|n| low <= n && n <= high)
        }
        Op::TestPrefix { a, name } => match &regs[a as usize] {
            Value::Str(text) => text.as_str().starts_with(&*image.names[name as usize]),
            _ => false,
        },
        _ => false,
    }
}

/// Adds elements to a list that is being built. An empty list is replaced by that of the elements.
fn extend(list: &mut Value, values: Value) -> Result<(), Fail> {
    if let (Value::List(list), Value::List(values)) = (&mut *list, &values)
        && !list.is_empty()
    {
        op::reserve_items(list.len() + values.len())?;
        List::make_mut(list).with(|items| items.extend_from_slice(values.as_slice()));
        return Ok(());
    }
    list.put(values);
    Ok(())
}

/// Adds fields to a record that is being built. An empty record is replaced by that of the fields.
fn merge(record: &mut Value, other: Value) -> Result<(), Fail> {
    let fields = match &other {
        Value::Record(fields) => fields,
        Value::Null => return Ok(()),
        _ => return Err(no_spread(&other)),
    };
    match record {
        Value::Record(record) if !record.is_empty() => {
            if let Some(record) = Record::make_mut(record) {
                for (name, value) in fields.iter() {
                    record.set(name.clone(), value.clone());
                }
            }
        }
        _ => record.put(other),
    }
    Ok(())
}

fn no_spread(value: &Value) -> Fail {
    fail("type_error", format!("`..` in a record takes a record, not {}", value.a_kind()))
}

/// Sets the fields of a record to the values in the registers, and puts the record into the first
/// of them. Null counts as a record without fields.
fn update(image: &Image, regs: &mut [Value], from: Reg, given: Value, shape: Reg) {
    let mut record = match given {
        Value::Record(record) => record,
        _ => Rc::default(),
    };
    let names = image.shapes[shape as usize].names();
    let values = &mut regs[from as usize..from as usize + names.len()];
    if let Some(record) = Record::make_mut(&mut record) {
        for (name, value) in names.iter().zip(values) {
            record.set(name.clone(), mem::take(value));
        }
    }
    regs[from as usize].put(Value::Record(record));
}

/// Makes the record of a literal.
#[cold]
#[inline(never)]
pub(super) fn new_record(image: &Image, regs: &mut [Value], to: Reg, from: Reg, shape: Reg) {
    let keys = &image.shapes[shape as usize];
    let fields = &mut regs[from as usize..from as usize + keys.names().len()];
    let values = fields.iter_mut().map(mem::take).collect();
    regs[to as usize].put(Value::Record(Rc::new(Record::new(keys.clone(), values))));
}

/// Writes the next int of a range whose ends are not both ints in registers. Returns whether there
/// is one.
#[cold]
#[inline(never)]
pub(super) fn range_next(next: &mut Value, end: &Value, item: &mut Value) -> bool {
    match (&*next, end) {
        // The end is beyond the largest int.
        (Value::Int(now), Value::Null) => {
            item.put(Value::Int(*now));
            *next = now.checked_add(1).map_or(Value::Null, Value::Int);
            true
        }
        _ => false,
    }
}

// ---- arithmetic beyond ints that fit and floats

/// Defines an operation that stays out of the run loop.
macro_rules! slow {
    ($name:ident, $by:path) => {
        #[cold]
        #[inline(never)]
        pub(super) fn $name(regs: &mut [Value], to: Reg, a: Reg, b: Reg) -> Result<(), Fail> {
            let value = $by(&regs[a as usize], &regs[b as usize])?;
            regs[to as usize].put(value);
            Ok(())
        }
    };
}

slow!(subtract, op::subtract);
slow!(multiply, op::multiply);
slow!(divide, op::divide);
slow!(remainder, op::remainder);
slow!(quotient, op::div);

/// Executes `a + b`. If `a` is the target too, its value grows in place unless it is shared.
#[cold]
#[inline(never)]
pub(super) fn add(regs: &mut [Value], to: Reg, a: Reg, b: Reg) -> Result<(), Fail> {
    let in_place = to == a && a != b;
    let left = if in_place { mem::take(&mut regs[a as usize]) } else { regs[a as usize].clone() };
    match op::add(left, &regs[b as usize]) {
        Ok(value) => regs[to as usize].put(value),
        Err((left, failure)) => {
            if in_place {
                regs[a as usize].put(left);
            }
            return Err(failure);
        }
    }
    Ok(())
}

/// Executes an operation with a constant.
#[inline(never)]
pub(super) fn with_int(
    by: fn(&Value, &Value) -> Result<Value, Fail>,
    regs: &mut [Value],
    to: Reg,
    a: Reg,
    value: i16,
) -> Result<(), Fail> {
    let value = by(&regs[a as usize], &Value::Int(value as i64))?;
    regs[to as usize].put(value);
    Ok(())
}

/// Returns the outcome of a comparison.
#[inline(never)]
pub(super) fn compare(how: Comparison, a: &Value, b: &Value) -> Result<bool, Fail> {
    match how {
        Comparison::Equal => equal(a, b),
        Comparison::NotEqual => equal(a, b).map(|equal| !equal),
        Comparison::Less => holds(a, b, Ordering::is_lt),
        Comparison::LessEqual => holds(a, b, Ordering::is_le),
        Comparison::Greater => holds(a, b, Ordering::is_gt),
        Comparison::GreaterEqual => holds(a, b, Ordering::is_ge),
    }
}

/// Returns the outcome of a comparison of ints.
#[inline(always)]
pub(super) fn compare_ints(how: Comparison, a: i64, b: i64) -> bool {
    match how {
        Comparison::Equal => a == b,
        Comparison::NotEqual => a != b,
        Comparison::Less => a < b,
        Comparison::LessEqual => a <= b,
        Comparison::Greater => a > b,
        Comparison::GreaterEqual => a >= b,
    }
}

// ---- errors

/// Returns the error of adding a constant, in terms of the source.
#[cold]
pub(super) fn add_int_failed(a: &Value, value: i16) -> Fail {
    let failure = match value < 0 {
        true => op::subtract(a, &Value::Int(-(value as i64))).err(),
        false => op::add(a.clone(), &Value::Int(value as i64)).err().map(|(_, f)| f),
    };
    failure.unwrap_or_else(|| fail("type_error", "`+` can't take these"))
}

/// Returns the error of `xs += [x]` when `xs` is not a list.
#[cold]
pub(super) fn append_failed(a: &Value, value: Value) -> Fail {
    let failure = op::add(a.clone(), &Value::list(vec![value])).err();
    failure.map_or_else(|| fail("internal", "a list was expected"), |(_, failure)| failure)
}

/// Returns the error that a handler holds, to be thrown again.
#[cold]
pub(super) fn rethrown(regs: &[Value], error: Reg) -> Fail {
    let trace = match &regs[error as usize + 1] {
        Value::Trace(trace) => Some(trace.clone()),
        _ => None,
    };
    Box::new(Failure { value: regs[error as usize].clone(), trace })
}
