//! [`Order`]: what acts at once (decision 3). Words, REST, ban2bgp's API and the dashboard all build the same value; rights, audit and
//! execution look at it and at nothing else (decision 40). Words are one spelling of it: [`Order::words`] writes them,
//! [`parse`] reads them, and `parse(words(order)) == order`.

use std::net::IpAddr;
use std::time::Duration;

use config::words::Verb;
use flowspec::json::prefix_as_written;
use flowspec::{FlowSpec, json};
use traffic::Prefix;
use traffic::target::PrefixError;

/// An order lasts ten years at most.
pub const LONGEST: Duration = Duration::from_secs(315_360_000);

/// Until when an order holds, and why it was given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Terms {
    /// How long from now, whole seconds up to [`LONGEST`]; `None`: until it is taken back.
    pub lasts: Option<Duration>,
    /// Why, for the audit log.
    pub reason: Option<String>,
}

/// What of a foreign host is stopped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Side {
    /// What comes from it, by a FlowSpec rule.
    Source,
    /// What goes to it, by a blackhole route.
    Destination,
    /// Both.
    #[default]
    Both,
}

impl Side {
    /// As typed.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Source => "src",
            Self::Destination => "dst",
            Self::Both => "both",
        }
    }

    /// Whether what comes from the host is stopped.
    #[must_use]
    pub const fn has_source(self) -> bool {
        matches!(self, Self::Source | Self::Both)
    }

    /// Whether what goes to the host is stopped.
    #[must_use]
    pub const fn has_destination(self) -> bool {
        matches!(self, Self::Destination | Self::Both)
    }
}

/// Names a route in force: its id or first digits of it, its words as `show` prints them, its prefix, or its JSON. Which route
/// that is, the daemon finds when it carries the order out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteName(String);

