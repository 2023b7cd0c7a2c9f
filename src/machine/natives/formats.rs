//! Natives for JSON.

use super::super::error::Fail;
use super::super::json::{self, Style};
use super::super::json_text;
use super::super::operate as op;
use super::super::value::Value;
use super::super::work;
use super::{Native, options, text};

pub fn find(name: &str) -> Option<Native> {
    Some(match name {
        "json_parse" => |args| {
            let options::Json { big, tagged } = json_options(args.get(1))?;
            let text = text(&args[0])?.as_str();
            work::done(text.len());
            op::made(if tagged { json::parse_tagged(text, big)? } else { json_text::read(text, big)? })
        },
        "json_encode" => |args| {
            let tagged = args.get(1).map_or(Ok(false), options::json_encode)?;
            let text = match tagged {
                true => json::encode_tagged(&args[0]),
                false => json::encode(&args[0], Style::Plain, None),
            };
            text.and_then(written)
        },
        "json_pretty" => |args| json::encode(&args[0], Style::Plain, Some(2)).and_then(written),
        _ => return None,
    })
}

fn written(json: String) -> Result<Value, Fail> {
    work::done(json.len());
    op::reserve_text(json.len())?;
    Ok(Value::str(json))
}

fn json_options(options: Option<&Value>) -> Result<options::Json, Fail> {
    options.map_or(Ok(options::Json::default()), |options| options::json(options, "`json.parse`"))
}
