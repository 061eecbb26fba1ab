//! The house's book: what code and documents cite stands there, and what the book says of the tree is so.

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
    assert_eq!(of("a decision of 12 people, 3 decisions, decision 2x, decisions"), Vec::<u32>::new());
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

/// Documents whose paths are looked up: those of `docs/`, and the two that lead to them.
fn documents() -> Vec<(String, String)> {
    let mut paths = vec![root().join("README.md"), root().join("CONTRIBUTING.md")];
    files(&root().join("docs"), &mut paths);
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).expect("text");
        (path.strip_prefix(root()).expect("inside").display().to_string(), without_examples(&text))
    };
    paths.into_iter().map(read).collect()
}

/// A document without what is shown as typed or printed.
fn without_examples(text: &str) -> String {
    let mut inside = false;
    let mut kept = String::new();
    for line in text.lines() {
        let is_fence = line.starts_with("```");
        inside ^= is_fence;
        if !inside && !is_fence && !line.starts_with("    ") {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

/// Whether a word in code's type is a path of the tree: not one of the system, of an address, of what a build makes, or with a
/// name to be filled in.
fn is_path(word: &str) -> bool {
    let elsewhere = ["/", "..", "target/"];
    word.contains('/')
        && word.chars().all(|c| c.is_ascii_alphanumeric() || "_./-".contains(c))
        && word.chars().any(|c| c.is_ascii_lowercase())
        && !elsewhere.iter().any(|start| word.starts_with(start))
}

/// Whether a text has a name, not as part of a longer one.
fn names(text: &str, name: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(name)
        .any(|(at, _)| !text[..at].ends_with(is_part) && !text[at + name.len()..].starts_with(is_part))
}

/// What a document says is in which file: "`X` in `path`", and "`X` and `Y` in `path`".
fn said(text: &str) -> Vec<(&str, &str)> {
    let parts: Vec<&str> = text.split('`').collect();
    let between = |at: usize| parts[at].split_whitespace().collect::<Vec<_>>().join(" ");
    let mut found = Vec::new();
    for at in (3..parts.len()).step_by(2) {
        if !is_path(parts[at]) || between(at - 1) != "in" {
            continue;
        }
        let mut name = at - 2;
        found.push((parts[name], parts[at]));
        while name >= 3 && ["and", ","].contains(&between(name - 1).as_str()) && !is_path(parts[name - 2]) {
            name -= 2;
            found.push((parts[name], parts[at]));
        }
    }
    found
}

#[test]
fn paths_and_what_is_in_them_are_told_from_other_words() {
    for (word, is) in [
        ("src/lib.rs", true),
        ("docs/", true),
        ("collectors/tests", true),
        ("/var/lib/floodwall", false),
        ("../shared/corpus", false),
        ("target/tools", false),
        ("tests/*.rs", false),
        ("N/A", false),
        ("lib.rs", false),
    ] {
        assert_eq!(is_path(word), is, "{word}");
    }
    let text = "see `a` and\n  `B::c` in `src/x.rs`, or `d` of `src/y.rs`; `e`, `f` in `src/z.rs`";
    assert_eq!(
        said(text),
        [("B::c", "src/x.rs"), ("a", "src/x.rs"), ("f", "src/z.rs"), ("e", "src/z.rs")],
        "backwards from each path"
    );
    assert!(names("fn count(&self)", "count") && !names("fn counted()", "count") && !names("recount", "count"));
    assert_eq!(without_examples("a\n```\nb\n```\n    c\nd"), "a\nd\n");
}

#[test]
fn every_path_that_a_document_names_is_in_the_tree() {
    let mut missing = Vec::new();
    let mut seen = 0;
    for (document, text) in documents() {
        for word in text.split('`').skip(1).step_by(2).filter(|word| is_path(word)) {
            seen += 1;
            if !root().join(word).exists() {
                missing.push(format!("{document}: {word}"));
            }
        }
    }
    assert_eq!(missing, Vec::<String>::new());
    assert!(seen > 200, "{seen} paths: they are found at all");
}

#[test]
fn what_a_document_says_is_in_a_file_is_there() {
    let mut missing = Vec::new();
    let mut seen = 0;
    for (document, text) in documents() {
        for (name, path) in said(&text) {
            seen += 1;
            let last = name.rsplit("::").next().unwrap_or(name);
            let there = std::fs::read_to_string(root().join(path)).is_ok_and(|text| names(&text, last));
            if !there {
                missing.push(format!("{document}: {name} in {path}"));
            }
        }
    }
    assert_eq!(missing, Vec::<String>::new());
    assert!(seen > 100, "{seen} names: they are found at all");
}

/// The crates of the workspace by folder: name, and which of the others each depends on, tests aside.
fn crates() -> BTreeMap<String, (String, BTreeSet<String>)> {
    let mut command = std::process::Command::new(env!("CARGO"));
    command.args(["metadata", "--format-version", "1", "--no-deps", "--locked", "--offline"]).current_dir(root());
    let output = command.output().expect("cargo runs");
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let name = |v: &serde_json::Value| v["name"].as_str().expect("a name").to_owned();
    let ours: BTreeSet<String> = packages.iter().map(name).collect();
    let one = |package: &serde_json::Value| {
        let manifest = Path::new(package["manifest_path"].as_str().expect("a path")).parent().expect("a folder");
        let folder = manifest.strip_prefix(root()).expect("inside").display().to_string();
        let all = package["dependencies"].as_array().expect("a list").iter().filter(|d| d["kind"].is_null());
        let knows = all.map(name).filter(|n| ours.contains(n)).collect();
        (if folder.is_empty() { "src".to_owned() } else { folder }, (name(package), knows))
    };
    packages.iter().map(one).collect()
}

#[test]
fn the_page_of_the_architecture_has_every_room_and_whom_it_knows() {
    let page = std::fs::read_to_string(root().join("docs/architecture.md")).expect("the page");
    let crates = crates();
    let all: BTreeSet<String> = crates.values().map(|(name, _)| name.clone()).collect();
    let mut told = BTreeMap::new();
    for line in page.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let Some(folder) = cells[0].trim_matches('`').strip_suffix('/') else { continue };
        let Some((name, _)) = crates.get(folder) else { continue };
        let knows = *cells.last().expect("a cell");
        let list = |text: &str| text.split(", ").map(str::to_owned).collect::<BTreeSet<String>>();
        let knows = match knows.strip_prefix("all but ") {
            Some(but) => all.iter().filter(|n| *n != name && !list(but).contains(*n)).cloned().collect(),
            None if knows == "nobody" => BTreeSet::new(),
            None => list(knows),
        };
        told.insert(folder.to_owned(), (name.clone(), knows));
    }
    assert_eq!(told, crates, "left: what docs/architecture.md says, right: what the manifests say");
}
