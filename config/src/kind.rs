//! What a key takes: its [`Kind`], with range, unit and choices, and how a value is read by it.
//!
//! A kind stands once, at its key. From it come the check of a value, the advice about a wrong one, the spelling of a word in TOML,
//! what `reference.toml` says, what the shell completes, and what is hidden. What a setter is given is read and in range.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use flowspec::Ranges;
use serde::Serialize;
use traffic::Prefix;

use crate::notify::{Template, Url};
use crate::value::Value;

/// Of which IP version an address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// Either.
    Any,
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

/// What a number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "units are what they are called; megabits and megabytes are 10^6 bits and 2^20 bytes")]
pub enum Unit {
    Milliseconds,
    Seconds,
    Days,
    Percent,
    PacketsPerSecond,
    FlowsPerSecond,
    MegabitsPerSecond,
    BytesPerSecond,
    Bytes,
    Megabytes,
}

impl Unit {
    /// In words.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Milliseconds => "milliseconds",
            Self::Seconds => "seconds",
            Self::Days => "days",
            Self::Percent => "percent",
            Self::PacketsPerSecond => "packets per second",
            Self::FlowsPerSecond => "flows per second",
            Self::MegabitsPerSecond => "megabits per second",
            Self::BytesPerSecond => "bytes per second",
            Self::Bytes => "bytes",
            Self::Megabytes => "megabytes",
        }
    }
}

/// What a key takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Kind {
    /// On or off.
    Switch,
    /// A whole number, both ends included.
    Number {
        /// The least.
        low: i64,
        /// The most.
        high: i64,
        /// What it counts, where that has a name.
        #[serde(skip_serializing_if = "Option::is_none")]
        unit: Option<Unit>,
    },
    /// One of these words.
    Choice {
        /// In the order in which they are told.
        choices: Vec<&'static str>,
    },
    /// Any text.
    Text,
    /// A text that is never shown.
    Secret {
        /// Octets at most; at least one then.
        #[serde(skip_serializing_if = "Option::is_none")]
        longest: Option<usize>,
    },
    /// An address of the web, of which only the host is shown: what stands behind it may be a secret.
    Url,
    /// A text with `{{ names }}` in it.
    Template,
    /// A date, or a time in UTC (RFC 3339).
    Moment,
    /// An IP address.
    Address {
        /// Of which version.
        family: Family,
    },
    /// An IP address and a port.
    Endpoint,
    /// An IP prefix, without bits behind its length.
    Prefix,
    /// A number, a range of numbers such as `1024-2047`, or a name that stands for one.
    Range {
        /// The largest number.
        most: u32,
    },
    /// A text of a form of its own.
    Form {
        /// What it looks like.
        example: &'static str,
    },
    /// Any number of these.
    List {
        /// What each of them is.
        of: Box<Kind>,
    },
}

impl Kind {
    /// Whether it holds several values.
    #[must_use]
    pub const fn is_list(&self) -> bool {
        matches!(self, Self::List { .. })
    }

    /// Whether it is not for eyes and logs.
    #[must_use]
    pub const fn is_secret(&self) -> bool {
        matches!(self, Self::Secret { .. } | Self::Url)
    }

    /// The words that it takes, where they are few.
    #[must_use]
    pub fn choices(&self) -> &[&'static str] {
        match self {
            Self::Switch => &["enable", "disable"],
            Self::Choice { choices } => choices,
            Self::List { of } => of.choices(),
            Self::Number { .. }
            | Self::Text
            | Self::Secret { .. }
            | Self::Url
            | Self::Template
            | Self::Moment
            | Self::Address { .. }
            | Self::Endpoint
            | Self::Prefix
            | Self::Range { .. }
            | Self::Form { .. } => &[],
        }
    }

