//! Files, requests and programs: what programs find outside, and what goes out in small memory.
#![cfg(target_os = "linux")]

mod common;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};

use common::DURABLE;
use tempfile::TempDir;

fn folder(text: &str) -> TempDir {
    let folder = TempDir::new().expect("a folder");
    fs::write(folder.path().join("a.df"), text).expect("a program");
    folder
}

fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(DURABLE);
    command.current_dir(folder).args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(folder: &Path) -> Output {
    command(folder, &["run", "a.df"]).output().expect("durable runs")
}

/// Runs a program, and returns the lines that it prints.
fn prints_in(folder: &Path) -> Vec<String> {
    let output = run(folder);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_string).collect()
}

fn prints(text: &str) -> Vec<String> {
    prints_in(folder(text).path())
}

const ATTEMPT: &str = "fn attempt(f) => try { f() } catch {kind, message} { \"{kind}: {message}\" }\n";

// ---- files

#[test]
fn files_are_looked_at_copied_and_renamed() {
    let text = format!(
        "{ATTEMPT}{}",
        r#"
        fs.make_dir("d")
        fs.write("d/a.txt", "hello")
        exec.run("chmod", ["640", "d/a.txt"])
        exec.run("ln", ["-s", "a.txt", "d/link"])
        let {kind, size, mode, modified} = fs.stat("d/a.txt")
        print([kind, size, mode, kind_of(modified), now() - modified < 1m])
        print([fs.stat("d").kind, fs.stat("d/link").kind, fs.stat("d/link", {follow: true}).size, fs.stat("/dev/null").kind])
        fs.copy("d/a.txt", "b.txt")
        print([fs.read("b.txt"), fs.stat("b.txt").mode])
        fs.rename("b.txt", "c.txt")
        fs.rename("d", "e")
        fs.rename("e/link", "e/other")
        print([fs.exists("b.txt"), fs.read("c.txt"), fs.list("e"), fs.stat("e/other").kind])
        print(attempt(fn () => fs.stat("none")))
        print(attempt(fn () => fs.copy("none", "x")))
        print(attempt(fn () => fs.copy("c.txt", "none/x")))
        print(attempt(fn () => fs.copy("e", "f")))
        print(attempt(fn () => fs.copy("c.txt", "e")))
        print(attempt(fn () => fs.rename("none", "x")))
        print(attempt(fn () => fs.rename("c.txt", "e")))
        print(fs.list("."))
        let temporary = fs.temp_dir()
        print([fs.stat(temporary).kind, fs.stat(temporary).mode])
        fs.remove(temporary)
        "#
    );
    assert_eq!(
        prints(&text),
        [
            "[\"file\", 5, 416, \"instant\", true]",
            "[\"directory\", \"symlink\", 5, \"other\"]",
            "[\"hello\", 416]",
            "[false, \"hello\", [\"a.txt\", \"other\"], \"symlink\"]",
            "io_error: could not look at none: no such file or directory",
            "io_error: could not copy none: no such file or directory",
            "io_error: could not copy c.txt: none/x: no such file or directory",
            "io_error: could not copy e: is a directory",
            "io_error: could not copy c.txt: e: is a directory",
            "io_error: could not rename none: no such file or directory",
            "io_error: could not rename c.txt: e: is a directory",
            "[\".durable\", \"a.df\", \"c.txt\", \"e\"]",
            "[\"directory\", 448]",
        ]
    );
}

