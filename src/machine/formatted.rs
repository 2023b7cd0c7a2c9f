//! Values in a format: `{price:.2}`, `{n:>8}`, `{pause:ms}`.

use crate::syntax::spec::{Align, Form, Spec, UNITS};

use super::durations::{decimal, duration};
use super::error::{Fail, fail, type_error};
use super::value::Value;
use super::{format, secret};

/// Returns a value in the format that a text describes.
pub fn formatted(value: &Value, text: &str) -> Result<String, Fail> {
    let spec = Spec::parse(text).map_err(|reason| {
        type_error(format!("{} is not a format: {reason}", format::brief(&Value::str(text))))
    })?;
    if secret::is(value) {
        return Err(type_error("a secret has no format; it is put into a text as it is"));
    }
    if matches!(value, Value::Missing) {
        return Err(fail("uninitialised", "a variable is used before it has its value"));
    }
    let body = match value {
        Value::Int(_) | Value::Float(_) => number(value, &spec)?,
        Value::Duration(nanos) => of_duration(*nanos, value, &spec)?,
        _ => others(value, &spec)?,
    };
    Ok(padded(&body, value, &spec))
}

/// Returns the error of a part of a format that a value can't have.
fn unfit(part: &str, of: &str, value: &Value) -> Fail {
    type_error(format!("the format `{part}` is for {of}, not for {}", value.a_kind()))
}

/// Checks that a value that is not a number has no parts of a number's format.
fn is_no_number(value: &Value, spec: &Spec) -> Result<(), Fail> {
    let part = match spec {
        Spec { form: Form::Percent, .. } => "%",
        Spec { form: Form::Hex, .. } => "x",
        Spec { form: Form::Binary, .. } => "b",
        Spec { plus: true, .. } => "+",
        Spec { zeros: true, .. } => "0",
        Spec { commas: true, .. } => ",",
        _ => return Ok(()),
    };
    Err(unfit(part, "numbers", value))
}

fn others(value: &Value, spec: &Spec) -> Result<String, Fail> {
    is_no_number(value, spec)?;
    if let Form::Unit(unit, _) = spec.form {
        return Err(unfit(unit, "durations", value));
    }
    let text = format::to_text(value)?;
    match (spec.decimals, value) {
        (None, _) => Ok(text),
        (Some(most), Value::Str(_)) => Ok(text.chars().take(most).collect()),
        (Some(most), _) => Err(unfit(&format!(".{most}"), "numbers, durations and strings", value)),
    }
}

fn of_duration(nanos: i64, value: &Value, spec: &Spec) -> Result<String, Fail> {
    is_no_number(value, &Spec { plus: false, commas: false, zeros: false, ..spec.clone() })?;
    let size = nanos.unsigned_abs();
    let (unit, scale) = match (spec.form, spec.decimals) {
        (Form::Unit(unit, scale), _) => (unit, scale),
        (_, Some(_)) => {
            *UNITS.iter().find(|(_, scale)| size >= scale.unsigned_abs()).unwrap_or(&("s", 1_000_000_000))
        }
        (_, None) => return Ok(signed(nanos < 0, duration(nanos).trim_start_matches('-'), spec)),
    };
    let text = decimal(size.into(), scale.unsigned_abs().into(), spec.decimals);
    Ok(signed(nanos < 0, &format!("{}{unit}", separated(&text, spec)), spec))
}

fn number(value: &Value, spec: &Spec) -> Result<String, Fail> {
    if let Form::Unit(unit, _) = spec.form {
        return Err(unfit(unit, "durations", value));
    }
    let (negative, digits) = match (value, spec.form) {
        (Value::Int(n), Form::Hex) => (*n < 0, format!("{:x}", n.unsigned_abs())),
        (Value::Int(n), Form::Binary) => (*n < 0, format!("{:b}", n.unsigned_abs())),
        (Value::Int(n), form) => {
            let percent = matches!(form, Form::Percent);
            let size = u128::from(n.unsigned_abs()) * if percent { 100 } else { 1 };
            let zeros = spec.decimals.filter(|decimals| *decimals > 0);
            let zeros = zeros.map_or(String::new(), |decimals| format!(".{}", "0".repeat(decimals)));
            (*n < 0, format!("{size}{zeros}"))
        }
        (Value::Float(x), form) => {
            let x = x.get();
            let size = x.abs();
            let text = match (form, spec.decimals) {
                (Form::Hex, _) => return Err(unfit("x", "ints", value)),
                (Form::Binary, _) => return Err(unfit("b", "ints", value)),
                _ if !size.is_finite() => format::float(size),
                (Form::Percent, decimals) => hundredfold(&match decimals {
                    Some(decimals) => format!("{size:.*}", decimals + 2),
                    None => format!("{size}"),
                }),
                (_, Some(decimals)) => format!("{size:.decimals$}"),
                (_, None) => format::float(size),
            };
            (x.is_sign_negative() && !x.is_nan(), text)
        }
        _ => (false, format::to_text(value)?),
    };
    // A negative number that is rounded to zero has no sign.
    let negative =
        negative && (spec.decimals.is_none() || digits.contains(|c: char| matches!(c, '1'..='9' | 'i')));
    let percent = if spec.form == Form::Percent { "%" } else { "" };
    Ok(signed(negative, &format!("{}{percent}", separated(&digits, spec)), spec))
}

