//! ExaBGP as an announcer: text lines (`announce flow route ...`, `announce route ...`) into its command pipe.
//!
//! For sites that keep ExaBGP 3.4 or 4. As with BGP peers, what was written is remembered and made equal to what is wanted. A pipe
//! without a reader is tried again; after that everything is written anew, since ExaBGP may have forgotten.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use flowspec::profile::{Kind, Profile};
use flowspec::{Action, Bits, Condition, Pattern, Ranges};
use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe;
use tokio::sync::watch;
use traffic::IpVersion;

use crate::announcement::{Announcement, Route, Wanted};
use crate::gate::Gate;
use crate::peer::ExaBgp;

/// Between attempts to open the pipe.
const RETRY: Duration = Duration::from_secs(1);
/// How long a write may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Runs until the wanted set's sender is gone; then everything is withdrawn.
pub async fn run(config: ExaBgp, gate: Arc<dyn Gate>, mut wanted: watch::Receiver<Arc<Wanted>>) {
    let mut written: BTreeMap<String, ()> = BTreeMap::new();
    let mut pipe: Option<pipe::Sender> = None;
    let mut failed = false;
    loop {
        let set = Arc::clone(&wanted.borrow_and_update());
        let lines = lines(&config, gate.as_ref(), &set);
        if pipe.is_none() {
            // A reader that is new knows nothing yet.
            written.clear();
            pipe = open(&config, &mut failed);
        }
        if let Some(sender) = &mut pipe
            && let Err(error) = bring(sender, &mut written, &lines).await
        {
            tracing::warn!(pipe = %config.pipe.display(), %error, "ExaBGP does not take commands");
            pipe = None;
        }
        let retry =
            async { if pipe.is_none() { tokio::time::sleep(RETRY).await } else { std::future::pending().await } };
        tokio::select! {
            changed = wanted.changed() => if changed.is_err() { break },
            () = retry => {}
        }
    }
    if let Some(mut sender) = pipe {
        let _ = bring(&mut sender, &mut written, &BTreeMap::new()).await;
    }
}

fn open(config: &ExaBgp, failed: &mut bool) -> Option<pipe::Sender> {
    match pipe::OpenOptions::new().open_sender(&config.pipe) {
        Ok(sender) => {
            tracing::info!(pipe = %config.pipe.display(), "ExaBGP reads commands");
            *failed = false;
            Some(sender)
        }
        Err(error) => {
            if !std::mem::replace(failed, true) {
                tracing::warn!(pipe = %config.pipe.display(), %error, "ExaBGP's command pipe has no reader; trying again");
            }
            None
        }
    }
}

/// Withdrawals first.
async fn bring(
    sender: &mut pipe::Sender,
    written: &mut BTreeMap<String, ()>,
    lines: &BTreeMap<String, ()>,
) -> io::Result<()> {
    let gone: Vec<String> = written.keys().filter(|line| !lines.contains_key(*line)).cloned().collect();
    for line in gone {
        write(sender, &format!("withdraw {line}\n")).await?;
        written.remove(&line);
    }
    let new: Vec<&String> = lines.keys().filter(|line| !written.contains_key(*line)).collect();
    for line in new {
        write(sender, &format!("announce {line}\n")).await?;
        written.insert(line.clone(), ());
    }
    Ok(())
}

async fn write(sender: &mut pipe::Sender, line: &str) -> io::Result<()> {
    tokio::time::timeout(PATIENCE, sender.write_all(line.as_bytes()))
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "it does not read"))?
}

/// The commands for a set, without `announce` or `withdraw` in front.
fn lines(config: &ExaBgp, gate: &dyn Gate, wanted: &Wanted) -> BTreeMap<String, ()> {
    let profile = Profile::of(Kind::ExaBgp);
    let mut lines = BTreeMap::new();
    for (route, announcement) in wanted.iter().filter(|(r, a)| a.peers.is_none() && gate.check(r, a).is_ok()) {
        match route {
            Route::Unicast(_) => drop(lines.insert(unicast(config, route, announcement), ())),
            Route::FlowSpec(pattern) => {
                let parts = profile.adapt(pattern, &announcement.actions).unwrap_or_default();
                lines.extend(parts.iter().filter_map(|part| Some((flow(config, part, announcement)?, ()))));
            }
        }
    }
    lines
}

