//! Conditions as jumps, without bool values.

use crate::core::{Form, Node, Prim};
use crate::syntax::Span;
use crate::syntax::tree::{BinaryOp, Literal};

use super::{Comparison, Compiler, Op};

impl Compiler<'_, '_> {
    /// Emits code that jumps if the condition is `when`, and falls through otherwise. Returns the
    /// jumps to patch.
    pub(super) fn condition(&mut self, node: &Node, when: bool) -> Vec<usize> {
        let span = node.span;
        let mark = self.mark();
        let jumps = match &node.form {
            Form::Const(Literal::Bool(value)) => {
                if *value == when {
                    vec![self.jump(span)]
                } else {
                    Vec::new()
                }
            }
            Form::Prim(Prim::Not, args) if is_test(&args[0]) => self.condition(&args[0], !when),
            Form::Prim(Prim::Bool, args) => self.condition(&args[0], when),
            Form::Prim(Prim::IsNull, args) => {
                let a = self.expr(&args[0], None);
                self.emit(Op::TestNull { want: !when, a }, span);
                vec![self.jump(span)]
            }
            Form::Prim(Prim::IsMissing, args) => {
                let a = self.expr(&args[0], None);
                self.emit(Op::TestMissing { want: !when, a }, span);
                vec![self.jump(span)]
            }
            Form::Prim(Prim::Binary(op), args) if comparison(*op).is_some() => {
                self.comparison(*op, &args[0], &args[1], !when, span);
                vec![self.jump(span)]
            }
            // The lowered forms of `a && b` and `a || b`.
            Form::If(a, b, no) if matches!(no.form, Form::Const(Literal::Bool(false))) => {
                if when {
                    let skip = self.condition(a, false);
                    let jumps = self.condition(b, true);
                    self.patch_here(skip);
                    jumps
                } else {
                    let mut jumps = self.condition(a, false);
                    jumps.extend(self.condition(b, false));
                    jumps
                }
            }
            Form::If(a, yes, b) if matches!(yes.form, Form::Const(Literal::Bool(true))) => {
                if when {
                    let mut jumps = self.condition(a, true);
                    jumps.extend(self.condition(b, true));
                    jumps
                } else {
                    let skip = self.condition(a, true);
                    let jumps = self.condition(b, false);
                    self.patch_here(skip);
                    jumps
                }
            }
            _ => {
                let a = self.expr(node, None);
                self.emit(Op::TestTrue { want: !when, a }, span);
                vec![self.jump(span)]
            }
        };
        self.release(mark);
        jumps
    }

    pub(super) fn comparison(&mut self, op: BinaryOp, a: &Node, b: &Node, want: bool, span: Span) {
        if let Form::Const(Literal::Int(n)) = &b.form
            && let Ok(value) = i32::try_from(*n)
        {
            let a = self.expr(a, None);
            let op = match op {
                BinaryOp::Equal => Op::TestEqualInt { want, a, value },
                BinaryOp::NotEqual => Op::TestEqualInt { want: !want, a, value },
                BinaryOp::Less => Op::TestLessInt { want, a, value },
                BinaryOp::LessEqual => Op::TestLessEqualInt { want, a, value },
                BinaryOp::Greater => Op::TestGreaterInt { want, a, value },
                _ => Op::TestGreaterEqualInt { want, a, value },
            };
            self.emit(op, span);
            return;
        }
        let (a, b) = self.operands(a, b);
        let op = match op {
            BinaryOp::Equal => Op::TestEqual { want, a, b },
            BinaryOp::NotEqual => Op::TestEqual { want: !want, a, b },
            BinaryOp::Less => Op::TestLess { want, a, b },
            BinaryOp::LessEqual => Op::TestLessEqual { want, a, b },
            BinaryOp::Greater => Op::TestGreater { want, a, b },
            _ => Op::TestGreaterEqual { want, a, b },
        };
        self.emit(op, span);
    }
}

/// Returns the comparison of an operator, if it is one.
pub(super) fn comparison(op: BinaryOp) -> Option<Comparison> {
    Some(match op {
        BinaryOp::Equal => Comparison::Equal,
        BinaryOp::NotEqual => Comparison::NotEqual,
        BinaryOp::Less => Comparison::Less,
        BinaryOp::LessEqual => Comparison::LessEqual,
        BinaryOp::Greater => Comparison::Greater,
        BinaryOp::GreaterEqual => Comparison::GreaterEqual,
        _ => return None,
    })
}

/// Whether `!node` can be compiled as the node's condition with the opposite outcome.
fn is_test(node: &Node) -> bool {
    match &node.form {
        Form::Prim(Prim::Binary(op), _) => comparison(*op).is_some(),
        Form::Prim(Prim::IsNull | Prim::IsMissing | Prim::Bool, _) => true,
        Form::If(_, b, no) => {
            matches!(no.form, Form::Const(Literal::Bool(false)))
                || matches!(b.form, Form::Const(Literal::Bool(true)))
        }
        _ => false,
    }
}