#[test]
fn folders_are_walked_through() {
    let text = format!(
        "{ATTEMPT}{}",
        r#"
        for dir in ["t/b/c", "t/.hidden", "t/a"] { fs.make_dir(dir) }
        for file in ["t/b/c/1.txt", "t/b/2.md", "t/a/3.txt", "t/.hidden/4.txt", "t/5.txt"] { fs.write(file, "") }
        exec.run("ln", ["-s", "../t", "t/loop"])
        print(fs.walk("t"))
        print(fs.walk("t/", {directories: true, depth: 1}))
        print(fs.walk("t", {hidden: true}).len())
        print(fs.glob("t/**/*.txt"))
        print(fs.glob("t/*"))
        print(fs.glob("t/?.txt") + fs.glob("t/[ab]/*.\{md,txt}"))
        print([fs.glob("t/**/*.txt", {hidden: true}).len(), fs.glob("t/.*/*"), fs.glob("none/*"), fs.glob("t/5.txt"), fs.glob("t/6.txt")])
        print(attempt(fn () => fs.walk("none")))
        print(attempt(fn () => fs.walk("t/5.txt")))
        print(attempt(fn () => fs.glob("t/[a")))
        print(attempt(fn () => fs.glob("\{".repeat(500))).starts_with("parse_error"))
        print(attempt(fn () => fs.glob("*".repeat(2_000))))
        "#
    );
    assert_eq!(
        prints(&text),
        [
            "[\"t/5.txt\", \"t/a/3.txt\", \"t/b/2.md\", \"t/b/c/1.txt\", \"t/loop\"]",
            "[\"t/5.txt\", \"t/a\", \"t/b\", \"t/loop\"]",
            "6",
            "[\"t/5.txt\", \"t/a/3.txt\", \"t/b/c/1.txt\"]",
            "[\"t/5.txt\", \"t/a\", \"t/b\", \"t/loop\"]",
            "[\"t/5.txt\", \"t/a/3.txt\", \"t/b/2.md\"]",
            "[4, [\"t/.hidden/4.txt\"], [], [\"t/5.txt\"], []]",
            "io_error: could not walk through none: no such file or directory",
            "io_error: could not walk through t/5.txt: not a directory",
            "parse_error: not a pattern of paths: unclosed character class; missing ']'",
            "true",
            "parse_error: not a pattern of paths: it has more than 1024 bytes",
        ]
    );
}

#[test]
fn lines_are_read_in_pieces() {
    let text = format!(
        "{ATTEMPT}{}",
        r#"
        fs.write("l.txt", "one\r\ntwo\n\nlast é")
        print(fs.lines("l.txt"))
        var seen = []
        for line in fs.lines("l.txt") {
          if line == "two" { continue }
          if line == "last é" { break }
          seen += [line]
        }
        print(seen)
        var at = 0
        while at != null {
          let {lines, next} = fs.some_lines("l.txt", {from: at, limit: 1})
          print([lines, next])
          at = next
        }
        print(fs.read_bytes("l.txt", {from: 5, limit: 3}).text())
        print(fs.read_bytes("l.txt", {from: 500}).len())
        // A line that is longer than a piece.
        fs.write("long.txt", "x".repeat(1_000_000) + "\ny\n")
        print(fs.lines("long.txt").map(len))
        fs.write("empty.txt", "")
        print(fs.lines("empty.txt"))
        fs.write("odd.txt", bytes.of([97, 10, 255, 10]))
        print(attempt(fn () => fs.lines("odd.txt")))
        print(attempt(fn () => fs.lines("none")))
        print(attempt(fn () => fs.lines(".")))
        print(attempt(fn () => fs.some_lines("l.txt", {limit: 0})))
        print(attempt(fn () => fs.some_lines("l.txt", {size: 1})))
        for {a, b} in fs.lines("l.txt").map(fn line => {a: line, b: 1}).take(1) { print([a, b]) }
        fn first(path) { for line in fs.lines(path) { return line } }
        print(first("l.txt"))
        "#
    );
    assert_eq!(
        prints(&text),
        [
            "[\"one\", \"two\", \"\", \"last é\"]",
            "[\"one\", \"\"]",
            "[[\"one\"], 5]",
            "[[\"two\"], 9]",
            "[[\"\"], 10]",
            "[[\"last é\"], null]",
            "two",
            "0",
            "[1000000, 1]",
            "[]",
            "io_error: could not read odd.txt: it is not utf-8 text at byte 2; `fs.read_bytes(path, {from, limit})` reads any file",
            "io_error: could not read none: no such file or directory",
            "io_error: could not read .: is a directory",
            "type_error: option `limit` is a number of bytes from 1 to 67,108,864, not 0",
            "type_error: `fs.some_lines` has no option `size` (its options are from, limit)",
            "[\"one\", 1]",
            "one",
        ]
    );
}

