//! Parts of variables that are passed to a function and replaced by its result:
//! `rows[i] = changed(rows[i])`. Also entries with a default:
//! `groups[key] = changed(groups.get(key) ?? [])`.
//!
//! The part is moved out of the variable during the call, so that nothing else holds it and it can
//! be changed in place. Nothing sees the variable during the call. The code of the new value reads
//! nothing else of the variable and does not jump elsewhere. An error in this code ends the
//! variable's function.

use crate::core::{Arg, Form, Node, Step, Var};
use crate::syntax::Span;

use super::assignments::{entry, is_part};
use super::expressions::{any_within, sets};
use super::{Compiler, Op, Reg};

/// A part that is moved out where it is read.
#[derive(Clone)]
pub(super) struct Move {
    var: Var,
    steps: Vec<Step>,
    /// The registers of the variable and of the path's indexes, and the path's number.
    a: u8,
    base: Reg,
    path: u16,
}

impl Compiler<'_, '_> {
    /// Compiles the replacement of a part by a function's result for that part. Returns whether the
    /// value has this form.
    pub(super) fn set_taken(&mut self, var: Var, steps: &[Step], value: &Node, span: Span) -> bool {
        let Some(a) = self.state().locals.get(&var).and_then(|reg| u8::try_from(*reg).ok()) else {
            return false;
        };
        // A field alone is moved where it is read, because it is set before the next read.
        if matches!(steps, [Step::Field(..)]) {
            return false;
        }
        let indexes = steps.iter().filter_map(|step| match step {
            Step::Index(index) => Some(index),
            Step::Field(..) => None,
        });
        let can_be = self.state().tries.is_empty()
            && !self.variables.vars[var as usize].early
            && is_handed_on(value, var, steps)
            && reads(value, var) == 1
            && indexes.into_iter().all(|index| self.is_steady(index, value));
        if !can_be {
            return false;
        }
        let (base, path) = self.steps(steps);
        let taking = Move { var, steps: steps.to_vec(), a, base, path };
        let outer = self.state().taking.replace(taking);
        let value = self.place(value);
        self.state().taking = outer;
        let a = Reg::from(a);
        let op = match steps {
            [Step::Index(_)] => Op::SetElement { a, index: base, value },
            _ => Op::SetPath { a, base, path },
        };
        self.emit(op, span);
        true
    }

    /// Whether an index is the same before and after a value is computed.
    fn is_steady(&self, index: &Node, value: &Node) -> bool {
        let changes = match index.form {
            Form::Var(var) => {
                let info = &self.variables.vars[var as usize];
                info.cell || info.early || sets(value, var)
            }
            _ => any_within(index, &mut |part| !self.is_steady(part, value)),
        };
        !changes
    }

    /// Moves a part out, if the node reads the part to move. Returns its register.
    pub(super) fn taken(&mut self, node: &Node) -> Option<Reg> {
        let taking = self.state().taking.as_ref()?;
        let Move { var, steps, a, base, path } = taking;
        let (a, base, path, is_element) = (*a, *base, *path, matches!(steps[..], [Step::Index(_)]));
        if is_part(node, *var, steps) {
            let to = self.alloc();
            let op = match is_element {
                true => Op::TakeElement { to, a: a.into(), index: base },
                false => Op::TakePath { to, a, base, path },
            };
            self.emit(op, node.span);
            return Some(to);
        }
        let other = entry(node, *var, steps)?;
        let outer = self.state().taking.take();
        let to = self.alloc();
        self.emit(Op::IsEntry { a, to, base, path }, node.span);
        self.emit(Op::TestTrue { want: true, a: to }, node.span);
        let no = self.jump(node.span);
        self.emit(Op::TakeEntry { a, to, base, path }, node.span);
        self.emit(Op::TestNull { want: true, a: to }, node.span);
        let found = self.jump(node.span);
        self.expr(other, Some(to));
        let end = self.jump(node.span);
        self.patch_here(vec![no]);
        self.expr(node, Some(to));
        self.patch_here(vec![found, end]);
        self.state().taking = outer;
        Some(to)
    }
}

/// Whether a part is an argument or the receiver of a call within a node.
fn is_handed_on(node: &Node, var: Var, steps: &[Step]) -> bool {
    let is_it = |node: &Node| is_part(node, var, steps) || entry(node, var, steps).is_some();
    let is_arg = |arg: &Arg| matches!(arg, Arg::Item(node) if is_it(node));
    let here = match &node.form {
        Form::Call(_, args) => args.iter().any(is_arg),
        Form::Method(value, _, args) => is_it(value) || args.iter().any(is_arg),
        Form::Apply(_, args) => args.iter().any(is_it),
        _ => false,
    };
    here || any_within(node, &mut |child| is_handed_on(child, var, steps))
}

/// Returns how often a node reads a variable. Returns at least two where this is uncertain: a read
/// may repeat, or the code may set the variable or jump elsewhere.
fn reads(node: &Node, var: Var) -> usize {
    let mut within = 0;
    node.each(&mut |child| within += reads(child, var));
    match &node.form {
        Form::Var(read) => usize::from(*read == var),
        Form::Set(set, ..) if *set == var => 2,
        Form::Exit(_) | Form::Again(_) | Form::Return(_) => 2,
        Form::Lambda(f) => 2 * reads(&f.body, var),
        Form::Functions(group) => group.iter().map(|(_, f)| 2 * reads(&f.body, var)).sum(),
        Form::Loop(_) => 2 * within,
        _ => within,
    }
}
