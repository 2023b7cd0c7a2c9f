//! Permissions of programs: a refused effect is an error with the flag that would allow the effect,
//! and does not happen.

mod common;

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::process::Command;

use common::{DURABLE, FINE, server};
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
    assert_eq!(lines[1], "not_permitted: `b.txt` is not allowed; `--allow read=b.txt` would allow it");
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
    // The command line allows more, but what the settings deny stays denied.
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
    let redirect = "HTTP/1.1 302 Found\r\nLocation: http://localhost:1/\r\nContent-Length: 0\r\n\r\n";
    let (port, _asked) = server(|_| redirect.to_string());
    let folder = folder();
    fs::write(folder.path().join("a.df"), format!("http.get(\"http://127.0.0.1:{port}/\")"))
        .expect("a program");
    let (code, _, error) = run(&folder, &["--allow", &format!("net=127.0.0.1:{port}")]);
    assert_eq!(code, 1);
    assert!(error.contains("`localhost:1` is not allowed"), "{error}");
}

/// Runs a program in a folder with some options. Returns its output.
fn prints(folder: &TempDir, text: &str, options: &[&str]) -> Vec<String> {
    let text = format!(
        "fn attempt(f) => try {{ f() }} catch {{kind, message, ..}} {{ \"{{kind}}: {{message}}\" }}\n{text}"
    );
    fs::write(folder.path().join("a.df"), text).expect("a program");
    let (code, lines, error) = run(folder, options);
    assert_eq!(code, 0, "{error}");
    lines
}

/// Makes a system program that prints that it ran.
fn tool(folder: &TempDir, path: &str) {
    let path = folder.path().join(path);
    fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    fs::write(&path, "#!/bin/sh\necho ran here\n").expect("a program");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a mode");
}

#[test]
fn a_program_is_the_file_that_its_name_led_to_at_the_start() {
    let folder = folder();
    for path in ["evil/echo", "data/echo"] {
        tool(&folder, path);
    }
    let text = r#"
    print(attempt(fn () => exec.run("echo", ["fine"]).trim()))
    print(attempt(fn () => exec.run("./evil/echo")))
    print(attempt(fn () => exec.run("./echo", [], {dir: "evil"})))
    print(attempt(fn () => exec.run("echo", ["fine"], {dir: "evil"}).trim()))
    print(attempt(fn () => exec.run("echo", [], {env: {PATH: "evil"}})))
    print(attempt(fn () => exec.run("echo", [], {env: {LD_PRELOAD: "data/x.so"}})))
    print(attempt(fn () => exec.run("data/echo")))
    "#;
    let lines = prints(&folder, text, &["--allow", "exec=echo,fs=data"]);
    assert_eq!((&*lines[0], &*lines[3]), ("fine", "fine"));
    for at in [1, 2, 4, 5, 6] {
        assert!(lines[at].starts_with("not_permitted"), "{lines:?}");
    }
    // A program that may run a file can't write that file.
    let text = r#"
    print(attempt(fn () => fs.write("data/echo", "evil")))
    print(attempt(fn () => fs.append("data/echo", "evil")))
    print(attempt(fn () => fs.remove("data/echo")))
    print(attempt(fn () => fs.remove("data")))
    print(attempt(fn () => exec.run("data/echo").trim()))
    "#;
    let lines = prints(&folder, text, &["--allow", "exec=data/echo,fs=data"]);
    assert!(lines[..4].iter().all(|line| line.starts_with("not_permitted")), "{lines:?}");
    assert_eq!(lines[4], "ran here");
    let (code, _, error) = run(&folder, &["--allow", "exec=no-such-program"]);
    assert_eq!(code, 2, "{error}");
    assert!(error.contains("there is no such program in PATH"), "{error}");
}

