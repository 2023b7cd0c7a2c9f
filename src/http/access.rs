//! The tokens of a store, and the codes of links.
//!
//! Invariant: tokens and codes are compared in constant time, by their digests. A code is made from
//! the token of administrators, so that new tokens end all links.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::internal::sure;
use crate::os::private_file;

/// The rights of a caller; each includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// May look at everything.
    Read,
    /// May start, raise, signal, suspend, resume, terminate, rewind and restart.
    Operate,
    /// May deploy and purge.
    Admin,
}

impl Scope {
    /// All scopes, in the order of their numbers.
    pub const ALL: [Scope; 3] = [Scope::Read, Scope::Operate, Scope::Admin];

    /// Returns the name of the scope in the file of tokens.
    pub fn word(self) -> &'static str {
        match self {
            Scope::Read => "read",
            Scope::Operate => "operate",
            Scope::Admin => "admin",
        }
    }
}

/// The tokens of a store, one for each scope.
#[derive(Clone)]
pub struct Keys {
    tokens: [String; 3],
}

/// The number of random bytes of a token.
const TOKEN_BYTES: usize = 32;

impl Keys {
    /// Returns new tokens.
    pub fn random() -> io::Result<Keys> {
        let mut tokens = [String::new(), String::new(), String::new()];
        for token in &mut tokens {
            let mut bytes = [0; TOKEN_BYTES];
            getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
            *token = hex::encode(bytes);
        }
        Ok(Keys { tokens })
    }

    /// Reads the tokens from a file, which has a line `scope token` for each scope. Makes the file
    /// if there is none. An error of the kind `InvalidData` says what is wrong with the file.
    pub fn open(path: &Path) -> io::Result<Keys> {
        match fs::read_to_string(path) {
            Ok(text) => Keys::parse(&text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let keys = Keys::random()?;
                let mut file = private_file().write(true).create_new(true).open(path)?;
                for scope in Scope::ALL {
                    writeln!(file, "{} {}", scope.word(), keys.token(scope))?;
                }
                file.sync_all()?;
                Ok(keys)
            }
            Err(error) => Err(error),
        }
    }

    fn parse(text: &str) -> io::Result<Keys> {
        let wrong = |reason: String| io::Error::new(io::ErrorKind::InvalidData, reason);
        let mut tokens = [String::new(), String::new(), String::new()];
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let found = line.split_once(' ').and_then(|(word, token)| {
                let scope = Scope::ALL.into_iter().find(|scope| scope.word() == word)?;
                Some((scope, token.trim()))
            });
            let Some((scope, token)) = found else {
                return Err(wrong("a line is not `read`, `operate` or `admin` and a token".into()));
            };
            if token.len() < TOKEN_BYTES || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(wrong(format!(
                    "the token for `{}` has less than {TOKEN_BYTES} characters",
                    scope.word()
                )));
            }
            tokens[scope as usize] = token.to_string();
        }
        match Scope::ALL.into_iter().find(|scope| tokens[*scope as usize].is_empty()) {
            Some(scope) => Err(wrong(format!("the token for `{}` is missing", scope.word()))),
            None => Ok(Keys { tokens }),
        }
    }

    /// Returns the token of a scope.
    pub fn token(&self, scope: Scope) -> &str {
        &self.tokens[scope as usize]
    }

    /// Returns the scope of a token, or `None` if it is none of these.
    pub fn scope(&self, given: &str) -> Option<Scope> {
        let given = Sha256::digest(given.as_bytes());
        // All are compared, so that the time says nothing.
        let mut found = None;
        for scope in Scope::ALL {
            if bool::from(Sha256::digest(self.token(scope).as_bytes()).ct_eq(&given)) {
                found = Some(scope);
            }
        }
        found
    }

    /// Returns the code of a link that may do everything with one instance.
    pub fn instance_code(&self, id: &str) -> String {
        self.code(&["instance", id])
    }

    /// Returns the code of a link that may raise one event for one life of an instance's id.
    pub fn event_code(&self, id: &str, life: u64, event: &str) -> String {
        self.code(&["event", id, &life.to_string(), event])
    }

    /// Whether a code is that of a link to an instance.
    pub fn is_instance_code(&self, given: &str, id: &str) -> bool {
        same(given, &self.instance_code(id))
    }

    /// Whether a code is that of a link to an event of an instance.
    pub fn is_event_code(&self, given: &str, id: &str, life: u64, event: &str) -> bool {
        same(given, &self.event_code(id, life, event))
    }

    fn code(&self, parts: &[&str]) -> String {
        let mac = Hmac::<Sha256>::new_from_slice(self.token(Scope::Admin).as_bytes());
        let mut mac = sure(mac, "a key may have any length");
        for part in parts {
            mac.update(&(part.len() as u64).to_le_bytes());
            mac.update(part.as_bytes());
        }
        hex::encode(mac.finalize().into_bytes())
    }
}

fn same(given: &str, wanted: &str) -> bool {
    Sha256::digest(given.as_bytes()).ct_eq(&Sha256::digest(wanted.as_bytes())).into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use tempfile::TempDir;

    use super::*;

    #[test]
    fn tokens_are_kept_and_private() {
        let folder = TempDir::new().expect("a folder");
        let path = folder.path().join("token");
        let keys = Keys::open(&path).expect("new tokens");
        let mode = fs::metadata(&path).expect("the file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let again = Keys::open(&path).expect("the same tokens");
        for scope in Scope::ALL {
            assert_eq!(keys.token(scope), again.token(scope));
            assert_eq!(keys.scope(again.token(scope)), Some(scope));
            assert_eq!(keys.token(scope).len(), 64);
        }
        assert_eq!(keys.scope(""), None);
        assert_eq!(keys.scope(&keys.token(Scope::Admin)[1..]), None);
    }

    #[test]
    fn codes_are_for_one_thing() {
        let keys = Keys::random().expect("tokens");
        let code = keys.event_code("a", 0, "b");
        assert!(keys.is_event_code(&code, "a", 0, "b"));
        assert!(!keys.is_event_code(&code, "a", 1, "b"), "another instance has the id now");
        assert!(!keys.is_event_code(&code, "ab", 0, "") && !keys.is_event_code(&code, "a", 0, "c"));
        assert!(!keys.is_instance_code(&code, "a"));
        assert!(keys.is_instance_code(&keys.instance_code("a"), "a"));
        assert!(!Keys::random().expect("tokens").is_event_code(&code, "a", 0, "b"));
    }

    #[test]
    fn a_damaged_file_is_told() {
        for text in ["", "read abc", "admin", "what is this", "read x\noperate y\nadmin z"] {
            let error = Keys::parse(text).err().expect("no tokens");
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{text}");
        }
    }
}
