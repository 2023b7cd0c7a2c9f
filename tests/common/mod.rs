//! Helpers that the test suites share.

#![allow(dead_code)]

pub mod callers;
pub mod cluster;
pub mod crowd;
pub mod database;
pub mod driver;
pub mod interventions;
pub mod operator;
pub mod orders;
pub mod outside;
pub mod partition;
pub mod place;
pub mod postgres;
pub mod program;
pub mod promises;
pub mod querying;
pub mod sim;
pub mod steps;
pub mod tree;
pub mod workers;
pub mod worlds;

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};

use durable::check;
use durable::code::{Code, compile};
use durable::core::lower;
use durable::machine::Image;

/// The path of the built program.
pub const DURABLE: &str = env!("CARGO_BIN_EXE_durable");

/// Returns a path within the repository.
pub fn repository(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Returns the files of a folder of the repository, in order.
pub fn files(folder: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(repository(folder)).expect("the folder");
    let mut paths: Vec<_> = entries.map(|file| file.expect("a file").path()).collect();
    paths.sort();
    paths
}

/// Returns the files below a folder of the repository that have a file extension, in order.
pub fn files_below(folder: &str, end: &str) -> Vec<PathBuf> {
    let (folders, mut all): (Vec<_>, Vec<_>) = files(folder).into_iter().partition(|path| path.is_dir());
    all.retain(|path| path.extension().is_some_and(|known| known == end));
    for folder in folders {
        all.extend(files_below(&folder.display().to_string(), end));
    }
    all
}

/// Calls a function with each element, by two threads. Returns the results in the order of the
/// elements.
pub fn by_two_threads<T: Send, R: Send>(
    all: impl IntoIterator<Item = T>,
    each: impl Fn(T) -> R + Sync,
) -> Vec<R> {
    let ahead = Mutex::new(all.into_iter().enumerate().collect::<VecDeque<_>>());
    let done = Mutex::new(Vec::new());
    let worker = || {
        loop {
            let next = ahead.lock().expect("no thread broke down").pop_front();
            let Some((at, one)) = next else { break };
            let result = each(one);
            done.lock().expect("no thread broke down").push((at, result));
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(worker);
        scope.spawn(worker);
    });
    let mut done = done.into_inner().expect("no thread broke down");
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}

/// Returns settings for snapshots with names of their own and without their expressions.
pub fn snapshots() -> insta::Settings {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings
}

/// A generator of numbers from a seed (SplitMix64, Steele and others 2014).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number from 0 up to but not including `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    /// Returns true once in `n` times.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// Returns a value from the environment, by which longer searches are set, or the given default.
pub fn setting<T: std::str::FromStr>(name: &str, otherwise: T) -> T {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(otherwise)
}

/// Compiles a program that imports no files.
pub fn image(text: &str) -> Rc<Image> {
    image_with(text, |_| ())
}

/// Compiles a program as [`image`] does, and changes its code.
pub fn image_with(text: &str, change: impl FnOnce(&mut Code)) -> Rc<Image> {
    let program = check::load("sim.df", text.to_string(), &|_: &str| Err("no files".to_string()));
    let errors: Vec<_> =
        program.diagnostics.iter().filter(|d| d.severity == durable::syntax::Severity::Error).collect();
    assert!(errors.is_empty(), "{text}\n{errors:?}");
    let mut code = compile(&lower(&program), &program).expect("the program compiles");
    change(&mut code);
    Image::new(code.into()).expect("its constants have values")
}

/// Starts a server that answers each request by a function of its port. Returns the port, and a
/// receiver of the requests.
pub fn server(answer: impl Fn(u16) -> String + Send + 'static) -> (u16, Receiver<String>) {
    let server = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = server.local_addr().expect("an address").port();
    let (told, asked) = channel();
    std::thread::spawn(move || {
        for stream in server.incoming() {
            let mut stream = stream.expect("a connection");
            let mut bytes = [0; 8192];
            let read = stream.read(&mut bytes).unwrap_or(0);
            let _ = told.send(String::from_utf8_lossy(&bytes[..read]).into_owned());
            let _ = stream.write_all(answer(port).as_bytes());
        }
    });
    (port, asked)
}

/// An HTTP response with the body `hi`.
pub const FINE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi";