#[test]
fn a_denied_program_is_denied_under_all_its_names() {
    let folder = folder();
    symlink("/bin/rm", folder.path().join("other")).expect("a link");
    let text = r#"
    print(attempt(fn () => exec.run("rm", ["b.txt"])))
    print(attempt(fn () => exec.run("/bin/rm", ["b.txt"])))
    print(attempt(fn () => exec.run("/bin/../bin/rm", ["b.txt"])))
    print(attempt(fn () => exec.run("./other", ["b.txt"])))
    print(attempt(fn () => exec.run("rm", ["b.txt"], {env: {PATH: "/bin"}})))
    print(attempt(fn () => exec.run("echo", ["fine"]).trim()))
    "#;
    for denied in ["exec=/bin/rm", "exec=rm", "exec=./other"] {
        let lines = prints(&folder, text, &["--deny", denied]);
        assert!(lines[..5].iter().all(|line| line.starts_with("not_permitted")), "{denied} {lines:?}");
        assert_eq!(lines[5], "fine", "{denied}");
    }
    assert!(folder.path().join("b.txt").exists());
}

#[test]
fn programs_that_are_run_find_only_what_the_program_may_read() {
    let folder = folder();
    let text = r#"print(exec.run("env").lines().filter(fn line => line.starts_with("SECRET")))"#;
    assert_eq!(prints(&folder, text, &["--allow", "exec"]), ["[]"]);
    assert_eq!(prints(&folder, text, &["--deny", "env=SECRET"]), ["[]"]);
    assert_eq!(prints(&folder, text, &["--allow", "exec,env=SECRET"]), ["[\"SECRET=hidden\"]"]);
    assert_eq!(prints(&folder, text, &[]), ["[\"SECRET=hidden\"]"]);
}

#[test]
fn links_lead_nowhere_outside() {
    let folder = folder();
    let at = |path: &str| folder.path().join(path);
    fs::create_dir(at("outside")).expect("a folder");
    symlink(at("outside/new.txt"), at("data/dangling")).expect("a link");
    symlink("../outside", at("data/folder")).expect("a link");
    symlink("dangling", at("data/twice")).expect("a link");
    symlink("loop", at("data/loop")).expect("a link");
    symlink("a.txt", at("data/inside")).expect("a link");
    let text = r#"
    for name in ["dangling", "twice", "folder/x", "folder/../outside/x"] {
      print(attempt(fn () => fs.append("data/{name}", "x")))
      print(attempt(fn () => fs.write("data/{name}", "x")))
      print(attempt(fn () => fs.make_dir("data/{name}")))
      print(attempt(fn () => fs.exists("data/{name}")))
    }
    print(attempt(fn () => fs.list("data/folder")))
    print(attempt(fn () => fs.append("data/loop", "x")))
    print(attempt(fn () => do { fs.append("data/inside", "!"); fs.read("data/a.txt") }))
    print(attempt(fn () => do { fs.remove("data/folder"); fs.list("data") }))
    "#;
    let lines = prints(&folder, text, &["--allow", "fs=data"]);
    assert!(lines[..17].iter().all(|line| line.starts_with("not_permitted")), "{lines:?}");
    assert_eq!(lines[17], "io_error: could not append to data/loop: too many levels of symbolic links");
    assert_eq!(lines[18], "inside!");
    assert!(!lines[19].contains("folder"), "{lines:?}");
    assert_eq!(fs::read_dir(at("outside")).expect("it is there").count(), 0);
}

#[test]
fn what_is_denied_below_stays() {
    let folder = folder();
    let at = |path: &str| folder.path().join(path);
    fs::create_dir_all(at("del/keep")).expect("a folder");
    fs::write(at("del/keep/file"), "kept").expect("a file");
    fs::write(at("del/other"), "").expect("a file");
    let text = r#"
    for name in ["del", "./del/", "del/../del", "."] { print(attempt(fn () => fs.remove(name))) }
    print(attempt(fn () => fs.remove("del/other")))
    "#;
    for denied in ["fs=del/keep", "write=del/keep/file"] {
        let lines = prints(&folder, text, &["--deny", denied]);
        assert!(lines[..4].iter().all(|line| line.starts_with("not_permitted")), "{lines:?}");
        assert_eq!(lines[4], "null");
        assert!(at("del/keep/file").exists() && at("b.txt").exists());
    }
}

