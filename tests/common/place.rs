//! A folder with a program and a store, for tests of the command line, and commands in any folder.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value as Json;
use tempfile::TempDir;

use super::DURABLE;

/// Runs a command in a folder.
pub fn durable(folder: &Path, args: &[&str]) -> Output {
    Command::new(DURABLE).current_dir(folder).args(args).stdin(Stdio::null()).output().expect("durable runs")
}

/// Runs `durable debug` with commands, and returns what it prints.
pub fn debug(folder: &Path, args: &[&str], commands: &str) -> String {
    let mut child = Command::new(DURABLE)
        .current_dir(folder)
        .arg("debug")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("durable runs");
    child.stdin.take().expect("stdin").write_all(commands.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{:?}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs a command that must succeed. Returns standard output without the last line break.
#[track_caller]
pub fn ok(folder: &Path, args: &[&str]) -> String {
    let output = durable(folder, args);
    assert!(output.status.success(), "{args:?}\n{}{}", out(&output), err(&output));
    out(&output).trim_end().to_string()
}

pub fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub struct Place {
    folder: TempDir,
}

impl Place {
    /// Makes a place with `p.df`.
    pub fn new(text: &str) -> Place {
        let place = Place { folder: TempDir::new().expect("a folder") };
        place.put("p.df", text);
        place
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn put(&self, name: &str, text: &str) {
        fs::write(self.path().join(name), text).expect("a file is written");
    }

    /// Returns the text of a file, or an empty text if there is no such file.
    pub fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path().join(name)).unwrap_or_default()
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(DURABLE);
        command.current_dir(self.path()).args(args).stdin(Stdio::null());
        command
    }

    pub fn run(&self, args: &[&str]) -> Output {
        durable(self.path(), args)
    }

    pub fn code(&self, args: &[&str]) -> i32 {
        self.run(args).status.code().unwrap_or(-1)
    }

    /// Runs a command that must succeed. Returns standard output without the last line break.
    #[track_caller]
    pub fn ok(&self, args: &[&str]) -> String {
        ok(self.path(), args)
    }

    /// Runs a command that must fail with the given code. Returns standard error.
    pub fn refused(&self, code: i32, args: &[&str]) -> String {
        let output = self.run(args);
        assert_eq!(output.status.code(), Some(code), "{args:?}\n{}", err(&output));
        err(&output)
    }

    /// Returns the result of an instance that must complete.
    pub fn result(&self, id: &str) -> Json {
        let line = self.ok(&["wait", id, "--json"]);
        let line = line.lines().last().expect("a line");
        let json: Json = serde_json::from_str(line).expect("JSON");
        json["result"].clone()
    }

    pub fn status(&self, id: &str) -> String {
        self.ok(&["status", id])
    }

    /// Returns the entries of a history, as JSON.
    pub fn history(&self, id: &str) -> Vec<Json> {
        let text = self.ok(&["history", id, "--json"]);
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    pub fn serve(&self) -> Server {
        self.serve_with(&[])
    }

    pub fn serve_with(&self, more: &[&str]) -> Server {
        Server::with(self.path(), more, Stdio::null())
    }

    /// Starts a server whose messages are added to the file `log`.
    pub fn serve_logged(&self, more: &[&str]) -> Server {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.path().join("log"));
        Server::with(self.path(), more, log.expect("a log"))
    }
}

/// Asks an HTTP server at an address of this machine with a token. Returns the code and the body.
pub fn http_get(address: &str, path: &str, token: &str) -> (u16, Json) {
    let mut stream = TcpStream::connect(address).expect("a server");
    let head = format!(
        "GET {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).expect("it reads");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a code");
    (code, serde_json::from_str(body).unwrap_or_default())
}

/// Returns the token for everything in a file of tokens.
pub fn admin_token(text: &str) -> String {
    let line = text.lines().find(|line| line.starts_with("admin ")).expect("a token");
    line.trim_start_matches("admin ").trim().to_string()
}

/// A server that is killed when this value is dropped.
pub struct Server(Child);

impl Server {
    /// Starts a server on the store in a folder, which listens when this returns.
    pub fn new(folder: &Path) -> Server {
        Server::with(folder, &[], Stdio::null())
    }

    /// Starts a server with options, whose messages go to `stderr`.
    pub fn with(folder: &Path, options: &[&str], stderr: impl Into<Stdio>) -> Server {
        let mut command = Command::new(DURABLE);
        command.current_dir(folder).arg("serve").args(options);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr).spawn();
        let server = Server(child.expect("durable runs"));
        // The socket of a server that was killed is still there.
        await_that(|| UnixStream::connect(folder.join(".durable/socket")).is_ok());
        server
    }

    /// Returns the number of the process.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    pub fn kill(mut self) {
        self.0.kill().expect("killed");
        self.0.wait().expect("ended");
    }

    pub fn end(self, by_force: bool) {
        if by_force { self.kill() } else { self.stop() }
    }

    /// Stops the server by SIGTERM.
    pub fn stop(mut self) {
        let id = self.0.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().expect("kill runs").success());
        self.0.wait().expect("ended");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until a condition holds. Fails the test after two minutes, which is long enough for any
/// condition that will ever hold.
#[track_caller]
pub fn await_that(mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(120), "it never came to hold");
        std::thread::sleep(Duration::from_millis(5));
    }
}
