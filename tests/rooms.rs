//! The rooms of the house, and what keeps them apart: which crate may know which, how large files and functions get, and that no
//! three files or more know each other in a circle. `docs/architecture.md` says why.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What each crate of the workspace depends on within it, tests aside.
fn graph() -> BTreeMap<String, BTreeSet<String>> {
    let mut command = Command::new(env!("CARGO"));
    command.args(["metadata", "--format-version", "1", "--no-deps", "--locked", "--offline"]).current_dir(root());
    let output = command.output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let name = |v: &Value| v["name"].as_str().expect("a name").to_owned();
    let ours: BTreeSet<String> = packages.iter().map(name).collect();
    let knows = |package: &Value| {
        let all = package["dependencies"].as_array().expect("dependencies").iter().filter(|d| d["kind"].is_null());
        all.map(name).filter(|n| ours.contains(n)).collect()
    };
    packages.iter().map(|package| (name(package), knows(package))).collect()
}

/// What a crate knows, by whatever way.
fn reach(graph: &BTreeMap<String, BTreeSet<String>>, from: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut next = vec![from.to_owned()];
    while let Some(name) = next.pop() {
        let known = graph.get(&name).unwrap_or_else(|| panic!("no crate {name}"));
        next.extend(known.iter().filter(|n| found.insert((*n).clone())).cloned());
    }
    found
}

#[test]
fn no_room_knows_what_it_must_not() {
    let graph = graph();
    for (room, never) in [
        ("traffic", &["sys", "flowspec", "collectors", "detector", "bgp", "config"][..]),
        ("sys", &["traffic", "collectors", "detector", "bgp"]),
        ("flowspec", &["collectors", "detector", "miner", "bgp", "policy", "config"]),
        ("collectors", &["flowspec", "detector", "bgp", "policy", "config"]),
        ("detector", &["collectors", "miner", "bgp", "policy", "config"]),
        ("miner", &["collectors", "detector", "bgp", "policy", "config"]),
        ("bgp", &["collectors", "detector", "miner", "policy", "enforcer", "config"]),
        ("policy", &["collectors", "enforcer", "config", "operator"]),
        ("enforcer", &["collectors", "detector", "miner", "policy", "config"]),
        ("config", &["operator", "reporting", "api", "floodwall"]),
        ("operator", &["reporting", "api", "floodwall"]),
        ("reporting", &["api", "floodwall"]),
        ("api", &["floodwall"]),
    ] {
        let known = reach(&graph, room);
        for name in never {
            assert!(graph.contains_key(*name), "no crate {name}");
            assert!(!known.contains(*name), "{room} must not know {name}; it knows {known:?}");
        }
    }
}

#[test]
fn unsafe_code_is_forbidden_in_every_crate_but_one() {
    let read = |path: PathBuf| std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let workspace = read(root().join("Cargo.toml"));
    assert!(workspace.contains("unsafe_code = \"forbid\""));
    let (mut with_own, mut with_workspaces) = (Vec::new(), 0);
    for manifest in manifests() {
        let text = read(manifest.clone());
        if text.contains("[lints]\nworkspace = true") {
            with_workspaces += 1;
        } else {
            with_own.push(manifest.strip_prefix(root()).expect("inside").display().to_string());
        }
    }
    assert_eq!(with_own, ["collectors/sys/Cargo.toml"]);
    assert_eq!(with_workspaces + 1, graph().len());
}

fn manifests() -> Vec<PathBuf> {
    let mut found = vec![root().join("Cargo.toml")];
    for folder in folders() {
        found.push(folder.parent().expect("a crate's folder").join("Cargo.toml"));
    }
    found.dedup();
    found
}