#[test]
fn reading_and_writing_are_apart() {
    let folder = folder();
    let text = r#"
    print(attempt(fn () => fs.read("data/a.txt")))
    print(attempt(fn () => fs.list("data")))
    print(attempt(fn () => fs.exists("data/a.txt")))
    print(attempt(fn () => fs.append("data/b.txt", "x")))
    print(attempt(fn () => fs.write("data/c.txt", "x")))
    print(attempt(fn () => fs.make_dir("data/d")))
    print(attempt(fn () => fs.remove("data/d")))
    "#;
    let refused = |lines: &[String]| lines.iter().all(|line| line.starts_with("not_permitted"));
    let lines = prints(&folder, text, &["--allow", "read=data"]);
    assert!(
        !lines[..3].iter().any(|line| line.contains("not_permitted")) && refused(&lines[3..]),
        "{lines:?}"
    );
    let lines = prints(&folder, text, &["--allow", "write=data"]);
    assert!(refused(&lines[..3]) && lines[3..].iter().all(|line| line == "null"), "{lines:?}");
    let lines = prints(&folder, text, &["--allow", "fs=data", "--deny", "write"]);
    assert!(refused(&lines[3..]) && lines[0] == "inside", "{lines:?}");
    let lines = prints(&folder, text, &["--allow", "read,write"]);
    assert!(!lines.iter().any(|line| line.contains("not_permitted")), "{lines:?}");
}

#[test]
fn a_restricted_program_touches_neither_its_store_nor_its_settings_nor_the_system() {
    let folder = folder();
    fs::write(folder.path().join("durable.toml"), "[permissions]\nallow = [\"fs=.\"]\n").expect("settings");
    let text = r#"
    print(attempt(fn () => fs.write("durable.toml", "")))
    print(attempt(fn () => fs.append("./data/../durable.toml", "")))
    print(attempt(fn () => fs.remove("durable.toml")))
    print(attempt(fn () => fs.list("store")))
    print(attempt(fn () => fs.write("store/x", "")))
    print(attempt(fn () => fs.remove("store")))
    print(attempt(fn () => fs.remove(".")))
    print(attempt(fn () => fs.exists("elsewhere/.durable/wal")))
    print(attempt(fn () => fs.list("other")))
    print(attempt(fn () => fs.append("other/wal", "x")))
    print(attempt(fn () => fs.remove("other")))
    print(attempt(fn () => fs.read("durable.toml").len() > 0))
    "#;
    let mut other = Command::new(DURABLE);
    other.args(["run", "--store", "other", "--allow", "env", "a.df"]);
    let other = other.current_dir(folder.path()).output().expect("durable runs");
    assert!(other.status.success() && folder.path().join("other/wal").exists());
    let lines = prints(&folder, text, &[]);
    assert!(lines[..11].iter().all(|line| line.starts_with("not_permitted")), "{lines:?}");
    assert_eq!(lines[11], "true");
    assert!(folder.path().join("a.df").exists() && folder.path().join("other/wal").exists());
    if cfg!(target_os = "linux") {
        let text = r#"
        for path in ["/proc/self/environ", "/proc/thread-self/environ", "/proc/self/root/proc/self/environ", "/dev/../proc/self/mem"] {
          print(attempt(fn () => fs.read_bytes(path).len()))
        }
        print(attempt(fn () => fs.write("/dev/null", "x")))
        "#;
        let lines = prints(&folder, text, &["--deny", "env", "--allow", "fs"]);
        assert!(lines[..4].iter().all(|line| line.starts_with("not_permitted")), "{lines:?}");
        assert_eq!(lines[4], "null");
    }
}

