//! A simulated disk: the operations of a process on its files, and the states that a loss of power
//! may leave.
//!
//! Data is durable when its file was synced after the write, and a name when its folder was.
//! Unsynced data may be there or not: each write by itself, torn at sectors, in any order. The
//! names of a folder are there in the order of their changes, as in file systems with a journal.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

use crate::common::Random;

/// An operation of a process.
#[derive(Clone, Debug)]
pub enum Step {
    Create {
        file: u64,
        path: String,
    },
    /// The opening of a file that existed.
    Open,
    Write {
        file: u64,
        at: u64,
        data: Vec<u8>,
    },
    Truncate {
        file: u64,
        bytes: u64,
    },
    Sync {
        file: u64,
    },
    SyncFolder {
        path: String,
    },
    Rename {
        from: String,
        to: String,
    },
    Unlink {
        path: String,
    },
    MakeFolder {
        path: String,
    },
    RemoveFolder {
        path: String,
    },
    /// The number of batches that are acknowledged.
    Acknowledge(usize),
}

/// Parses a record of `shim.c`.
pub fn parse(mut bytes: &[u8]) -> Vec<Step> {
    let mut steps = Vec::new();
    while !bytes.is_empty() {
        let end = bytes.iter().position(|byte| *byte == b'\n').expect("a line");
        let line = std::str::from_utf8(&bytes[..end]).expect("text").to_string();
        bytes = &bytes[end + 1..];
        let (word, rest) = line.split_at(1);
        let rest = rest.trim_start();
        let number = |at: usize| rest.split(' ').nth(at).and_then(|n| n.parse().ok()).expect("a number");
        let path = |rest: &str| rest.to_string();
        steps.push(match word {
            "C" => Step::Create { file: number(0), path: path(rest.split_once(' ').expect("a path").1) },
            "O" => Step::Open,
            "W" => {
                let (data, after) = bytes.split_at(number(2) as usize);
                bytes = after;
                Step::Write { file: number(0), at: number(1), data: data.to_vec() }
            }
            "T" => Step::Truncate { file: number(0), bytes: number(1) },
            "S" => Step::Sync { file: number(0) },
            "D" => Step::SyncFolder { path: path(rest) },
            "R" => {
                let (from, to) = rest.split_once(' ').expect("two paths");
                Step::Rename { from: path(from), to: path(to) }
            }
            "U" => Step::Unlink { path: path(rest) },
            "M" => Step::MakeFolder { path: path(rest) },
            "X" => Step::RemoveFolder { path: path(rest) },
            "A" => Step::Acknowledge(number(0) as usize),
            other => panic!("{other} is no step"),
        });
    }
    steps
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Node {
    File(u64),
    Folder(usize),
}

#[derive(Clone, Debug)]
enum Change {
    Put(String, Node),
    Remove(String),
    Rename(String, String),
}

#[derive(Clone, Debug)]
enum Data {
    Write(u64, Vec<u8>),
    Truncate(u64),
}

#[derive(Clone, Debug, Default)]
struct Folder {
    durable: BTreeMap<String, Node>,
    now: BTreeMap<String, Node>,
    pending: Vec<Change>,
}

#[derive(Clone, Debug, Default)]
struct File {
    durable: Vec<u8>,
    pending: Vec<Data>,
}

/// The contents of a disk, durable and in the system's memory.
#[derive(Clone, Debug)]
pub struct Disk {
    folders: Vec<Folder>,
    files: HashMap<u64, File>,
    pub acknowledged: usize,
}

/// The files and folders that a loss of power leaves: paths, and contents, or `None` for a folder.
pub type Left = BTreeMap<String, Option<Vec<u8>>>;

/// The fate of everything that was not synced.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cut {
    /// All of it is there, as after a kill.
    All,
    /// All of it is gone.
    Nothing,
    /// The names are there, and no data.
    Names,
    /// The data is there, and no names.
    Contents,
    /// Some of it is there, torn at sectors.
    Some,
}

impl Disk {
    pub fn new() -> Disk {
        Disk { folders: vec![Folder::default()], files: HashMap::new(), acknowledged: 0 }
    }

