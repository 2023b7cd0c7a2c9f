//! The options of effects on files, programs and HTTP, and of CSV, read from records.

use super::super::MAX_TEXT;
use super::super::error::{Fail, type_error};
use super::super::format;
use super::super::value::{Record, Value};
use super::options::{duration, fields, flag, given, unfit};
use super::{int, list, text};
use crate::builtins::Effect;

/// Checks the arguments of an effect on files, on programs, or on HTTP.
pub fn check(effect: Effect, args: &[Value]) -> Result<(), Fail> {
    match effect {
        Effect::FsRead
        | Effect::FsExists
        | Effect::FsList
        | Effect::FsMakeDir
        | Effect::FsRemove
        | Effect::ExecStop => text(&args[0]).map(|_| ()),
        Effect::FsReadBytes => {
            text(&args[0])?;
            part(args.get(1).unwrap_or(&Value::Null), "`fs.read_bytes`").map(|_| ())
        }
        Effect::FsStat => {
            text(&args[0])?;
            stat(&args[1]).map(|_| ())
        }
        Effect::FsCopy | Effect::FsRename => {
            text(&args[0])?;
            text(&args[1]).map(|_| ())
        }
        Effect::FsWalk => {
            text(&args[0])?;
            walk(&args[1], "`fs.walk`").map(|_| ())
        }
        Effect::FsGlob => {
            text(&args[0])?;
            walk(&args[1], "`fs.glob`").map(|_| ())
        }
        Effect::FsLines => {
            text(&args[0])?;
            lines(&args[1], &args[2]).map(|_| ())
        }
        Effect::FsWrite | Effect::FsAppend => {
            text(&args[0])?;
            match &args[1] {
                Value::Str(_) | Value::Bytes(_) => Ok(()),
                other => Err(type_error(format!(
                    "a file holds a string or bytes, not {}; `json.encode` makes a string of any data",
                    other.a_kind()
                ))),
            }
        }
        Effect::Exec | Effect::ExecStart => {
            text(&args[0])?;
            for arg in list(&args[1])?.as_slice() {
                text(arg)?;
            }
            let what = if effect == Effect::Exec { "`exec`" } else { "`exec.each_line`" };
            exec(&args[2], what).map(|_| ())
        }
        Effect::ExecNext => {
            text(&args[0])?;
            text(&args[1])?;
            int(&args[2]).map(|_| ())
        }
        Effect::Http => {
            text(&args[0])?;
            text(&args[1])?;
            http(&args[3], &args[2], "`http`").map(|_| ())
        }
        Effect::HttpDownload => {
            text(&args[0])?;
            text(&args[1])?;
            http(&args[2], &Value::Null, "`http.download`").map(|_| ())
        }
        // The others take nothing.
        _ => Ok(()),
    }
}

/// The number of bytes of a piece of a file, when the program does not say. The store keeps more in
/// memory if the pieces are larger: an instance that reads 2 GB takes 53 MB with 16 KiB, and 76 MB
/// with 64 KiB.
pub const PIECE: u64 = 16 << 10;
/// The largest number of bytes of a piece of a file.
const MOST_PIECE: u64 = 64 << 20;

/// The options of reading and writing CSV.
pub struct Csv {
    /// Whether the first row has the names of the columns.
    pub header: bool,
    pub separator: u8,
    pub quote: u8,
    /// The first byte of lines that are left out.
    pub comment: Option<u8>,
    /// Whether white space around fields is removed.
    pub trim: bool,
    /// The columns to write, in order.
    pub columns: Option<Vec<String>>,
}

/// Reads the options of `csv.parse`, or those of `csv.encode` if `writes`.
pub fn csv(options: &Value, writes: bool) -> Result<Csv, Fail> {
    let mut csv =
        Csv { header: true, separator: b',', quote: b'"', comment: None, trim: false, columns: None };
    let (what, known): (&str, &[&str]) = match writes {
        true => ("`csv.encode`", &["header", "separator", "quote", "columns"]),
        false => ("`csv.parse`", &["header", "separator", "quote", "comment", "trim"]),
    };
    let Some(record) = fields(options, what, known)? else { return Ok(csv) };
    csv.header = flag(record, "header")?.unwrap_or(true);
    csv.trim = flag(record, "trim")?.unwrap_or(false);
    if let Some(value) = given(record, "separator") {
        csv.separator = character("separator", value)?;
    }
    if let Some(value) = given(record, "quote") {
        csv.quote = character("quote", value)?;
    }
    if let Some(value) = given(record, "comment") {
        csv.comment = Some(character("comment", value)?);
    }
    // A quote, a separator and the mark of a comment must differ.
    if csv.separator == csv.quote {
        let given = Value::str(char::from(csv.separator).to_string());
        return Err(unfit("separator", "no quote and no line break", &given));
    }
    if let Some(comment) = csv.comment.filter(|comment| [csv.separator, csv.quote].contains(comment)) {
        let given = Value::str(char::from(comment).to_string());
        return Err(unfit("comment", "neither the separator nor the quote", &given));
    }
    if let Some(value) = given(record, "columns") {
        csv.columns = Some(names("columns", value)?);
    }
    Ok(csv)
}

