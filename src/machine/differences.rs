//! The differences between the variables of two machines, which run two texts of a program and have
//! made the same requests.
//!
//! Both machines run debug code, in which every variable has a register as long as it can be seen.
//! Tasks are paired by the requests that they wait for, calls by the names of their functions, and
//! variables by their names. A variable counts if the new text reads it after the wait.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::rc::Rc;

use serde::{Deserialize, Serialize};

use crate::check::STD;
use crate::code::{FunctionId, Reg, read_after};

use super::inspect::Waiting;
use super::value::{Outcome, Value};
use super::{Image, Machine, format};

/// A variable that has another value with the new text. Values are as programs write them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Difference {
    pub name: String,
    /// The function that the variable is in.
    pub function: String,
    /// The first part that differs, such as `order.items[2].price`. Both values are of this part.
    pub part: String,
    pub before: String,
    pub now: String,
}

/// A variable that only one of the texts has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Unpaired {
    pub name: String,
    pub function: String,
    pub value: String,
    /// Whether the new text has the variable.
    pub is_new: bool,
}

/// The comparison of two machines.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Differences {
    pub differ: Vec<Difference>,
    pub unpaired: Vec<Unpaired>,
}

/// The greatest length of a shown value.
const SHOWN: usize = 100;
/// The part of a long value that is searched for the place at which it differs.
const SEARCHED: usize = 100_000;

/// For each call that waits at an instruction: the registers that are read afterwards.
type Reads = HashMap<(FunctionId, u32), Rc<[bool]>>;

/// Debug code, with what is known of the registers that it reads.
pub struct Debugged {
    pub image: Rc<Image>,
    reads: RefCell<Reads>,
}

impl Debugged {
    pub fn new(image: Rc<Image>) -> Debugged {
        Debugged { image, reads: RefCell::default() }
    }

    /// Whether the value of a register is read after the instruction that a call waits at.
    fn reads(&self, function: FunctionId, pc: u32, register: Reg) -> bool {
        let mut known = self.reads.borrow_mut();
        let of_call = known
            .entry((function, pc))
            .or_insert_with(|| read_after(&self.image.code, function, pc as usize).into());
        of_call.get(usize::from(register)).copied().unwrap_or(true)
    }

    fn name_of(&self, function: FunctionId) -> &str {
        &self.image.code.functions[function as usize].name
    }

    /// Returns the captured variables of a function that the program names, with their indexes.
    fn captured(&self, function: FunctionId) -> impl Iterator<Item = (usize, &str)> {
        let tables = self.image.code.debug.as_ref();
        let of = tables.and_then(|tables| tables.variables.get(function as usize));
        let captured = of.map_or(&[][..], |variables| &variables.captured[..]).iter().enumerate();
        captured.filter(|(_, captured)| captured.is_own).map(|(at, captured)| (at, captured.name.as_str()))
    }
}

/// One of the two machines. It waits.
struct Side<'a> {
    machine: &'a Machine,
    debugged: &'a Debugged,
    /// The tasks, by the requests that each of them waits for.
    tasks: BTreeMap<String, u64>,
    keys: HashMap<u64, String>,
}

/// A variable that a call sees.
struct Seen {
    value: Value,
    /// Whether the variable is read after the wait.
    is_read: bool,
    /// Whether the program names the variable, in one of its own functions.
    is_own: bool,
}

/// A function, the number of its call among those of this function, and a variable's name.
type Name = (String, usize, String);