    /// Returns the folder of a path, and the name in it.
    fn place<'a>(&self, path: &'a str) -> (usize, &'a str) {
        let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
        let mut at = 0;
        for part in folders.split('/').filter(|part| !part.is_empty()) {
            match self.folders[at].now.get(part) {
                Some(Node::Folder(next)) => at = *next,
                other => panic!("{path}: {part} is {other:?}"),
            }
        }
        (at, name)
    }

    fn change(&mut self, folder: usize, change: Change) {
        let folder = &mut self.folders[folder];
        make(&mut folder.now, &change);
        folder.pending.push(change);
    }

    /// Applies an operation.
    pub fn step(&mut self, step: &Step) {
        match step {
            Step::Create { file, path } => {
                self.files.insert(*file, File::default());
                let (folder, name) = self.place(path);
                self.change(folder, Change::Put(name.to_string(), Node::File(*file)));
            }
            Step::Open => {}
            Step::Write { file, at, data } => {
                self.files.entry(*file).or_default().pending.push(Data::Write(*at, data.clone()));
            }
            Step::Truncate { file, bytes } => {
                self.files.entry(*file).or_default().pending.push(Data::Truncate(*bytes));
            }
            Step::Sync { file } => {
                let file = self.files.entry(*file).or_default();
                for data in std::mem::take(&mut file.pending) {
                    apply(&mut file.durable, &data);
                }
            }
            Step::SyncFolder { path } => {
                let path = path.trim_end_matches("/.").trim_end_matches('.');
                let at = self.place(&format!("{path}/x")).0;
                let folder = &mut self.folders[at];
                for change in std::mem::take(&mut folder.pending) {
                    make(&mut folder.durable, &change);
                }
            }
            Step::Rename { from, to } => {
                let (folder, name) = self.place(from);
                let (other, new) = self.place(to);
                assert_eq!(folder, other, "names stay in their folder");
                self.change(folder, Change::Rename(name.to_string(), new.to_string()));
            }
            Step::Unlink { path } | Step::RemoveFolder { path } => {
                let (folder, name) = self.place(path);
                self.change(folder, Change::Remove(name.to_string()));
            }
            Step::MakeFolder { path } => {
                let (folder, name) = self.place(path);
                self.folders.push(Folder::default());
                let made = Node::Folder(self.folders.len() - 1);
                self.change(folder, Change::Put(name.to_string(), made));
            }
            Step::Acknowledge(batches) => self.acknowledged = *batches,
        }
    }

    /// Returns whether everything is durable.
    pub fn is_settled(&self) -> bool {
        self.folders.iter().all(|folder| folder.pending.is_empty())
            && self.files.values().all(|file| file.pending.is_empty())
    }

    /// Returns the state that a loss of power leaves now.
    pub fn cut(&self, cut: Cut, random: &mut Random) -> Left {
        let mut names: Vec<BTreeMap<String, Node>> = Vec::new();
        for folder in &self.folders {
            let count = match cut {
                Cut::All | Cut::Names => folder.pending.len(),
                Cut::Nothing | Cut::Contents => 0,
                Cut::Some => random.below(1 + folder.pending.len() as u64) as usize,
            };
            let mut there = folder.durable.clone();
            folder.pending[..count].iter().for_each(|change| make(&mut there, change));
            names.push(there);
        }
        let mut left = Left::new();
        self.collect(0, "", &names, cut, random, &mut left);
        left
    }

    fn collect(
        &self,
        folder: usize,
        path: &str,
        names: &[BTreeMap<String, Node>],
        cut: Cut,
        random: &mut Random,
        left: &mut Left,
    ) {
        for (name, node) in &names[folder] {
            let path = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
            match node {
                Node::Folder(within) => {
                    left.insert(path.clone(), None);
                    self.collect(*within, &path, names, cut, random, left);
                }
                Node::File(file) => {
                    let file = &self.files[file];
                    let mut data = file.durable.clone();
                    // The fate of the writes to this file.
                    let way = random.below(4);
                    for (number, write) in file.pending.iter().enumerate() {
                        let is_last = number + 1 == file.pending.len();
                        match cut {
                            Cut::All | Cut::Contents => apply(&mut data, write),
                            Cut::Nothing | Cut::Names => {}
                            Cut::Some if way == 0 => {}
                            Cut::Some if way == 1 && !is_last => apply(&mut data, write),
                            Cut::Some if way < 3 => torn(&mut data, write, random),
                            Cut::Some if random.one_in(2) => apply(&mut data, write),
                            Cut::Some => {}
                        }
                    }
                    left.insert(path, Some(data));
                }
            }
        }
    }
}

fn make(names: &mut BTreeMap<String, Node>, change: &Change) {
    match change {
        Change::Put(name, node) => drop(names.insert(name.clone(), *node)),
        Change::Remove(name) => drop(names.remove(name)),
        Change::Rename(from, to) => {
            if let Some(node) = names.remove(from) {
                names.insert(to.clone(), node);
            }
        }
    }
}

fn apply(file: &mut Vec<u8>, data: &Data) {
    match data {
        Data::Write(at, data) => {
            let (from, to) = (*at as usize, *at as usize + data.len());
            if file.len() < to {
                file.resize(to, 0);
            }
            file[from..to].copy_from_slice(data);
        }
        Data::Truncate(bytes) => file.resize(*bytes as usize, 0),
    }
}

/// Applies a write to some of its sectors.
fn torn(file: &mut Vec<u8>, data: &Data, random: &mut Random) {
    let Data::Write(at, bytes) = data else {
        if random.one_in(2) {
            apply(file, data);
        }
        return;
    };
    let sector = if random.one_in(2) { 512 } else { 4096 };
    // The first sectors, the last ones, or any.
    let (way, sectors) = (random.below(3), 1 + (at % sector + bytes.len() as u64) / sector);
    let limit = random.below(1 + sectors);
    let mut from = 0;
    let mut number = 0;
    while from < bytes.len() {
        let place = at + from as u64;
        let to = bytes.len().min(from + (sector - place % sector) as usize);
        let is_there = match way {
            0 => number < limit,
            1 => number >= limit,
            _ => random.one_in(2),
        };
        if is_there {
            apply(file, &Data::Write(place, bytes[from..to].to_vec()));
        }
        (from, number) = (to, number + 1);
    }
}

/// Writes the state into a folder.
pub fn lay_out(left: &Left, folder: &Path) {
    for (path, data) in left {
        let path = folder.join(path);
        match data {
            None => fs::create_dir_all(path).expect("a folder"),
            Some(data) => fs::write(path, data).expect("a file"),
        }
    }
}