/// Runs a program while its peak memory is watched, in KiB.
fn peak(folder: &Path) -> u64 {
    let mut run = command(folder, &["run", "a.df", "--durability", "none"]).spawn().expect("durable runs");
    let mut most = 0;
    while run.try_wait().expect("its state").is_none() {
        let status = fs::read_to_string(format!("/proc/{}/status", run.id())).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
        let size = line.split_whitespace().nth(1).and_then(|text| text.parse().ok()).unwrap_or(0);
        most = most.max(size);
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    let mut said = String::new();
    run.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
    assert!(run.wait().expect("it ends").success(), "{said}");
    most
}

/// A file takes little memory when its lines are read and others are written, in an activity and in
/// an orchestration, whose history has the lines.
#[test]
fn a_large_file_takes_little_memory() {
    const LOOP: &str = r#"
        var part = []
        for line in fs.lines(from) {
          part += [line]
          if part.len() == 5000 { fs.append(to, part.join("\n") + "\n"); part = [] }
        }
        fs.append(to, part.join("\n"))
    "#;
    for kind in ["activity", "orchestration"] {
        let folder =
            folder(&format!("{kind} duplicate(from, to) {{ {LOOP} }}\nduplicate(\"big\", \"copy\")"));
        let mut file = File::create(folder.path().join("big")).expect("a file");
        let mut state: u64 = 1;
        for number in 0..480_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            writeln!(file, "{number} {state:x} {:x} the line has some words that are the same", state >> 7)
                .expect("it is written");
        }
        drop(file);
        let size = fs::metadata(folder.path().join("big")).expect("it is there").len();
        assert!(size > 38_000_000, "{size}");
        let most = peak(folder.path());
        assert!((1..50_000).contains(&most), "{kind}: {most} KiB");
        let read = |name: &str| fs::read(folder.path().join(name)).expect("a file");
        assert!(read("big") == read("copy"), "{kind}");
    }
}

/// A run that was killed goes on with the lines that it has read, whatever became of the file.
#[test]
fn a_killed_run_goes_on_in_the_middle_of_a_file() {
    let folder = folder("for line in fs.lines(\"big\") { print(line) }\nprint(\"end\")");
    let lines: String = (0..40_000).map(|n| format!("line number {n}\n")).collect();
    let big = folder.path().join("big");
    fs::write(&big, &lines).expect("a file");
    let expected: Vec<&str> = lines.lines().chain(["end"]).collect();
    let mut known = 0;
    for kill_at in [Some(7_000), Some(2_000), None] {
        let mut run = command(folder.path(), &["run", "a.df"]).spawn().expect("durable runs");
        let mut printed = Vec::new();
        for line in BufReader::new(run.stdout.take().expect("piped")).lines() {
            printed.push(line.expect("text"));
            if kill_at == Some(printed.len()) {
                run.kill().expect("it is killed");
            }
        }
        let ended = run.wait().expect("it ends").success();
        assert_eq!(ended, kill_at.is_none());
        // Lines whose record was lost come again, and none is left out.
        let first = expected.iter().position(|line| Some(*line) == printed.first().map(String::as_str));
        let first = first.expect("a line of the file");
        assert!(first <= known, "{first} after {known}");
        assert!(printed == expected[first..first + printed.len()], "from {first} on");
        known = known.max(first + printed.len());
        let changed = lines.replacen("line", "LINE", 1);
        fs::write(&big, changed).expect("a file");
    }
    assert_eq!(known, expected.len());
}

// ---- requests

/// Starts a server that gives the answers in turn, the last one again and again. Returns the port,
/// and a receiver of the requests with their bodies.
fn server(answers: &'static [&'static str]) -> (u16, Receiver<String>) {
    let server = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = server.local_addr().expect("an address").port();
    let (told, asked) = channel();
    std::thread::spawn(move || {
        for (number, stream) in server.incoming().enumerate() {
            let Ok(stream) = stream else { continue };
            let mut reader = BufReader::new(&stream);
            let (mut text, mut length, mut line) = (String::new(), 0, String::new());
            while reader.read_line(&mut line).unwrap_or(0) > 2 {
                if let Some(size) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
                    length = size.trim().parse().unwrap_or(0);
                }
                text.push_str(&line);
                line.clear();
            }
            let mut body = vec![0; length];
            let _ = reader.read_exact(&mut body);
            text.push_str(&String::from_utf8_lossy(&body));
            let _ = told.send(text);
            let answer = answers[number.min(answers.len() - 1)];
            let _ = (&stream).write_all(answer.as_bytes());
        }
    });
    (port, asked)
}

const FINE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nX-One: 1\r\nConnection: close\r\n\r\nhi";
const LATER: &str =
    "HTTP/1.1 429 Too Many Requests\r\nContent-Length: 4\r\nRetry-After: 0\r\nConnection: close\r\n\r\nlate";