#[test]
fn what_is_no_file_stays_and_what_is_replaced_keeps_its_mode() {
    let folder = folder();
    let at = |path: &str| folder.path().join(path);
    fs::set_permissions(at("b.txt"), fs::Permissions::from_mode(0o640)).expect("a mode");
    let made = Command::new("mkfifo").arg(at("pipe")).status().expect("mkfifo runs");
    assert!(made.success());
    let reader = std::thread::spawn({
        let pipe = at("pipe");
        move || fs::read_to_string(pipe).expect("it is read")
    });
    let text = r#"
    print(attempt(fn () => fs.write("pipe", "through")))
    print(attempt(fn () => fs.write("/dev/null", "gone")))
    print(attempt(fn () => fs.write("b.txt", "new")))
    print(attempt(fn () => fs.write("data", "new")))
    "#;
    let lines = prints(&folder, text, &[]);
    assert_eq!(lines[..3], ["null"; 3]);
    assert!(lines[3].starts_with("io_error"), "{lines:?}");
    assert_eq!(reader.join().expect("it ends"), "through");
    assert!(fs::metadata(at("pipe")).expect("it is there").file_type().is_fifo());
    assert!(fs::metadata("/dev/null").expect("it is there").file_type().is_char_device());
    assert_eq!(fs::metadata(at("b.txt")).expect("it is there").permissions().mode() & 0o777, 0o640);
    let left = fs::read_dir(folder.path()).expect("a folder").flatten();
    assert!(!left.into_iter().any(|entry| entry.file_name().to_string_lossy().ends_with(".new")));
}

#[test]
fn imports_are_read_as_files_are() {
    let folder = folder();
    let at = |path: &str| folder.path().join(path);
    fs::create_dir_all(at("app/lib")).expect("a folder");
    fs::create_dir_all(at("other")).expect("a folder");
    fs::write(at("app/lib/own.df"), "export fn f() => 1\n".replace("export ", "")).expect("a module");
    fs::write(at("other/secret.df"), "fn f() => 1\n").expect("a module");
    symlink("../../other/secret.df", at("app/lib/link.df")).expect("a link");
    let check = |path: &str, options: &[&str]| {
        fs::write(at("app/a.df"), format!("import \"{path}\" as m\nprint(m.f())\n")).expect("a program");
        let output = Command::new(DURABLE)
            .args(["run", "--store", "store"])
            .args(options)
            .arg("app/a.df")
            .current_dir(folder.path())
            .output()
            .expect("it runs");
        fs::remove_dir_all(at("store")).ok();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert!(check("lib/own.df", &["--allow", "net"]).0 && check("lib/own.df", &[]).0);
    assert!(check("../other/secret.df", &["--allow", "read=other"]).0);
    for (path, options) in [
        ("../other/secret.df", ["--allow", "net"]),
        ("../other/secret.df", ["--deny", "fs=other"]),
        ("lib/link.df", ["--allow", "fs=data"]),
        ("lib/own.df", ["--deny", "read=app/lib"]),
    ] {
        let (ran, error) = check(path, &options);
        assert!(!ran && error.contains("this import can't be read"), "{path} {options:?} {error}");
    }
}

#[test]
fn a_denied_host_is_denied_under_all_its_names() {
    let folder = folder();
    let (port, asked) = server(|_| FINE.into());
    let hosts = ["127.0.0.1", "0.0.0.0", "[::ffff:127.0.0.1]", "localhost", "127.1", "2130706433"];
    let calls: Vec<String> = hosts
        .iter()
        .map(|host| format!("print(attempt(fn () => http.get(\"http://{host}:{port}/\").body))"))
        .collect();
    let text = calls.join("\n");
    for denied in [
        format!("net=127.0.0.1:{port}"),
        "net=127.0.0.1".into(),
        "net=127.0.0.0/8".into(),
        "net=localhost".into(),
    ] {
        let lines = prints(&folder, &text, &["--deny", &denied]);
        assert!(lines.iter().all(|line| line.starts_with("not_permitted")), "{denied} {lines:?}");
    }
    assert!(asked.try_recv().is_err());
    let lines = prints(&folder, &text, &["--deny", "net=127.0.0.1:1"]);
    assert_eq!(lines[0], "hi");
    let lines = prints(&folder, &text, &["--allow", &format!("net=127.0.0.0/8:{port}")]);
    assert_eq!((&*lines[0], &*lines[3]), ("hi", "hi"), "{lines:?}");
    let text = "print(attempt(fn () => http.get(\"http://127.0.0.1/\").status))";
    assert!(prints(&folder, text, &["--deny", "net=127.0.0.1:80"])[0].starts_with("not_permitted"));
}

#[test]
fn a_restricted_program_uses_no_proxy() {
    let folder = folder();
    let (port, asked) = server(|_| FINE.into());
    fs::write(
        folder.path().join("a.df"),
        "print(try { http.get(\"http://127.0.0.1:1/\").body } catch {kind} { kind })",
    )
    .expect("a program");
    let output = Command::new(DURABLE)
        .args(["run", "--allow", "net=127.0.0.1:1", "a.df"])
        .env("HTTP_PROXY", format!("http://127.0.0.1:{port}"))
        .env("http_proxy", format!("http://127.0.0.1:{port}"))
        .current_dir(folder.path())
        .output()
        .expect("it runs");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "http_error\n");
    assert!(asked.try_recv().is_err());
}

