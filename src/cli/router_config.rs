//! `floodwall router-config PEER`: what a router needs to export telemetry to us and to take our rules.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use config::Config;
use config::router::{self, Telemetry, Vendor};
use operator::Request;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The peer, as `[bgp.NAME]` names it.
    peer: String,
    /// What the router is.
    #[arg(long, default_value = "junos", value_parser = vendors())]
    vendor: Vendor,
    /// This machine's address as exporters reach it; else the peer's local_address.
    #[arg(long)]
    collector: Option<IpAddr>,
    /// Sampling: one packet of N.
    #[arg(long, default_value_t = 1000)]
    sampling: u32,
    /// Seconds after which a router exports a flow that goes on.
    #[arg(long, default_value_t = 10)]
    active_timeout: u32,
    /// A configuration file; else the running daemon is asked.
    #[arg(long, value_name = "FILE.toml")]
    config: Option<PathBuf>,
    #[command(flatten)]
    options: super::words::Options,
}

fn vendors() -> impl TypedValueParser<Value = Vendor> {
    let known = |name: String| Vendor::ALL.into_iter().find(|(_, n)| *n == name).map_or(Vendor::Junos, |(v, _)| v);
    PossibleValuesParser::new(Vendor::ALL.map(|(_, name)| name)).map(known)
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let config = match &args.config {
        Some(path) => super::load(path)?.context("the configuration is not valid")?,
        None => running(&args.options)?,
    };
    let Some(peer) = config.mitigation.peers.iter().find(|p| p.name == args.peer) else {
        let names: Vec<&str> = config.mitigation.peers.iter().map(|p| p.name.as_str()).collect();
        bail!("there is no active peer {:?}; there are: {}", args.peer, names.join(", "));
    };
    let telemetry =
        Telemetry { collector: args.collector, sampling: args.sampling, active_timeout_seconds: args.active_timeout };
    let (configuration, cost) = router::write_for(&config, peer, args.vendor, telemetry).map_err(anyhow::Error::msg)?;
    if args.options.json {
        let answer = serde_json::json!({ "peer": args.peer, "configuration": configuration, "cost": cost });
        super::print_json(&answer)?;
    } else {
        super::print_text(&format!("{configuration}\n\n{cost}"))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn running(options: &super::words::Options) -> Result<Config> {
    let request = Request::Show { category: "running".to_owned(), arguments: Vec::new() };
    let answer = super::words::ask(request, options)?.map_err(|f: operator::Failure| anyhow::anyhow!(f.text))?;
    let text = answer.json["text"].as_str().context("the daemon shows no configuration")?;
    config::check(text).map_err(|problems| anyhow::anyhow!("{problems:?}"))
}
