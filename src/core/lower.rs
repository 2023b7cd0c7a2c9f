//! Trees to core: sugar is removed here and nowhere else.

use std::collections::HashSet;
use std::rc::Rc;

use crate::builtins::{BuiltinId, Context, find};
use crate::check::{BindingId, GlobalId, GlobalKind, ModuleId, Program, Resolved};
use crate::syntax::token::Name;
use crate::syntax::tree::{self, *};
use crate::syntax::{Place, Span};

use super::decide::Decider;
use super::{
    Arg, Core, Form, Function, Head, Item, Key, Label, Loop, Node, Otherwise, Prim, Step, Var, VarInfo,
    Variables, fold,
};

/// Lowers a program without errors: its script, its declarations, and what of the standard library they reach.
pub fn lower(program: &Program) -> Core {
    let mut lowering = Lowering {
        program,
        variables: program
            .modules
            .iter()
            .map(|module| Variables {
                vars: module
                    .bindings
                    .iter()
                    .map(|b| VarInfo {
                        name: b.name.clone(),
                        cell: b.early || b.mutable && b.captured,
                        early: b.early,
                    })
                    .collect(),
            })
            .collect(),
        wanted: Vec::new(),
        seen: HashSet::new(),
        labels: 0,
    };
    let script = lowering.script();
    for (id, global) in program.globals.iter().enumerate() {
        if program.modules[global.module].std.is_none() && global.script_bound.is_none() {
            lowering.want(id);
        }
    }
    let methods = lowering.methods();
    let mut items = Vec::new();
    while let Some(global) = lowering.wanted.pop() {
        items.push((global, lowering.item(global)));
    }
    items.sort_by_key(|(global, _)| *global);
    Core { script, items, variables: lowering.variables, methods }
}

struct Lowering<'a> {
    program: &'a Program,
    variables: Vec<Variables>,
    wanted: Vec<GlobalId>,
    seen: HashSet<GlobalId>,
    labels: Label,
}

impl Lowering<'_> {
    fn want(&mut self, global: GlobalId) {
        if self.seen.insert(global) {
            self.wanted.push(global);
        }
    }

    /// The library's functions that a mentioned method may mean.
    fn methods(&mut self) -> Vec<(Name, Vec<(&'static str, GlobalId)>)> {
        let mut methods = Vec::new();
        let mut names: Vec<&Name> = self.program.methods.iter().collect();
        names.sort();
        for name in names {
            let mut targets = Vec::new();
            for module in &self.program.modules {
                if let Some(std) = module.std
                    && ["list", "string", "record", "math", "bytes", "time", "task"].contains(&std)
                    && let Some(global) = module.globals.get(name)
                {
                    targets.push((std, *global));
                }
            }
            for (_, global) in &targets {
                if self.program.globals[*global].alias.is_none() {
                    self.want(*global);
                }
            }
            methods.push((name.clone(), targets));
        }
        methods
    }

    fn script(&mut self) -> Function {
        let module = &self.program.modules[0];
        let span = Span::new(0, self.program.sources.files[0].text.len());
        let args = module.args;
        let mut lower = Lower { all: self, module: 0, labels: Vec::new() };
        let place = module.function_places.get(&u32::MAX).copied().unwrap_or(usize::MAX);
        let bound: Vec<(Var, &Callable)> = lower
            .all
            .program
            .globals
            .iter()
            .filter(|global| global.module == 0 && global.script_bound.is_some())
            .filter_map(|global| match &module.tree.items[global.item].kind {
                StmtKind::Fn(f) => Some((global.binding, f)),
                _ => None,
            })
            .collect();
        let body = lower.statements(&module.tree.items, span, bound, place, true);
        Function {
            name: "script".into(),
            params: vec![args],
            required: 0,
            body,
            place: Place { source: 0, span },
        }
    }

    fn item(&mut self, id: GlobalId) -> Item {
        let global = &self.program.globals[id];
        let module = global.module;
        let program = self.program;
        let stmt = &program.modules[module].tree.items[global.item];
        let mut lower = Lower { all: self, module, labels: Vec::new() };
        match &stmt.kind {
            StmtKind::Fn(f) => Item::Function(lower.callable(f)),
            StmtKind::Const(name, value, _) => {
                let body = lower.expr(value);
                Item::Const(lower.function(name.name.to_string(), Vec::new(), 0, body, value.span))
            }
            StmtKind::Activity(f) => {
                let stub = lower.stub(id, f);
                Item::Isolated { stub, body: lower.callable(f), context: Context::Activity }
            }
            StmtKind::Orchestration(f) => {
                let stub = lower.stub(id, f);
                Item::Isolated { stub, body: lower.callable(f), context: Context::Orchestration }
            }
            _ => {
                let key = lower.fresh("key");
                let node = Node { form: Form::Var(key), span: stmt.span };
                let body = Node {
                    form: Form::Invoke(id, vec![node], Box::new(lower.null(stmt.span))),
                    span: stmt.span,
                };
                Item::Entity { stub: lower.function(global.name.to_string(), vec![key], 1, body, stmt.span) }
            }
        }
    }
}