#[test]
fn a_redirect_to_another_host_takes_no_secrets_along() {
    let folder = folder();
    let (there, asked) = server(|_| FINE.into());
    let redirect = move |port: u16| {
        let _ = port;
        format!(
            "HTTP/1.1 307 Temporary Redirect\r\nLocation: http://127.0.0.1:{there}/x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )
    };
    let (port, _) = server(redirect);
    let text = format!(
        "print(http.get(\"http://127.0.0.1:{port}/\", {{headers: {{\"x-api-key\": \"hush\", authorization: \"hush\", cookie: \"hush\", accept: \"text/plain\"}}}}).body)"
    );
    assert_eq!(prints(&folder, &text, &[]), ["hi"]);
    let request = asked.recv().expect("a request");
    assert!(request.contains("text/plain") && !request.contains("hush"), "{request}");
}

#[test]
fn patterns_that_match_nothing_are_refused() {
    let folder = folder();
    for pattern in
        ["net=*", "net=http://a.com", "net=127.0.0.0/40", "net=a.com:99999", "fs=*.txt", "env=A=B", "nett"]
    {
        for flag in ["--allow", "--deny"] {
            let (code, _, error) = run(&folder, &[flag, pattern]);
            assert_eq!(code, 2, "{flag} {pattern} {error}");
        }
    }
    for pattern in ["net=::1", "net=[::1]:80", "net=127.0.0.0/8", "net=*.a.com:443"] {
        assert_eq!(run(&folder, &["--allow", pattern]).0, 0, "{pattern}");
    }
}

#[test]
fn links_that_come_and_go_lead_nowhere_outside() {
    let folder = folder();
    let at = |path: &str| folder.path().join(path);
    fs::create_dir(at("outside")).expect("a folder");
    fs::write(at("outside/f"), "outside").expect("a file");
    fs::create_dir(at("data/real")).expect("a folder");
    symlink("../outside", at("data/link")).expect("a link");
    fs::rename(at("data/real"), at("data/x")).expect("renamed");
    let over = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let swaps = std::thread::spawn({
        let (over, root) = (over.clone(), folder.path().join("data"));
        move || {
            let swap = |from: &str, to: &str| fs::rename(root.join(from), root.join(to)).expect("renamed");
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                for (from, to) in [("x", "real"), ("link", "x"), ("x", "link"), ("real", "x")] {
                    swap(from, to);
                }
            }
        }
    });
    let text = r#"
    var leaked = 0
    for n in 0..1000 {
      if attempt(fn () => fs.read("data/x/f")) == "outside" { leaked += 1 }
      attempt(fn () => fs.append("data/x/g", "g"))
      attempt(fn () => fs.remove("data/x/f"))
    }
    print(leaked)
    "#;
    let lines = prints(&folder, text, &["--allow", "fs=data"]);
    over.store(true, std::sync::atomic::Ordering::Relaxed);
    swaps.join().expect("it ends");
    assert_eq!(lines, ["0"]);
    let left = fs::read_dir(at("outside")).expect("a folder").flatten().map(|entry| entry.file_name());
    assert_eq!(left.collect::<Vec<_>>(), ["f"]);
}

