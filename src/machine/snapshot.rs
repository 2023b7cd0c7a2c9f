//! A machine as bytes, and back.
//!
//! Values form a graph: several registers can hold one list, functions share cells, and a cell can
//! hold a function that captured it. So each referenced object gets a number and is written once,
//! children before parents. Cycles pass only through cells and tasks, which are made empty first
//! and filled at the end. Nothing here recurses, however deep the values are.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

use crate::builtins::{Context, Effect};
use crate::internal::sure;
use crate::syntax::Place;

use super::cancel::Cause;
use super::error::{Failure, Trace};
use super::messages::Section;
use super::provenance;
use super::task::{How, Join, Outcome, Task};
use super::value::{Charge, Closure, EntityRef, Env, Keys, Record, Shared, Value, intern};
use super::{
    Data, EntityId, Fiber, Frame, Handler, Identity, Image, Machine, Request, RequestKind, ResultMode, Wait,
};

/// The version of a machine's stored form and of the rules by which it runs. A snapshot of another
/// version is ignored.
pub(crate) const FORM: u32 = 3;

/// A value: a small one itself, any other by the number of its object, cell or task.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Small {
    Null,
    Missing,
    Bool(bool),
    Int(i64),
    Float(f64),
    Duration(i64),
    Instant(i64),
    Builtin(u16),
    Object(u32),
    Cell(u32),
    Task(u32),
}

/// An object that values refer to. The objects within it have lower numbers.
#[derive(Serialize, Deserialize)]
enum Object {
    Text(String),
    Bytes(Vec<u8>),
    List(Vec<Small>),
    Record { keys: u32, values: Vec<Small> },
    Function { function: u32, env: Small },
    Env(Vec<Small>),
    Entity { name: String, key: Small },
    Trace(Trace),
}

#[derive(Serialize, Deserialize)]
enum Ended {
    Running,
    Value(Small),
    Failed(Small, Option<Trace>),
}

#[derive(Serialize, Deserialize)]
struct SavedTask {
    id: u64,
    outcome: Ended,
    observed: bool,
    waiters: Vec<(u64, u64)>,
}

#[derive(Serialize, Deserialize)]
enum SavedWait {
    Nothing,
    Answer(u64),
    Tasks { how: How, tasks: Vec<u32>, keys: Option<u32>, remaining: u64 },
    Shielded(u64),
}

#[derive(Serialize, Deserialize)]
struct SavedFiber {
    id: u64,
    stack: Vec<Small>,
    frames: Vec<(u32, u32, u32, u32)>,
    handlers: Vec<(u32, u32, u16)>,
    task: u32,
    wait: SavedWait,
    thrown: Option<(Small, Option<Trace>)>,
    cancelled: Option<Cause>,
    given_up: bool,
    reported: bool,
    parent: u64,
    /// The number of the parent's scope in which the fiber began.
    scope: u32,
    attempts: Vec<i64>,
    judge: Option<Small>,
    charge: u64,
}

/// The stored form of a [`Request`].
#[derive(Serialize, Deserialize, Clone, PartialEq)]
pub(crate) struct SavedRequest {
    seq: u64,
    what: SavedWhat,
    args: Data,
    place: Place,
}

/// The stored form of a [`RequestKind`], with effects by name.
#[derive(Serialize, Deserialize, Clone, PartialEq)]
enum SavedWhat {
    Effect(String),
    Activity { name: String, options: Data },
    Orchestration { name: String, options: Data, start: bool },
    Operation { entity: EntityId, operation: String, signal: Option<Data> },
}

#[derive(Serialize, Deserialize)]
struct Saved {
    context: Context,
    function: u32,
    section: Option<Section>,
    next_section: u64,
    identity: Identity,
    keys: Vec<Vec<String>>,
    objects: Vec<Object>,
    cells: Vec<Small>,
    tasks: Vec<SavedTask>,
    fibers: Vec<SavedFiber>,
    ready: Vec<u64>,
    next_fiber: u64,
    next_request: u64,
    waiting: Vec<(u64, u64)>,
    requests: Vec<SavedRequest>,
    withdrawn: Vec<u64>,
    main: u32,
    failed: Vec<u32>,
    ending: bool,
    result: ResultMode,
    value: Small,
}

