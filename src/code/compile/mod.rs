//! The compiler from core to register code.
//!
//! Registers are allocated like a stack: parameters, then variables as they are bound, then
//! temporaries. A captured variable is copied into the environment of the capturing functions, as a
//! cell if it can change.

mod assignments;
mod calls;
mod captured;
mod conditions;
mod control;
mod debug;
mod expressions;
mod liveness;
mod matching;
mod moves;
mod peephole;
mod registers;
mod trials;

pub use liveness::read_after;
pub use registers::{Read, Registers, followers, jumped, written};

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};

use crate::check::{GlobalId, Program, STD};
use crate::core::{self, Core, Form, Item, Node, Var, Variables};
use crate::syntax::token::Name;
use crate::syntax::tree::Literal;
use crate::syntax::{Diagnostic, Place, Span};

use super::debug::{Scope, Tables};
use super::{
    Code, Comparison, Constant, Entity, Function, FunctionId, Isolated, MethodTarget, Op, Operation,
    PathStep, Reg, Trials, program_hash,
};

/// Whether the standard library that is stored with a program has a rule, as a line of its prelude.
fn has_rule(program: &Program, rule: &str) -> bool {
    let prelude = format!("{STD}prelude.df");
    let prelude = program.sources.files.iter().find(|file| file.name == prelude);
    prelude.is_some_and(|file| file.text.contains(&format!("\n// {rule}\n")))
}

/// Compiles a lowered program. Fails if the program is too large for the code's encoding.
pub fn compile(core: &Core, program: &Program) -> Result<Code, Diagnostic> {
    compiled(core, program, None, None)
}

/// Compiles a program that was lowered for the debugger, with tables of its statements and
/// variables. `last` is a function that is compiled after all others, so that these have the same
/// numbers as without it.
pub fn compile_for_debugging(
    core: &Core,
    program: &Program,
    last: Option<GlobalId>,
) -> Result<Code, Diagnostic> {
    compiled(core, program, Some(Tables::default()), last)
}

fn compiled(
    core: &Core,
    program: &Program,
    debug: Option<Tables>,
    last: Option<GlobalId>,
) -> Result<Code, Diagnostic> {
    let mut unit = Unit {
        program,
        code: empty(program, debug),
        names: HashMap::new(),
        texts: HashMap::new(),
        shapes: HashMap::new(),
        globals: HashMap::new(),
        bool_checker: None,
        too_large: None,
    };
    // Function numbers come first, so that functions can refer to one another.
    let is_last = |id: &GlobalId| Some(*id) == last;
    for (id, item) in core.items.iter().filter(|(id, _)| !is_last(id)) {
        unit.declare(*id, item);
    }
    unit.code.script = unit.reserve();
    for (id, item) in &core.items {
        unit.tried_out(item, &core.variables[program.globals[*id].module]);
    }
    for (id, item) in &core.items {
        let variables = &core.variables[program.globals[*id].module];
        let Some(target) = unit.globals.get(id).copied() else { continue };
        match (item, target) {
            (Item::Function(f), Target::Function(function)) => unit.top(f, function, variables),
            (Item::Const(f), Target::Const(_, function)) => unit.top(f, function, variables),
            (Item::Isolated { stub, body, .. }, Target::Isolated(index)) => {
                let (stub_id, body_id) = (unit.code.isolated[index].stub, unit.code.isolated[index].body);
                unit.top(stub, stub_id, variables);
                unit.code.functions[stub_id as usize].hidden = 1;
                unit.top(body, body_id, variables);
            }
            (
                Item::Entity { stub, initial, migrations, operations, state, members, .. },
                Target::Isolated(index),
            ) => {
                let stub_id = unit.code.isolated[index].stub;
                unit.top(stub, stub_id, variables);
                let entity = unit.code.isolated[index].entity.clone().unwrap_or_default();
                if let (Some(f), Some(at)) = (initial, entity.initial) {
                    unit.top(f, unit.code.consts[at].1, variables);
                }
                for (f, function) in migrations.iter().zip(&entity.migrations) {
                    unit.top(f, *function, variables);
                }
                let group = unit.members(*state, members, variables);
                for ((_, f), operation) in operations.iter().zip(&entity.operations) {
                    let mut compiler = Compiler { unit: &mut unit, variables, states: Vec::new() };
                    compiler.function(f, operation.function, Surroundings::Members(&group));
                }
            }
            _ => {}
        }
    }
    let script = unit.code.script;
    unit.top(&core.script, script, &core.variables[0]);
    if let Some((id, item @ Item::Function(f))) = core.items.iter().find(|(id, _)| is_last(id)) {
        unit.declare(*id, item);
        let function = (unit.code.functions.len() - 1) as FunctionId;
        unit.top(f, function, &core.variables[program.globals[*id].module]);
    }
    for (name, targets) in &core.methods {
        let name = unit.name(name);
        for (kind, global) in targets {
            let target = match (program.globals[*global].alias, unit.globals.get(global)) {
                (Some(builtin), _) => MethodTarget::Builtin(builtin.0),
                (None, Some(Target::Function(function))) => MethodTarget::Function(*function),
                _ => continue,
            };
            unit.code.methods.insert((name, kind), target);
        }
    }
    match unit.too_large {
        Some(place) => {
            Err(Diagnostic::error("function too large", place, "needs more than the code can encode")
                .because("a function has at most 60,000 variables and temporaries, a program 60,000 names")
                .hint("split it, or read large data from a file"))
        }
        None => Ok(unit.code),
    }
}

