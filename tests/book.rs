//! The house's book: what code and documents cite stands there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Whose comments and sentences are read.
const KINDS: [&str; 6] = ["rs", "md", "toml", "js", "mjs", "py"];
/// Folders that hold nothing of ours.
const ELSEWHERE: [&str; 4] = ["target", "node_modules", "__pycache__", "corpus"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files of the tree whose kind is read.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        if path.is_symlink() || name.starts_with('.') || ELSEWHERE.contains(&name) {
            continue;
        }
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().and_then(|e| e.to_str()).is_some_and(|e| KINDS.contains(&e)) {
            found.push(path);
        }
    }
}

/// The number that a text begins with, and what follows it.
fn number(text: &str) -> Option<(u32, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}

/// The numbers that a text cites: `decision 7`, `decisions 6 and 44`, `decisions 1, 2 and 3`, also over the end of a line.
fn cited(text: &str) -> BTreeSet<u32> {
    // What begins a comment's line is no part of the sentence.
    let words: Vec<&str> =
        text.split_whitespace().filter(|w| !matches!(*w, "//" | "///" | "//!" | "#" | "*")).collect();
    let mut found = BTreeSet::new();
    for (at, word) in words.iter().enumerate() {
        let word = word.trim_start_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
        if word != "decision" && word != "decisions" {
            continue;
        }
        // The number behind `and` is the last.
        let mut is_last = word == "decision";
        for next in &words[at + 1..] {
            match number(next) {
                // `decision 1's` and `decision 14)` cite; `decision 2x` is something else.
                Some((cited, rest)) if !rest.starts_with(|c: char| c.is_alphabetic()) => {
                    found.insert(cited);
                    if is_last || !(rest.is_empty() || rest == ",") {
                        break;
                    }
                }
                _ if !is_last && matches!(*next, "and" | "to" | "or") => is_last = true,
                _ => break,
            }
        }
    }
    found
}

/// The numbers of the entries, in their order.
fn entries(book: &str) -> Vec<u32> {
    book.lines().filter_map(|line| Some(number(line.strip_prefix("### ")?)?.0)).collect()
}

#[test]
fn citations_are_found_in_every_form_that_is_used() {
    let of = |text: &str| cited(text).into_iter().collect::<Vec<u32>>();
    assert_eq!(of("held back (decision 31), by decision 5."), [5, 31]);
    assert_eq!(of("see decisions 6 and 44, and 9 rules"), [6, 44]);
    assert_eq!(of("/// as decisions 1, 2\n    /// and 3 say; Decision\n/// 7's default"), [1, 2, 3, 7]);
    assert_eq!(of("a decision of 12 people, 3 decisions, decision 2x, decisions"), []);
}

#[test]
fn every_decision_that_is_cited_is_an_entry_of_the_book() {
    let book = std::fs::read_to_string(root().join("docs/decisions.md")).expect("the book");
    let entries = entries(&book);
    assert!(entries.is_sorted() && entries.len() >= 50, "in the order of their numbers: {entries:?}");
    let known: BTreeSet<u32> = entries.iter().copied().collect();
    assert_eq!(known.len(), entries.len(), "a number that is given twice: {entries:?}");

    let mut paths = Vec::new();
    files(root(), &mut paths);
    let mut missing = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for path in paths.iter().filter(|p| !p.ends_with("tests/book.rs")) {
        let numbers = cited(&std::fs::read_to_string(path).expect("text"));
        let unknown: Vec<u32> = numbers.difference(&known).copied().collect();
        if !unknown.is_empty() {
            missing.insert(path, unknown);
        }
        seen.extend(numbers);
    }
    assert!(missing.is_empty(), "cited, and not in docs/decisions.md: {missing:?}");
    assert!(seen.len() > 20, "citations are found at all: {seen:?}");
}

#[test]
fn what_an_entry_says_of_another_exists() {
    let book = std::fs::read_to_string(root().join("docs/decisions.md")).expect("the book");
    let known: BTreeSet<u32> = entries(&book).into_iter().collect();
    // `(33)` and `*Changes 5` are how entries name each other.
    let named = book.split(['(', '*']).filter_map(|part| {
        let text = part.strip_prefix("Changes ").unwrap_or(part);
        let (named, rest) = number(text)?;
        (rest.starts_with(')') || (text.len() < part.len() && rest.starts_with([',', '.']))).then_some(named)
    });
    let named: Vec<u32> = named.filter(|n| *n < 100).collect();
    assert!(named.len() > 5, "{named:?}");
    let unknown: Vec<&u32> = named.iter().filter(|n| !known.contains(n)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}