impl Machine {
    /// Returns the whole state of an instance's machine as bytes, without the program's code.
    pub fn snapshot(&self) -> Vec<u8> {
        sure(self.snapshot_within(usize::MAX).ok_or("none"), "there is room for a snapshot without a limit")
    }

    /// As `snapshot`, or `None` if it would take more than about `most` bytes. Finding that out
    /// takes time proportional to `most`.
    pub fn snapshot_within(&self, most: usize) -> Option<Vec<u8>> {
        let mut writer = Writer { left: most, ..Writer::default() };
        let main = writer.task(&self.main);
        let scope = |id: &u64, fiber: &Fiber| {
            self.fibers.get(&fiber.parent).and_then(|parent| parent.inner.get(id).copied()).unwrap_or(0)
        };
        let fibers = self.fibers.iter().map(|(id, fiber)| {
            let saved = writer.fiber(*id, fiber, &self.image);
            SavedFiber { scope: scope(id, fiber), ..saved }
        });
        let fibers = fibers.collect();
        let failed = self.failed.iter().map(|task| writer.task(task)).collect();
        let value = writer.value(&self.value);
        let (cells, tasks) = writer.reached();
        if writer.is_over {
            return None;
        }
        let mut of = std::mem::take(&mut writer.provenance);
        of.add(&self.provenance, self.ready.is_empty(), |at| writer.numbers.get(&at).copied());
        let saved = Saved {
            context: self.context,
            function: self.function,
            section: self.section.clone(),
            next_section: self.next_section,
            identity: self.identity.clone(),
            keys: writer.keys,
            objects: writer.objects,
            cells,
            tasks,
            fibers,
            ready: self.ready.iter().copied().collect(),
            next_fiber: self.next_fiber,
            next_request: self.next_request,
            waiting: self.waiting.iter().map(|(seq, fiber)| (*seq, *fiber)).collect(),
            requests: self
                .requests
                .iter()
                .filter(|request| !self.unmade.contains(&request.seq))
                .map(saved_request)
                .collect(),
            withdrawn: self.withdrawn.clone(),
            main,
            failed,
            ending: self.ending,
            result: self.result,
            value,
        };
        Some(of.append(sure(postcard::to_stdvec(&saved), "writing to memory does not fail")))
    }

    /// Restores a machine from a snapshot and its program. Returns `None` if the bytes are not a
    /// snapshot of a machine of this program.
    pub fn restore(image: Rc<Image>, bytes: &[u8]) -> Option<Machine> {
        let (saved, rest) = postcard::take_from_bytes::<Saved>(bytes).ok()?;
        let of = provenance::Saved::read(rest)?;
        let reader = Reader::new(saved.keys, saved.objects, &saved.cells, &saved.tasks, &of)?;
        let mut fibers: BTreeMap<u64, Box<Fiber>> = BTreeMap::new();
        let mut around = Vec::new();
        for fiber in saved.fibers {
            around.push((fiber.parent, fiber.id, fiber.scope));
            fibers.insert(fiber.id, Box::new(reader.fiber(fiber, &of, &image)?));
        }
        for (parent, id, scope) in around.into_iter().filter(|(parent, id, _)| parent != id) {
            if let Some(parent) = fibers.get_mut(&parent) {
                parent.inner.insert(id, scope);
            }
        }
        let tasks_hold = fibers.values().map(|fiber| fiber.charge.get()).sum();
        Some(Machine {
            context: saved.context,
            function: saved.function,
            section: saved.section,
            next_section: saved.next_section,
            left: Vec::new(),
            names_freely: false,
            sends: Vec::new(),
            state: None,
            pauses: None,
            identity: saved.identity,
            fibers,
            ready: VecDeque::from(saved.ready),
            next_fiber: saved.next_fiber,
            next_request: saved.next_request,
            spent: 0,
            waiting: saved.waiting.into_iter().collect(),
            requests: saved.requests.into_iter().map(request).collect::<Option<_>>()?,
            unmade: BTreeSet::new(),
            withdrawn: saved.withdrawn,
            tasks_hold,
            main: reader.tasks.get(saved.main as usize)?.clone(),
            failed: saved
                .failed
                .iter()
                .map(|at| reader.tasks.get(*at as usize).cloned())
                .collect::<Option<_>>()?,
            provenance: of.restore(&reader.objects)?,
            ending: saved.ending,
            result: saved.result,
            value: reader.value(saved.value)?,
            image,
        })
    }
}