/// The `src` folder of every crate.
fn folders() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut next = vec![root().to_owned()];
    while let Some(folder) = next.pop() {
        for entry in std::fs::read_dir(&folder).expect("readable").flatten() {
            let path = entry.path();
            let name = entry.file_name();
            if !path.is_dir() || ["target", "fuzz", "tests", "node_modules"].iter().any(|n| name == *n) {
                continue;
            }
            if name == "src" && folder != root() && folder.join("Cargo.toml").exists() {
                found.push(path);
            } else if !name.to_string_lossy().starts_with('.') {
                next.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Rust files of a folder, sorted.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut next = vec![folder.to_owned()];
    while let Some(folder) = next.pop() {
        for entry in std::fs::read_dir(&folder).expect("readable").flatten() {
            let path = entry.path();
            if path.is_dir() {
                next.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn all_files() -> Vec<PathBuf> {
    folders().iter().chain([&root().join("src")]).flat_map(|folder| files(folder)).collect()
}

/// A file without its tests.
fn production(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests").next().unwrap_or(text)
}

#[test]
fn files_have_at_most_800_lines_and_crates_10_000() {
    let lines = |path: &PathBuf| std::fs::read_to_string(path).expect("readable").lines().count();
    let long: Vec<String> = all_files()
        .iter()
        .map(|path| (lines(path), path))
        .filter(|(lines, _)| *lines > 800)
        .map(|(lines, path)| format!("{}: {lines} lines", path.display()))
        .collect();
    assert_eq!(long, Vec::<String>::new());
    for folder in folders().into_iter().chain([root().join("src")]) {
        let sum: usize = files(&folder).iter().map(lines).sum();
        assert!(sum <= 10_000, "{}: {sum} lines", folder.display());
    }
}

/// Lines that a function may have.
const LONGEST: usize = 60;

/// Longer functions, and why: tables of data that are read from top to bottom, and for now those that are being split. What is no
/// longer long has to be taken out.
const LONG: &[(&str, &str, &str)] = &[
    ("collectors/src/plain.rs", "emit", "being split"),
    ("collectors/src/record.rs", "emit", "being split"),
    ("config/src/announcing.rs", "action_keys", "being split"),
    ("config/src/announcing.rs", "compose", "being split"),
    ("config/src/announcing.rs", "guard_keys", "being split"),
    ("config/src/collecting.rs", "keys", "being split"),
    ("config/src/counting.rs", "learning_keys", "being split"),
    ("config/src/enforcer.rs", "peer_keys", "being split"),
    ("config/src/hostgroup.rs", "form_keys", "being split"),
    ("config/src/hostgroup.rs", "keys", "being split"),
    ("config/src/import/fastnetmon.rs", "import_group", "being split"),
    ("config/src/peer.rs", "compose", "being split"),
    ("config/src/peer.rs", "session_keys", "being split"),
];

/// Circles of more than three files that are still there, by the number of their files: write the smaller number when one shrinks.
const CIRCLES: &[(&str, &[usize])] = &[("config/src", &[14, 4])];

/// The name of the function that begins on a line, and by how much the line is indented.
fn function(line: &str) -> Option<(usize, &str)> {
    let mut rest = line.trim_start();
    let indent = line.len() - rest.len();
    if let Some(public) = rest.strip_prefix("pub") {
        let behind = public.strip_prefix('(').and_then(|p| p.split_once(')')).map_or(public, |(_, behind)| behind);
        rest = behind.strip_prefix(' ')?;
    }
    for word in ["default ", "const ", "async ", "unsafe ", "extern \"C\" "] {
        rest = rest.strip_prefix(word).unwrap_or(rest);
    }
    let name = rest.strip_prefix("fn ")?;
    let end = name.find(|c: char| !c.is_alphanumeric() && c != '_')?;
    Some((indent, &name[..end]))
}

/// The lines of the function that begins on the first of these.
fn length(lines: &[&str], indent: usize) -> usize {
    if lines[0].ends_with('}') {
        return 1;
    }
    let head = lines.iter().position(|line| line.ends_with('{') || line.ends_with(';')).unwrap_or(0);
    // A trait may ask for it without a body.
    if lines[head].ends_with(';') {
        return head + 1;
    }
    let end = " ".repeat(indent) + "}";
    lines.iter().position(|line| *line == end).map_or(lines.len(), |at| at + 1)
}

/// The functions of a text that rustfmt wrote, with their lines.
fn functions(text: &str) -> Vec<(&str, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some((indent, name)) = function(line) else { continue };
        found.push((name, length(&lines[at..], indent)));
    }
    found
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root()).expect("inside").display().to_string()
}

#[test]
fn functions_have_at_most_60_lines() {
    let mut long = BTreeMap::new();
    for path in all_files() {
        let text = std::fs::read_to_string(&path).expect("readable");
        let of_file = functions(&text).into_iter().filter(|(_, lines)| *lines > LONGEST);
        long.extend(of_file.map(|(name, lines)| ((relative(&path), name.to_owned()), lines)));
    }
    let listed: BTreeSet<_> = LONG.iter().map(|(file, name, _)| ((*file).to_owned(), (*name).to_owned())).collect();
    assert_eq!(listed.len(), LONG.len(), "an entry of LONG stands twice");
    let new: Vec<_> = long.iter().filter(|(function, _)| !listed.contains(*function)).collect();
    assert!(new.is_empty(), "longer than {LONGEST} lines: {new:#?}");
    let gone: Vec<_> = listed.iter().filter(|function| !long.contains_key(*function)).collect();
    assert!(gone.is_empty(), "no longer long, take them out of LONG: {gone:#?}");
}

#[test]
fn the_lines_of_functions_are_counted_as_rustfmt_writes_them() {
    let text = "\
trait Shape {
    fn area(&self) -> u64;
    fn scaled(
        &self,
        by: u64,
    ) -> Self;
}

impl Square {
    pub(crate) const fn one() -> Self { Self(1) }

    pub async fn long(
        &self,
        by: u64,
    ) -> Self
    where
        Self: Sized,
    {
        fn inner() {
            two();
        }
        if by > 1 {
            inner();
        }
    }
}
";
    let expected = [("area", 1), ("scaled", 4), ("one", 1), ("long", 14), ("inner", 3)];
    assert_eq!(functions(text), expected);
}

/// The paths behind `crate::` and `super::` of a text, as words; what stands in braces is taken apart.
fn paths(text: &str) -> Vec<Vec<&str>> {
    let mut found = Vec::new();
    for start in ["crate::", "super::"] {
        for (at, _) in text.match_indices(start) {
            // The first word of a path alone: `super::super::x` is one.
            if !text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':' || c == '$') {
                branches(&text[at..], &[], &mut found);
            }
        }
    }
    found
}

/// Takes a path from the front of a text, and all that it branches into; gives the text behind it.
fn branches<'a>(text: &'a str, before: &[&'a str], found: &mut Vec<Vec<&'a str>>) -> &'a str {
    let mut path = before.to_vec();
    let mut rest = text;
    loop {
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        path.extend(Some(&rest[..end]).filter(|word| !word.is_empty() && *word != "self"));
        let Some(behind) = rest[end..].strip_prefix("::") else {
            found.push(path);
            return &rest[end..];
        };
        rest = behind;
        if let Some(mut inner) = rest.strip_prefix('{') {
            loop {
                inner = inner.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
                match inner.chars().next() {
                    Some(c) if c.is_alphanumeric() || c == '_' => inner = branches(inner, &path, found),
                    // A star, or the end.
                    Some('*') => inner = &inner[1..],
                    _ => return inner.strip_prefix('}').unwrap_or(inner),
                }
                // Another name is none of a module.
                if let Some(renamed) = inner.trim_start().strip_prefix("as ") {
                    inner = renamed.trim_start().trim_start_matches(|c: char| c.is_alphanumeric() || c == '_');
                }
            }
        }
    }
}

/// The module that a file is, from the crate's root on.
fn module(file: &str) -> Vec<&str> {
    let mut words: Vec<&str> = file.strip_suffix(".rs").unwrap_or(file).split('/').collect();
    words.pop_if(|word| matches!(*word, "mod" | "lib" | "main"));
    words
}

/// Which file of a crate knows which, tests aside: file and text of each.
fn knowledge(files: &BTreeMap<String, String>) -> BTreeMap<String, BTreeSet<String>> {
    let modules: BTreeMap<Vec<&str>, &String> = files.keys().map(|file| (module(file), file)).collect();
    let known = |file: &String, text: &String| -> BTreeSet<String> {
        if file.ends_with("tests.rs") {
            return BTreeSet::new();
        }
        let without_comments = |line: &str| line.split("//").next().unwrap_or_default().to_owned() + "\n";
        let code: String = production(text).lines().map(without_comments).collect();
        let own = module(file);
        let target = |path: &Vec<&str>| {
            let ups = path.iter().take_while(|word| **word == "super").count();
            let base = if ups == 0 { &[] } else { &own[..own.len().saturating_sub(ups)] };
            let whole: Vec<&str> = base.iter().chain(&path[ups.max(1)..]).copied().collect();
            // The last words name what the module holds.
            (0..=whole.len()).rev().find_map(|words| modules.get(&whole[..words])).map(|file| (*file).clone())
        };
        paths(&code).iter().filter_map(target).filter(|other| other != file).collect()
    };
    files.iter().map(|(file, text)| (file.clone(), known(file, text))).collect()
}

/// Files that all know each other, by whatever way: two or more each.
fn circles(graph: &BTreeMap<String, BTreeSet<String>>) -> BTreeSet<BTreeSet<String>> {
    let reached: BTreeMap<&String, BTreeSet<String>> = graph.keys().map(|file| (file, reach(graph, file))).collect();
    let circle = |file: &String| -> BTreeSet<String> {
        reached[file].iter().filter(|other| reached[other].contains(file)).cloned().collect()
    };
    graph.keys().map(circle).filter(|circle| circle.len() > 1).collect()
}

#[test]
fn no_more_than_three_files_know_each_other_in_a_circle() {
    let mut large = BTreeMap::new();
    for folder in folders().into_iter().chain([root().join("src")]) {
        let text = |path: &PathBuf| std::fs::read_to_string(path).expect("readable");
        let name = |path: &PathBuf| path.strip_prefix(&folder).expect("inside").display().to_string();
        let texts = files(&folder).iter().map(|path| (name(path), text(path))).collect();
        let of_crate: Vec<_> = circles(&knowledge(&texts)).into_iter().filter(|circle| circle.len() > 3).collect();
        if !of_crate.is_empty() {
            large.insert(relative(&folder), of_crate);
        }
    }
    let sizes = |circles: &Vec<BTreeSet<String>>| circles.iter().map(BTreeSet::len).collect::<Vec<_>>();
    let found: BTreeMap<&str, Vec<usize>> = large.iter().map(|(folder, all)| (folder.as_str(), sizes(all))).collect();
    let listed: BTreeMap<&str, Vec<usize>> = CIRCLES.iter().map(|(folder, sizes)| (*folder, sizes.to_vec())).collect();
    assert_eq!(found, listed, "files in circles, found and as in CIRCLES: {large:#?}");
}

#[test]
fn a_circle_is_found_through_every_way_to_write_a_path() {
    let files = [
        ("lib.rs", "pub mod a;\npub use a::A;\n"),
        ("a.rs", "use crate::{\n    b::{self, B as Other},\n    c::*,\n};\n"),
        ("b/mod.rs", "use super::super::nothing;\nfn f() -> super::c::C { todo() }\n"),
        ("b/d.rs", "// crate::a\nuse super::super::a::A;\n#[cfg(test)]\nmod tests {\n    use crate::c::C;\n}\n"),
        ("c.rs", "fn g(d: &crate::b::d::D) {}\n#[cfg(test)]\nmod tests {\n    use crate::a::A;\n}\n"),
        ("e.rs", "use crate::a::A;\nuse super::b;\n"),
    ];
    let files = files.map(|(file, text)| (file.to_owned(), text.to_owned())).into();
    let graph = knowledge(&files);
    let all = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(graph["a.rs"], all(&["b/mod.rs", "c.rs"]));
    assert_eq!(graph["b/mod.rs"], all(&["c.rs", "lib.rs"]));
    assert_eq!(graph["b/d.rs"], all(&["a.rs"]));
    assert_eq!(graph["c.rs"], all(&["b/d.rs"]));
    assert_eq!(circles(&graph), BTreeSet::from([all(&["a.rs", "b/d.rs", "b/mod.rs", "c.rs"])]));
}
