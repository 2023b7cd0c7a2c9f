//! Blocks, statements, patterns and targets of assignments.

use std::rc::Rc;

use crate::check::{GlobalId, Resolved};
use crate::syntax::Span;
use crate::syntax::token::Name;
use crate::syntax::tree::*;

use super::super::decide::Decider;
use super::super::{Form, Head, Label, Loop, Node, Otherwise, Prim, Step, Var, VarInfo};
use super::Lower;

impl Lower<'_, '_> {
    pub(super) fn block(&mut self, block: &Block) -> Node {
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

    pub(super) fn statements(
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
            if let Some(mark) = self.mark(stmt) {
                out.push(mark);
            }
            self.statement(stmt, top, &mut out);
        }
        // Functions that no statement uses are not made.
        let ends_with_value = matches!(stmts.last().map(|stmt| &stmt.kind), Some(StmtKind::Expr(_)));
        if !ends_with_value {
            out.push(self.null(span));
        }
        match out.len() {
            1 => out.remove(0),
            _ => self.node(Form::Seq(out), span),
        }
    }

    /// Whether statements get marks: in code for the debugger, outside of the standard library.
    fn has_marks(&self) -> bool {
        self.all.marks && self.program().modules[self.module].std.is_none()
    }

    /// Returns the mark before a statement, if it gets one. A loop with a condition has its mark
    /// before the condition, so that each round passes it.
    fn mark(&self, stmt: &Stmt) -> Option<Node> {
        let end = match &stmt.kind {
            StmtKind::Let(..) | StmtKind::Var(..) | StmtKind::Assign(..) => stmt.span.end,
            StmtKind::For(_, _, list, _) => list.span.end,
            StmtKind::Expr(expr) => match &expr.kind {
                ExprKind::If(condition, ..) => condition.span.end,
                ExprKind::Match(value, _) => value.span.end,
                _ => stmt.span.end,
            },
            _ => return None,
        };
        self.has_marks().then(|| self.node(Form::Mark, Span { start: stmt.span.start, end }))
    }

    /// Returns a node with a mark before it.
    fn marked(&self, span: Span, node: Node) -> Node {
        if !self.has_marks() {
            return node;
        }
        let whole = node.span;
        self.node(Form::Seq(vec![self.node(Form::Mark, span), node]), whole)
    }

    /// Returns the body of a function with a mark at its end, if the body gets marks and ends
    /// without a value. So the values that its last statement leaves can be seen.
    pub(super) fn with_end(&self, stmts: &[Stmt], end: Span, body: Node) -> Node {
        let ends_with_value = matches!(stmts.last().map(|stmt| &stmt.kind), Some(StmtKind::Expr(_)) | None);
        if ends_with_value || !self.has_marks() {
            return body;
        }
        let span = body.span;
        let mut nodes = match body.form {
            Form::Seq(nodes) => nodes,
            _ => vec![body],
        };
        // The mark comes before the null that is the value.
        nodes.insert(nodes.len() - 1, self.node(Form::Mark, end));
        self.node(Form::Seq(nodes), span)
    }