/// Reads an option that is one byte. Line ends have a meaning of their own.
fn character(name: &str, value: &Value) -> Result<u8, Fail> {
    match value {
        Value::Str(text) if matches!(text.as_str(), "\n" | "\r") => {
            Err(unfit(name, "no quote and no line break", value))
        }
        Value::Str(text) if text.as_str().len() == 1 => Ok(text.as_str().as_bytes()[0]),
        other => Err(unfit(name, "one ASCII character", other)),
    }
}

fn names(name: &str, value: &Value) -> Result<Vec<String>, Fail> {
    let Value::List(list) = value else { return Err(unfit(name, "a list of strings", value)) };
    let text = |item: &Value| match item {
        Value::Str(text) => Ok(text.as_str().to_string()),
        other => Err(unfit(name, "a list of strings", other)),
    };
    list.as_slice().iter().map(text).collect()
}

/// A part of a file: where it begins, and its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    pub from: u64,
    pub limit: Option<u64>,
}

/// Reads the options of a part of a file.
pub fn part(options: &Value, what: &str) -> Result<Part, Fail> {
    let mut part = Part { from: 0, limit: None };
    let Some(record) = fields(options, what, &["from", "limit"])? else { return Ok(part) };
    if let Some(from) = given(record, "from") {
        part.from = offset(from)?;
    }
    part.limit = match given(record, "limit") {
        None => None,
        Some(Value::Int(limit)) if (0..=MAX_TEXT as i64).contains(limit) => Some(*limit as u64),
        Some(other) => return Err(unfit("limit", "a number of bytes up to 268,435,456", other)),
    };
    Ok(part)
}

fn offset(value: &Value) -> Result<u64, Fail> {
    match value {
        Value::Int(from) if *from >= 0 => Ok(*from as u64),
        other => Err(unfit("from", "a number of bytes from 0 on", other)),
    }
}

/// Reads the place and the size of a piece of lines.
pub fn lines(from: &Value, limit: &Value) -> Result<(u64, u64), Fail> {
    let limit = match limit {
        Value::Null => PIECE,
        Value::Int(limit) if (1..=MOST_PIECE as i64).contains(limit) => *limit as u64,
        other => return Err(unfit("limit", "a number of bytes from 1 to 67,108,864", other)),
    };
    Ok((offset(from)?, limit))
}

/// Reads the options of `fs.stat`, and returns whether a link is followed.
pub fn stat(options: &Value) -> Result<bool, Fail> {
    let Some(record) = fields(options, "`fs.stat`", &["follow"])? else { return Ok(false) };
    Ok(flag(record, "follow")?.unwrap_or(false))
}

/// The options of visits of folders.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Walk {
    /// Whether folders are listed, and not only what is in them.
    pub directories: bool,
    /// Whether names that begin with a dot are listed.
    pub hidden: bool,
    /// The number of levels, of which the folder's own names are the first.
    pub depth: Option<usize>,
}

/// Reads the options of `fs.walk` or `fs.glob`.
pub fn walk(options: &Value, what: &str) -> Result<Walk, Fail> {
    let known: &[&str] = match what {
        "`fs.glob`" => &["hidden"],
        _ => &["directories", "hidden", "depth"],
    };
    let Some(record) = fields(options, what, known)? else { return Ok(Walk::default()) };
    let depth = match given(record, "depth") {
        None => None,
        Some(Value::Int(depth)) if *depth >= 1 => Some(usize::try_from(*depth).unwrap_or(usize::MAX)),
        Some(other) => return Err(unfit("depth", "an int from 1 on", other)),
    };
    Ok(Walk {
        directories: flag(record, "directories")?.unwrap_or(false),
        hidden: flag(record, "hidden")?.unwrap_or(false),
        depth,
    })
}

