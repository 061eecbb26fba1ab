//! The `floodwall` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    floodwall::cli::main()
}
