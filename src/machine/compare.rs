//! Equality and order.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::rc::Rc;

use super::error::{Fail, fail, type_error};
use super::value::Value;
use super::work;

/// The limit on the steps of one comparison.
const MAX_STEPS: u64 = 1 << 28;

/// The number of steps from which equal shared parts are remembered. Values that share their parts
/// can be larger than any memory.
const NOTED: u64 = 1 << 12;

/// The progress of a comparison.
#[derive(Default)]
struct Steps {
    count: u64,
    /// The pairs of shared parts that are equal or being compared.
    seen: Option<HashSet<(*const (), *const ())>>,
}

impl Steps {
    fn step(&mut self) -> Result<(), Fail> {
        self.count += 1;
        match self.count > MAX_STEPS {
            true => Err(fail("limit", "these values are too large to compare")),
            false => Ok(()),
        }
    }

    /// Returns whether two parts were met before.
    fn met<T>(&mut self, a: &Rc<T>, b: &Rc<T>) -> bool {
        self.count > NOTED
            && Rc::strong_count(a) > 1
            && Rc::strong_count(b) > 1
            && !self.seen.get_or_insert_default().insert((Rc::as_ptr(a).cast(), Rc::as_ptr(b).cast()))
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        work::done(usize::try_from(self.count).unwrap_or(usize::MAX));
    }
}

/// The deepest nesting of lists that can be ordered.
const MAX_DEPTH: u32 = 100;

/// Returns whether two values are structurally equal. Parts are compared in order, and the first
/// difference decides. Two functions in the same place are an error, even if they are the same one.
pub fn equal(a: &Value, b: &Value) -> Result<bool, Fail> {
    if let Some(equal) = scalars_equal(a, b)? {
        return Ok(equal);
    }
    let mut pairs: Vec<(&[Value], &[Value])> = Vec::new();
    let mut steps = Steps::default();
    let mut current = Some((a, b));
    loop {
        if let Some((a, b)) = current.take() {
            steps.step()?;
            match scalars_equal(a, b)? {
                Some(true) => {}
                Some(false) => return Ok(false),
                None => match (a, b) {
                    (Value::List(x), Value::List(y)) => {
                        if x.len() != y.len() {
                            return Ok(false);
                        }
                        if steps.met(x, y) {
                            continue;
                        }
                        pairs.push((x.as_slice(), y.as_slice()));
                    }
                    (Value::Record(x), Value::Record(y)) => {
                        if x.len() != y.len() {
                            return Ok(false);
                        }
                        if steps.met(x, y) {
                            continue;
                        }
                        if Rc::ptr_eq(x.keys(), y.keys()) || x.keys().names() == y.keys().names() {
                            pairs.push((x.values(), y.values()));
                        } else {
                            // The order of names makes the result independent of which record comes
                            // first.
                            let mut fields: Vec<_> = x.iter().collect();
                            fields.sort_by(|a, b| b.0.cmp(a.0));
                            for (name, value) in fields {
                                let Some(other) = y.get(name) else { return Ok(false) };
                                pairs.push((std::slice::from_ref(value), std::slice::from_ref(other)));
                            }
                        }
                    }
                    (Value::Entity(x), Value::Entity(y)) => {
                        if x.name != y.name {
                            return Ok(false);
                        }
                        pairs.push((std::slice::from_ref(&x.key), std::slice::from_ref(&y.key)));
                    }
                    _ => return Ok(false),
                },
            }
        }
        match pairs.last_mut() {
            None => return Ok(true),
            Some((x, y)) => match (x.split_first(), y.split_first()) {
                (Some((a, xs)), Some((b, ys))) => {
                    (*x, *y) = (xs, ys);
                    current = Some((a, b));
                    if xs.is_empty() {
                        pairs.pop();
                    }
                }
                _ => {
                    pairs.pop();
                }
            },
        }
    }
}