/// Returns a hundred times a decimal.
fn hundredfold(decimal: &str) -> String {
    let (whole, part) = decimal.split_once('.').unwrap_or((decimal, ""));
    let part = format!("{part:0<2}");
    let (up, rest) = part.split_at(2);
    let whole = format!("{whole}{up}");
    let whole = whole.trim_start_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    match rest {
        "" => whole.to_string(),
        rest => format!("{whole}.{rest}"),
    }
}

/// Returns digits with commas between thousands, if the format wants them.
fn separated(digits: &str, spec: &Spec) -> String {
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    if !spec.commas {
        return digits.to_string();
    }
    let (whole, rest) = digits.split_at(end);
    let mut out = String::with_capacity(digits.len() + end / 3);
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (end - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out.push_str(rest);
    out
}

/// Returns a number with its sign, and with the zeros that the format wants after the sign.
fn signed(negative: bool, digits: &str, spec: &Spec) -> String {
    let sign = match (negative, spec.plus) {
        (true, _) => "-",
        (false, true) => "+",
        (false, false) => "",
    };
    let finite = digits.starts_with(|c: char| c.is_ascii_digit() || matches!(c, 'a'..='f'));
    let missing = match spec.zeros && spec.align.is_none() && finite {
        true => spec.width.saturating_sub(sign.len() + digits.chars().count()),
        false => 0,
    };
    format!("{sign}{}{digits}", "0".repeat(missing))
}

/// Fills a text up to the width of the format: numbers at the left, others at the right.
fn padded(text: &str, value: &Value, spec: &Spec) -> String {
    let missing = spec.width.saturating_sub(text.chars().count());
    let is_number = matches!(value, Value::Int(_) | Value::Float(_) | Value::Duration(_));
    let before = match spec.align.unwrap_or(if is_number { Align::Right } else { Align::Left }) {
        Align::Left => 0,
        Align::Right => missing,
        Align::Centre => missing / 2,
    };
    let fill = |count: usize| std::iter::repeat_n(spec.fill, count);
    fill(before).chain(text.chars()).chain(fill(missing - before)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_their_formats() {
        let hour = 3_600_000_000_000;
        let cases = [
            (Value::float(9.99), ".1", "10.0"),
            (Value::float(1234.5), ",.2", "1,234.50"),
            (Value::float(0.125), "%", "12.5%"),
            (Value::float(0.285), ".0%", "28%"),
            (Value::float(0.5), "%", "50%"),
            (Value::float(0.123), "%", "12.3%"),
            (Value::float(-0.001), ".1", "0.0"),
            (Value::float(f64::NEG_INFINITY), "06.1", "  -inf"),
            (Value::Int(7), "03", "007"),
            (Value::Int(-7), "04", "-007"),
            (Value::Int(7), "+", "+7"),
            (Value::Int(1_234_567), ",", "1,234,567"),
            (Value::Int(i64::MIN), ",", "-9,223,372,036,854,775,808"),
            (Value::Int(255), "x", "ff"),
            (Value::Int(255), "010b", "0011111111"),
            (Value::Int(3), ".2", "3.00"),
            (Value::Int(3), "%", "300%"),
            (Value::Int(42), ">6", "    42"),
            (Value::Int(42), "<6", "42    "),
            (Value::Int(42), "*^6", "**42**"),
            (Value::str("déjà"), ">6", "  déjà"),
            (Value::str("déjà"), ".2", "dé"),
            (Value::Null, "6", "null  "),
            (Value::Duration(hour), "m", "60m"),
            (Value::Duration(hour), ",s", "3,600s"),
            (Value::Duration(16_446_452), ".1", "16.4ms"),
            (Value::Duration(16_446_452), ".2s", "0.02s"),
            (Value::Duration(hour + hour / 2), ">8", "  1h 30m"),
        ];
        for (value, spec, text) in cases {
            let found = formatted(&value, spec).map_err(|failure| failure.value);
            assert_eq!(found.ok().as_deref(), Some(text), "{spec}");
        }
        for (value, spec) in [
            (Value::str("a"), ","),
            (Value::str("a"), "s"),
            (Value::Int(1), "s"),
            (Value::float(1.5), "x"),
            (Value::Null, ".2"),
            (Value::Duration(1), "%"),
            (Value::Int(1), "what"),
        ] {
            assert!(formatted(&value, spec).is_err(), "{spec}");
        }
    }
}