/// Compares the variables of two machines that wait for the same answers.
pub fn differences(before: (&Machine, &Debugged), now: (&Machine, &Debugged)) -> Differences {
    let (before, now) = (Side::new(before), Side::new(now));
    let keys: BTreeSet<&String> = before.tasks.keys().chain(now.tasks.keys()).collect();
    let mut differ: BTreeMap<(String, String), Difference> = BTreeMap::new();
    let mut unpaired: BTreeMap<(String, String, bool), Unpaired> = BTreeMap::new();
    let mut walk = Walk { before: &before, now: &now, equal: HashSet::new(), kept: Vec::new() };
    for key in keys {
        let (mut old, new) = (before.seen(key), now.seen(key));
        for ((function, number, name), found) in new {
            let former = old.remove(&(function.clone(), number, name.clone()));
            let at = (name.clone(), function.clone());
            match former {
                Some(former) if found.is_read && !differ.contains_key(&at) => {
                    if let Some((part, before, now)) = walk.compare(&name, &former.value, &found.value) {
                        differ.insert(at, Difference { name, function, part, before, now });
                    }
                }
                None if found.is_read && found.is_own => {
                    let (value, is_new) = (now.shown(&found.value, SHOWN), true);
                    let only = Unpaired { name, function, value, is_new };
                    unpaired.entry((at.0, at.1, is_new)).or_insert(only);
                }
                _ => {}
            }
        }
        for ((function, _, name), former) in old.into_iter().filter(|(_, of)| of.is_read && of.is_own) {
            let (value, is_new) = (before.shown(&former.value, SHOWN), false);
            let at = (name.clone(), function.clone(), is_new);
            unpaired.entry(at).or_insert(Unpaired { name, function, value, is_new });
        }
    }
    Differences { differ: differ.into_values().collect(), unpaired: unpaired.into_values().collect() }
}

impl<'a> Side<'a> {
    fn new((machine, debugged): (&'a Machine, &'a Debugged)) -> Side<'a> {
        let mut side = Side { machine, debugged, tasks: BTreeMap::new(), keys: HashMap::new() };
        for task in machine.tasks() {
            let key = match task {
                0 => "main".to_string(),
                task => side.requests(task),
            };
            // Tasks that wait for the same requests are in the order in which they began.
            let numbers =
                (0..).map(|number| if number == 0 { key.clone() } else { format!("{key}#{number}") });
            let key = numbers.into_iter().find(|key| !side.tasks.contains_key(key)).unwrap_or_default();
            side.keys.insert(task, key.clone());
            side.tasks.insert(key, task);
        }
        side
    }

    /// Returns the numbers of the requests that a task waits for, directly or by other tasks.
    fn requests(&self, task: u64) -> String {
        let (mut open, mut met, mut found) = (vec![task], HashSet::from([task]), BTreeSet::new());
        while let Some(task) = open.pop() {
            match self.machine.waits_for(task) {
                Waiting::Request(seq) => {
                    found.insert(seq);
                }
                Waiting::Tasks(tasks) => open.extend(tasks.into_iter().filter(|task| met.insert(*task))),
                Waiting::Nothing => {}
            }
        }
        found.iter().map(|seq| format!("{seq} ")).collect()
    }

    /// Returns the variables that the calls of a task see.
    fn seen(&self, key: &str) -> BTreeMap<Name, Seen> {
        let Some(task) = self.tasks.get(key).copied() else { return BTreeMap::new() };
        let code = &self.debugged.image.code;
        let mut all = BTreeMap::new();
        let mut calls: HashMap<&str, usize> = HashMap::new();
        for (at, call) in self.machine.calls(task).into_iter().enumerate() {
            let function = &code.functions[call.function as usize];
            if function.hidden != 0 {
                continue;
            }
            let file = code.sources.files.get(function.place.source as usize);
            let is_own = file.is_some_and(|file| !file.name.starts_with(STD));
            let number = *calls.entry(&function.name).and_modify(|count| *count += 1).or_default();
            let named = |name: String| (function.name.clone(), number, name);
            for variable in self.machine.variables(task, at) {
                let Some(value) = variable.value.value().cloned() else { continue };
                // Functions that run later may read what they share.
                let is_shared = variable.is_captured || variable.cell.is_some();
                let reads = |register| self.debugged.reads(call.function, call.pc, register);
                let is_read = is_shared || variable.register.is_none_or(reads);
                all.insert(named(variable.name), Seen { value, is_read, is_own });
            }
            for (depth, (name, value)) in self.machine.loops(task, at).into_iter().enumerate() {
                let name = match name {
                    Some(name) => format!("the rest of the loop of {name}"),
                    None => format!("the rest of the loop at depth {depth}"),
                };
                all.insert(named(name), Seen { value, is_read: true, is_own: false });
            }
        }
        all
    }

    fn shown(&self, value: &Value, most: usize) -> String {
        match value {
            Value::Function(closure) => format!("<function {}>", self.debugged.name_of(closure.function)),
            Value::Cell(cell) => self.shown(&cell.value.borrow(), most),
            value => format::write(value, most).0,
        }
    }
}

