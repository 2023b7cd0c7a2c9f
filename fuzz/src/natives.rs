//! Natives: JSON, CSV, regular expressions, instants, and every native of the table on values of
//! any kind.

use std::cmp::Ordering;

use durable::builtins::{self, Kind, TABLE};
use durable::machine::value::Value;
use durable::machine::{Data, compare, format, hashing, natives};
use durable::syntax::lexer::parse_duration;

use super::bytes::Bytes;

/// Calls the natives that the first byte selects.
pub fn run(bytes: &[u8]) {
    let mut bytes = Bytes(bytes);
    match bytes.byte() % 10 {
        0 => json_text(&mut bytes),
        1 => json_value(&mut bytes),
        2 => csv_text(&mut bytes),
        3 => csv_rows(&mut bytes),
        4 => regex(&mut bytes),
        5 => instants(&mut bytes),
        6 => numbers(&mut bytes),
        7 => ordered(&mut bytes),
        _ => any(&mut bytes),
    }
}

/// Calls a native by its name. An error is returned as its message.
fn call(name: &str, args: impl Into<Vec<Value>>) -> Result<Value, String> {
    let native = builtins::find(name).expect("a builtin");
    let mut args = args.into();
    let taking = natives::table()[usize::from(native.0)].taking(args.len());
    taking.expect("a native of so many arguments")(&mut args).map_err(|fail| format::display(&fail.value))
}

fn str_of(value: &Value) -> &str {
    match value {
        Value::Str(text) => text.as_str(),
        other => panic!("{} is no string", format::brief(other)),
    }
}

fn items(value: &Value) -> &[Value] {
    match value {
        Value::List(list) => list.as_slice(),
        other => panic!("{} is no list", format::brief(other)),
    }
}

/// Returns whether two values are equal and of the same kinds.
fn same(a: &Value, b: &Value) -> bool {
    Data::encode(a).ok() == Data::encode(b).ok()
}

/// Checks that the JSON reader accepts exactly the texts that another reader accepts, and that
/// parsed values survive a round trip.
fn json_text(bytes: &mut Bytes<'_>) {
    let text = bytes.rest();
    let ours = call("json_parse", [Value::str(&*text)]);
    match (&ours, serde_json::from_str::<serde_json::Value>(&text)) {
        (Ok(_), Ok(_)) | (Err(_), Err(_)) => {}
        (Ok(_), Err(error)) => {
            let why = error.to_string();
            assert!(why.contains("recursion limit"), "{why}");
        }
        // Numbers have limits of their own.
        (Err(why), Ok(_)) => assert!(why.contains("64 bits") || why.contains("float"), "{why}"),
    }
    let Ok(value) = ours else { return };
    for writer in ["json_encode", "json_pretty"] {
        let Ok(written) = call(writer, [value.clone()]) else { continue };
        let again = call("json_parse", [written.clone()]).expect("what was written is JSON");
        assert!(same(&again, &value), "{} is another than {}", format::brief(&again), format::brief(&value));
        assert!(same(&call(writer, [again]).expect("it was written before"), &written));
    }
}

/// Checks that written JSON is valid for other readers, and that both layouts mean the same.
fn json_value(bytes: &mut Bytes<'_>) {
    let value = bytes.value(4);
    let Ok(plain) = call("json_encode", [value.clone()]) else { return };
    let pretty = call("json_pretty", [value]).expect("what is written is written in lines too");
    for written in [&plain, &pretty] {
        let read = serde_json::from_str::<serde_json::Value>(str_of(written));
        assert!(read.is_ok(), "{} is no JSON: {read:?}", str_of(written));
        let again = call("json_parse", [written.clone()]).expect("what was written is JSON");
        assert!(same(&call("json_encode", [again]).expect("JSON is written"), &plain));
    }
}

fn csv_options(bytes: &mut Bytes<'_>) -> Value {
    let how = bytes.byte();
    let separator = [",", ";", "\t", "|", "\"", "\n", "é", ""][usize::from(how >> 1) % 8];
    Value::record([("header", Value::bool(how & 1 == 1)), ("separator", Value::str(separator))])
}

/// Checks that parsed rows survive a round trip.
fn csv_text(bytes: &mut Bytes<'_>) {
    let options = csv_options(bytes);
    let Ok(rows) = call("csv_parse", [Value::str(bytes.rest()), options.clone()]) else { return };
    let Ok(written) = call("csv_encode", [rows.clone(), options.clone()]) else { return };
    let again = call("csv_parse", [written.clone(), options]).expect("what was written is CSV");
    assert!(same(&again, &rows), "{} is another than {}", format::brief(&again), format::brief(&rows));
}