/// Returns the result, or `None` for two different containers of the same kind.
fn scalars_equal(a: &Value, b: &Value) -> Result<Option<bool>, Fail> {
    Ok(Some(match (a, b) {
        (Value::Int(a), Value::Int(b)) => a == b,
        (Value::Str(a), Value::Str(b)) => Rc::ptr_eq(a, b) || a.as_str() == b.as_str(),
        (Value::Null, Value::Null) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Float(a), Value::Float(b)) => a.get() == b.get(),
        (Value::Int(a), Value::Float(b)) | (Value::Float(b), Value::Int(a)) => whole(b.get()) == Some(*a),
        (Value::Duration(a), Value::Duration(b)) => a == b,
        (Value::Instant(a), Value::Instant(b)) => a == b,
        (Value::Bytes(a), Value::Bytes(b)) => a.bytes == b.bytes,
        (Value::Task(a), Value::Task(b)) => Rc::ptr_eq(a, b),
        (Value::List(x), Value::List(y)) if Rc::ptr_eq(x, y) => equals_itself(a)?,
        (Value::Record(x), Value::Record(y)) if Rc::ptr_eq(x, y) => equals_itself(a)?,
        (Value::Entity(x), Value::Entity(y)) if Rc::ptr_eq(x, y) => equals_itself(a)?,
        (Value::Function(_) | Value::Builtin(_), Value::Function(_) | Value::Builtin(_)) => {
            return Err(not_comparable());
        }
        (Value::List(_), Value::List(_))
        | (Value::Record(_), Value::Record(_))
        | (Value::Entity(_), Value::Entity(_)) => {
            return Ok(None);
        }
        _ => false,
    }))
}

fn not_comparable() -> Fail {
    type_error("functions can't be compared")
}

/// Returns whether a value is equal to itself. One that contains NaN is not. One that contains a
/// function can't be compared. The first of these in the value decides.
fn equals_itself(value: &Value) -> Result<bool, Fail> {
    match first_leaf(value, &mut |leaf| leaf.is_function() || is_nan(leaf)) {
        None => Ok(true),
        Some(leaf) if leaf.is_function() => Err(not_comparable()),
        Some(_) => Ok(false),
    }
}

/// Returns whether a value contains a function.
pub fn holds_function(value: &Value) -> bool {
    first_leaf(value, &mut Value::is_function).is_some()
}

/// Returns the first wanted value without parts, in order. A shared part is searched once.
fn first_leaf<'a>(value: &'a Value, wanted: &mut dyn FnMut(&Value) -> bool) -> Option<&'a Value> {
    let mut seen: HashSet<*const ()> = HashSet::new();
    let mut open: Vec<std::slice::Iter<'a, Value>> = vec![std::slice::from_ref(value).iter()];
    while let Some(items) = open.last_mut() {
        let Some(item) = items.next() else {
            open.pop();
            continue;
        };
        let (shared, parts) = match item {
            Value::List(list) => {
                ((Rc::strong_count(list) > 1).then(|| Rc::as_ptr(list).cast()), list.as_slice())
            }
            Value::Record(record) => {
                ((Rc::strong_count(record) > 1).then(|| Rc::as_ptr(record).cast()), record.values())
            }
            Value::Entity(entity) => (None, std::slice::from_ref(&entity.key)),
            leaf => {
                if wanted(leaf) {
                    return Some(leaf);
                }
                continue;
            }
        };
        if shared.is_none_or(|address| seen.insert(address)) && !parts.is_empty() {
            open.push(parts.iter());
        }
    }
    None
}

fn is_nan(value: &Value) -> bool {
    matches!(value, Value::Float(x) if x.get().is_nan())
}

/// Returns the int that a float is equal to, if there is one.
pub fn whole(x: f64) -> Option<i64> {
    // The least int is exactly a float. The greatest is not, but one more than it is.
    let fits = (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&x);
    (fits && x.fract() == 0.0).then_some(x as i64)
}

/// Returns whether the order of two values is as wanted. NaN is neither before, after nor equal to
/// anything.
#[cold]
#[inline(never)]
pub fn holds(a: &Value, b: &Value, wanted: fn(Ordering) -> bool) -> Result<bool, Fail> {
    Ok(order_within(a, b, 0, &mut Steps::default())?.is_some_and(wanted))
}

/// Returns the order of two values of one kind. The order is total, and exact between ints and
/// floats. NaN has no order, which is an error.
pub fn order(a: &Value, b: &Value) -> Result<Ordering, Fail> {
    order_within(a, b, 0, &mut Steps::default())?
        .ok_or_else(|| type_error("a float that is not a number has no order"))
}

