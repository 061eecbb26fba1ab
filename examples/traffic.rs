#![allow(clippy::print_stderr, reason = "a command line")]
//! Writes a generated capture: `cargo run --example traffic -- KIND FILE`. Nothing is sent.

#[path = "../tests/support/traffic.rs"]
mod traffic;

use std::process::ExitCode;

use traffic::{Recording, host, host6};

/// The recordings by name.
fn recording(kind: &str) -> Option<Recording> {
    let mut r = Recording::new(1);
    let everyone = |r: &mut Recording, seconds: f64| {
        (5..15).for_each(|last| {
            r.ordinary(host(last), 0.0, seconds, 60.0);
        });
        r.ordinary(host6(9), 0.0, seconds, 60.0);
    };
    match kind {
        "ordinary" => everyone(&mut r, 10.0),
        "dns" => {
            everyone(&mut r, 12.0);
            r.dns_amplification(host(9), 3.0, 5.0, 10_000.0);
        }
        "three-vectors" => {
            everyone(&mut r, 12.0);
            r.dns_amplification(host(9), 2.0, 8.0, 8_000.0);
            r.syn_flood(host(9), 3.0, 7.0, 8_000.0);
            r.fragment_flood(host(9), 4.0, 6.0, 8_000.0);
        }
        "inseparable" => {
            everyone(&mut r, 14.0);
            r.inseparable_flood(host(9), 2.0, 12.0, 10_000.0);
            r.inseparable_flood(host6(9), 2.0, 12.0, 10_000.0);
        }
        _ => return None,
    }
    Some(r)
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [kind, file] = args.as_slice() else {
        eprintln!("usage: traffic ordinary|dns|three-vectors|inseparable FILE");
        return ExitCode::from(2);
    };
    let Some(mut recording) = recording(kind) else {
        eprintln!("traffic: unknown kind {kind:?}");
        return ExitCode::from(2);
    };
    let written = std::fs::File::create(file).and_then(|file| recording.write(file));
    if let Err(error) = written {
        eprintln!("traffic: {file}: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
