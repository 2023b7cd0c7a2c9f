//! Programs of the system: the resolution of their names, and the variables that change the code
//! that they run.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::capability::{Item, Side};
use super::paths::located;

/// Returns the items of a listed program: the file that its name now resolves to. A denied program
/// is denied under every path to that file. A denied name without a path is denied in every folder.
pub(super) fn items(text: &str, side: Side) -> Result<Vec<Item>, String> {
    if text.contains('*') || text.contains('\0') {
        return Err("can match nothing: a program is a name or a path".into());
    }
    let found = locate(text, None);
    if found.as_deref().is_some_and(|path| path.to_str().is_none()) {
        return Err("is in a folder whose name is not UTF-8 text, and can't be recorded".into());
    }
    let is_name = !text.contains('/');
    match (side, found) {
        (Side::Allow, Some(found)) => Ok(vec![Item::Program(found)]),
        (Side::Allow, None) if is_name => {
            let here = Path::new(text).is_file();
            let hint = if here { format!("; the file in this folder is `./{text}`") } else { String::new() };
            Err(format!("can match nothing: there is no such program in PATH{hint}"))
        }
        (Side::Allow, None) => Err("can match nothing: there is no such file that can be run".into()),
        (Side::Deny, found) => {
            let name = is_name.then(|| Item::ProgramName(text.into()));
            // A file that does not exist yet is denied at its future path.
            let path = found.or_else(|| (!is_name).then(|| located(Path::new(text))));
            Ok(name.into_iter().chain(path.map(Item::Program)).collect())
        }
    }
}

/// Returns the file of a program: a path relative to `dir`, or a name in this process's PATH. The
/// folder is without links, and the file's own name is as found.
pub(super) fn locate(program: &str, dir: Option<&str>) -> Option<PathBuf> {
    if program.is_empty() {
        return None;
    }
    if program.contains('/') {
        let path = dir.map_or_else(|| PathBuf::from(program), |dir| Path::new(dir).join(program));
        let path = located(&path);
        return can_run(&path).then_some(path);
    }
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    std::env::split_paths(&path).map(|folder| located(&folder.join(program))).find(|path| can_run(path))
}

fn can_run(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

/// Returns whether two paths lead to the same file.
pub(super) fn is_same(one: &Path, other: &Path) -> bool {
    let identity = |path: &Path| std::fs::metadata(path).ok().map(|data| (data.dev(), data.ino()));
    one == other || identity(one).is_some_and(|found| identity(other) == Some(found))
}

/// Variables that make a program run other code than its own, and prefixes of such variables.
const CHOOSES: [&str; 34] = [
    "PATH",
    "IFS",
    "ENV",
    "BASH_ENV",
    "SHELLOPTS",
    "BASHOPTS",
    "PS4",
    "PROMPT_COMMAND",
    "SHELL",
    "EDITOR",
    "VISUAL",
    "PAGER",
    "BROWSER",
    "LESSOPEN",
    "LESSCLOSE",
    "MANPAGER",
    "GCONV_PATH",
    "LOCPATH",
    "NLSPATH",
    "TERMINFO",
    "HOSTALIASES",
    "RES_OPTIONS",
    "NODE_OPTIONS",
    "NODE_PATH",
    "RUBYOPT",
    "RUBYLIB",
    "JAVA_TOOL_OPTIONS",
    "_JAVA_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "CLASSPATH",
    "MAKEFLAGS",
    "CC",
    "HOME",
    "TMPDIR",
];
const CHOOSE: [&str; 12] = [
    "LD_",
    "DYLD_",
    "BASH_FUNC_",
    "PYTHON",
    "PERL",
    "GIT_",
    "SSH_",
    "RUSTC",
    "CARGO",
    "npm_config_",
    "LUA_",
    "XDG_",
];
/// Prefixes of those variables that only tell who somebody is.
const HARMLESS: [&str; 2] = ["GIT_AUTHOR_", "GIT_COMMITTER_"];

/// Returns whether a variable decides which code a program runs. The case of names is ignored, as
/// some programs do.
pub(super) fn chooses_code(name: &str) -> bool {
    let begins = |beginning: &&str| {
        name.get(..beginning.len()).is_some_and(|start| start.eq_ignore_ascii_case(beginning))
    };
    let is_harmless = HARMLESS.iter().any(&begins);
    !is_harmless
        && (CHOOSES.iter().any(|known| name.eq_ignore_ascii_case(known)) || CHOOSE.iter().any(begins))
}

/// Variables that every program gets: paths, the user and the language.
const USUAL: [&str; 11] =
    ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "TERM", "TMPDIR", "TZ", "LANG", "LANGUAGE", "PWD"];

pub(super) fn is_usual(name: &str) -> bool {
    USUAL.contains(&name) || name.starts_with("LC_")
}
