//! A conformance program: a `.df` file with its expectations in comments.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use durable::builtins::Effect;
use durable::check;
use durable::engine::{InstanceRecord, Replayed, Status, keys, load_modules, read_modules, replay};
use durable::kv::Read;
use durable::machine::{Image, RequestKind, Value, format};
use durable::store;
use tempfile::TempDir;

use super::{DURABLE, repository, steps};

pub struct Program {
    pub name: String,
    pub path: PathBuf,
    pub text: String,
}

/// One run of a program, in a folder of its own.
pub struct Run {
    pub folder: TempDir,
    pub stdout: String,
    pub stderr: String,
    pub code: i32,
}

/// Waits for the end of a run. A run that hangs is killed, and fails by its exit code.
fn within_limits(child: Child) -> Output {
    let id = child.id();
    let (done, waits) = mpsc::channel::<()>();
    let watch = thread::spawn(move || {
        if waits.recv_timeout(Duration::from_secs(120)) == Err(mpsc::RecvTimeoutError::Timeout) {
            let _ = Command::new("kill").args(["-9", &id.to_string()]).status();
        }
    });
    let output = child.wait_with_output().expect("durable ends");
    drop(done);
    watch.join().expect("the watch ends");
    output
}

/// Returns the names of the folders of `tests/conformance`.
pub fn areas() -> Vec<String> {
    let folders = fs::read_dir(repository("tests/conformance")).expect("the folder of conformance programs");
    folders.map(|folder| folder.expect("a folder").file_name().to_string_lossy().into_owned()).collect()
}

/// Returns the programs of an area, by name.
pub fn programs(area: &str) -> Vec<Program> {
    let folder = repository("tests/conformance").join(area);
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder).expect("the area's folder").map(|file| file.expect("a file").path()).collect();
    paths.sort();
    let program = |path: PathBuf| {
        let name = format!("{area}/{}", path.file_stem().expect("a name").to_string_lossy());
        Program { name, text: fs::read_to_string(&path).expect("a program's text"), path }
    };
    paths.into_iter().map(program).collect()
}

impl Program {
    fn said<'a>(&'a self, what: &'a str) -> impl Iterator<Item = &'a str> {
        self.text.lines().filter_map(move |line| line.trim_start().strip_prefix("// ")?.strip_prefix(what))
    }

    pub fn expects_mistake(&self) -> bool {
        self.said("expect mistake:").next().is_some()
    }

    pub fn expected_lines(&self) -> Vec<String> {
        let text = self.said("expect:");
        text.map(|line| line.strip_prefix(' ').unwrap_or(line).to_string()).collect()
    }

    /// Returns the name of the program's file, without its folder.
    pub fn file(&self) -> String {
        self.path.file_name().expect("a name").to_string_lossy().into_owned()
    }

    /// Returns whether the program needs files, the network, programs, the environment or long
    /// computations, or says that it needs the outside.
    pub fn is_of_another_world(&self) -> bool {
        let outside = ["fs.", "http.", "exec(", "// file ", "// outside:", "// slow:", "env("];
        outside.iter().any(|word| self.text.contains(word))
    }

    /// Reads and checks the program.
    pub fn loaded(&self) -> check::Program {
        let folder = self.path.parent().expect("a folder").to_path_buf();
        let read = move |key: &str| fs::read_to_string(folder.join(key)).map_err(|error| error.to_string());
        check::load(&self.file(), self.text.clone(), &read)
    }

    /// Compiles the program.
    pub fn image(&self) -> Rc<Image> {
        let program = self.loaded();
        let code = durable::code::compile(&durable::core::lower(&program), &program);
        Image::new(code.map_err(|error| error.title).expect("it compiles").into())
            .expect("its constants have values")
    }

    pub fn args(&self) -> Vec<String> {
        let mut args = Vec::new();
        for line in self.said("args:") {
            let mut quoted = false;
            let mut word = String::new();
            for c in line.trim().chars() {
                match c {
                    '"' => quoted = !quoted,
                    ' ' if !quoted => args.push(std::mem::take(&mut word)),
                    c => word.push(c),
                }
            }
            args.push(word);
        }
        args
    }

    /// Writes the program and its files into a folder.
    pub fn lay_out(&self, folder: &Path) {
        fs::write(folder.join(self.file()), &self.text).expect("the program is written");
        let mut files: Vec<(&str, String)> = Vec::new();
        for line in self.said("file ") {
            let (name, line) = line.split_once(": ").expect("`// file NAME: LINE`");
            match files.iter_mut().find(|(known, _)| *known == name) {
                Some((_, text)) => text.push_str(&format!("{line}\n")),
                None => files.push((name, format!("{line}\n"))),
            }
        }
        for (name, text) in files {
            let path = folder.join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("the folder is made");
            fs::write(path, text).expect("the file is written");
        }
    }

