//! Natives for numbers. Functions whose results differ between machines come from libm, which is
//! the same everywhere.

use super::super::compare;
use super::super::error::{Fail, fail, type_error};
use super::super::value::Value;
use super::{Native, int, number};

pub fn find(name: &str) -> Option<Native> {
    Some(match name {
        "math_abs" => |args| match &args[0] {
            Value::Int(n) => n
                .checked_abs()
                .map(Value::Int)
                .ok_or_else(|| fail("overflow", "the absolute value does not fit in 64 bits")),
            Value::Float(x) => Ok(Value::float(x.get().abs())),
            Value::Duration(n) => n
                .checked_abs()
                .map(Value::Duration)
                .ok_or_else(|| fail("overflow", "the absolute value does not fit in 64 bits")),
            other => Err(super::wrong("a number", other)),
        },
        "math_floor" => |args| whole(&args[0], f64::floor),
        "math_ceil" => |args| whole(&args[0], f64::ceil),
        "math_round" => |args| whole(&args[0], f64::round),
        "math_round_to" => |args| round_to(number(&args[0])?, int(&args[1])?).map(Value::float),
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

/// Rounds a number to an int.
fn whole(value: &Value, round: fn(f64) -> f64) -> Result<Value, Fail> {
    match value {
        Value::Int(n) => Ok(Value::Int(*n)),
        Value::Float(x) => {
            let x = x.get();
            let rounded = compare::whole(round(x)).map(Value::Int);
            rounded.ok_or_else(|| fail("overflow", format!("{x:?} does not fit in an int")))
        }
        other => Err(super::wrong("a number", other)),
    }
}

/// Rounds to `digits` digits after the point, halves away from zero.
fn round_to(x: f64, digits: i64) -> Result<f64, Fail> {
    // This range covers all digits of the largest and the smallest floats.
    let scale = libm::pow(10.0, digits.unsigned_abs().min(400) as f64);
    let rounded = match digits {
        0.. => {
            let scaled = x * scale;
            // Larger floats have no fraction to round.
            match scaled.abs() < 4_503_599_627_370_496.0 {
                true => scaled.round() / scale,
                false => x,
            }
        }
        _ => match (x / scale).round() {
            0.0 => 0.0,
            scaled => scaled * scale,
        },
    };
    match rounded.is_infinite() && x.is_finite() {
        true => Err(fail("overflow", format!("{x:?} rounded to {digits} digits does not fit in a float"))),
        false => Ok(rounded),
    }
}

fn pow(args: &mut [Value]) -> Result<Value, Fail> {
    match (&args[0], &args[1]) {
        (Value::Int(base), Value::Int(exponent)) if *exponent >= 0 => {
            let power = match base {
                0 | 1 if *exponent > 0 => Some(*base),
                -1 => Some(if exponent % 2 == 0 { 1 } else { -1 }),
                base => u32::try_from(*exponent).ok().and_then(|exponent| base.checked_pow(exponent)),
            };
            power.map(Value::Int).ok_or_else(|| {
                fail("overflow", format!("{base} to the power {exponent} does not fit in 64 bits"))
            })
        }
        (a, b) => {
            let (base, exponent) = (number(a)?, number(b)?);
            if base == 0.0 && exponent < 0.0 {
                return Err(fail("division_by_zero", format!("0 to the power {exponent:?}")));
            }
            let result = libm::pow(base, exponent);
            if result.is_nan() {
                return Err(type_error("this power is not a real number"));
            }
            Ok(Value::float(result))
        }
    }
}
