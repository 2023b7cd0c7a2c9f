//! Natives for YAML 1.2, with its core schema.
//!
//! The parser of the crate gives events, and the values are built here. So an alias shares the
//! value of its anchor, and what all aliases stand for is counted.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use saphyr::{Mapping, Scalar, Yaml, YamlEmitter};
use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, Tag};

use super::super::error::{Fail, fail, fail_with, type_error};
use super::super::operate as op;
use super::super::value::{Record, Value, intern};
use super::super::{MAX_ITEMS, durations, format, secret, work};
use super::{Native, text};

/// The largest text that is read in one call.
const MOST: usize = 64 << 20;
/// The largest depth of what is read and written.
const MOST_LEVELS: usize = 250;
/// The work for each byte, in steps.
const HARD: usize = 16;

pub fn find(name: &str) -> Option<Native> {
    Some(match name {
        "yaml_parse" => |args| {
            let mut documents = documents(args)?;
            match documents.len() {
                0 => Ok(Value::Null),
                1 => Ok(documents.swap_remove(0)),
                count => Err(fail(
                    "parse_error",
                    format!("a YAML text of {count} documents; `yaml.parse_all` gives a list of them"),
                )),
            }
        },
        "yaml_parse_all" => |args| Ok(Value::list(documents(args)?)),
        "yaml_encode" => encode,
        _ => return None,
    })
}

/// Reads the documents of a text.
fn documents(args: &[Value]) -> Result<Vec<Value>, Fail> {
    let text = text(&args[0])?.as_str();
    if text.len() > MOST {
        return Err(fail("limit", "a YAML text of more than 64 MiB"));
    }
    op::reserve(text.len())?;
    work::done(text.len().saturating_mul(HARD));
    let mut reading = Reading::default();
    let mut parser = Parser::new_from_str(text);
    while let Some(next) = parser.next_event() {
        let (event, span) = next.map_err(|error| not_yaml(&error))?;
        reading.event(event, &span)?;
        op::reserve(0)?;
    }
    Ok(reading.documents)
}

fn not_yaml(error: &ScanError) -> Fail {
    at_line(error.marker().line(), error.info())
}

fn at_line(line: usize, reason: &str) -> Fail {
    let message = format!("not YAML: line {line}: {reason}");
    fail_with("parse_error", message, [("line", Value::Int(line as i64))])
}

/// A value that was read, with the number of values in it.
type Sized = (Value, usize);

/// A list or a record that is being read.
struct Open {
    anchor: usize,
    size: usize,
    parts: Parts,
}

enum Parts {
    List(Vec<Value>),
    /// The record, the names that were written and not merged, and the key that waits for its
    /// value.
    Record(Record, HashSet<Rc<str>>, Option<Key>),
}

enum Key {
    Named(Rc<str>),
    /// The key `<<`, whose value is merged into the record.
    Merge,
}

#[derive(Default)]
struct Reading {
    open: Vec<Open>,
    anchors: HashMap<usize, Sized>,
    documents: Vec<Value>,
}

impl Reading {
    fn event(&mut self, event: Event<'_>, span: &Span) -> Result<(), Fail> {
        let line = span.start.line();
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                if self.awaits_key() {
                    return self.key(text, style, line);
                }
                let value = scalar(text, style, tag.as_ref(), line)?;
                self.value((value, 1), anchor, line)
            }
            Event::Alias(anchor) => match self.anchors.get(&anchor).cloned() {
                Some(_) if self.awaits_key() => Err(at_line(line, "an alias can't be a key")),
                Some(known) => self.value(known, 0, line),
                None => Err(at_line(line, "an alias within the value that it stands for")),
            },
            Event::SequenceStart(anchor, _) => self.begin(anchor, Parts::List(Vec::new()), line),
            Event::MappingStart(anchor, _) => {
                self.begin(anchor, Parts::Record(Record::default(), HashSet::new(), None), line)
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(open) = self.open.pop() else { return Ok(()) };
                let value = match open.parts {
                    Parts::List(items) => Value::list(items),
                    Parts::Record(record, ..) => Value::Record(Rc::new(record)),
                };
                self.value((value, open.size), open.anchor, line)
            }
            _ => Ok(()),
        }
    }

    fn awaits_key(&self) -> bool {
        matches!(self.open.last(), Some(Open { parts: Parts::Record(_, _, None), .. }))
    }

    fn begin(&mut self, anchor: usize, parts: Parts, line: usize) -> Result<(), Fail> {
        if self.awaits_key() {
            return Err(at_line(line, "a key is text or a number, not a list or a record"));
        }
        if self.open.len() >= MOST_LEVELS {
            return Err(fail("limit", format!("a YAML text of more than {MOST_LEVELS} levels")));
        }
        self.open.push(Open { anchor, size: 1, parts });
        Ok(())
    }

    fn key(&mut self, text: Cow<'_, str>, style: ScalarStyle, line: usize) -> Result<(), Fail> {
        let Some(Open { parts: Parts::Record(_, written, key), .. }) = self.open.last_mut() else {
            return Ok(());
        };
        if text == "<<" && style == ScalarStyle::Plain {
            *key = Some(Key::Merge);
            return Ok(());
        }
        let name: Rc<str> = (&*text).into();
        if written.contains(&name) {
            return Err(at_line(line, &format!("the key `{name}` is there twice")));
        }
        *key = Some(Key::Named(name));
        Ok(())
    }

    /// Puts a value into its place.
    fn value(&mut self, (value, size): Sized, anchor: usize, line: usize) -> Result<(), Fail> {
        if anchor > 0 {
            self.anchors.insert(anchor, (value.clone(), size));
        }
        let Some(open) = self.open.last_mut() else {
            self.documents.push(value);
            return Ok(());
        };
        open.size = open.size.saturating_add(size);
        if open.size > MAX_ITEMS {
            return Err(fail("limit", "a YAML text that stands for more than 33,554,432 values"));
        }
        match &mut open.parts {
            Parts::List(items) => items.push(value),
            Parts::Record(record, written, key) => match key.take() {
                Some(Key::Named(name)) => {
                    record.set(intern(&name), value);
                    written.insert(name);
                }
                Some(Key::Merge) => merge(record, &value, line)?,
                None => return Err(at_line(line, "a value without a key")),
            },
        }
        Ok(())
    }
}

