//! A server process, and its measurements by the operating system.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::durable;
use crate::report::Sample;

/// Clock ticks in a second of processor time, in the unit that Linux reports to programs.
const TICKS: f64 = 100.0;

pub struct Server {
    folder: PathBuf,
    port: u16,
    process: Child,
    /// The processor time of the earlier lives, in seconds.
    processor: f64,
}

/// Returns the path of the store of a server's folder.
pub fn store(folder: &Path) -> PathBuf {
    folder.join(".durable")
}

impl Server {
    pub fn begin(folder: &Path, port: u16) -> Server {
        fs::create_dir_all(folder).expect("a folder");
        let process = serve(folder, port);
        let mut server = Server { folder: folder.to_path_buf(), port, process, processor: 0.0 };
        server.answers();
        server
    }

    /// Waits until the server answers.
    fn answers(&mut self) {
        let began = Instant::now();
        while UnixStream::connect(store(&self.folder).join("socket")).is_err() {
            if let Some(status) = self.ended() {
                panic!("a server did not begin: {status}, see {}", self.folder.join("log").display());
            }
            assert!(began.elapsed() < crate::DEAF, "a server does not answer");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Ends the server and starts it again. Returns the milliseconds from the start until it
    /// answers.
    pub fn begins_again(&mut self, in_order: bool) -> f64 {
        self.processor += used(self.process.id());
        match in_order {
            true => self.stop(),
            false => {
                self.process.kill().expect("it is killed");
                self.process.wait().expect("it has ended");
            }
        }
        let began = Instant::now();
        self.process = serve(&self.folder, self.port);
        self.answers();
        began.elapsed().as_secs_f64() * 1e3
    }

    fn stop(&mut self) {
        kill(Pid::from_raw(self.process.id() as i32), Signal::SIGTERM).expect("it is told");
        let status = self.process.wait().expect("it ends");
        assert!(status.success(), "a server that is told to end: {status}");
    }

    pub fn ends_in_order(mut self) {
        self.stop();
    }

    /// Returns the server's exit status, or `None` while it runs.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.process.try_wait().expect("its state")
    }

    /// Returns the processor time of all lives, in seconds.
    pub fn processor(&self) -> f64 {
        self.processor + used(self.process.id())
    }

    pub fn sample(&self) -> Sample {
        let id = self.process.id();
        let (mut bytes, mut files) = (0, 0);
        size(&store(&self.folder), &mut bytes, &mut files);
        Sample {
            memory: status(id, "VmRSS:") as f64 / 1024.0,
            descriptors: entries(&format!("/proc/{id}/fd")),
            threads: entries(&format!("/proc/{id}/task")),
            bytes: bytes as f64 / (1 << 20) as f64,
            files,
            ..Sample::default()
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn serve(folder: &Path, port: u16) -> Child {
    let log = fs::OpenOptions::new().create(true).append(true).open(folder.join("log")).expect("a log");
    durable()
        .current_dir(folder)
        .arg("serve")
        .env("SOAK_PORT", port.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("durable runs")
}

fn entries(folder: &str) -> u64 {
    fs::read_dir(folder).map_or(0, |entries| entries.count() as u64)
}

/// Returns a number from a process's `/proc` status. Sizes are in kilobytes.
fn status(id: u32, name: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.trim().split(' ').next()?.parse().ok()).unwrap_or(0)
}

/// Returns the processor time of a process, in seconds.
pub fn used(id: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let field = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
    (field(11) + field(12)) / TICKS
}

/// Adds the bytes that a folder takes on the disk, and the number of its files. Files that
/// disappear meanwhile are not counted.
fn size(folder: &Path, bytes: &mut u64, files: &mut u64) {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        match entry.metadata() {
            Ok(data) if data.is_dir() => size(&entry.path(), bytes, files),
            Ok(data) => {
                *bytes += data.blocks() * 512;
                *files += 1;
            }
            Err(_) => {}
        }
    }
}
