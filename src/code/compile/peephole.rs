//! The pass that removes instructions without effect and adjusts the jumps over them.

use crate::code::Op;
use crate::code::debug::Scope;
use crate::syntax::Span;

use super::registers::{followers, jumped};

/// Removes jumps to the next instruction, and each `Forget` of a register that is still read.
pub(super) fn optimize(ops: &mut Vec<Op>, spans: &mut Vec<Span>, scopes: &mut [Scope]) {
    while shorten(ops, spans, scopes) {}
}

/// Removes instructions once, and returns whether there were any. A jump over removed instructions
/// may then have no effect either.
fn shorten(ops: &mut Vec<Op>, spans: &mut Vec<Span>, scopes: &mut [Scope]) -> bool {
    let idle: Vec<bool> = (0..ops.len()).map(|at| is_idle(ops, at)).collect();
    if !idle.contains(&true) {
        return false;
    }
    // The new place of each instruction, or that of the next one that stays; and the new end.
    let mut places = Vec::with_capacity(ops.len() + 1);
    let mut place = 0;
    for idle in &idle {
        places.push(place);
        place += usize::from(!idle);
    }
    places.push(place);
    for at in 0..ops.len() {
        if let Some(by) = ops[at].distance() {
            let target = places[jumped(at, *by).min(idle.len())];
            *by = (target as i64 - places[at] as i64 - 1) as i32;
        }
    }
    for scope in scopes {
        scope.from = places[scope.from as usize] as u32;
        scope.to = places[scope.to as usize] as u32;
    }
    let mut stays = idle.iter().map(|idle| !idle);
    ops.retain(|_| stays.next().unwrap_or(true));
    let mut stays = idle.iter().map(|idle| !idle);
    spans.retain(|_| stays.next().unwrap_or(true));
    true
}

fn is_idle(ops: &[Op], at: usize) -> bool {
    match ops[at] {
        Op::Forget { .. } => true,
        // A jump that a test skips has an effect.
        Op::Jump { by: 0 } => at == 0 || followers(ops[at - 1], at - 1)[1] != Some(at + 1),
        _ => false,
    }
}