    /// What it takes, with range and unit: `1 to 86400 seconds`.
    #[must_use]
    pub fn takes(&self) -> String {
        match self {
            Self::Switch => "true or false".to_owned(),
            Self::Number { low, high, unit: None } => format!("{low} to {high}"),
            Self::Number { low, high, unit: Some(unit) } => format!("{low} to {high} {}", unit.name()),
            Self::Choice { choices } => quoted(choices),
            Self::Text => "a text".to_owned(),
            Self::Secret { longest: None } => "a text, never shown".to_owned(),
            Self::Secret { longest: Some(longest) } => format!("a text of 1 to {longest} octets, never shown"),
            Self::Url => "an address of the web, of which only the host is shown".to_owned(),
            Self::Template => "a text with {{ names }}".to_owned(),
            Self::Moment => "a date, or a time in UTC".to_owned(),
            Self::Address { family: Family::Any } => "an IP address".to_owned(),
            Self::Address { family: Family::Ipv4 } => "an IPv4 address".to_owned(),
            Self::Address { family: Family::Ipv6 } => "an IPv6 address".to_owned(),
            Self::Endpoint => "an IP address and a port".to_owned(),
            Self::Prefix => "an IP prefix".to_owned(),
            Self::Range { most } => format!("a name, a number up to {most} or a range"),
            Self::Form { example } => format!("a text such as {example:?}"),
            Self::List { of } => format!("a list, each {}", of.takes()),
        }
    }

    /// What to write instead of a wrong value.
    fn advice(&self) -> String {
        match self {
            Self::Switch => "write true or false".to_owned(),
            Self::Number { low, high, .. } => format!("write a whole number from {low} to {high}"),
            Self::Choice { choices } => format!("write {}", quoted(choices)),
            Self::Text | Self::Secret { .. } | Self::Template => "write a text in quotation marks".to_owned(),
            Self::Url => "write for example \"https://example.net/hook\"".to_owned(),
            Self::Moment => "write a date such as \"2027-01-31\" or \"2027-01-31T12:00:00Z\"".to_owned(),
            Self::Address { family: Family::Any | Family::Ipv4 } => "write for example \"192.0.2.1\"".to_owned(),
            Self::Address { family: Family::Ipv6 } => "write for example \"100::1\"".to_owned(),
            Self::Endpoint => "write for example \"127.0.0.1:10007\"".to_owned(),
            Self::Prefix => "write ADDRESS/LENGTH, such as 203.0.113.0/24".to_owned(),
            Self::Range { most } => {
                format!("write a number up to {most} or a range, such as \"53\" or \"1024-2047\"")
            }
            Self::Form { example } => format!("write for example {example:?}"),
            Self::List { of } => of.advice_in_list(),
        }
    }

    fn advice_in_list(&self) -> String {
        if let Self::Choice { choices } = self {
            format!("write one of {}", choices.join(", "))
        } else if *self == Self::Text {
            "write a list, such as [\"a\", \"b\"]".to_owned()
        } else {
            self.advice()
        }
    }

    /// A word of the command line as TOML has it; a word that does not fit stays a text, which the key refuses.
    pub(crate) fn spelt(&self, word: &str) -> toml_edit::Value {
        let fitting = match self {
            Self::Switch => Value::Text(word.to_owned()).switch().ok().map(toml_edit::Value::from),
            Self::Number { .. } | Self::Range { .. } => word.parse::<i64>().ok().map(toml_edit::Value::from),
            Self::List { of } => return of.spelt(word),
            Self::Choice { .. }
            | Self::Text
            | Self::Secret { .. }
            | Self::Url
            | Self::Template
            | Self::Moment
            | Self::Address { .. }
            | Self::Endpoint
            | Self::Prefix
            | Self::Form { .. } => None,
        };
        fitting.unwrap_or_else(|| word.into())
    }
}

/// `"a", "b" or "c"`.
fn quoted(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [one] => format!("{one:?}"),
        [first @ .., last] => {
            let first: Vec<String> = first.iter().map(|word| format!("{word:?}")).collect();
            format!("{} or {last:?}", first.join(", "))
        }
    }
}

pub(crate) type Read<T> = dyn Fn(&Value) -> Result<T, String> + Send + Sync;

/// A kind, and how a value of it is read.
pub(crate) struct Of<T> {
    pub(crate) kind: Kind,
    /// What to write instead of a value of a type that no key takes.
    pub(crate) advice: String,
    pub(crate) read: Box<Read<T>>,
}

