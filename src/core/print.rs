//! The readable form of core, for `durable check --dump core`.

use std::fmt::Write;

use crate::check::Program;

use super::{
    Arg, Core, Decision, Form, Function, Head, Item, Key, Node, Part, Prim, Step, Test, Var, Variables,
};

/// Prints the script and the user's declarations, and those of the standard library with `all`.
pub fn print(core: &Core, program: &Program, all: bool) -> String {
    let mut out = String::new();
    let mut module = 0;
    let show = |out: &mut String, module: usize, what: &str, f: &Function| {
        let mut printer = Printer { out, program, variables: &core.variables[module], indent: 0 };
        printer.function(what, f);
        printer.out.push('\n');
    };
    show(&mut out, module, "script", &core.script);
    for (id, item) in &core.items {
        module = program.globals[*id].module;
        if program.modules[module].std.is_some() && !all {
            continue;
        }
        match item {
            Item::Function(f) => show(&mut out, module, "fn", f),
            Item::Const(f) => show(&mut out, module, "const", f),
            Item::Isolated { body, context, .. } => {
                let what =
                    if *context == crate::builtins::Context::Activity { "activity" } else { "orchestration" };
                show(&mut out, module, what, body);
            }
            Item::Entity { initial, migrations, operations, members, private, .. } => {
                if let Some(f) = initial {
                    show(&mut out, module, "state", f);
                }
                for f in migrations {
                    show(&mut out, module, "migrate", f);
                }
                for (_, f) in operations {
                    show(&mut out, module, "on", f);
                }
                let is_private =
                    |f: &Function| private.iter().any(|name| f.name.ends_with(&format!(".{name}")));
                for (_, f) in members.iter().filter(|(_, f)| is_private(f)) {
                    show(&mut out, module, "fn", f);
                }
            }
            Item::Test { body, .. } => show(&mut out, module, "test", body),
            Item::Trials(trials) => {
                for property in &trials.properties {
                    show(&mut out, module, "property", &property.body);
                }
            }
        }
    }
    out
}

struct Printer<'a> {
    out: &'a mut String,
    program: &'a Program,
    variables: &'a Variables,
    indent: usize,
}