impl RouteName {
    /// Blanks around and within are one blank each; `None` if nothing is left.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        (!text.is_empty()).then_some(Self(text))
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What acts at once.
#[derive(Debug, Clone, PartialEq)]
pub enum Order {
    /// `set flowspec JSON`: announce a rule.
    AddRule {
        /// The rule.
        rule: FlowSpec,
        /// Until when, and why.
        terms: Terms,
    },
    /// `delete flowspec NAME`.
    EndRule {
        /// Which.
        name: RouteName,
        /// Why.
        reason: Option<String>,
    },
    /// `delete flowspec all`.
    EndAllRules {
        /// Why.
        reason: Option<String>,
    },
    /// `set blackhole IP`: its rules go and mining stops.
    AddBlackhole {
        /// An own host or prefix.
        prefix: Prefix,
        /// Until when, and why.
        terms: Terms,
    },
    /// `delete blackhole NAME`: mining resumes.
    EndBlackhole {
        /// Which.
        name: RouteName,
        /// Why.
        reason: Option<String>,
    },
    /// `set remote_blackhole IP`: ban a foreign host (decision 1, class remote ban).
    Ban {
        /// The host.
        host: Prefix,
        /// What of it.
        side: Side,
        /// Until when, and why.
        terms: Terms,
    },
    /// `delete remote_blackhole NET|all`.
    Unban {
        /// Every banned host in this prefix; `None`: all.
        within: Option<Prefix>,
        /// What of it.
        side: Side,
        /// Why.
        reason: Option<String>,
    },
    /// `set extend NAME expires TIME`: what is in force stays for so long, whatever becomes of the attack.
    Extend {
        /// Which.
        name: RouteName,
        /// How long from now.
        lasts: Duration,
        /// Why.
        reason: Option<String>,
    },
    /// `set approve NAME`: announce what waits for a person.
    Approve {
        /// Which.
        name: RouteName,
        /// Why.
        reason: Option<String>,
    },
    /// `set announcing enable|disable`: the kill switch.
    Announcing {
        /// False withdraws everything everywhere, and nothing is announced until true.
        on: bool,
        /// Why.
        reason: Option<String>,
    },
}

/// How an order is written.
#[derive(Debug, Clone, Copy)]
pub struct Grammar {
    /// `set` or `delete`.
    pub verb: Verb,
    /// The word behind it.
    pub category: &'static str,
    /// The words behind that, for the help: `IP`.
    pub arguments: &'static str,
    /// One line of help.
    pub help: &'static str,
    parse: fn(&[String]) -> Result<Order, String>,
}

/// Every order: a new one is a variant, a line here and an arm of [`Order::words`] and of whoever carries it out.
pub const ORDERS: &[Grammar] = &[
    Grammar {
        verb: Verb::Set,
        category: "approve",
        arguments: "ROUTE [reason TEXT]",
        help: "announce a rule or blackhole that waits for approval: its id or words as show flowspec prints them",
        parse: |words| without_end(words).and_then(|(name, reason)| Ok(Order::Approve { name: route(&name)?, reason })),
    },
    Grammar {
        verb: Verb::Set,
        category: "announcing",
        arguments: "enable|disable [reason TEXT]",
        help: "disable withdraws everything everywhere, and nothing is announced until enable; a restart does not change it",
        parse: announcing,
    },
    Grammar {
        verb: Verb::Delete,
        category: "blackhole",
        arguments: "IP [reason TEXT]",
        help: "end a host's blackhole now, by its address or id; mining resumes",
        parse: |words| {
            without_end(words).and_then(|(name, reason)| Ok(Order::EndBlackhole { name: route(&name)?, reason }))
        },
    },
    Grammar {
        verb: Verb::Set,
        category: "blackhole",
        arguments: "IP [expires TIME] [reason TEXT]",
        help: "blackhole a host now; its FlowSpec rules are withdrawn and mining stops",
        parse: |words| {
            let (words, terms) = options(words)?;
            let [text] = &words[..] else { return Err("write one address: set blackhole 203.0.113.9".to_owned()) };
            Ok(Order::AddBlackhole { prefix: prefix_as_written(text)?, terms })
        },
    },
    Grammar {
        verb: Verb::Set,
        category: "extend",
        arguments: "ROUTE expires TIME [reason TEXT]",
        help: "keep a rule or blackhole for TIME from now, whatever becomes of the attack: its id or words as show prints them",
        parse: |words| {
            let (words, Terms { lasts, reason }) = options(words)?;
            let lasts = lasts.ok_or("until when? set extend ROUTE expires 30m")?;
            Ok(Order::Extend { name: route(&words)?, lasts, reason })
        },
    },
    Grammar {
        verb: Verb::Delete,
        category: "flowspec",
        arguments: "RULE|all [reason TEXT]",
        help: "withdraw a rule now: its id or words as show flowspec prints them, or its JSON",
        parse: |words| {
            let (words, reason) = without_end(words)?;
            if words == ["all"] {
                return Ok(Order::EndAllRules { reason });
            }
            Ok(Order::EndRule { name: route(&words)?, reason })
        },
    },
    Grammar {
        verb: Verb::Set,
        category: "flowspec",
        arguments: "'{JSON}' [expires TIME] [reason TEXT]",
        help: "announce a FlowSpec rule now, for TIME (such as 30m, 2h, 1d) or until it is deleted",
        parse: |words| {
            let (words, terms) = options(words)?;
            let [text] = &words[..] else {
                return Err(r#"write the rule as one word of JSON: set flowspec '{"destination_prefix": "203.0.113.9/32", "protocols": ["udp"], "source_ports": [53], "action_type": "discard"}'"#.to_owned());
            };
            Ok(Order::AddRule { rule: json::parse(text).map_err(|e| e.to_string())?, terms })
        },
    },
    Grammar {
        verb: Verb::Delete,
        category: "remote_blackhole",
        arguments: "[src|dst|both] NET|all [reason TEXT]",
        help: "end the bans of a foreign host, or of every banned host in a network",
        parse: |words| {
            let (words, reason) = without_end(words)?;
            let (side, text) = side(&words)?;
            let within = match text {
                "all" => None,
                text => Some(text.parse().map_err(|e: PrefixError| e.to_string())?),
            };
            Ok(Order::Unban { within, side, reason })
        },
    },
    Grammar {
        verb: Verb::Set,
        category: "remote_blackhole",
        arguments: "[src|dst|both] IP [expires TIME] [reason TEXT]",
        help: "ban a foreign host now: src discards what comes from it (FlowSpec), dst blackholes it, both is the default",
        parse: |words| {
            let (words, terms) = options(words)?;
            let (side, text) = side(&words)?;
            Ok(Order::Ban { host: host(text)?, side, terms })
        },
    },
];

/// As typed.
#[must_use]
pub const fn verb_name(verb: Verb) -> &'static str {
    match verb {
        Verb::Set => "set",
        Verb::Delete => "delete",
    }
}

/// The grammar of an order, if verb and category begin one.
#[must_use]
pub fn grammar(verb: Verb, category: &str) -> Option<&'static Grammar> {
    ORDERS.iter().find(|g| g.verb == verb && g.category == category)
}

