//! Core to register code.
//!
//! Registers are given out like a stack: parameters, then variables as they are bound, then temporaries. A
//! variable that functions capture is copied into their environment, by its cell if it can change.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use crate::check::{GlobalId, GlobalKind, Program};
use crate::core::{self, Arg, Core, Decision, Form, Head, Item, Key, Node, Otherwise, Part, Prim, Step, Test, Var, Variables};
use crate::syntax::tree::{BinaryOp, Literal};
use crate::syntax::{Diagnostic, Place, Span};

use super::{Code, Constant, Function, FunctionId, Isolated, MethodTarget, Op, PathStep, Reg, program_hash};

/// Compiles a lowered program. Errors are programs too large for the code's encoding.
pub fn compile(core: &Core, program: &Program) -> Result<Code, Diagnostic> {
    let mut unit = Unit {
        program,
        code: Code {
            functions: Vec::new(),
            constants: Vec::new(),
            names: Vec::new(),
            shapes: Vec::new(),
            paths: Vec::new(),
            slices: Vec::new(),
            consts: Vec::new(),
            isolated: Vec::new(),
            methods: HashMap::new(),
            script: 0,
            hash: program_hash(&program.sources),
            sources: program.sources.clone(),
        },
        names: HashMap::new(),
        texts: HashMap::new(),
        shapes: HashMap::new(),
        globals: HashMap::new(),
        too_large: None,
    };
    // Numbers first, so that functions can mention one another.
    for (id, item) in &core.items {
        unit.declare(*id, item);
    }
    unit.code.script = unit.reserve();
    for (id, item) in &core.items {
        let variables = &core.variables[program.globals[*id].module];
        match (item, unit.globals[id]) {
            (Item::Function(f), Target::Function(function)) => unit.top(f, function, variables),
            (Item::Const(f), Target::Const(_, function)) => unit.top(f, function, variables),
            (Item::Isolated { stub, body, .. }, Target::Isolated(index)) => {
                let (stub_id, body_id) = (unit.code.isolated[index].stub, unit.code.isolated[index].body);
                unit.top(stub, stub_id, variables);
                unit.code.functions[stub_id as usize].hidden = 1;
                unit.top(body, body_id, variables);
            }
            (Item::Entity { stub }, Target::Isolated(index)) => {
                let stub_id = unit.code.isolated[index].stub;
                unit.top(stub, stub_id, variables);
            }
            _ => {}
        }
    }
    let script = unit.code.script;
    unit.top(&core.script, script, &core.variables[0]);
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
        Some(place) => Err(Diagnostic::error("function too large", place, "needs more than the code can encode")
            .because("a function has at most 60,000 variables and temporaries, a program 60,000 names")
            .hint("split it, or read large data from a file")),
        None => Ok(unit.code),
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

    fn declare(&mut self, id: GlobalId, item: &Item) {
        let global = &self.program.globals[id];
        let target = match item {
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
                // Names of imported modules' declarations are told apart by their module.
                let module = &self.program.modules[global.module];
                let name = match global.module {
                    0 => global.name.to_string(),
                    _ => format!("{}:{}", module.name, global.name),
                };
                self.code.isolated.push(Isolated { name, context, body, stub });
                Target::Isolated(self.code.isolated.len() - 1)
            }
        };
        self.globals.insert(id, target);
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
        compiler.function(f, id, None);
    }
}

/// Where a function finds its captured variables: shared by the functions of a group.
type Captures = Rc<RefCell<Vec<Var>>>;

#[derive(Default)]
struct State {
    locals: HashMap<Var, Reg>,
    /// None for a function that can't capture.
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
    /// It makes no tail calls: a script is called once, and errors name where in it they came from.
    keeps_frame: bool,
}