impl<T: 'static> Of<T> {
    /// A kind with its reader.
    pub(crate) fn new(kind: Kind, read: impl Fn(&Value) -> Result<T, String> + Send + Sync + 'static) -> Self {
        Self { advice: kind.advice(), kind, read: Box::new(read) }
    }

    /// The same with an advice of its own.
    pub(crate) fn saying(self, advice: impl Into<String>) -> Self {
        Self { advice: advice.into(), ..self }
    }

    /// What is made of what was read; this may refuse it too.
    pub(crate) fn then<U: 'static>(self, next: impl Fn(T) -> Result<U, String> + Send + Sync + 'static) -> Of<U> {
        let read = self.read;
        Of { kind: self.kind, advice: self.advice, read: Box::new(move |value| next(read(value)?)) }
    }
}

pub(crate) fn switch() -> Of<bool> {
    Of::new(Kind::Switch, Value::switch)
}

/// A whole number that has no unit: a count, a port, an AS number.
pub(crate) fn number<T: TryFrom<i64> + 'static>(low: i64, high: i64) -> Of<T> {
    number_in(None, low, high)
}

fn number_in<T: TryFrom<i64> + 'static>(unit: Option<Unit>, low: i64, high: i64) -> Of<T> {
    let kind = Kind::Number { low, high, unit };
    let wrong = kind.advice();
    Of::new(kind, move |value| {
        let Value::Number(number) = value else { return Err(wrong.clone()) };
        let inside = Some(*number).filter(|n| (low..=high).contains(n));
        inside.and_then(|n| T::try_from(n).ok()).ok_or_else(|| wrong.clone())
    })
}

macro_rules! units {
    ($($name:ident $unit:ident),*) => {$(
        pub(crate) fn $name<T: TryFrom<i64> + 'static>(low: i64, high: i64) -> Of<T> {
            number_in(Some(Unit::$unit), low, high)
        }
    )*};
}

units!(
    milliseconds Milliseconds,
    seconds Seconds,
    days Days,
    percent Percent,
    bytes_per_second BytesPerSecond,
    bytes Bytes,
    megabytes Megabytes
);

/// A rate in the unit of a threshold.
pub(crate) fn rate(unit: detector::Unit) -> Of<u64> {
    let unit = match unit {
        detector::Unit::Packets => Unit::PacketsPerSecond,
        detector::Unit::Bytes => Unit::MegabitsPerSecond,
        detector::Unit::Flows => Unit::FlowsPerSecond,
    };
    number_in(Some(unit), 1, 10_000_000_000)
}

/// One of a few words, each with what it means.
pub(crate) fn choice<T: Clone + Send + Sync + 'static>(words: impl Into<Vec<(&'static str, T)>>) -> Of<T> {
    let words: Vec<(&'static str, T)> = words.into();
    let kind = Kind::Choice { choices: words.iter().map(|(word, _)| *word).collect() };
    let wrong = kind.advice();
    Of::new(kind, move |value| {
        let text = value.text()?;
        let found = words.iter().find(|(word, _)| *word == text);
        found.map(|(_, meaning)| meaning.clone()).ok_or_else(|| wrong.clone())
    })
}

pub(crate) fn text() -> Of<String> {
    Of::new(Kind::Text, |value| value.text().map(str::to_owned))
}

pub(crate) fn secret() -> Of<String> {
    Of::new(Kind::Secret { longest: None }, |value| value.text().map(str::to_owned))
}

/// A secret of 1 to so many octets.
pub(crate) fn short_secret(longest: usize) -> Of<String> {
    Of::new(Kind::Secret { longest: Some(longest) }, move |value| {
        let text = value.text()?;
        let fits = (1..=longest).contains(&text.len());
        if fits { Ok(text.to_owned()) } else { Err(format!("write 1 to {longest} octets, or leave the key out")) }
    })
}

pub(crate) fn url() -> Of<Url> {
    Of::new(Kind::Url, |value| value.text()?.parse())
}

pub(crate) fn template() -> Of<Template> {
    Of::new(Kind::Template, |value| Template::new(value.text()?))
}

fn parsed<T: FromStr + 'static>(kind: Kind, example: &'static str) -> Of<T> {
    let read = move |value: &Value| {
        let text = value.text()?;
        text.parse().map_err(|_| format!("{text:?} is not valid: write for example {example:?}"))
    };
    Of::new(kind, read).saying(format!("write for example {example:?}"))
}

