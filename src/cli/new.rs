//! `durable new`: a small project as a starting point.

use std::path::Path;

use super::arguments::New;
use super::problem::{Problem, note};
use super::{STORE, USAGE, print};

const MAIN: &str = r#"// Greets everybody who is named: durable run main.df Ada Bob
import "lib/greetings.df" as greetings

let names = if args.is_empty() { ["world"] } else { args }
for line in greetings.all_of(names) { print(line) }
"#;

const LIB: &str = r#"// Greetings.

/// What is said to one person; tried again when it fails.
activity greet(name) with {retry: {times: 3, first: 1s}} {
  "Hello, {name}!"
}

/// The greetings of all, made at the same time.
///     all_of(["Ada"]) == ["Hello, Ada!"]
fn all_of(names) => all(names.map(fn name => async greet(name)))

test "everybody is greeted, in order" {
  assert(all_of(["Ada", "Bob"]) == ["Hello, Ada!", "Hello, Bob!"])
}

test "a greeting that fails is tried again" {
  mock greet in turn with fn () => throw {kind: "timeout", message: "not now"}, fn (name) => "Hi, {name}"
  assert(all_of(["Ada"]) == ["Hi, Ada"])
}
"#;

const SETTINGS: &str = r#"# The permissions of programs in this folder. Without `allow` they may do everything.
[permissions]
# allow = ["net=api.example.com", "read=data"]
# deny = ["exec"]
"#;

const IGNORED: &str = ".durable/\n";

/// Creates a folder with a script, a module with tests, and settings.
pub fn new(asked: New) -> Result<u8, Problem> {
    let folder = Path::new(&asked.name);
    if folder.exists() {
        return Err(Problem::new(USAGE, format!("{} exists already", folder.display()))
            .hint("give another name, or remove it first"));
    }
    let files =
        [("main.df", MAIN), ("lib/greetings.df", LIB), ("durable.toml", SETTINGS), (".gitignore", IGNORED)];
    for (name, text) in files {
        let path = folder.join(name);
        let written =
            path.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(&path, text));
        written.map_err(|error| {
            Problem::new(STORE, format!("{} can't be written: {}", path.display(), crate::os::reason(&error)))
        })?;
    }
    let name = folder.display();
    print(&format!("{name}/main.df\n{name}/lib/greetings.df\n{name}/durable.toml\n"))?;
    let quoted =
        if asked.name.contains(char::is_whitespace) { format!("{:?}", asked.name) } else { asked.name };
    note(&format!("now: cd {quoted} && durable run main.df Ada && durable test"));
    Ok(0)
}