/// Returns the code of a program before anything is compiled.
fn empty(program: &Program, debug: Option<Tables>) -> Code {
    Code {
        functions: Vec::new(),
        constants: Vec::new(),
        names: Vec::new(),
        shapes: Vec::new(),
        paths: Vec::new(),
        slices: Vec::new(),
        ranges: Vec::new(),
        consts: Vec::new(),
        isolated: Vec::new(),
        tests: Vec::new(),
        trials: Trials::default(),
        methods: HashMap::new(),
        script: 0,
        hash: program_hash(&program.sources),
        sources: program.sources.clone(),
        structured: has_rule(program, "Cancellation: structured."),
        readable: has_rule(program, "Durations: readable."),
        fingerprint: OnceLock::new(),
        debug,
    }
}

#[derive(Clone, Copy)]
enum Target {
    Function(FunctionId),
    Const(usize, FunctionId),
    Isolated(usize),
}

struct Unit<'a> {
    program: &'a Program,
    code: Code,
    names: HashMap<String, u16>,
    texts: HashMap<String, u32>,
    shapes: HashMap<Vec<u16>, u16>,
    globals: HashMap<GlobalId, Target>,
    /// The function that checks for a bool; `None` until it is needed.
    bool_checker: Option<FunctionId>,
    too_large: Option<Place>,
}

