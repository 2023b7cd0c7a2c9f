//! Decision trees from patterns.
//!
//! A pattern is a sequence of tests and bindings. A tree begins with the first test of the first
//! row, and splits the rows: those that a yes leaves possible, without the test, and those that a
//! no leaves possible (J. Jacobs, *How to compile pattern matching*, 2021). No value is tested
//! twice for the same thing. Where sharing would make the tree large, rows are tried one after
//! another instead.

use std::collections::{HashMap, HashSet};

use crate::check::whole;
use crate::internal::sure;
use crate::syntax::token::Name;
use crate::syntax::tree::{self, Kind, Literal, Pattern, PatternKind};

use super::{Decision, Node, Part, Test, Var};

/// An alternative of an arm.
#[derive(Clone)]
pub struct Row {
    tests: Vec<(Var, Test)>,
    binds: Vec<(Var, Var)>,
    guard: Option<Node>,
    arm: usize,
}

/// The limit on the nodes of a tree. Larger trees are made without sharing.
const MAX_NODES: usize = 2_000;
/// The limit on the rows that are looked at for a tree, over all of its nodes.
const MAX_ROWS: usize = 1_000 * MAX_NODES;

/// A maker of rows and trees. `fresh` makes variables.
pub struct Decider<'a> {
    pub fresh: &'a mut dyn FnMut(&str) -> Var,
    /// The variable for each part of a value.
    parts: HashMap<(Var, Part), Var>,
    origin: HashMap<Var, (Var, Part)>,
    nodes: usize,
    rows: usize,
}

