//! What tests need from outside the tree, and what they say when it is absent. Tests of other crates take this file by its path.
#![allow(dead_code, unreachable_pub, reason = "each test uses a part of this")]
#![allow(clippy::print_stdout, reason = "a test that is skipped says so")]

use std::io::Write;
use std::path::{Path, PathBuf};

/// Notes that the calling test does not run, or only in part. The line is printed and, where `FLOODWALL_SKIPPED` names a file,
/// appended to it: `make test` prints that file at its end.
pub fn skipped(why: &str) {
    let thread = std::thread::current();
    let line = format!("{}: {why}", thread.name().unwrap_or("a test"));
    println!("skipped: {line}");
    let Some(path) = std::env::var_os("FLOODWALL_SKIPPED") else { return };
    let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
    // One write, so that lines of tests that run at the same time do not mix.
    file.and_then(|mut f| f.write_all(format!("{line}\n").as_bytes()))
        .expect("FLOODWALL_SKIPPED names a file to write");
}

/// The captures that nobody here made: the folder that `FLOODWALL_CORPUS` names, or `shared/corpus` beside the workspace. `None`,
/// and a note, where it is absent.
pub fn corpus() -> Option<PathBuf> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().find(|folder| folder.join("Cargo.lock").exists());
    let beside = || workspace.expect("a workspace").join("../shared/corpus");
    let folder = std::env::var_os("FLOODWALL_CORPUS").map_or_else(beside, PathBuf::from);
    if folder.join("INDEX.tsv").exists() {
        return Some(folder);
    }
    skipped(&format!("there is no corpus at {} (FLOODWALL_CORPUS)", folder.display()));
    None
}