/// Returns a copy of a value that shares nothing with it, captured variables included.
pub(super) fn copied(value: &Value) -> Option<Value> {
    let mut writer = Writer { left: usize::MAX, ..Writer::default() };
    let small = writer.value(value);
    let (cells, tasks) = writer.reached();
    Reader::new(writer.keys, writer.objects, &cells, &tasks, &writer.provenance)?.value(small)
}

/// Returns the stored form of a request.
pub(crate) fn saved_request(request: &Request) -> SavedRequest {
    let what = match request.what.clone() {
        RequestKind::Effect(effect) => SavedWhat::Effect(effect.name().to_string()),
        RequestKind::Activity { name, options } => SavedWhat::Activity { name, options },
        RequestKind::Orchestration { name, options, start } => {
            SavedWhat::Orchestration { name, options, start }
        }
        RequestKind::Operation { entity, operation, signal } => {
            SavedWhat::Operation { entity, operation, signal }
        }
    };
    SavedRequest { seq: request.seq, what, args: request.args.clone(), place: request.place }
}

/// Returns the request of a stored form, or `None` if this version does not know its effect.
pub(crate) fn request(saved: SavedRequest) -> Option<Request> {
    let what = match saved.what {
        SavedWhat::Effect(name) => RequestKind::Effect(Effect::find(&name)?),
        SavedWhat::Activity { name, options } => RequestKind::Activity { name, options },
        SavedWhat::Orchestration { name, options, start } => {
            RequestKind::Orchestration { name, options, start }
        }
        SavedWhat::Operation { entity, operation, signal } => {
            RequestKind::Operation { entity, operation, signal }
        }
    };
    Some(Request { seq: saved.seq, what, args: saved.args, place: saved.place })
}

// ---- writing

/// A writer, which numbers objects by their addresses. All of them live as long as the machine.
#[derive(Default)]
struct Writer {
    numbers: HashMap<*const u8, u32>,
    objects: Vec<Object>,
    key_numbers: HashMap<*const Keys, u32>,
    keys: Vec<Vec<String>>,
    cell_numbers: HashMap<*const Shared, u32>,
    cells: Vec<Rc<Shared>>,
    task_numbers: HashMap<*const Task, u32>,
    tasks: Vec<Rc<Task>>,
    /// The approximate number of bytes left, and whether they were exceeded. Then the output is
    /// useless.
    left: usize,
    is_over: bool,
    provenance: provenance::Saved,
}

/// The approximate number of bytes of a value, beside those of its object.
const VALUE_BYTES: usize = 4;

/// Returns the values directly within an object.
fn within(value: &Value) -> &[Value] {
    match value {
        Value::List(list) => list.as_slice(),
        Value::Record(record) => record.values(),
        Value::Function(closure) => std::slice::from_ref(&closure.env),
        Value::Env(env) => &env.values,
        Value::Entity(entity) => std::slice::from_ref(&entity.key),
        _ => &[],
    }
}

impl Writer {
    /// Writes the values of all cells and tasks met so far, and of those met while writing.
    fn reached(&mut self) -> (Vec<Small>, Vec<SavedTask>) {
        let (mut cells, mut tasks) = (Vec::new(), Vec::new());
        loop {
            if let Some(cell) = self.cells.get(cells.len()).cloned() {
                let value = cell.value.borrow().clone();
                cells.push(self.value(&value));
            } else if let Some(task) = self.tasks.get(tasks.len()).cloned() {
                tasks.push(self.saved_task(&task, tasks.len() as u32));
            } else {
                return (cells, tasks);
            }
        }
    }

    fn cell(&mut self, cell: &Rc<Shared>) -> u32 {
        *self.cell_numbers.entry(Rc::as_ptr(cell)).or_insert_with(|| {
            self.cells.push(cell.clone());
            (self.cells.len() - 1) as u32
        })
    }

