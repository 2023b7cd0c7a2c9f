//! Memory that natives request: each request fails once.
//!
//! The program gets an error that it can catch, and goes on. The memory account is the same as
//! before. A granted request stays within the limit.

mod common;

use std::rc::Rc;

use common::image;
use durable::builtins::{Context, Kind, TABLE};
use durable::machine::value::{Charge, memory_used};
use durable::machine::{Data, Identity, Image, MAX_MEMORY, Machine, Progress, Value};

/// Natives whose results grow with their arguments: name, argument, and call.
const CASES: &[(&str, &str, &str)] = &[
    ("to_string", NUMBERS, "to_string(a)"),
    ("range", "60000", "range(0, a)"),
    ("list_sort", NUMBERS, "a.sort()"),
    ("list_sort", WORDS, "a.sort()"),
    ("list_sort", WORDS, "a.sort({descending: true})"),
    ("list_sort_by", NUMBERS, "a.sort_by(fn n => -n)"),
    ("list_sort_by", NUMBERS, "a.sort_by(fn n => -n, {descending: true})"),
    ("list_group", NUMBERS, "a.group_by(fn n => n % 1000)"),
    ("list_group", NUMBERS, "a.group_by(fn n => 1)"),
    ("list_reverse", NUMBERS, "a.reverse()"),
    ("list_unique", NUMBERS, "a.unique()"),
    ("list_join", NUMBERS, r#"a.join(", ")"#),
    ("list_join", WORDS, "a.join()"),
    ("list_flatten", "range(0, 5000).map(fn n => range(0, 10))", "a.flatten()"),
    ("list_insert", NUMBERS, "a.insert(1, 2)"),
    ("list_remove", NUMBERS, "a.remove(1)"),
    ("list_chunk", NUMBERS, "a.chunk(1)"),
    ("string_split", TEXT, r#"a.split("b")"#),
    ("string_split", TEXT, r#"a.split("")"#),
    ("string_trim", r#"" " + "ab".repeat(200000)"#, "a.trim()"),
    ("string_replace", TEXT, r#"a.replace("a", "abc")"#),
    ("string_upper", TEXT, "a.upper()"),
    ("string_lower", TEXT, "a.lower()"),
    ("string_slice", TEXT, "a.slice(1, 150000)"),
    ("string_chars", TEXT, "a.chars()"),
    ("string_lines", r#""abc\n".repeat(50000)"#, "a.lines()"),
    ("string_repeat", TEXT, "a.repeat(5)"),
    ("string_bytes", TEXT, "string.bytes(a)"),
    ("string_padding", "300000", r#""a".pad_left(a, "xy")"#),
    ("string_format", "100000", r#"string.format("aab".repeat(a), "<9")"#),
    ("record_keys", RECORD, "a.keys()"),
    ("record_values", RECORD, "a.values()"),
    ("record_set", RECORD, r#"a.set("new", 1)"#),
    ("record_remove", RECORD, r#"a.remove("k1")"#),
    ("record_merge", RECORD, "a.merge({more: 1})"),
    ("record_from_entries", r#"range(0, 20000).map(fn n => ["k{n}", n])"#, "record.from_entries(a)"),
    ("json_parse", "json.encode(range(0, 50000))", "json.parse(a)"),
    ("json_parse", r#"json.encode("ab".repeat(100000))"#, "json.parse(a)"),
    ("json_encode", NUMBERS, "json.encode(a)"),
    ("json_encode", TEXT, "json.encode(a)"),
    ("json_encode", NUMBERS, "json.encode(a, {tagged: true})"),
    ("json_pretty", NUMBERS, "json.pretty(a)"),
    ("csv_parse", r#""1,2,3\n".repeat(20000)"#, "csv.parse(a, {header: false})"),
    ("csv_encode", r#"range(0, 20000).map(fn n => ["one", n])"#, "csv.encode(a)"),
    ("toml_parse", r#"range(0, 20000).map(fn n => "k{n} = {n}").join("\n")"#, "toml.parse(a)"),
    ("toml_encode", RECORD, "toml.encode(a)"),
    ("yaml_parse", r#""- ab\n".repeat(30000)"#, "yaml.parse(a)"),
    ("yaml_parse_all", r#""--- [ab, c]\n".repeat(5000)"#, "yaml.parse_all(a)"),
    ("yaml_encode", NUMBERS, "yaml.encode(a)"),
    ("gzip_compress", "range(0, 60000).map(fn n => n * n * 7919 % 65521).join()", "gzip.compress(a)"),
    ("gzip_decompress", r#"gzip.compress("ab".repeat(300000))"#, "gzip.decompress(a)"),
    ("url_encode", TEXT, "url.encode(a)"),
    ("url_decode", r#""%C3%A9".repeat(60000)"#, "url.decode(a)"),
    ("url_query", RECORD, "url.query(a)"),
    ("url_parse", r#""http://a/?" + range(0, 5000).map(fn n => "k{n}={n}").join("&")"#, "url.parse(a)"),
    ("regex_find_some", TEXT, r#"regex.find_all(a, "b")"#),
    ("regex_replace_some", TEXT, r#"regex.replace(a, "b", "xyz")"#),
    ("regex_split_some", TEXT, r#"regex.split(a, "b")"#),
    ("bytes_of", TEXT, "bytes.of(a)"),
    ("bytes_of", "range(0, 100000).map(fn n => n % 256)", "bytes.of(a)"),
    ("bytes_text", BYTES, "bytes.text(a)"),
    ("bytes_slice", BYTES, "bytes.slice(a, 1, 200000)"),
    ("bytes_hex", BYTES, "bytes.hex(a)"),
    ("bytes_base64", BYTES, "bytes.base64(a)"),
    ("bytes_from_hex", r#""ab".repeat(200000)"#, "bytes.from_hex(a)"),
    ("bytes_from_base64", r#""abcd".repeat(100000)"#, "bytes.from_base64(a)"),
    ("bytes_list", BYTES, "bytes.list(a)"),
    ("base64_encode", BYTES, "base64.encode(a)"),
    ("base64_decode", r#""abcd".repeat(100000)"#, "base64.decode(a)"),
    ("bytes_join", r#"range(0, 2000).map(fn n => bytes.of("x".repeat(200)))"#, "bytes.join(a)"),
];

const NUMBERS: &str = "range(0, 50000).map(fn n => 50000 - n)";
const WORDS: &str = r#"range(0, 20000).map(fn n => "word number {20000 - n}")"#;
const TEXT: &str = r#""aab".repeat(60000)"#;
const BYTES: &str = r#"bytes.of("ab".repeat(150000))"#;
const RECORD: &str = r#"record.from_entries(range(0, 20000).map(fn n => ["k{n}", n]))"#;

/// Natives that create nothing large, or share their arguments.
const SMALL: &[&str] = &[
    "kind_of",
    "len",
    "min",
    "max",
    "div",
    "compare",
    "sql_connect",
    "retry_policy",
    "retry_again",
    "retry_pause",
    "par_map_limit",
    "check_limit",
    "check_options",
    "closest",
    "http_retry_after",
    "list_get",
    "list_slice",
    "list_take",
    "list_drop",
    "list_contains",
    "list_index_of",
    "list_sum",
    "string_starts_with",
    "string_ends_with",
    "string_contains",
    "string_index_of",
    "string_to_int",
    "string_to_float",
    "record_get",
    "record_has",
    "math_abs",
    "math_floor",
    "math_ceil",
    "math_round",
    "math_sqrt",
    "math_pow",
    "math_log",
    "math_exp",
    "math_sin",
    "math_cos",
    "math_tan",
    "to_float",
    "math_round_to",
    "regex_matches",
    "regex_find",
    "time_parse",
    "time_format",
    "time_parts",
    "time_from_parts",
    "instant_from_nanos",
    "instant_nanos",
    "duration_from_nanos",
    "duration_nanos",
    "time_offset",
    "time_shift",
    "time_start",
    "time_parse_duration",
    "cron_parse",
    "cron_next",
    "bytes_sha256",
    "hash",
    "hmac",
    "uuid_v7",
    "char_code",
    "char_of",
    "key",
    "bits_and",
    "bits_or",
    "bits_xor",
    "bits_not",
    "bits_count",
    "bits_shift_left",
    "bits_shift_right",
    // Takes a list as `list_reverse` does, after an effect that these programs can't wait for.
    "list_shuffled",
    // Natives of the prompt and of messages, which show a part of their arguments.
    "show",
    "fail",
    "assert_compared",
    "optional_index",
    "repl_text",
    "repl_kinds",
    "repl_failure",
    // Natives that check options, and those that count the times of a schedule.
    "receive_limit",
    "all_waits",
    "schedule_next",
    "schedule_due",
    // Natives of earlier libraries, with the same code as those above.
    "list_room",
    "regex_find_all",
    "regex_replace",
    "regex_split",
];

/// The bytes that a native may take without a request.
const UNASKED: usize = 3 << 16;

#[test]
fn each_native_is_here() {
    for builtin in TABLE.iter().filter(|builtin| builtin.kind == Kind::Native) {
        let is_tried = CASES.iter().any(|(name, ..)| *name == builtin.name);
        assert!(is_tried != SMALL.contains(&builtin.name), "`{}` is in one of the two lists", builtin.name);
    }
}

fn machine(image: &Rc<Image>, name: &str, args: Vec<Value>) -> Machine {
    let at = image.code.find_isolated(name).expect("an orchestration");
    let function = image.code.isolated[at].body;
    Machine::new(image.clone(), Context::Orchestration, function, args, Identity::default())
}

/// Runs a machine as long as it can run. Returns its end, or `None` if it waits.
fn run(machine: &mut Machine) -> Option<String> {
    loop {
        match machine.run(1_000_000) {
            Progress::OutOfFuel => {}
            Progress::Waiting => return None,
            Progress::Done(Ok(value)) => return Some(durable::machine::format::display(&value.decode())),
            Progress::Done(Err(error)) => return Some(error.title()),
        }
    }
}

#[test]
fn each_request_for_memory_is_refused_once() {
    let (mut refused, mut failures) = (0, Vec::new());
    for (native, made_of, call) in CASES {
        match refusals(made_of, call) {
            Ok(count) => refused += count,
            Err(reason) => failures.push(format!("{native}, `{call}`: {reason}")),
        }
    }
    println!("{} calls, refused {refused} times", CASES.len());
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
    assert!(refused > 3 * CASES.len(), "only {refused} refusals");
}

/// Calls a native with more and more memory left, until it is no longer refused. Returns the number
/// of refusals.
fn refusals(made_of: &str, call: &str) -> Result<usize, String> {
    let image = image(&format!(
        r#"
orchestration make() => {made_of}
orchestration works(a) {{
  var made = null
  let said = try {{ made = {call}; "done" }} catch {{kind: "limit", message}} {{ message }}
  receive("look")
  [said, made == null, range(0, 100).map(fn n => n + 1).len()]
}}
"#
    ));
    let mut maker = machine(&image, "make", Vec::new());
    let Progress::Done(Ok(made)) = maker.run(u64::MAX) else {
        return Err("its argument can't be made".into());
    };
    drop(maker);
    let arg = made.decode();
    // The first call fills the caches of names and patterns.
    let first = attempt(&image, &arg, MAX_MEMORY)?;
    if !first.ends_with("false, 100]") {
        return Err(format!("with all memory it comes to {first}"));
    }
    let before = memory_used();
    let (mut room, mut refused, mut done) = (UNASKED, 0, 0);
    while done < 3 {
        let outcome = attempt(&image, &arg, room)?;
        let is_refused = outcome.ends_with("true, 100]");
        if !is_refused && outcome != first {
            return Err(format!("with {room} bytes it comes to {outcome}"));
        }
        if memory_used() != before {
            return Err(format!("with {room} bytes the account drifts from {before} to {}", memory_used()));
        }
        refused += usize::from(is_refused);
        done = if is_refused { 0 } else { done + 1 };
        room += room / 5;
        if room > 1 << 30 {
            return Err("it is refused for ever".into());
        }
    }
    Ok(refused)
}

/// Runs a program that calls a native with `room` bytes left. Returns the program's result.
fn attempt(image: &Rc<Image>, arg: &Value, room: usize) -> Result<String, String> {
    let mut works = machine(image, "works", vec![arg.clone()]);
    let taken = MAX_MEMORY.saturating_sub(memory_used()).saturating_sub(room);
    let others = Charge::new(taken);
    if let Some(end) = run(&mut works) {
        return Err(format!("with {room} bytes left it ends early: {end}"));
    }
    let more = memory_used().saturating_sub(MAX_MEMORY);
    if more > UNASKED {
        return Err(format!("with {room} bytes left it takes {more} more"));
    }
    drop(others);
    let request = works.take_requests().pop().ok_or("it does not look")?;
    works.answer(request.seq, Ok(Data::null()));
    run(&mut works).ok_or_else(|| "it does not end".to_string())
}
