//! [`FlowSpec`]: a pattern and what routers do with the traffic that matches it (RFC 8955 section 7); its form in JSON is
//! FastNetMon's, see [`crate::json`].

use std::fmt;
use std::net::IpAddr;

use crate::Pattern;

/// A traffic filtering action (RFC 8955 section 7, RFC 8956 section 4 and drafts named at the variant).
#[derive(Debug, Clone, PartialEq, PartialOrd, serde::Serialize, serde::Deserialize)]
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
    RedirectToIp(IpAddr),
    /// As [`Action::RedirectToIp`], but a copy goes there and the packet goes on.
    CopyToIp(IpAddr),
    /// redirect to the next hop of the route itself, the older form (draft-simpson-idr-flowspec-redirect).
    RedirectToNextHop {
        /// Where to; `None` in a received route without a next hop.
        next_hop: Option<IpAddr>,
        /// A copy goes there and the packet goes on.
        copy: bool,
    },
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
            Self::CopyToIp(address) => write!(f, "copy-to-ip {address}"),
            Self::RedirectToNextHop { next_hop, copy } => {
                f.write_str(if *copy { "copy-to-nexthop" } else { "redirect-to-nexthop" })?;
                next_hop.map_or(Ok(()), |address| write!(f, " {address}"))
            }
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

impl Action {
    /// Whether the traffic it is applied to does not arrive where it would have without it.
    #[must_use]
    pub const fn diverts(&self) -> bool {
        match self {
            Self::Discard
            | Self::RateLimitBytes(_)
            | Self::RateLimitPackets(_)
            | Self::RedirectAs2 { .. }
            | Self::RedirectIpv4 { .. }
            | Self::RedirectAs4 { .. }
            | Self::RedirectToIp(_)
            | Self::RedirectToNextHop { copy: false, .. } => true,
            Self::Accept
            | Self::CopyToIp(_)
            | Self::RedirectToNextHop { copy: true, .. }
            | Self::Mark(_)
            | Self::TrafficAction { .. } => false,
        }
    }

    /// Whether it polices: such rules must not overlap, since a packet is policed by the first alone.
    #[must_use]
    pub const fn is_rate_limit(&self) -> bool {
        matches!(self, Self::RateLimitBytes(_) | Self::RateLimitPackets(_))
    }
}

/// Several actions in words.
#[must_use]
pub fn actions_text(actions: &[Action]) -> String {
    if actions.is_empty() {
        return Action::Accept.to_string();
    }
    actions.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// A rule for routers: what to match and what to do with it.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct FlowSpec {
    /// Which traffic.
    pub pattern: Pattern,
    /// What happens to it, in order; none is accept.
    pub actions: Vec<Action>,
}

impl fmt::Display for FlowSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}", self.pattern, actions_text(&self.actions))
    }
}
