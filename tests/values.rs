//! Equality, order, keys and JSON of values: properties of random values, and of pairs that differ
//! in one part.

mod common;

use std::cmp::Ordering;

use durable::machine::canonical::key;
use durable::machine::compare::{equal, order, sorted};
use durable::machine::hashing::{Distinct, hash};
use durable::machine::json::{self, Style};
use durable::machine::{Data, EntityId, Value};
use proptest::prelude::*;

use common::tree::Tree;

impl Tree {
    /// Returns an equal value in another form: fields reversed, ints as floats if there is such a
    /// float.
    fn rewritten(&self) -> Tree {
        match self {
            Tree::Int(n) if (*n as f64) as i128 == i128::from(*n) => Tree::Float(*n as f64),
            Tree::Float(x) if *x == 0.0 => Tree::Float(-x),
            Tree::List(items) => Tree::List(items.iter().map(Tree::rewritten).collect()),
            Tree::Record(fields) => {
                let fields = fields.iter().rev().map(|(name, value)| (name.clone(), value.rewritten()));
                Tree::Record(fields.collect())
            }
            Tree::Entity(key) => Tree::Entity(Box::new(key.rewritten())),
            other => other.clone(),
        }
    }

    /// Returns the number of its parts, itself included.
    fn parts(&self) -> usize {
        1 + match self {
            Tree::List(items) => items.iter().map(Tree::parts).sum(),
            Tree::Record(fields) => fields.iter().map(|(_, value)| value.parts()).sum(),
            Tree::Entity(key) => key.parts(),
            _ => 0,
        }
    }

    /// Changes one part, so that the value is not equal to the earlier one.
    fn change(&mut self, number: &mut usize, how: u8) {
        if *number == 0 {
            *number = usize::MAX;
            return self.change_here(how);
        }
        *number = number.wrapping_sub(1);
        let mut each = |part: &mut Tree| {
            if *number < usize::MAX / 2 {
                part.change(number, how);
            }
        };
        match self {
            Tree::List(items) => items.iter_mut().for_each(&mut each),
            Tree::Record(fields) => fields.iter_mut().for_each(|(_, value)| each(value)),
            Tree::Entity(key) => each(key),
            _ => {}
        }
    }

    fn change_here(&mut self, how: u8) {
        match self {
            Tree::List(items) => match how % 4 {
                0 => items.push(Tree::Null),
                1 if !items.is_empty() => drop(items.pop()),
                2 if !items.is_empty() => drop(items.remove(0)),
                _ => items.insert(0, Tree::Bool(true)),
            },
            // One field more, one less, or one with another name.
            Tree::Record(fields) => match how % 3 {
                1 if !fields.is_empty() => drop(fields.pop()),
                2 if !fields.is_empty() => fields[0].0.push('\''),
                _ => fields.push(("another".into(), Tree::Null)),
            },
            Tree::Int(n) if how.is_multiple_of(2) => *n = n.wrapping_add(1),
            Tree::Text(text) if how.is_multiple_of(2) => text.push('x'),
            Tree::Bytes(bytes) => bytes.push(0),
            Tree::Duration(n) => {
                *self = if how.is_multiple_of(2) { Tree::Int(*n) } else { Tree::Duration(n.wrapping_add(1)) }
            }
            Tree::Instant(n) => {
                *self =
                    if how.is_multiple_of(2) { Tree::Duration(*n) } else { Tree::Instant(n.wrapping_add(1)) }
            }
            Tree::Null => *self = Tree::Bool(false),
            other => {
                *other = if how.is_multiple_of(2) { Tree::Null } else { Tree::List(vec![other.clone()]) }
            }
        }
    }
}

