//! `floodwall demo`

use std::process::ExitCode;

use anyhow::{Context, Result};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// End when the router has accepted the rule; exit 0 only then.
    #[arg(long)]
    once: bool,
    /// Use the recorded sFlow export instead of the `NetFlow` v9 one.
    #[arg(long)]
    sflow: bool,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    crate::log::start("error");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let result = runtime.block_on(crate::demo::run(args.sflow, args.once, &mut |line| say!("{line}")));
    runtime.shutdown_background();
    result.map(|()| ExitCode::SUCCESS)
}
