//! Properties of data and of journal records, checked on random ones.

mod common;

use durable::builtins::Context;
use durable::check;
use durable::code::compile;
use durable::core::lower;
use durable::engine::{Args, Chunk, Entry, RecordedRequest};
use durable::machine::{Data, ErrorData, Identity, Image, Machine, Progress, Value, format, json};
use durable::syntax::{Place, Span};
use proptest::prelude::*;

use common::tree::Tree;

/// Returns data of the kinds that programs can write, or of all kinds with `all`.
fn data(all: bool) -> impl Strategy<Value = Tree> {
    let finite = prop::num::f64::NORMAL | prop::num::f64::ZERO | prop::num::f64::NEGATIVE;
    let leaf = prop_oneof![
        Just(Tree::Null),
        any::<bool>().prop_map(Tree::Bool),
        any::<i64>().prop_map(Tree::Int),
        finite.prop_map(Tree::Float),
        // Durations in programs have no sign, and whole units.
        (0i64..1_000_000_000_000).prop_map(Tree::Duration),
        "\\PC{0,12}".prop_map(Tree::Text),
        "[a-z{}\"\\\\\n\t é🦀]{0,8}".prop_map(Tree::Text),
    ];
    let leaf = if all {
        prop_oneof![
            leaf,
            prop::collection::vec(any::<u8>(), 0..20).prop_map(Tree::Bytes),
            (-4_000_000_000_000_000_000i64..4_000_000_000_000_000_000).prop_map(Tree::Instant),
        ]
        .boxed()
    } else {
        leaf.boxed()
    };
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Tree::List),
            prop::collection::vec(("[a-zA-Z_$ ]{0,8}", inner), 0..6).prop_map(Tree::Record),
        ]
    })
}

/// Evaluates an expression.
fn evaluate(text: &str) -> Result<Data, String> {
    let program = check::load("x.df", text.to_string(), &|_: &str| Err("no files".to_string()));
    if !program.is_sound() {
        return Err(format!("{:?}", program.diagnostics));
    }
    let code = compile(&lower(&program), &program).map_err(|d| d.title)?;
    let image = Image::new(code.into()).map_err(|(_, error)| error.title())?;
    let script = image.code.script;
    let mut machine = Machine::new(
        image,
        Context::Orchestration,
        script,
        vec![Value::list(Vec::new())],
        Identity::default(),
    );
    match machine.run(1_000_000) {
        Progress::Done(Ok(value)) => Ok(value),
        Progress::Done(Err(error)) => Err(error.title()),
        other => Err(format!("{other:?}")),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// Encoded data is decoded to the same data.
    #[test]
    fn encoded_data_is_decoded(tree in data(true)) {
        let data = tree.data();
        let again = Data::encode(&data.try_decode().expect("an encoding")).expect("data");
        prop_assert_eq!(again, data);
    }

    /// Damaged encodings are refused or decoded, without a panic.
    #[test]
    fn broken_encodings_are_refused(tree in data(true), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        let mut bytes = tree.data().0;
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] = byte }
        let _ = Data(bytes).try_decode();
    }

    /// Data that is written in the language's syntax evaluates to the same data.
    #[test]
    fn printed_data_is_a_program(tree in data(false)) {
        let (text, complete) = format::write(&tree.value(), 1 << 20);
        prop_assert!(complete);
        // In parentheses, a record at the beginning of a statement is not read as a block.
        let read = evaluate(&format!("({text})"));
        prop_assert_eq!(read, Ok(tree.data()), "{}", text);
    }

    /// JSON with tags loses nothing.
    #[test]
    fn tagged_json_is_lossless(tree in data(true)) {
        let data = tree.data();
        let text = json::from_data(&data);
        let again = json::to_data(&text).map_err(|fail| durable::machine::error::title(&fail.value));
        prop_assert_eq!(again, Ok(data), "{}", text);
    }

    /// Journal records survive a round trip, and a chunk fits only after the chunk before it.
    #[test]
    fn journal_records_are_decoded(trees in prop::collection::vec(data(true), 1..6), seq in any::<u64>(), before in any::<u64>(), other in any::<u64>()) {
        let place = Place { source: 3, span: Span { start: 5, end: 9 } };
        let mut entries = Vec::new();
        for (at, tree) in trees.iter().enumerate() {
            let time = 1_700_000_000_000_000_000 + at as i64;
            entries.push(Entry::Requested { seq, what: RecordedRequest::Activity("f".into()), args: Args::of(&tree.data()), place, time });
            entries.push(Entry::Answered { seq, result: Ok(tree.data()), time, came: None });
            entries.push(Entry::Retried { seq, error: ErrorData::new("kind", "text"), again: time + 5, time });
            entries.push(Entry::Cancelled { seq, time });
        }
        entries.push(Entry::Ended { time: 0 });
        let (bytes, checksum) = Chunk::encode(entries.clone(), before);
        let chunk = Chunk::decode(&bytes, before).expect("a chunk");
        prop_assert_eq!(&chunk.entries, &entries);
        prop_assert_eq!(chunk.checksum, checksum);
        if other != before {
            prop_assert!(Chunk::decode(&bytes, other).is_err());
        }
    }

    /// Any text is a program or has mistakes.
    #[test]
    fn any_text_is_answered(text in "[a-z0-9(){}\\[\\],.:;=<>+*/|&!?\"'\\\\ \n-]{0,200}") {
        let _ = check::load("x.df", text, &|_: &str| Err("no files".to_string()));
    }

    /// The same for texts made of the language's words.
    #[test]
    fn any_words_are_answered(words in prop::collection::vec(prop::sample::select(WORDS), 0..60)) {
        let _ = check::load("x.df", words.join(" "), &|_: &str| Err("no files".to_string()));
    }
}

const WORDS: &[&str] = &[
    "activity",
    "orchestration",
    "entity",
    "on",
    "state",
    "fn",
    "let",
    "var",
    "const",
    "import",
    "as",
    "test",
    "if",
    "else",
    "match",
    "for",
    "in",
    "while",
    "break",
    "continue",
    "return",
    "try",
    "catch",
    "finally",
    "throw",
    "async",
    "await",
    "start",
    "signal",
    "lock",
    "with",
    "after",
    "do",
    "true",
    "null",
    "x",
    "f",
    "Account",
    "print",
    "1",
    "2.5",
    "5s",
    "\"a{x}b\"",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ",",
    ":",
    ".",
    "?.",
    "..",
    "=>",
    "=",
    "+=",
    "|>",
    "??",
    "||",
    "==",
    "<",
    "+",
    "-",
    "*",
    "!",
    "|",
    "\n",
    "\n",
    ";",
];
