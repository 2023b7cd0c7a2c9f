//! The search for arms of a `match`, alternatives and `catch`es that can never be reached.

use std::cell::Cell;

use crate::syntax::tree::{Arm, Kind, Literal, Pattern, PatternKind};

/// An arm of a `match`, or an alternative, that can never be reached.
#[derive(Debug, PartialEq)]
pub struct Unreachable {
    pub arm: usize,
    /// The alternative, if other alternatives of its arm can be reached.
    pub alternative: Option<usize>,
    /// The arm and the alternative that takes its values; the last one if there are several.
    pub taker: (usize, usize),
    /// Whether the taker covers it even if an int and a float are never the same number.
    pub same: bool,
}

/// The largest number of arms that are checked, and of pairs of patterns that are compared.
const MOST: usize = 500;
const MOST_COMPARISONS: usize = 2_000_000;

/// Returns the arms and alternatives that can't be reached.
pub fn unreachable(arms: &[Arm]) -> Vec<Unreachable> {
    let mut found = Vec::new();
    let left = Cell::new(MOST_COMPARISONS);
    let covers = |a: &Pattern, b: &Pattern| {
        left.set(left.get().saturating_sub(1));
        left.get() > 0 && covers(a, b)
    };
    for (number, arm) in arms.iter().enumerate().take(MOST) {
        let taken_by = |at: usize, pattern: &Pattern| {
            let earlier = arms[..number].iter().enumerate().filter(|(_, arm)| arm.guard.is_none());
            let earlier =
                earlier.flat_map(|(number, arm)| (0..arm.patterns.len()).map(move |at| (number, at)));
            // If the guard refuses a value for an earlier alternative, it also refuses the value
            // for an alternative that binds nothing.
            let own = arm.guard.is_none() || !binds(pattern);
            let own = (0..if own { at } else { 0 }).map(|at| (number, at));
            earlier.chain(own).find(|(number, at)| covers(&arms[*number].patterns[*at], pattern))
        };
        let takers: Vec<_> = arm.patterns.iter().enumerate().map(|(at, one)| taken_by(at, one)).collect();
        let from_before = |taker: &Option<(usize, usize)>| taker.is_some_and(|(arm, _)| arm < number);
        if takers.iter().all(from_before)
            && let Some(taker) = takers.iter().flatten().max().copied()
        {
            let patterns = arm.patterns.iter().zip(takers.iter().flatten());
            let same = patterns.map(|(one, (arm, at))| is_literally_covered(&arms[*arm].patterns[*at], one));
            found.push(Unreachable {
                arm: number,
                alternative: None,
                taker,
                same: same.fold(true, |a, b| a & b),
            });
            continue;
        }
        for (at, taker) in takers.iter().enumerate() {
            if let Some(taker) = *taker {
                found.push(Unreachable { arm: number, alternative: Some(at), taker, same: false });
            }
        }
    }
    found
}

/// Returns the number of each `catch` that can't be reached, with the number of the `catch` that
/// takes all of its errors.
pub fn unreachable_catches(patterns: &[&Pattern]) -> Vec<(usize, usize)> {
    let taker = |at: usize| patterns[..at].iter().position(|other| covers(other, patterns[at]));
    (0..patterns.len().min(MOST)).filter_map(|at| Some((at, taker(at)?))).collect()
}

fn binds(pattern: &Pattern) -> bool {
    let mut any = false;
    pattern.names(&mut |_, _| any = true);
    any
}

/// Returns whether an int and a float are the same number.
pub fn same_number(int: i64, float: f64) -> bool {
    // Both conversions are checked, since a large int may be no float, and a large float no int.
    float == int as f64 && float < 9_223_372_036_854_775_808.0 && float as i64 == int
}

/// Returns the int that a float is equal to.
pub fn whole(float: f64) -> Option<i64> {
    let int = float as i64;
    same_number(int, float).then_some(int)
}

/// Returns whether two literals match the same value.
fn same_value(a: &Literal, b: &Literal) -> bool {
    match (a, b) {
        (Literal::Int(int), Literal::Float(float)) | (Literal::Float(float), Literal::Int(int)) => {
            same_number(*int, *float)
        }
        _ => a == b,
    }
}

