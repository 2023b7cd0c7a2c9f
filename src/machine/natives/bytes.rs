//! Natives for bytes.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha2::{Digest, Sha256};

use super::super::error::{fail, type_error};
use super::super::operate as op;
use super::super::value::{List, Value};
use super::super::work;
use super::{Native, blob, int, list, stretch, text};

pub fn find(name: &str) -> Option<Native> {
    Some(match name {
        "bytes_of" => |args| match &args[0] {
            Value::Str(text) => {
                op::reserve_text(text.as_str().len())?;
                Ok(Value::bytes(text.as_str().as_bytes().to_vec()))
            }
            Value::Bytes(_) => Ok(args[0].clone()),
            Value::List(items) => {
                let items: &List = items;
                let byte = |value: &Value| {
                    u8::try_from(int(value)?).map_err(|_| type_error("a byte is an int from 0 to 255"))
                };
                op::reserve_text(items.len())?;
                work::done(items.len());
                Ok(Value::bytes(items.as_slice().iter().map(byte).collect::<Result<_, _>>()?))
            }
            other => Err(super::wrong("a string or a list of ints", other)),
        },
        "bytes_text" => |args| {
            let bytes = blob(&args[0])?;
            op::reserve_text(bytes.bytes.len().saturating_mul(2))?;
            work::done(bytes.bytes.len());
            String::from_utf8(bytes.bytes.clone()).map(Value::str).map_err(|error| {
                fail(
                    "parse_error",
                    format!("these bytes are not UTF-8 (at {})", error.utf8_error().valid_up_to()),
                )
            })
        },
        "bytes_slice" => |args| {
            let bytes = blob(&args[0])?;
            let (from, to) = stretch(&args[1], &args[2], bytes.bytes.len())?;
            op::reserve_text(to - from)?;
            work::done(to - from);
            Ok(Value::bytes(bytes.bytes[from..to].to_vec()))
        },
        "bytes_hex" => |args| {
            let bytes = &blob(&args[0])?.bytes;
            op::reserve_text(bytes.len().saturating_mul(2))?;
            work::done(bytes.len());
            Ok(Value::str(hex::encode(bytes)))
        },
        "bytes_base64" => |args| {
            let bytes = &blob(&args[0])?.bytes;
            op::reserve_text(bytes.len().div_ceil(3).saturating_mul(4))?;
            work::done(bytes.len());
            Ok(Value::str(BASE64.encode(bytes)))
        },
        "bytes_from_hex" => |args| {
            let digits = text(&args[0])?.as_str();
            op::reserve_text(digits.len())?;
            work::done(digits.len());
            hex::decode(digits)
                .map(Value::bytes)
                .map_err(|_| fail("parse_error", "not hexadecimal digits in pairs"))
        },
        "bytes_from_base64" => |args| {
            op::reserve_text(text(&args[0])?.as_str().len())?;
            work::done(text(&args[0])?.as_str().len());
            BASE64
                .decode(text(&args[0])?.as_str())
                .map(Value::bytes)
                .map_err(|_| fail("parse_error", "not base64"))
        },
        "bytes_list" => |args| {
            let bytes = &blob(&args[0])?.bytes;
            op::reserve_items(bytes.len())?;
            work::done(bytes.len());
            Ok(Value::list(bytes.iter().map(|b| Value::Int(i64::from(*b))).collect()))
        },
        "bytes_sha256" => |args| {
            let bytes = &blob(&args[0])?.bytes;
            work::done(bytes.len().saturating_mul(4));
            Ok(Value::bytes(Sha256::digest(bytes).to_vec()))
        },
        "bytes_join" => |args| {
            let mut out = Vec::new();
            let mut growing = op::Growing::default();
            for item in list(&args[0])?.as_slice() {
                let bytes = &blob(item)?.bytes;
                growing.text(bytes.len())?;
                out.extend_from_slice(bytes);
            }
            Ok(Value::bytes(out))
        },
        _ => return None,
    })
}