/// Returns texts as keys have them: words, look-alikes of JSON and numbers, invisible characters.
fn text() -> impl Strategy<Value = String> {
    let odd = [
        "",
        " ",
        "alice",
        "5",
        "-5",
        "1.0",
        "1e3",
        "true",
        "null",
        "{",
        "[",
        "\"",
        "{\"a\":1}",
        "[1]",
        "\"q\"",
        "{\"$duration\":\"5s\"}",
        "123456789012345678901234567890",
        "-9223372036854775809",
        "007",
        "a@b",
        "@",
        "a b",
        " a",
        "a ",
        "a\nb",
        "\n",
        "\t",
        "\u{0}",
        "\u{7f}",
        "\u{85}",
        "\u{a0}",
        "\u{2028}",
        "é",
        "日本",
        "🦀",
        "\"",
        "\\",
        "a\"b",
        "NaN",
        "Infinity",
        "-",
        "+1",
        "2026-03-01",
        "10.0.0.1",
        "$data",
        "//",
        "'",
        "\u{feff}x",
        "e\u{301}",
    ];
    prop_oneof![
        2 => prop::sample::select(odd.to_vec()).prop_map(str::to_string),
        1 => "\\PC{0,12}",
        1 => "[a-z{}\\[\\]\"\\\\@:,0-9\n\t é🦀]{0,8}",
        1 => any::<String>().prop_map(|text| text.chars().take(20).collect()),
    ]
}

fn int() -> impl Strategy<Value = i64> {
    let ends = [0, 1, -1, i64::MAX, i64::MIN, i64::MAX - 1, 1 << 53, (1 << 53) + 1, -(1 << 53) - 1];
    prop_oneof![prop::sample::select(ends.to_vec()), any::<i64>(), -5i64..5]
}

fn float() -> impl Strategy<Value = f64> {
    let ends = [
        0.0,
        -0.0,
        1.0,
        0.5,
        -1.5,
        1e15,
        1e16,
        9007199254740992.0,
        9223372036854775808.0,
        -9223372036854775808.0,
        1e19,
        1e300,
        -1e-300,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::MAX,
        f64::MIN_POSITIVE,
        5e-324,
    ];
    let finite = prop::num::f64::NORMAL | prop::num::f64::ZERO | prop::num::f64::NEGATIVE;
    prop_oneof![prop::sample::select(ends.to_vec()), finite, int().prop_map(|n| n as f64)]
}

/// Returns data of every kind, except NaN.
fn tree() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        Just(Tree::Null),
        any::<bool>().prop_map(Tree::Bool),
        int().prop_map(Tree::Int),
        float().prop_map(Tree::Float),
        int().prop_map(Tree::Duration),
        int().prop_map(Tree::Instant),
        text().prop_map(Tree::Text),
        prop::collection::vec(any::<u8>(), 0..12).prop_map(Tree::Bytes),
    ];
    let name = prop_oneof![
        prop::sample::select(
            &["a", "b", "id", "key", "$entity", "$record", "$duration", "$data", "$float", ""][..]
        )
        .prop_map(str::to_string),
        text()
    ];
    leaf.prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Tree::List),
            prop::collection::vec((name.clone(), inner.clone()), 0..5).prop_map(|fields| {
                let mut seen = std::collections::HashSet::new();
                Tree::Record(fields.into_iter().filter(|(name, _)| seen.insert(name.clone())).collect())
            }),
            inner.prop_map(|key| Tree::Entity(Box::new(key))),
        ]
    })
}

/// Returns values that `<` can compare.
fn ordered() -> impl Strategy<Value = Tree> {
    let number = prop_oneof![int().prop_map(Tree::Int), float().prop_map(Tree::Float)];
    number.prop_recursive(2, 8, 3, |inner| prop::collection::vec(inner, 0..3).prop_map(Tree::List))
}

