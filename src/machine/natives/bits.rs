//! Natives for the bits of ints, and for characters by their numbers.

use super::super::error::{Fail, fail};
use super::super::format;
use super::super::value::Value;
use super::{Native, int, text};

pub fn find(name: &str) -> Option<Native> {
    Some(match name {
        "bits_and" => |args| Ok(Value::Int(int(&args[0])? & int(&args[1])?)),
        "bits_or" => |args| Ok(Value::Int(int(&args[0])? | int(&args[1])?)),
        "bits_xor" => |args| Ok(Value::Int(int(&args[0])? ^ int(&args[1])?)),
        "bits_not" => |args| Ok(Value::Int(!int(&args[0])?)),
        "bits_count" => |args| Ok(Value::Int(i64::from(int(&args[0])?.count_ones()))),
        "bits_shift_left" => |args| Ok(Value::Int(int(&args[0])? << places(&args[1])?)),
        "bits_shift_right" => |args| Ok(Value::Int(int(&args[0])? >> places(&args[1])?)),
        "char_code" => |args| {
            let mut chars = text(&args[0])?.as_str().chars();
            match (chars.next(), chars.next()) {
                (Some(c), None) => Ok(Value::Int(i64::from(u32::from(c)))),
                _ => {
                    let shown = format::brief(&args[0]);
                    Err(fail("type_error", format!("one character was expected, not {shown}")))
                }
            }
        },
        "char_of" => |args| {
            let code = int(&args[0])?;
            let found = u32::try_from(code).ok().and_then(char::from_u32);
            found
                .map(Value::char)
                .ok_or_else(|| fail("domain_error", format!("no character has the code {code}")))
        },
        _ => return None,
    })
}

/// Reads the number of places of a shift.
fn places(count: &Value) -> Result<u32, Fail> {
    let count = int(count)?;
    match u32::try_from(count) {
        Ok(places) if places < 64 => Ok(places),
        _ => Err(fail("domain_error", format!("bits are shifted by 0 to 63 places, not {count}"))),
    }
}
