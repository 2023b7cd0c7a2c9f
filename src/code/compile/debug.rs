//! The tables for the debugger: marks of statements, and which variables can be seen where.

use crate::code::debug::{Captured, Scope, Statement, Variables};
use crate::core::{Decision, Var};
use crate::syntax::{Place, Span};

use super::{Compiler, FunctionId, OPEN, Op, Reg, State};

impl Compiler<'_, '_> {
    /// Emits the mark of a statement. The statement's place is completed at the end of its function.
    pub(super) fn statement(&mut self, span: Span) {
        let live = self.mark().min(u32::from(Reg::MAX)) as Reg;
        let Some(tables) = &mut self.unit.code.debug else { return };
        let statement = tables.statements.len() as u32;
        tables.statements.push(Statement { place: Place { source: 0, span }, ..Statement::default() });
        self.emit(Op::Mark { live, statement }, span);
    }

    /// Notes that a variable can be seen from here on.
    pub(super) fn show(&mut self, var: Var, register: Reg, is_function: bool) {
        if self.unit.code.debug.is_some()
            && let Some(mut state) = self.states.pop()
        {
            self.shown(&mut state, var, register, is_function);
            self.states.push(state);
        }
    }

    /// As `show`, in a function that is not yet, or no longer, the current one.
    pub(super) fn shown(&self, state: &mut State, var: Var, register: Reg, is_function: bool) {
        if self.unit.code.debug.is_some() && self.variables.vars[var as usize].own {
            state.scopes.push(self.scope(state, var, register, is_function));
        }
    }

    /// As `show`, for the variable of a loop, whose progress is in registers from `base` on.
    pub(super) fn show_looped(&mut self, var: Var, register: Reg, base: Reg) {
        if self.unit.code.debug.is_some()
            && let Some(mut state) = self.states.pop()
        {
            let scope = self.scope(&state, var, register, false);
            state.scopes.push(Scope { looped: Some(base), ..scope });
            self.states.push(state);
        }
    }

    fn scope(&self, state: &State, var: Var, register: Reg, is_function: bool) -> Scope {
        let info = &self.variables.vars[var as usize];
        Scope {
            name: info.name.to_string(),
            register,
            is_cell: info.cell,
            is_function,
            is_own: info.own,
            looped: None,
            from: state.ops.len() as u32,
            to: OPEN,
        }
    }

    /// Notes that the variables of a pattern can be seen from here on: those of one arm of a
    /// `match`, or those of all its arms.
    pub(super) fn show_bound(&mut self, tree: &Decision, arm: Option<usize>) {
        if self.unit.code.debug.is_none() {
            return;
        }
        for var in bound(tree, arm) {
            if !self.variables.vars[var as usize].early
                && let Some(register) = self.state().locals.get(&var).copied()
            {
                self.show(var, register, false);
            }
        }
    }

    /// Notes that the variables of an arm can no longer be seen.
    pub(super) fn hide_bound(&mut self, tree: &Decision, arm: usize) {
        if self.unit.code.debug.is_none() {
            return;
        }
        let state = self.state();
        let registers: Vec<Reg> =
            bound(tree, Some(arm)).iter().filter_map(|var| state.locals.get(var).copied()).collect();
        let here = state.ops.len() as u32;
        let gone =
            state.scopes.iter_mut().filter(|scope| scope.to == OPEN && registers.contains(&scope.register));
        gone.for_each(|scope| scope.to = here);
    }

    /// Puts a function's statements and variables into the tables.
    pub(super) fn noted(&mut self, state: &mut State, function: FunctionId, source: u32) {
        let vars = &self.variables.vars;
        let Some(tables) = &mut self.unit.code.debug else { return };
        for (pc, op) in state.ops.iter().enumerate() {
            if let Op::Mark { statement, .. } = op {
                let statement = &mut tables.statements[*statement as usize];
                (statement.function, statement.pc) = (function, pc as u32);
                statement.place.source = source;
            }
        }
        let captured = state.captures.as_ref().map(|captures| captures.borrow().clone()).unwrap_or_default();
        let captured = captured.iter().map(|var| {
            let info = &vars[*var as usize];
            Captured { name: info.name.to_string(), is_cell: info.cell, is_own: info.own }
        });
        let variables = Variables { captured: captured.collect(), scopes: std::mem::take(&mut state.scopes) };
        let all = &mut tables.variables;
        if all.len() <= function as usize {
            all.resize(function as usize + 1, Variables::default());
        }
        all[function as usize] = variables;
    }
}

/// Returns the variables that a decision tree binds, for one arm or for all.
fn bound(tree: &Decision, arm: Option<usize>) -> Vec<Var> {
    let mut found = Vec::new();
    collect(tree, arm, &mut found);
    found.sort_unstable();
    found.dedup();
    found
}

fn collect(tree: &Decision, wanted: Option<usize>, found: &mut Vec<Var>) {
    match tree {
        Decision::Read { then, .. } => collect(then, wanted, found),
        Decision::Test { yes: a, no: b, .. } | Decision::Either(a, b) => {
            collect(a, wanted, found);
            collect(b, wanted, found);
        }
        Decision::Arm { binds, guard, arm } => {
            if wanted.is_none_or(|wanted| wanted == *arm) {
                found.extend(binds.iter().map(|(var, _)| *var));
            }
            if let Some((_, no)) = guard {
                collect(no, wanted, found);
            }
        }
        Decision::Fail => {}
    }
}
