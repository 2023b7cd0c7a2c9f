//! Instructions that do nothing are left out, and jumps lead where they led.

use crate::code::Op;
use crate::syntax::Span;

use super::registers::{followers, jumped};

/// Leaves out what does nothing: jumps to the next instruction, and what was to be forgotten but is still read.
pub(super) fn optimize(ops: &mut Vec<Op>, spans: &mut Vec<Span>) {
    while shorten(ops, spans) {}
}

/// Does so once: a jump over what was left out may then do nothing as well.
fn shorten(ops: &mut Vec<Op>, spans: &mut Vec<Span>) -> bool {
    let idle: Vec<bool> = (0..ops.len()).map(|at| is_idle(ops, at)).collect();
    if !idle.contains(&true) {
        return false;
    }
    // Where each instruction comes to lie, or the next one that stays; and the end.
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
    let mut stays = idle.iter().map(|idle| !idle);
    ops.retain(|_| stays.next().unwrap_or(true));
    let mut stays = idle.iter().map(|idle| !idle);
    spans.retain(|_| stays.next().unwrap_or(true));
    true
}

fn is_idle(ops: &[Op], at: usize) -> bool {
    match ops[at] {
        Op::Forget { .. } => true,
        // A test skips the jump after it.
        Op::Jump { by: 0 } => at == 0 || followers(ops[at - 1], at - 1)[1] != Some(at + 1),
        _ => false,
    }
}
