//! Methods of other languages, with their counterparts here.

/// Returns the counterpart of a method or a field that a value of a kind has in other languages.
pub fn elsewhere(kind: &str, name: &str) -> Option<&'static str> {
    let of_kind = match kind {
        "list" => of_a_list(name),
        "string" => of_a_string(name),
        "record" => of_a_record(name),
        "int" | "float" => of_a_number(name),
        "instant" | "duration" => of_a_time(name),
        _ => None,
    };
    of_kind.or_else(|| of_any(name))
}

fn of_any(name: &str) -> Option<&'static str> {
    Some(match name {
        "length" | "size" | "count" | "len" | "getLength" => "its length is `len()`",
        "toString" | "to_s" | "str" | "to_string" | "toText" | "__str__" => {
            "write `to_string(value)`, or \"{value}\""
        }
        "toJSON" | "to_json" | "json" => "write `json.encode(value)`",
        "equals" | "eq" | "isEqual" | "is_equal" => "`a == b` compares all parts",
        "hash" | "hashCode" => "write `hash.sha256(json.encode(value))`",
        "clone" | "copy" | "deepcopy" => "values never change, so a copy is not needed: `var b = a`",
        "then" => "`await` waits for a task's value",
        "unwrap" | "expect" | "unwrap_or" => "there are no options to unwrap: write `value ?? otherwise`",
        "format" => "\"{value}\" puts values into a string",
        _ => return None,
    })
}

fn of_a_list(name: &str) -> Option<&'static str> {
    Some(match name {
        "push" | "append" | "add" | "push_back" | "prepend_to" => "`xs += [x]` appends, to a `var`",
        "extend" | "concat" | "addAll" | "push_all" => "`xs + ys` is both, one after the other",
        "pop" | "pop_back" => "`xs.last()` is the last one, and `xs.slice(0, -1)` the others",
        "shift" | "pop_front" | "dequeue" => "`xs.first()` is the first one, and `xs.drop(1)` the others",
        "unshift" | "prepend" | "push_front" => "write `[x, ..xs]`",
        "splice" | "delete" | "remove_at" => "`xs.remove(index)` and `xs.insert(index, x)` give new lists",
        "forEach" | "for_each" | "foreach" => "`xs.each(fn x => …)` calls a function with each",
        "includes" | "has" | "include?" | "exists" => "write `xs.contains(x)`",
        "some" | "any?" => "write `xs.any(fn x => …)`",
        "every" | "all?" => "write `xs.all(fn x => …)`",
        "reduce" | "foldl" | "fold_left" | "inject" | "foldLeft" => "`xs.fold(initial, fn (total, x) => …)`",
        "collect" => "`xs.map(fn x => …)`, and a list is a list already",
        "select" | "where" | "filterNot" | "reject" => "write `xs.filter(fn x => …)`",
        "indexOf" | "find_index" | "findIndex" | "index" | "position" => "write `xs.index_of(x)`",
        "sorted" | "order" | "orderBy" | "sortBy" | "sort_by_key" => "`xs.sort()`, `xs.sort_by(fn x => …)`",
        "sort_desc" | "sortDescending" | "sort_descending" => "write `xs.sort({descending: true})`",
        "reversed" | "rev" => "write `xs.reverse()`",
        "flat" => "write `xs.flatten()`",
        "flatMap" | "concatMap" => "write `xs.flat_map(fn x => …)`",
        "groupBy" => "write `xs.group_by(fn x => …)`",
        "distinct" | "uniq" | "dedup" | "toSet" | "to_set" => "`xs.unique()` is a list, `set.of(xs)` a set",
        "head" => "write `xs.first()`",
        "tail" | "rest" | "skip" => "write `xs.drop(1)`",
        "limit" => "write `xs.take(n)`",
        "at" | "nth" | "elementAt" => "`xs[index]`, or `xs.get(index)`, which is null beyond the end",
        "entries" | "items" | "withIndex" | "each_with_index" => "`xs.enumerate()` gives `[index, x]` pairs",
        "keys" => "write `range(0, xs.len())`",
        "values" | "toList" | "to_list" | "toArray" | "iter" => "a list is a list already",
        "chunks" | "batch" | "partitionAll" => "write `xs.chunk(size)`",
        "windows" | "sliding" | "each_cons" => "write `xs.window(size)`",
        "average" | "mean" => "write `xs.sum() / xs.len()`",
        "empty" | "isEmpty" | "is_empty?" => "write `xs.is_empty()`",
        "shuffle" => "write `random.shuffle(xs)`",
        "sample" | "choice" => "write `random.choice(xs)`, or `random.sample(xs, count)`",
        _ => return None,
    })
}