/// The words behind verb and category as an order; `None` if these begin none.
///
/// # Errors
/// What to write instead.
pub fn parse(verb: Verb, category: &str, arguments: &[String]) -> Option<Result<Order, String>> {
    grammar(verb, category).map(|grammar| (grammar.parse)(arguments))
}

impl Order {
    /// Verb, category, and the words behind them: what [`parse`] reads.
    #[must_use]
    pub fn words(&self) -> (Verb, &'static str, Vec<String>) {
        let name = |name: &RouteName| name.0.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let of_side = |side: Side, text: String| match side {
            Side::Both => vec![text],
            Side::Source | Side::Destination => vec![side.name().to_owned(), text],
        };
        let (verb, category, mut words, lasts, reason) = match self {
            Self::AddRule { rule, terms } => {
                let text = json::to_value(rule).to_string();
                (Verb::Set, "flowspec", vec![text], terms.lasts, &terms.reason)
            }
            Self::EndRule { name: which, reason } => (Verb::Delete, "flowspec", name(which), None, reason),
            Self::EndAllRules { reason } => (Verb::Delete, "flowspec", vec!["all".to_owned()], None, reason),
            Self::AddBlackhole { prefix, terms } => {
                (Verb::Set, "blackhole", vec![prefix.to_string()], terms.lasts, &terms.reason)
            }
            Self::EndBlackhole { name: which, reason } => (Verb::Delete, "blackhole", name(which), None, reason),
            Self::Ban { host, side, terms } => {
                let words = of_side(*side, host.to_string());
                (Verb::Set, "remote_blackhole", words, terms.lasts, &terms.reason)
            }
            Self::Unban { within, side, reason } => {
                let text = within.map_or_else(|| "all".to_owned(), |prefix| prefix.to_string());
                (Verb::Delete, "remote_blackhole", of_side(*side, text), None, reason)
            }
            Self::Extend { name: which, lasts, reason } => (Verb::Set, "extend", name(which), Some(*lasts), reason),
            Self::Approve { name: which, reason } => (Verb::Set, "approve", name(which), None, reason),
            Self::Announcing { on, reason } => {
                let word = if *on { "enable" } else { "disable" };
                (Verb::Set, "announcing", vec![word.to_owned()], None, reason)
            }
        };
        words.extend(lasts.into_iter().flat_map(|lasts| ["expires".to_owned(), format!("{}s", lasts.as_secs())]));
        words.extend(reason.iter().flat_map(|reason| ["reason".to_owned(), reason.clone()]));
        (verb, category, words)
    }

    /// Why it was given, if that was said.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::AddRule { terms, .. } | Self::AddBlackhole { terms, .. } | Self::Ban { terms, .. } => {
                terms.reason.as_deref()
            }
            Self::EndRule { reason, .. }
            | Self::EndAllRules { reason }
            | Self::EndBlackhole { reason, .. }
            | Self::Unban { reason, .. }
            | Self::Extend { reason, .. }
            | Self::Approve { reason, .. }
            | Self::Announcing { reason, .. } => reason.as_deref(),
        }
    }

    /// How long it lasts, if it ends by itself.
    #[must_use]
    pub const fn lasts(&self) -> Option<Duration> {
        match self {
            Self::AddRule { terms, .. } | Self::AddBlackhole { terms, .. } | Self::Ban { terms, .. } => terms.lasts,
            Self::Extend { lasts, .. } => Some(*lasts),
            Self::EndRule { .. }
            | Self::EndAllRules { .. }
            | Self::EndBlackhole { .. }
            | Self::Unban { .. }
            | Self::Approve { .. }
            | Self::Announcing { .. } => None,
        }
    }
}

fn announcing(words: &[String]) -> Result<Order, String> {
    let (words, reason) = without_end(words)?;
    let on = match words.first().map(String::as_str) {
        Some("enable" | "on" | "true") => true,
        Some("disable" | "off" | "false") => false,
        _ => return Err("write set announcing enable, or set announcing disable".to_owned()),
    };
    Ok(Order::Announcing { on, reason })
}

fn route(words: &[String]) -> Result<RouteName, String> {
    RouteName::new(&words.join(" ")).ok_or_else(|| "which? Write its id, or its words as show prints them".to_owned())
}

