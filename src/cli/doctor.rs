//! `floodwall doctor`: what keeps an installation from working well, and the command that mends it.

use std::net::UdpSocket;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::Result;
use config::Config;
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use nix::sys::statvfs::statvfs;
use operator::{Envelope, Request, table};
use serde::Serialize;
use serde_json::Value;

use crate::control;
use crate::control::client::Client;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The daemon's control socket [default: /run/floodwall/control.sock].
    #[arg(long, env = "FLOODWALL_SOCKET", value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Look at this configuration when no daemon runs.
    #[arg(long, value_name = "FILE.toml")]
    config: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum Level {
    Well,
    Note,
    Trouble,
}

/// Something that was looked at.
#[derive(Debug, Clone, Serialize)]
struct Finding {
    level: Level,
    /// What was looked at.
    about: String,
    /// What was found.
    text: String,
    /// The command that mends it.
    mend: Option<String>,
}

#[derive(Debug, Default)]
struct Examination(Vec<Finding>);

impl Examination {
    fn add(&mut self, level: Level, about: &str, text: impl Into<String>, mend: Option<String>) {
        self.0.push(Finding { level, about: about.to_owned(), text: text.into(), mend });
    }

    fn well(&mut self, about: &str, text: impl Into<String>) {
        self.add(Level::Well, about, text, None);
    }

    fn trouble(&mut self, about: &str, text: impl Into<String>, mend: impl Into<String>) {
        self.add(Level::Trouble, about, text, Some(mend.into()));
    }