const MUCH_LATER: &str =
    "HTTP/1.1 503 Unavailable\r\nContent-Length: 4\r\nRetry-After: 120\r\nConnection: close\r\n\r\nlate";

#[test]
fn bodies_may_be_forms_and_parts_of_files() {
    let (port, asked) = server(&[FINE]);
    let folder = folder(&format!(
        r#"
        let url = "http://127.0.0.1:{port}/"
        let r = http.post(url, null, {{form: {{name: "A & B", tag: ["x", "y"], none: null}}, headers: {{accept: ["a/b", "c/d"]}}}})
        print([r.headers["set-cookie"], r.headers["x-one"]])
        fs.write("photo.txt", "from a file")
        http.post(url, null, {{multipart: {{title: "T", raw: bytes.of("raw"), photo: {{file: "photo.txt", type: "text/plain"}}, made: {{content: "made", name: "m.bin"}}}}}})
        "#
    ));
    assert_eq!(prints_in(folder.path()), ["[[\"a=1\", \"b=2\"], \"1\"]"]);
    let form = asked.recv().expect("a request");
    assert!(form.contains("content-type: application/x-www-form-urlencoded\r\n"), "{form}");
    assert!(form.contains("accept: a/b\r\n") && form.contains("accept: c/d\r\n"), "{form}");
    assert!(form.ends_with("name=A+%26+B&tag=x&tag=y"), "{form}");
    let parts = asked.recv().expect("a request");
    for part in [
        "content-type: multipart/form-data; boundary=",
        "name=\"title\"\r\n\r\nT\r\n",
        "name=\"raw\"\r\n\r\nraw\r\n",
        "name=\"photo\"; filename=\"photo.txt\"\r\nContent-Type: text/plain\r\n\r\nfrom a file\r\n",
        "name=\"made\"; filename=\"m.bin\"\r\n\r\nmade\r\n",
    ] {
        assert!(parts.contains(part), "{part}\n{parts}");
    }
}

#[test]
fn downloads_go_to_files() {
    let (port, _asked) = server(&[FINE, MUCH_LATER, FINE, FINE]);
    let folder = folder(&format!(
        "{ATTEMPT}{}",
        format_args!(
            r#"
            let url = "http://127.0.0.1:{port}/"
            fs.make_dir("d")
            let r = http.download(url, "d/a")
            print([r.status, r.size, r.keys(), fs.read("d/a")])
            let late = http.download(url, "d/b")
            print([late.status, late.body, fs.exists("d/b"), http.retry_after(late)])
            print(attempt(fn () => http.download(url, "d/a", {{max_size: 1}})))
            print(attempt(fn () => http.download(url, "none/a")))
            print([fs.read("d/a"), fs.list("d")])
            "#
        )
    ));
    assert_eq!(
        prints_in(folder.path()),
        [
            "[200, 2, [\"status\", \"headers\", \"size\"], \"hi\"]".to_string(),
            "[503, \"late\", false, 2m]".to_string(),
            format!(
                "http_error: http://127.0.0.1:{port}/: the body is larger than 1 bytes; option `max_size` allows more"
            ),
            "io_error: could not write none/a: no such file or directory".to_string(),
            "[\"hi\", [\"a\"]]".to_string(),
        ]
    );
}

#[test]
fn a_server_that_asks_to_wait_is_waited_for() {
    let (port, asked) = server(&[LATER, LATER, FINE, LATER, MUCH_LATER]);
    let folder = folder(&format!(
        r#"
        let url = "http://127.0.0.1:{port}/"
        print(http.get(url, {{retry_after: 10s}}).body)
        print(http.get(url).status)
        // The server asks for more than the program has.
        print(http.get(url, {{retry_after: 10s}}).status)
        "#
    ));
    assert_eq!(prints_in(folder.path()), ["hi", "429", "503"]);
    assert_eq!(asked.try_iter().count(), 5);
}

