//! Which arms of a `match` can never be reached.

use crate::syntax::tree::{Arm, Pattern, PatternKind};

/// For each arm that can't be reached: its number and that of the arm that takes all of its values.
pub fn unreachable_arms(arms: &[Arm]) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    for (number, arm) in arms.iter().enumerate().take(500) {
        let earlier = || arms[..number].iter().enumerate().filter(|(_, arm)| arm.guard.is_none());
        let taken_by = |pattern: &Pattern| {
            earlier()
                .find(|(_, arm)| arm.patterns.iter().any(|other| covers(other, pattern)))
                .map(|(number, _)| number)
        };
        let takers: Option<Vec<usize>> = arm.patterns.iter().map(taken_by).collect();
        if let Some(takers) = takers
            && let Some(taker) = takers.into_iter().max()
        {
            found.push((number, taker));
        }
    }
    found
}

/// Whether every value that `b` matches is matched by `a`.
fn covers(a: &Pattern, b: &Pattern) -> bool {
    match (&a.kind, &b.kind) {
        (PatternKind::Error, _) | (_, PatternKind::Error) => false,
        (PatternKind::Any | PatternKind::Name(_), _) => true,
        (PatternKind::Literal(a), PatternKind::Literal(b)) => a == b,
        (PatternKind::List(xs, None), PatternKind::List(ys, None)) => {
            xs.len() == ys.len() && xs.iter().zip(ys).all(|(x, y)| covers(x, y))
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
            xs[..*before].iter().zip(ys).all(|(x, y)| covers(x, y))
                && xs[*before..].iter().rev().zip(ys.iter().rev()).all(|(x, y)| covers(x, y))
        }
        (PatternKind::Record(xs, _), PatternKind::Record(ys, _)) => {
            xs.iter().all(|(key, x)| ys.iter().any(|(other, y)| other.name == key.name && covers(x, y)))
        }
        _ => false,
    }
}
