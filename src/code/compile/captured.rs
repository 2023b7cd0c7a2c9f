//! Captured variables that a function uses more than once, or in a loop: it loads them once, at its
//! beginning.

use crate::core::{Form, Head, Node, Var};

use super::{Compiler, State};

impl Compiler<'_, '_> {
    /// Loads the captured variables that a function uses more than once into registers of their
    /// own.
    pub(super) fn load_captured(&mut self, body: &Node) {
        let Some((State { captures: Some(_), siblings, .. }, outer)) = self.states.split_last() else {
            return;
        };
        let mut used = Vec::new();
        uses(body, false, &mut used);
        used.sort_unstable();
        let often = used.chunk_by(|a, b| a == b).filter(|same| same.len() > 1).map(|same| same[0]);
        let is_captured = |var: &Var| {
            !siblings.contains_key(var) && outer.iter().any(|function| function.locals.contains_key(var))
        };
        let often: Vec<Var> = often.filter(is_captured).collect();
        for var in often {
            let reg = self.alloc();
            self.load(var, Some(reg), body.span);
            self.state().locals.insert(var, reg);
        }
    }
}

/// Collects the variables that a node uses: once for each place, and twice for a place in a loop.
fn uses(node: &Node, repeated: bool, used: &mut Vec<Var>) {
    match &node.form {
        Form::Var(var) | Form::Set(var, ..) => {
            note(*var, repeated, used);
        }
        // An inner function captures each variable that it uses once.
        Form::Lambda(f) => captured(&f.body, repeated, used),
        Form::Functions(group) => group.iter().for_each(|(_, f)| captured(&f.body, repeated, used)),
        Form::Loop(l) => {
            match &l.head {
                Head::While(condition) => uses(condition, true, used),
                Head::Range(_, low, high, _) => [low, high].iter().for_each(|a| uses(a, repeated, used)),
                Head::Each(_, list) => uses(list, repeated, used),
            }
            return uses(&l.body, true, used);
        }
        _ => {}
    }
    node.each(&mut |child| uses(child, repeated, used));
}

fn captured(body: &Node, repeated: bool, used: &mut Vec<Var>) {
    let mut within = Vec::new();
    uses(body, false, &mut within);
    within.sort_unstable();
    within.dedup();
    within.into_iter().for_each(|var| note(var, repeated, used));
}

fn note(var: Var, repeated: bool, used: &mut Vec<Var>) {
    used.extend(std::iter::repeat_n(var, if repeated { 2 } else { 1 }));
}
