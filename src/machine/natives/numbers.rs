//! Natives for numbers. Functions that machines compute differently come from libm, which is the same everywhere.

use super::super::error::{Fail, fail, type_error};
use super::super::value::Value;
use super::{Native, number};

pub fn find(name: &str) -> Option<Native> {
    Some(match name {
        "math_abs" => |args| match &args[0] {
            Value::Int(n) => n
                .checked_abs()
                .map(Value::Int)
                .ok_or_else(|| fail("overflow", "the absolute value does not fit in 64 bits")),
            Value::Float(x) => Ok(Value::float(x.get().abs())),
            Value::Duration(n) => Ok(Value::Duration(n.saturating_abs())),
            other => Err(super::wrong("a number", other)),
        },
        "math_floor" => |args| whole(&args[0], f64::floor),
        "math_ceil" => |args| whole(&args[0], f64::ceil),
        "math_round" => |args| whole(&args[0], f64::round),
        "math_sqrt" => |args| {
            let x = number(&args[0])?;
            if x < 0.0 {
                return Err(fail("domain_error", format!("the square root of {x:?}")));
            }
            Ok(Value::float(x.sqrt()))
        },
        "math_pow" => pow,
        "math_log" => |args| {
            let x = number(&args[0])?;
            if x <= 0.0 {
                return Err(fail("domain_error", format!("the logarithm of {x:?}")));
            }
            Ok(Value::float(libm::log(x)))
        },
        "math_exp" => |args| Ok(Value::float(libm::exp(number(&args[0])?))),
        "math_sin" => |args| Ok(Value::float(libm::sin(number(&args[0])?))),
        "math_cos" => |args| Ok(Value::float(libm::cos(number(&args[0])?))),
        "math_tan" => |args| Ok(Value::float(libm::tan(number(&args[0])?))),
        "to_float" => |args| Ok(Value::float(number(&args[0])?)),
        _ => return None,
    })
}

/// Rounds to an int.
fn whole(value: &Value, round: fn(f64) -> f64) -> Result<Value, Fail> {
    match value {
        Value::Int(n) => Ok(Value::Int(*n)),
        Value::Float(x) => {
            let x = x.get();
            let rounded = round(x);
            if rounded.abs() < 9.2e18 {
                Ok(Value::Int(rounded as i64))
            } else {
                Err(fail("overflow", format!("{x:?} does not fit in an int")))
            }
        }
        other => Err(super::wrong("a number", other)),
    }
}

fn pow(args: &mut [Value]) -> Result<Value, Fail> {
    match (&args[0], &args[1]) {
        (Value::Int(base), Value::Int(exponent)) if *exponent >= 0 => {
            let exponent = u32::try_from(*exponent).unwrap_or(u32::MAX);
            let power = match base {
                0 | 1 if exponent > 0 => Some(*base),
                -1 => Some(if exponent % 2 == 0 { 1 } else { -1 }),
                base => base.checked_pow(exponent),
            };
            power.map(Value::Int).ok_or_else(|| {
                fail("overflow", format!("{base} to the power {exponent} does not fit in 64 bits"))
            })
        }
        (a, b) => {
            let result = libm::pow(number(a)?, number(b)?);
            if result.is_nan() {
                return Err(type_error("this power is not a real number"));
            }
            Ok(Value::float(result))
        }
    }
}