/// The way from a variable to one of its parts.
enum Part {
    Variable(String),
    Field(Rc<Part>, String),
    Index(Rc<Part>, usize),
    Key(Rc<Part>),
    Captured(Rc<Part>, String),
    Result(Rc<Part>),
    /// The same part, which is shared.
    Same(Rc<Part>),
}

impl Part {
    fn text(&self) -> String {
        match self {
            Part::Variable(name) => name.clone(),
            Part::Field(of, name) if format::is_word(name) => format!("{}.{name}", of.text()),
            Part::Field(of, name) => format!("{}[{name:?}]", of.text()),
            Part::Index(of, at) => format!("{}[{at}]", of.text()),
            Part::Key(of) => format!("the key of {}", of.text()),
            Part::Captured(of, name) => format!("{name} captured by {}", of.text()),
            Part::Result(of) => format!("the result of {}", of.text()),
            Part::Same(of) => of.text(),
        }
    }
}

/// The relation between two values.
enum Relation {
    Same,
    Other,
    /// The values are the same if their parts are.
    Parts,
}

/// A comparison of values. It keeps its place itself, so values may be nested to any depth.
struct Walk<'a> {
    before: &'a Side<'a>,
    now: &'a Side<'a>,
    /// The pairs of parts that are equal or being compared, by their addresses.
    equal: HashSet<(usize, usize)>,
    /// The compared values, so that no address is used again.
    kept: Vec<(Value, Value)>,
}

/// Two values, and the way to them.
type Pair = (Value, Value, Rc<Part>);