pub(crate) fn address(example: &'static str) -> Of<IpAddr> {
    parsed(Kind::Address { family: Family::Any }, example)
}

pub(crate) fn ipv4(example: &'static str) -> Of<Ipv4Addr> {
    parsed(Kind::Address { family: Family::Ipv4 }, example)
}

pub(crate) fn ipv6(example: &'static str) -> Of<Ipv6Addr> {
    parsed(Kind::Address { family: Family::Ipv6 }, example)
}

pub(crate) fn endpoint(example: &'static str) -> Of<SocketAddr> {
    parsed(Kind::Endpoint, example)
}

/// A list of texts, each read by itself.
pub(crate) fn list<T: 'static>(
    of: Kind,
    one: impl Fn(&str) -> Result<T, String> + Send + Sync + 'static,
) -> Of<Vec<T>> {
    Of::new(Kind::List { of: Box::new(of) }, move |value| value.list()?.into_iter().map(&one).collect())
}

pub(crate) fn texts() -> Of<Vec<String>> {
    list(Kind::Text, |text| Ok(text.to_owned()))
}

/// Prefixes, each once; host bits that are set are an error, since they say that something else was meant.
pub(crate) fn prefixes() -> Of<Vec<Prefix>> {
    let kind = Kind::List { of: Box::new(Kind::Prefix) };
    Of::new(kind, |value| each_once(value, prefix, |prefix, _| prefix.to_string()))
}

fn each_once<T: PartialEq>(
    value: &Value,
    one: impl Fn(&str) -> Result<T, String>,
    shown: impl Fn(&T, &str) -> String,
) -> Result<Vec<T>, String> {
    let mut found = Vec::new();
    for text in value.list()? {
        let item = one(text)?;
        if found.contains(&item) {
            return Err(format!("{} stands twice in the list: remove one", shown(&item, text)));
        }
        found.push(item);
    }
    Ok(found)
}

pub(crate) fn prefix(text: &str) -> Result<Prefix, String> {
    let prefix: Prefix = text.parse().map_err(|e: traffic::target::PrefixError| e.to_string())?;
    let written: Option<IpAddr> = text.split('/').next().and_then(|a| a.trim().parse().ok());
    if written == Some(prefix.address()) {
        return Ok(prefix);
    }
    let bits = prefix.version().bits();
    Err(format!("{text:?} has bits set behind its length: write {prefix} (or a /{bits} for the host)"))
}

/// Addresses, each once.
pub(crate) fn addresses<T: FromStr + PartialEq + 'static>(family: Family, example: &'static str) -> Of<Vec<T>> {
    let one =
        move |text: &str| text.parse().map_err(|_| format!("{text:?} is not valid: write for example {example:?}"));
    let read = move |value: &Value| each_once(value, one, |_, text| text.to_owned());
    let kind = Kind::List { of: Box::new(Kind::Address { family }) };
    Of::new(kind, read).saying(format!("write for example {example:?}"))
}

pub(crate) fn ports() -> Of<Vec<u16>> {
    let kind = Kind::List { of: Box::new(Kind::Number { low: 1, high: 65_535, unit: None }) };
    let one =
        |p: &str| p.parse().ok().filter(|p| *p > 0).ok_or_else(|| format!("{p:?} is not a port: write 1 to 65535"));
    Of::new(kind, move |value| value.list_or_number()?.iter().map(|p| one(p)).collect()).saying("write 1 to 65535")
}

/// Numbers and ranges, or names that `number_of` knows; several may stand in one text.
pub(crate) fn ranges(most: u32, number_of: fn(&str) -> Option<u32>) -> Of<Ranges> {
    let kind = Kind::Range { most };
    let advice = kind.advice();
    let one = move |text: &str| {
        let number = |t: &str| number_of(t.trim()).or_else(|| t.trim().parse().ok()).filter(|n| *n <= most);
        let found = match text.split_once('-') {
            Some((low, high)) => number(low).zip(number(high)).filter(|(low, high)| low <= high),
            None => number(text).map(|n| (n, n)),
        };
        found.ok_or_else(|| format!("{text:?}: {advice}"))
    };
    Of::new(Kind::List { of: Box::new(kind) }, move |value| {
        let all = value.list_or_number()?;
        let all: Vec<(u32, u32)> = all.iter().flat_map(|text| text.split(',')).map(&one).collect::<Result<_, _>>()?;
        if all.is_empty() { Err(NAME_ONE.to_owned()) } else { Ok(Ranges::union(all)) }
    })
}

