//! [`Plan`]: what happens to the packets of a rule, from its traffic filtering actions (RFC 8955 section 7).

use std::collections::BTreeMap;
use std::fmt;

use bgp::attribute::Attributes;
use flowspec::Action;

/// How a rule ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The packet is dropped.
    Drop,
    /// The packet passes; no later rule is looked at.
    Accept,
    /// Later rules are looked at.
    GoOn,
}

/// A rate: at most this many units per period pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Bytes or packets per period.
    pub amount: u64,
    /// `second`, or `hour` for rates that are not whole numbers.
    pub period: &'static str,
}

/// Why a rule's actions are not carried out.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum NotPossible {
    /// An action this program does not know.
    #[error("it asks for action {0:#06x}, which is not known here")]
    Unknown(u16),
    /// Two of a kind.
    #[error("it asks for two actions of one kind: {0} and {1}")]
    Conflict(Action, Action),
    /// A redirect that no `redirect` entry names.
    #[error("redirect {0} is not configured: add \"{0} MARK TABLE\" to redirect in [enforcer]")]
    Redirect(String),
    /// Redirection after routing.
    #[error("redirect needs a hook before routing: set hook = \"prerouting\" or \"ingress\" in [enforcer]")]
    RedirectHook,
    /// A rate that the kernel cannot count.
    #[error("a rate of {0} is outside what can be limited here")]
    Rate(f32),
    /// The back end has no such action.
    #[error("this back end cannot {0}")]
    Backend(&'static str),
}

/// What a back end is to do with packets that match a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// A sample of the packets goes to the log.
    pub sample: bool,
    /// At most this many bytes.
    pub bytes: Option<Limit>,
    /// At most this many packets.
    pub packets: Option<Limit>,
    /// Sets the differentiated services code point.
    pub dscp: Option<u8>,
    /// Sets the packet mark, which a routing rule looks at.
    pub mark: Option<u32>,
    /// How it ends.
    pub verdict: Verdict,
}

impl Plan {
    /// Whether only the verdict is left to carry out.
    #[must_use]
    pub const fn is_verdict_only(&self) -> bool {
        !self.sample && self.bytes.is_none() && self.packets.is_none() && self.dscp.is_none() && self.mark.is_none()
    }

    /// From a route's attributes. `redirects` maps a target's text to a packet mark.
    ///
    /// # Errors
    /// See [`NotPossible`]: a rule is carried out as a whole or not at all.
    pub fn of(attributes: &Attributes, redirects: &BTreeMap<String, u32>) -> Result<Self, NotPossible> {
        if let Some(kind) = attributes.unknown_actions.first() {
            return Err(NotPossible::Unknown(*kind));
        }
        let mut plan =
            Self { sample: false, bytes: None, packets: None, dscp: None, mark: None, verdict: Verdict::Accept };
        let mut seen: BTreeMap<u8, &Action> = BTreeMap::new();
        for action in &attributes.actions {
            // The same action twice is once.
            match seen.insert(kind(action), action) {
                Some(before) if before != action => {
                    return Err(NotPossible::Conflict(before.clone(), action.clone()));
                }
                Some(_) => continue,
                None => {}
            }
            match action {
                Action::Accept => {}
                Action::Discard => plan.verdict = Verdict::Drop,
                // A rate under which not one header passes in hours drops everything.
                Action::RateLimitBytes(rate) if *rate < 0.001 => plan.verdict = Verdict::Drop,
                Action::RateLimitBytes(rate) => plan.bytes = Some(limit(*rate)?),
                Action::RateLimitPackets(rate) => plan.packets = Some(limit(*rate)?),
                Action::Mark(dscp) => plan.dscp = Some(*dscp),
                Action::TrafficAction { sample, go_on } => {
                    plan.sample = *sample;
                    if *go_on && plan.verdict == Verdict::Accept {
                        plan.verdict = Verdict::GoOn;
                    }
                }
                Action::CopyToIp(_) | Action::RedirectToNextHop { copy: true, .. } => {
                    return Err(NotPossible::Backend("copy packets elsewhere"));
                }
                Action::RedirectAs2 { .. }
                | Action::RedirectIpv4 { .. }
                | Action::RedirectAs4 { .. }
                | Action::RedirectToNextHop { .. }
                | Action::RedirectToIp(_) => {
                    let target = redirect_target(action);
                    let mark = redirects.get(&target);
                    plan.mark = Some(*mark.ok_or(NotPossible::Redirect(target))?);
                }
            }
        }
        if plan.verdict == Verdict::Drop {
            (plan.bytes, plan.packets, plan.dscp, plan.mark) = (None, None, None, None);
        }
        Ok(plan)
    }
}

/// `65001:100` or an address.
#[must_use]
pub fn redirect_target(action: &Action) -> String {
    let text = action.to_string();
    text.split_once(' ').map_or(text.clone(), |(_, target)| target.to_owned())
}

/// Actions that replace each other share a kind. Discard is a rate of 0 bytes.
const fn kind(action: &Action) -> u8 {
    match action {
        Action::Accept => 0,
        Action::Discard | Action::RateLimitBytes(_) => 1,
        Action::RateLimitPackets(_) => 2,
        Action::RedirectAs2 { .. }
        | Action::RedirectIpv4 { .. }
        | Action::RedirectAs4 { .. }
        | Action::CopyToIp(_)
        | Action::RedirectToNextHop { .. }
        | Action::RedirectToIp(_) => 3,
        Action::Mark(_) => 4,
        Action::TrafficAction { .. } => 5,
    }
}

/// The kernel counts whole units per period, and up to 2^64 / 10^9 of them in a second.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to fit")]
fn limit(rate: f32) -> Result<Limit, NotPossible> {
    let rate_f64 = f64::from(rate);
    if !(0.001..=9e9).contains(&rate_f64) {
        return Err(NotPossible::Rate(rate));
    }
    if rate_f64 >= 1000.0 || rate_f64.fract() == 0.0 {
        return Ok(Limit { amount: rate_f64.round() as u64, period: "second" });
    }
    Ok(Limit { amount: (rate_f64 * 3600.0).round() as u64, period: "hour" })
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if self.sample {
            parts.push("sample".to_owned());
        }
        for (limit, unit) in [(self.bytes, "bytes"), (self.packets, "packets")] {
            parts.extend(limit.map(|l| format!("at most {} {unit}/{}", l.amount, l.period)));
        }
        parts.extend(self.dscp.map(|dscp| format!("set dscp {dscp}")));
        parts.extend(self.mark.map(|mark| format!("set mark {mark:#x}")));
        parts.push(
            match self.verdict {
                Verdict::Drop => "drop",
                Verdict::Accept => "accept",
                Verdict::GoOn => "continue",
            }
            .to_owned(),
        );
        f.write_str(&parts.join(", "))
    }
}
