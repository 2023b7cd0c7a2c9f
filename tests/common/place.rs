//! A folder with a program and a store, for tests of the command line.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value as Json;
use tempfile::TempDir;

use super::DURABLE;

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
        self.command(args).output().expect("durable runs")
    }

    pub fn code(&self, args: &[&str]) -> i32 {
        self.run(args).status.code().unwrap_or(-1)
    }

    /// Runs a command that must succeed. Returns standard output without the last line break.
    pub fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{args:?}\n{out}{err}");
        out.trim_end().to_string()
    }

    /// Runs a command that must fail with the given code. Returns standard error.
    pub fn refused(&self, code: i32, args: &[&str]) -> String {
        let output = self.run(args);
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{args:?}\n{err}");
        err
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
        let mut command = self.command(&["serve"]);
        let child = command.args(more).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let server = Server(child.expect("durable runs"));
        await_that(|| self.path().join(".durable/socket").exists());
        server
    }
}

/// A server that is killed when this value is dropped.
pub struct Server(Child);

impl Server {
    pub fn kill(mut self) {
        self.0.kill().expect("killed");
        self.0.wait().expect("ended");
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

/// Waits until a condition holds. Fails the test after a minute, which is long enough for any
/// condition that will ever hold.
#[track_caller]
pub fn await_that(mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(60), "it never came to hold");
        std::thread::sleep(Duration::from_millis(5));
    }
}