impl<'a> Decider<'a> {
    pub fn new(fresh: &'a mut dyn FnMut(&str) -> Var) -> Decider<'a> {
        Decider { fresh, parts: HashMap::new(), origin: HashMap::new(), nodes: 0, rows: 0 }
    }

    fn part(&mut self, of: Var, part: Part) -> Var {
        if let Some(var) = self.parts.get(&(of, part.clone())) {
            return *var;
        }
        let var = (self.fresh)("part");
        self.parts.insert((of, part.clone()), var);
        self.origin.insert(var, (of, part));
        var
    }

    /// Makes the rows of a pattern: one for each combination of the alternatives within it.
    /// `binding` returns the variable of a name bound at an offset.
    pub fn rows(
        &mut self,
        subject: Var,
        pattern: &Pattern,
        guard: Option<Node>,
        arm: usize,
        binding: &dyn Fn(&Name, u32) -> Option<Var>,
    ) -> Vec<Row> {
        let mut rows = vec![Row { tests: Vec::new(), binds: Vec::new(), guard, arm }];
        self.expand(subject, pattern, &mut rows, binding);
        rows
    }

    fn expand(
        &mut self,
        of: Var,
        pattern: &Pattern,
        rows: &mut Vec<Row>,
        binding: &dyn Fn(&Name, u32) -> Option<Var>,
    ) {
        match &pattern.kind {
            PatternKind::Any | PatternKind::Error => {}
            PatternKind::Name(name) => bind(rows, binding(name, pattern.span.start), of),
            PatternKind::Literal(literal) => test(rows, of, Test::Equal(literal.clone())),
            PatternKind::Range(low, high) => test(rows, of, Test::Range(*low, *high)),
            PatternKind::Prefix(text, rest) => {
                test(rows, of, Test::Prefix(text.clone()));
                if !matches!(rest.kind, PatternKind::Any) {
                    let var = self.part(of, Part::After(text.clone()));
                    self.expand(var, rest, rows, binding);
                }
            }
            PatternKind::Kind(kind, inner) => {
                let is_kind = match kind {
                    Kind::List => Test::IsList,
                    Kind::Record => Test::IsRecord,
                    kind => Test::Kind(*kind),
                };
                test(rows, of, is_kind);
                self.expand(of, inner, rows, binding);
            }
            PatternKind::As(inner, name) => {
                self.expand(of, inner, rows, binding);
                bind(rows, binding(&name.name, name.span.start), of);
            }
            PatternKind::Or(alternatives) => {
                if let Some(literals) = pattern.literals() {
                    return test(rows, of, Test::OneOf(literals.into_iter().cloned().collect()));
                }
                let before = std::mem::take(rows);
                for alternative in alternatives {
                    let mut more = before.clone();
                    self.expand(of, alternative, &mut more, binding);
                    rows.append(&mut more);
                }
            }
            PatternKind::List(items, rest) => {
                test(rows, of, Test::IsList);
                match rest {
                    None => test(rows, of, Test::Length(items.len())),
                    Some(_) if items.is_empty() => {}
                    Some(_) => test(rows, of, Test::AtLeast(items.len())),
                }
                let before = rest.as_ref().map_or(items.len(), |(at, _)| *at);
                for (index, item) in items.iter().enumerate() {
                    if matches!(item.kind, PatternKind::Any) {
                        continue;
                    }
                    let part = if index < before {
                        Part::Index(index)
                    } else {
                        Part::IndexBack(items.len() - index)
                    };
                    let var = self.part(of, part);
                    self.expand(var, item, rows, binding);
                }
                if let Some((_, rest)) = rest
                    && let Some(name) = &rest.name
                    && let Some(var) = binding(&name.name, name.span.start)
                {
                    let part = self.part(of, Part::Middle(before, items.len() - before));
                    bind(rows, Some(var), part);
                }
            }
            PatternKind::Record(fields, rest) => {
                test(rows, of, Test::IsRecord);
                for (key, item) in fields {
                    let var = self.part(of, Part::Field(key.name.clone()));
                    test(rows, var, Test::Present);
                    self.expand(var, item, rows, binding);
                }
                if let Some(rest) = rest
                    && let Some(name) = &rest.name
                    && let Some(var) = binding(&name.name, name.span.start)
                {
                    let part = self
                        .part(of, Part::Without(fields.iter().map(|(key, _)| key.name.clone()).collect()));
                    bind(rows, Some(var), part);
                }
            }
        }
    }

    /// Makes the tree that takes the first matching row.
    pub fn decide(&mut self, rows: Vec<Row>) -> Decision {
        let shared = self.tree(rows.clone(), &HashSet::new());
        if self.is_within_limits() {
            return shared;
        }
        let mut tree = Decision::Fail;
        for row in rows.into_iter().rev() {
            (self.nodes, self.rows) = (0, 0);
            let one = self.tree(vec![row], &HashSet::new());
            // A row has a node for each outcome of its tests, and the parser limits these.
            let whole = if self.is_within_limits() { Ok(()) } else { Err(self.nodes) };
            sure(whole, "the tests of one pattern fit into a tree");
            tree = Decision::Either(Box::new(one), Box::new(tree));
        }
        tree
    }

    fn is_within_limits(&self) -> bool {
        self.nodes <= MAX_NODES && self.rows <= MAX_ROWS
    }

    fn tree(&mut self, rows: Vec<Row>, known: &HashSet<Var>) -> Decision {
        self.nodes += 1;
        self.rows += rows.len();
        if !self.is_within_limits() {
            return Decision::Fail;
        }
        let Some(first) = rows.first() else { return Decision::Fail };
        let Some((var, test)) = first.tests.first().cloned() else {
            let (binds, arm) = (first.binds.clone(), first.arm);
            let wanted: Vec<Var> = binds.iter().map(|(_, from)| *from).collect();
            let guard = first.guard.clone();
            let rest = &rows[1..];
            return self.reading(&wanted, known, |me, known| {
                let guard = guard.map(|guard| (guard, Box::new(me.tree(rest.to_vec(), known))));
                Decision::Arm { binds, guard, arm }
            });
        };
        self.reading(&[var], known, |me, known| {
            let yes = rows.iter().filter_map(|row| after_yes(row, var, &test)).collect();
            let no = rows.iter().filter(|row| possible_after_no(row, var, &test)).cloned().collect();
            let yes = Box::new(me.tree(yes, known));
            let no = Box::new(me.tree(no, known));
            Decision::Test { var, test, yes, no }
        })
    }

    /// Reads the parts that were not read yet, and then continues with `then`.
    fn reading(
        &mut self,
        wanted: &[Var],
        known: &HashSet<Var>,
        then: impl FnOnce(&mut Self, &HashSet<Var>) -> Decision,
    ) -> Decision {
        let missing: Vec<Var> = wanted
            .iter()
            .copied()
            .filter(|var| self.origin.contains_key(var) && !known.contains(var))
            .collect();
        if missing.is_empty() {
            return then(self, known);
        }
        let mut known = known.clone();
        known.extend(&missing);
        let mut tree = then(self, &known);
        for into in missing.into_iter().rev() {
            if let Some((from, part)) = self.origin.get(&into).cloned() {
                tree = Decision::Read { into, from, part, then: Box::new(tree) };
            }
        }
        tree
    }
}

/// Adds a test to each row.
fn test(rows: &mut [Row], var: Var, test: Test) {
    rows.iter_mut().for_each(|row| row.tests.push((var, test.clone())));
}

/// Adds a binding to each row, if the name has a variable.
fn bind(rows: &mut [Row], var: Option<Var>, from: Var) {
    if let Some(var) = var {
        rows.iter_mut().for_each(|row| row.binds.push((var, from)));
    }
}

/// Returns the row after a successful test, without the tests that follow from it, or `None` if the
/// row can't match any more.
fn after_yes(row: &Row, var: Var, test: &Test) -> Option<Row> {
    let mut row = row.clone();
    let mut possible = true;
    row.tests.retain(|(other_var, other)| {
        if *other_var != var {
            return true;
        }
        possible &= compatible(test, other);
        !implies(test, other)
    });
    possible.then_some(row)
}

fn possible_after_no(row: &Row, var: Var, test: &Test) -> bool {
    !row.tests.iter().any(|(other_var, other)| *other_var == var && implies(other, test))
}

/// Returns whether every value that passes `a` passes `b`.
fn implies(a: &Test, b: &Test) -> bool {
    match (a, b) {
        (Test::Length(n), Test::AtLeast(m)) => n >= m,
        (Test::AtLeast(n), Test::AtLeast(m)) => n >= m,
        (Test::Equal(literal), Test::OneOf(all)) => all.contains(literal),
        (Test::Equal(literal), Test::Range(low, high)) => is_within(literal, *low, *high),
        (Test::Equal(Literal::Str(text)), Test::Prefix(start)) => text.starts_with(&**start),
        (Test::Equal(literal), Test::Kind(kind)) => kind_of(literal) == Some(*kind),
        (Test::OneOf(all), test) => all.iter().all(|literal| implies(&Test::Equal(literal.clone()), test)),
        (Test::Range(a, b), Test::Range(low, high)) => low <= a && b <= high,
        (Test::Range(..), Test::Kind(kind)) => *kind == Kind::Number,
        (Test::Prefix(a), Test::Prefix(b)) => a.starts_with(&**b),
        (Test::Prefix(_), Test::Kind(kind)) => *kind == Kind::String,
        (Test::Kind(Kind::Int | Kind::Float), Test::Kind(Kind::Number)) => true,
        (a, b) => a == b,
    }
}

/// Returns whether a value may pass both.
fn compatible(a: &Test, b: &Test) -> bool {
    use Test::*;
    match (a, b) {
        (Equal(a), Equal(b)) => a == b || is_number(a) && is_number(b) && a_kind(a) != a_kind(b),
        (OneOf(all), other) | (other, OneOf(all)) => {
            all.iter().any(|literal| compatible(&Equal(literal.clone()), other))
        }
        (Equal(literal), Range(low, high)) | (Range(low, high), Equal(literal)) => {
            is_within(literal, *low, *high)
        }
        (Equal(literal), Prefix(start)) | (Prefix(start), Equal(literal)) => {
            matches!(literal, Literal::Str(text) if text.starts_with(&**start))
        }
        // A literal that is a number is equal to ints and floats.
        (Equal(literal), Kind(kind)) | (Kind(kind), Equal(literal)) => match is_number(literal) {
            true => is_numeric(*kind),
            false => kind_of(literal) == Some(*kind),
        },
        (Range(a, b), Range(low, high)) => a <= high && low <= b,
        (Range(..), Kind(kind)) | (Kind(kind), Range(..)) => is_numeric(*kind),
        (Range(..), Prefix(_)) | (Prefix(_), Range(..)) => false,
        (Prefix(a), Prefix(b)) => a.starts_with(&**b) || b.starts_with(&**a),
        (Prefix(_), Kind(kind)) | (Kind(kind), Prefix(_)) => *kind == tree::Kind::String,
        (Kind(a), Kind(b)) => {
            a == b || [(*a, *b), (*b, *a)].iter().any(|(a, b)| *a == tree::Kind::Number && is_numeric(*b))
        }
        (Equal(_) | Range(..) | Prefix(_) | Kind(_), IsList | IsRecord | Length(_) | AtLeast(_))
        | (IsList | IsRecord | Length(_) | AtLeast(_), Equal(_) | Range(..) | Prefix(_) | Kind(_)) => false,
        (IsList | Length(_) | AtLeast(_), IsRecord) | (IsRecord, IsList | Length(_) | AtLeast(_)) => false,
        (Length(n), Length(m)) => n == m,
        (Length(n), AtLeast(m)) | (AtLeast(m), Length(n)) => n >= m,
        _ => true,
    }
}

/// Returns whether a literal is equal to an int of a range.
fn is_within(literal: &Literal, low: i64, high: i64) -> bool {
    match literal {
        Literal::Int(n) => low <= *n && *n <= high,
        Literal::Float(x) => whole(*x).is_some_and(|n| low <= n && n <= high),
        _ => false,
    }
}

fn is_numeric(kind: Kind) -> bool {
    matches!(kind, Kind::Int | Kind::Float | Kind::Number)
}

/// Returns the kind of all values that are equal to a literal; null has none.
fn kind_of(literal: &Literal) -> Option<Kind> {
    match literal {
        Literal::Null => None,
        Literal::Bool(_) => Some(Kind::Bool),
        Literal::Int(_) | Literal::Float(_) => Some(Kind::Number),
        Literal::Duration(_) => Some(Kind::Duration),
        Literal::Str(_) => Some(Kind::String),
    }
}

fn is_number(literal: &Literal) -> bool {
    matches!(literal, Literal::Int(_) | Literal::Float(_))
}

fn a_kind(literal: &Literal) -> std::mem::Discriminant<Literal> {
    std::mem::discriminant(literal)
}