/// Checks that rows of strings survive a round trip.
fn csv_rows(bytes: &mut Bytes<'_>) {
    let options = csv_options(bytes);
    let (rows, columns) = (bytes.byte() % 8, 1 + bytes.byte() % 4);
    let mut row = |_| Value::list((0..columns).map(|_| Value::str(bytes.text())).collect());
    let rows = Value::list((0..rows).map(&mut row).collect());
    let plain = match &options {
        Value::Record(options) => Value::record([
            ("header", Value::bool(false)),
            ("separator", options.get_str("separator").cloned().unwrap_or(Value::Null)),
        ]),
        _ => return,
    };
    let Ok(written) = call("csv_encode", [rows.clone(), plain.clone()]) else { return };
    let again = call("csv_parse", [written, plain]).expect("what was written is CSV");
    assert!(same(&again, &rows), "{} is another than {}", format::brief(&again), format::brief(&rows));
    // Any other input gives a value or an error.
    let _ = call("csv_encode", [bytes.value(4), options.clone()]);
    let _ = call("csv_parse", [bytes.value(1), bytes.value(2)]);
}

/// Collects all parts from a native that works step by step. Each step returns a part and the
/// position of the next step.
fn steps(name: &str, text: &Value, pattern: &Value, more: &[Value]) -> Result<Vec<Value>, String> {
    let (mut parts, mut at, mut from) = (Vec::new(), Value::Null, Value::Int(0));
    for _ in 0..1_000 {
        let mut args = vec![text.clone(), pattern.clone(), at];
        args.extend(more.iter().cloned());
        if name != "regex_find_some" {
            args.push(from);
        }
        let step = call(name, args)?;
        let [part, next, rest @ ..] = items(&step) else { panic!("a step gives two parts") };
        parts.push(part.clone());
        if matches!(next, Value::Null) {
            return Ok(parts);
        }
        (at, from) = (next.clone(), rest.first().cloned().unwrap_or(Value::Int(0)));
    }
    panic!("the steps have no end");
}

/// Checks that matches and the parts between them make up the text, and that positions count
/// characters.
fn regex(bytes: &mut Bytes<'_>) {
    let (pattern, with) = (Value::str(bytes.text()), Value::str(bytes.text()));
    let text = Value::str(bytes.rest());
    let whole = str_of(&text).to_string();
    let matches = call("regex_matches", [text.clone(), pattern.clone()]);
    let Ok(matches) = matches else { return };
    let found = call("regex_find", [text.clone(), pattern.clone()]).expect("the pattern is one");
    assert_eq!(!matches!(found, Value::Null), matches!(matches, Value::Bool(is) if is.get()));
    let all = steps("regex_find_some", &text, &pattern, &[]).expect("the pattern is one");
    let all: Vec<Value> = all.iter().flat_map(|part| items(part).to_vec()).collect();
    assert!(same(all.first().unwrap_or(&Value::Null), &found), "the first match is another");
    let characters: Vec<char> = whole.chars().collect();
    let mut texts = Vec::new();
    let mut end_before = 0;
    for found in &all {
        let Value::Record(found) = found else { panic!("a match is a record") };
        let field = |name: &str| found.get_str(name).cloned().expect("a match has it");
        let (Value::Int(start), Value::Int(end)) = (field("start"), field("end")) else { panic!("places") };
        let (start, end) = (start as usize, end as usize);
        assert!(end_before <= start && start <= end);
        end_before = end;
        texts.push(str_of(&field("text")).to_string());
        assert_eq!(characters[start..end].iter().collect::<String>(), texts[texts.len() - 1]);
    }
    let parts = steps("regex_split_some", &text, &pattern, &[]).expect("the pattern is one");
    let parts: Vec<Value> = parts.iter().flat_map(|part| items(part).to_vec()).collect();
    assert_eq!(parts.len(), texts.len() + 1, "between the matches");
    let mut joined = String::new();
    for (number, part) in parts.iter().enumerate() {
        joined.push_str(str_of(part));
        joined.push_str(texts.get(number).map_or("", |text| text));
    }
    assert_eq!(joined, whole, "matches and what is between them");
    let replaced = steps("regex_replace_some", &text, &pattern, &[Value::str("$0")]);
    let replaced = replaced.expect("the pattern is one");
    assert_eq!(replaced.iter().map(str_of).collect::<String>(), whole, "each match by itself");
    let _ = steps("regex_replace_some", &text, &pattern, &[with]);
}