/// The options of `exec`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Exec {
    pub dir: Option<String>,
    /// The variables that are set, or unset if there is no value.
    pub env: Vec<(String, Option<String>)>,
    pub input: Vec<u8>,
    /// The file that is the standard input.
    pub input_file: Option<String>,
    /// The file that gets the standard output.
    pub output_file: Option<String>,
    pub timeout: Option<i64>,
}

/// Reads the options of `exec`, or of `exec.each_line`.
pub fn exec(options: &Value, what: &str) -> Result<Exec, Fail> {
    let mut out = Exec::default();
    let known: &[&str] = match what {
        "`exec.each_line`" => &["dir", "env", "input", "input_file", "timeout"],
        _ => &["dir", "env", "input", "input_file", "output_file", "timeout"],
    };
    let Some(record) = fields(options, what, known)? else { return Ok(out) };
    out.timeout = duration(record, "timeout")?;
    out.dir = string(record, "dir")?;
    out.input_file = string(record, "input_file")?;
    out.output_file = string(record, "output_file")?;
    if let Some(env) = given(record, "env") {
        let Value::Record(env) = env else {
            return Err(unfit("env", "a record of strings; null unsets a variable", env));
        };
        for (name, value) in env.iter() {
            let value = match value {
                Value::Null => None,
                Value::Str(text) => Some(text.as_str().to_string()),
                other => {
                    return Err(unfit("env", "a record of strings; null unsets a variable", other));
                }
            };
            if name.is_empty() || name.contains(['=', '\0']) {
                let name = Value::str(&**name);
                return Err(unfit("env", "a record whose names have no `=`", &name));
            }
            out.env.push((name.to_string(), value));
        }
    }
    match given(record, "input") {
        None => {}
        Some(_) if out.input_file.is_some() => {
            return Err(type_error("options `input` and `input_file` exclude each other"));
        }
        Some(Value::Bytes(blob)) => out.input = blob.bytes.clone(),
        Some(Value::Str(text)) => out.input = text.as_str().as_bytes().to_vec(),
        Some(other) => return Err(unfit("input", "a string or bytes", other)),
    }
    Ok(out)
}

fn string(record: &Record, name: &str) -> Result<Option<String>, Fail> {
    match given(record, name) {
        None => Ok(None),
        Some(Value::Str(text)) => Ok(Some(text.as_str().to_string())),
        Some(other) => Err(unfit(name, "a string", other)),
    }
}

/// The options of `http`.
#[derive(Clone, Debug, PartialEq)]
pub struct Http {
    pub headers: Vec<(String, String)>,
    pub timeout: i64,
    /// The limit on the size of the response's body, in bytes.
    pub max_size: u64,
    pub redirects: u32,
    pub query: Vec<(String, String)>,
    /// The fields of a form, which are the body.
    pub form: Option<Vec<(String, String)>>,
    /// The parts of a body of several parts.
    pub multipart: Option<Vec<FormPart>>,
    /// The longest time to wait as a `retry-after` asks, in nanoseconds.
    pub retry_after: i64,
}

/// A part of a body of several parts.
#[derive(Clone, Debug, PartialEq)]
pub struct FormPart {
    pub field: String,
    pub content: PartContent,
    /// The name of a file.
    pub name: Option<String>,
    /// The media type.
    pub kind: Option<String>,
}

/// The content of a part.
#[derive(Clone, Debug, PartialEq)]
pub enum PartContent {
    Bytes(Vec<u8>),
    /// The content of a file, by its path.
    File(String),
}

/// The default time limits: for a response, and for a download.
const RESPONSE: i64 = 30_000_000_000;
const DOWNLOAD: i64 = 3_600_000_000_000;

