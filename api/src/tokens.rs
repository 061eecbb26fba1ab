//! API tokens: `set token NAME ...` makes one and prints it once, `delete token NAME` revokes it, `show token` lists them.
//!
//! A token is 256 random bits, so its SHA-256 on disk tells nothing. The file is `tokens.json` of the state folder, mode 0600.
//! Limits: [`MAX_TOKENS`] tokens, [`MAX_PREFIXES`] prefixes each.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use operator::access::Scope;
use operator::{Answer, Caller, Failure, Outcome, order, table};
use ring::rand::SecureRandom;
use serde::{Deserialize, Serialize};
use serde_json::json;
use traffic::{Prefix, Time};

/// Tokens at most.
pub const MAX_TOKENS: usize = 256;
/// Prefixes of a token at most.
pub const MAX_PREFIXES: usize = 64;
/// Every token begins with it, so that one that leaks into a log or repository is found.
const MARK: &str = "fw_";
const FILE: &str = "tokens.json";

/// A token without its secret.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Token {
    /// Its name, for the audit log.
    pub name: String,
    /// SHA-256 of the secret, in hexadecimal.
    hash: String,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// When it was made, in seconds since the Unix epoch.
    pub created: f64,
    /// Who made it.
    pub by: String,
    /// When it ends, in seconds since the Unix epoch.
    pub expires: Option<f64>,
    /// Prefixes that it may see and act on; empty for all.
    #[serde(deserialize_with = "prefixes")]
    pub prefixes: Vec<Prefix>,
}

fn prefixes<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<Prefix>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    texts.iter().map(|text| text.parse().map_err(serde::de::Error::custom)).collect()
}

impl Token {
    fn is_over(&self, now: Time) -> bool {
        self.expires.is_some_and(|expires| now.as_seconds() >= expires)
    }
}

/// Every token of an installation.
#[derive(Debug)]
pub struct Tokens {
    file: Option<PathBuf>,
    list: Mutex<Vec<Token>>,
}

impl Tokens {
    /// Those of a state folder; without one they last until the daemon ends.
    ///
    /// # Errors
    /// The file is not understood: then nobody is let in, rather than the wrong ones.
    pub fn open(state: Option<&Path>) -> anyhow::Result<Self> {
        let file = state.map(|folder| folder.join(FILE));
        let list = match file.as_deref().map(std::fs::read) {
            Some(Ok(bytes)) => serde_json::from_slice(&bytes).map_err(|e| {
                anyhow::anyhow!(
                    "the API tokens in {} are not understood ({e}): move the file away",
                    file.as_deref().unwrap_or(Path::new(FILE)).display()
                )
            })?,
            Some(Err(error)) if error.kind() != std::io::ErrorKind::NotFound => {
                anyhow::bail!("the API tokens cannot be read: {error}")
            }
            Some(Err(_)) | None => Vec::new(),
        };
        Ok(Self { file, list: Mutex::new(list) })
    }

    /// The token that a secret is, if it is one that has not ended.
    #[must_use]
    pub fn find(&self, now: Time, secret: &str) -> Option<Token> {
        let hash = hash(secret);
        self.lock().iter().find(|t| t.hash == hash && !t.is_over(now)).cloned()
    }

    /// Whether a token that was found is still there and has not ended.
    #[must_use]
    pub fn holds(&self, now: Time, token: &Token) -> bool {
        self.lock().iter().any(|t| t.hash == token.hash && !t.is_over(now))
    }