    fn task(&mut self, task: &Rc<Task>) -> u32 {
        *self.task_numbers.entry(Rc::as_ptr(task)).or_insert_with(|| {
            self.tasks.push(task.clone());
            (self.tasks.len() - 1) as u32
        })
    }

    fn keys(&mut self, keys: &Rc<Keys>) -> u32 {
        *self.key_numbers.entry(Rc::as_ptr(keys)).or_insert_with(|| {
            self.keys.push(keys.names().iter().map(|name| name.to_string()).collect());
            (self.keys.len() - 1) as u32
        })
    }

    /// Accounts for bytes that are about to be written.
    fn take(&mut self, bytes: usize) {
        self.is_over |= bytes > self.left;
        self.left = self.left.saturating_sub(bytes);
    }

    /// Writes a value and everything within it.
    fn value(&mut self, value: &Value) -> Small {
        if self.is_over {
            return Small::Null;
        }
        if let Some(small) = self.small(value) {
            return small;
        }
        // Each open object, with the number of its inner values that are written.
        let mut open: Vec<(Value, usize)> = vec![(value.clone(), 0)];
        while let Some((current, done)) = open.pop() {
            if done == 0 && !current.address().is_some_and(|at| self.numbers.contains_key(&at)) {
                let own = match &current {
                    Value::Str(text) => text.as_str().len(),
                    Value::Bytes(blob) => blob.bytes.len(),
                    other => within(other).len() * VALUE_BYTES,
                };
                self.take(VALUE_BYTES + own);
            }
            if self.is_over {
                return Small::Null;
            }
            match within(&current).get(done).cloned() {
                Some(inner) => {
                    open.push((current, done + 1));
                    if self.small(&inner).is_none() {
                        open.push((inner, 0));
                    }
                }
                None => self.object(&current),
            }
        }
        self.small(value).unwrap_or(Small::Null)
    }

    /// Returns the stored form of a value, if its object is written or it has none.
    fn small(&mut self, value: &Value) -> Option<Small> {
        Some(match value {
            Value::Null => Small::Null,
            Value::Missing => Small::Missing,
            Value::Bool(b) => Small::Bool(b.get()),
            Value::Int(n) => Small::Int(*n),
            Value::Float(x) => Small::Float(x.get()),
            Value::Duration(n) => Small::Duration(*n),
            Value::Instant(n) => Small::Instant(*n),
            Value::Builtin(id) => Small::Builtin(*id as u16),
            Value::Cell(cell) => Small::Cell(self.cell(cell)),
            Value::Task(task) => Small::Task(self.task(task)),
            other => Small::Object(*self.numbers.get(&other.address()?)?),
        })
    }

    /// Writes an object whose inner values are written.
    fn object(&mut self, value: &Value) {
        let Some(address) = value.address() else { return };
        if self.numbers.contains_key(&address) {
            return;
        }
        let inner: Vec<Small> =
            within(value).iter().map(|inner| self.small(inner).unwrap_or(Small::Null)).collect();
        let first = inner.first().copied().unwrap_or(Small::Null);
        let object = match value {
            Value::Str(text) => Object::Text(text.as_str().to_string()),
            Value::Bytes(blob) => Object::Bytes(blob.bytes.clone()),
            Value::List(_) => Object::List(inner),
            Value::Record(record) => Object::Record { keys: self.keys(record.keys()), values: inner },
            Value::Function(closure) => Object::Function { function: closure.function, env: first },
            Value::Env(_) => Object::Env(inner),
            Value::Entity(entity) => Object::Entity { name: entity.name.to_string(), key: first },
            Value::Trace(trace) => {
                self.provenance.add_trace(self.objects.len() as u32, trace);
                Object::Trace((**trace).clone())
            }
            _ => return,
        };
        self.numbers.insert(address, self.objects.len() as u32);
        self.objects.push(object);
    }

    /// Writes the task with number `number`.
    fn saved_task(&mut self, task: &Rc<Task>, number: u32) -> SavedTask {
        self.provenance.add_task(number, task);
        let outcome = match task.outcome.borrow().clone() {
            Outcome::Running => Ended::Running,
            Outcome::Value(value) => Ended::Value(self.value(&value)),
            Outcome::Failed(failure) => {
                Ended::Failed(self.value(&failure.value), failure.trace.map(|trace| (*trace).clone()))
            }
        };
        let waiters = task.waiters.borrow().iter().map(|(fiber, at)| (*fiber, *at as u64)).collect();
        SavedTask { id: task.id, outcome, observed: task.observed.get(), waiters }
    }

