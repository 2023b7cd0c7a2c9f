//! Natives for URLs and the headers of HTTP.

use std::collections::HashMap;

use jiff::fmt::rfc2822::DateTimeParser;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use url::Url;
use url::form_urlencoded::Serializer;

use super::super::error::{Fail, fail, fail_with};
use super::super::operate as op;
use super::super::value::{Record, Value, intern};
use super::super::work;
use super::{Native, io_options, record, text};

/// The characters that are written as they are: those that RFC 3986 calls unreserved.
const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

pub fn find(name: &str) -> Option<Native> {
    Some(match name {
        "url_encode" => |args| {
            let text = text(&args[0])?.as_str();
            op::reserve_text(text.len().saturating_mul(3))?;
            work::done(text.len());
            Ok(Value::str(utf8_percent_encode(text, COMPONENT).to_string()))
        },
        "url_decode" => |args| {
            let text = text(&args[0])?.as_str();
            op::reserve_text(text.len())?;
            work::done(text.len());
            let decoded = percent_decode_str(text).decode_utf8();
            let decoded = decoded.map_err(|_| fail("parse_error", "what is encoded is not UTF-8 text"))?;
            Ok(Value::str(&*decoded))
        },
        "url_query" => |args| {
            let pairs = io_options::pairs_of(record(&args[0])?)?;
            let size: usize = pairs.iter().map(|(name, value)| name.len() + value.len() + 2).sum();
            op::reserve_text(size.saturating_mul(3))?;
            work::done(size);
            Ok(Value::str(Serializer::new(String::new()).extend_pairs(pairs).finish()))
        },
        "url_parse" => parse,
        "http_retry_after" => retry_after,
        _ => return None,
    })
}

fn parse(args: &mut [Value]) -> Result<Value, Fail> {
    let written = text(&args[0])?.as_str();
    op::reserve(written.len().saturating_mul(32))?;
    work::done(written.len());
    let url = Url::parse(written).map_err(|error| {
        let reason = match error {
            url::ParseError::RelativeUrlWithoutBase => "it has no scheme, like https://".to_string(),
            other => other.to_string(),
        };
        fail_with("parse_error", format!("not a URL: {reason}"), [("url", args[0].clone())])
    })?;
    let or_null = |text: Option<&str>| text.map_or(Value::Null, Value::str);
    // The values of each name, in the order of the names.
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut found: Vec<(String, Vec<Value>)> = Vec::new();
    let mut growing = op::Growing::default();
    for (name, value) in url.query_pairs() {
        growing.item()?;
        let at = *places.entry(name.to_string()).or_insert(found.len());
        if at == found.len() {
            found.push((name.into_owned(), Vec::new()));
        }
        found[at].1.push(Value::str(&*value));
    }
    let mut query = Record::default();
    for (name, mut values) in found {
        let value = if values.len() == 1 { values.swap_remove(0) } else { Value::list(values) };
        query.set(intern(&name), value);
    }
    let user = Some(url.username()).filter(|user| !user.is_empty());
    op::made(Value::record([
        ("scheme", Value::str(url.scheme())),
        ("user", or_null(user)),
        ("password", or_null(url.password())),
        ("host", or_null(url.host_str())),
        ("port", url.port_or_known_default().map_or(Value::Null, |port| Value::Int(i64::from(port)))),
        ("path", Value::str(url.path())),
        ("query", Value::Record(query.into())),
        ("fragment", or_null(url.fragment())),
    ]))
}

/// Returns how long a response asks to wait, given its headers `retry-after` and `date`: seconds,
/// or the time until a date. Returns null for anything else.
fn retry_after(args: &mut [Value]) -> Result<Value, Fail> {
    let (Value::Str(after), date) = (&args[0], &args[1]) else { return Ok(Value::Null) };
    let date = match date {
        Value::Str(date) => Some(date.as_str()),
        _ => None,
    };
    Ok(wait(after.as_str(), date).map_or(Value::Null, Value::Duration))
}

/// Returns the nanoseconds that a `retry-after` asks for. A date counts from the `date` of the same
/// response, since clocks differ.
pub fn wait(after: &str, date: Option<&str>) -> Option<i64> {
    const SECOND: i64 = 1_000_000_000;
    if let Ok(seconds) = after.trim().parse::<u32>() {
        return i64::from(seconds).checked_mul(SECOND);
    }
    let time = |text: &str| DateTimeParser::new().parse_timestamp(text.trim()).ok();
    let seconds = time(after)?.as_second().checked_sub(time(date?)?.as_second())?;
    seconds.max(0).checked_mul(SECOND)
}

#[cfg(test)]
mod tests {
    use super::wait;

    #[test]
    fn waits_are_seconds_or_dates() {
        assert_eq!(wait("120", None), Some(120_000_000_000));
        let date = "Wed, 21 Oct 2015 07:28:00 GMT";
        assert_eq!(wait("Wed, 21 Oct 2015 07:29:00 GMT", Some(date)), Some(60_000_000_000));
        assert_eq!(wait(date, Some("Wed, 21 Oct 2015 07:29:00 GMT")), Some(0));
        assert_eq!(wait("soon", Some(date)), None);
        assert_eq!(wait(date, None), None);
        assert_eq!(wait("-1", None), None);
    }
}