impl Unit<'_> {
    fn reserve(&mut self) -> FunctionId {
        self.code.functions.push(Function {
            name: String::new(),
            required: 0,
            params: 0,
            hidden: 0,
            registers: 0,
            has_env: false,
            ops: Vec::new(),
            spans: Vec::new(),
            place: Place::default(),
        });
        (self.code.functions.len() - 1) as FunctionId
    }

    /// Returns the function that passes on a bool and fails for anything else. Traces leave it out.
    fn bool_checker(&mut self) -> FunctionId {
        if let Some(known) = self.bool_checker {
            return known;
        }
        let id = self.reserve();
        let function = &mut self.code.functions[id as usize];
        (function.hidden, function.registers) = (1, 1);
        function.ops = vec![Op::CheckBool { a: 0 }, Op::Return { from: 0 }];
        function.spans = vec![Span::default(); function.ops.len()];
        self.bool_checker = Some(id);
        id
    }

    fn declare(&mut self, id: GlobalId, item: &Item) {
        let global = &self.program.globals[id];
        let target = match item {
            Item::Test { .. } | Item::Trials(_) => return,
            Item::Function(_) => Target::Function(self.reserve()),
            Item::Const(_) => {
                let function = self.reserve();
                self.code.consts.push((global.name.to_string(), function));
                Target::Const(self.code.consts.len() - 1, function)
            }
            Item::Isolated { .. } | Item::Entity { .. } => {
                let context = match item {
                    Item::Isolated { context, .. } => Some(*context),
                    _ => None,
                };
                let (stub, body) = (self.reserve(), self.reserve());
                let entity = match item {
                    Item::Entity { initial, migrations, operations, private, .. } => {
                        let migrations = migrations.iter().map(|_| self.reserve()).collect();
                        let entity = self.entity(&global.name, initial.is_some(), operations, private);
                        Some(Entity { migrations, ..entity })
                    }
                    _ => None,
                };
                // The names of declarations in imported modules include the module.
                let module = &self.program.modules[global.module];
                let name = match global.module {
                    // An entity belongs to the whole store, whichever module declares it.
                    _ if entity.is_some() => global.name.to_string(),
                    0 => global.name.to_string(),
                    _ => format!("{}:{}", module.name, global.name),
                };
                self.code.isolated.push(Isolated { name, context, body, stub, entity });
                Target::Isolated(self.code.isolated.len() - 1)
            }
        };
        self.globals.insert(id, target);
    }

    fn entity(
        &mut self,
        name: &str,
        state: bool,
        operations: &[(Name, core::Function)],
        private: &[Name],
    ) -> Entity {
        let initial = state.then(|| {
            let function = self.reserve();
            self.code.consts.push((format!("{name}.state"), function));
            self.code.consts.len() - 1
        });
        let operation = |(name, f): &(Name, core::Function)| Operation {
            name: name.to_string(),
            function: self.reserve(),
            required: f.required,
            params: f.params.len() - 1,
        };
        let operations = operations.iter().map(operation).collect();
        let private = private.iter().map(ToString::to_string).collect();
        Entity { initial, operations, private, ..Entity::default() }
    }

    /// Compiles the members of an entity that others of its members call. They share an environment
    /// with the cell of the state.
    fn members(&mut self, state: Var, members: &[(Var, core::Function)], variables: &Variables) -> Group {
        let captures: Captures = Rc::new(RefCell::new(vec![state]));
        let siblings: HashMap<Var, FunctionId> =
            members.iter().map(|(var, _)| (*var, self.reserve())).collect();
        let group = Group { captures, siblings };
        for (var, f) in members {
            let mut compiler = Compiler { unit: self, variables, states: Vec::new() };
            compiler.function(f, group.siblings[var], Surroundings::Group(group.clone()));
        }
        group
    }

    fn name(&mut self, name: &str) -> u16 {
        if let Some(id) = self.names.get(name) {
            return *id;
        }
        let id = self.code.names.len();
        self.code.names.push(Arc::from(name));
        self.names.insert(name.to_string(), id as u16);
        if id > 60_000 {
            self.too_large.get_or_insert(Place::default());
        }
        id as u16
    }

    fn constant(&mut self, constant: Constant) -> u32 {
        if let Constant::Str(text) = &constant {
            if let Some(index) = self.texts.get(text) {
                return *index;
            }
            self.texts.insert(text.clone(), self.code.constants.len() as u32);
        }
        self.code.constants.push(constant);
        (self.code.constants.len() - 1) as u32
    }

    fn shape(&mut self, names: Vec<u16>) -> u16 {
        if let Some(id) = self.shapes.get(&names) {
            return *id;
        }
        let id = self.code.shapes.len() as u16;
        self.code.shapes.push(names.clone());
        self.shapes.insert(names, id);
        id
    }

    fn top(&mut self, f: &core::Function, id: FunctionId, variables: &Variables) {
        let mut compiler = Compiler { unit: self, variables, states: Vec::new() };
        compiler.function(f, id, Surroundings::None);
    }
}

/// The end of a variable that can still be seen.
const OPEN: u32 = u32::MAX;

/// The captured variables of a function, in the order of its environment. A group of functions
/// shares them.
type Captures = Rc<RefCell<Vec<Var>>>;

/// Functions that share an environment.
#[derive(Clone)]
struct Group {
    captures: Captures,
    siblings: HashMap<Var, FunctionId>,
}

/// The functions around a function.
enum Surroundings<'g> {
    None,
    /// The function belongs to this group, and gets its environment.
    Group(Group),
    /// The function is an operation that makes the environment of these members.
    Members(&'g Group),
}

#[derive(Default)]
struct State {
    locals: HashMap<Var, Reg>,
    /// The captured variables; `None` for a function that can't capture.
    captures: Option<Captures>,
    siblings: HashMap<Var, FunctionId>,
    ops: Vec<Op>,
    spans: Vec<Span>,
    next: u32,
    most: u32,
    env: Reg,
    loops: Vec<LoopState>,
    tries: Vec<TryState>,
    catches: Vec<Reg>,
    /// The part of a variable that the code of its new value moves out, if any.
    taking: Option<moves::Move>,
    /// Whether the function makes no tail calls. A script doesn't: it is called once, and errors
    /// name their place in it.
    keeps_frame: bool,
    /// The variables so far, for the debugger. Those that can be seen have no end yet.
    scopes: Vec<Scope>,
}