/// Reads the options of `http` or `http.download`. `body` is the body given beside the options.
pub fn http(options: &Value, body: &Value, what: &str) -> Result<Http, Fail> {
    let is_download = what == "`http.download`";
    let mut out = Http {
        headers: Vec::new(),
        timeout: if is_download { DOWNLOAD } else { RESPONSE },
        max_size: if is_download { u64::MAX } else { 64 << 20 },
        redirects: 10,
        query: Vec::new(),
        form: None,
        multipart: None,
        retry_after: 0,
    };
    let known: &[&str] = match is_download {
        true => &["headers", "timeout", "max_size", "redirects", "query", "retry_after"],
        false => {
            &["headers", "timeout", "max_size", "redirects", "query", "form", "multipart", "retry_after"]
        }
    };
    let Some(record) = fields(options, what, known)? else { return Ok(out) };
    out.timeout = duration(record, "timeout")?.unwrap_or(out.timeout);
    out.retry_after = duration(record, "retry_after")?.unwrap_or(0);
    out.headers = pairs(record, "headers")?.unwrap_or_default();
    out.query = pairs(record, "query")?.unwrap_or_default();
    out.form = pairs(record, "form")?;
    if let Some(given) = given(record, "multipart") {
        out.multipart = Some(parts(given)?);
    }
    let bodies = [!matches!(body, Value::Null), out.form.is_some(), out.multipart.is_some()];
    if bodies.iter().filter(|given| **given).count() > 1 {
        return Err(type_error(
            "a request has one body: an argument, or option `form`, or option `multipart`",
        ));
    }
    let most = if is_download { i64::MAX } else { MAX_TEXT as i64 };
    match given(record, "max_size") {
        None => {}
        Some(Value::Int(size)) if (1..=most).contains(size) => out.max_size = *size as u64,
        Some(other) if is_download => return Err(unfit("max_size", "a number of bytes from 1 on", other)),
        Some(other) => return Err(unfit("max_size", "a number of bytes from 1 to 268,435,456", other)),
    }
    match given(record, "redirects") {
        None => {}
        Some(Value::Int(redirects)) if (0..=100).contains(redirects) => out.redirects = *redirects as u32,
        Some(other) => return Err(unfit("redirects", "an int from 0 to 100", other)),
    }
    Ok(out)
}

/// Reads names with their values. A list is a value for each element, and null is no value.
fn pairs(record: &Record, name: &str) -> Result<Option<Vec<(String, String)>>, Fail> {
    match given(record, name) {
        None => Ok(None),
        Some(Value::Record(record)) => pairs_of(record).map(Some),
        Some(other) => Err(unfit(name, "a record", other)),
    }
}

/// Returns the names of a record with their values as text. A list is a value for each element, and
/// null is no value.
pub fn pairs_of(record: &Record) -> Result<Vec<(String, String)>, Fail> {
    let mut pairs = Vec::new();
    for (name, value) in record.iter() {
        match value {
            Value::Null => {}
            Value::List(list) => {
                for item in list.as_slice() {
                    pairs.push((name.to_string(), format::to_text(item)?));
                }
            }
            one => pairs.push((name.to_string(), format::to_text(one)?)),
        }
    }
    Ok(pairs)
}

fn parts(value: &Value) -> Result<Vec<FormPart>, Fail> {
    let Value::Record(record) = value else { return Err(unfit("multipart", "a record", value)) };
    let mut parts = Vec::new();
    for (field, value) in record.iter() {
        match value {
            Value::Null => {}
            Value::List(list) => {
                for item in list.as_slice() {
                    parts.push(form_part(field, item)?);
                }
            }
            one => parts.push(form_part(field, one)?),
        }
    }
    Ok(parts)
}

fn form_part(field: &str, value: &Value) -> Result<FormPart, Fail> {
    let plain = |bytes: Vec<u8>| FormPart {
        field: field.to_string(),
        content: PartContent::Bytes(bytes),
        name: None,
        kind: None,
    };
    let Value::Record(_) = value else {
        return match value {
            Value::Bytes(blob) => Ok(plain(blob.bytes.clone())),
            other => Ok(plain(format::to_text(other)?.into_bytes())),
        };
    };
    let known = &["file", "content", "name", "type"];
    let Some(record) = fields(value, "a part of `multipart`", known)? else { return Ok(plain(Vec::new())) };
    let (name, kind) = (string(record, "name")?, string(record, "type")?);
    let content = match (string(record, "file")?, given(record, "content")) {
        (Some(path), None) => PartContent::File(path),
        (None, Some(Value::Bytes(blob))) => PartContent::Bytes(blob.bytes.clone()),
        (None, Some(Value::Str(text))) => PartContent::Bytes(text.as_str().as_bytes().to_vec()),
        _ => {
            return Err(type_error(format!(
                "the part `{field}` has either a `file`, the path of one, or a `content`, a string or bytes"
            )));
        }
    };
    Ok(FormPart { field: field.to_string(), content, name, kind })
}