struct LoopState {
    label: u32,
    exits: Vec<usize>,
    agains: Vec<usize>,
    /// How many tries were open where it begins.
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

/// A way out of a `try`.
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
        // `function` pushes the state before anything else is called.
        let last = self.states.len() - 1;
        &mut self.states[last]
    }

    fn function(&mut self, f: &core::Function, id: FunctionId, captures: Option<(Captures, HashMap<Var, FunctionId>)>) {
        let mut state = State::default();
        for (index, var) in f.params.iter().enumerate() {
            state.locals.insert(*var, index as Reg);
        }
        let params = f.params.len() as u32;
        state.env = params as Reg;
        state.next = params;
        let has_env = captures.is_some();
        if let Some((captures, siblings)) = captures {
            state.captures = Some(captures);
            state.siblings = siblings;
            state.next += 1;
        }
        state.most = state.next;
        state.keeps_frame = id == self.unit.code.script;
        self.states.push(state);
        // Parameters that functions share and change live in cells.
        for (index, var) in f.params.iter().enumerate() {
            if self.variables.vars[*var as usize].cell {
                self.emit(Op::NewCell { to: index as Reg, from: index as Reg }, f.place.span);
            }
        }
        let value = self.tail(&f.body);
        if let Some(value) = value {
            self.emit(Op::Return { from: value }, f.body.span);
        }
        let Some(state) = self.states.pop() else { return };
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
        match &mut self.state().ops[at] {
            Op::Jump { by } | Op::Repeat { by } | Op::RangeNext { by, .. } | Op::EachNext { by, .. } | Op::Try { by, .. } => {
                *by = distance as i32;
            }
            _ => {}
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
        self.state().next = mark;
    }

    // ---- variables

    /// The register of a variable in the function at `level`, with the code to get it there.
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
        self.emit(if early { Op::GetEarly { to: to_reg, cell } } else { Op::GetCell { to: to_reg, cell } }, span);
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
        let reg = self.alloc();
        self.expr(value, Some(reg));
        if info.cell {
            self.emit(Op::NewCell { to: reg, from: reg }, span);
        }
        self.state().locals.insert(var, reg);
    }

    /// Binds a variable to what is in a register; its own register was allocated before.
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

    // ---- expressions

    /// Compiles a node. The result is in `to` when that is given, else in the register that is answered, which
    /// may be a variable's own.
    fn expr(&mut self, node: &Node, to: Option<Reg>) -> Reg {
        let span = node.span;
        if let Form::Var(var) = &node.form {
            return self.read(*var, to, span);
        }
        let to = match to {
            Some(to) => to,
            None => self.alloc(),
        };
        let mark = self.mark();
        self.into(node, to);
        self.release(mark);
        to
    }

    /// Compiles a node for its effects alone.
    fn effect(&mut self, node: &Node) {
        match &node.form {
            Form::Const(_) | Form::Var(_) | Form::Global(_) | Form::Builtin(_) => {
                // A variable that is read too early is an error even when its value isn't used.
                if let Form::Var(var) = &node.form
                    && self.variables.vars[*var as usize].early
                {
                    let mark = self.mark();
                    self.read(*var, None, node.span);
                    self.release(mark);
                }
            }
            Form::Bind(var, value) => self.bind(*var, value, node.span),
            Form::Functions(group) => self.group(group, node.span),
            Form::Declare(vars) => self.declare(vars, node.span),
            Form::Match(m) if m.otherwise == Otherwise::NoMatch => {
                self.prepare(&m.tree);
                let mark = self.mark();
                let to = self.alloc();
                self.matching(m, to, node.span, false);
                self.release(mark);
            }
            _ => {
                let mark = self.mark();
                let to = self.alloc();
                self.into(node, to);
                self.release(mark);
            }
        }
    }

    /// Allocates the variables of a pattern where the block around keeps them.
    fn prepare(&mut self, tree: &Decision) {
        match tree {
            Decision::Read { then, .. } => self.prepare(then),
            Decision::Test { yes, no, .. } => {
                self.prepare(yes);
                self.prepare(no);
            }
            Decision::Arm { binds, guard, .. } => {
                for (var, _) in binds {
                    if !self.variables.vars[*var as usize].early && !self.state().locals.contains_key(var) {
                        let reg = self.alloc();
                        self.state().locals.insert(*var, reg);
                    }
                }
                if let Some((_, no)) = guard {
                    self.prepare(no);
                }
            }
            Decision::Either(a, b) => {
                self.prepare(a);
                self.prepare(b);
            }
            Decision::Fail => {}
        }
    }

    fn declare(&mut self, vars: &[Var], span: Span) {
        for var in vars {
            let reg = self.alloc();
            self.emit(Op::Missing { to: reg }, span);
            self.emit(Op::NewCell { to: reg, from: reg }, span);
            self.state().locals.insert(*var, reg);
        }
    }

    fn into(&mut self, node: &Node, to: Reg) {
        let span = node.span;
        match &node.form {
            Form::Const(literal) => self.literal(literal, to, span),
            Form::Var(var) => {
                self.read(*var, Some(to), span);
            }
            Form::Global(global) => self.global(*global, to, span),
            Form::Builtin(id) => {
                let index = self.unit.constant(Constant::Builtin(id.0));
                self.emit(Op::Constant { to, index }, span);
            }
            Form::Seq(nodes) => self.seq(nodes, to, span),
            Form::Bind(..) | Form::Functions(_) | Form::Declare(_) => {
                self.effect(node);
                self.emit(Op::Null { to }, span);
            }
            Form::Set(var, steps, value) => {
                self.set(*var, steps, value, span);
                self.emit(Op::Null { to }, span);
            }
            Form::Lambda(f) => {
                let captures: Captures = Rc::default();
                let id = self.unit.reserve();
                self.function(f, id, Some((captures.clone(), HashMap::new())));
                self.environment(&captures, to, span);
                self.emit(Op::Closure { to, env: to, function: id as u16 }, span);
            }
            Form::Call(f, args) => self.call(f, args, to, span),
            Form::Method(value, name, args) => self.method(value, name, args, to, span),
            Form::Prim(prim, args) => self.prim(prim, args, to, span),
            Form::If(condition, then, other) => {
                let no = self.condition(condition, false);
                self.expr(then, Some(to));
                let end = self.jump(span);
                self.patch_here(no);
                self.expr(other, Some(to));
                self.patch_here(vec![end]);
            }
            Form::Loop(l) => {
                self.looping(l, span);
                self.emit(Op::Null { to }, span);
            }
            Form::Exit(label) => self.leave(Leave::Exit(*label), None, span),
            Form::Again(label) => self.leave(Leave::Again(*label), None, span),
            Form::Return(value) => {
                let value = self.expr(value, None);
                self.leave(Leave::Return, Some(value), span);
            }
            Form::Match(m) => {
                self.prepare(&m.tree);
                self.matching(m, to, span, false);
            }
            Form::Try(t) => self.try_(t, to, span),
            Form::Throw(value) => {
                let from = self.expr(value, None);
                self.emit(Op::Throw { from }, span);
            }
            Form::Apply(id, args) => {
                let base = self.consecutive(args);
                let (builtin, count) = (id.0, args.len() as u8);
                self.emit(Op::Apply { count, base, builtin }, span);
                self.move_to(base, to, span);
            }
            Form::Invoke(global, args, options) => {
                // The options lie right after the arguments.
                let base = self.mark().min(u16::MAX as u32) as Reg;
                for node in args.iter().chain([&**options]) {
                    let reg = self.alloc();
                    self.expr(node, Some(reg));
                }
                let index = match self.unit.globals.get(global) {
                    Some(Target::Isolated(index)) => *index as u16,
                    _ => 0,
                };
                self.emit(Op::Invoke { count: args.len() as u8, base, global: index }, span);
                self.move_to(base, to, span);
            }
        }
    }

    /// Moves what a temporary holds.
    fn move_to(&mut self, from: Reg, to: Reg, span: Span) {
        if from != to {
            self.emit(Op::Take { to, from }, span);
        }
    }

    fn literal(&mut self, literal: &Literal, to: Reg, span: Span) {
        let constant = match literal {
            Literal::Null => {
                self.emit(Op::Null { to }, span);
                return;
            }
            Literal::Bool(value) => {
                self.emit(Op::Bool { to, value: *value }, span);
                return;
            }
            Literal::Int(n) => match i32::try_from(*n) {
                Ok(value) => {
                    self.emit(Op::Int { to, value }, span);
                    return;
                }
                Err(_) => Constant::Int(*n),
            },
            other => constant(other),
        };
        let index = self.unit.constant(constant);
        self.emit(Op::Constant { to, index }, span);
    }

    fn global(&mut self, global: GlobalId, to: Reg, span: Span) {
        match self.unit.globals.get(&global).copied() {
            Some(Target::Function(id)) => self.function_value(id, to, span),
            Some(Target::Const(index, _)) => {
                self.emit(Op::Global { to, index: index as u32 }, span);
            }
            Some(Target::Isolated(index)) => {
                let stub = self.unit.code.isolated[index].stub;
                self.function_value(stub, to, span);
            }
            None => {
                self.emit(Op::Null { to }, span);
            }
        }
    }

    fn function_value(&mut self, id: FunctionId, to: Reg, span: Span) {
        let index = self.unit.constant(Constant::Function(id));
        self.emit(Op::Constant { to, index }, span);
    }

    fn seq(&mut self, nodes: &[Node], to: Reg, span: Span) {
        let Some((last, rest)) = nodes.split_last() else {
            self.emit(Op::Null { to }, span);
            return;
        };
        for node in rest {
            self.effect(node);
        }
        self.into_value(last, to);
    }

    fn into_value(&mut self, node: &Node, to: Reg) {
        self.expr(node, Some(to));
    }

    /// Compiles nodes into registers one after another, and gives the first.
    fn consecutive(&mut self, nodes: &[Node]) -> Reg {
        let base = self.mark().min(u16::MAX as u32) as Reg;
        if nodes.is_empty() {
            return self.alloc();
        }
        for node in nodes {
            let reg = self.alloc();
            self.expr(node, Some(reg));
        }
        base
    }

    fn set(&mut self, var: Var, steps: &[Step], value: &Node, span: Span) {
        let cell = self.variables.vars[var as usize].cell;
        let mark = self.mark();
        if steps.is_empty() {
            if cell {
                if let Form::Prim(Prim::Binary(BinaryOp::Add), args) = &value.form
                    && matches!(args[0].form, Form::Var(left) if left == var)
                    && !self.variables.vars[var as usize].early
                    && !sets(&args[1], var)
                    && !calls(&args[1])
                {
                    let b = self.expr(&args[1], None);
                    let cell = self.load(var, None, span);
                    self.emit(Op::AddCell { cell, b }, value.span);
                } else {
                    let value = self.expr(value, None);
                    let cell = self.load(var, None, span);
                    self.emit(Op::SetCell { cell, from: value }, span);
                }
            } else {
                let reg = self.load(var, None, span);
                if let Some(items) = appended(var, value) {
                    for item in items {
                        let temporary = self.alloc();
                        let item = self.expr(item, Some(temporary));
                        self.emit(Op::Append { list: reg, value: item }, value.span);
                        self.release(mark);
                    }
                    return;
                }
                // `x = x + …` becomes an `Add` whose target is its first operand, which extends in place.
                self.expr(value, Some(reg));
            }
            self.release(mark);
            return;
        }
        let base = self.mark().min(u16::MAX as u32) as Reg;
        let mut path = Vec::new();
        for step in steps {
            match step {
                Step::Field(name, _) => path.push(PathStep::Field(self.unit.name(name))),
                Step::Index(index) => {
                    path.push(PathStep::Index);
                    let reg = self.alloc();
                    self.expr(index, Some(reg));
                }
            }
        }
        let reg = self.alloc();
        self.expr(value, Some(reg));
        let paths = &mut self.unit.code.paths;
        let index = paths.iter().position(|p| *p == path).unwrap_or_else(|| {
            paths.push(path);
            paths.len() - 1
        });
        let path = index as u16;
        if cell {
            let cell = self.load(var, None, span);
            self.emit(Op::SetCellPath { cell, base, path }, span);
        } else {
            let a = self.load(var, None, span);
            self.emit(Op::SetPath { a, base, path }, span);
        }
        self.release(mark);
    }

    fn operands(&mut self, a: &Node, b: &Node) -> (Reg, Reg) {
        let first = match &a.form {
            Form::Var(var) if sets(b, *var) => {
                let reg = self.alloc();
                self.expr(a, Some(reg))
            }
            _ => self.expr(a, None),
        };
        let second = self.expr(b, None);
        (first, second)
    }

    fn prim(&mut self, prim: &Prim, args: &[Node], to: Reg, span: Span) {
        match (prim, args) {
            (Prim::Binary(op), [a, b]) => {
                if let (BinaryOp::Add | BinaryOp::Subtract, Form::Const(Literal::Int(n))) = (op, &b.form)
                    && let Ok(n) = i16::try_from(*n)
                    && n != i16::MIN
                {
                    let a = self.expr(a, None);
                    let value = if *op == BinaryOp::Add { n } else { -n };
                    self.emit(Op::AddInt { to, a, value }, span);
                    return;
                }
                let (a, b) = self.operands(a, b);
                let op = match op {
                    BinaryOp::Add => Op::Add { to, a, b },
                    BinaryOp::Subtract => Op::Subtract { to, a, b },
                    BinaryOp::Multiply => Op::Multiply { to, a, b },
                    BinaryOp::Divide => Op::Divide { to, a, b },
                    BinaryOp::Remainder => Op::Remainder { to, a, b },
                    BinaryOp::Equal => Op::Equal { to, a, b },
                    BinaryOp::NotEqual => Op::NotEqual { to, a, b },
                    BinaryOp::Less => Op::Less { to, a, b },
                    BinaryOp::LessEqual => Op::LessEqual { to, a, b },
                    BinaryOp::Greater => Op::Greater { to, a, b },
                    BinaryOp::GreaterEqual => Op::GreaterEqual { to, a, b },
                };
                self.emit(op, span);
            }
            (Prim::Not, [a]) => {
                let a = self.expr(a, None);
                self.emit(Op::Not { to, a }, span);
            }
            (Prim::Negate, [a]) => {
                let a = self.expr(a, None);
                self.emit(Op::Negate { to, a }, span);
            }
            (Prim::Bool, [a]) => {
                self.expr(a, Some(to));
                self.emit(Op::CheckBool { a: to }, span);
            }
            (Prim::IsNull | Prim::IsMissing, [a]) => {
                let a = self.expr(a, None);
                let want = true;
                self.emit(if *prim == Prim::IsNull { Op::TestNull { want, a } } else { Op::TestMissing { want, a } }, span);
                let no = self.jump(span);
                self.emit(Op::Bool { to, value: true }, span);
                let end = self.jump(span);
                self.patch_here(vec![no]);
                self.emit(Op::Bool { to, value: false }, span);
                self.patch_here(vec![end]);
            }
            (Prim::Missing, _) => {
                self.emit(Op::Missing { to }, span);
            }
            (Prim::List(spreads), items) => self.list(spreads, items, to, span),
            (Prim::Record(keys), values) => self.record(keys, values, to, span),
            (Prim::Field(name), [a]) => {
                let a = self.expr(a, None);
                let name = self.unit.name(name);
                self.emit(Op::Field { to, a, name }, span);
            }
            (Prim::OptionalField(name), [a]) => {
                let a = self.expr(a, None);
                let name = self.unit.name(name);
                self.emit(Op::OptionalField { to, a, name }, span);
            }
            (Prim::Index, [a, index]) => {
                let (a, index) = self.operands(a, index);
                self.emit(Op::Index { to, a, index }, span);
            }
            (Prim::Concat, parts) => {
                let base = self.consecutive(parts);
                self.emit(Op::Concat { to, base, count: parts.len() as Reg }, span);
            }
            (Prim::Range(inclusive), args) => {
                let base = self.consecutive(args);
                self.emit(Op::Range { to, base, inclusive: *inclusive }, span);
            }
            _ => {
                self.emit(Op::Null { to }, span);
            }
        }
    }

    fn list(&mut self, spreads: &[bool], items: &[Node], to: Reg, span: Span) {
        const AT_ONCE: usize = 64;
        if !spreads.contains(&true) && items.len() <= AT_ONCE {
            let base = self.consecutive(items);
            self.emit(Op::NewList { to, base, count: items.len() as Reg }, span);
            return;
        }
        let list = self.alloc();
        self.emit(Op::NewList { to: list, base: list, count: 0 }, span);
        for (item, spread) in items.iter().zip(spreads) {
            let mark = self.mark();
            let value = self.expr(item, None);
            let op = if *spread { Op::Extend { list, values: value } } else { Op::Push { list, value } };
            self.emit(op, item.span);
            self.release(mark);
        }
        self.move_to(list, to, span);
    }

    fn record(&mut self, keys: &[Key], values: &[Node], to: Reg, span: Span) {
        let plain: Option<Vec<u16>> = keys
            .iter()
            .map(|key| match key {
                Key::Named(name) => Some(self.unit.name(name)),
                _ => None,
            })
            .collect();
        if let Some(names) = plain
            && names.len() <= 64
        {
            let base = self.consecutive(values);
            let shape = self.unit.shape(names);
            self.emit(Op::NewRecord { to, base, shape }, span);
            return;
        }
        let record = self.alloc();
        let shape = self.unit.shape(Vec::new());
        self.emit(Op::NewRecord { to: record, base: record, shape }, span);
        let mut values = values.iter();
        for key in keys {
            let mark = self.mark();
            let key_reg = match key {
                Key::Named(name) => {
                    let reg = self.alloc();
                    self.literal(&Literal::Str(name.clone()), reg, span);
                    reg
                }
                Key::Computed => match values.next() {
                    Some(key) => {
                        let reg = self.alloc();
                        self.expr(key, Some(reg))
                    }
                    None => continue,
                },
                Key::Spread => 0,
            };
            let Some(node) = values.next() else { continue };
            let value = self.expr(node, None);
            let op = match key {
                Key::Spread => Op::Merge { record, other: value },
                _ => Op::Put { record, key: key_reg, value },
            };
            self.emit(op, node.span);
            self.release(mark);
        }
        self.move_to(record, to, span);
    }

    // ---- conditions

    /// Jumps when the condition is `when`; falls through otherwise. Gives the jumps to patch.
    fn condition(&mut self, node: &Node, when: bool) -> Vec<usize> {
        let span = node.span;
        let mark = self.mark();
        let jumps = match &node.form {
            Form::Const(Literal::Bool(value)) => {
                if *value == when {
                    vec![self.jump(span)]
                } else {
                    Vec::new()
                }
            }
            Form::Prim(Prim::Not, args) if is_test(&args[0]) => self.condition(&args[0], !when),
            Form::Prim(Prim::Bool, args) => self.condition(&args[0], when),
            Form::Prim(Prim::IsNull, args) => {
                let a = self.expr(&args[0], None);
                self.emit(Op::TestNull { want: !when, a }, span);
                vec![self.jump(span)]
            }
            Form::Prim(Prim::IsMissing, args) => {
                let a = self.expr(&args[0], None);
                self.emit(Op::TestMissing { want: !when, a }, span);
                vec![self.jump(span)]
            }
            Form::Prim(Prim::Binary(op), args) if is_comparison(*op) => {
                self.comparison(*op, &args[0], &args[1], !when, span);
                vec![self.jump(span)]
            }
            // `a && b` and `a || b`, as they are lowered.
            Form::If(a, b, no) if matches!(no.form, Form::Const(Literal::Bool(false))) => {
                if when {
                    let skip = self.condition(a, false);
                    let jumps = self.condition(b, true);
                    self.patch_here(skip);
                    jumps
                } else {
                    let mut jumps = self.condition(a, false);
                    jumps.extend(self.condition(b, false));
                    jumps
                }
            }
            Form::If(a, yes, b) if matches!(yes.form, Form::Const(Literal::Bool(true))) => {
                if when {
                    let mut jumps = self.condition(a, true);
                    jumps.extend(self.condition(b, true));
                    jumps
                } else {
                    let skip = self.condition(a, true);
                    let jumps = self.condition(b, false);
                    self.patch_here(skip);
                    jumps
                }
            }
            _ => {
                let a = self.expr(node, None);
                self.emit(Op::TestTrue { want: !when, a }, span);
                vec![self.jump(span)]
            }
        };
        self.release(mark);
        jumps
    }

    fn comparison(&mut self, op: BinaryOp, a: &Node, b: &Node, want: bool, span: Span) {
        if let Form::Const(Literal::Int(n)) = &b.form
            && let Ok(value) = i32::try_from(*n)
        {
            let a = self.expr(a, None);
            let op = match op {
                BinaryOp::Equal => Op::TestEqualInt { want, a, value },
                BinaryOp::NotEqual => Op::TestEqualInt { want: !want, a, value },
                BinaryOp::Less => Op::TestLessInt { want, a, value },
                BinaryOp::LessEqual => Op::TestLessEqualInt { want, a, value },
                BinaryOp::Greater => Op::TestGreaterInt { want, a, value },
                _ => Op::TestGreaterEqualInt { want, a, value },
            };
            self.emit(op, span);
            return;
        }
        let (a, b) = self.operands(a, b);
        let op = match op {
            BinaryOp::Equal => Op::TestEqual { want, a, b },
            BinaryOp::NotEqual => Op::TestEqual { want: !want, a, b },
            BinaryOp::Less => Op::TestLess { want, a, b },
            BinaryOp::LessEqual => Op::TestLessEqual { want, a, b },
            BinaryOp::Greater => Op::TestGreater { want, a, b },
            _ => Op::TestGreaterEqual { want, a, b },
        };
        self.emit(op, span);
    }

    // ---- functions and calls

    /// Puts the environment for captured variables into `to`.
    fn environment(&mut self, captures: &Captures, to: Reg, span: Span) {
        let captured = captures.borrow().clone();
        let mark = self.mark();
        let base = self.mark().min(u16::MAX as u32) as Reg;
        for var in &captured {
            let reg = self.alloc();
            self.load(*var, Some(reg), span);
        }
        if captured.is_empty() {
            self.emit(Op::Null { to }, span);
        } else {
            self.emit(Op::Environment { to, base, count: captured.len() as Reg }, span);
        }
        self.release(mark);
    }

    fn group(&mut self, group: &[(Var, Rc<core::Function>)], span: Span) {
        let captures: Captures = Rc::default();
        let siblings: HashMap<Var, FunctionId> = group.iter().map(|(var, _)| (*var, self.unit.reserve())).collect();
        for (var, f) in group {
            self.function(f, siblings[var], Some((captures.clone(), siblings.clone())));
        }
        let env = self.alloc();
        self.environment(&captures, env, span);
        for (var, _) in group {
            let reg = self.alloc();
            self.emit(Op::Closure { to: reg, env, function: siblings[var] as u16 }, span);
            self.state().locals.insert(*var, reg);
        }
    }

    fn plain<'n>(args: &'n [Arg]) -> Option<Vec<&'n Node>> {
        args.iter()
            .map(|arg| match arg {
                Arg::Item(node) => Some(node),
                Arg::Spread(_) => None,
            })
            .collect()
    }

    fn spread_list(&mut self, args: &[Arg], to: Reg, span: Span) {
        let spreads: Vec<bool> = args.iter().map(|arg| matches!(arg, Arg::Spread(_))).collect();
        let nodes: Vec<Node> = args
            .iter()
            .map(|arg| match arg {
                Arg::Item(node) | Arg::Spread(node) => node.clone(),
            })
            .collect();
        self.list(&spreads, &nodes, to, span);
    }

    fn arguments(&mut self, args: &[&Node]) -> Reg {
        let base = self.mark().min(u16::MAX as u32) as Reg;
        if args.is_empty() {
            return self.alloc();
        }
        for node in args {
            let reg = self.alloc();
            self.expr(node, Some(reg));
        }
        base
    }

    fn call(&mut self, f: &Node, args: &[Arg], to: Reg, span: Span) {
        let base = self.call_at(f, args, false, span);
        self.move_to(base, to, span);
    }

    /// Emits a call; the result is in the register that is answered.
    fn call_at(&mut self, f: &Node, args: &[Arg], tail: bool, span: Span) -> Reg {
        let Some(plain) = Self::plain(args) else {
            let base = self.alloc();
            self.expr(f, Some(base));
            let list = self.alloc();
            self.spread_list(args, list, span);
            self.emit(Op::CallSpread { base }, span);
            return base;
        };
        let count = plain.len().min(255) as u8;
        if let Form::Global(global) = &f.form
            && let Some(id) = self.direct(*global, plain.len())
        {
            let base = self.arguments(&plain);
            let op = match tail {
                true => Op::TailFunction { count, base, function: id },
                false => Op::CallFunction { count, base, function: id },
            };
            self.emit(op, span);
            return base;
        }
        if let Form::Var(var) = &f.form
            && !self.state().locals.contains_key(var)
            && let Some(id) = self.state().siblings.get(var).copied()
        {
            let base = self.arguments(&plain);
            let function = id as u16;
            let op = match tail {
                true => Op::TailSibling { count, base, function },
                false => Op::CallSibling { count, base, function },
            };
            self.emit(op, span);
            return base;
        }
        let f = match &f.form {
            Form::Var(var) if !plain.iter().any(|arg| sets(arg, *var)) => self.expr(f, None),
            _ => {
                let reg = self.alloc();
                self.expr(f, Some(reg))
            }
        };
        let base = self.arguments(&plain);
        self.emit(if tail { Op::TailCall { count, base, f } } else { Op::Call { count, base, f } }, span);
        base
    }

    /// The function that a global names, when it takes so many arguments.
    fn direct(&mut self, global: GlobalId, count: usize) -> Option<FunctionId> {
        let info = &self.unit.program.globals[global];
        match self.unit.globals.get(&global)? {
            Target::Function(id) if (info.min..=info.max).contains(&count) => Some(*id),
            Target::Isolated(index)
                if (info.min..=info.max + 1).contains(&count) && info.kind != GlobalKind::Entity || count == 1 =>
            {
                Some(self.unit.code.isolated[*index].stub)
            }
            _ => None,
        }
    }

    fn method(&mut self, value: &Node, name: &str, args: &[Arg], to: Reg, span: Span) {
        let name = self.unit.name(name);
        let base = self.alloc();
        self.expr(value, Some(base));
        match Self::plain(args) {
            Some(plain) => {
                for node in &plain {
                    let reg = self.alloc();
                    self.expr(node, Some(reg));
                }
                self.emit(Op::CallMethod { count: plain.len().min(255) as u8, base, name }, span);
            }
            None => {
                let list = self.alloc();
                self.spread_list(args, list, span);
                self.emit(Op::CallMethodSpread { base, name }, span);
            }
        }
        self.move_to(base, to, span);
    }

    /// Compiles a node whose value the function returns. None when it never falls through.
    fn tail(&mut self, node: &Node) -> Option<Reg> {
        let span = node.span;
        if !self.state().tries.is_empty() {
            return Some(self.expr(node, None));
        }
        match &node.form {
            Form::Seq(nodes) => {
                let (last, rest) = nodes.split_last()?;
                let mark = self.mark();
                for node in rest {
                    self.effect(node);
                }
                let result = self.tail(last);
                if result.is_none() {
                    self.release(mark);
                }
                result
            }
            Form::If(condition, then, other) if !matches!(then.form, Form::Const(_)) || !matches!(other.form, Form::Const(_)) => {
                let no = self.condition(condition, false);
                let mark = self.mark();
                self.tail_return(then);
                self.release(mark);
                self.patch_here(no);
                self.tail_return(other);
                self.release(mark);
                None
            }
            Form::Call(f, args) => {
                // What waits keeps its caller: an error, or a history, names the place of the call.
                let waits = matches!(f.form, Form::Global(global) if matches!(self.unit.globals.get(&global), Some(Target::Isolated(_))));
                let tail = !waits && !self.state().keeps_frame && Self::plain(args).is_some();
                let base = self.call_at(f, args, tail, span);
                // A tail call of a builtin's value comes back like any other.
                Some(base)
            }
            Form::Return(value) => self.tail(value),
            Form::Match(m) => {
                self.prepare(&m.tree);
                let mark = self.mark();
                let to = self.alloc();
                self.matching(m, to, span, true);
                self.release(mark);
                None
            }
            _ => Some(self.expr(node, None)),
        }
    }

    fn tail_return(&mut self, node: &Node) {
        if let Some(from) = self.tail(node) {
            self.emit(Op::Return { from }, node.span);
        }
    }

    // ---- loops and exits

    fn looping(&mut self, l: &core::Loop, span: Span) {
        let tries = self.state().tries.len();
        let mark = self.mark();
        let (start, mut ends) = match &l.head {
            Head::While(condition) => {
                let start = self.here();
                (start, self.condition(condition, false))
            }
            Head::Range(var, low, high, inclusive) => {
                let base = self.alloc();
                self.expr(low, Some(base));
                let end = self.alloc();
                self.expr(high, Some(end));
                let item = self.alloc();
                self.emit(Op::RangeStart { base, inclusive: *inclusive }, low.span.to(high.span));
                self.state().locals.insert(*var, item);
                let start = self.here();
                (start, vec![self.emit(Op::RangeNext { base, by: 0 }, span)])
            }
            Head::Each(var, list) => {
                let base = self.alloc();
                self.expr(list, Some(base));
                self.alloc();
                let item = self.alloc();
                self.emit(Op::EachStart { base }, list.span);
                self.state().locals.insert(*var, item);
                let start = self.here();
                (start, vec![self.emit(Op::EachNext { base, by: 0 }, span)])
            }
        };
        self.state().loops.push(LoopState { label: l.label, exits: Vec::new(), agains: Vec::new(), tries });
        let body = self.mark();
        self.effect(&l.body);
        self.release(body);
        let state = self.state().loops.pop();
        let here = self.here();
        if let Some(state) = state {
            for again in state.agains {
                self.patch(again, here);
            }
            ends.extend(state.exits);
        }
        let back = self.emit(Op::Repeat { by: 0 }, span);
        self.patch(back, start);
        self.patch_here(ends);
        self.release(mark);
    }

    /// Leaves what is around, through the `finally` blocks on the way.
    fn leave(&mut self, leave: Leave, value: Option<Reg>, span: Span) {
        let target = match leave {
            Leave::Return => 0,
            Leave::Exit(label) | Leave::Again(label) => {
                self.state().loops.iter().find(|l| l.label == label).map_or(0, |l| l.tries)
            }
        };
        let mut at = self.state().tries.len();
        while at > target {
            at -= 1;
            self.emit(Op::EndTry, span);
            let state = self.state();
            if let Some(finally) = &mut state.tries[at].finally {
                let number = finally.exits.iter().position(|exit| *exit == leave).unwrap_or_else(|| {
                    finally.exits.push(leave);
                    finally.exits.len() - 1
                });
                let (kind, keep) = (finally.kind, finally.value);
                if let Some(value) = value {
                    self.emit(Op::Move { to: keep, from: value }, span);
                }
                self.emit(Op::Int { to: kind, value: number as i32 + 2 }, span);
                let jump = self.jump(span);
                if let Some(finally) = &mut self.state().tries[at].finally {
                    finally.jumps.push(jump);
                }
                return;
            }
        }
        match leave {
            Leave::Return => {
                self.emit(Op::Return { from: value.unwrap_or(0) }, span);
            }
            Leave::Exit(label) | Leave::Again(label) => {
                let jump = self.jump(span);
                if let Some(state) = self.state().loops.iter_mut().find(|l| l.label == label) {
                    match leave {
                        Leave::Exit(_) => state.exits.push(jump),
                        _ => state.agains.push(jump),
                    }
                }
            }
        }
    }

    fn try_(&mut self, t: &core::Try, to: Reg, span: Span) {
        let Some(finally) = &t.finally else {
            self.try_catch(&t.body, t.catch.as_ref(), to, span);
            return;
        };
        // The kind of exit: 0 normal, 1 an error, then the other ways out.
        let kind = self.alloc();
        let value = self.alloc();
        self.alloc();
        let handler = self.emit(Op::Try { error: value, by: 0 }, span);
        let state = FinallyState { kind, value, exits: Vec::new(), jumps: Vec::new() };
        self.state().tries.push(TryState { finally: Some(state) });
        self.try_catch(&t.body, t.catch.as_ref(), to, span);
        self.emit(Op::EndTry, span);
        self.emit(Op::Int { to: kind, value: 0 }, span);
        let normal = self.jump(span);
        self.patch_here(vec![handler]);
        self.emit(Op::Int { to: kind, value: 1 }, span);
        let state = self.state().tries.pop().and_then(|state| state.finally);
        let Some(state) = state else { return };
        self.patch_here(vec![normal]);
        self.patch_here(state.jumps);
        self.effect(finally);
        self.emit(Op::TestEqualInt { want: true, a: kind, value: 1 }, span);
        let no = self.jump(span);
        self.emit(Op::Rethrow { error: value }, span);
        self.patch_here(vec![no]);
        for (number, exit) in state.exits.iter().enumerate() {
            self.emit(Op::TestEqualInt { want: true, a: kind, value: number as i32 + 2 }, span);
            let no = self.jump(span);
            self.leave(*exit, Some(value), span);
            self.patch_here(vec![no]);
        }
    }

    fn try_catch(&mut self, body: &Node, catch: Option<&(Var, Node)>, to: Reg, span: Span) {
        let Some((var, handler)) = catch else {
            self.expr(body, Some(to));
            return;
        };
        let error = self.alloc();
        self.alloc();
        let start = self.emit(Op::Try { error, by: 0 }, span);
        self.state().tries.push(TryState { finally: None });
        self.expr(body, Some(to));
        self.state().tries.pop();
        self.emit(Op::EndTry, span);
        let end = self.jump(span);
        self.patch_here(vec![start]);
        self.state().locals.insert(*var, error);
        self.state().catches.push(error);
        self.expr(handler, Some(to));
        self.state().catches.pop();
        self.patch_here(vec![end]);
    }

    // ---- matching

    fn matching(&mut self, m: &core::Match, to: Reg, span: Span, tail: bool) {
        let subject = match &m.subject.form {
            Form::Var(var) if *var == m.subject_var => self.load(*var, None, span),
            _ => {
                let reg = self.alloc();
                self.expr(&m.subject, Some(reg));
                self.state().locals.insert(m.subject_var, reg);
                reg
            }
        };
        let mut arms: Vec<Vec<usize>> = vec![Vec::new(); m.arms.len()];
        let mut fails = Vec::new();
        self.decision(&m.tree, &mut arms, &mut fails, span);
        self.patch_here(fails);
        let op = match m.otherwise {
            Otherwise::NoArm => Op::NoArm { from: subject },
            Otherwise::NoMatch => Op::NoMatch { from: subject },
            Otherwise::Rethrow => Op::Rethrow { error: self.state().catches.last().copied().unwrap_or(subject) },
        };
        self.emit(op, span);
        let mut ends = Vec::new();
        for (arm, jumps) in m.arms.iter().zip(arms) {
            if jumps.is_empty() {
                continue;
            }
            self.patch_here(jumps);
            let mark = self.mark();
            if tail {
                self.tail_return(arm);
            } else {
                self.expr(arm, Some(to));
                ends.push(self.jump(span));
            }
            self.release(mark);
        }
        self.patch_here(ends);
    }

    fn decision(&mut self, tree: &Decision, arms: &mut [Vec<usize>], fails: &mut Vec<usize>, span: Span) {
        match tree {
            Decision::Read { into, from, part, then } => {
                let a = self.load(*from, None, span);
                let to = match self.state().locals.get(into).copied() {
                    Some(reg) => reg,
                    None => {
                        let reg = self.alloc();
                        self.state().locals.insert(*into, reg);
                        reg
                    }
                };
                let op = match part {
                    Part::Field(name) => Op::ReadField { to, a, name: self.unit.name(name) },
                    Part::Index(index) => Op::ReadIndex { to, a, index: *index as u16 },
                    Part::IndexBack(index) => Op::ReadBack { to, a, index: *index as u16 },
                    Part::Middle(before, after) => {
                        self.unit.code.slices.push((*before as u32, *after as u32));
                        Op::ReadMiddle { to, a, slice: (self.unit.code.slices.len() - 1) as u16 }
                    }
                    Part::Without(names) => {
                        let names = names.iter().map(|name| self.unit.name(name)).collect();
                        Op::ReadWithout { to, a, shape: self.unit.shape(names) }
                    }
                };
                self.emit(op, span);
                self.decision(then, arms, fails, span);
            }
            Decision::Test { var, test, yes, no } => {
                let a = self.load(*var, None, span);
                let op = match test {
                    Test::Equal(Literal::Null) => Op::TestNull { want: true, a },
                    Test::Equal(literal) => {
                        let index = self.unit.constant(constant(literal));
                        Op::TestConstant { a, index }
                    }
                    Test::IsList => Op::TestList { a },
                    Test::IsRecord => Op::TestRecord { a },
                    Test::Present => Op::TestMissing { want: false, a },
                    Test::Length(n) => Op::TestLength { a, length: *n as u32 },
                    Test::AtLeast(n) => Op::TestAtLeast { a, length: *n as u32 },
                };
                self.emit(op, span);
                let jump = self.jump(span);
                self.decision(yes, arms, fails, span);
                self.patch_here(vec![jump]);
                self.decision(no, arms, fails, span);
            }
            Decision::Arm { binds, guard, arm } => {
                for (var, from) in binds {
                    let mark = self.mark();
                    let from = self.load(*from, None, span);
                    self.bind_register(*var, from, span);
                    self.release(mark);
                }
                match guard {
                    None => {
                        let jump = self.jump(span);
                        arms[*arm].push(jump);
                    }
                    Some((guard, no)) => {
                        let fail = self.condition(guard, false);
                        let jump = self.jump(span);
                        arms[*arm].push(jump);
                        self.patch_here(fail);
                        self.decision(no, arms, fails, span);
                    }
                }
            }
            Decision::Either(a, b) => {
                let mut here = Vec::new();
                self.decision(a, arms, &mut here, span);
                self.patch_here(here);
                self.decision(b, arms, fails, span);
            }
            Decision::Fail => fails.push(self.jump(span)),
        }
    }
}