    fn note(&mut self, about: &str, text: impl Into<String>, mend: impl Into<String>) {
        self.add(Level::Note, about, text, Some(mend.into()));
    }
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let examination = examine(&control::socket_path(args.socket.as_ref()), args.config.as_deref());
    if args.json {
        super::print_json(&examination.0)?;
    } else {
        print(&examination)?;
    }
    let has_trouble = examination.0.iter().any(|f| f.level == Level::Trouble);
    Ok(if has_trouble { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// From within the shell.
pub(super) fn run_on(socket: &Path) -> Result<ExitCode> {
    print(&examine(socket, None))?;
    Ok(ExitCode::SUCCESS)
}

fn print(examination: &Examination) -> Result<()> {
    let word = |level: Level| match level {
        Level::Well => "well",
        Level::Note => "note",
        Level::Trouble => "TROUBLE",
    };
    let row = |f: &Finding| vec![word(f.level).to_owned(), f.about.clone(), f.text.clone()];
    let mut findings = examination.0.clone();
    findings.sort_by_key(|f| std::cmp::Reverse(f.level));
    let rows: Vec<Vec<String>> = findings.iter().map(row).collect();
    super::print_text(&table(&["", "ABOUT", "FOUND"], &rows))?;
    let mends: Vec<&Finding> = findings.iter().filter(|f| f.mend.is_some()).collect();
    if !mends.is_empty() {
        super::print_text("\nwhat mends it:")?;
    }
    for finding in mends {
        super::print_text(&format!("  {}: {}", finding.about, finding.mend.as_deref().unwrap_or("")))?;
    }
    Ok(())
}

fn examine(socket: &Path, file: Option<&Path>) -> Examination {
    let mut found = Examination::default();
    let live = ask_daemon(socket, &mut found);
    let config = configuration(live.as_ref(), file, &mut found);
    if let Some((status, _, pid)) = &live {
        look_at_sources(status, &mut found);
        look_at_sessions(status, &mut found);
        look_at_capabilities(*pid, config.as_ref(), &mut found);
    } else if let Some(config) = &config {
        look_at_ports(config, &mut found);
    }
    if let Some(config) = &config {
        look_at_configuration(config, &mut found);
        look_at_buffers(config, &mut found);
        look_at_disk(&config.state_directory, &mut found);
    }
    look_at_kernel(&mut found);
    look_at_clock(&mut found);
    found
}

/// The daemon's status, the text of its configuration, and its process.
fn ask_daemon(socket: &Path, found: &mut Examination) -> Option<(Value, String, i32)> {
    let ask = || -> Result<(Value, String, i32)> {
        let mut client = Client::connect(socket)?;
        let mut show = |category: &str| -> Result<Value> {
            let request = Request::Show { category: category.to_owned(), arguments: Vec::new() };
            let outcome = client.ask(&Envelope::new(request, None, None))?;
            outcome.map(|answer| answer.json).map_err(|failure| anyhow::anyhow!(failure.text))
        };
        let (status, running) = (show("status")?, show("running")?);
        let pid = getsockopt(&UnixStream::connect(socket)?, PeerCredentials)?.pid();
        Ok((status, running["text"].as_str().unwrap_or("").to_owned(), pid))
    };
    match ask() {
        Ok(answer) => {
            let uptime = answer.0["uptime_seconds"].as_f64().unwrap_or(0.0);
            found.well("daemon", format!("runs for {uptime:.0} s as process {}", answer.2));
            Some(answer)
        }
        Err(error) => {
            found.trouble(
                "daemon",
                format!("{error:#}"),
                "systemctl start floodwall   (or: floodwall run --config FILE.toml)",
            );
            None
        }
    }
}

fn configuration(live: Option<&(Value, String, i32)>, file: Option<&Path>, found: &mut Examination) -> Option<Config> {
    let text = match (live, file) {
        (Some((_, text, _)), _) => text.clone(),
        (None, Some(path)) => match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => {
                found.trouble(
                    "configuration",
                    format!("{}: {error}", path.display()),
                    "floodwall doctor --config FILE.toml",
                );
                return None;
            }
        },
        (None, None) => return None,
    };
    match config::check(&text) {
        Ok(config) => Some(config),
        Err(problems) => {
            let first = problems.first().map(ToString::to_string).unwrap_or_default();
            found.trouble(
                "configuration",
                format!("{} problems, such as {first}", problems.len()),
                "floodwall check --config FILE.toml",
            );
            None
        }
    }
}

fn look_at_configuration(config: &Config, found: &mut Examination) {
    if config.detector.networks.is_empty() {
        found.trouble(
            "networks",
            "networks_list is empty: no host is watched",
            "floodwall set main networks_list PREFIX; floodwall commit",
        );
    }
    if config.collectors.workers() == 0 {
        found.trouble(
            "sources",
            "nothing is collected",
            "floodwall set main netflow enable; floodwall commit   (or sflow, mirror)",
        );
    }
    if !config::check::has_thresholds(config) {
        found.trouble(
            "thresholds",
            "no host group has a threshold in force",
            "floodwall set hostgroup global ban_for_pps enable; floodwall commit",
        );
    }
    if config.mitigation.enable_ban {
        found.well("mode", "automatic decisions are announced");
    } else {
        found.note(
            "mode",
            "dry run: nothing is announced by itself",
            "floodwall set main enable_ban enable; floodwall commit",
        );
    }
}

/// Whether sockets can have the buffer that is asked for.
fn look_at_buffers(config: &Config, found: &mut Examination) {
    let wanted = config.collectors.receive_buffer_bytes;
    let Some(limit) = read_number("/proc/sys/net/core/rmem_max") else { return };
    if config.collectors.listeners.is_empty() {
        return;
    }
    if limit < wanted as u64 {
        let text =
            format!("net.core.rmem_max is {limit}, receive_buffer_bytes is {wanted}: bursts of exports may be lost");
        found.note("socket buffers", text, format!("sysctl -w net.core.rmem_max={wanted}"));
    } else {
        found.well("socket buffers", format!("up to {limit} bytes"));
    }
}

fn look_at_sources(status: &Value, found: &mut Examination) {
    for source in status["sources"].as_array().into_iter().flatten() {
        let name = source["name"].as_str().unwrap_or("?");
        let number = |key: &str| source[key].as_u64().unwrap_or(0);
        if let Some(why) = source["failed"].as_str() {
            found.trouble(name, format!("it has ended: {why}"), "floodwall reload, or restart the daemon");
            continue;
        }
        if number("kernel_drops") > 0 {
            let text = format!("the kernel dropped {} datagrams or packets", number("kernel_drops"));
            let more = "sysctl -w net.core.rmem_max=67108864; floodwall set main receive_buffer_bytes 67108864; floodwall set main \
                        netflow_workers 4; floodwall commit";
            found.trouble(name, text, more);
        }
        let errors = source["errors"].as_object();
        let count = |reason: &str| errors.and_then(|e| e.get(reason)).and_then(Value::as_u64).unwrap_or(0);
        if count("no_template") > 0 {
            let text =
                format!("{} data sets came without a template: exporters have not sent it yet", count("no_template"));
            found.note(name, text, "have exporters send templates every 60 s; floodwall show exporters names them");
        }
        if number("datagrams") == 0 && number("packets") == 0 {
            found.trouble(
                name,
                "nothing has arrived",
                "floodwall router-config PEER says what exporters need; check firewalls with tcpdump",
            );
        } else {
            found.well(
                name,
                format!("{} datagrams, {} flows, {} packets", number("datagrams"), number("flows"), number("packets")),
            );
        }
    }
}

fn look_at_sessions(status: &Value, found: &mut Examination) {
    for peer in status["peers"].as_array().into_iter().flatten() {
        let name = format!("peer {}", peer["name"].as_str().unwrap_or("?"));
        let state = peer["state"].as_str().unwrap_or("?");
        let refused = peer["refused"].as_object().map_or(0, serde_json::Map::len);
        if state != "established" {
            let why = peer["last_error"].as_str().unwrap_or("no answer yet");
            found.trouble(
                &name,
                format!("{state}: {why}"),
                format!("floodwall router-config {}", name.trim_start_matches("peer ")),
            );
        } else if refused > 0 {
            found.note(
                &name,
                format!("established, but {refused} routes are not sent to it"),
                "floodwall show bgp --json",
            );
        } else {
            found.well(&name, "established");
        }
    }
}

/// What the daemon may do: bits of `CapEff` (linux/capability.h).
fn look_at_capabilities(pid: i32, config: Option<&Config>, found: &mut Examination) {
    const NET_BIND_SERVICE: u64 = 1 << 10;
    const NET_RAW: u64 = 1 << 13;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("CapEff:"));
    let Some(bits) = line.and_then(|l| u64::from_str_radix(l.trim(), 16).ok()) else { return };
    let captures = config.is_some_and(|c| !c.collectors.interfaces.is_empty());
    let low_port = config.is_some_and(|c| c.collectors.listeners.iter().any(|l| l.address.port() < 1024));
    let grant = "setcap cap_net_raw,cap_net_bind_service+ep $(command -v floodwall); systemctl restart floodwall";
    if bits & NET_RAW == 0 && captures {
        found.trouble("capabilities", "without CAP_NET_RAW mirror ports cannot be captured", grant);
    } else if bits & NET_BIND_SERVICE == 0 && low_port {
        found.trouble("capabilities", "without CAP_NET_BIND_SERVICE ports below 1024 cannot be opened", grant);
    } else {
        found.well("capabilities", "enough for this configuration");
    }
}

/// Whether what the configuration wants to listen on is free.
fn look_at_ports(config: &Config, found: &mut Examination) {
    for listener in &config.collectors.listeners {
        let about = format!("udp {}", listener.address);
        match UdpSocket::bind(listener.address) {
            Ok(_) => found.well(&about, "free"),
            Err(error) => {
                found.trouble(&about, error.to_string(), format!("ss -lunp 'sport = :{}'", listener.address.port()))
            }
        }
    }
    if let Err(error) = std::net::TcpListener::bind(config.api.listen) {
        let about = format!("tcp {}", config.api.listen);
        found.trouble(&about, error.to_string(), format!("ss -ltnp 'sport = :{}'", config.api.listen.port()));
    }
}

fn look_at_disk(state: &Path, found: &mut Examination) {
    let shown = state.display().to_string();
    let existing = state.ancestors().find(|p| p.exists()).unwrap_or(Path::new("/"));
    match statvfs(existing) {
        Ok(disk) => {
            #[allow(clippy::unnecessary_cast, reason = "the width differs between platforms")]
            let free = disk.blocks_available() as u64 * disk.fragment_size() as u64;
            if free < 100 << 20 {
                found.trouble(
                    "disk",
                    format!("{} MiB are free at {shown}", free >> 20),
                    format!("df -h {}", existing.display()),
                );
            } else {
                found.well("disk", format!("{} MiB are free at {shown}", free >> 20));
            }
        }
        Err(error) => found.trouble("disk", format!("{shown}: {error}"), format!("install -d -m 700 {shown}")),
    }
}

/// What the kernel counts and how it is set.
fn look_at_kernel(found: &mut Examination) {
    let snmp = std::fs::read_to_string("/proc/net/snmp").unwrap_or_default();
    match counter(&snmp, "Udp:", "RcvbufErrors") {
        Some(0) => found.well("udp", "no datagram was dropped for a full buffer since boot"),
        Some(drops) => {
            let text = format!("{drops} datagrams were dropped for a full buffer since boot, by any program");
            found.note("udp", text, "floodwall show interfaces tells ours; sysctl -w net.core.rmem_max=67108864");
        }
        None => {}
    }
    let netstat = std::fs::read_to_string("/proc/net/netstat").unwrap_or_default();
    let dropped = counter(&netstat, "TcpExt:", "IPReversePathFilter").unwrap_or(0);
    let strict: Vec<String> = interfaces().into_iter().filter(|name| is_strict(name)).collect();
    if dropped > 0 {
        let text = format!(
            "reverse path filtering dropped {dropped} packets since boot: exporters with asymmetric routes go unheard"
        );
        found.trouble(
            "rp_filter",
            text,
            "sysctl -w net.ipv4.conf.all.rp_filter=2   (or: ip route add EXPORTER via ROUTER)",
        );
    } else if strict.is_empty() {
        found.well("rp_filter", "off or loose");
    } else {
        let text = format!("strict on {}: exporters whose way back goes elsewhere would go unheard", strict.join(", "));
        found.note("rp_filter", text, "sysctl -w net.ipv4.conf.all.rp_filter=2");
    }
}

fn interfaces() -> Vec<String> {
    let folder = std::fs::read_dir("/proc/sys/net/ipv4/conf").into_iter().flatten();
    let names = folder.filter_map(|e| e.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|n| !matches!(n.as_str(), "all" | "default" | "lo")).collect();
    names.sort();
    names
}

/// The higher of the interface's and the common setting holds; 1 is strict (ip-sysctl.rst).
fn is_strict(interface: &str) -> bool {
    let setting = |name: &str| read_number(&format!("/proc/sys/net/ipv4/conf/{name}/rp_filter")).unwrap_or(0);
    setting(interface).max(setting("all")) == 1
}

/// A counter of `/proc/net/snmp` and the like: names on one line, values on the next.
fn counter(text: &str, group: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter(|l| l.starts_with(group));
    let (names, values) = (lines.next()?, lines.next()?);
    let at = names.split_whitespace().position(|n| n == name)?;
    values.split_whitespace().nth(at)?.parse().ok()
}

fn read_number(path: &str) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Whether something keeps the clock right: rates and expiries of several machines are compared by it.
fn look_at_clock(found: &mut Examination) {
    let says = |program: &str, args: &[&str]| -> Option<String> {
        let output = Command::new(program).args(args).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    match says("timedatectl", &["show", "-p", "NTPSynchronized", "--value"]).as_deref() {
        Some("yes") => found.well("clock", "synchronised"),
        Some("no") => found.trouble("clock", "not synchronised", "timedatectl set-ntp true"),
        _ if says("chronyc", &["-n", "waitsync", "1"]).is_some() => found.well("clock", "synchronised by chrony"),
        _ => found.note("clock", "nothing here tells whether it is right", "apt-get install chrony"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_found_by_name() {
        let text = "Ip: Forwarding\nIp: 1\nUdp: InDatagrams RcvbufErrors\nUdp: 5 7\n";
        assert_eq!(counter(text, "Udp:", "RcvbufErrors"), Some(7));
        assert_eq!(counter(text, "Udp:", "Nonsense"), None);
    }

    #[test]
    fn an_installation_without_a_daemon_is_told_what_to_do() {
        let found = examine(Path::new("/nonexistent/control.sock"), None);
        let daemon = found.0.iter().find(|f| f.about == "daemon").expect("looked at");
        assert_eq!(daemon.level, Level::Trouble);
        assert!(daemon.mend.as_deref().is_some_and(|m| m.contains("floodwall run")));
        assert!(found.0.iter().any(|f| f.about == "clock"));
        assert!(found.0.iter().filter(|f| f.level == Level::Trouble).all(|f| f.mend.is_some()));
    }
}
