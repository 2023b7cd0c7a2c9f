//! Code, readable: `durable check --dump code`.

use std::fmt::Write;

use super::{Code, Op};

/// The user's functions; those of the standard library only with `all`.
pub fn print(code: &Code, all: bool) -> String {
    let mut out = String::new();
    for (id, f) in code.functions.iter().enumerate() {
        let source = &code.sources.files[f.place.source as usize];
        if source.name.starts_with(crate::check::STD) && !all {
            continue;
        }
        let place = code.sources.locate(f.place);
        let _ = writeln!(
            out,
            "function {id} {} ({} parameters, {} registers) at {place}",
            f.name, f.params, f.registers
        );
        for (at, op) in f.ops.iter().enumerate() {
            let note = match op {
                Op::Constant { index, .. } | Op::TestConstant { index, .. } => {
                    format!("  ; {:?}", code.constants[*index as usize])
                }
                Op::Field { name, .. }
                | Op::TakeField { name, .. }
                | Op::OptionalField { name, .. }
                | Op::ReadField { name, .. } => {
                    format!("  ; .{}", code.names[*name as usize])
                }
                Op::CallMethod { name, .. }
                | Op::TailMethod { name, .. }
                | Op::CallMethodSpread { name, .. }
                | Op::TailMethodSpread { name, .. } => {
                    format!("  ; .{}", code.names[*name as usize])
                }
                Op::CallFunction { function, .. } | Op::TailFunction { function, .. } => {
                    format!("  ; {}", code.functions[*function as usize].name)
                }
                Op::Apply { builtin, .. } => {
                    format!("  ; {}", crate::builtins::TABLE[*builtin as usize].name)
                }
                Op::Invoke { global, .. } => format!("  ; {}", code.isolated[*global as usize].name),
                Op::Jump { by } | Op::Repeat { by } | Op::RangeNext { by, .. } | Op::EachNext { by, .. } => {
                    format!("  ; to {}", at as i64 + 1 + *by as i64)
                }
                _ => String::new(),
            };
            let text = format!("{op:?}").replace(['{', '}', ':', ','], "");
            let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
            let _ = writeln!(out, "  {at:4}  {text}{note}");
        }
    }
    out
}
