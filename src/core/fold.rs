//! Constant folding: constants that are computed before the program runs. Operations that would
//! fail are left to run time.

use crate::syntax::Span;
use crate::syntax::tree::{BinaryOp, Literal};

use super::{Form, Node, Prim};

/// Makes a primitive operation, or its value if that is known.
pub fn prim(prim: Prim, args: Vec<Node>, span: Span) -> Node {
    let value = match (&prim, &args[..]) {
        (Prim::Binary(op), [Node { form: Form::Const(a), .. }, Node { form: Form::Const(b), .. }]) => {
            binary(*op, a, b)
        }
        (Prim::Not, [Node { form: Form::Const(Literal::Bool(b)), .. }]) => Some(Literal::Bool(!b)),
        (Prim::Bool, [Node { form: Form::Const(Literal::Bool(b)), .. }]) => Some(Literal::Bool(*b)),
        (Prim::IsNull, [Node { form: Form::Const(literal), .. }]) => {
            Some(Literal::Bool(*literal == Literal::Null))
        }
        (Prim::Negate, [Node { form: Form::Const(Literal::Int(n)), .. }]) => {
            n.checked_neg().map(Literal::Int)
        }
        (Prim::Negate, [Node { form: Form::Const(Literal::Float(x)), .. }]) => Some(Literal::Float(-x)),
        _ => None,
    };
    match value {
        Some(value) => Node { form: Form::Const(value), span },
        None => Node { form: Form::Prim(prim, args), span },
    }
}

fn binary(op: BinaryOp, a: &Literal, b: &Literal) -> Option<Literal> {
    use BinaryOp::*;
    use Literal::{Bool, Duration, Float, Int, Str};
    Some(match (op, a, b) {
        (Add, Int(a), Int(b)) => Int(a.checked_add(*b)?),
        (Subtract, Int(a), Int(b)) => Int(a.checked_sub(*b)?),
        (Multiply, Int(a), Int(b)) => Int(a.checked_mul(*b)?),
        (Divide, Int(a), Int(b)) if *b != 0 => Float(*a as f64 / *b as f64),
        (Add, Float(a), Float(b)) => Float(a + b),
        (Subtract, Float(a), Float(b)) => Float(a - b),
        (Multiply, Float(a), Float(b)) => Float(a * b),
        (Add, Duration(a), Duration(b)) => Duration(a.checked_add(*b)?),
        (Multiply, Int(a), Duration(b)) | (Multiply, Duration(b), Int(a)) => Duration(a.checked_mul(*b)?),
        (Add, Str(a), Str(b)) if a.len() + b.len() < 4096 => Str(format!("{a}{b}").into()),
        (Equal, Int(a), Int(b)) => Bool(a == b),
        (NotEqual, Int(a), Int(b)) => Bool(a != b),
        (Equal, Str(a), Str(b)) => Bool(a == b),
        (NotEqual, Str(a), Str(b)) => Bool(a != b),
        (Less, Int(a), Int(b)) => Bool(a < b),
        (LessEqual, Int(a), Int(b)) => Bool(a <= b),
        (Greater, Int(a), Int(b)) => Bool(a > b),
        (GreaterEqual, Int(a), Int(b)) => Bool(a >= b),
        _ => return None,
    })
}