#[test]
fn mistakes_in_requests_are_named() {
    let (port, _asked) = server(&[FINE]);
    let text = format!(
        "{ATTEMPT}{}",
        format_args!(
            r#"
            print(attempt(fn () => http.get("127.0.0.1:8123/")))
            print(attempt(fn () => http.get("localhost:8123/")))
            print(attempt(fn () => http.get("ftp://a/")))
            print(attempt(fn () => http.get("https://127.0.0.1:{port}/")))
            print(attempt(fn () => http.get("http://a/", {{header: {{}}}})))
            print(attempt(fn () => http.download("http://a/", "x", {{form: {{}}}})))
            print(attempt(fn () => http.post("http://a/", "x", {{form: {{a: 1}}}})))
            print(attempt(fn () => http.post("http://a/", null, {{multipart: {{a: {{path: "x"}}}}}})))
            print(attempt(fn () => http.post("http://127.0.0.1:{port}/", null, {{multipart: {{a: {{file: "none"}}}}}})))
            "#
        )
    );
    assert_eq!(
        prints(&text),
        [
            "http_error: 127.0.0.1:8123/: a URL begins with http:// or https://".to_string(),
            "http_error: localhost:8123/: a URL begins with http:// or https://".to_string(),
            "http_error: ftp://a/: a URL begins with http:// or https://".to_string(),
            format!("http_error: https://127.0.0.1:{port}/: the server does not speak TLS; with http:// it may answer"),
            "type_error: `http` has no option `header`; did you mean `headers`? (its options are headers, timeout, max_size, redirects, query, form, multipart, retry_after)".to_string(),
            "type_error: `http.download` has no option `form` (its options are headers, timeout, max_size, redirects, query, retry_after)".to_string(),
            "type_error: a request has one body: an argument, or option `form`, or option `multipart`".to_string(),
            "type_error: a part of `multipart` has no option `path` (its options are file, content, name, type)".to_string(),
            "io_error: could not read none: no such file or directory".to_string(),
        ]
    );
}

// ---- programs

#[test]
fn programs_have_inputs_outputs_and_variables() {
    let folder = folder(&format!(
        "{ATTEMPT}{}",
        r#"
        fs.write("in.txt", "from a file")
        print(exec("cat", [], {input_file: "in.txt"}).stdout)
        let r = exec("sh", ["-c", "echo out; echo err >&2"], {output_file: "out.txt"})
        print([r.stdout, r.stderr, fs.read("out.txt")])
        print(exec("sh", ["-c", "echo [$GIVEN] [$KEPT]"], {env: {GIVEN: null, KEPT: "k"}}).stdout)
        print(attempt(fn () => exec("true", [], {dir: "none"})))
        print(attempt(fn () => exec("none-such", [])))
        print(attempt(fn () => exec("cat", [], {input_file: "none"})))
        print(attempt(fn () => exec("cat", [], {input: "a", input_file: "in.txt"})))
        print(attempt(fn () => exec("true", [], {env: {A: 1}})))
        print(attempt(fn () => exec("true", [], {cwd: "x"})))
        "#
    ));
    let output = command(folder.path(), &["run", "a.df"]).env("GIVEN", "g").output().expect("durable runs");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let expected = [
        "from a file",
        "[\"\", \"err\\n\", \"out\\n\"]",
        "[] [k]",
        "",
        "io_error: could not run true: its folder none does not exist (option `dir`)",
        "io_error: could not run none-such: no such file or directory",
        "io_error: could not read none: no such file or directory",
        "type_error: options `input` and `input_file` exclude each other",
        "type_error: option `env` is a record of strings; null unsets a variable, not 1",
        "type_error: `exec` has no option `cwd` (its options are dir, env, input, input_file, output_file, timeout)",
    ];
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(printed.lines().collect::<Vec<_>>(), expected, "{said}");
}

#[test]
fn lines_of_a_program_come_while_it_runs() {
    let text = format!(
        "{ATTEMPT}{}",
        r#"
        // The program ends only when its first line was seen.
        exec.each_line("sh", ["-c", "echo first; while [ ! -e seen ]; do sleep 0.01; done; printf 'second\\nthird'"], {timeout: 20s}, fn line {
          print(line)
          fs.write("seen", "")
        })
        print(attempt(fn () => exec.each_line("sh", ["-c", "echo a; echo odd >&2; exit 3"], {}, fn line { print(line) })))
        print(attempt(fn () => exec.each_line("none-such", [], {}, fn line => null)))
        print(attempt(fn () => exec.each_line("sleep", ["60"], {timeout: 200ms}, fn line => null)))
        print(attempt(fn () => exec.each_line("echo", ["x"], {}, fn line { throw {kind: "mine", message: line} })))
        print(attempt(fn () => exec.each_line("true", [], {output_file: "x"}, fn line => null)))
        activity count() {
          var n = 0
          exec.each_line("seq", ["100000"], {}, fn line { n += 1 })
          n
        }
        print(count())
        "#
    );
    assert_eq!(
        prints(&text),
        [
            "first",
            "second",
            "third",
            "a",
            "exec_error: sh ended with status 3: odd",
            "io_error: could not run none-such: no such file or directory",
            "timeout: sleep was not done within 200ms",
            "mine: x",
            "type_error: `exec.each_line` has no option `output_file`; did you mean `input_file`? (its options are dir, env, input, input_file, timeout)",
            "100000",
        ]
    );
}