fn are_equal(a: &Value, b: &Value) -> bool {
    let both = [equal(a, b), equal(b, a)].map(|equal| equal.expect("data can be compared"));
    assert_eq!(both[0], both[1], "both ways");
    both[0]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    /// A value is equal to itself, to its copy, and to another form of itself.
    #[test]
    fn what_is_written_in_another_way_is_equal(tree in tree()) {
        let (a, b, c) = (tree.value(), tree.value(), tree.rewritten().value());
        prop_assert!(are_equal(&a, &a) && are_equal(&a, &b) && are_equal(&a, &c));
        prop_assert_eq!(hash(&a), hash(&b));
        prop_assert_eq!(hash(&a), hash(&c));
        if let (Ok(a), Ok(c)) = (EntityId::new("E", &a), EntityId::new("E", &c)) {
            prop_assert_eq!(a, c);
        }
        if let (Ok(a), Ok(c)) = (key(&a), key(&c)) {
            prop_assert!(are_equal(&a, &c), "{:?} and {:?}", a, c);
        }
        let mut distinct = Distinct::default();
        for value in [&a, &b, &c] {
            distinct.add(value).expect("data can be compared");
        }
        prop_assert_eq!(distinct.values.len(), 1);
    }

    /// A value that differs in one part is not equal, has another encoding, and is another key.
    #[test]
    fn one_part_makes_a_difference(tree in tree(), part in any::<prop::sample::Index>(), how in any::<u8>()) {
        let mut other = tree.clone();
        other.change(&mut part.index(tree.parts()), how);
        let (a, b) = (tree.value(), other.value());
        prop_assert!(!are_equal(&a, &b), "{:?} and {:?}", tree, other);
        prop_assert!(!are_equal(&b, &tree.rewritten().value()));
        prop_assert_ne!(Data::encode(&a).expect("data"), Data::encode(&b).expect("data"));
        let tagged = |value: &Value| json::encode(value, Style::Tagged, None).expect("data");
        prop_assert_ne!(tagged(&a), tagged(&b));
        if let (Ok(a), Ok(b)) = (EntityId::new("E", &a), EntityId::new("E", &b)) {
            prop_assert_ne!(a.to_string(), b.to_string());
            prop_assert_ne!(a, b);
        }
        if let (Ok(a), Ok(b)) = (key(&a), key(&b)) {
            prop_assert!(!are_equal(&a, &b), "{:?} of {:?} and {:?}", a, tree, other);
        }
        let mut distinct = Distinct::default();
        distinct.add(&a).expect("data can be compared");
        distinct.add(&b).expect("data can be compared");
        prop_assert_eq!(distinct.values.len(), 2);
    }

    /// The order of numbers, and of lists of numbers, is total and agrees with equality.
    #[test]
    fn the_order_is_total(trees in prop::collection::vec(ordered(), 3..4)) {
        let of = |a: &Tree, b: &Tree| order(&a.value(), &b.value()).ok();
        for a in &trees {
            for b in &trees {
                let Some(ab) = of(a, b) else { continue };
                prop_assert_eq!(of(b, a), Some(ab.reverse()));
                prop_assert_eq!(ab == Ordering::Equal, are_equal(&a.value(), &b.value()));
                for c in &trees {
                    if let (Some(bc), Some(ac)) = (of(b, c), of(a, c))
                        && ab == bc
                    {
                        prop_assert_eq!(ac, ab);
                    }
                }
            }
        }
    }

    /// Sorting is correct and stable. It fails if any two keys can't be compared, wherever they
    /// are.
    #[test]
    fn sorting_is_as_comparing_each_with_each(trees in prop::collection::vec(prop_oneof![9 => ordered(), 1 => tree()], 0..40)) {
        let keys: Vec<Value> = trees.iter().map(Tree::value).collect();
        let pairs = (0..keys.len()).flat_map(|a| (0..a).map(move |b| (a, b)));
        let fails = pairs.into_iter().any(|(a, b)| order(&keys[a], &keys[b]).is_err());
        match sorted(&keys) {
            Err(_) => prop_assert!(fails),
            Ok(places) => {
                prop_assert!(!fails);
                let mut expected: Vec<usize> = (0..keys.len()).collect();
                expected.sort_by(|a, b| order(&keys[*a], &keys[*b]).expect("an order"));
                prop_assert_eq!(places, expected);
            }
        }
    }

    /// An entity's name leads back to the entity, stands on one line, and has only visible
    /// characters.
    #[test]
    fn an_entity_is_found_by_its_name(tree in tree()) {
        if let Ok(entity) = EntityId::new("Box", &tree.value()) {
            let name = entity.to_string();
            prop_assert_eq!(EntityId::parse(&name).expect("a name and a key").expect("a key"), entity.clone(), "{}", name);
            prop_assert!(!name.chars().any(char::is_control), "{:?}", name);
            prop_assert_eq!(name.trim(), &name);
            // The key of an entity is canonical.
            prop_assert_eq!(EntityId::new("Box", &entity.key.decode()).expect("a key"), entity.clone());
            prop_assert_eq!(EntityId::stored("Box".into(), Data::encode(&tree.value()).expect("data")), entity);
        }
    }

    /// JSON with tags loses nothing, whatever the names of fields are.
    #[test]
    fn tags_lose_nothing(tree in tree()) {
        let data = Data::encode(&tree.value()).expect("data");
        let text = json::from_data(&data);
        prop_assert_eq!(json::to_data(&text).expect("JSON"), data, "{}", text);
    }

    /// The output of `json.encode` is read as serde reads it.
    #[test]
    fn json_is_read_as_others_read_it(tree in tree(), cut in any::<prop::sample::Index>()) {
        if let Ok(text) = json::encode(&tree.value(), Style::Plain, None) {
            let read = json::parse(&text).expect("JSON");
            prop_assert_eq!(json::encode(&read, Style::Plain, None).expect("data"), text.clone());
            let known: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            let again: serde_json::Value = serde_json::from_str(&json::encode(&read, Style::Plain, None).expect("data")).expect("JSON");
            prop_assert_eq!(again, known);
            // A truncated text is an error for both or for neither.
            let cut = text.char_indices().map(|(at, _)| at).nth(cut.index(text.chars().count())).unwrap_or(0);
            let part = &text[..cut];
            prop_assert_eq!(json::parse(part).is_ok(), serde_json::from_str::<serde_json::Value>(part).is_ok(), "{}", part);
        }
    }

    /// Any text is JSON or an error, as for serde, except that numbers have limits of their own.
    #[test]
    fn any_text_is_no_json_or_some(text in "[\\[\\]{}\",:0-9eE.+\\-truefalsn\\\\u \n]{0,24}") {
        let known = serde_json::from_str::<serde_json::Value>(&text);
        match json::parse(&text) {
            Ok(_) => prop_assert!(known.is_ok(), "{}", text),
            Err(_) => prop_assert!(known.is_err() || text.bytes().filter(u8::is_ascii_digit).count() > 18, "{}", text),
        }
    }
}