impl Printer<'_> {
    fn var(&self, var: Var) -> String {
        let info = &self.variables.vars[var as usize];
        format!("{}{}.{var}", if info.cell { "&" } else { "" }, info.name)
    }

    fn line(&mut self) {
        self.out.push('\n');
        for _ in 0..self.indent {
            self.out.push_str("  ");
        }
    }

    fn function(&mut self, what: &str, f: &Function) {
        let params: Vec<String> = f.params.iter().map(|var| self.var(*var)).collect();
        let _ = write!(self.out, "({what} {} ({})", f.name, params.join(" "));
        self.child(&f.body);
        self.out.push(')');
    }

    fn child(&mut self, node: &Node) {
        self.indent += 1;
        self.line();
        self.node(node);
        self.indent -= 1;
    }

    fn group(&mut self, head: &str, children: &[&Node]) {
        let _ = write!(self.out, "({head}");
        for child in children {
            if matches!(child.form, Form::Const(_) | Form::Var(_) | Form::Global(_) | Form::Builtin(_)) {
                self.out.push(' ');
                self.node(child);
            } else {
                self.child(child);
            }
        }
        self.out.push(')');
    }

    fn arg(arg: &Arg) -> &Node {
        match arg {
            Arg::Item(node) | Arg::Spread(node) => node,
        }
    }

    fn node(&mut self, node: &Node) {
        match &node.form {
            Form::Const(literal) => {
                let _ = write!(self.out, "{}", literal_text(literal));
            }
            Form::Var(var) => {
                let text = self.var(*var);
                self.out.push_str(&text);
            }
            Form::Global(id) => {
                let _ = write!(self.out, "@{}", self.program.globals[*id].name);
            }
            Form::Builtin(id) => {
                let _ = write!(self.out, "#{}", id.get().name);
            }
            Form::Seq(nodes) => self.group("seq", &nodes.iter().collect::<Vec<_>>()),
            Form::Bind(var, value) => {
                let head = format!("let {}", self.var(*var));
                self.group(&head, &[value]);
            }
            Form::Set(var, steps, value) => {
                let mut head = format!("set {}", self.var(*var));
                let mut children: Vec<&Node> = Vec::new();
                for step in steps {
                    match step {
                        Step::Field(name, _) => {
                            let _ = write!(head, ".{name}");
                        }
                        Step::Index(index) => {
                            head.push_str("[]");
                            children.push(index);
                        }
                    }
                }
                children.push(value);
                self.group(&head, &children);
            }
            Form::Lambda(f) => self.function("lambda", f),
            Form::Functions(group) => {
                self.out.push_str("(functions");
                self.indent += 1;
                for (_, f) in group {
                    self.line();
                    self.function("fn", f);
                }
                self.indent -= 1;
                self.out.push(')');
            }
            Form::Call(f, args) => {
                let mut children = vec![&**f];
                children.extend(args.iter().map(Self::arg));
                self.group("call", &children);
            }
            Form::Method(value, name, args) => {
                let mut children = vec![&**value];
                children.extend(args.iter().map(Self::arg));
                self.group(&format!("method .{name}"), &children);
            }
            Form::Prim(prim, args) => self.group(&prim_text(prim), &args.iter().collect::<Vec<_>>()),
            Form::If(c, a, b) => self.group("if", &[c, a, b]),
            Form::Loop(l) => match &l.head {
                Head::While(c) => self.group(&format!("while L{}", l.label), &[c, &l.body]),
                Head::Range(var, a, b, inclusive) => {
                    let dots = if *inclusive { "..=" } else { ".." };
                    let head = format!("for L{} {} {dots}", l.label, self.var(*var));
                    self.group(&head, &[a, b, &l.body]);
                }
                Head::Each(var, list) => {
                    let head = format!("for L{} {}", l.label, self.var(*var));
                    self.group(&head, &[list, &l.body]);
                }
            },
            Form::Exit(label) => {
                let _ = write!(self.out, "(exit L{label})");
            }
            Form::Again(label) => {
                let _ = write!(self.out, "(again L{label})");
            }
            Form::Return(value) => self.group("return", &[value]),
            Form::Match(m) => {
                let head = format!("match {}", self.var(m.subject_var));
                let _ = write!(self.out, "({head}");
                self.child(&m.subject);
                self.indent += 1;
                self.decision(&m.tree);
                for (number, arm) in m.arms.iter().enumerate() {
                    self.line();
                    let _ = write!(self.out, "A{number}: ");
                    self.node(arm);
                }
                self.indent -= 1;
                self.out.push(')');
            }
            Form::Try(t) => {
                self.out.push_str("(try");
                self.child(&t.body);
                if let Some((var, handler)) = &t.catch {
                    self.line();
                    let _ = write!(self.out, " catch {}", self.var(*var));
                    self.child(handler);
                }
                if let Some(finally) = &t.finally {
                    self.line();
                    self.out.push_str(" finally");
                    self.child(finally);
                }
                self.out.push(')');
            }
            Form::Throw(value) => self.group("throw", &[value]),
            Form::Apply(id, args) => {
                self.group(&format!("#{}", id.get().name), &args.iter().collect::<Vec<_>>())
            }
            Form::Invoke(id, args, options) => {
                let head = format!("invoke @{}", self.program.globals[*id].name);
                let mut children: Vec<&Node> = args.iter().collect();
                children.push(options);
                self.group(&head, &children);
            }
            Form::Mark => self.out.push_str("mark"),
            Form::Declare(vars) => {
                let vars: Vec<String> = vars.iter().map(|var| self.var(*var)).collect();
                let _ = write!(self.out, "(declare {})", vars.join(" "));
            }
        }
    }

    fn decision(&mut self, tree: &Decision) {
        self.line();
        match tree {
            Decision::Read { into, from, part, then } => {
                let part = match part {
                    Part::Field(name) => format!(".{name}"),
                    Part::Index(n) => format!("[{n}]"),
                    Part::IndexBack(n) => format!("[-{n}]"),
                    Part::Middle(a, b) => format!("[{a}..-{b}]"),
                    Part::After(text) => format!(" after {text:?}"),
                    Part::Without(names) => format!(" without {}", names.join(",")),
                };
                let _ = write!(self.out, "read {} = {}{part}", self.var(*into), self.var(*from));
                self.decision(then);
            }
            Decision::Test { var, test, yes, no } => {
                let test = match test {
                    Test::Equal(literal) => format!("== {}", literal_text(literal)),
                    Test::OneOf(literals) => {
                        let literals: Vec<String> = literals.iter().map(literal_text).collect();
                        format!("is one of {}", literals.join(", "))
                    }
                    Test::Range(low, high) => format!("is in {low}..={high}"),
                    Test::Prefix(text) => format!("begins with {text:?}"),
                    Test::Kind(kind) => format!("is {}", kind.name()),
                    Test::IsList => "is list".into(),
                    Test::IsRecord => "is record".into(),
                    Test::Present => "is there".into(),
                    Test::Length(n) => format!("has {n}"),
                    Test::AtLeast(n) => format!("has at least {n}"),
                };
                let _ = write!(self.out, "test {} {test}", self.var(*var));
                self.indent += 1;
                self.decision(yes);
                self.indent -= 1;
                self.line();
                self.out.push_str("else");
                self.indent += 1;
                self.decision(no);
                self.indent -= 1;
            }
            Decision::Arm { binds, guard, arm } => {
                for (var, from) in binds {
                    let _ = write!(self.out, "{} = {}; ", self.var(*var), self.var(*from));
                }
                if let Some((guard, no)) = guard {
                    self.out.push_str("if ");
                    self.node(guard);
                    let _ = write!(self.out, " then A{arm} else");
                    self.indent += 1;
                    self.decision(no);
                    self.indent -= 1;
                } else {
                    let _ = write!(self.out, "A{arm}");
                }
            }
            Decision::Either(a, b) => {
                self.out.push_str("either");
                self.indent += 1;
                self.decision(a);
                self.indent -= 1;
                self.line();
                self.out.push_str("or");
                self.indent += 1;
                self.decision(b);
                self.indent -= 1;
            }
            Decision::Fail => self.out.push_str("fail"),
        }
    }
}

