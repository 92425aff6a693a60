//! Static tokens: a file that holds their hashes, so that whoever reads the file cannot use them.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use sha2::{Digest as _, Sha256};

use super::{Caller, Role};

/// How often the file is looked at, at most.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// The largest file that is read, in bytes.
const MAX_BYTES: u64 = 1 << 20;
/// The most tokens: each request is compared with all of them.
const MAX_TOKENS: usize = 1000;

/// A token, as it is remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Token {
    role: Role,
    name: String,
    hash: [u8; 32],
}

/// The tokens of a file.
pub(super) struct TokenFile {
    path: PathBuf,
    state: Mutex<State>,
}

struct State {
    tokens: Arc<Vec<Token>>,
    stamp: Option<Stamp>,
    looked: Instant,
}

/// What changes when a file changes.
type Stamp = (SystemTime, u64);

impl TokenFile {
    /// Reads the file for the first time: what is wrong then ends the start.
    pub(super) fn open(path: &Path) -> Result<Self, String> {
        let (tokens, faults, stamp) = read(path)?;
        if let Some(fault) = faults.first() {
            return Err(format!("{}: {fault}", path.display()));
        }
        let state = State { tokens: Arc::new(tokens), stamp: Some(stamp), looked: Instant::now() };
        Ok(Self { path: path.to_owned(), state: Mutex::new(state) })
    }

    /// Whose token this is.
    pub(super) async fn caller(&self, token: &str) -> Option<Caller> {
        let tokens = self.current().await;
        let hash: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        // All are compared, each to its end, so that the time says nothing about where they differ.
        let mut found = None;
        for token in tokens.iter() {
            if is_equal(&token.hash, &hash) {
                found = Some(token);
            }
        }
        found.map(|token| Caller { name: token.name.clone(), role: token.role })
    }

    /// The tokens that the file holds now. Lines that are wrong grant nothing, nor does a file that is gone.
    async fn current(&self) -> Arc<Vec<Token>> {
        let (tokens, stamp) = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if state.looked.elapsed() < LOOK_AGAIN {
                return Arc::clone(&state.tokens);
            }
            state.looked = Instant::now();
            (Arc::clone(&state.tokens), state.stamp)
        };
        let path = self.path.clone();
        let read = tokio::task::spawn_blocking(move || match self::stamp(&path) {
            Ok(now) if Some(now) == stamp => None,
            _ => Some(read(&path)),
        });
        let (new, stamp) = match read.await {
            Ok(None) | Err(_) => return tokens,
            Ok(Some(Ok((tokens, faults, stamp)))) => {
                for fault in faults {
                    tracing::warn!(file = %self.path.display(), "a line of the file of tokens is left out: {fault}");
                }
                tracing::info!(file = %self.path.display(), tokens = tokens.len(), "the file of tokens was read again");
                (tokens, Some(stamp))
            }
            Ok(Some(Err(problem))) => {
                tracing::warn!(file = %self.path.display(), "no static token is taken now: {problem}");
                (Vec::new(), None)
            }
        };
        let new = Arc::new(new);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.tokens = Arc::clone(&new);
        state.stamp = stamp;
        new
    }
}

fn is_equal(one: &[u8; 32], other: &[u8; 32]) -> bool {
    std::hint::black_box(one.iter().zip(other).fold(0, |differs, (a, b)| differs | (a ^ b))) == 0
}

fn stamp(path: &Path) -> std::io::Result<Stamp> {
    let metadata = path.metadata()?;
    Ok((metadata.modified()?, metadata.len()))
}

fn read(path: &Path) -> Result<(Vec<Token>, Vec<String>, Stamp), String> {
    let unreadable = |error: std::io::Error| format!("{} cannot be read: {error}", path.display());
    let stamp = stamp(path).map_err(unreadable)?;
    if stamp.1 > MAX_BYTES {
        return Err(format!("{} has more than {MAX_BYTES} bytes", path.display()));
    }
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    let (tokens, faults) = parse(&text);
    Ok((tokens, faults, stamp))
}

/// The tokens of a file, and what is wrong with its lines. No line is repeated: somebody may have written a token
/// where its hash belongs.
fn parse(text: &str) -> (Vec<Token>, Vec<String>) {
    let (mut tokens, mut faults) = (Vec::new(), Vec::new());
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match token(line) {
            Ok(_) if tokens.len() == MAX_TOKENS => {
                faults.push(format!("line {}: there are more than {MAX_TOKENS} tokens", number + 1));
                break;
            }
            Ok(token) => tokens.push(token),
            Err(problem) => faults.push(format!("line {}: {problem}", number + 1)),
        }
    }
    (tokens, faults)
}

fn token(line: &str) -> Result<Token, &'static str> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [role, name, hash] = words[..] else {
        return Err("expected three words: ROLE NAME SHA256HEX");
    };
    let role = match role {
        "reader" => Role::Reader,
        "notifier" => Role::Notifier,
        "contributor" => Role::Contributor,
        _ => return Err("the role is reader, notifier or contributor"),
    };
    if name.len() > 64 || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.@".contains(&b)) {
        return Err("the name holds at most 64 letters, digits, '-', '_', '.' and '@'");
    }
    let hash = sha256_of_hex(hash).ok_or("the hash is a SHA-256 in 64 hexadecimal digits")?;
    Ok(Token { role, name: name.to_owned(), hash })
}

fn sha256_of_hex(hex: &str) -> Option<[u8; 32]> {
    if hex.len() != 64 || !hex.is_ascii() {
        return None;
    }
    let bytes: Result<Vec<u8>, _> =
        (0..32).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16)).collect();
    bytes.ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(token: &str) -> String {
        Sha256::digest(token).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn lines_that_are_wrong_are_told_by_number_and_never_repeated() {
        let text = format!(
            "# comment\n\nreader alice {}\nCANARY\nowner bob {}\nreader c d CANARY\nreader eve CANARY",
            hash("a"),
            hash("b")
        );
        let (tokens, faults) = parse(&text);
        assert_eq!(tokens.len(), 1);
        let numbers: Vec<&str> = faults.iter().map(|fault| fault.split(':').next().unwrap()).collect();
        assert_eq!(numbers, ["line 4", "line 5", "line 6", "line 7"]);
        assert!(!format!("{faults:?}").contains("CANARY"));
    }

    #[tokio::test]
    async fn a_token_has_its_role_and_its_name_and_a_changed_file_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        std::fs::write(&path, format!("contributor ci {}\n", hash("one"))).unwrap();
        let file = TokenFile::open(&path).unwrap();
        let ci = Caller { name: "ci".into(), role: Role::Contributor };
        assert_eq!(file.caller("one").await, Some(ci));
        assert_eq!(file.caller("two").await, None);
        std::fs::write(&path, format!("reader longer {}\nnonsense\n", hash("two"))).unwrap();
        // The file is due to be looked at.
        let due = Instant::now().checked_sub(LOOK_AGAIN).unwrap();
        file.state.lock().unwrap().looked = due;
        assert_eq!(file.caller("two").await, Some(Caller { name: "longer".into(), role: Role::Reader }));
        assert_eq!(file.caller("one").await, None);
        std::fs::remove_file(&path).unwrap();
        file.state.lock().unwrap().looked = due;
        assert_eq!(file.caller("two").await, None);
    }

    #[test]
    fn a_file_that_is_wrong_at_the_start_is_a_fault() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        assert!(TokenFile::open(&path).is_err());
        std::fs::write(&path, "reader\n").unwrap();
        assert!(TokenFile::open(&path).err().unwrap().contains("line 1"));
    }
}