/// A foreign host. An IPv4 host written as IPv6 (RFC 4291 section 2.5.5.2) is that IPv4 host.
///
/// # Errors
/// No address, or a prefix with bits behind its length.
pub fn host(text: &str) -> Result<Prefix, String> {
    match text.parse::<IpAddr>() {
        Ok(address) => Ok(Prefix::host(address.to_canonical())),
        Err(_) => prefix_as_written(text),
    }
}

/// `src`, `dst` or `both` before the rest.
fn side(words: &[String]) -> Result<(Side, &str), String> {
    let of = |word: &str| [Side::Source, Side::Destination, Side::Both].into_iter().find(|side| side.name() == word);
    match words {
        [text] => Ok((Side::Both, text)),
        [which, text] if of(which).is_some() => Ok((of(which).unwrap_or_default(), text)),
        _ => Err("write one address: set remote_blackhole [src|dst|both] 198.51.100.7".to_owned()),
    }
}

/// For orders that have no end of their own.
fn without_end(words: &[String]) -> Result<(Vec<String>, Option<String>), String> {
    let (words, terms) = options(words)?;
    if terms.lasts.is_some() {
        return Err("expires has no meaning here: leave it out".to_owned());
    }
    Ok((words, terms.reason))
}

/// Takes `expires TIME` and `reason TEXT` from behind the words, in any order.
///
/// # Errors
/// An option without its value or twice.
pub fn options(arguments: &[String]) -> Result<(Vec<String>, Terms), String> {
    options_beside(arguments, &[])
}

/// The same where other words are options too: a reason ends at an option, whichever it is. A text in quotation marks is one word
/// and no option, and so is a single word that ends the line.
///
/// # Errors
/// An option without its value or twice.
pub fn options_beside(arguments: &[String], others: &[&str]) -> Result<(Vec<String>, Terms), String> {
    let mut words = Vec::new();
    let mut terms = Terms::default();
    let mut in_reason = false;
    let mut rest = arguments.iter();
    while let Some(word) = rest.next() {
        let is_text = in_reason && rest.len() == 0 && terms.reason.as_deref() == Some("");
        match word.as_str() {
            "expires" if !words.is_empty() && !is_text => {
                let quote = if in_reason {
                    "; in a reason, put the text into quotation marks: reason 'it expires'"
                } else {
                    ""
                };
                let text = rest.next().ok_or_else(|| format!("expires when? Write expires 30m{quote}"))?;
                if terms.lasts.is_some() {
                    return Err("expires stands twice: write it once".to_owned());
                }
                terms.lasts = Some(duration(text).map_err(|wrong| format!("{wrong}{quote}"))?);
                in_reason = false;
            }
            "reason" if !words.is_empty() && terms.reason.is_none() => {
                terms.reason = Some(String::new());
                in_reason = true;
            }
            other if others.contains(&other) && !is_text => {
                in_reason = false;
                words.push(word.clone());
            }
            _ => match terms.reason.as_mut().filter(|_| in_reason) {
                Some(reason) if reason.is_empty() => reason.clone_from(word),
                Some(reason) => {
                    reason.push(' ');
                    reason.push_str(word);
                }
                None => words.push(word.clone()),
            },
        }
    }
    Ok((words, terms))
}