const NAME_ONE: &str = "name at least one value, or leave the key out";

/// Any of some flags; several may stand in one text.
pub(crate) fn flags(names: &'static [(&'static str, u16)]) -> Of<u16> {
    let choices: Vec<&'static str> = names.iter().map(|(name, _)| *name).collect();
    let known = choices.join(", ");
    Of::new(Kind::List { of: Box::new(Kind::Choice { choices }) }, move |value| {
        let mut mask = 0;
        for text in value.list()?.into_iter().flat_map(|text| text.split(',')).map(str::trim) {
            let flag = names.iter().find(|(name, _)| *name == text);
            mask |= flag.ok_or_else(|| format!("{text:?}: write one of {known}"))?.1;
        }
        if mask == 0 { Err(NAME_ONE.to_owned()) } else { Ok(mask) }
    })
}

/// At most four prefix lengths, longest first.
pub(crate) fn lengths(low: u8, high: u8) -> Of<Vec<u8>> {
    let kind = Kind::List { of: Box::new(Kind::Number { low: low.into(), high: high.into(), unit: None }) };
    let wrong = format!("write prefix lengths from {low} to {high}, such as [{high}]");
    let advice = wrong.clone();
    let read = move |value: &Value| {
        let one = |t: &str| t.trim_start_matches('/').parse().ok().filter(|l| (low..=high).contains(l));
        let all: Option<Vec<u8>> = value.list()?.into_iter().map(one).collect();
        let mut all = all.ok_or_else(|| wrong.clone())?;
        all.sort_unstable_by_key(|l| std::cmp::Reverse(*l));
        all.dedup();
        if all.len() > 4 { Err("at most four lengths: each costs memory".to_owned()) } else { Ok(all) }
    };
    Of::new(kind, read).saying(advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_spelt_as_its_kind_has_it() {
        let spelt = |kind: &Kind, word: &str| kind.spelt(word).to_string();
        let port = Kind::Number { low: 1, high: 65_535, unit: None };
        for (kind, word, toml) in [
            (Kind::Switch, "enable", "true"),
            (Kind::Switch, "off", "false"),
            (Kind::Switch, "1", "\"1\""),
            (port.clone(), "53", "53"),
            (port.clone(), "domain", "\"domain\""),
            (Kind::List { of: Box::new(port) }, "53", "53"),
            (Kind::Range { most: 255 }, "17", "17"),
            (Kind::Range { most: 255 }, "17-18", "\"17-18\""),
            (Kind::Text, "53", "\"53\""),
            (Kind::Text, "enable", "\"enable\""),
        ] {
            assert_eq!(spelt(&kind, word), toml, "{kind:?} {word}");
        }
    }

    #[test]
    fn what_is_out_of_range_is_never_read_whatever_type_keeps_it() {
        let read = |of: &Of<u8>, number: i64| (of.read)(&Value::Number(number));
        let narrow: Of<u8> = number(1, 254);
        assert_eq!((read(&narrow, 1), read(&narrow, 254)), (Ok(1), Ok(254)));
        assert!(read(&narrow, 0).is_err() && read(&narrow, 255).is_err() && read(&narrow, -1).is_err());
        // A range wider than the type is refused, not cut.
        let wide: Of<u8> = number(0, 1000);
        assert!(read(&wide, 256).is_err());
    }

    #[test]
    fn ranges_and_units_and_choices_are_said() {
        assert_eq!(seconds::<u64>(1, 60).kind.takes(), "1 to 60 seconds");
        assert_eq!(choice([("a", 1), ("b", 2), ("c", 3)]).kind.takes(), "\"a\", \"b\" or \"c\"");
        assert_eq!(ports().kind.takes(), "a list, each 1 to 65535");
        assert_eq!(ports().kind.choices(), [""; 0]);
        assert_eq!(flags(&[("syn", 2)]).kind.choices(), ["syn"]);
    }
}