/// Returns the processes whose command line ends with an argument.
fn processes(mark: &str) -> usize {
    let all = fs::read_dir("/proc").expect("/proc").flatten();
    let lines = all.map(|entry| fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default());
    lines.filter(|line| line.ends_with(&format!("{mark}\0"))).count()
}

#[test]
fn a_program_ends_with_the_reader_of_its_lines() {
    for (number, text) in [
        "exec.each_line(\"sh\", [\"-c\", LOOP, \"MARK\"], {}, fn line => false)",
        "try { exec.each_line(\"sh\", [\"-c\", LOOP, \"MARK\"], {}, fn line { throw \"no\" }) } catch _ { null }",
        "task.timeout(300ms, fn () => exec.each_line(\"sh\", [\"-c\", LOOP, \"MARK\"], {}, fn line { sleep(1h) }))",
        "activity slow() with {timeout: 300ms} { exec.each_line(\"sh\", [\"-c\", LOOP, \"MARK\"], {}, fn line { sleep(1h) }) }\nslow()",
    ]
    .into_iter()
    .enumerate()
    {
        let mark = format!("mark-{number}-{}", std::process::id());
        let loops = "\"echo a; while true; do sleep 0.05; done\"";
        let last = "\nprint(\"waits\")\nsleep(10s)";
        let text = text.replace("LOOP", loops).replace("MARK", &mark);
        let text = if text.contains("slow()") {
            text.replace("\nslow()", "\ntry { slow() } catch _ { null }")
        } else {
            format!("try {{ {text} }} catch _ {{ null }}")
        };
        let folder = folder(&(text + last));
        let mut run = command(folder.path(), &["run", "a.df"]).spawn().expect("durable runs");
        let mut line = String::new();
        BufReader::new(run.stdout.take().expect("piped")).read_line(&mut line).expect("text");
        assert_eq!(line, "waits\n", "{number}");
        let began = std::time::Instant::now();
        while processes(&mark) > 0 {
            assert!(began.elapsed().as_secs() < 5, "{number}: it goes on");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        run.kill().expect("it is killed");
        run.wait().expect("it ends");
    }
}

#[test]
fn a_program_whose_reader_was_killed_is_interrupted() {
    let folder = folder(
        r#"
        let direct = try { exec.each_line("sh", ["-c", "echo ready; sleep 20"], {}, fn line { print(line) }) } catch e { e }
        print([direct.kind, direct.program])
        "#,
    );
    let mut run = command(folder.path(), &["run", "a.df"]).spawn().expect("durable runs");
    let mut line = String::new();
    let mut out = BufReader::new(run.stdout.take().expect("piped"));
    out.read_line(&mut line).expect("text");
    assert_eq!(line, "ready\n");
    run.kill().expect("it is killed");
    run.wait().expect("it ends");
    let again = self::run(folder.path());
    let printed = String::from_utf8_lossy(&again.stdout);
    let said = String::from_utf8_lossy(&again.stderr);
    assert!(printed.ends_with("[\"interrupted\", \"sh\"]\n"), "{printed}{said}");
}

#[test]
fn a_copy_keeps_the_mode_and_leaves_nothing_behind() {
    let folder = folder("fs.copy(\"tool\", \"other\")\nprint(fs.list(\".\"))");
    let tool = folder.path().join("tool");
    fs::write(&tool, "#!/bin/sh\n").expect("a file");
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o750)).expect("a mode");
    assert_eq!(prints_in(folder.path()), ["[\".durable\", \"a.df\", \"other\", \"tool\"]"]);
    let mode = fs::metadata(folder.path().join("other")).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o750);
}
