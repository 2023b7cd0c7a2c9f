//! Captured variables that loops use: they are loaded once, where their function begins.

use crate::core::{Form, Head, Node, Var};

use super::{Compiler, State};

impl Compiler<'_, '_> {
    /// Loads what the loops of a function that has an environment use of it into registers of their own.
    pub(super) fn load_captured(&mut self, body: &Node) {
        let Some((State { captures: Some(_), siblings, .. }, outer)) = self.states.split_last() else {
            return;
        };
        let mut used = Vec::new();
        in_loops(body, false, &mut used);
        used.sort_unstable();
        used.dedup();
        used.retain(|var| !siblings.contains_key(var) && outer.iter().any(|f| f.locals.contains_key(var)));
        for var in used {
            let reg = self.alloc();
            self.load(var, Some(reg), body.span);
            self.state().locals.insert(var, reg);
        }
    }
}

/// Collects the variables that are used within loops, by functions that are made there too.
fn in_loops(node: &Node, within: bool, used: &mut Vec<Var>) {
    match &node.form {
        Form::Var(var) | Form::Set(var, ..) if within => used.push(*var),
        Form::Lambda(f) if within => in_loops(&f.body, true, used),
        Form::Functions(group) if within => group.iter().for_each(|(_, f)| in_loops(&f.body, true, used)),
        Form::Loop(l) => {
            match &l.head {
                Head::While(condition) => in_loops(condition, true, used),
                Head::Range(_, low, high, _) => [low, high].iter().for_each(|a| in_loops(a, within, used)),
                Head::Each(_, list) => in_loops(list, within, used),
            }
            return in_loops(&l.body, true, used);
        }
        _ => {}
    }
    node.each(&mut |child| in_loops(child, within, used));
}
