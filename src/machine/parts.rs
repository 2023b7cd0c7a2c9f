//! Instructions on parts of the values in registers: fields, elements, and paths of both.
//!
//! As in `plain`, these instructions stand outside the run loop. The run loop calls them when a
//! part is not where it was last found.

use std::mem;
use std::ops::Range;

use crate::code::{Op, PathStep, Reg};

use super::Image;
use super::error::Fail;
use super::operate as op;
use super::value::{List, Name, Record, Value};

/// Executes one of these instructions on the window of its function.
pub(super) fn execute(image: &Image, regs: &mut [Value], op: Op) -> Result<(), Fail> {
    match op {
        Op::TakeField { to, a, name } => take_field(image, regs, to, a, name)?,
        Op::OptionalField { to, a, name } => {
            let value = op::optional_field(&regs[a as usize], &image.names[name as usize])?;
            regs[to as usize].put(value);
        }
        Op::ReadField { to, a, name } => {
            read_field(image, regs, to, a, name);
        }
        Op::AddPath { a, base: from, path } => change_path(image, regs, a, from, path, op::add_path)?,
        Op::CheckPath { a, base: from, path } => {
            let (path, args) = steps(image, from, path);
            match &regs[a as usize] {
                Value::Cell(cell) => op::check_path(&cell.value.borrow(), path, &image.names, &regs[args])?,
                root => op::check_path(root, path, &image.names, &regs[args])?,
            }
        }
        Op::TakeElement { to, a, index } => {
            let at = regs[index as usize].as_index();
            let own = match &mut regs[a as usize] {
                Value::List(list) => List::own(list, at),
                _ => None,
            };
            let value = match own {
                Some(element) => mem::take(element),
                None => {
                    let index = regs[index as usize].clone();
                    op::take_path(&mut regs[a as usize], &[PathStep::Index], &image.names, &[index])?
                }
            };
            regs[to as usize].put(value);
        }
        Op::TakePath { a, to, base: from, path } | Op::TakeEntry { a, to, base: from, path } => {
            let (path, args) = steps(image, from, path);
            let value = within(regs, a.into(), |root, regs| {
                let args = &regs[args];
                match op {
                    Op::TakeEntry { .. } if op::part(root, path, &image.names, args).is_none() => {
                        Ok(Value::Null)
                    }
                    _ => op::take_path(root, path, &image.names, args),
                }
            })?;
            regs[to as usize].put(value);
        }
        Op::IsEntry { a, to, base: from, path } => {
            let (path, args) = steps(image, from, path);
            let is = within(regs, a.into(), |root, regs| is_entry(image, root, path, &regs[args]));
            regs[to as usize].put(Value::bool(is));
        }
        Op::AddEntry { a, base: from, path } => {
            let (path, args) = steps(image, from, path);
            let [other, more] = [args.end, args.end + 1].map(|at| mem::take(&mut regs[at]));
            within(regs, a, |root, regs| op::add_entry(root, path, &image.names, &regs[args], other, more))?;
        }
        _ => {}
    }
    Ok(())
}

/// Takes a field out of a record that is not shared, or copies the field of a shared one.
fn take_field(image: &Image, regs: &mut [Value], to: Reg, a: Reg, name: u16) -> Result<(), Fail> {
    let (known, guess) = (&image.names[name as usize], &image.guesses[name as usize]);
    let Value::Record(record) = &mut regs[a as usize] else {
        return Err(op::no_field(&regs[a as usize], known));
    };
    // This lookup also corrects the guess that `Record::own` relies on.
    let Some(value) = record.look_up(known, guess) else { return Err(op::missing_field(record, known)) };
    let value = match value.is_counted() {
        true => match Record::own(record, known, guess) {
            Some(own) => mem::take(own),
            None => record.look_up(known, guess).cloned().unwrap_or_default(),
        },
        false => value.clone(),
    };
    regs[to as usize].put(value);
    Ok(())
}

/// Reads a field, or the marker of a missing one. Returns whether the field is there.
#[inline(never)]
pub(super) fn read_field(image: &Image, regs: &mut [Value], to: Reg, a: Reg, name: u16) -> bool {
    let found = match &regs[a as usize] {
        Value::Record(record) => record.look_up(&image.names[name as usize], &image.guesses[name as usize]),
        _ => None,
    };
    let is_there = found.is_some();
    let value = found.map_or(Value::Missing, Value::clone);
    regs[to as usize].put(value);
    is_there
}

/// Returns whether the last step of a path is a string key into a record. The record may lack the
/// key, but must have no `get` of its own.
fn is_entry(image: &Image, root: &Value, path: &[PathStep], args: &[Value]) -> bool {
    let (Some((_, before)), Some((Value::Str(_), args))) = (path.split_last(), args.split_last()) else {
        return false;
    };
    match op::part(root, before, &image.names, args) {
        Some(Value::Record(record)) => !record.get_str("get").is_some_and(Value::is_function),
        _ => false,
    }
}

/// Returns a path and the range of registers that hold its indexes.
fn steps(image: &Image, from: Reg, path: u16) -> (&[PathStep], Range<usize>) {
    let path = &image.code.paths[path as usize][..];
    (path, from as usize..from as usize + PathStep::indexes(path))
}

