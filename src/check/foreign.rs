//! Names and members of modules in other languages, with their counterparts here.

/// Returns the counterpart of a name.
pub fn name(name: &str) -> Option<&'static str> {
    Some(match name {
        "None" | "nil" | "undefined" | "NULL" | "Nothing" => "the empty value is `null`",
        "True" => "write `true`",
        "False" => "write `false`",
        "println" | "puts" | "echo" | "printf" | "console" | "fmt" | "pprint" => "write `print(value)`",
        "length" | "size" | "count" => "the number of elements is `len(value)`",
        "str" | "String" | "toString" | "repr" => "write `to_string(value)`",
        "int" | "parseInt" | "Integer" | "atoi" => {
            "of a string it is `\"5\".to_int()`, of a float `math.floor(x)` or `math.round(x)`"
        }
        "float" | "parseFloat" | "Number" | "double" => {
            "of a string it is `\"1.5\".to_float()`, of an int `math.to_float(x)`"
        }
        "bool" | "Boolean" => "conditions are bools already: compare, as in `n != 0`",
        "dict" | "Map" | "HashMap" | "Object" => {
            "a record is written `{name: value}`; `map.of(…)` has any data as keys"
        }
        "Set" | "HashSet" | "frozenset" => "write `set.of([…])`",
        "Array" | "Vec" | "tuple" => "a list is written `[1, 2]`",
        "typeof" | "type" | "isinstance" => "write `kind_of(value)`",
        "this" => "an operation's own state is `state`; its id and key are `self.id` and `self.key`",
        "exit" | "quit" => "a script ends with its last statement; `return` at its top level ends it early",
        "setTimeout" | "setInterval" | "delay" => "write `sleep(5s)`, or `task.every(5s, fn () => …)`",
        "Error" | "Exception" | "RuntimeError" | "ValueError" | "TypeError" => {
            "any value can be thrown; the custom is a record: `throw {kind: \"odd\", message: \"…\"}`"
        }
        "Promise" | "asyncio" => "tasks are made by `async` and joined by `all([…])`",
        "Date" | "datetime" | "DateTime" | "timedelta" => {
            "the time is `now()`; `time` calculates with it; a duration is written `5s`"
        }
        "re" | "RegExp" => "write `regex.find(text, pattern)`, `regex.matches(text, pattern)`",
        "os" | "process" | "sys" => {
            "write `env(name)`, `args`, `exec(program, arguments)`; files are in `fs`"
        }
        "open" | "readFile" => "write `fs.read(path)`, `fs.write(path, value)`",
        "fetch" | "requests" | "axios" | "urllib" => "write `http.get(url)`, `http.post(url, body)`",
        "subprocess" | "system" | "spawn" => "write `exec(program, arguments)`",
        "enumerate" | "zip" | "filter" | "sorted" | "reversed" | "reduce" => {
            "lists have methods: `xs.enumerate() xs.zip(ys) xs.filter(f) xs.sort() xs.reverse() xs.fold(initial, f)`"
        }
        "abs" | "round" | "floor" | "ceil" | "sqrt" | "pow" => {
            "write `math.abs(x) math.round(x) math.floor(x) math.ceil(x) math.sqrt(x) math.pow(x, y)`"
        }
        "chr" | "ord" => "write `char.of(code)`, `char.code(\"a\")`",
        "JSON" => "write `json.encode(value)`, `json.parse(text)`",
        "Math" => "the module is `math`: `math.floor(x)`, `math.pi`; and there is `random()`",
        "itertools" | "functools" | "collections" => {
            "lists have `chunk window zip fold flat_map group_by` and more"
        }
        "randint" => "write `random_int(low, high)`",
        "getenv" => "write `env(name)`",
        _ => return None,
    })
}