    /// Whether anybody can log in at all.
    #[must_use]
    pub fn any(&self, now: Time) -> bool {
        self.lock().iter().any(|t| !t.is_over(now))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Token>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `show token`.
    ///
    /// # Errors
    /// Further words.
    pub fn show(&self, now: Time, arguments: &[String]) -> Outcome {
        if let Some(word) = arguments.first() {
            return Err(Failure::malformed(format!("show token takes no further words: remove {word:?}")));
        }
        let list = self.lock();
        if list.is_empty() {
            let text = "no tokens: set token NAME scopes read,operate expires 30d makes one";
            return Ok(Answer::new(text, &Vec::<()>::new()));
        }
        let row = |t: &Token| {
            let ends = match t.expires {
                Some(_) if t.is_over(now) => "has ended".to_owned(),
                Some(at) => format!("in {:.0} h", (at - now.as_seconds()) / 3600.0),
                None => "never".to_owned(),
            };
            let prefixes: Vec<String> = t.prefixes.iter().map(ToString::to_string).collect();
            let prefixes = if prefixes.is_empty() { "all".to_owned() } else { prefixes.join(" ") };
            vec![t.name.clone(), names(&t.scopes), ends, prefixes, t.by.clone()]
        };
        let rows: Vec<Vec<String>> = list.iter().map(row).collect();
        let json: Vec<serde_json::Value> = list.iter().map(described).collect();
        Ok(Answer::new(table(&["NAME", "SCOPES", "ENDS", "PREFIXES", "MADE BY"], &rows), &json))
    }

    /// `set token NAME [scopes S,S] [prefixes P,P] [expires TIME]`: the answer holds the secret, this once.
    ///
    /// # Errors
    /// Words that do not fit, a name that is taken, or a file that cannot be written.
    pub fn set(&self, now: Time, caller: &Caller, arguments: &[String]) -> Outcome {
        let (words, options) = order::options_beside(arguments, &["scopes", "scope", "prefixes", "prefix"])?;
        let (name, rest) = words.split_first().ok_or("set token NAME [scopes read,operate] [expires 30d]")?;
        let usable = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.is_empty() || name.len() > 64 || !name.chars().all(usable) {
            return Err(format!("{name:?} is no name for a token: letters, digits, - _ . only, 64 at most").into());
        }
        let (scopes, prefixes) = parse(rest)?;
        let mut secret = [0u8; 32];
        ring::rand::SystemRandom::new().fill(&mut secret).map_err(|_| "the system gives no random numbers")?;
        let secret = format!("{MARK}{}", hex(&secret));
        let token = Token {
            name: name.clone(),
            hash: hash(&secret),
            scopes,
            created: now.as_seconds(),
            by: caller.user.clone(),
            expires: options.lasts.map(|lasts| now.after(lasts).as_seconds()),
            prefixes,
        };
        let mut list = self.lock();
        // Those that have ended make room.
        let mut new: Vec<Token> = list.iter().filter(|t| !t.is_over(now)).cloned().collect();
        if new.iter().any(|t| t.name == *name) {
            return Err(
                format!("there is a token {name:?} already: delete token {name}, or choose another name").into()
            );
        }
        if new.len() >= MAX_TOKENS {
            return Err(format!("there are {MAX_TOKENS} tokens already: delete one").into());
        }
        let json = json!({ "token": secret, "name": name, "scopes": token.scopes, "expires": token.expires });
        new.push(token);
        self.write(&new)?;
        *list = new;
        Ok(Answer { text: format!("{secret}\nkeep it: it is not shown again"), json })
    }

    /// `delete token NAME`.
    ///
    /// # Errors
    /// There is none of this name, or the file cannot be written.
    pub fn delete(&self, arguments: &[String]) -> Outcome {
        let (words, _) = order::options(arguments)?;
        let [name] = &words[..] else { return Err("delete token NAME".into()) };
        let mut list = self.lock();
        let new: Vec<Token> = list.iter().filter(|t| t.name != *name).cloned().collect();
        if new.len() == list.len() {
            return Err(format!("there is no token {name:?}: see show token").into());
        }
        self.write(&new)?;
        *list = new;
        Ok(Answer::new(format!("token {name} is revoked"), &true))
    }

    fn write(&self, list: &[Token]) -> Result<(), String> {
        let Some(file) = &self.file else { return Ok(()) };
        let bytes = serde_json::to_vec_pretty(list).map_err(|e| e.to_string())?;
        file.parent()
            .map_or(Ok(()), reporting::files::make_private)
            .and_then(|()| reporting::files::replace_file(file, &bytes))
            .map_err(|e| format!("{} cannot be written, so nothing was changed: {e}", file.display()))
    }
}

/// `scopes S,S` and `prefixes P,P`; without scopes a token may look.
fn parse(words: &[String]) -> Result<(Vec<Scope>, Vec<Prefix>), String> {
    let (mut scopes, mut prefixes) = (vec![Scope::Read], Vec::new());
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let list = words.next().map(String::as_str).unwrap_or_default();
        let items = || list.split(',').map(str::trim).filter(|i| !i.is_empty());
        match word.as_str() {
            "scopes" | "scope" => {
                scopes = items()
                    .map(|text| {
                        Scope::ALL
                            .into_iter()
                            .find(|s| s.name() == text)
                            .ok_or_else(|| format!("there is no scope {text:?}; there are: {}", names(&Scope::ALL)))
                    })
                    .collect::<Result<_, _>>()?;
            }
            "prefixes" | "prefix" => {
                prefixes = items()
                    .map(|text| text.parse().map_err(|e: traffic::target::PrefixError| e.to_string()))
                    .collect::<Result<_, _>>()?;
            }
            _ => {
                return Err(format!(
                    "{word:?} is not understood: set token NAME [scopes S,S] [prefixes P,P] [expires TIME]"
                ));
            }
        }
        if list.is_empty() {
            return Err(format!("{word} needs a list behind it, such as {word} a,b"));
        }
    }
    if scopes.is_empty() || prefixes.len() > MAX_PREFIXES {
        return Err(format!("a token has at least one scope and at most {MAX_PREFIXES} prefixes"));
    }
    scopes.sort_unstable();
    scopes.dedup();
    Ok((scopes, prefixes))
}