fn communities(config: &ExaBgp, announcement: &Announcement) -> String {
    let all = announcement.communities.iter().chain(&config.communities);
    all.map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

fn unicast(config: &ExaBgp, route: &Route, announcement: &Announcement) -> String {
    let is_v6 = matches!(route, Route::Unicast(prefix) if prefix.version() == IpVersion::V6);
    let own = if is_v6 { config.next_hop_ipv6.to_string() } else { config.next_hop_ipv4.to_string() };
    let next_hop = announcement.next_hop.map_or(own, |address| address.to_string());
    let mut line = format!("route {route} next-hop {next_hop}");
    let communities = communities(config, announcement);
    if !communities.is_empty() {
        let _ = write!(line, " community [ {communities} ]");
    }
    if !announcement.large_communities.is_empty() {
        let large: Vec<String> =
            announcement.large_communities.iter().map(|c| format!("{}:{}:{}", c.0, c.1, c.2)).collect();
        let _ = write!(line, " large-community [ {} ]", large.join(" "));
    }
    line
}

/// A rule, or `None` if ExaBGP's text has no words for it.
#[must_use]
fn flow(config: &ExaBgp, pattern: &Pattern, announcement: &Announcement) -> Option<String> {
    let is_v6 = pattern.version() == Some(IpVersion::V6);
    let mut line = "flow route { match { ".to_owned();
    for condition in pattern.conditions() {
        let text = match condition {
            Condition::Destination(prefix, _) => format!("destination {prefix}"),
            Condition::Source(prefix, _) => format!("source {prefix}"),
            Condition::Protocol(set) if is_v6 => format!("next-header {}", numbers(set)),
            Condition::Protocol(set) => format!("protocol {}", numbers(set)),
            Condition::Port(set) => format!("port {}", numbers(set)),
            Condition::DestinationPort(set) => format!("destination-port {}", numbers(set)),
            Condition::SourcePort(set) => format!("source-port {}", numbers(set)),
            Condition::IcmpType(set) => format!("icmp-type {}", numbers(set)),
            Condition::IcmpCode(set) => format!("icmp-code {}", numbers(set)),
            Condition::TcpFlags(bits) => format!("tcp-flags {}", flags(bits, &TCP)?),
            Condition::Length(set) => format!("packet-length {}", numbers(set)),
            Condition::Dscp(set) if is_v6 => format!("traffic-class {}", numbers(set)),
            Condition::Dscp(set) => format!("dscp {}", numbers(set)),
            Condition::Fragment(bits) => format!("fragment {}", flags(bits, &FRAGMENT)?),
            Condition::FlowLabel(set) => format!("flow-label {}", numbers(set)),
        };
        let _ = write!(line, "{text}; ");
    }
    line.push_str("} then { ");
    for action in &announcement.actions {
        let text = match action {
            Action::Accept => "accept".to_owned(),
            Action::Discard => "discard".to_owned(),
            Action::RateLimitBytes(rate) => format!("rate-limit {rate}"),
            Action::RedirectAs2 { asn, value } => format!("redirect {asn}:{value}"),
            Action::RedirectIpv4 { address, value } => format!("redirect {address}:{value}"),
            Action::RedirectToIp(address) => format!("redirect {address}"),
            Action::Mark(dscp) => format!("mark {dscp}"),
            Action::TrafficAction { sample: true, go_on: false } => "action sample".to_owned(),
            Action::TrafficAction { sample: false, go_on: true } => "action terminal".to_owned(),
            Action::TrafficAction { sample: true, go_on: true } => "action sample-terminal".to_owned(),
            Action::RateLimitPackets(_)
            | Action::RedirectAs4 { .. }
            | Action::CopyToIp(_)
            | Action::RedirectToNextHop { .. }
            | Action::TrafficAction { .. } => return None,
        };
        let _ = write!(line, "{text}; ");
    }
    let communities = communities(config, announcement);
    if !communities.is_empty() {
        let _ = write!(line, "community [ {communities} ]; ");
    }
    line.push_str("} }");
    Some(line)
}

/// `[ =53 >=1000&<=2000 ]`.
fn numbers(set: &Ranges) -> String {
    let one = |&(low, high): &(u32, u32)| if low == high { format!("={low}") } else { format!(">={low}&<={high}") };
    format!("[ {} ]", set.as_slice().iter().map(one).collect::<Vec<_>>().join(" "))
}

const TCP: [(u16, &str); 8] = [
    (0x01, "fin"),
    (0x02, "syn"),
    (0x04, "rst"),
    (0x08, "push"),
    (0x10, "ack"),
    (0x20, "urgent"),
    (0x40, "ece"),
    (0x80, "cwr"),
];
const FRAGMENT: [(u16, &str); 4] =
    [(0x01, "dont-fragment"), (0x02, "is-fragment"), (0x04, "first-fragment"), (0x08, "last-fragment")];

/// Tests of single bits; ExaBGP's text means "any of" by several names with `+`.
fn flags(bits: &Bits, names: &[(u16, &str)]) -> Option<String> {
    let mut text = String::new();
    for (i, test) in bits.as_slice().iter().enumerate() {
        if i > 0 {
            text.push(if test.and { '&' } else { ' ' });
        }
        if test.negate {
            text.push('!');
        }
        let known: Vec<&str> = names.iter().filter(|(bit, _)| test.mask & bit != 0).map(|(_, n)| *n).collect();
        let all = names.iter().fold(0, |all, (bit, _)| all | bit);
        if known.is_empty() || test.mask & !all != 0 {
            return None;
        }
        // The match bit is written as "=".
        if test.all && known.len() > 1 {
            text.push('=');
        }
        text.push_str(&known.join("+"));
    }
    Some(format!("[ {text} ]"))
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::gate::Classes;
    use crate::gate::fixture::OwnSpace;

    fn config() -> ExaBgp {
        ExaBgp {
            pipe: "/nowhere".into(),
            next_hop_ipv4: "192.0.2.1".parse().expect("address"),
            next_hop_ipv6: "100::1".parse().expect("address"),
            communities: vec![crate::announcement::Community(65001, 666)],
        }
    }

    #[test]
    fn rules_and_blackholes_are_written_in_exabgps_words() {
        let gate = OwnSpace::gate(&["203.0.113.0/24", "2001:db8::/32"], Classes::default());
        let mut wanted = Wanted::new();
        for text in [
            r#"{"destination_prefix": "203.0.113.9/32", "protocols": ["udp"], "source_ports": [53, "1000-2000"], "packet_lengths": ["1200-1500"], "action_type": "discard"}"#,
            r#"{"destination_prefix": "2001:db8::9/128", "protocols": ["tcp"], "tcp_flags": ["syn|!ack"], "action_type": "rate-limit", "action": {"rate": 1000}}"#,
            r#"{"destination_prefix": "198.51.100.9/32", "action_type": "discard"}"#,
        ] {
            let rule = flowspec::json::parse(text).expect("valid");
            wanted.insert(
                Route::FlowSpec(rule.pattern),
                Announcement { actions: rule.actions, ..Announcement::default() },
            );
        }
        wanted.insert(Route::Unicast("203.0.113.8/32".parse().expect("prefix")), Announcement::blackhole());
        let lines: Vec<String> = lines(&config(), gate.as_ref(), &wanted).into_keys().collect();
        assert_eq!(
            lines,
            [
                "flow route { match { destination 2001:db8::9/128; next-header [ =6 ]; tcp-flags [ syn&!ack ]; } then { rate-limit 1000; community [ 65001:666 ]; } }",
                "flow route { match { destination 203.0.113.9/32; protocol [ =17 ]; source-port [ =53 >=1000&<=2000 ]; packet-length [ >=1200&<=1500 ]; } then { discard; community [ 65001:666 ]; } }",
                "route 203.0.113.8/32 next-hop 192.0.2.1 community [ 65535:666 65535:65281 65001:666 ]"
            ],
            "foreign space is not written"
        );
    }
}
