//! Every program in `examples` runs as its comment says.

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use common::{DURABLE, repository};
use tempfile::TempDir;

fn run(folder: &Path, example: &str, args: &[&str], input: &str) -> Output {
    let mut child = Command::new(DURABLE)
        .current_dir(folder)
        .arg("run")
        .arg(repository("examples").join(example))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("durable runs");
    // A program may end without reading its input.
    let _ = child.stdin.take().expect("stdin").write_all(input.as_bytes());
    let output = child.wait_with_output().expect("durable ends");
    assert!(output.status.success(), "{example}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

fn lines(output: &Output) -> Vec<String> {
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_string).collect()
}

#[test]
fn every_example_is_tested() {
    let mut names: Vec<String> = fs::read_dir(repository("examples"))
        .expect("the examples")
        .map(|file| file.expect("a file").file_name().to_string_lossy().into_owned())
        .filter(|name| name.ends_with(".df"))
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            "approval.df",
            "backup.df",
            "bank.df",
            "download.df",
            "greet.df",
            "release.df",
            "shop.df",
            "summarise.df",
            "word_count.df"
        ]
    );
}

/// The tests of the program mock the activities of its Rust program; `tests/embedding.rs` runs
/// both.
#[test]
fn shop() {
    let output = Command::new(DURABLE)
        .args(["test", "--crash"])
        .arg(repository("examples/shop.df"))
        .output()
        .expect("durable runs");
    assert!(String::from_utf8_lossy(&output.stdout).contains("3 passed"));
}

#[test]
fn greet() {
    let folder = TempDir::new().expect("a folder");
    let output = run(folder.path(), "greet.df", &["Oslo"], "");
    assert_eq!(lines(&output), ["Hello, Oslo!"]);
}

#[test]
fn summarise() {
    let folder = TempDir::new().expect("a folder");
    let orders = repository("examples/data/orders");
    let output = run(folder.path(), "summarise.df", &[&orders.display().to_string()], "");
    let lines = lines(&output);
    assert_eq!(lines[0], "9 orders in 4 files");
    assert_eq!(lines[1], "bread          5      15.50");
    assert_eq!(lines.last().map(String::as_str), Some("total 90.60"));
}

#[test]
fn word_count() {
    let folder = TempDir::new().expect("a folder");
    fs::write(folder.path().join("a.txt"), "The cat and the dog.\n").expect("a text");
    fs::write(folder.path().join("b.md"), "the end").expect("a text");
    let output = run(folder.path(), "word_count.df", &[".", "2"], "");
    assert_eq!(lines(&output), ["7 words, 5 different, in 2 files", "     3 the", "     1 and"]);
}

#[test]
fn word_count_of_real_text() {
    let folder = TempDir::new().expect("a folder");
    let output = run(folder.path(), "word_count.df", &[&repository("docs").display().to_string(), "3"], "");
    let first = lines(&output)[0].split(' ').next().expect("a number").parse::<u64>().expect("a number");
    assert!(first > 3_000, "{first} words");
}

#[test]
fn backup() {
    let folder = TempDir::new().expect("a folder");
    fs::create_dir(folder.path().join("data")).expect("a folder");
    fs::write(folder.path().join("data/x"), "x").expect("a file");
    let input = r#"{"from": "data", "to": "packages", "nights": 4, "keep": 2, "pause": 5}"#;
    let output = run(folder.path(), "backup.df", &["--input", input], "");
    assert_eq!(lines(&output), ["night 1 done", "night 2 done", "night 3 done", "night 4 done"]);
    let packages = fs::read_dir(folder.path().join("packages")).expect("the packages").count();
    assert_eq!(packages, 2);
    let listed = Command::new("tar")
        .current_dir(folder.path())
        .args(["-tzf"])
        .arg(newest(&folder.path().join("packages")))
        .output();
    assert!(String::from_utf8_lossy(&listed.expect("tar runs").stdout).contains("data/x"));
}

