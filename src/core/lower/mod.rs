//! Syntax trees to core. All syntactic sugar is removed here.

mod calls;
mod expressions;
mod messages;
mod schedules;
mod statements;
mod trials;

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use crate::builtins::{Context, find};
use crate::check::{BindingId, Global, GlobalId, METHOD_MODULES, ModuleId, Program};
use crate::syntax::token::Name;
use crate::syntax::tree::*;
use crate::syntax::{Place, Span};

use super::{Arg, Core, Form, Function, Item, Key, Label, Node, Prim, Trials, Var, VarInfo, Variables};

/// Lowers a program without errors: its script, its declarations, and the parts of the standard
/// library that they reach.
pub fn lower(program: &Program) -> Core {
    lowered(program, false)
}

/// Lowers a program for the debugger: with a mark before each statement outside of the standard
/// library, and with the whole library, so that functions have the same numbers whatever else is
/// added to the program.
pub fn lower_for_debugging(program: &Program) -> Core {
    lowered(program, true)
}

fn lowered(program: &Program, marks: bool) -> Core {
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
                        given: false,
                        own: true,
                    })
                    .collect(),
            })
            .collect(),
        wanted: Vec::new(),
        seen: HashSet::new(),
        labels: 0,
        literals: HashMap::new(),
        followed: 0,
        marks,
    };
    let script = lowering.script();
    for (id, global) in program.globals.iter().enumerate() {
        // The tests, mocks, properties and schedules of imported modules are not lowered.
        let elsewhere = global.kind.has_no_name() && global.module != 0;
        let is_own = marks || program.modules[global.module].std.is_none();
        if is_own && global.script_bound.is_none() && !elsewhere {
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
    /// The values of the `const`s that are as good as literals, and the number of `const`s being
    /// followed to find that out.
    literals: HashMap<GlobalId, Option<Literal>>,
    followed: usize,
    /// Whether statements get marks, for the debugger.
    marks: bool,
}

/// The limit on the other `const`s through which a `const` is followed.
const MOST_FOLLOWED: usize = 8;

impl Lowering<'_> {
    fn want(&mut self, global: GlobalId) {
        if self.seen.insert(global) {
            self.wanted.push(global);
        }
    }

    /// Returns the library's functions that a mentioned method can mean.
    fn methods(&mut self) -> Vec<(Name, Vec<(&'static str, GlobalId)>)> {
        let mut methods = Vec::new();
        let mut names: Vec<&Name> = self.program.methods.iter().collect();
        names.sort();
        for name in names {
            let mut targets = Vec::new();
            for module in &self.program.modules {
                if let Some(std) = module.std
                    && METHOD_MODULES.contains(&std)
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

    /// Returns the value of a `const` that is a literal, or computed from literals.
    fn literal(&mut self, global: GlobalId) -> Option<Literal> {
        let info = &self.program.globals[global];
        let StmtKind::Const(_, value, _) = &self.program.modules[info.module].tree.items[info.item].kind
        else {
            return None;
        };
        if let Some(known) = self.literals.get(&global) {
            return known.clone();
        }
        if self.followed == MOST_FOLLOWED || !is_computed(value) {
            return None;
        }
        self.followed += 1;
        let node = Lower { all: self, module: info.module, labels: Vec::new(), state: None }.expr(value);
        self.followed -= 1;
        let literal = match node.form {
            Form::Const(literal) => Some(literal),
            _ => None,
        };
        self.literals.insert(global, literal.clone());
        literal
    }

    fn script(&mut self) -> Function {
        let module = &self.program.modules[0];
        let span = Span::new(0, self.program.sources.files[0].text.len());
        let args = module.args;
        let mut lower = Lower { all: self, module: 0, labels: Vec::new(), state: None };
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
        let items = &module.tree.items;
        let end = items.last().map_or(0, |stmt| stmt.span.end as usize);
        let body = lower.statements(items, span, bound, place, true);
        let body = lower.with_end(items, Span::new(end, end), body);
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
        let mut lower = Lower { all: self, module, labels: Vec::new(), state: None };
        match &stmt.kind {
            StmtKind::Fn(f) => Item::Function(lower.callable(f)),
            StmtKind::Const(name, value, _) => {
                let body = lower.expr(value);
                Item::Const(lower.function(name.name.to_string(), Vec::new(), 0, body, value.span))
            }
            StmtKind::Activity(f) => {
                let stub = lower.stub(id, f, false);
                Item::Isolated { stub, body: lower.callable(f), context: Context::Activity }
            }
            StmtKind::Orchestration(f) => {
                let stub = lower.stub(id, f, program.retries_children);
                Item::Isolated { stub, body: lower.callable(f), context: Context::Orchestration }
            }
            StmtKind::Entity(entity) => lower.entity(id, entity, stmt.span),
            StmtKind::Test(name, body) => lower.test(name, body),
            StmtKind::Schedule(schedule) => lower.schedule(schedule, stmt.span),
            StmtKind::Mock(_) | StmtKind::Property(_) => {
                let mut trials = Trials::default();
                lower.trial(stmt, &mut trials);
                Item::Trials(trials)
            }
            _ => Item::Const(lower.nothing(stmt.span)),
        }
    }
}

/// The lowering of one declaration.
struct Lower<'a, 'p> {
    all: &'a mut Lowering<'p>,
    module: ModuleId,
    /// The enclosing loops, for `break` and `continue`: their names in the program, and their labels.
    labels: Vec<(Option<Name>, Label)>,
    /// In an operation: the variable of the entity's state.
    state: Option<Var>,
}

impl<'p> Lower<'_, 'p> {
    fn program(&self) -> &'p Program {
        self.all.program
    }

    fn fresh(&mut self, name: &str) -> Var {
        let vars = &mut self.all.variables[self.module].vars;
        vars.push(VarInfo::made(name));
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

    /// Returns the state of the entity. The checker has made sure that this is one of its
    /// operations.
    fn state(&self, span: Span) -> Node {
        match self.state {
            Some(var) => self.node(Form::Var(var), span),
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
        let end = body.span.end as usize;
        let lowered = self.block(body);
        let body = self.with_end(&body.stmts, Span::new(end.saturating_sub(1), end), lowered);
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

    /// Lowers the body of an `extern activity`: a request to the embedding process, with the
    /// activity's name, its arguments and its idempotency key.
    fn extern_body(&self, name: &Name, passed: &[Span], span: Span) -> Node {
        let vars = passed.iter().filter_map(|param| self.bound(*param));
        let args: Vec<Node> = vars.map(|var| self.node(Form::Var(var), span)).collect();
        let items = vec![false; args.len()];
        let args = self.node(Form::Prim(Prim::List(items), args), span);
        let name = self.node(Form::Const(Literal::Str(name.clone())), span);
        let key = self.apply("idempotency_key", Vec::new(), span);
        self.apply("extern", vec![name, args, key], span)
    }

    fn nothing(&self, span: Span) -> Function {
        self.function("nothing".into(), Vec::new(), 0, self.null(span), span)
    }

    fn entity(&mut self, id: GlobalId, entity: &Entity, span: Span) -> Item {
        let name = entity.name.name.to_string();
        let key = self.fresh("key");
        let node = self.node(Form::Var(key), span);
        let body = self.node(Form::Invoke(id, vec![node], Box::new(self.null(span))), span);
        let stub = self.function(name.clone(), vec![key], 1, body, span);
        let (mut initial, mut operations, mut private) = (None, Vec::new(), Vec::new());
        let mut migrations = Vec::new();
        let state = self.fresh("state");
        if let Some(var) = self.all.variables[self.module].vars.last_mut() {
            (var.cell, var.given, var.own) = (true, true, true);
        }
        for member in &entity.members {
            match member {
                Member::State(value, span) => {
                    let body = self.expr(value);
                    initial = Some(self.function(format!("{name}.state"), Vec::new(), 0, body, *span));
                }
                Member::Migration(function, span) => {
                    let before = self.fresh("before");
                    let given = self.node(Form::Var(before), *span);
                    let function = Box::new(self.expr(function));
                    let body = self.node(Form::Call(function, vec![Arg::Item(given)]), *span);
                    migrations.push(self.function(format!("{name}.migrate"), vec![before], 1, body, *span));
                }
                Member::Operation(f) => {
                    let mut function = self.member(&name, f, state);
                    function.params.push(state);
                    operations.push((f.name.name.clone(), function));
                }
                Member::Function(f) => private.push(f.name.name.clone()),
                Member::Error => {}
            }
        }
        let mut members = Vec::new();
        for f in entity.callables() {
            let Some(var) = self.bound(f.name.span) else { continue };
            if self.program().modules[self.module].bindings[var as usize].captured {
                members.push((var, self.member(&name, f, state)));
            }
        }
        Item::Entity { stub, initial, migrations, operations, state, members, private }
    }

    /// Lowers an operation or a function of an entity.
    fn member(&mut self, entity: &str, f: &Callable, state: Var) -> Function {
        self.state = Some(state);
        let mut function = self.callable(f);
        self.state = None;
        function.name = format!("{entity}.{}", f.name.name);
        function
    }

    /// Makes the stub of an isolated declaration, which is called in its place and hands the call
    /// to the machine.
    fn stub(&mut self, id: GlobalId, f: &Callable, retries: bool) -> Function {
        let span = f.name.span;
        let mut params: Vec<Var> = f.params.iter().map(|_| self.fresh("arg")).collect();
        let args: Vec<Node> = params.iter().map(|var| self.node(Form::Var(*var), span)).collect();
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
        let body = match self.numbered().filter(|_| retries) {
            Some(numbered) => self.retried(id, args, options, numbered, span),
            None => self.node(Form::Invoke(id, args, Box::new(options)), span),
        };
        let (required, _) = crate::check::arity(&f.params);
        self.function(f.name.name.to_string(), params, required, body, span)
    }
}

impl Lower<'_, '_> {
    /// Returns the library's function that retries a function of the number of the attempt. Older
    /// libraries have none.
    fn numbered(&self) -> Option<GlobalId> {
        let program = self.program();
        let is_it = |g: &Global| program.modules[g.module].std == Some("retry") && &*g.name == "numbered";
        program.globals.iter().position(is_it)
    }

    /// Lowers a call of an orchestration whose options may have `retry`. With `retry`, the library
    /// makes each attempt as another child.
    fn retried(
        &mut self,
        id: GlobalId,
        args: Vec<Node>,
        options: Node,
        numbered: GlobalId,
        span: Span,
    ) -> Node {
        let (all, number) = (self.fresh("options"), self.fresh("number"));
        let bind = self.node(Form::Bind(all, Box::new(options)), span);
        let all = self.node(Form::Var(all), span);
        let policy = self.node(Form::Prim(Prim::OptionalField("retry".into()), vec![all.clone()]), span);
        let no_policy = self.node(Form::Prim(Prim::IsNull, vec![policy.clone()]), span);
        let once = self.node(Form::Invoke(id, args.clone(), Box::new(all.clone())), span);
        // The function counts as the library's, so that the calls have the places of the program.
        let hidden = Span::new(0, 0);
        let keys = vec![Key::Spread, Key::Named("retry".into()), Key::Named("$attempt".into())];
        let values = vec![all, self.null(hidden), self.node(Form::Var(number), hidden)];
        let options = self.node(Form::Prim(Prim::Record(keys), values), hidden);
        let body = self.node(Form::Invoke(id, args, Box::new(options)), hidden);
        let module = self.program().globals[numbered].module;
        let place = Place { source: self.program().modules[module].source, span: hidden };
        let attempt = Function { name: "attempt".into(), params: vec![number], required: 1, body, place };
        let attempt = self.node(Form::Lambda(Rc::new(attempt)), span);
        let numbered = self.global(numbered, span);
        let args = vec![Arg::Item(policy), Arg::Item(attempt)];
        let again = self.node(Form::Call(Box::new(numbered), args), span);
        let choice = self.node(Form::If(Box::new(no_policy), Box::new(once), Box::new(again)), span);
        self.node(Form::Seq(vec![bind, choice]), span)
    }
}

/// Returns whether an expression is a literal, a name, or an operation on literals and names.
fn is_computed(expr: &Expr) -> bool {
    match &expr.kind {
        ExprKind::Bool(_)
        | ExprKind::Int(_)
        | ExprKind::IntMin
        | ExprKind::Float(_)
        | ExprKind::Duration(_)
        | ExprKind::Str(_)
        | ExprKind::Name(_) => true,
        ExprKind::Unary(_, a) => is_computed(a),
        ExprKind::Binary(_, a, b) => is_computed(a) && is_computed(b),
        _ => false,
    }
}