/// Runs `act` on the value in a register, or on the value of the cell there. The value is out of
/// its place meanwhile.
fn within<R>(regs: &mut [Value], a: Reg, act: impl FnOnce(&mut Value, &[Value]) -> R) -> R {
    let mut held = mem::take(&mut regs[a as usize]);
    let result = match &held {
        Value::Cell(cell) => {
            let mut root = mem::take(&mut *cell.value.borrow_mut());
            let result = act(&mut root, regs);
            *cell.value.borrow_mut() = root;
            result
        }
        _ => act(&mut held, regs),
    };
    regs[a as usize].put(held);
    result
}

/// A change at a path within a value. Its arguments: the value, the path, the names of fields, the
/// indexes, and the value to set or add.
type Change = fn(&mut Value, &[PathStep], &[Name], &[Value], Value) -> Result<(), Fail>;

/// Changes the value at a path within a register, or within the cell there. The value to set or add
/// lies after the indexes.
#[cold]
#[inline(never)]
pub(super) fn change_path(
    image: &Image,
    regs: &mut [Value],
    a: Reg,
    from: Reg,
    path: u16,
    change: Change,
) -> Result<(), Fail> {
    let (path, args) = steps(image, from, path);
    let value = mem::take(&mut regs[args.end]);
    within(regs, a, |root, regs| change(root, path, &image.names, &regs[args], value))
}

/// Executes `a[index] = value` when the element can't be set in place.
#[inline(never)]
pub(super) fn set_element(regs: &mut [Value], a: Reg, index: Reg, value: Value) -> Result<(), Fail> {
    assign(regs, a, &[PathStep::Index], &[], [index], value)
}

/// Executes `a.name = value` when the field can't be set in place.
#[inline(never)]
pub(super) fn set_field(
    image: &Image,
    regs: &mut [Value],
    a: Reg,
    name: u16,
    value: Value,
) -> Result<(), Fail> {
    assign(regs, a, &[PathStep::Field(name)], &image.names, [], value)?;
    remember(image, &regs[a as usize], name);
    Ok(())
}

/// Executes `a[index].name = value` when the field can't be set in place.
#[inline(never)]
pub(super) fn set_field_of_element(
    image: &Image,
    regs: &mut [Value],
    a: u8,
    index: Reg,
    name: u16,
    value: Value,
) -> Result<(), Fail> {
    let path = [PathStep::Index, PathStep::Field(name)];
    assign(regs, Reg::from(a), &path, &image.names, [index], value)?;
    if let (Value::List(list), Value::Int(at)) = (&regs[a as usize], &regs[index as usize])
        && let Some(element) = list.as_slice().get(*at as usize)
    {
        remember(image, element, name);
    }
    Ok(())
}

fn assign<const N: usize>(
    regs: &mut [Value],
    a: Reg,
    path: &[PathStep],
    names: &[Name],
    indexes: [Reg; N],
    value: Value,
) -> Result<(), Fail> {
    let indexes = indexes.map(|index| regs[index as usize].clone());
    op::set_path(&mut regs[a as usize], path, names, &indexes, value)
}

/// Executes `a[index][second]`.
#[inline(never)]
pub(super) fn element_of_element(
    regs: &mut [Value],
    to: Reg,
    a: u8,
    index: u8,
    second: u8,
) -> Result<(), Fail> {
    let (at, then) = (&regs[index as usize], &regs[second as usize]);
    let row = match &regs[a as usize] {
        Value::List(rows) => rows.as_slice().get(at.as_index()),
        _ => None,
    };
    let found = match row {
        Some(Value::List(row)) => row.as_slice().get(then.as_index()),
        _ => None,
    };
    let value = match found {
        Some(value) => value.clone(),
        None => op::index(&op::index(&regs[a as usize], at)?, then)?,
    };
    regs[to as usize].put(value);
    Ok(())
}

/// Executes `a[index][second] = value`, and takes `value` out of its register.
#[inline(never)]
pub(super) fn set_element_of_element(
    regs: &mut [Value],
    a: u8,
    index: Reg,
    second: Reg,
    value: u8,
) -> Result<(), Fail> {
    let value = mem::take(&mut regs[value as usize]);
    let (at, then) = (regs[index as usize].as_index(), regs[second as usize].as_index());
    let row = match &mut regs[a as usize] {
        Value::List(rows) => List::own(rows, at),
        _ => None,
    };
    let slot = match row {
        Some(Value::List(row)) => List::own(row, then),
        _ => None,
    };
    match slot {
        Some(slot) => slot.put(value),
        None => {
            assign(regs, Reg::from(a), &[PathStep::Index, PathStep::Index], &[], [index, second], value)?;
        }
    }
    Ok(())
}

/// Looks up a field, so that its place is guessed right the next time.
fn remember(image: &Image, record: &Value, name: u16) {
    if let Value::Record(record) = record {
        let _ = record.look_up(&image.names[name as usize], &image.guesses[name as usize]);
    }
}

/// Reads `a[index].name` when the field is not where it was last found.
#[inline(never)]
pub(super) fn field_of_element(
    image: &Image,
    regs: &[Value],
    a: u8,
    index: u8,
    name: u16,
) -> Result<Value, Fail> {
    let element = op::index(&regs[a as usize], &regs[index as usize])?;
    op::field(&element, &image.names[name as usize])
}