/// Returns the order of two values, or `None` for NaN.
fn order_within(a: &Value, b: &Value, depth: u32, steps: &mut Steps) -> Result<Option<Ordering>, Fail> {
    steps.step()?;
    Ok(Some(match (a, b) {
        (Value::Int(a), Value::Int(b)) => a.cmp(b),
        (Value::Float(a), Value::Float(b)) => return Ok(a.get().partial_cmp(&b.get())),
        (Value::Int(a), Value::Float(b)) => return Ok(int_order(*a, b.get())),
        (Value::Float(a), Value::Int(b)) => return Ok(int_order(*b, a.get()).map(Ordering::reverse)),
        (Value::Str(a), Value::Str(b)) => a.as_str().cmp(b.as_str()),
        (Value::Duration(a), Value::Duration(b)) => a.cmp(b),
        (Value::Instant(a), Value::Instant(b)) => a.cmp(b),
        (Value::Bytes(a), Value::Bytes(b)) => a.bytes.cmp(&b.bytes),
        // The first difference ends a comparison, so parts that were met before are equal.
        (Value::List(a), Value::List(b)) if depth < MAX_DEPTH && steps.met(a, b) => Ordering::Equal,
        (Value::List(a), Value::List(b)) if depth < MAX_DEPTH => {
            for (x, y) in a.as_slice().iter().zip(b.as_slice()) {
                match order_within(x, y, depth + 1, steps)? {
                    Some(Ordering::Equal) => {}
                    other => return Ok(other),
                }
            }
            a.len().cmp(&b.len())
        }
        (Value::List(_), Value::List(_)) => {
            return Err(fail("limit", "lists nested more than 100 deep have no order"));
        }
        _ => return Err(no_order(a, b)),
    }))
}

/// Returns the order of an int and a float, without rounding the int.
fn int_order(a: i64, b: f64) -> Option<Ordering> {
    if b.is_nan() {
        return None;
    }
    let below = b.floor();
    Some(match whole(below) {
        Some(n) if n == a && below < b => Ordering::Less,
        Some(n) => a.cmp(&n),
        None if b > 0.0 => Ordering::Less,
        None => Ordering::Greater,
    })
}

/// Returns the error of ordering values that have no order.
pub fn no_order(a: &Value, b: &Value) -> Fail {
    if a.kind() == b.kind() {
        return type_error(format!("{} values have no order", a.kind()));
    }
    type_error(format!("{} and {} can't be ordered", a.a_kind(), b.a_kind()))
}

/// Returns the indexes of the keys in the order of the keys. The sort is stable. The first
/// comparison that fails is the error. All keys that end up side by side are compared, so two keys
/// that can't be compared are always an error.
pub fn sorted(keys: &[Value]) -> Result<Vec<usize>, Fail> {
    let mut numbers: Vec<usize> = (0..keys.len()).collect();
    let all = |is: fn(&Value) -> bool| keys.iter().all(is);
    // Kinds whose order can't fail are sorted directly.
    if all(|key| matches!(key, Value::Str(_))) {
        let text = |at: &usize| if let Value::Str(text) = &keys[*at] { text.as_str() } else { "" };
        numbers.sort_by(|a, b| text(a).cmp(text(b)));
        return Ok(numbers);
    }
    if all(|key| matches!(key, Value::Int(_))) {
        numbers.sort_by_key(|at| if let Value::Int(n) = keys[*at] { n } else { 0 });
        return Ok(numbers);
    }
    let mut merged = numbers.clone();
    let mut width = 1;
    while width < keys.len() {
        for (from, to) in numbers.chunks(2 * width).zip(merged.chunks_mut(2 * width)) {
            merge(keys, from.split_at(width.min(from.len())), to)?;
        }
        std::mem::swap(&mut numbers, &mut merged);
        width *= 2;
    }
    Ok(numbers)
}

/// Merges two slices that are sorted.
fn merge(keys: &[Value], from: (&[usize], &[usize]), to: &mut [usize]) -> Result<(), Fail> {
    let (mut left, mut right) = from;
    // Often, the two are in order already.
    if let (Some(last), Some(first)) = (left.last(), right.first())
        && order(&keys[*last], &keys[*first])?.is_gt()
    {
        for to in to {
            let from = match (left.first(), right.first()) {
                (Some(a), Some(b)) if order(&keys[*a], &keys[*b])?.is_gt() => &mut right,
                (Some(_), _) => &mut left,
                _ => &mut right,
            };
            if let Some((first, rest)) = from.split_first() {
                (*to, *from) = (*first, rest);
            }
        }
        return Ok(());
    }
    to[..left.len()].copy_from_slice(left);
    to[left.len()..].copy_from_slice(right);
    Ok(())
}