/// Every way to a file asks: each path, and all that is in a folder.
#[test]
fn every_way_to_a_file_is_checked() {
    let folder = folder();
    let at = |path: &str| folder.path().join(path);
    let (port, asked) = server(|_| FINE.into());
    fs::create_dir_all(at("data/secret")).expect("a folder");
    fs::create_dir_all(at("data/open/deep")).expect("a folder");
    fs::write(at("data/secret/key"), "hidden").expect("a file");
    fs::write(at("data/open/deep/x"), "").expect("a file");
    symlink("../b.txt", at("data/link")).expect("a link");
    let text = format!(
        r#"
    print(attempt(fn () => fs.lines("b.txt")))
    print(attempt(fn () => do {{ for line in fs.lines("data/link") {{ print(line) }} }}))
    print(attempt(fn () => fs.read_bytes("b.txt", {{from: 1}})))
    print(attempt(fn () => fs.stat("b.txt")))
    print(attempt(fn () => fs.stat("data/link", {{follow: true}})))
    print(attempt(fn () => fs.copy("b.txt", "data/b")))
    print(attempt(fn () => fs.copy("data/a.txt", "b.txt")))
    print(attempt(fn () => fs.copy("data/a.txt", "data/link")))
    print(attempt(fn () => fs.rename("b.txt", "data/b")))
    print(attempt(fn () => fs.rename("data/a.txt", "b.txt")))
    print(attempt(fn () => fs.rename("data/a.txt", "data/durable.toml")))
    print(attempt(fn () => fs.rename("data", "data2")))
    print(attempt(fn () => fs.rename("data/secret", "data/public")))
    print(attempt(fn () => fs.walk(".")))
    print(attempt(fn () => fs.walk("data/secret")))
    print(attempt(fn () => fs.glob("../*")))
    print(attempt(fn () => fs.temp_dir()))
    print(attempt(fn () => http.download("http://127.0.0.1:{port}/", "b.txt")))
    print(attempt(fn () => http.post("http://127.0.0.1:{port}/", null, {{multipart: {{a: {{file: "b.txt"}}}}}})))
    print(attempt(fn () => exec("cat", [], {{input_file: "b.txt"}})))
    print(attempt(fn () => exec("echo", [], {{output_file: "b.txt"}})))
    print(attempt(fn () => exec.each_line("cat", [], {{input_file: "b.txt"}}, fn line {{ print(line) }})))
    print(attempt(fn () => exec.each_line("ls", [], {{}}, fn line {{ print(line) }})))
    print(attempt(fn () => exec("echo", [], {{env: {{LD_PRELOAD: null}}}})))
    "#
    );
    let options = ["--allow", "fs=data,net=127.0.0.1,exec=cat,exec=echo", "--deny", "read=data/secret"];
    let lines = prints(&folder, &text, &options);
    assert_eq!(lines.len(), 24, "{lines:?}");
    for (number, line) in lines.iter().enumerate() {
        assert!(line.starts_with("not_permitted"), "{number}: {line}");
    }
    assert!(asked.try_recv().is_err());
    assert_eq!(fs::read_to_string(at("b.txt")).expect("it is there"), "outside");
    let text = r#"
    print(fs.walk("data"))
    print(fs.glob("data/**"))
    fs.rename("data/open", "data/other")
    fs.copy("data/a.txt", "data/copy")
    print([fs.read("data/copy"), fs.stat("data/link").kind, fs.walk("data/other")])
    "#;
    let lines = prints(&folder, text, &["--allow", "fs=data", "--deny", "read=data/secret"]);
    assert_eq!(lines[0], "[\"data/a.txt\", \"data/link\", \"data/open/deep/x\"]");
    assert_eq!(
        lines[1],
        "[\"data/a.txt\", \"data/link\", \"data/open\", \"data/open/deep\", \"data/open/deep/x\"]"
    );
    assert_eq!(lines[2], "[\"inside\", \"symlink\", [\"data/other/deep/x\"]]");
}