/// The elements that `xs += [a, b]` adds, when they can be added one by one.
fn appended(var: Var, value: &Node) -> Option<&[Node]> {
    let Form::Prim(Prim::Binary(BinaryOp::Add), args) = &value.form else { return None };
    let [Node { form: Form::Var(left), .. }, Node { form: Form::Prim(Prim::List(spreads), items), .. }] = &args[..] else {
        return None;
    };
    (*left == var && items.len() == 1 && !spreads[0] && !sets(&items[0], var)).then_some(&items[..])
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

fn is_comparison(op: BinaryOp) -> bool {
    use BinaryOp::*;
    matches!(op, Equal | NotEqual | Less | LessEqual | Greater | GreaterEqual)
}

/// Whether negating the outcome of a node as a condition is the same as negating its value.
fn is_test(node: &Node) -> bool {
    match &node.form {
        Form::Prim(Prim::Binary(op), _) => is_comparison(*op),
        Form::Prim(Prim::IsNull | Prim::IsMissing | Prim::Bool, _) => true,
        Form::If(_, b, no) => {
            matches!(no.form, Form::Const(Literal::Bool(false))) || matches!(b.form, Form::Const(Literal::Bool(true)))
        }
        _ => false,
    }
}

/// Whether evaluating a node may run other code, which could change a cell.
fn calls(node: &Node) -> bool {
    match &node.form {
        Form::Const(_) | Form::Var(_) | Form::Global(_) | Form::Builtin(_) | Form::Lambda(_) => false,
        Form::Prim(_, args) => args.iter().any(calls),
        _ => true,
    }
}

/// Whether evaluating a node may give a variable a new value.
fn sets(node: &Node, var: Var) -> bool {
    let arg = |arg: &Arg| match arg {
        Arg::Item(node) | Arg::Spread(node) => sets(node, var),
    };
    match &node.form {
        Form::Const(_) | Form::Var(_) | Form::Global(_) | Form::Builtin(_) | Form::Lambda(_) => false,
        Form::Prim(_, args) | Form::Apply(_, args) => args.iter().any(|node| sets(node, var)),
        Form::Call(f, args) => sets(f, var) || args.iter().any(arg),
        Form::Method(value, _, args) => sets(value, var) || args.iter().any(arg),
        // Anything with statements in it may.
        _ => true,
    }
}