    /// Returns the command that runs the program.
    pub fn command(&self, folder: &Path) -> Command {
        let mut command = Command::new(DURABLE);
        command.current_dir(folder).env("DURABLE_TEST", "a value");
        command.args(["run", &self.file(), "--id", "test", "--json", "--"]).args(self.args());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Returns the program's standard input.
    pub fn input(&self) -> String {
        self.said("input:").map(|line| format!("{}\n", line.strip_prefix(' ').unwrap_or(line))).collect()
    }

    pub fn run(&self) -> Run {
        let folder = TempDir::new().expect("a temporary folder");
        self.lay_out(folder.path());
        let mut child = self.command(folder.path()).spawn().expect("durable runs");
        // A program that does not read its input closes the pipe.
        let _ = child.stdin.take().expect("stdin").write_all(self.input().as_bytes());
        let Output { status, stdout, stderr } = within_limits(child);
        Run {
            folder,
            stdout: String::from_utf8_lossy(&stdout).into_owned(),
            stderr: String::from_utf8_lossy(&stderr).into_owned(),
            code: status.code().unwrap_or(-1),
        }
    }

    /// Compares a run with the expectations.
    pub fn check(&self, run: &Run) -> Result<(), String> {
        let all = || format!("\n--- stdout\n{}--- stderr\n{}", run.stdout, run.stderr);
        let mistakes: Vec<&str> = self.said("expect mistake:").map(str::trim).collect();
        let error = self.said("expect error:").map(str::trim).next();
        let expected = if !mistakes.is_empty() { 3 } else { i32::from(error.is_some()) };
        if run.code != expected {
            return Err(format!("exit code {} instead of {expected}{}", run.code, all()));
        }
        for mistake in mistakes {
            if !run.stderr.lines().any(|line| line.starts_with(&format!("Error: {mistake}"))) {
                return Err(format!("no mistake `{mistake}`{}", all()));
            }
        }
        for warning in self.said("expect warning:") {
            if !run.stderr.lines().any(|line| line.starts_with(&format!("Warning: {}", warning.trim()))) {
                return Err(format!("no warning `{warning}`{}", all()));
            }
        }
        for line in self.said("expect log:") {
            if !run.stderr.lines().any(|logged| logged.contains(line.trim())) {
                return Err(format!("no line `{line}` on standard error{}", all()));
            }
        }
        if let Some(error) = error
            && !run.stderr.lines().any(|line| line.starts_with("Error: ") && line.contains(error))
        {
            return Err(format!("no error `{error}`{}", all()));
        }
        let mut lines: Vec<&str> = run.stdout.lines().collect();
        if expected != 3 {
            let result = lines.pop().ok_or_else(|| format!("no result{}", all()))?;
            let result: serde_json::Value =
                serde_json::from_str(result).map_err(|_| format!("the result is not JSON{}", all()))?;
            if let Some(wanted) = self.said("result:").next() {
                let wanted: serde_json::Value = serde_json::from_str(wanted).expect("`// result: JSON`");
                if result["result"] != wanted {
                    return Err(format!("the result is {} instead of {wanted}", result["result"]));
                }
            }
        }
        match self.said("expect last:").next() {
            Some(last) if lines.last().copied() == Some(last.trim()) => Ok(()),
            None if lines == self.expected_lines() => Ok(()),
            _ => Err(format!("other output than expected{}", all())),
        }
    }

    /// Replays the run from its store, plainly and with the machine restored from bytes at each
    /// step.
    pub fn check_replay(&self, run: &Run) -> Result<(), String> {
        let store = store::open(&run.folder.path().join(".durable")).map_err(|error| error.to_string())?;
        let bytes =
            store.get(&keys::instance("test")).map_err(|error| error.to_string())?.ok_or("no instance")?;
        let record = InstanceRecord::decode(&bytes).ok_or("the record is not readable")?;
        let history = steps::history(&store, &record)?;
        let program = load_modules(record.program, &read_modules(record.program, &store)?)?;
        let code = durable::code::compile(&durable::core::lower(&program), &program).map_err(|d| d.title)?;
        let image = Image::new(code.into()).map_err(|(name, _)| format!("const {name} has no value"))?;
        let mut printed = String::new();
        let replayed = replay(&image, record.clone(), history.clone(), &mut |entry, request| {
            if let (durable::engine::Entry::Answered { result: Ok(_), .. }, Some(request)) = (entry, request)
                && request.what == RequestKind::Effect(Effect::Print)
                && let Value::List(args) = request.args.decode()
            {
                printed.push_str(&format::to_text(&args.as_slice()[0]).unwrap_or_default());
                printed.push('\n');
            }
        });
        match replayed {
            Replayed::Ended(status) if status == record.status => {}
            other => return Err(format!("replay came to {other:?} instead of {:?}", record.status)),
        }
        // The output of activities is not the script's, and is not replayed.
        let own = run.stdout.lines().filter(|line| printed.lines().any(|known| known == *line)).count();
        if own < printed.lines().count() {
            return Err(format!("replay printed\n{printed}"));
        }
        let restored = steps::with_restored_machines(&image, &record, &history)?;
        let wanted = match record.status {
            Status::Completed(value) => Ok(value),
            Status::Failed(error) => Err(error.value),
            _ => return Err("the run has not ended".into()),
        };
        if restored != wanted {
            return Err("with restored machines it ended otherwise".to_string());
        }
        Ok(())
    }
}