impl Walk<'_> {
    /// Returns the first part of a variable that differs, with both of its values.
    fn compare(&mut self, name: &str, before: &Value, now: &Value) -> Option<(String, String, String)> {
        let variable = Rc::new(Part::Variable(name.to_string()));
        self.kept.push((before.clone(), now.clone()));
        let mut open: Vec<(Pair, usize)> = Vec::new();
        let mut next = Some((before.clone(), now.clone(), variable));
        loop {
            if let Some((a, b, part)) = next.take() {
                match self.relation(&a, &b) {
                    Relation::Same => {}
                    Relation::Other => {
                        for ((a, b, _), _) in &open {
                            self.equal.remove(&(address(a), address(b)));
                        }
                        let (before, now) = self.both(&a, &b);
                        return Some((part.text(), before, now));
                    }
                    Relation::Parts => {
                        if self.equal.insert((address(&a), address(&b))) {
                            open.push(((a, b, part), 0));
                        }
                    }
                }
            }
            let (pair, at) = open.last_mut()?;
            match self.part(pair, *at) {
                Some(found) => {
                    *at += 1;
                    next = found;
                }
                None => {
                    open.pop();
                }
            }
        }
    }

    fn relation(&self, a: &Value, b: &Value) -> Relation {
        let same = match (a, b) {
            (Value::Null, Value::Null) | (Value::Missing, Value::Missing) => true,
            // Places and environments are the text's.
            (Value::Trace(_), Value::Trace(_)) | (Value::Env(_), Value::Env(_)) => true,
            (Value::Bool(a), Value::Bool(b)) => a.get() == b.get(),
            (Value::Int(a), Value::Int(b)) => a == b,
            (Value::Float(a), Value::Float(b)) => {
                a.get().to_bits() == b.get().to_bits() || (a.get().is_nan() && b.get().is_nan())
            }
            (Value::Duration(a), Value::Duration(b)) | (Value::Instant(a), Value::Instant(b)) => a == b,
            (Value::Builtin(a), Value::Builtin(b)) => a == b,
            (Value::Str(a), Value::Str(b)) => a.as_str() == b.as_str(),
            (Value::Bytes(a), Value::Bytes(b)) => a.bytes == b.bytes,
            (Value::List(a), Value::List(b)) if a.len() == b.len() => return Relation::Parts,
            (Value::Record(a), Value::Record(b))
                if a.len() == b.len() && a.iter().all(|(name, _)| b.get(name).is_some()) =>
            {
                return Relation::Parts;
            }
            (Value::Entity(a), Value::Entity(b)) if a.name == b.name => return Relation::Parts,
            (Value::Function(a), Value::Function(b)) => {
                // Other code under the same name is a part of the text, and no state.
                match self.before.debugged.name_of(a.function) == self.now.debugged.name_of(b.function) {
                    true => return Relation::Parts,
                    false => false,
                }
            }
            (Value::Task(a), Value::Task(b)) => match (&*a.outcome.borrow(), &*b.outcome.borrow()) {
                (Outcome::Running, Outcome::Running) => {
                    self.before.keys.get(&a.id) == self.now.keys.get(&b.id)
                }
                (Outcome::Value(_), Outcome::Value(_)) | (Outcome::Failed(_), Outcome::Failed(_)) => {
                    return Relation::Parts;
                }
                _ => false,
            },
            (Value::Cell(_), Value::Cell(_)) => return Relation::Parts,
            _ => false,
        };
        if same { Relation::Same } else { Relation::Other }
    }

    /// Returns a part of two values, or `None` after the last. The part is `None` if it is not
    /// compared.
    fn part(&self, (a, b, of): &Pair, at: usize) -> Option<Option<Pair>> {
        let of = of.clone();
        let found = |a: &Value, b: &Value, part: Part| Some(Some((a.clone(), b.clone(), Rc::new(part))));
        match (a, b) {
            (Value::List(a), Value::List(b)) => {
                found(a.as_slice().get(at)?, b.as_slice().get(at)?, Part::Index(of, at))
            }
            (Value::Record(a), Value::Record(b)) => {
                let name = a.keys().names().get(at)?;
                found(a.values().get(at)?, b.get(name)?, Part::Field(of, name.to_string()))
            }
            (Value::Entity(a), Value::Entity(b)) if at == 0 => found(&a.key, &b.key, Part::Key(of)),
            (Value::Cell(a), Value::Cell(b)) if at == 0 => {
                found(&a.value.borrow(), &b.value.borrow(), Part::Same(of))
            }
            (Value::Task(a), Value::Task(b)) if at == 0 => match (&*a.outcome.borrow(), &*b.outcome.borrow())
            {
                (Outcome::Value(a), Outcome::Value(b)) => found(a, b, Part::Result(of)),
                (Outcome::Failed(a), Outcome::Failed(b)) => found(&a.value, &b.value, Part::Result(of)),
                _ => None,
            },
            (Value::Function(a), Value::Function(b)) => {
                let (index, name) = self.before.debugged.captured(a.function).nth(at)?;
                let same = self.now.debugged.captured(b.function).find(|(_, known)| *known == name);
                let (Value::Env(mine), Value::Env(other), Some((there, _))) = (&a.env, &b.env, same) else {
                    return Some(None);
                };
                match (mine.values.get(index), other.values.get(there)) {
                    (Some(a), Some(b)) => found(a, b, Part::Captured(of, name.to_string())),
                    _ => Some(None),
                }
            }
            _ => None,
        }
    }

    /// Returns two values that differ as text, each from shortly before the place at which they do.
    fn both(&self, before: &Value, now: &Value) -> (String, String) {
        let (a, b) = (self.before.shown(before, SEARCHED), self.now.shown(now, SEARCHED));
        if a == b {
            // Texts of secrets, and tasks, are the same.
            return (a, format!("another {b}"));
        }
        let common = a.chars().zip(b.chars()).take_while(|(a, b)| a == b).count();
        let from = if common > SHOWN / 2 { common - SHOWN / 4 } else { 0 };
        let cut = |text: &str| {
            let mut out: String = if from > 0 { "…".into() } else { String::new() };
            let mut rest = text.chars().skip(from);
            out.extend(rest.by_ref().take(SHOWN));
            if rest.next().is_some() {
                out.push('…');
            }
            out
        };
        (cut(&a), cut(&b))
    }
}

/// Returns the address of a value that is counted by reference.
fn address(value: &Value) -> usize {
    match value {
        Value::List(list) => Rc::as_ptr(list).addr(),
        Value::Record(record) => Rc::as_ptr(record).addr(),
        Value::Entity(entity) => Rc::as_ptr(entity).addr(),
        Value::Function(closure) => Rc::as_ptr(closure).addr(),
        Value::Task(task) => Rc::as_ptr(task).addr(),
        Value::Cell(cell) => Rc::as_ptr(cell).addr(),
        _ => 0,
    }
}