/// Checks that instants survive a round trip through their texts and their parts.
fn instants(bytes: &mut Bytes<'_>) {
    let (instant, offset) = (Value::Instant(bytes.int()), Value::Duration(bytes.int()));
    let shown = call("to_string", [instant.clone()]).expect("instants have a text");
    let again = call("time_parse", [shown.clone()]);
    assert!(again.is_ok_and(|again| same(&again, &instant)), "{} is another instant", str_of(&shown));
    if let Ok(parts) = call("time_parts", [instant.clone(), offset.clone()]) {
        let again = call("time_from_parts", [parts, offset.clone()]).expect("parts of an instant");
        assert!(same(&again, &instant), "{} is another than {}", format::brief(&again), str_of(&shown));
    }
    let fields = bytes.value(2);
    if let Ok(made) = call("time_from_parts", [fields, offset.clone()]) {
        assert!(matches!(made, Value::Instant(_)));
    }
    let text = Value::str(bytes.rest());
    let _ = call("time_format", [instant, text.clone(), offset]);
    if let Ok(read) = call("time_parse", [text]) {
        let shown = call("to_string", [read.clone()]).expect("instants have a text");
        assert!(call("time_parse", [shown]).is_ok_and(|again| same(&again, &read)));
    }
}

/// Checks that numbers, durations and encoded bytes survive a round trip.
fn numbers(bytes: &mut Bytes<'_>) {
    let int = Value::Int(bytes.int());
    let shown = call("to_string", [int.clone()]).expect("an int has a text");
    assert!(call("string_to_int", [shown]).is_ok_and(|again| same(&again, &int)));
    let float = Value::float(f64::from_le_bytes(bytes.eight()));
    if matches!(float, Value::Float(x) if x.get().is_finite()) {
        let shown = call("to_string", [float.clone()]).expect("a float has a text");
        let again = call("string_to_float", [shown.clone()]);
        assert!(again.is_ok_and(|again| same(&again, &float)), "{}", str_of(&shown));
    }
    let nanos = bytes.int();
    if nanos >= 0 {
        let shown = format::duration(nanos);
        let parts = shown.split(' ').map(parse_duration).collect::<Option<Vec<i64>>>();
        assert_eq!(parts.map(|parts| parts.iter().sum()), Some(nanos), "{shown}");
    }
    let text = Value::str(bytes.rest());
    for (name, reader) in [("int", "string_to_int"), ("float", "string_to_float")] {
        if let Ok(read) = call(reader, [text.clone()])
            && !matches!(read, Value::Null)
        {
            assert_eq!(read.kind(), name);
        }
    }
    for (writer, reader) in [("bytes_hex", "bytes_from_hex"), ("bytes_base64", "bytes_from_base64")] {
        let blob = call("bytes_of", [text.clone()]).expect("a text has bytes");
        let written = call(writer, [blob.clone()]).expect("bytes are written");
        assert!(call(reader, [written]).is_ok_and(|again| same(&again, &blob)));
        if let Ok(read) = call(reader, [text.clone()]) {
            let written = call(writer, [read.clone()]).expect("bytes are written");
            assert!(call(reader, [written]).is_ok_and(|again| same(&again, &read)));
        }
    }
}

/// Checks that equality and order agree, and that equal values have equal hashes.
fn ordered(bytes: &mut Bytes<'_>) {
    let values = [bytes.value(3), bytes.value(3), bytes.value(3)];
    for a in &values {
        for b in &values {
            let equal = compare::equal(a, b).expect("data is compared");
            assert_eq!(equal, compare::equal(b, a).expect("data is compared"));
            if equal {
                assert_eq!(hashing::hash(a), hashing::hash(b), "{a:?} and {b:?} are equal");
            }
            let (Ok(one), Ok(other)) = (compare::order(a, b), compare::order(b, a)) else { continue };
            assert_eq!(one, other.reverse());
            for c in &values {
                let (Ok(next), Ok(both)) = (compare::order(b, c), compare::order(a, c)) else { continue };
                if one == next && one != Ordering::Equal {
                    assert_eq!(both, one, "{a:?}, {b:?}, {c:?}");
                }
            }
        }
    }
    let list = Value::list(values.to_vec());
    if let Ok(sorted) = call("list_sort", [list]) {
        for pair in items(&sorted).windows(2) {
            assert!(compare::order(&pair[0], &pair[1]).is_ok_and(Ordering::is_le));
        }
    }
}

/// Checks that a native returns a value or an error for any data, and the same the second time.
fn any(bytes: &mut Bytes<'_>) {
    let at = usize::from(bytes.byte()) % TABLE.len();
    let builtin = &TABLE[at];
    if builtin.kind != Kind::Native {
        return;
    }
    let least = usize::from(builtin.min);
    let count = least + usize::from(bytes.byte()) % (usize::from(builtin.max) - least + 1).min(4);
    let mut args: Vec<Value> = (0..count).map(|_| bytes.value(3)).collect();
    // The position of a step comes from the step before, never from a program.
    if builtin.name.ends_with("_some") {
        args[2] = Value::Null;
        if let Some(from) = args.len().checked_sub(1).filter(|from| *from > 2) {
            args[from] = Value::Int(0);
        }
    }
    let outcome = |result: Result<Value, String>| result.map(|value| format::write(&value, 1 << 16).0);
    let first = outcome(call(builtin.name, args.clone()));
    assert_eq!(first, outcome(call(builtin.name, args)), "{} gives something else now", builtin.name);
}
