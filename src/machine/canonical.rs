//! Keys of sets and maps: a text for any data, the same for equal values and for no others.
//!
//! States and histories hold these texts, so the form never changes. A string is its own key, unless
//! it begins with `$`. Any other value is `$` and its form in [`write`].

use super::compare::whole;
use super::error::{Fail, fail, type_error};
use super::value::Value;
use super::{secret, work};

/// The limits on a key: its length in bytes, and its nesting.
const MOST_BYTES: usize = 1 << 16;
const MOST_LEVELS: usize = 100;

/// Returns the key of a value, itself a string.
pub fn key(value: &Value) -> Result<Value, Fail> {
    if let Value::Str(text) = value
        && !text.as_str().starts_with('$')
    {
        return match text.as_str().len() > MOST_BYTES {
            true => Err(too_long()),
            false => Ok(value.clone()),
        };
    }
    let mut out = "$".to_string();
    write(&mut out, value, 0)?;
    work::done(out.len());
    Ok(Value::str(out))
}

fn too_long() -> Fail {
    fail("limit", "a key of a set or a map has at most 65,536 bytes")
}

fn write(out: &mut String, value: &Value, depth: usize) -> Result<(), Fail> {
    if depth > MOST_LEVELS {
        return Err(fail("limit", "a key of a set or a map is nested at most 100 deep"));
    }
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(yes) => out.push_str(if yes.get() { "true" } else { "false" }),
        Value::Int(n) => out.push_str(&n.to_string()),
        Value::Float(x) if x.get().is_nan() => {
            return Err(type_error("a float that is not a number can't be a key: it is equal to nothing"));
        }
        // 1 and 1.0 are equal. Any other float differs from every int by its form.
        Value::Float(x) => match whole(x.get()) {
            Some(n) => out.push_str(&n.to_string()),
            None => out.push_str(&format!("{:?}", x.get())),
        },
        Value::Duration(nanos) => out.push_str(&format!("{nanos}ns")),
        Value::Instant(nanos) => out.push_str(&format!("@{nanos}")),
        Value::Str(text) => quote(out, text.as_str())?,
        Value::Bytes(blob) => {
            if blob.bytes.len() > MOST_BYTES {
                return Err(too_long());
            }
            out.push('x');
            out.push_str(&hex::encode(&blob.bytes));
        }
        Value::List(list) => {
            out.push('[');
            for (at, item) in list.as_slice().iter().enumerate() {
                out.push_str(if at > 0 { "," } else { "" });
                write(out, item, depth + 1)?;
            }
            out.push(']');
        }
        Value::Record(record) => {
            if record.len() > MOST_BYTES {
                return Err(too_long());
            }
            let mut fields: Vec<_> = record.iter().collect();
            fields.sort_by(|a, b| a.0.cmp(b.0));
            out.push('{');
            for (at, (name, value)) in fields.into_iter().enumerate() {
                out.push_str(if at > 0 { "," } else { "" });
                quote(out, name)?;
                out.push(':');
                write(out, value, depth + 1)?;
            }
            out.push('}');
        }
        Value::Entity(entity) if secret::is_of(entity) => return Err(secret::misused("key")),
        Value::Entity(entity) => {
            out.push_str(&entity.name);
            out.push('(');
            write(out, &entity.key, depth + 1)?;
            out.push(')');
        }
        other => {
            return Err(type_error(format!("a key of a set or a map is data, not {}", other.a_kind())));
        }
    }
    match out.len() > MOST_BYTES {
        true => Err(too_long()),
        false => Ok(()),
    }
}

fn quote(out: &mut String, text: &str) -> Result<(), Fail> {
    if text.len() > MOST_BYTES {
        return Err(too_long());
    }
    out.push('"');
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: &Value) -> String {
        match key(value) {
            Ok(Value::Str(text)) => text.as_str().to_string(),
            other => panic!("{other:?}"),
        }
    }

    /// Stored sets and maps depend on these texts.
    #[test]
    fn the_form_of_keys_stays() {
        let record = Value::record([("b", Value::Int(2)), ("a", Value::Null)]);
        for (value, expected) in [
            (Value::str("a b"), "a b"),
            (Value::str("$1"), "$\"$1\""),
            (Value::Int(1), "$1"),
            (Value::float(1.0), "$1"),
            (Value::float(-0.0), "$0"),
            (Value::float(1.5), "$1.5"),
            (Value::float(1e300), "$1e300"),
            (Value::float(f64::INFINITY), "$inf"),
            (Value::bool(true), "$true"),
            (Value::Duration(5), "$5ns"),
            (Value::Instant(-5), "$@-5"),
            (Value::bytes(vec![0, 255]), "$x00ff"),
            (Value::list(vec![Value::str("a\"\\"), Value::Int(2)]), r#"$["a\"\\",2]"#),
            (record, r#"${"a":null,"b":2}"#),
        ] {
            assert_eq!(of(&value), expected);
        }
    }

    #[test]
    fn what_grows_too_large_is_an_error() {
        let mut deep = Value::Int(1);
        for _ in 0..60 {
            deep = Value::list(vec![deep.clone(), deep]);
        }
        assert!(key(&deep).is_err());
        assert!(key(&Value::str("x".repeat(MOST_BYTES + 1))).is_err());
        assert!(key(&Value::bytes(vec![0; MOST_BYTES])).is_err());
        assert!(key(&Value::float(f64::NAN)).is_err());
    }
}
