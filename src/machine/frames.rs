//! Frames: the start of a call, the result of a wait, and unwinding to the nearest handler.

use std::rc::Rc;

use crate::code::{Function, FunctionId, Op};
use crate::syntax::Place;

use super::error::{Fail, Trace, TraceEntry, fail};
use super::operate as op;
use super::value::Value;
use super::{Fiber, Frame, Image, MAX_DEPTH, MAX_STACK};

/// Marks the arguments that were omitted.
#[inline(never)]
pub(super) fn fill_missing(regs: &mut [Value], f: &Function, count: usize) {
    regs[count..f.params as usize].fill(Value::Missing);
}

/// Begins a call. The arguments are in place, from `base` on.
pub(super) fn push_frame(
    image: &Image,
    fiber: &mut Fiber,
    function: FunctionId,
    base: usize,
    count: usize,
    result: usize,
    env: &Value,
) -> Result<(), Fail> {
    let f = &image.code.functions[function as usize];
    let end = base + f.registers as usize;
    if fiber.frames.len() >= MAX_DEPTH || end > fiber.stack.len() {
        grow(fiber, end)?;
    }
    if count < f.params as usize {
        fill_missing(&mut fiber.stack[base..end], f, count);
    }
    if f.has_env {
        fiber.stack[base + f.params as usize].put(env.clone());
    }
    fiber.frames.push(Frame { function, pc: 0, base: base as u32, result: result as u32 });
    Ok(())
}

/// Releases the values of registers that are not used any more. Uncounted values can stay, since
/// they hold nothing.
#[inline(always)]
pub(super) fn release(slots: &mut [Value]) {
    for slot in slots {
        if slot.is_counted() {
            slot.put(Value::Null);
        }
    }
}

/// Makes room for a window that ends at `end`. Fails if calls are nested too deeply.
#[cold]
pub(super) fn grow(fiber: &mut Fiber, end: usize) -> Result<(), Fail> {
    if fiber.frames.len() >= MAX_DEPTH || end > MAX_STACK {
        return Err(too_deep());
    }
    if end > fiber.stack.len() {
        let len = end.max(fiber.stack.len() * 2).min(MAX_STACK);
        fiber.stack.resize(len, Value::Null);
    }
    Ok(())
}

fn too_deep() -> Fail {
    fail(
        "limit",
        "calls nested too deeply: a function calls itself without end, or needs an accumulator and a tail call",
    )
}

/// Begins a fiber by calling a function value without arguments.
pub(super) fn enter(image: &Image, fiber: &mut Fiber, f: &Value) -> Result<(), Fail> {
    match f {
        Value::Function(closure) => push_frame(image, fiber, closure.function, 0, 0, 0, &closure.env),
        other => Err(op::not_a_function(other)),
    }
}

/// Gives a fiber the result that it waited for.
pub(super) fn resume(image: &Image, fiber: &mut Fiber, result: Result<Value, Fail>) {
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
            | Op::TailMethod { base, .. }
            | Op::CallSpread { base }
            | Op::TailSpread { base }
            | Op::CallMethodSpread { base, .. }
            | Op::TailMethodSpread { base, .. },
        ) => *base,
        _ => return,
    };
    let slot = frame.base as usize + base as usize;
    if let Some(slot) = fiber.stack.get_mut(slot) {
        *slot = value;
    }
}

/// Unwinds to the nearest handler. Returns the failure if there is none.
pub(super) fn unwind(image: &Image, fiber: &mut Fiber, mut failure: Fail) -> Result<(), Fail> {
    failure.trace = Some(match failure.trace.take() {
        // The error comes from another instance. The trace has that one's calls before this one's.
        Some(trace) if fiber.frames.last().is_some_and(|_| is_foreign(&trace)) => {
            joined(&trace, &trace_of(image, fiber))
        }
        Some(trace) => trace,
        None => Rc::new(trace_of(image, fiber)),
    });
    let Some(handler) = fiber.handlers.pop() else {
        fiber.frames.clear();
        fiber.stack.clear();
        return Err(failure);
    };
    // The windows of the removed frames are released.
    let window = |frame: &Frame| {
        frame.base as usize + image.code.functions[frame.function as usize].registers as usize
    };
    let used =
        fiber.frames[handler.frames as usize..].iter().map(window).max().unwrap_or(0).min(fiber.stack.len());
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

/// Returns whether a trace came with an answer and has not been joined to this instance's calls.
/// The last entry of such a trace is a boundary.
pub(super) fn is_foreign(trace: &Trace) -> bool {
    trace.entries.last().is_none_or(|entry| entry.boundary.is_some())
}

fn joined(inner: &Trace, outer: &Trace) -> Rc<Trace> {
    let mut entries = inner.entries.clone();
    entries.extend(outer.entries.iter().cloned());
    entries.truncate(50);
    let also = inner.also.iter().chain(&outer.also).cloned().collect();
    let requests = inner.requests.clone();
    Rc::new(Trace { entries, omitted: inner.omitted + outer.omitted, also, program: 0, requests })
}

/// Returns the running calls, innermost first. Of many, only both ends of the chain are kept.
pub(super) fn trace_of(image: &Image, fiber: &Fiber) -> Trace {
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
            continue; // a stub is not a call of the program
        }
        let place = image.code.place(frame.function, (frame.pc as usize).saturating_sub(1));
        entries.push(TraceEntry { function: f.name.clone(), place, boundary: None });
    }
    Trace { entries, omitted: count.saturating_sub(INNER + OUTER) as u64, ..Trace::default() }
}

/// Returns the place of a fiber's innermost call. A call within the standard library or a stub
/// counts at the place from which the program called it.
pub(super) fn call_place(image: &Image, fiber: &Fiber) -> Place {
    let frames =
        fiber.frames.iter().rev().filter(|frame| image.code.functions[frame.function as usize].hidden == 0);
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
