//! What programs may do outside: what is refused is an error with the flag that would allow it, and is not done.

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;

use common::DURABLE;
use tempfile::TempDir;

const PROGRAM: &str = r#"
activity read(path) => fs.read(path)
fn attempt(f) => try { f() } catch {kind, message, ..} { "{kind}: {message}" }
print(attempt(fn () => read("data/a.txt")))
print(attempt(fn () => fs.read("b.txt")))
print(attempt(fn () => fs.write("data/../c.txt", "no")))
print(attempt(fn () => exec.run("true", [])))
print(attempt(fn () => env("SECRET")))
print(attempt(fn () => http.get("http://127.0.0.1:1/").status))
"#;

fn run(folder: &TempDir, options: &[&str]) -> (i32, Vec<String>, String) {
    let output = Command::new(DURABLE)
        .args(["run", "--store", "store"])
        .args(options)
        .arg("a.df")
        .env("SECRET", "hidden")
        .current_dir(folder.path())
        .output()
        .expect("it runs");
    fs::remove_dir_all(folder.path().join("store")).ok();
    let lines = String::from_utf8_lossy(&output.stdout).lines().map(str::to_string).collect();
    (output.status.code().unwrap_or(-1), lines, String::from_utf8_lossy(&output.stderr).into_owned())
}

fn folder() -> TempDir {
    let folder = TempDir::new().expect("a folder");
    fs::create_dir(folder.path().join("data")).expect("a folder");
    fs::write(folder.path().join("data/a.txt"), "inside").expect("a file");
    fs::write(folder.path().join("b.txt"), "outside").expect("a file");
    fs::write(folder.path().join("a.df"), PROGRAM).expect("a program");
    folder
}

#[test]
fn without_a_word_all_is_allowed() {
    let folder = folder();
    let (code, lines, error) = run(&folder, &[]);
    assert_eq!(code, 0, "{error}");
    assert_eq!(lines[..2], ["inside", "outside"]);
    assert_eq!(lines[4], "hidden");
    assert!(lines[5].starts_with("http_error"), "{lines:?}");
    assert_eq!(fs::read_to_string(folder.path().join("c.txt")).expect("it was written"), "no");
}

#[test]
fn what_is_not_allowed_is_refused_and_not_done() {
    let folder = folder();
    let (code, lines, error) = run(&folder, &["--allow", "fs=data,env=HOME"]);
    assert_eq!(code, 0, "{error}");
    assert_eq!(lines[0], "inside");
    assert_eq!(lines[1], "not_permitted: `b.txt` is not allowed; `--allow fs=b.txt` would allow it");
    assert!(lines[2].starts_with("not_permitted: `data/../c.txt`"), "{lines:?}");
    assert_eq!(lines[3], "not_permitted: `true` is not allowed; `--allow exec=true` would allow it");
    assert_eq!(lines[4], "not_permitted: `SECRET` is not allowed; `--allow env=SECRET` would allow it");
    assert_eq!(
        lines[5],
        "not_permitted: `127.0.0.1:1` is not allowed; `--allow net=127.0.0.1:1` would allow it"
    );
    assert!(!folder.path().join("c.txt").exists());
}

#[test]
fn the_folder_has_settings_of_its_own() {
    let folder = folder();
    let settings = folder.path().join("durable.toml");
    fs::write(&settings, "[permissions]\nallow = [\"fs\", \"net\"]\ndeny = [\"fs=b.txt\"]\n")
        .expect("a file");
    let (_, lines, error) = run(&folder, &[]);
    assert_eq!(lines[0], "inside", "{error}");
    assert!(lines[1].starts_with("not_permitted: `b.txt` is denied"), "{lines:?}");
    assert!(lines[3].starts_with("not_permitted"), "{lines:?}");
    // The command line says more, but what is denied stays so.
    let (_, lines, _) = run(&folder, &["--allow", "fs,exec"]);
    assert!(lines[1].starts_with("not_permitted") && lines[3].is_empty(), "{lines:?}");
    fs::write(&settings, "[permission]\n").expect("a file");
    let (code, _, error) = run(&folder, &[]);
    assert_eq!(code, 2);
    assert!(error.contains("durable.toml:1: unknown field `permission`"), "{error}");
    let (code, _, error) = run(&folder, &["--allow", "network"]);
    assert_eq!(code, 2, "{error}");
}

#[test]
fn a_redirect_goes_only_where_a_request_may() {
    let server = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = server.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for stream in server.incoming() {
            let mut stream = stream.expect("a connection");
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(
                b"HTTP/1.1 302 Found\r\nLocation: http://localhost:1/\r\nContent-Length: 0\r\n\r\n",
            );
        }
    });
    let folder = folder();
    fs::write(folder.path().join("a.df"), format!("http.get(\"http://127.0.0.1:{port}/\")"))
        .expect("a program");
    let (code, _, error) = run(&folder, &["--allow", &format!("net=127.0.0.1:{port}")]);
    assert_eq!(code, 1);
    assert!(error.contains("`localhost:1` is not allowed"), "{error}");
}