/// `90`, `90s`, `30m`, `2h`, `7d`: seconds, minutes, hours, days; 1 s to [`LONGEST`].
///
/// # Errors
/// What to write instead.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a time: write for example 30m, 2h or 7d");
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let seconds = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let seconds = number.checked_mul(seconds).filter(|s| (1..=LONGEST.as_secs()).contains(s)).ok_or_else(wrong)?;
    Ok(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::words;

    fn some_terms() -> impl Strategy<Value = Terms> {
        let reason = prop::option::of("[a-z ,;:'\"{}\\\\]{1,20}|expires|reason|all|src|dst|both|3h");
        (prop::option::of(1u64..=315_360_000), reason)
            .prop_map(|(lasts, reason)| Terms { lasts: lasts.map(Duration::from_secs), reason })
    }

    fn some_prefix() -> impl Strategy<Value = Prefix> {
        prop_oneof![
            (any::<u32>(), 0u8..=32).prop_filter_map("host bits", |(bits, length)| {
                format!("{}/{length}", std::net::Ipv4Addr::from(bits)).parse().ok()
            }),
            (any::<u128>(), 0u8..=128).prop_filter_map("host bits", |(bits, length)| {
                format!("{}/{length}", std::net::Ipv6Addr::from(bits)).parse().ok()
            }),
        ]
    }

    fn some_rule() -> impl Strategy<Value = FlowSpec> {
        let action = prop_oneof![
            Just(r#""action_type":"discard""#.to_owned()),
            Just(r#""action_type":"accept""#.to_owned()),
            (1u32..1_000_000).prop_map(|n| format!(r#""action_type":"rate-limit","action":{{"rate":{n}}}"#)),
        ];
        (some_prefix(), prop::option::of(any::<u16>()), action).prop_map(|(prefix, port, action)| {
            let port = port.map_or_else(String::new, |p| format!(r#""protocols":["udp"],"source_ports":[{p}],"#));
            let text = format!(r#"{{"destination_prefix":"{prefix}",{port}{action}}}"#);
            json::parse(&text).unwrap_or_else(|e| panic!("{text}: {e}"))
        })
    }

    fn some_order() -> impl Strategy<Value = Order> {
        let side = || prop_oneof![Just(Side::Source), Just(Side::Destination), Just(Side::Both)];
        let name = "[0-9a-f-]{1,36}|flow destination 203.0.113.9/32 protocol udp|203.0.113.9/32"
            .prop_filter_map("empty", |text| RouteName::new(&text));
        let host = some_prefix().prop_filter("not an IPv4 host in IPv6", |p| p.to_string().contains('/'));
        (some_terms(), some_prefix(), host, some_rule(), side(), name, any::<bool>(), 0..10u8).prop_map(
            |(terms, prefix, host, rule, side, name, on, kind)| {
                let reason = terms.reason.clone();
                match kind {
                    0 => Order::AddRule { rule, terms },
                    1 => Order::EndRule { name, reason },
                    2 => Order::EndAllRules { reason },
                    3 => Order::AddBlackhole { prefix, terms },
                    4 => Order::EndBlackhole { name, reason },
                    5 => Order::Ban { host, side, terms },
                    6 => Order::Unban { within: on.then_some(prefix), side, reason },
                    7 => Order::Extend { name, lasts: terms.lasts.unwrap_or(Duration::from_secs(60)), reason },
                    8 => Order::Approve { name, reason },
                    _ => Order::Announcing { on, reason },
                }
            },
        )
    }

    proptest! {
        #[test]
        fn words_of_an_order_are_read_as_that_order(order in some_order()) {
            let (verb, category, words) = order.words();
            let read = parse(verb, category, &words).expect("an order");
            prop_assert_eq!(read.as_ref(), Ok(&order), "{:?}", words);
        }
    }

    #[test]
    fn options_are_taken_from_the_end_and_times_have_units() {
        let words: Vec<String> =
            "203.0.113.9 expires 2h reason customer asked for it".split(' ').map(str::to_owned).collect();
        let (rest, terms) = options(&words).expect("valid");
        assert_eq!(rest, ["203.0.113.9"]);
        assert_eq!(terms.lasts, Some(Duration::from_secs(7200)));
        assert_eq!(terms.reason.as_deref(), Some("customer asked for it"));
        for wrong in ["", "h", "-1m", "1w", "0", "99999999999d"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_option_is_an_option_in_any_order_and_a_quoted_text_is_none() {
        let parsed = |text: &str| options(&words::split(text).expect("words"));
        let (rest, terms) = parsed("203.0.113.9 reason maintenance of DC2 expires 10m").expect("valid");
        assert_eq!(rest, ["203.0.113.9"]);
        assert_eq!(
            (terms.lasts, terms.reason.as_deref()),
            (Some(Duration::from_secs(600)), Some("maintenance of DC2"))
        );
        let (_, terms) = parsed("203.0.113.9 reason 'the contract expires soon'").expect("valid");
        assert_eq!((terms.lasts, terms.reason.as_deref()), (None, Some("the contract expires soon")));
        for (text, part) in [
            ("203.0.113.9 reason the contract expires soon", "quotation marks"),
            ("203.0.113.9 reason it expires", "quotation marks"),
            ("203.0.113.9 expires 10m reason x expires 5m", "twice"),
        ] {
            let error = parsed(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
        let words: Vec<String> =
            "x reason the tenant of prefixes 203.0.113.0/28 expires 5m".split(' ').map(str::to_owned).collect();
        let (rest, terms) = options_beside(&words, &["prefixes"]).expect("valid");
        assert_eq!((rest.len(), terms.reason.as_deref()), (3, Some("the tenant of")), "{rest:?}");
    }
}