fn names(scopes: &[Scope]) -> String {
    scopes.iter().map(|s| s.name()).collect::<Vec<_>>().join(",")
}

/// A token for programs, without its hash.
fn described(token: &Token) -> serde_json::Value {
    json!({
        "name": token.name, "scopes": token.scopes, "created": token.created, "by": token.by, "expires": token.expires,
        "prefixes": token.prefixes.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

fn hash(secret: &str) -> String {
    hex(ring::digest::digest(&ring::digest::SHA256, secret.as_bytes()).as_ref())
}

/// Octets in hexadecimal.
pub(crate) fn hex(octets: &[u8]) -> String {
    octets.iter().map(|o| format!("{o:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller() -> Caller {
        Caller { user: "ann".to_owned(), may_write: true, ..Caller::default() }
    }

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    fn at(seconds: u64) -> Time {
        Time::from_seconds(seconds, 0)
    }

    #[test]
    fn a_token_works_until_it_ends_or_is_revoked_and_survives_a_restart_only_as_a_hash() {
        let folder = std::env::temp_dir().join(format!("floodwall-tokens-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        let tokens = Tokens::open(Some(&folder)).expect("opens");
        assert!(!tokens.any(at(0)));
        let made = |text: &str| {
            let answer = tokens.set(at(100), &caller(), &words(text)).expect(text);
            answer.json["token"].as_str().expect("a secret").to_owned()
        };
        let short = made("short scopes read,operate expires 60s");
        let long = made("long prefixes 203.0.113.0/24");
        assert_eq!(tokens.find(at(159), &short).expect("valid").scopes, [Scope::Read, Scope::Operate]);
        assert!(tokens.find(at(160), &short).is_none(), "it has ended");
        assert!(tokens.find(at(160), "fw_").is_none() && tokens.find(at(160), "").is_none());
        let again = Tokens::open(Some(&folder)).expect("opens");
        assert_eq!(again.find(at(100), &long).expect("valid").prefixes.len(), 1);
        let file = std::fs::read_to_string(folder.join(FILE)).expect("written");
        assert!(!file.contains(&long) && !file.contains(long.trim_start_matches(MARK)), "only its hash is kept");
        tokens.delete(&words("long")).expect("revoked");
        assert!(tokens.find(at(100), &long).is_none());
        let shown = tokens.show(at(100), &[]).expect("shown");
        assert!(!format!("{shown:?}").contains("hash"));
        let _ = std::fs::remove_dir_all(&folder);
    }

    #[test]
    fn wrong_words_and_a_broken_file_are_told() {
        let tokens = Tokens::open(None).expect("opens");
        for (text, part) in [
            ("", "no name"),
            ("a/b", "no name"),
            ("x scopes root", "there is no scope"),
            ("x scopes", "needs a list"),
            ("x frob y", "not understood"),
            ("x prefixes 300.0.0.0/8", "300"),
        ] {
            let failure = tokens.set(at(0), &caller(), &words(text)).expect_err(text);
            assert!(failure.text.contains(part), "{text}: {}", failure.text);
        }
        let _ = tokens.set(at(0), &caller(), &words("x")).expect("made");
        assert!(tokens.set(at(0), &caller(), &words("x")).expect_err("twice").text.contains("already"));
        let folder = std::env::temp_dir().join(format!("floodwall-tokens-broken-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("made");
        std::fs::write(folder.join(FILE), "nonsense").expect("written");
        assert!(Tokens::open(Some(&folder)).is_err());
        let _ = std::fs::remove_dir_all(&folder);
    }
}