struct LoopState {
    label: u32,
    exits: Vec<usize>,
    agains: Vec<usize>,
    /// The number of open tries at the beginning of the loop.
    tries: usize,
}

struct TryState {
    finally: Option<FinallyState>,
}

struct FinallyState {
    kind: Reg,
    value: Reg,
    exits: Vec<Leave>,
    jumps: Vec<usize>,
}

/// A way out of the enclosing constructs.
#[derive(Clone, Copy, PartialEq)]
enum Leave {
    Return,
    Exit(u32),
    Again(u32),
}

struct Compiler<'a, 'u> {
    unit: &'a mut Unit<'u>,
    variables: &'a Variables,
    states: Vec<State>,
}

impl Compiler<'_, '_> {
    fn state(&mut self) -> &mut State {
        // `function` pushes a state before it calls anything else.
        let last = self.states.len() - 1;
        &mut self.states[last]
    }

    fn function(&mut self, f: &core::Function, id: FunctionId, around: Surroundings<'_>) {
        let mut state = State::default();
        for (index, var) in f.params.iter().enumerate() {
            state.locals.insert(*var, index as Reg);
            self.shown(&mut state, *var, index as Reg, false);
        }
        let params = f.params.len() as u32;
        state.env = params as Reg;
        state.next = params;
        let has_env = matches!(around, Surroundings::Group(_));
        let mut made = None;
        match around {
            Surroundings::None => {}
            Surroundings::Group(Group { captures, siblings }) => {
                state.captures = Some(captures);
                state.siblings = siblings;
                state.next += 1;
            }
            Surroundings::Members(group) => {
                if any_mentions(&f.body, &group.siblings) {
                    state.siblings = group.siblings.clone();
                    state.next += 1;
                    made = Some(group.captures.clone());
                }
            }
        }
        state.most = state.next;
        state.keeps_frame = id == self.unit.code.script;
        self.states.push(state);
        // Parameters that functions share and change live in cells.
        for (index, var) in f.params.iter().enumerate() {
            let var = &self.variables.vars[*var as usize];
            if var.cell && !var.given {
                self.emit(Op::NewCell { to: index as Reg, from: index as Reg }, f.place.span);
            }
        }
        if let Some(captures) = made {
            // Its register is that of the environment in other functions.
            self.environment(&captures, params as Reg, f.place.span);
        }
        self.load_captured(&f.body);
        let value = self.tail(&f.body);
        if let Some(value) = value {
            self.emit(Op::Return { from: value }, f.body.span);
        }
        let Some(mut state) = self.states.pop() else { return };
        liveness::take(&mut state.ops, state.most, state.env, &self.unit.code);
        state.scopes.iter_mut().for_each(|scope| scope.to = scope.to.min(state.ops.len() as u32));
        peephole::optimize(&mut state.ops, &mut state.spans, &mut state.scopes);
        self.noted(&mut state, id, f.place.source);
        if state.most > 60_000 || f.params.len() > 251 || self.unit.code.functions.len() > 60_000 {
            self.unit.too_large.get_or_insert(f.place);
        }
        let function = &mut self.unit.code.functions[id as usize];
        *function = Function {
            name: f.name.clone(),
            required: f.required.min(255) as u8,
            params: params.min(255) as u8,
            hidden: 0,
            registers: state.most.max(1).min(u16::MAX as u32) as u16,
            has_env,
            ops: state.ops,
            spans: state.spans,
            place: f.place,
        };
    }

    // ---- emitting

    fn emit(&mut self, op: Op, span: Span) -> usize {
        let state = self.state();
        state.ops.push(op);
        state.spans.push(span);
        state.ops.len() - 1
    }

    fn here(&mut self) -> usize {
        self.state().ops.len()
    }

    fn jump(&mut self, span: Span) -> usize {
        self.emit(Op::Jump { by: 0 }, span)
    }

    /// Makes the jump at `at` lead to `to`.
    fn patch(&mut self, at: usize, to: usize) {
        let distance = to as i64 - at as i64 - 1;
        if let Some(by) = self.state().ops[at].distance() {
            *by = distance as i32;
        }
    }

    fn patch_here(&mut self, jumps: Vec<usize>) {
        let here = self.here();
        for jump in jumps {
            self.patch(jump, here);
        }
    }