    pub(super) fn early(&self, stmts: &[Stmt]) -> Vec<Var> {
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

    pub(super) fn functions(&mut self, functions: &[(Var, &Callable)], span: Span) -> Node {
        let group = functions.iter().map(|(var, f)| (*var, Rc::new(self.callable(f)))).collect();
        self.node(Form::Functions(group), span)
    }

    pub(super) fn statement(&mut self, stmt: &Stmt, top: bool, out: &mut Vec<Node>) {
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
            StmtKind::For(label, pattern, list, body) => {
                let node = self.for_(label.as_ref(), pattern, list, body, span);
                out.push(node);
            }
            StmtKind::While(name, condition, body) => {
                let head = Span { start: span.start, end: condition.span.end };
                let condition = self.condition(condition);
                let condition = self.marked(head, condition);
                let label = self.label();
                let body = self.loop_body(name.as_ref(), label, body);
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
            StmtKind::Import { .. } | StmtKind::Error => {}
            StmtKind::Test(..) | StmtKind::Mock(_) | StmtKind::Property(_) | StmtKind::Schedule(_) => {}
        }
    }

    pub(super) fn label(&mut self) -> Label {
        self.all.labels += 1;
        self.all.labels
    }

    pub(super) fn loop_body(&mut self, name: Option<&Ident>, label: Label, body: &Block) -> Node {
        self.labels.push((name.map(|name| name.name.clone()), label));
        let body = self.block(body);
        self.labels.pop();
        body
    }

    /// Returns the label of the loop that a `break` or `continue` means.
    pub(super) fn labelled(&self, name: Option<&Ident>) -> Label {
        let is_meant = |known: &Option<Name>| name.is_none_or(|name| known.as_ref() == Some(&name.name));
        self.labels.iter().rev().find(|(known, _)| is_meant(known)).map_or(0, |(_, label)| *label)
    }

    pub(super) fn for_(
        &mut self,
        name: Option<&Ident>,
        pattern: &Pattern,
        list: &Expr,
        body: &Block,
        span: Span,
    ) -> Node {
        if let Some(reader) = self.line_reader(list) {
            return self.for_lines(name, pattern, list, reader, body, span);
        }
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
        let mut body = self.loop_body(name, label, body);
        if !matches!(pattern.kind, PatternKind::Name(_) | PatternKind::Any) {
            let value = self.node(Form::Var(var), pattern.span);
            let mut stmts = self.destructure(pattern, value, pattern.span);
            stmts.push(body);
            body = self.node(Form::Seq(stmts), span);
        }
        self.node(Form::Loop(Loop { label, head, body: Box::new(body) }), span)
    }

    /// Returns the library's reader of lines, if an expression is a call of `fs.lines`.
    fn line_reader(&self, list: &Expr) -> Option<GlobalId> {
        let ExprKind::Call(callee, _) = &list.kind else { return None };
        let ExprKind::Field(_, name) = &callee.kind else { return None };
        let resolved = self.program().modules[self.module].uses.get(&name.span.start).copied()?;
        let Resolved::Global(called) = resolved else { return None };
        let program = self.program();
        let called = &program.globals[called];
        let module = &program.modules[called.module];
        if module.std != Some("fs") || &*called.name != "lines" {
            return None;
        }
        // A library of an earlier version has no reader.
        module.globals.get("line_reader").copied()
    }

    /// Lowers `for line in fs.lines(path)` to a loop that asks a reader for each line, so that the
    /// file is never in memory as a whole.
    fn for_lines(
        &mut self,
        name: Option<&Ident>,
        pattern: &Pattern,
        list: &Expr,
        reader: GlobalId,
        body: &Block,
        span: Span,
    ) -> Node {
        let label = self.label();
        let (next, line) = (self.fresh("next"), self.fresh("line"));
        let ExprKind::Call(_, args) = &list.kind else { return self.null(span) };
        let args = self.args(args);
        self.all.want(reader);
        let reader = Box::new(self.node(Form::Global(reader), list.span));
        let reader = self.node(Form::Call(reader, args), list.span);
        let bind_next = self.node(Form::Bind(next, Box::new(reader)), list.span);
        let asked = Box::new(self.node(Form::Var(next), list.span));
        let asked = self.node(Form::Call(asked, Vec::new()), list.span);
        let bind_line = self.node(Form::Bind(line, Box::new(asked)), list.span);
        let is_end = vec![self.node(Form::Var(line), span)];
        let is_end = Box::new(self.node(Form::Prim(Prim::IsNull, is_end), span));
        let (exit, go_on) = (self.node(Form::Exit(label), span), self.null(span));
        let end = self.node(Form::If(is_end, Box::new(exit), Box::new(go_on)), span);
        let mut stmts = vec![bind_line, end];
        let value = self.node(Form::Var(line), pattern.span);
        stmts.extend(self.destructure(pattern, value, pattern.span));
        stmts.push(self.loop_body(name, label, body));
        let body = Box::new(self.node(Form::Seq(stmts), span));
        let always = Box::new(self.node(Form::Const(Literal::Bool(true)), span));
        let looped = self.node(Form::Loop(Loop { label, head: Head::While(always), body }), span);
        self.node(Form::Seq(vec![bind_next, looped]), span)
    }

    /// Returns statements that bind the names of a pattern to the parts of a value.
    pub(super) fn destructure(&mut self, pattern: &Pattern, value: Node, span: Span) -> Vec<Node> {
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

    pub(super) fn matching(
        &mut self,
        subject: Node,
        arms: &[(&[Pattern], Option<Node>)],
        bodies: Vec<Node>,
        otherwise: Otherwise,
        span: Span,
    ) -> Node {
        // The subject keeps its value, even if a guard assigns the variable from which it came.
        let is_assigned =
            |var: Var| arms.iter().filter_map(|(_, guard)| guard.as_ref()).any(|guard| guard.sets(var));
        let subject_var = match subject.form {
            Form::Var(var)
                if !self.all.variables[self.module].vars[var as usize].cell && !is_assigned(var) =>
            {
                var
            }
            _ => self.fresh("subject"),
        };
        let bound = &self.program().modules[self.module].bound;
        let variables = &mut self.all.variables[self.module].vars;
        let mut fresh = |name: &str| {
            variables.push(VarInfo::made(name));
            (variables.len() - 1) as Var
        };
        let mut decider = Decider::new(&mut fresh);
        let mut rows = Vec::new();
        for (number, (patterns, guard)) in arms.iter().enumerate() {
            for pattern in patterns.iter() {
                let binding = |_: &Name, offset: u32| bound.get(&offset).copied();
                rows.extend(decider.rows(subject_var, pattern, guard.clone(), number, &binding));
            }
        }
        let tree = decider.decide(rows);
        let matched = crate::core::Match { subject, subject_var, tree, arms: bodies, otherwise };
        self.node(Form::Match(Box::new(matched)), span)
    }

    pub(super) fn assign(&mut self, target: &Expr, op: Option<BinaryOp>, value: &Expr, span: Span) -> Node {
        let mut steps = Vec::new();
        let mut before = Vec::new();
        let Some(var) = self.target(target, &mut steps, &mut before, op.is_some()) else {
            return self.null(span);
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

    /// Returns the variable of a target and adds the steps of its path. Indexes that are read twice
    /// are computed once, in `before`.
    pub(super) fn target(
        &mut self,
        target: &Expr,
        steps: &mut Vec<Step>,
        before: &mut Vec<Node>,
        twice: bool,
    ) -> Option<Var> {
        match &target.kind {
            ExprKind::State => self.state,
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
}