/// Returns whether `a` covers `b` even if an int and a float are never the same number.
fn is_literally_covered(a: &Pattern, b: &Pattern) -> bool {
    covered(a, b, &|a, b| a == b)
}

/// Returns whether `a` matches every value that `b` matches.
fn covers(a: &Pattern, b: &Pattern) -> bool {
    covered(a, b, &same_value)
}

fn covered(a: &Pattern, b: &Pattern, same: &dyn Fn(&Literal, &Literal) -> bool) -> bool {
    match (&a.kind, &b.kind) {
        (PatternKind::Error, _) | (_, PatternKind::Error) => false,
        (PatternKind::Any | PatternKind::Name(_), _) => true,
        (_, PatternKind::Or(alternatives)) => alternatives.iter().all(|one| covered(a, one, same)),
        (_, PatternKind::As(b, _)) => covered(a, b, same),
        (PatternKind::Or(alternatives), _) => alternatives.iter().any(|one| covered(one, b, same)),
        (PatternKind::As(a, _), _) => covered(a, b, same),
        (PatternKind::Literal(a), PatternKind::Literal(b)) => same(a, b),
        (PatternKind::Range(low, high), PatternKind::Literal(b)) => match b {
            Literal::Int(n) => low <= n && n <= high,
            Literal::Float(x) => {
                whole(*x).is_some_and(|n| *low <= n && n <= *high && same(&Literal::Int(n), b))
            }
            _ => false,
        },
        (PatternKind::Range(low, high), PatternKind::Range(a, b)) => low <= a && b <= high,
        (PatternKind::Prefix(start, _), PatternKind::Literal(Literal::Str(text))) => {
            text.starts_with(&**start)
        }
        (PatternKind::Prefix(start, _), PatternKind::Prefix(longer, _)) => longer.starts_with(&**start),
        // A literal that is a number matches ints and floats.
        (PatternKind::Kind(kind, _), _) => match &b.kind {
            PatternKind::Literal(Literal::Int(_) | Literal::Float(_)) | PatternKind::Range(..) => {
                *kind == Kind::Number
            }
            PatternKind::Literal(Literal::Bool(_)) => *kind == Kind::Bool,
            PatternKind::Literal(Literal::Duration(_)) => *kind == Kind::Duration,
            PatternKind::Literal(Literal::Str(_)) | PatternKind::Prefix(..) => *kind == Kind::String,
            PatternKind::List(..) => *kind == Kind::List,
            PatternKind::Record(..) => *kind == Kind::Record,
            PatternKind::Kind(other, _) => {
                kind == other || *kind == Kind::Number && matches!(other, Kind::Int | Kind::Float)
            }
            _ => false,
        },
        (PatternKind::List(items, Some(_)), PatternKind::Kind(Kind::List, _)) => items.is_empty(),
        (PatternKind::Record(fields, _), PatternKind::Kind(Kind::Record, _)) => fields.is_empty(),
        (PatternKind::List(xs, None), PatternKind::List(ys, None)) => {
            xs.len() == ys.len() && xs.iter().zip(ys).all(|(x, y)| covered(x, y, same))
        }
        (PatternKind::List(xs, Some((before, _))), PatternKind::List(ys, rest)) => {
            let after = xs.len() - before;
            let (front, back) = match rest {
                None => (ys.len(), ys.len()),
                Some((at, _)) => (*at, ys.len() - at),
            };
            if rest.is_none() && ys.len() < xs.len() || front < *before || back < after {
                return false;
            }
            xs[..*before].iter().zip(ys).all(|(x, y)| covered(x, y, same))
                && xs[*before..].iter().rev().zip(ys.iter().rev()).all(|(x, y)| covered(x, y, same))
        }
        (PatternKind::Record(xs, _), PatternKind::Record(ys, _)) => xs
            .iter()
            .all(|(key, x)| ys.iter().any(|(other, y)| other.name == key.name && covered(x, y, same))),
        _ => false,
    }
}