/// A word of the command line is JSON or text. A word that begins like JSON but is not JSON is an
/// error.
#[test]
fn words_are_json_or_text() {
    for word in [
        "alice",
        "ok: tru",
        "2026-03-01",
        "10.0.0.1",
        "007",
        "-x",
        "+1",
        "1.",
        "tru",
        "",
        "a{b}",
        "-",
        "é",
        "0x10",
        "--5",
        "- 5",
        "1 2",
        "1_000",
    ] {
        let read = json::word(word).expect("text");
        assert!(equal(&read, &Value::str(word)).expect("a comparison"), "{word}");
    }
    for word in [
        "{\"ok\": tru}",
        "[1",
        "{",
        "[",
        "\"",
        "\"a",
        " {x}",
        "\n[1,]",
        "{'a': 1}",
        "\"a\" b",
        "9223372036854775808",
        "-9223372036854775809",
        "[9223372036854775808]",
    ] {
        assert!(json::word(word).is_err(), "{word}");
    }
    for (word, value) in [
        ("5", Value::Int(5)),
        ("-5.5", Value::float(-5.5)),
        ("\"5\"", Value::str("5")),
        ("null", Value::Null),
        (" true ", Value::bool(true)),
    ] {
        assert!(equal(&json::word(word).expect("JSON"), &value).expect("a comparison"), "{word}");
    }
}

/// Stored data has one form for each number: bits that a number has no room for are damage.
#[test]
fn numbers_with_too_many_bits_are_damage() {
    let mut data = Data::encode(&Value::Int(i64::MIN)).expect("data");
    assert!(data.try_decode().is_some());
    *data.0.last_mut().expect("bytes") |= 2;
    assert!(data.try_decode().is_none(), "{data:?}");
}

/// Lossless JSON of data is read again, whatever its depth, also as a part of another text.
#[test]
fn deep_data_survives_as_json() {
    let of = |depth: usize, open: &str, close: &str| {
        let text = format!("{}\"{{[\\\"\"{}", open.repeat(depth), close.repeat(depth));
        json::parse(&text).expect("JSON")
    };
    for depth in (1..=260).chain([1_000, 5_000]) {
        for value in [of(depth, "[", "]"), of(depth, "{\"a\":", "}")] {
            let data = Data::encode(&value).expect("data");
            let text = json::from_data(&data);
            assert_eq!(json::to_data(&text).ok().as_ref(), Some(&data), "{depth}");
            let line = format!("{{\"entries\":[{{\"args\":{text}}}]}}");
            let line: serde_json::Value = serde_json::from_str(&line).expect("JSON for other programs");
            let again = line["entries"][0]["args"].to_string();
            assert_eq!(json::to_data(&again).ok(), Some(data), "{depth}");
        }
    }
}