/// Returns the counterpart of a member of a module.
pub fn member(module: &str, member: &str) -> Option<&'static str> {
    Some(match (module, member) {
        ("json", "dumps" | "stringify" | "dump" | "to_string" | "write" | "serialize" | "marshal") => {
            "write `json.encode(value)`; over several lines it is `json.pretty(value)`"
        }
        ("json", "loads" | "load" | "decode" | "read" | "deserialize" | "unmarshal") => {
            "write `json.parse(text)`"
        }
        ("time", "now" | "time" | "current" | "today" | "utcnow") => "write `now()`",
        ("time", "sleep" | "delay" | "after") => "write `sleep(5s)`",
        ("time", "strftime" | "to_string") => "write `time.format(instant, pattern)`",
        ("time", "strptime" | "from_string" | "fromisoformat") => "write `time.parse(text, pattern)`",
        ("time", "duration" | "timedelta") => {
            "a duration is written `5s`; from text it is `time.parse_duration(text)`"
        }
        ("time", "timezone" | "tz" | "utc") => "write `time.zone(\"Europe/Berlin\")`",
        ("time", "timestamp" | "unix" | "epoch") => "write `time.seconds(instant)`",
        ("math", "random") | ("random", "random" | "uniform") => "write `random()`",
        ("random", "randint" | "int" | "randrange" | "integer") => "write `random_int(low, high)`",
        ("random", "choices") => "write `random.sample(xs, count)`, or `random.choice(xs)`",
        ("math", "trunc") => "write `math.floor(x)`, or `math.ceil(x)`",
        ("math", "ln") => "write `math.log(x)`",
        ("math", "sum") => "write `sum(xs)`",
        ("uuid", "uuid4" | "v1" | "new" | "random" | "generate") => "write `uuid()`",
        ("uuid", "uuid7") => "write `uuid.v7()`",
        ("hash", "md5" | "sha1") => "write `hash.sha256(value)`",
        ("hash", "digest" | "new" | "of") => "write `hash.sha256(value)`",
        ("base64", "b64encode" | "urlsafe_b64encode" | "btoa") => "write `base64.encode(value, {url: true})`",
        ("base64", "b64decode" | "urlsafe_b64decode" | "atob") => "write `base64.decode(text)`",
        ("regex", "match" | "test" | "is_match" | "fullmatch") => "write `regex.matches(text, pattern)`",
        ("regex", "search" | "exec") => "write `regex.find(text, pattern)`",
        ("regex", "findall" | "findAll" | "matchAll" | "finditer") => "write `regex.find_all(text, pattern)`",
        ("regex", "sub" | "replace_all" | "replaceAll" | "gsub") => {
            "write `regex.replace(text, pattern, replacement)`, which replaces each"
        }
        ("regex", "compile" | "new") => "a pattern is a string: `regex.find(text, pattern)`",
        ("fs", "open" | "readFile" | "read_text" | "readFileSync" | "read_to_string") => {
            "write `fs.read(path)`"
        }
        ("fs", "writeFile" | "write_text" | "writeFileSync") => "write `fs.write(path, value)`",
        ("fs", "mkdir" | "makedirs" | "create_dir") => "write `fs.make_dir(dir)`",
        ("fs", "unlink" | "delete" | "rm" | "rmdir") => "write `fs.remove(path)`",
        ("fs", "listdir" | "readdir" | "ls") => "write `fs.list(dir)`",
        ("csv", "reader" | "read" | "decode" | "loads") => "write `csv.parse(text)`",
        ("csv", "writer" | "write" | "stringify" | "dumps") => "write `csv.encode(rows)`",
        ("log", "log" | "print") => "write `log.info(value)`",
        ("log", "warning") => "write `log.warn(value)`",
        ("log", "critical" | "fatal") => "write `log.error(value)`",
        ("task", "all" | "gather" | "wait") => "write `all([async f(), async g()])`",
        ("task", "sleep") => "write `sleep(5s)`",
        ("task", "spawn" | "create" | "create_task" | "start" | "run") => "a task is begun by `async f()`",
        ("task", "race") => "write `race({a: async f(), b: async g()})`",
        ("list", "push" | "append" | "add") => "`xs += [x]` appends, to a `var`",
        ("set", "new" | "from" | "create") => "write `set.of([…])`",
        ("map", "new" | "from" | "create") => "write `map.of([[key, value]])`",
        ("record", "new" | "create") => "a record is written `{name: value}`",
        ("cron", "schedule" | "every") => {
            "`cron.next(expression, after)` is the next time; `sleep_until` waits for it"
        }
        ("char", "ord") => "write `char.code(\"a\")`",
        ("char", "chr" | "from" | "from_code") => "write `char.of(code)`",
        ("exec", "call" | "command" | "output" | "check_output" | "popen" | "system") => {
            "write `exec.run(program, arguments)`"
        }
        _ => return None,
    })
}

/// The members that a message lists.
const MOST_LISTED: usize = 40;

/// Returns the names of a module's members, for a message.
pub fn listed(module: &str, mut members: Vec<&str>) -> Option<String> {
    members.sort_unstable();
    let more = if members.len() > MOST_LISTED { ", …" } else { "" };
    members.truncate(MOST_LISTED);
    match members.is_empty() {
        true => Some(format!("`{module}` has no members")),
        false => Some(format!("`{module}` has {}{more}", members.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::reference::standard;

    /// A counterpart must not stand in the way of a name that exists.
    #[test]
    fn what_the_library_has_is_not_foreign() {
        for entry in standard() {
            let known = match entry.module.as_str() {
                "prelude" => name(&entry.name),
                module => member(module, &entry.name),
            };
            assert!(known.is_none(), "{}", entry.path());
        }
    }
}