/// Adds the fields of a record, or of the records of a list, that are not there yet.
fn merge(record: &mut Record, value: &Value, line: usize) -> Result<(), Fail> {
    let wrong = || at_line(line, "`<<` is followed by a record, or a list of records");
    let mut add = |part: &Value| -> Result<(), Fail> {
        let Value::Record(part) = part else { return Err(wrong()) };
        for (name, value) in part.iter() {
            if record.get_str(name).is_none() {
                record.set(name.clone(), value.clone());
            }
        }
        Ok(())
    };
    match value {
        Value::List(parts) => parts.as_slice().iter().try_for_each(add),
        one => add(one),
    }
}

fn scalar(
    text: Cow<'_, str>,
    style: ScalarStyle,
    tag: Option<&Cow<'_, Tag>>,
    line: usize,
) -> Result<Value, Fail> {
    let is_of_the_schema = tag.is_some_and(|tag| tag.is_yaml_core_schema());
    if is_of_the_schema && tag.is_some_and(|tag| tag.suffix == "binary") {
        let digits: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        return BASE64.decode(digits).map(Value::bytes).map_err(|_| at_line(line, "not base64"));
    }
    let shown = tag.map_or_else(String::new, |tag| tag.suffix.clone());
    match Scalar::parse_from_cow_and_metadata(text, style, tag) {
        Some(Scalar::Null) => Ok(Value::Null),
        Some(Scalar::Boolean(flag)) => Ok(Value::bool(flag)),
        Some(Scalar::Integer(n)) => Ok(Value::Int(n)),
        Some(Scalar::FloatingPoint(x)) => Ok(Value::float(x.0)),
        Some(Scalar::String(text)) => Ok(Value::str(&*text)),
        None => Err(at_line(line, &format!("not a value of the type `!!{shown}`"))),
    }
}

fn encode(args: &mut [Value]) -> Result<Value, Fail> {
    let mut growing = op::Growing::default();
    let tree = tree(&args[0], 0, &mut growing)?;
    let mut out = String::new();
    let mut emitter = YamlEmitter::new(&mut out);
    emitter.multiline(true);
    emitter.dump(&tree).map_err(|error| type_error(format!("can't be written as YAML: {error}")))?;
    let text = out.strip_prefix("---\n").unwrap_or(&out);
    op::reserve_text(text.len())?;
    work::done(text.len().saturating_mul(HARD));
    let mut text = text.to_string();
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(Value::str(text))
}

/// Returns the tree that the crate writes. Shared parts are written once for each place, so their
/// size is counted, with the spaces before them.
fn tree<'a>(value: &'a Value, level: usize, growing: &mut op::Growing) -> Result<Yaml<'a>, Fail> {
    if level > MOST_LEVELS {
        return Err(fail("limit", format!("more than {MOST_LEVELS} levels can't be written as YAML")));
    }
    growing.text(size_of::<Yaml<'_>>() + 2 * level)?;
    let text = |text: String| Yaml::Value(Scalar::String(Cow::Owned(text)));
    Ok(match value {
        Value::Null => Yaml::Value(Scalar::Null),
        Value::Bool(flag) => Yaml::Value(Scalar::Boolean(flag.get())),
        Value::Int(n) => Yaml::Value(Scalar::Integer(*n)),
        Value::Float(x) => Yaml::Value(Scalar::FloatingPoint(x.get().into())),
        Value::Str(text) => {
            // Every line of a long text is indented.
            let lines = memchr::memchr_iter(b'\n', text.as_str().as_bytes()).count();
            growing.text(text.as_str().len() + lines * 2 * (level + 1))?;
            Yaml::Value(Scalar::String(Cow::Borrowed(text.as_str())))
        }
        Value::Duration(n) => text(durations::exact(*n)),
        Value::Instant(n) => text(format::instant(*n)),
        Value::Bytes(blob) => {
            growing.text(blob.bytes.len() / 3 * 4)?;
            text(BASE64.encode(&blob.bytes))
        }
        Value::List(list) => {
            let mut items = Vec::new();
            for item in list.as_slice() {
                items.push(tree(item, level + 1, growing)?);
            }
            Yaml::Sequence(items)
        }
        Value::Record(record) => {
            let mut mapping = Mapping::new();
            for (name, field) in record.iter() {
                growing.text(name.len())?;
                let key = Yaml::Value(Scalar::String(Cow::Borrowed(&**name)));
                mapping.insert(key, tree(field, level + 1, growing)?);
            }
            Yaml::Mapping(mapping)
        }
        Value::Entity(entity) if secret::is_of(entity) => {
            return Err(secret::misused("text that could be written as YAML"));
        }
        other => return Err(type_error(format!("{} can't be written as YAML", other.a_kind()))),
    })
}