/// The lowering of one declaration.
struct Lower<'a, 'p> {
    all: &'a mut Lowering<'p>,
    module: ModuleId,
    /// The labels of the loops around, to leave and to repeat.
    labels: Vec<Label>,
}

impl<'p> Lower<'_, 'p> {
    fn program(&self) -> &'p Program {
        self.all.program
    }

    fn fresh(&mut self, name: &str) -> Var {
        let vars = &mut self.all.variables[self.module].vars;
        vars.push(VarInfo { name: name.into(), cell: false, early: false });
        (vars.len() - 1) as Var
    }

    fn node(&self, form: Form, span: Span) -> Node {
        Node { form, span }
    }

    fn null(&self, span: Span) -> Node {
        self.node(Form::Const(Literal::Null), span)
    }

    fn apply(&self, name: &str, args: Vec<Node>, span: Span) -> Node {
        match find(name) {
            Some(id) => self.node(Form::Apply(id, args), span),
            None => self.null(span),
        }
    }

    fn bound(&self, span: Span) -> Option<BindingId> {
        self.program().modules[self.module].bound.get(&span.start).copied()
    }

    // ---- functions

    fn function(&self, name: String, params: Vec<Var>, required: usize, body: Node, span: Span) -> Function {
        let source = self.program().modules[self.module].source;
        Function { name, params, required, body, place: Place { source, span } }
    }

    fn callable(&mut self, f: &Callable) -> Function {
        self.lambda(f.name.name.to_string(), &f.params, &f.body, f.name.span.to(f.body.span))
    }

    fn lambda(&mut self, name: String, params: &[Param], body: &Block, span: Span) -> Function {
        let labels = std::mem::take(&mut self.labels);
        let mut vars = Vec::new();
        let mut prologue = Vec::new();
        for param in params {
            let var = match (&param.pattern.kind, self.bound(param.pattern.span)) {
                (PatternKind::Name(_), Some(binding)) => binding,
                _ => self.fresh("param"),
            };
            vars.push(var);
            let span = param.pattern.span;
            if let Some(default) = &param.default {
                let value = self.expr(default);
                let missing =
                    self.node(Form::Prim(Prim::IsMissing, vec![self.node(Form::Var(var), span)]), span);
                let set = self.node(Form::Set(var, Vec::new(), Box::new(value)), span);
                let null = self.null(span);
                prologue.push(self.node(Form::If(Box::new(missing), Box::new(set), Box::new(null)), span));
            }
            if !matches!(param.pattern.kind, PatternKind::Name(_) | PatternKind::Any) {
                let value = self.node(Form::Var(var), span);
                prologue.extend(self.destructure(&param.pattern, value, span));
            }
        }
        let body = self.block(body);
        let body = if prologue.is_empty() {
            body
        } else {
            let span = body.span;
            prologue.push(body);
            self.node(Form::Seq(prologue), span)
        };
        let (required, _) = crate::check::arity(params);
        self.labels = labels;
        self.function(name, vars, required, body, span)
    }

    /// What is called instead of an isolated declaration: it hands the call to the machine.
    fn stub(&mut self, id: GlobalId, f: &Callable) -> Function {
        let span = f.name.span;
        let mut params: Vec<Var> = f.params.iter().map(|_| self.fresh("arg")).collect();
        let args = params.iter().map(|var| self.node(Form::Var(*var), span)).collect();
        let given = self.fresh("options");
        params.push(given);
        let declared = match &f.options {
            Some(options) => self.expr(options),
            None => self.node(Form::Prim(Prim::Record(Vec::new()), Vec::new()), span),
        };
        let given_node = self.node(Form::Var(given), span);
        let missing = self.node(Form::Prim(Prim::IsMissing, vec![given_node.clone()]), span);
        let merged = self.node(
            Form::Prim(Prim::Record(vec![Key::Spread, Key::Spread]), vec![declared.clone(), given_node]),
            span,
        );
        let options = self.node(Form::If(Box::new(missing), Box::new(declared), Box::new(merged)), span);
        let body = self.node(Form::Invoke(id, args, Box::new(options)), span);
        let (required, _) = crate::check::arity(&f.params);
        self.function(f.name.name.to_string(), params, required, body, span)
    }

    // ---- blocks

    fn block(&mut self, block: &Block) -> Node {
        let module = &self.program().modules[self.module];
        let place = module.function_places.get(&block.span.start).copied().unwrap_or(usize::MAX);
        let functions: Vec<(Var, &Callable)> = block
            .stmts
            .iter()
            .filter_map(|stmt| match &stmt.kind {
                StmtKind::Fn(f) => self.bound(f.name.span).map(|binding| (binding, f)),
                _ => None,
            })
            .collect();
        self.statements(&block.stmts, block.span, functions, place, false)
    }

    fn statements(
        &mut self,
        stmts: &[Stmt],
        span: Span,
        functions: Vec<(Var, &Callable)>,
        place: usize,
        top: bool,
    ) -> Node {
        let mut out = Vec::new();
        let early = self.early(stmts);
        if !early.is_empty() {
            out.push(self.node(Form::Declare(early), span));
        }
        let place = if functions.is_empty() { usize::MAX } else { place };
        for (index, stmt) in stmts.iter().enumerate() {
            if index == place {
                out.push(self.functions(&functions, span));
            }
            self.statement(stmt, top, &mut out);
        }
        // Functions that no statement uses are not made at all.
        let ends_with_value = matches!(stmts.last().map(|stmt| &stmt.kind), Some(StmtKind::Expr(_)));
        if !ends_with_value {
            out.push(self.null(span));
        }
        match out.len() {
            1 => out.remove(0),
            _ => self.node(Form::Seq(out), span),
        }
    }

    fn early(&self, stmts: &[Stmt]) -> Vec<Var> {
        let module = &self.program().modules[self.module];
        let mut early = Vec::new();
        let mut add = |span: Span| {
            if let Some(binding) = module.bound.get(&span.start)
                && module.bindings[*binding as usize].early
            {
                early.push(*binding);
            }
        };
        for stmt in stmts {
            match &stmt.kind {
                StmtKind::Let(pattern, _) => pattern.names(&mut |_, span| add(span)),
                StmtKind::Var(name, _) => add(name.span),
                _ => {}
            }
        }
        early
    }

    fn functions(&mut self, functions: &[(Var, &Callable)], span: Span) -> Node {
        let group = functions.iter().map(|(var, f)| (*var, Rc::new(self.callable(f)))).collect();
        self.node(Form::Functions(group), span)
    }

    fn statement(&mut self, stmt: &Stmt, top: bool, out: &mut Vec<Node>) {
        let span = stmt.span;
        match &stmt.kind {
            StmtKind::Let(pattern, value) => {
                let value = self.expr(value);
                out.extend(self.destructure(pattern, value, span));
            }
            StmtKind::Var(name, value) => {
                let value = self.expr(value);
                if let Some(binding) = self.bound(name.span) {
                    out.push(self.node(Form::Bind(binding, Box::new(value)), span));
                }
            }
            StmtKind::Expr(expr) => {
                let node = self.expr(expr);
                out.push(node);
            }
            StmtKind::Assign(target, op, value) => {
                let node = self.assign(target, *op, value, span);
                out.push(node);
            }
            StmtKind::For(pattern, list, body) => {
                let node = self.for_(pattern, list, body, span);
                out.push(node);
            }
            StmtKind::While(condition, body) => {
                let condition = self.condition(condition);
                let label = self.label();
                let body = self.loop_body(label, body);
                let looped = Loop { label, head: Head::While(Box::new(condition)), body: Box::new(body) };
                out.push(self.node(Form::Loop(looped), span));
            }
            StmtKind::Fn(_) => {}
            StmtKind::Const(..)
            | StmtKind::Activity(_)
            | StmtKind::Orchestration(_)
            | StmtKind::Entity(_) => {
                debug_assert!(top);
            }
            StmtKind::Import { .. } | StmtKind::Test(..) | StmtKind::Error => {}
        }
    }

    fn label(&mut self) -> Label {
        self.all.labels += 1;
        self.all.labels
    }

    fn loop_body(&mut self, label: Label, body: &Block) -> Node {
        self.labels.push(label);
        let body = self.block(body);
        self.labels.pop();
        body
    }

    fn for_(&mut self, pattern: &Pattern, list: &Expr, body: &Block, span: Span) -> Node {
        let label = self.label();
        let var = match (&pattern.kind, self.bound(pattern.span)) {
            (PatternKind::Name(_), Some(binding)) => binding,
            _ => self.fresh("item"),
        };
        let head = match &list.kind {
            ExprKind::Range(low, high, inclusive) => {
                let (low, high) = (self.expr(low), self.expr(high));
                Head::Range(var, Box::new(low), Box::new(high), *inclusive)
            }
            _ => Head::Each(var, Box::new(self.expr(list))),
        };
        let mut body = self.loop_body(label, body);
        if !matches!(pattern.kind, PatternKind::Name(_) | PatternKind::Any) {
            let value = self.node(Form::Var(var), pattern.span);
            let mut stmts = self.destructure(pattern, value, pattern.span);
            stmts.push(body);
            body = self.node(Form::Seq(stmts), span);
        }
        self.node(Form::Loop(Loop { label, head, body: Box::new(body) }), span)
    }

    /// Statements that bind the names of a pattern to the parts of a value.
    fn destructure(&mut self, pattern: &Pattern, value: Node, span: Span) -> Vec<Node> {
        match &pattern.kind {
            PatternKind::Name(_) => match self.bound(pattern.span) {
                Some(binding) => vec![self.node(Form::Bind(binding, Box::new(value)), span)],
                None => vec![value],
            },
            PatternKind::Any => vec![value],
            _ => {
                let arms = vec![self.null(span)];
                let node = self.matching(
                    value,
                    &[(std::slice::from_ref(pattern), None)],
                    arms,
                    Otherwise::NoMatch,
                    pattern.span,
                );
                vec![node]
            }
        }
    }

    fn matching(
        &mut self,
        subject: Node,
        arms: &[(&[Pattern], Option<Node>)],
        bodies: Vec<Node>,
        otherwise: Otherwise,
        span: Span,
    ) -> Node {
        let subject_var = match (&subject.form, otherwise) {
            (Form::Var(var), _) if !self.all.variables[self.module].vars[*var as usize].cell => *var,
            _ => self.fresh("subject"),
        };
        let bound = &self.program().modules[self.module].bound;
        let variables = &mut self.all.variables[self.module].vars;
        let mut fresh = |name: &str| {
            variables.push(VarInfo { name: name.into(), cell: false, early: false });
            (variables.len() - 1) as Var
        };
        let mut decider = Decider::new(&mut fresh);
        let mut rows = Vec::new();
        for (number, (patterns, guard)) in arms.iter().enumerate() {
            for pattern in patterns.iter() {
                let binding = |_: &Name, offset: u32| bound.get(&offset).copied();
                rows.push(decider.row(subject_var, pattern, guard.clone(), number, &binding));
            }
        }
        let tree = decider.decide(rows);
        let matched = super::Match { subject, subject_var, tree, arms: bodies, otherwise };
        self.node(Form::Match(Box::new(matched)), span)
    }

    // ---- assignment

    fn assign(&mut self, target: &Expr, op: Option<BinaryOp>, value: &Expr, span: Span) -> Node {
        let mut steps = Vec::new();
        let mut before = Vec::new();
        let Some(var) = self.target(target, &mut steps, &mut before, op.is_some()) else {
            // The state of an entity: its operations come with the runtime of entities.
            return self.apply("unlock", Vec::new(), span);
        };
        let value = match op {
            None => self.expr(value),
            Some(op) => {
                let mut current = self.node(Form::Var(var), target.span);
                for step in &steps {
                    current = match step {
                        Step::Field(name, at) => {
                            self.node(Form::Prim(Prim::Field(name.clone()), vec![current]), *at)
                        }
                        Step::Index(index) => {
                            self.node(Form::Prim(Prim::Index, vec![current, index.clone()]), target.span)
                        }
                    };
                }
                let value = self.expr(value);
                self.node(Form::Prim(Prim::Binary(op), vec![current, value]), span)
            }
        };
        let set = self.node(Form::Set(var, steps, Box::new(value)), span);
        if before.is_empty() {
            return set;
        }
        before.push(set);
        self.node(Form::Seq(before), span)
    }

    /// The variable and the path of a target. Indexes that are read twice are computed once, `before`.
    fn target(
        &mut self,
        target: &Expr,
        steps: &mut Vec<Step>,
        before: &mut Vec<Node>,
        twice: bool,
    ) -> Option<Var> {
        match &target.kind {
            ExprKind::Name(_) => match self.program().modules[self.module].uses.get(&target.span.start) {
                Some(Resolved::Local(binding)) => Some(*binding),
                _ => None,
            },
            ExprKind::Field(inner, name) => {
                let var = self.target(inner, steps, before, twice)?;
                steps.push(Step::Field(name.name.clone(), name.span));
                Some(var)
            }
            ExprKind::Index(inner, index) => {
                let var = self.target(inner, steps, before, twice)?;
                let mut node = self.expr(index);
                if twice && !matches!(node.form, Form::Const(_) | Form::Var(_)) {
                    let temp = self.fresh("index");
                    let span = node.span;
                    before.push(self.node(Form::Bind(temp, Box::new(node)), span));
                    node = self.node(Form::Var(temp), span);
                }
                steps.push(Step::Index(node));
                Some(var)
            }
            _ => None,
        }
    }

    // ---- expressions

    fn condition(&mut self, expr: &Expr) -> Node {
        self.expr(expr)
    }

    fn exprs(&mut self, exprs: &[Expr]) -> Vec<Node> {
        exprs.iter().map(|expr| self.expr(expr)).collect()
    }

    fn args(&mut self, args: &[Element]) -> Vec<Arg> {
        args.iter()
            .map(|arg| match arg {
                Element::Item(e) => Arg::Item(self.expr(e)),
                Element::Spread(e) => Arg::Spread(self.expr(e)),
            })
            .collect()
    }

    fn expr(&mut self, expr: &Expr) -> Node {
        let span = expr.span;
        let constant = |literal| Node { form: Form::Const(literal), span };
        match &expr.kind {
            ExprKind::Null | ExprKind::Error => constant(Literal::Null),
            ExprKind::Bool(b) => constant(Literal::Bool(*b)),
            ExprKind::Int(n) => constant(Literal::Int(*n)),
            ExprKind::IntMin => constant(Literal::Int(i64::MIN)),
            ExprKind::Float(x) => constant(Literal::Float(*x)),
            ExprKind::Duration(d) => constant(Literal::Duration(*d)),
            ExprKind::Str(s) => constant(Literal::Str(s.clone())),
            ExprKind::Interpolated(texts, exprs) => self.interpolated(texts, exprs, span),
            ExprKind::Name(_) => self.name(span.start, span),
            ExprKind::State => self.apply("unlock", Vec::new(), span),
            ExprKind::List(items) => {
                let spreads = items.iter().map(|item| matches!(item, Element::Spread(_))).collect();
                let items = items.iter().map(|item| self.expr(item.expr())).collect();
                self.node(Form::Prim(Prim::List(spreads), items), span)
            }
            ExprKind::Record(fields) => self.record(fields, span),
            ExprKind::Lambda(lambda) => {
                let f = self.lambda("fn".into(), &lambda.params, &lambda.body, span);
                self.node(Form::Lambda(Rc::new(f)), span)
            }
            ExprKind::Unary(op, e) => {
                let e = self.expr(e);
                fold::prim(if *op == UnaryOp::Not { Prim::Not } else { Prim::Negate }, vec![e], span)
            }
            ExprKind::Binary(op, a, b) => {
                let (a, b) = (self.expr(a), self.expr(b));
                fold::prim(Prim::Binary(*op), vec![a, b], span)
            }
            ExprKind::And(a, b) => {
                let (a, b) = (self.expr(a), self.expr(b));
                let at = b.span;
                let b = fold::prim(Prim::Bool, vec![b], at);
                self.node(Form::If(Box::new(a), Box::new(b), Box::new(constant(Literal::Bool(false)))), span)
            }
            ExprKind::Or(a, b) => {
                let (a, b) = (self.expr(a), self.expr(b));
                let at = b.span;
                let b = fold::prim(Prim::Bool, vec![b], at);
                self.node(Form::If(Box::new(a), Box::new(constant(Literal::Bool(true))), Box::new(b)), span)
            }
            ExprKind::Coalesce(a, b) => {
                let a = self.expr(a);
                let b = self.expr(b);
                self.unless_null(a, span, |_, value| value, b)
            }
            ExprKind::Pipe(value, f) => {
                let value = self.expr(value);
                match &f.kind {
                    ExprKind::Call(callee, args) => {
                        let args = self.args(args);
                        self.call(callee, Some(value), args, f.span)
                    }
                    _ => self.call(f, Some(value), Vec::new(), span),
                }
            }
            ExprKind::Range(a, b, inclusive) => {
                let (a, b) = (self.expr(a), self.expr(b));
                self.node(Form::Prim(Prim::Range(*inclusive), vec![a, b]), span)
            }
            ExprKind::Call(callee, args) => self.call_in_order(callee, args, span),
            ExprKind::Field(value, name) => {
                if self.program().modules[self.module].uses.contains_key(&name.span.start) {
                    return self.name(name.span.start, span);
                }
                let value = self.expr(value);
                self.node(Form::Prim(Prim::Field(name.name.clone()), vec![value]), value_to(span, name))
            }
            ExprKind::OptionalField(value, name) => {
                let value = self.expr(value);
                self.node(Form::Prim(Prim::OptionalField(name.name.clone()), vec![value]), span)
            }
            ExprKind::Index(value, index) => {
                let (value, index) = (self.expr(value), self.expr(index));
                self.node(Form::Prim(Prim::Index, vec![value, index]), span)
            }
            ExprKind::With(call, options) => self.with(call, options, span),
            ExprKind::If(condition, then, other) => {
                let condition = self.condition(condition);
                let then = self.block(then);
                let other = match other {
                    Some(other) => self.expr(other),
                    None => self.null(span),
                };
                match condition.form {
                    Form::Const(Literal::Bool(true)) => then,
                    Form::Const(Literal::Bool(false)) => other,
                    _ => self.node(Form::If(Box::new(condition), Box::new(then), Box::new(other)), span),
                }
            }
            ExprKind::Match(value, arms) => {
                let subject = self.expr(value);
                let guards: Vec<Option<Node>> =
                    arms.iter().map(|arm| arm.guard.as_ref().map(|g| self.expr(g))).collect();
                let bodies = arms.iter().map(|arm| self.block(&arm.body)).collect();
                let rows: Vec<(&[Pattern], Option<Node>)> =
                    arms.iter().zip(guards).map(|(arm, guard)| (&arm.patterns[..], guard)).collect();
                let head = Span { start: span.start, end: value.span.end };
                self.matching(subject, &rows, bodies, Otherwise::NoArm, head)
            }
            ExprKind::Do(block) => self.block(block),
            ExprKind::Try(t) => self.try_(t, span),
            ExprKind::Lock(lock) => {
                let entities = self.exprs(&lock.entities);
                let spreads = vec![false; entities.len()];
                let list = self.node(Form::Prim(Prim::List(spreads), entities), span);
                let acquire = self.apply("lock", vec![list], span);
                let body = self.block(&lock.body);
                let release = self.apply("unlock", Vec::new(), span);
                let held = super::Try { body, catch: None, finally: Some(release) };
                let held = self.node(Form::Try(Box::new(held)), span);
                self.node(Form::Seq(vec![acquire, held]), span)
            }
            ExprKind::Async(e) => {
                let labels = std::mem::take(&mut self.labels);
                let body = self.expr(e);
                self.labels = labels;
                let task = self.function("async".into(), Vec::new(), 0, body, span);
                let task = self.node(Form::Lambda(Rc::new(task)), span);
                self.apply("async", vec![task], span)
            }
            ExprKind::Await(e) => {
                let e = self.expr(e);
                self.apply("await", vec![e], span)
            }
            ExprKind::Start(e) => {
                let (call, options) = match &e.kind {
                    ExprKind::With(call, options) => (&**call, Some(&**options)),
                    _ => (&**e, None),
                };
                let mut parts = match &call.kind {
                    ExprKind::Call(callee, args) => {
                        let callee = self.expr(callee);
                        let spreads = args.iter().map(|a| matches!(a, Element::Spread(_))).collect();
                        let args = args.iter().map(|a| self.expr(a.expr())).collect();
                        vec![callee, self.node(Form::Prim(Prim::List(spreads), args), span)]
                    }
                    _ => vec![self.expr(call), self.null(span)],
                };
                parts.push(match options {
                    Some(options) => self.expr(options),
                    None => self.null(span),
                });
                self.apply("start", parts, span)
            }
            ExprKind::Signal(signal) => {
                let target = match &signal.call.kind {
                    ExprKind::Call(callee, _) => match &callee.kind {
                        ExprKind::Field(value, _) => self.expr(value),
                        _ => self.expr(callee),
                    },
                    _ => self.null(span),
                };
                let args = match &signal.call.kind {
                    ExprKind::Call(_, args) => args.iter().map(|a| self.expr(a.expr())).collect(),
                    _ => Vec::new(),
                };
                let args = self.node(Form::Prim(Prim::List(vec![false; args.len()]), args), span);
                let after = match &signal.after {
                    Some(after) => self.expr(after),
                    None => self.null(span),
                };
                self.apply("signal", vec![target, args, after], span)
            }
            ExprKind::Throw(e) => {
                let e = self.expr(e);
                self.node(Form::Throw(Box::new(e)), span)
            }
            ExprKind::Return(value) => {
                let value = match value {
                    Some(value) => self.expr(value),
                    None => self.null(span),
                };
                self.node(Form::Return(Box::new(value)), span)
            }
            ExprKind::Break => self.node(Form::Exit(self.labels.last().copied().unwrap_or(0)), span),
            ExprKind::Continue => self.node(Form::Again(self.labels.last().copied().unwrap_or(0)), span),
        }
    }

    fn interpolated(&mut self, texts: &[Name], exprs: &[Expr], span: Span) -> Node {
        let mut parts = Vec::new();
        for (number, text) in texts.iter().enumerate() {
            if !text.is_empty() {
                parts.push(self.node(Form::Const(Literal::Str(text.clone())), span));
            }
            if let Some(expr) = exprs.get(number) {
                parts.push(self.expr(expr));
            }
        }
        self.node(Form::Prim(Prim::Concat, parts), span)
    }

    fn record(&mut self, fields: &[tree::Field], span: Span) -> Node {
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        for field in fields {
            match field {
                tree::Field::Short(name) => {
                    keys.push(Key::Named(name.name.clone()));
                    let value = match &*name.name {
                        "state" => self.apply("unlock", Vec::new(), name.span),
                        _ => self.name(name.span.start, name.span),
                    };
                    values.push(value);
                }
                tree::Field::Named(name, value) => {
                    keys.push(Key::Named(name.name.clone()));
                    values.push(self.expr(value));
                }
                tree::Field::Computed(key, value) => {
                    keys.push(Key::Computed);
                    values.push(self.expr(key));
                    values.push(self.expr(value));
                }
                tree::Field::Spread(value) => {
                    keys.push(Key::Spread);
                    values.push(self.expr(value));
                }
            }
        }
        self.node(Form::Prim(Prim::Record(keys), values), span)
    }

    /// The value that the name at an offset means.
    fn name(&mut self, offset: u32, span: Span) -> Node {
        let form = match self.program().modules[self.module].uses.get(&offset) {
            Some(Resolved::Local(binding)) => Form::Var(*binding),
            Some(Resolved::Global(global)) => return self.global(*global, span),
            Some(Resolved::Builtin(id)) if id.get().name == "self" => Form::Apply(*id, Vec::new()),
            Some(Resolved::Builtin(id)) => Form::Builtin(*id),
            None => Form::Const(Literal::Null),
        };
        self.node(form, span)
    }

    fn global(&mut self, global: GlobalId, span: Span) -> Node {
        let info = &self.program().globals[global];
        if info.script_bound.is_some() {
            return self.node(Form::Var(info.binding), span);
        }
        self.all.want(global);
        self.node(Form::Global(global), span)
    }

    // ---- calls

    fn call_in_order(&mut self, callee: &Expr, args: &[Element], span: Span) -> Node {
        // The receiver of a method is evaluated before its arguments.
        if let ExprKind::OptionalField(value, name) = &callee.kind {
            let value = self.expr(value);
            let args = self.args(args);
            let null = self.null(span);
            let name = name.name.clone();
            return self.unless_null(
                value,
                span,
                |_, value| Node { form: Form::Method(Box::new(value), name, args), span },
                null,
            );
        }
        let args = self.args(args);
        self.call(callee, None, args, span)
    }

    fn call(&mut self, callee: &Expr, first: Option<Node>, rest: Vec<Arg>, span: Span) -> Node {
        let args: Vec<Arg> = first.map(Arg::Item).into_iter().chain(rest).collect();
        let static_at = match &callee.kind {
            ExprKind::Name(_) => Some(callee.span.start),
            ExprKind::Field(_, name) => Some(name.span.start),
            _ => None,
        };
        let resolved = static_at.and_then(|at| self.program().modules[self.module].uses.get(&at).copied());
        match (resolved, &callee.kind) {
            (Some(Resolved::Builtin(id)), _) => self.builtin(id, args, span),
            (Some(Resolved::Global(global)), _) => {
                let callee = self.global(global, callee.span);
                self.node(Form::Call(Box::new(callee), args), span)
            }
            (None, ExprKind::Field(value, name)) => {
                let value = self.expr(value);
                let span = Span { start: span.start, end: span.end };
                self.node(Form::Method(Box::new(value), name.name.clone(), args), span)
            }
            _ => {
                let callee = self.expr(callee);
                self.node(Form::Call(Box::new(callee), args), span)
            }
        }
    }

    fn builtin(&mut self, id: BuiltinId, args: Vec<Arg>, span: Span) -> Node {
        if args.iter().any(|arg| matches!(arg, Arg::Spread(_))) {
            let callee = self.node(Form::Builtin(id), span);
            return self.node(Form::Call(Box::new(callee), args), span);
        }
        let args = args.into_iter().map(|arg| match arg {
            Arg::Item(node) | Arg::Spread(node) => node,
        });
        self.node(Form::Apply(id, args.collect()), span)
    }

    fn with(&mut self, call: &Expr, options: &Expr, span: Span) -> Node {
        let ExprKind::Call(callee, args) = &call.kind else { return self.expr(call) };
        let at = match &callee.kind {
            ExprKind::Field(_, name) => name.span.start,
            _ => callee.span.start,
        };
        let Some(Resolved::Global(global)) = self.program().modules[self.module].uses.get(&at).copied()
        else {
            return self.expr(call);
        };
        if !matches!(self.program().globals[global].kind, GlobalKind::Activity | GlobalKind::Orchestration) {
            return self.expr(call);
        }
        let mut args = self.args(args);
        while args.len() < self.program().globals[global].max {
            args.push(Arg::Item(self.node(Form::Prim(Prim::Missing, Vec::new()), span)));
        }
        args.push(Arg::Item(self.expr(options)));
        let callee = self.global(global, callee.span);
        self.node(Form::Call(Box::new(callee), args), span)
    }

    /// `value`, or what is made of it, unless it is null.
    fn unless_null(
        &mut self,
        value: Node,
        span: Span,
        make: impl FnOnce(&mut Self, Node) -> Node,
        other: Node,
    ) -> Node {
        let temp = self.fresh("value");
        let bind = self.node(Form::Bind(temp, Box::new(value)), span);
        let var = self.node(Form::Var(temp), span);
        let is_null = self.node(Form::Prim(Prim::IsNull, vec![var.clone()]), span);
        let made = make(self, var);
        let choice = self.node(Form::If(Box::new(is_null), Box::new(other), Box::new(made)), span);
        self.node(Form::Seq(vec![bind, choice]), span)
    }

    // ---- errors

    fn try_(&mut self, t: &Try, span: Span) -> Node {
        let body = self.block(&t.body);
        let catch = if t.catches.is_empty() {
            None
        } else {
            let error = self.fresh("error");
            let bodies: Vec<Node> = t.catches.iter().map(|(_, body)| self.block(body)).collect();
            let rows: Vec<(&[Pattern], Option<Node>)> =
                t.catches.iter().map(|(pattern, _)| (std::slice::from_ref(pattern), None)).collect();
            let subject = self.node(Form::Var(error), span);
            Some((error, self.matching(subject, &rows, bodies, Otherwise::Rethrow, span)))
        };
        let finally = t.finally.as_ref().map(|block| self.block(block));
        self.node(Form::Try(Box::new(super::Try { body, catch, finally })), span)
    }
}

/// The span of `.name` at the end of a field access, where an error about it is shown.
fn value_to(span: Span, name: &Ident) -> Span {
    Span { start: span.start, end: name.span.end }
}