fn newest(folder: &Path) -> std::path::PathBuf {
    let mut paths: Vec<_> =
        fs::read_dir(folder).expect("a folder").map(|file| file.expect("a file").path()).collect();
    paths.sort();
    paths.pop().expect("a file")
}

#[test]
fn release() {
    let folder = TempDir::new().expect("a folder");
    let output = run(folder.path(), "release.df", &["1.4.0"], "perhaps\nyes\ny\n");
    assert_eq!(lines(&output).last().map(String::as_str), Some("1.4.0 can be released"));
    assert!(
        fs::read_to_string(folder.path().join("release-1.4.0.json"))
            .expect("a file")
            .contains("\"version\": \"1.4.0\"")
    );
}

/// A server that fails at first: it answers 503, then closes a connection without an answer.
#[test]
fn download_from_a_server_that_fails_at_first() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let base = format!("http://{}", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let mut stream = stream.expect("a connection");
            let mut reader = BufReader::new(stream.try_clone().expect("a stream"));
            let mut request = String::new();
            reader.read_line(&mut request).expect("a request");
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|n| n > 2) {
                line.clear();
            }
            let answer = |status: &str, body: &str| {
                format!(
                    "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                )
            };
            let text = match number {
                0 => answer("503 Service Unavailable", "not yet"),
                1 => continue, // closed without an answer
                _ if request.contains("missing") => answer("404 Not Found", ""),
                _ => answer("200 OK", &format!("this is {}", request.split(' ').nth(1).unwrap_or_default())),
            };
            let _ = stream.write_all(text.as_bytes());
        }
    });
    let folder = TempDir::new().expect("a folder");
    let output = run(folder.path(), "download.df", &[&base, "files", "a.txt", "b.txt", "missing.txt"], "");
    assert_eq!(
        lines(&output),
        [
            format!("{base}/a.txt has 14 characters"),
            format!("{base}/b.txt has 14 characters"),
            format!("{base}/missing.txt failed: status 404"),
        ]
    );
    assert_eq!(fs::read_to_string(folder.path().join("files/a.txt")).expect("a file"), "this is /a.txt");
}

#[test]
fn bank() {
    let folder = TempDir::new().expect("a folder");
    let output = run(folder.path(), "bank.df", &[], "");
    let lines = lines(&output);
    assert_eq!(lines[..2], ["30 from ada to bob", "50 from bob to cleo"]);
    assert!(lines[2].starts_with("refused: ") && lines[4].ends_with("300 in all"), "{lines:?}");
}

/// A transfer killed in the middle of its critical section resumes, and nothing stays locked.
#[test]
fn bank_killed_in_its_critical_section() {
    let folder = TempDir::new().expect("a folder");
    let at = folder.path();
    let durable = |args: &[&str]| {
        let output = Command::new(DURABLE).current_dir(at).args(args).output().expect("durable runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let bank = repository("examples/bank.df");
    let bank = bank.to_str().expect("a path");
    let mut first = Command::new(DURABLE)
        .current_dir(at)
        .args(["run", bank])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("durable runs");
    while !durable(&["locks", "--json"]).contains("held_by") {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    first.kill().expect("killed");
    first.wait().expect("ended");
    assert!(durable(&["locks"]).contains("Account@"));
    let second = run(at, "bank.df", &[], "");
    assert!(lines(&second).last().expect("a line").ends_with("300 in all"));
    assert_eq!(durable(&["locks", "--json"]), "");
}

#[test]
fn approval() {
    let folder = TempDir::new().expect("a folder");
    let output = run(folder.path(), "approval.df", &[], "");
    assert_eq!(
        lines(&output),
        [
            "{what: \"tea\", n: 3, approved_by: \"ada\"}",
            "refused: bob said no",
            "timeout: nobody has answered",
            "7 tea left"
        ]
    );
}
