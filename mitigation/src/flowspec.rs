//! [`FlowSpec`]: a pattern and what routers do with the traffic that matches it (RFC 8955 section 7).

use std::fmt;

use detector::Pattern;

/// A traffic filtering action (RFC 8955 section 7, RFC 8956 section 4 and drafts named at the variant).
#[derive(Debug, Clone, PartialEq, PartialOrd, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Pass on, ending evaluation of later rules.
    Accept,
    /// Drop: traffic-rate-bytes 0.
    Discard,
    /// traffic-rate-bytes: at most this many bytes per second pass.
    RateLimitBytes(f32),
    /// traffic-rate-packets: at most this many packets per second pass.
    RateLimitPackets(f32),
    /// rt-redirect to a route target, 2-octet AS form.
    RedirectAs2 {
        /// AS number.
        asn: u16,
        /// Local administrator value.
        value: u32,
    },
    /// rt-redirect, IPv4 form.
    RedirectIpv4 {
        /// Global administrator.
        address: std::net::Ipv4Addr,
        /// Local administrator value.
        value: u16,
    },
    /// rt-redirect, 4-octet AS form.
    RedirectAs4 {
        /// AS number.
        asn: u32,
        /// Local administrator value.
        value: u16,
    },
    /// redirect to an IP next hop (draft-ietf-idr-flowspec-redirect-ip).
    RedirectToIp(std::net::IpAddr),
    /// traffic-marking: set this DSCP.
    Mark(u8),
    /// traffic-action (RFC 8955 section 7.3): sampling and logging, and whether later rules are still evaluated.
    TrafficAction {
        /// The S bit: sample and log matching traffic.
        sample: bool,
        /// The T bit: evaluation goes on with the rules behind this one (without the bit, the first match ends it).
        go_on: bool,
    },
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accept => f.write_str("accept"),
            Self::Discard => f.write_str("discard"),
            Self::RateLimitBytes(rate) => write!(f, "rate-limit {rate} bytes/s"),
            Self::RateLimitPackets(rate) => write!(f, "rate-limit {rate} packets/s"),
            Self::RedirectAs2 { asn, value } => write!(f, "redirect {asn}:{value}"),
            Self::RedirectIpv4 { address, value } => write!(f, "redirect {address}:{value}"),
            Self::RedirectAs4 { asn, value } => write!(f, "redirect {asn}:{value}"),
            Self::RedirectToIp(address) => write!(f, "redirect-to-ip {address}"),
            Self::Mark(dscp) => write!(f, "mark {dscp}"),
            Self::TrafficAction { sample, go_on } => match (sample, go_on) {
                (true, true) => f.write_str("sample, continue"),
                (true, false) => f.write_str("sample"),
                (false, true) => f.write_str("continue"),
                (false, false) => f.write_str("traffic-action 0"),
            },
        }
    }
}

/// A rule for routers: what to match and what to do with it.
#[derive(Debug, Clone, PartialEq, PartialOrd, serde::Serialize)]
pub struct FlowSpec {
    /// Which traffic.
    pub pattern: Pattern,
    /// What happens to it.
    pub action: Action,
}

impl fmt::Display for FlowSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}", self.pattern, self.action)
    }
}