fn literal_text(literal: &crate::syntax::tree::Literal) -> String {
    use crate::syntax::tree::Literal::*;
    match literal {
        Null => "null".into(),
        Bool(b) => b.to_string(),
        Int(n) => n.to_string(),
        Float(x) => format!("{x:?}"),
        Duration(d) => format!("{d}ns"),
        Str(s) => format!("{s:?}"),
    }
}

fn prim_text(prim: &Prim) -> String {
    match prim {
        Prim::Binary(op) => op.symbol().to_string(),
        Prim::Quotient => "div".into(),
        Prim::Not => "!".into(),
        Prim::Negate => "neg".into(),
        Prim::Bool => "bool".into(),
        Prim::IsNull => "null?".into(),
        Prim::IsMissing => "missing?".into(),
        Prim::Missing => "missing".into(),
        Prim::List(spreads) if spreads.contains(&true) => "list..".into(),
        Prim::List(_) => "list".into(),
        Prim::Record(keys) => {
            let keys = keys.iter().map(|key| match key {
                Key::Named(name) => name.to_string(),
                Key::Computed => "[]".into(),
                Key::Spread => "..".into(),
            });
            format!("record {}", keys.collect::<Vec<_>>().join(","))
        }
        Prim::Field(name) => format!(".{name}"),
        Prim::OptionalField(name) => format!("?.{name}"),
        Prim::Index => "index".into(),
        Prim::Concat => "concat".into(),
        Prim::Range(inclusive) => if *inclusive { "..=" } else { ".." }.into(),
    }
}