    fn alloc(&mut self) -> Reg {
        let state = self.state();
        let reg = state.next;
        state.next += 1;
        state.most = state.most.max(state.next);
        reg.min(u16::MAX as u32) as Reg
    }

    fn mark(&mut self) -> u32 {
        self.state().next
    }

    fn release(&mut self, mark: u32) {
        let state = self.state();
        state.next = mark;
        let here = state.ops.len() as u32;
        let gone =
            state.scopes.iter_mut().filter(|scope| scope.to == OPEN && u32::from(scope.register) >= mark);
        gone.for_each(|scope| scope.to = here);
    }

    // ---- variables

    /// Returns the register of a variable, and emits the code to load it if necessary.
    fn load(&mut self, var: Var, to: Option<Reg>, span: Span) -> Reg {
        let state = self.state();
        if let Some(reg) = state.locals.get(&var).copied() {
            return match to {
                Some(to) if to != reg => {
                    self.emit(Op::Move { to, from: reg }, span);
                    to
                }
                _ => reg,
            };
        }
        let to = match to {
            Some(to) => to,
            None => self.alloc(),
        };
        let state = self.state();
        if let Some(function) = state.siblings.get(&var).copied() {
            let env = state.env;
            self.emit(Op::Closure { to, env, function: function as u16 }, span);
            return to;
        }
        let Some(captures) = state.captures.clone() else { return to };
        let found = captures.borrow().iter().position(|v| *v == var);
        let index = found.unwrap_or_else(|| {
            captures.borrow_mut().push(var);
            captures.borrow().len() - 1
        });
        self.emit(Op::Capture { to, index: index as u16 }, span);
        to
    }

    fn read(&mut self, var: Var, to: Option<Reg>, span: Span) -> Reg {
        let info = &self.variables.vars[var as usize];
        let (cell, early) = (info.cell, info.early);
        if !cell {
            return self.load(var, to, span);
        }
        let mark = self.mark();
        let to_reg = match to {
            Some(to) => to,
            None => self.alloc(),
        };
        let after = self.mark();
        let cell = self.load(var, None, span);
        self.emit(
            if early { Op::GetEarly { to: to_reg, cell } } else { Op::GetCell { to: to_reg, cell } },
            span,
        );
        self.release(if to.is_some() { mark } else { after });
        to_reg
    }

    fn bind(&mut self, var: Var, value: &Node, span: Span) {
        let info = self.variables.vars[var as usize].clone();
        if info.early {
            let mark = self.mark();
            let value = self.expr(value, None);
            let cell = self.load(var, None, span);
            self.emit(Op::SetCell { cell, from: value }, span);
            self.release(mark);
            return;
        }
        let reg = self.place(value);
        if info.cell {
            self.emit(Op::NewCell { to: reg, from: reg }, span);
        }
        self.state().locals.insert(var, reg);
        self.show(var, reg, false);
    }

    /// Binds a variable, whose own register is already allocated, to the value of a register.
    fn bind_register(&mut self, var: Var, from: Reg, span: Span) {
        let info = self.variables.vars[var as usize].clone();
        let reg = self.load(var, None, span);
        let op = match (info.early, info.cell) {
            (true, _) => Op::SetCell { cell: reg, from },
            (_, true) => Op::NewCell { to: reg, from },
            _ => Op::Move { to: reg, from },
        };
        self.emit(op, span);
    }
}

/// Whether a node or a function in it mentions one of these variables.
fn any_mentions(node: &Node, vars: &HashMap<Var, FunctionId>) -> bool {
    let here = match &node.form {
        Form::Var(var) => vars.contains_key(var),
        Form::Lambda(f) => any_mentions(&f.body, vars),
        Form::Functions(group) => group.iter().any(|(_, f)| any_mentions(&f.body, vars)),
        _ => false,
    };
    here || node.any_within(&mut |part| any_mentions(part, vars))
}

fn constant(literal: &Literal) -> Constant {
    match literal {
        Literal::Null => Constant::Null,
        Literal::Bool(b) => Constant::Bool(*b),
        Literal::Int(n) => Constant::Int(*n),
        Literal::Float(x) => Constant::Float(*x),
        Literal::Duration(d) => Constant::Duration(*d),
        Literal::Str(s) => Constant::Str(s.to_string()),
    }
}