fn of_a_string(name: &str) -> Option<&'static str> {
    Some(match name {
        "substring" | "substr" | "sub" => "write `text.slice(from, to)`",
        "toUpperCase" | "to_upper" | "to_uppercase" | "upcase" | "uppercase" => "write `text.upper()`",
        "toLowerCase" | "to_lower" | "to_lowercase" | "downcase" | "lowercase" => "write `text.lower()`",
        "strip" | "trimStart" | "trimEnd" | "lstrip" | "rstrip" | "chomp" => "write `text.trim()`",
        "startsWith" | "startswith" => "write `text.starts_with(start)`",
        "endsWith" | "endswith" => "write `text.ends_with(end)`",
        "includes" | "has" | "include?" => "write `text.contains(part)`",
        "indexOf" | "find" | "index" => "write `text.index_of(part)`",
        "replaceAll" | "gsub" | "sub_all" => "`text.replace(old, new)` replaces each",
        "padStart" | "rjust" | "zfill" => "write `text.pad_left(width, \"0\")`",
        "padEnd" | "ljust" => "write `text.pad_right(width)`",
        "charAt" | "char_at" => "write `text[index]`",
        "charCodeAt" | "codePointAt" | "ord" => "write `char.code(text[index])`",
        "splitlines" | "splitLines" => "write `text.lines()`",
        "match" | "test" | "matches" | "search" | "scan" => "write `regex.find(text, pattern)`",
        "encode" | "as_bytes" | "getBytes" => "write `text.bytes()`",
        "parse" | "toInt" | "to_i" | "int" | "parse_int" => "write `text.to_int()`, or `text.to_float()`",
        "toFloat" | "to_f" | "to_number" | "toNumber" => "write `text.to_float()`",
        "concat" | "append" | "push" | "push_str" | "add" => {
            "`a + b` joins two strings, and \"{a}{b}\" any values"
        }
        "isdigit" | "isnumeric" => "write `regex.matches(text, \"^[0-9]+$\")`",
        "map" | "filter" | "each" | "forEach" => "`text.chars()` is a list of characters",
        "reverse" => "write `text.chars().reverse().join()`",
        "empty" | "isEmpty" | "isspace" => "write `text.is_empty()`, or `text.trim() == \"\"`",
        "count" => "write `text.split(part).len() - 1`",
        _ => return None,
    })
}

fn of_a_record(name: &str) -> Option<&'static str> {
    Some(match name {
        "map" => {
            "`r.map_values(fn value => …)` is a record, `r.entries().map(fn ({key, value}) => …)` a list"
        }
        "each" | "forEach" | "for_each" => "write `for {key, value} in r { … }`",
        "items" | "iteritems" | "pairs" | "to_list" | "toList" => "write `r.entries()`",
        "includes" | "contains" | "contains_key" | "containsKey" | "has_key" | "hasOwnProperty" | "key?" => {
            "write `r.has(name)`"
        }
        "push" | "append" | "add" | "put" | "insert" => "`r[name] = value` sets a field, of a `var`",
        "update" | "assign" | "extend" | "concat" => "write `r.merge(other)`, or `{..r, ..other}`",
        "delete" | "del" | "pop" | "unset" | "drop" => "write `r.remove(name)`",
        "setdefault" | "get_or_insert" | "getOrDefault" | "fetch" => "write `r.get(name, otherwise)`",
        "any" | "all" | "find" | "fold" | "reduce" | "some" | "every" | "sort" | "sort_by" => {
            "`r.entries()` is a list of `{key, value}`, which has such methods"
        }
        "mapValues" | "transform_values" => "write `r.map_values(fn value => …)`",
        "isEmpty" | "empty" => "write `r.is_empty()`",
        _ => return None,
    })
}

fn of_a_number(name: &str) -> Option<&'static str> {
    Some(match name {
        "toFixed" | "rounded" => "write `x.round(2)`",
        "trunc" | "to_int" | "toInt" | "int" | "to_i" => "write `x.floor()`, or `x.round()`",
        "toFloat" | "float" | "to_f" => "write `x.to_float()`",
        "times" => "write `for i in 0..n { … }`",
        "isNaN" | "is_nan" => "write `x != x`",
        _ => return None,
    })
}

fn of_a_time(name: &str) -> Option<&'static str> {
    Some(match name {
        "getTime" | "timestamp" | "unix" | "epoch" | "total_seconds" | "getSeconds" => {
            "write `time.seconds(value)`"
        }
        "toISOString" | "isoformat" => "write `to_string(value)`, or \"{value}\"",
        "strftime" => "write `time.format(instant, pattern)`",
        "getFullYear" => "write `time.year(instant)`",
        "getMonth" => "write `time.month(instant)`",
        "getDate" => "write `time.day(instant)`",
        "getHours" => "write `time.hour(instant)`",
        "plus" | "minus" | "sub" | "subtract" => "`a + b` and `a - b` calculate with instants and durations",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A counterpart must not stand in the way of a method that exists.
    #[test]
    fn methods_of_the_library_are_not_foreign() {
        let modules = [
            ("list", "list"),
            ("string", "string"),
            ("record", "record"),
            ("time", "instant"),
            ("math", "int"),
        ];
        for (module, kind) in modules {
            let of = |entry: &&crate::check::reference::Entry| entry.module == module;
            for entry in crate::check::reference::standard().iter().filter(of) {
                let is_general = of_any(&entry.name).is_some();
                assert!(is_general || elsewhere(kind, &entry.name).is_none(), "{}", entry.path());
            }
        }
    }
}
