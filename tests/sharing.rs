//! Lists and records that are passed on, taken apart and changed in place: random programs have the
//! same results as in an interpreter that always copies.

mod common;

use std::fmt::Write;

use common::{Random, image, setting};
use durable::builtins::Context;
use durable::machine::{Identity, Machine, Progress, Value, format};

/// The number of programs. `SHARING_PROGRAMS` replaces it; `SHARING_SEED` is the first seed.
const PROGRAMS: u64 = 1500;

/// The number of variables that hold lists of ints.
const VARS: usize = 4;

enum Statement {
    Set(usize, Expression),
    /// `v += e`
    Add(usize, Expression),
    /// `v[0] = n` and `v[last] += n`, if the list is not empty.
    First(usize, i64),
    Last(usize, i64),
    /// `r.f = e`, `r.f += e`
    SetField(Expression),
    AddField(Expression),
    /// `let [a, b] = [e, f]`, then `v = b` and `w = a`.
    Apart(usize, usize, Expression, Expression),
    /// `r = {..r, f: e}`, `r = {..r, g: e, f: f}`
    Update(Expression),
    UpdateBoth(Expression, Expression),
    /// `let t = r.f`, then `r.f = r.g` and `r.g = t`.
    Exchange,
    /// `d["k"] = (d.get("k") ?? []) + e`, `d = {}`
    Entry(Expression),
    NoEntry,
    /// `d["k"] = f(d.get("k") ?? [], n)`
    EntryCall(&'static str, i64),
    /// `rows[i] = f(rows[i], n)`, `rows[i] = f(rows[i], n) + rows[1 - i]`, `w.a.b = f(w.a.b, n)`,
    /// with a named function.
    Row(usize, &'static str, i64),
    RowAndOther(usize, &'static str, i64),
    Nested(&'static str, i64),
    /// `rows[i] = try { strict(rows[i], n) } catch _ { [n] }`
    Strict(usize, i64),
    /// `kept += [r]`
    Keep,
    /// `seen += [e]`
    See(Expression),
    /// `if v.len() > n { … } else { … }`
    If(usize, usize, Vec<Statement>, Vec<Statement>),
    Repeat(u64, Vec<Statement>),
    /// A `try`: the body, a variable and the length above which an error is thrown, the rest of the
    /// body, the `catch`, and the `finally`.
    Try(Vec<Statement>, usize, usize, Vec<Statement>, Vec<Statement>, Vec<Statement>),
}

enum Expression {
    Var(usize),
    Field,
    /// `r.g`
    Other,
    /// `(d.get("k") ?? [])`
    Entry,
    New(i64),
    /// `e + f`
    Sum(Box<Expression>, Box<Expression>),
    /// `[..e, n]`
    Spread(Box<Expression>, i64),
    /// `if v.len() > n { e } else { f }`
    Choice(usize, usize, Box<Expression>, Box<Expression>),
    /// `do { v = e.take(9); f }`, and likewise of `r.f`.
    Assign(usize, Box<Expression>, Box<Expression>),
    AssignField(Box<Expression>, Box<Expression>),
    /// `g_of({..r, g: e})`
    Updated(Box<Expression>),
    /// A function of a list and a number.
    Call(&'static str, Box<Expression>, i64),
    /// The list that a closure captured at the beginning.
    Captured,
    /// A `match` of a variable whose guard assigns it: `v = e.take(9)`.
    Guard(usize, Box<Expression>, usize),
    /// A `match` whose guard changes the variable in place: `v += [n]` or `v[0] = n`.
    GuardWithin(usize, bool, i64),
    /// A `match` of `r.f` whose guard assigns `r.f`.
    GuardOfField(Box<Expression>),
}

const FUNCTIONS: &str = "
fn push(xs, n) { var ys = xs; ys += [n]; ys }
fn front(xs, n) { var ys = xs; if ys.len() > 0 { ys[0] = n }; ys }
fn turn(xs, n) { var ys = xs.drop(1); ys += [n]; ys }
fn cut(xs, n) { var ys = xs; if ys.len() > 1 { ys = ys.take(ys.len() - 1); ys[0] += n }; ys }
fn rest(xs, n) => match xs { [_, ..others] => others + [n], [] => [n] }
fn fold(xs, n) => xs |> list.fold([n], fn (all, x) => if x > n { all + [x] } else { all })
fn held(xs, n) { let r = {f: xs, n}; var q = r; q.f += [n]; if q.f.len() > 3 { r.f } else { q.f } }
fn same(xs, n) => if xs.len() > n { xs } else { [n] }
fn g_of(r) => r.g
fn moved(xs, n) { let r = {f: xs, n}; var ys = r.f; ys += [r.n]; ys }
fn both([ys, n]) => ys + [n]
fn pair(xs, n) => both([xs, n])
fn grow(xs, n) => if n <= 0 { xs } else { grow(xs + [n], n - 4) }
fn updated(xs, n) { let r = {f: xs, g: [n]}; let q = {..r, f: r.f + r.g}; q.f + q.g }
fn either(xs, n) { let r = {f: xs}; let q = {..r, f: r.f + [n]}; if q.f.len() > 3 { q.f } else { r.f } }
fn stored(xs, n) {
  var d = {k: xs}
  d[\"k\"] = (d.get(\"k\") ?? []) + [n]
  let e = d
  d[\"k\"] = (d.get(\"k\") ?? []) + [n]
  e.k
}
fn late(xs, n) { var r = {f: xs}; let q = r; r.f = [n]; q.f }
fn strict(xs, n) { if xs.len() > n { throw \"long\" } else { push(xs, n) } }
fn celled(xs, n) {
  var d = {k: xs}
  let kept = d
  fn more(x) { d[\"k\"] = (d.get(\"k\") ?? []) + [x] }
  more(n)
  if d.k.len() > 4 { d.k } else { kept.k + [n] }
}
fn opened(xs, n) => match {xs, n} { {xs, n: 0} => xs, {xs, n} => [..xs, n] }
";

const NAMES: [&str; 17] = [
    "push", "front", "turn", "cut", "rest", "fold", "held", "same", "moved", "pair", "grow", "updated",
    "either", "stored", "opened", "celled", "late",
];

/// Computes the result of a function by copies.
fn call(name: &str, mut xs: Vec<i64>, n: i64) -> Vec<i64> {
    match name {
        "push" | "moved" | "pair" | "stored" | "celled" => xs.push(n),
        "opened" if n != 0 => xs.push(n),
        "grow" => xs.extend((0..).map(|step| n - 4 * step).take_while(|n| *n > 0)),
        "updated" => xs.extend([n, n]),
        "either" if xs.len() > 2 => xs.push(n),
        "front" => {
            if let Some(first) = xs.first_mut() {
                *first = n;
            }
        }
        "turn" | "rest" => {
            xs.drain(..xs.len().min(1));
            xs.push(n);
        }
        "cut" if xs.len() > 1 => {
            xs.pop();
            xs[0] += n;
        }
        "fold" => xs = [n].into_iter().chain(xs.iter().copied().filter(|x| *x > n)).collect(),
        "held" if xs.len() < 3 => xs.push(n),
        "same" if xs.len() as i64 <= n => xs = vec![n],
        _ => {}
    }
    xs
}

// ---- making programs

fn expression(random: &mut Random, depth: u64) -> Expression {
    let inner = |random: &mut Random| Box::new(expression(random, depth - 1));
    match random.below(if depth == 0 { 6 } else { 19 }) {
        0 | 1 => Expression::Var(random.below(VARS as u64) as usize),
        2 => Expression::New(random.below(9) as i64),
        3 => match random.one_in(3) {
            true => Expression::Captured,
            false => Expression::Field,
        },
        4 => Expression::Other,
        5 => Expression::Entry,
        6 => Expression::Sum(inner(random), inner(random)),
        7 => Expression::Spread(inner(random), random.below(9) as i64),
        8 => {
            let (var, length) = (random.below(VARS as u64) as usize, random.below(5) as usize);
            Expression::Choice(var, length, inner(random), inner(random))
        }
        9 => Expression::Updated(inner(random)),
        10 => {
            let var = random.below(VARS as u64) as usize;
            Expression::Assign(var, inner(random), inner(random))
        }
        11 => Expression::AssignField(inner(random), inner(random)),
        12 => {
            let var = random.below(VARS as u64) as usize;
            Expression::Guard(var, inner(random), random.below(5) as usize)
        }
        13 => {
            let var = random.below(VARS as u64) as usize;
            Expression::GuardWithin(var, random.one_in(2), random.below(9) as i64)
        }
        14 => Expression::GuardOfField(inner(random)),
        _ => {
            let name = NAMES[random.below(NAMES.len() as u64) as usize];
            Expression::Call(name, inner(random), random.below(9) as i64)
        }
    }
}

fn statements(random: &mut Random, depth: u64) -> Vec<Statement> {
    (0..1 + random.below(4)).map(|_| statement(random, depth)).collect()
}

fn statement(random: &mut Random, depth: u64) -> Statement {
    let var = random.below(VARS as u64) as usize;
    let number = random.below(9) as i64;
    let name = NAMES[random.below(NAMES.len() as u64) as usize];
    match random.below(if depth == 0 { 22 } else { 26 }) {
        0..=3 => Statement::Set(var, expression(random, 2)),
        4 | 5 => Statement::Add(var, expression(random, 1)),
        6 => Statement::First(var, number),
        7 => Statement::Last(var, number),
        8 => Statement::SetField(expression(random, 1)),
        9 => Statement::AddField(expression(random, 1)),
        10 => Statement::See(expression(random, 1)),
        11 => {
            let other = random.below(VARS as u64) as usize;
            Statement::Apart(var, other, expression(random, 1), expression(random, 1))
        }
        12 => Statement::Update(expression(random, 2)),
        13 => Statement::UpdateBoth(expression(random, 1), expression(random, 1)),
        14 => Statement::Exchange,
        15 => Statement::Entry(expression(random, 1)),
        16 => match random.below(3) {
            0 => Statement::NoEntry,
            _ => Statement::EntryCall(name, number),
        },
        17 => Statement::Keep,
        18 => Statement::Row(var % 2, name, number),
        19 => match random.one_in(2) {
            true => Statement::RowAndOther(var % 2, name, number),
            false => Statement::Row(var % 2, name, number),
        },
        20 => Statement::Nested(name, number),
        21 => Statement::Strict(var % 2, number),
        22 | 23 => {
            let length = random.below(5) as usize;
            Statement::If(var, length, statements(random, depth - 1), statements(random, depth - 1))
        }
        24 => Statement::Repeat(1 + random.below(3), statements(random, depth - 1)),
        _ => {
            let length = random.below(6) as usize;
            let [body, rest, catch, finally] = [(); 4].map(|()| statements(random, depth - 1));
            Statement::Try(body, var, length, rest, catch, finally)
        }
    }
}

// ---- as text

fn write_expression(e: &Expression) -> String {
    match e {
        Expression::Var(var) => format!("v{var}"),
        Expression::Field => "r.f".to_string(),
        Expression::Other => "r.g".to_string(),
        Expression::Entry => "(d.get(\"k\") ?? [])".to_string(),
        Expression::Spread(e, n) => format!("[..{}, {n}]", write_expression(e)),
        Expression::Choice(var, length, e, f) => {
            let (e, f) = (write_expression(e), write_expression(f));
            format!("(if v{var}.len() > {length} {{ {e} }} else {{ {f} }})")
        }
        Expression::Assign(var, e, f) => {
            format!("(do {{ v{var} = {}.take(9); {} }})", write_expression(e), write_expression(f))
        }
        Expression::AssignField(e, f) => {
            format!("(do {{ r.f = {}.take(9); {} }})", write_expression(e), write_expression(f))
        }
        Expression::Updated(e) => format!("g_of({{..r, g: {}}})", write_expression(e)),
        Expression::New(n) => format!("[{n}, {n}]"),
        Expression::Sum(a, b) => format!("({} + {})", write_expression(a), write_expression(b)),
        Expression::Call(name, e, n) => format!("{name}({}, {n})", write_expression(e)),
        Expression::Captured => "captured()".to_string(),
        Expression::Guard(v, e, n) => {
            let assign = format!("v{v} = {}.take(9); v{v}.len() > {n}", write_expression(e));
            format!("(match v{v} {{ [_, _, ..] if do {{ {assign} }} => v{v}, {MATCHED} }})")
        }
        Expression::GuardWithin(v, appends, n) => {
            let change = if *appends { format!("v{v} += [{n}]") } else { format!("v{v}[0] = {n}") };
            let change = format!("if v{v}.len() < 9 {{ {change} }}; v{v}.len() > 6");
            format!("(match v{v} {{ [_, ..] if do {{ {change} }} => v{v}, {MATCHED} }})")
        }
        Expression::GuardOfField(e) => {
            let assign = format!("r.f = {}.take(9); false", write_expression(e));
            format!("(match r.f {{ [_, ..] if do {{ {assign} }} => r.f, {MATCHED} }})")
        }
    }
}

/// The arms of a `match` after the arm whose guard changes the matched value.
const MATCHED: &str = "[a, .., b] => [b, a], [a, ..rest] => rest + [a], other => other";

/// Returns the result of these arms.
fn matched(subject: Vec<i64>) -> Vec<i64> {
    match subject[..] {
        [a, .., b] => vec![b, a],
        _ => subject,
    }
}

/// Writes a statement that shortens a list of more than nine elements.
fn write_cut(out: &mut String, name: &str) {
    let _ = writeln!(out, "if {name}.len() > 9 {{ {name} = {name}.take(4) }}");
}

fn write_statements(out: &mut String, statements: &[Statement], number: &mut usize) {
    for statement in statements {
        let _ = match statement {
            Statement::Set(var, e) => writeln!(out, "v{var} = {}", write_expression(e)),
            Statement::Add(var, e) => writeln!(out, "v{var} += {}", write_expression(e)),
            Statement::First(var, n) => writeln!(out, "if v{var}.len() > 0 {{ v{var}[0] = {n} }}"),
            Statement::Last(var, n) => {
                writeln!(out, "if v{var}.len() > 0 {{ v{var}[v{var}.len() - 1] += {n} }}")
            }
            Statement::SetField(e) => writeln!(out, "r.f = {}", write_expression(e)),
            Statement::AddField(e) => writeln!(out, "r.f += {}", write_expression(e)),
            Statement::Apart(a, b, e, f) => {
                *number += 1;
                let (n, e, f) = (*number, write_expression(e), write_expression(f));
                writeln!(out, "let [a{n}, b{n}] = [{e}, {f}]\nv{a} = b{n}\nv{b} = a{n}")
            }
            Statement::Update(e) => writeln!(out, "r = {{..r, f: {}}}", write_expression(e)),
            Statement::UpdateBoth(e, f) => {
                writeln!(out, "r = {{..r, g: {}, f: {}}}", write_expression(e), write_expression(f))
            }
            Statement::Exchange => {
                *number += 1;
                writeln!(out, "let t{number} = r.f\nr.f = r.g\nr.g = t{number}")
            }
            Statement::Entry(e) => {
                writeln!(out, "d[\"k\"] = (d.get(\"k\") ?? []) + {}", write_expression(e))
            }
            Statement::EntryCall(name, n) => {
                writeln!(out, "d[\"k\"] = {name}(d.get(\"k\") ?? [], {n})")
            }
            Statement::NoEntry => writeln!(out, "d = {{}}"),
            Statement::Row(i, name, n) => writeln!(out, "rows[{i}] = {name}(rows[{i}], {n})"),
            Statement::RowAndOther(i, name, n) => {
                writeln!(out, "rows[{i}] = {name}(rows[{i}], {n}) + rows[{}]", 1 - i)
            }
            Statement::Nested(name, n) => writeln!(out, "w.a.b = {name}(w.a.b, {n})"),
            Statement::Strict(i, n) => {
                writeln!(out, "rows[{i}] = try {{ strict(rows[{i}], {n}) }} catch _ {{ [{n}] }}")
            }
            Statement::Keep => writeln!(out, "kept += [r]"),
            Statement::See(e) => writeln!(out, "seen += [{}]", write_expression(e)),
            Statement::If(var, length, then, other) => {
                let _ = writeln!(out, "if v{var}.len() > {length} {{");
                write_statements(out, then, number);
                let _ = writeln!(out, "}} else {{");
                write_statements(out, other, number);
                writeln!(out, "}}")
            }
            Statement::Repeat(times, body) => {
                let _ = writeln!(out, "for _ in 0..{times} {{");
                write_statements(out, body, number);
                writeln!(out, "}}")
            }
            Statement::Try(body, var, length, rest, catch, finally) => {
                let _ = writeln!(out, "try {{");
                write_statements(out, body, number);
                let _ = writeln!(out, "if v{var}.len() > {length} {{ throw \"long\" }}");
                write_statements(out, rest, number);
                let _ = writeln!(out, "}} catch _ {{");
                write_statements(out, catch, number);
                let _ = writeln!(out, "}} finally {{");
                write_statements(out, finally, number);
                writeln!(out, "}}")
            }
        };
        match statement {
            Statement::Set(var, _) | Statement::Add(var, _) => write_cut(out, &format!("v{var}")),
            Statement::Apart(a, b, ..) => {
                write_cut(out, &format!("v{a}"));
                write_cut(out, &format!("v{b}"));
            }
            Statement::SetField(_) | Statement::AddField(_) | Statement::Update(_) => write_cut(out, "r.f"),
            Statement::UpdateBoth(..) => {
                write_cut(out, "r.f");
                write_cut(out, "r.g");
            }
            Statement::Entry(_) | Statement::EntryCall(..) => write_cut(out, "d.k"),
            Statement::Row(i, ..) | Statement::RowAndOther(i, ..) | Statement::Strict(i, _) => {
                write_cut(out, &format!("rows[{i}]"));
            }
            Statement::Nested(..) => write_cut(out, "w.a.b"),
            _ => {}
        }
    }
}

fn program(body: &[Statement]) -> String {
    let mut out = String::new();
    write_statements(&mut out, body, &mut 0);
    format!(
        "{FUNCTIONS}
fn go(given, v1) {{
var v0 = given
var v1 = v1
var v2 = v0
var v3 = [7]
var r = {{f: v1, g: v0}}
var d = {{}}
var rows = [v0, v1]
var w = {{a: {{b: v0}}}}
var kept = []
var seen = []
let captured = fn () => given
{out}
[v0, v1, v2, v3, r.f, r.g, d.get(\"k\") ?? [], rows[0], rows[1], w.a.b, seen, kept.map(fn r => [r.f, r.g])]
}}
let shared = [1, 2, 3]
[go(shared, shared), go(shared.drop(1), [5]), shared]
"
    )
}

// ---- by copies

struct World {
    vars: [Vec<i64>; VARS],
    field: Vec<i64>,
    other: Vec<i64>,
    entry: Vec<i64>,
    rows: [Vec<i64>; 2],
    nested: Vec<i64>,
    seen: Vec<Vec<i64>>,
    kept: Vec<[Vec<i64>; 2]>,
    captured: Vec<i64>,
}

struct Thrown;

impl World {
    fn evaluate(&mut self, e: &Expression) -> Vec<i64> {
        match e {
            Expression::Var(var) => self.vars[*var].clone(),
            Expression::Field => self.field.clone(),
            Expression::Other => self.other.clone(),
            Expression::Entry => self.entry.clone(),
            Expression::Spread(e, n) => [self.evaluate(e), vec![*n]].concat(),
            Expression::Choice(var, length, e, f) => {
                self.evaluate(if self.vars[*var].len() > *length { e } else { f })
            }
            Expression::Assign(var, e, f) => {
                self.vars[*var] = self.evaluate(e);
                self.vars[*var].truncate(9);
                self.evaluate(f)
            }
            Expression::AssignField(e, f) => {
                self.field = self.evaluate(e);
                self.field.truncate(9);
                self.evaluate(f)
            }
            Expression::Updated(e) => self.evaluate(e),
            Expression::New(n) => vec![*n, *n],
            Expression::Sum(a, b) => [self.evaluate(a), self.evaluate(b)].concat(),
            Expression::Call(name, e, n) => call(name, self.evaluate(e), *n),
            Expression::Captured => self.captured.clone(),
            Expression::Guard(var, e, n) => {
                let subject = self.vars[*var].clone();
                if subject.len() > 1 {
                    self.vars[*var] = self.evaluate(e);
                    self.vars[*var].truncate(9);
                    if self.vars[*var].len() > *n {
                        return self.vars[*var].clone();
                    }
                }
                matched(subject)
            }
            Expression::GuardWithin(var, appends, n) => {
                let subject = self.vars[*var].clone();
                if !subject.is_empty() {
                    let xs = &mut self.vars[*var];
                    match appends {
                        _ if xs.len() >= 9 => {}
                        true => xs.push(*n),
                        false => xs[0] = *n,
                    }
                    if xs.len() > 6 {
                        return xs.clone();
                    }
                }
                matched(subject)
            }
            Expression::GuardOfField(e) => {
                let subject = self.field.clone();
                if !subject.is_empty() {
                    self.field = self.evaluate(e);
                    self.field.truncate(9);
                }
                matched(subject)
            }
        }
    }

    fn run(&mut self, statements: &[Statement]) -> Result<(), Thrown> {
        let cut = |xs: &mut Vec<i64>| {
            if xs.len() > 9 {
                xs.truncate(4);
            }
        };
        for statement in statements {
            match statement {
                Statement::Set(var, e) => {
                    self.vars[*var] = self.evaluate(e);
                    cut(&mut self.vars[*var]);
                }
                Statement::Add(var, e) => {
                    let (known, more) = (self.vars[*var].clone(), self.evaluate(e));
                    self.vars[*var] = [known, more].concat();
                    cut(&mut self.vars[*var]);
                }
                Statement::First(var, n) => self.vars[*var].iter_mut().take(1).for_each(|x| *x = *n),
                Statement::Last(var, n) => {
                    self.vars[*var].iter_mut().last().into_iter().for_each(|x| *x += n)
                }
                Statement::SetField(e) => {
                    self.field = self.evaluate(e);
                    cut(&mut self.field);
                }
                Statement::AddField(e) => {
                    let (known, more) = (self.field.clone(), self.evaluate(e));
                    self.field = [known, more].concat();
                    cut(&mut self.field);
                }
                Statement::Apart(a, b, e, f) => {
                    let (first, second) = (self.evaluate(e), self.evaluate(f));
                    self.vars[*a] = second;
                    self.vars[*b] = first;
                    cut(&mut self.vars[*a]);
                    cut(&mut self.vars[*b]);
                }
                Statement::Update(e) => {
                    let other = self.other.clone();
                    (self.field, self.other) = (self.evaluate(e), other);
                    cut(&mut self.field);
                }
                Statement::UpdateBoth(e, f) => {
                    (self.other, self.field) = (self.evaluate(e), self.evaluate(f));
                    cut(&mut self.field);
                    cut(&mut self.other);
                }
                Statement::Exchange => std::mem::swap(&mut self.field, &mut self.other),
                Statement::Entry(e) => {
                    let more = self.evaluate(e);
                    self.entry.extend(more);
                    cut(&mut self.entry);
                }
                Statement::EntryCall(name, n) => {
                    self.entry = call(name, std::mem::take(&mut self.entry), *n);
                    cut(&mut self.entry);
                }
                Statement::NoEntry => self.entry.clear(),
                Statement::Row(i, name, n) => {
                    self.rows[*i] = call(name, std::mem::take(&mut self.rows[*i]), *n);
                    cut(&mut self.rows[*i]);
                }
                Statement::RowAndOther(i, name, n) => {
                    let changed = call(name, self.rows[*i].clone(), *n);
                    self.rows[*i] = [changed, self.rows[1 - i].clone()].concat();
                    cut(&mut self.rows[*i]);
                }
                Statement::Nested(name, n) => {
                    self.nested = call(name, std::mem::take(&mut self.nested), *n);
                    cut(&mut self.nested);
                }
                Statement::Strict(i, n) => {
                    match self.rows[*i].len() as i64 > *n {
                        true => self.rows[*i] = vec![*n],
                        false => self.rows[*i].push(*n),
                    }
                    cut(&mut self.rows[*i]);
                }
                Statement::Keep => self.kept.push([self.field.clone(), self.other.clone()]),
                Statement::See(e) => {
                    let seen = self.evaluate(e);
                    self.seen.push(seen);
                }
                Statement::If(var, length, then, other) => {
                    self.run(if self.vars[*var].len() > *length { then } else { other })?;
                }
                Statement::Repeat(times, body) => {
                    for _ in 0..*times {
                        self.run(body)?;
                    }
                }
                Statement::Try(body, var, length, rest, catch, finally) => {
                    let mut tried = self.run(body);
                    if tried.is_ok() {
                        tried = if self.vars[*var].len() > *length { Err(Thrown) } else { self.run(rest) };
                    }
                    let caught = tried.or_else(|Thrown| self.run(catch));
                    self.run(finally)?;
                    caught?;
                }
            }
        }
        Ok(())
    }
}

fn by_copies(body: &[Statement], given: &[i64], second: &[i64]) -> String {
    let list = |xs: &Vec<i64>| format!("{xs:?}");
    let mut world = World {
        vars: [given.to_vec(), second.to_vec(), given.to_vec(), vec![7]],
        field: second.to_vec(),
        other: given.to_vec(),
        entry: Vec::new(),
        rows: [given.to_vec(), second.to_vec()],
        nested: given.to_vec(),
        seen: Vec::new(),
        kept: Vec::new(),
        captured: given.to_vec(),
    };
    assert!(world.run(body).is_ok(), "all that is thrown is caught");
    let mut parts: Vec<String> = world.vars.iter().map(list).collect();
    parts.extend(
        [&world.field, &world.other, &world.entry, &world.rows[0], &world.rows[1], &world.nested].map(list),
    );
    parts.push(format!("{:?}", world.seen));
    parts.push(format!("{:?}", world.kept));
    format!("[{}]", parts.join(", "))
}

fn by_the_machine(text: &str) -> String {
    let image = image(text);
    let script = image.code.script;
    let args = vec![Value::list(Vec::new())];
    let mut machine = Machine::new(image, Context::Orchestration, script, args, Identity::default());
    match machine.run(10_000_000) {
        Progress::Done(Ok(value)) => format::display(&value.decode()),
        Progress::Done(Err(error)) => error.title(),
        other => format!("{other:?}"),
    }
}

#[test]
fn lists_are_as_if_copied() {
    let seed: u64 = setting("SHARING_SEED", 1);
    for seed in seed..seed + setting("SHARING_PROGRAMS", PROGRAMS) {
        let body = statements(&mut Random::new(seed), 3);
        let text = program(&body);
        let expected = format!(
            "[{}, {}, [1, 2, 3]]",
            by_copies(&body, &[1, 2, 3], &[1, 2, 3]),
            by_copies(&body, &[2, 3], &[5])
        );
        assert_eq!(by_the_machine(&text), expected, "seed {seed}:\n{text}");
    }
}