    fn fiber(&mut self, id: u64, fiber: &Fiber, image: &Image) -> SavedFiber {
        let window = |frame: &Frame| {
            frame.base as usize + image.code.functions[frame.function as usize].registers as usize
        };
        let used = fiber.frames.iter().map(window).max().unwrap_or(0).min(fiber.stack.len());
        self.take(used * VALUE_BYTES + fiber.frames.len() * 8);
        let used = if self.is_over { 0 } else { used };
        let stack = fiber.stack[..used].iter().map(|value| self.value(value)).collect();
        let wait = match &fiber.wait {
            Wait::Nothing => SavedWait::Nothing,
            Wait::Answer { seq } => SavedWait::Answer(*seq),
            Wait::Shielded { seq } => SavedWait::Shielded(*seq),
            Wait::Tasks(join) => SavedWait::Tasks {
                how: join.how,
                tasks: join.tasks.iter().map(|task| self.task(task)).collect(),
                keys: join.keys.as_ref().map(|keys| self.keys(keys)),
                remaining: join.remaining as u64,
            },
        };
        let thrown = fiber.thrown.as_ref().map(|failure| {
            let trace = failure.trace.as_ref().map(|trace| (**trace).clone());
            self.provenance.add_thrown(id, failure);
            (self.value(&failure.value), trace)
        });
        SavedFiber {
            id,
            stack,
            frames: fiber
                .frames
                .iter()
                .map(|frame| (frame.function, frame.pc, frame.base, frame.result))
                .collect(),
            handlers: fiber
                .handlers
                .iter()
                .map(|handler| (handler.frames, handler.pc, handler.error))
                .collect(),
            task: self.task(&fiber.task),
            wait,
            thrown,
            cancelled: fiber.cancelled.as_deref().cloned(),
            given_up: fiber.given_up,
            reported: fiber.reported,
            parent: fiber.parent,
            scope: 0,
            attempts: fiber.attempts.clone(),
            judge: fiber.judge.as_ref().map(|when| self.value(when)),
            charge: fiber.charge.get() as u64,
        }
    }
}

// ---- reading

struct Reader {
    keys: Vec<Rc<Keys>>,
    objects: Vec<Value>,
    cells: Vec<Rc<Shared>>,
    tasks: Vec<Rc<Task>>,
}

impl Reader {
    fn new(
        keys: Vec<Vec<String>>,
        objects: Vec<Object>,
        cells: &[Small],
        tasks: &[SavedTask],
        of: &provenance::Saved,
    ) -> Option<Reader> {
        let keys =
            keys.into_iter().map(|names| Rc::new(Keys::new(names.iter().map(|n| intern(n)).collect())));
        let mut reader = Reader {
            keys: keys.collect(),
            objects: Vec::new(),
            cells: cells.iter().map(|_| Rc::new(Shared { value: RefCell::new(Value::Null) })).collect(),
            tasks: tasks.iter().map(|task| Task::new(task.id)).collect(),
        };
        for object in objects {
            let mut value = reader.object(object)?;
            if let Value::Trace(trace) = &mut value {
                of.restore_trace(reader.objects.len() as u32, trace);
            }
            reader.objects.push(value);
        }
        for (cell, value) in reader.cells.iter().zip(cells) {
            *cell.value.borrow_mut() = reader.value(*value)?;
        }
        for (number, (task, saved)) in reader.tasks.iter().zip(tasks).enumerate() {
            *task.outcome.borrow_mut() = match &saved.outcome {
                Ended::Running => Outcome::Running,
                Ended::Value(value) => Outcome::Value(reader.value(*value)?),
                Ended::Failed(value, trace) => Outcome::Failed(Failure {
                    value: reader.value(*value)?,
                    trace: trace.clone().map(Rc::new),
                }),
            };
            of.restore_task(number as u32, task);
            task.observed.set(saved.observed);
            *task.waiters.borrow_mut() =
                saved.waiters.iter().map(|(fiber, at)| (*fiber, *at as usize)).collect();
        }
        Some(reader)
    }

