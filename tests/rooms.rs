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
    text.split("#[cfg(test)]\nmod ").next().unwrap_or(text)
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