    fn value(&self, small: Small) -> Option<Value> {
        Some(match small {
            Small::Null => Value::Null,
            Small::Missing => Value::Missing,
            Small::Bool(b) => Value::bool(b),
            Small::Int(n) => Value::Int(n),
            Small::Float(x) => Value::float(x),
            Small::Duration(n) => Value::Duration(n),
            Small::Instant(n) => Value::Instant(n),
            Small::Builtin(id) => Value::Builtin(u64::from(id)),
            Small::Object(at) => self.objects.get(at as usize)?.clone(),
            Small::Cell(at) => Value::Cell(self.cells.get(at as usize)?.clone()),
            Small::Task(at) => Value::Task(self.tasks.get(at as usize)?.clone()),
        })
    }

    fn values(&self, smalls: Vec<Small>) -> Option<Vec<Value>> {
        smalls.into_iter().map(|small| self.value(small)).collect()
    }

    fn object(&self, object: Object) -> Option<Value> {
        Some(match object {
            Object::Text(text) => Value::str(text),
            Object::Bytes(bytes) => Value::bytes(bytes),
            Object::List(items) => Value::list(self.values(items)?),
            Object::Record { keys, values } => Value::Record(Rc::new(Record::new(
                self.keys.get(keys as usize)?.clone(),
                self.values(values)?,
            ))),
            Object::Function { function, env } => {
                Value::Function(Rc::new(Closure { function, env: self.value(env)? }))
            }
            Object::Env(values) => Value::Env(Rc::new(Env { values: self.values(values)? })),
            Object::Entity { name, key } => {
                Value::Entity(Rc::new(EntityRef { name: name.as_str().into(), key: self.value(key)? }))
            }
            Object::Trace(trace) => Value::Trace(Rc::new(trace)),
        })
    }

    fn fiber(&self, saved: SavedFiber, of: &provenance::Saved, image: &Image) -> Option<Fiber> {
        let wait = match saved.wait {
            SavedWait::Nothing => Wait::Nothing,
            SavedWait::Answer(seq) => Wait::Answer { seq },
            SavedWait::Shielded(seq) => Wait::Shielded { seq },
            SavedWait::Tasks { how, tasks, keys, remaining } => Wait::Tasks(Join {
                how,
                tasks: tasks.iter().map(|at| self.tasks.get(*at as usize).cloned()).collect::<Option<_>>()?,
                keys: match keys {
                    Some(keys) => Some(self.keys.get(keys as usize)?.clone()),
                    None => None,
                },
                remaining: remaining as usize,
            }),
        };
        let thrown = match saved.thrown {
            Some((value, trace)) => {
                let mut failure = Failure { value: self.value(value)?, trace: trace.map(Rc::new) };
                of.restore_thrown(saved.id, &mut failure);
                Some(Box::new(failure))
            }
            None => None,
        };
        let frames: Vec<Frame> = saved
            .frames
            .iter()
            .map(|(function, pc, base, result)| Frame {
                function: *function,
                pc: *pc,
                base: *base,
                result: *result,
            })
            .collect();
        let stack = self.values(saved.stack)?;
        // The code relies on this: each frame has a function of this program, an instruction of it,
        // and its whole window.
        for frame in &frames {
            let function = image.code.functions.get(frame.function as usize)?;
            let fits = frame.base as usize + function.registers as usize <= stack.len()
                && frame.pc as usize <= function.ops.len();
            fits.then_some(())?;
        }
        Some(Fiber {
            stack,
            frames,
            handlers: saved
                .handlers
                .iter()
                .map(|(frames, pc, error)| Handler { frames: *frames, pc: *pc, error: *error })
                .collect(),
            task: self.tasks.get(saved.task as usize)?.clone(),
            wait,
            thrown,
            cancelled: saved.cancelled.map(Box::new),
            given_up: saved.given_up,
            reported: saved.reported,
            parent: saved.parent,
            inner: BTreeMap::new(),
            attempts: saved.attempts,
            judge: match saved.judge {
                Some(when) => Some(self.value(when)?),
                None => None,
            },
            charge: Charge::new(saved.charge as usize),
        })
    }
}
