//! BGP messages (RFC 4271 section 4): header, OPEN with capabilities, NOTIFICATION, KEEPALIVE, ROUTE-REFRESH. UPDATE is in
//! [`super::attribute`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use crate::peer::Family;

/// Octets of the header.
pub const HEADER: usize = 19;
/// Longest message without the extended message capability.
pub const MAX_MESSAGE: usize = 4096;

const MARKER: [u8; 16] = [0xff; 16];
/// RFC 6793: stands for an AS number of four octets.
const AS_TRANS: u16 = 23456;

impl Family {
    /// All families that are spoken.
    pub const ALL: [Self; 4] = [Self::Ipv4Unicast, Self::Ipv6Unicast, Self::Ipv4FlowSpec, Self::Ipv6FlowSpec];

    /// Address family and subsequent address family identifiers.
    #[must_use]
    pub const fn numbers(self) -> (u16, u8) {
        match self {
            Self::Ipv4Unicast => (1, 1),
            Self::Ipv6Unicast => (2, 1),
            Self::Ipv4FlowSpec => (1, 133),
            Self::Ipv6FlowSpec => (2, 133),
        }
    }

    /// The family of AFI and SAFI, if it is spoken.
    #[must_use]
    pub const fn from_numbers(afi: u16, safi: u8) -> Option<Self> {
        Some(match (afi, safi) {
            (1, 1) => Self::Ipv4Unicast,
            (2, 1) => Self::Ipv6Unicast,
            (1, 133) => Self::Ipv4FlowSpec,
            (2, 133) => Self::Ipv6FlowSpec,
            _ => return None,
        })
    }

    /// `ipv4-flowspec` and the like.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ipv4Unicast => "ipv4-unicast",
            Self::Ipv6Unicast => "ipv6-unicast",
            Self::Ipv4FlowSpec => "ipv4-flowspec",
            Self::Ipv6FlowSpec => "ipv6-flowspec",
        }
    }
}

/// A NOTIFICATION: why a session ends (RFC 4271 section 4.5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// Error code.
    pub code: u8,
    /// Error subcode.
    pub subcode: u8,
    /// Data.
    pub data: Vec<u8>,
}

impl Notification {
    /// The family and the number of prefixes that Cease/Maximum Number of Prefixes Reached names (RFC 4486 section 4).
    #[must_use]
    pub fn prefix_limit(&self) -> Option<(Family, u32)> {
        let ((6, 1), &[a, b, safi, w, x, y, z]) = ((self.code, self.subcode), self.data.as_slice()) else {
            return None;
        };
        Some((Family::from_numbers(u16::from_be_bytes([a, b]), safi)?, u32::from_be_bytes([w, x, y, z])))
    }

    /// Without data.
    #[must_use]
    pub const fn new(code: u8, subcode: u8) -> Self {
        Self { code, subcode, data: Vec::new() }
    }

    /// Administrative shutdown with a text (RFC 9003).
    #[must_use]
    pub fn shutdown(text: &str) -> Self {
        let mut end = text.len().min(255);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let mut data = vec![u8::try_from(end).unwrap_or(0)];
        data.extend(&text.as_bytes()[..end]);
        Self { code: 6, subcode: 2, data }
    }

    /// In words, with what an operator does about it where that is known.
    #[must_use]
    pub fn text(&self) -> String {
        let name = match (self.code, self.subcode) {
            (1, _) => "message header error",
            (2, 2) => "bad peer AS: check remote_asn here and the neighbour's AS there",
            (2, 3) => "bad BGP identifier: check router_id",
            (2, 6) => "unacceptable hold time",
            (2, 7) => "unsupported capability",
            (2, _) => "OPEN message error",
            (3, 9) => "error in an optional attribute: a route the router does not accept",
            (3, 10) => "invalid network field: a route the router does not accept",
            (3, _) => "UPDATE message error",
            (4, _) => "hold timer expired",
            (5, _) => "finite state machine error",
            (6, 1) => "maximum number of prefixes reached: raise the router's limit",
            (6, 2) => "administrative shutdown",
            (6, 3) => "peer de-configured",
            (6, 4) => "administrative reset",
            (6, 5) => "connection rejected: is this neighbour configured on the router?",
            (6, 7) => "connection collision resolution",
            (6, _) => "cease",
            _ => "unknown error",
        };
        let mut text = format!("NOTIFICATION {}/{}: {name}", self.code, self.subcode);
        if self.code == 6
            && matches!(self.subcode, 2 | 4)
            && let Some((&length, message)) = self.data.split_first()
            && let Some(message) = message.get(..usize::from(length))
            && !message.is_empty()
        {
            text.push_str(&format!(" ({:?})", String::from_utf8_lossy(message)));
        }
        text
    }
}

/// An OPEN (RFC 4271 section 4.2) with the capabilities that matter here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// AS number, from the four-octet capability where there is one.
    pub asn: u32,
    /// Proposed hold time in seconds.
    pub hold_time: u16,
    /// BGP identifier.
    pub identifier: Ipv4Addr,
    /// Families of the multiprotocol capability (RFC 4760).
    pub families: BTreeSet<Family>,
    /// Four-octet AS numbers (RFC 6793).
    pub four_octet_as: bool,
    /// Route refresh (RFC 2918).
    pub route_refresh: bool,
    /// Enhanced route refresh (RFC 7313).
    pub enhanced_refresh: bool,
    /// Graceful restart (RFC 4724).
    pub graceful_restart: Option<GracefulRestart>,
}

/// The graceful restart capability (RFC 4724 section 3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GracefulRestart {
    /// The R bit: the sender has restarted.
    pub restarted: bool,
    /// Restart time in seconds, at most 4095.
    pub seconds: u16,
    /// Families, with the F bit: their forwarding state was preserved. None at all: the sender only helps others.
    pub families: BTreeMap<Family, bool>,
}

/// Subtypes of a ROUTE-REFRESH (RFC 7313 section 3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refresh {
    /// The sender wants all routes again.
    Request,
    /// All routes follow.
    Begin,
    /// All routes were sent: what was not among them is gone.
    End,
}

/// A message, decoded as far as the session needs it. An UPDATE stays in octets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// OPEN.
    Open(Open),
    /// UPDATE without its header.
    Update(Vec<u8>),
    /// NOTIFICATION.
    Notification(Notification),
    /// KEEPALIVE.
    Keepalive,
    /// ROUTE-REFRESH of a family (`None`: of one that is not spoken, or an unknown subtype).
    RouteRefresh(Option<(Family, Refresh)>),
}

/// Puts a header before a body. Bodies are built to fit.
#[must_use]
pub fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(HEADER + body.len());
    message.extend(MARKER);
    message.extend(u16::try_from(HEADER + body.len()).unwrap_or(u16::MAX).to_be_bytes());
    message.push(kind);
    message.extend(body);
    message
}

/// A KEEPALIVE.
#[must_use]
pub fn keepalive() -> Vec<u8> {
    frame(4, &[])
}

impl Notification {
    /// On the wire.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut body = vec![self.code, self.subcode];
        body.extend(&self.data);
        frame(3, &body)
    }
}

/// A ROUTE-REFRESH (RFC 2918, RFC 7313).
#[must_use]
pub fn route_refresh(family: Family, subtype: Refresh) -> Vec<u8> {
    let (afi, safi) = family.numbers();
    let [a, b] = afi.to_be_bytes();
    let subtype = match subtype {
        Refresh::Request => 0,
        Refresh::Begin => 1,
        Refresh::End => 2,
    };
    frame(5, &[a, b, subtype, safi])
}

impl GracefulRestart {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend([64, u8::try_from(2 + 4 * self.families.len()).unwrap_or(2)]);
        let first = u16::from(self.restarted) << 15 | self.seconds & 0x0fff;
        out.extend(first.to_be_bytes());
        for (family, preserved) in &self.families {
            let (afi, safi) = family.numbers();
            let [a, b] = afi.to_be_bytes();
            out.extend([a, b, safi, u8::from(*preserved) << 7]);
        }
    }

    fn decode(value: &[u8]) -> Option<Self> {
        let (first, rest) = value.split_first_chunk::<2>()?;
        let first = u16::from_be_bytes(*first);
        let families = rest
            .chunks_exact(4)
            .filter_map(|c| Some((Family::from_numbers(u16::from_be_bytes([c[0], c[1]]), c[2])?, c[3] & 0x80 != 0)));
        Some(Self { restarted: first & 0x8000 != 0, seconds: first & 0x0fff, families: families.collect() })
    }
}

impl Open {
    /// On the wire.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut capabilities = Vec::new();
        for family in &self.families {
            let (afi, safi) = family.numbers();
            let [a, b] = afi.to_be_bytes();
            capabilities.extend([1, 4, a, b, 0, safi]);
        }
        if self.route_refresh {
            capabilities.extend([2, 0]);
        }
        if let Some(restart) = &self.graceful_restart {
            restart.encode(&mut capabilities);
        }
        if self.four_octet_as {
            capabilities.extend([65, 4]);
            capabilities.extend(self.asn.to_be_bytes());
        }
        if self.enhanced_refresh {
            capabilities.extend([70, 0]);
        }
        let mut body = vec![4];
        body.extend(u16::try_from(self.asn).unwrap_or(AS_TRANS).to_be_bytes());
        body.extend(self.hold_time.to_be_bytes());
        body.extend(self.identifier.octets());
        let length = u8::try_from(capabilities.len()).unwrap_or(0);
        body.extend([length + 2, 2, length]);
        body.extend(capabilities);
        frame(1, &body)
    }

    fn decode(body: &[u8]) -> Result<Self, Notification> {
        let malformed = || Notification::new(2, 0);
        let fixed: &[u8; 10] = body.first_chunk().ok_or_else(|| Notification::new(1, 2))?;
        if fixed[0] != 4 {
            return Err(Notification { code: 2, subcode: 1, data: vec![0, 4] });
        }
        let hold_time = u16::from_be_bytes([fixed[3], fixed[4]]);
        let mut open = Self {
            asn: u16::from_be_bytes([fixed[1], fixed[2]]).into(),
            hold_time,
            identifier: Ipv4Addr::new(fixed[5], fixed[6], fixed[7], fixed[8]),
            families: BTreeSet::new(),
            four_octet_as: false,
            route_refresh: false,
            enhanced_refresh: false,
            graceful_restart: None,
        };
        let mut parameters = &body[10..];
        if parameters.len() != usize::from(fixed[9]) && fixed[9] != 0xff {
            return Err(malformed());
        }
        // RFC 9072: a length of 255 with a type of 255 says that lengths have two octets.
        let extended = fixed[9] == 0xff && parameters.first() == Some(&0xff);
        if extended {
            parameters = parameters.get(3..).ok_or_else(malformed)?;
        }
        let mut multiprotocol = false;
        while !parameters.is_empty() {
            let (kind, value, rest) = parameter(parameters, extended).ok_or_else(malformed)?;
            parameters = rest;
            if kind != 2 {
                return Err(Notification::new(2, 4));
            }
            multiprotocol |= open.capabilities(value).ok_or_else(malformed)?;
        }
        if !multiprotocol {
            open.families.insert(Family::Ipv4Unicast);
        }
        if hold_time == 1 || hold_time == 2 {
            return Err(Notification::new(2, 6));
        }
        if open.identifier.is_unspecified() {
            return Err(Notification::new(2, 3));
        }
        if open.asn == 0 {
            return Err(Notification::new(2, 2));
        }
        Ok(open)
    }

    /// Reads a capabilities parameter; returns whether it named any family.
    fn capabilities(&mut self, mut data: &[u8]) -> Option<bool> {
        let mut multiprotocol = false;
        while !data.is_empty() {
            let (code, value, rest) = parameter(data, false)?;
            data = rest;
            match (code, value) {
                (1, [a, b, _, safi]) => {
                    multiprotocol = true;
                    self.families.extend(Family::from_numbers(u16::from_be_bytes([*a, *b]), *safi));
                }
                (2, _) => self.route_refresh = true,
                (70, _) => self.enhanced_refresh = true,
                // RFC 4724 section 3: a capability that cannot be read is as good as none.
                (64, value) => self.graceful_restart = GracefulRestart::decode(value),
                (65, [a, b, c, d]) => {
                    self.four_octet_as = true;
                    self.asn = u32::from_be_bytes([*a, *b, *c, *d]);
                }
                (1 | 65, _) => return None,
                _ => {}
            }
        }
        Some(multiprotocol)
    }
}

/// Type, value and what follows.
fn parameter(data: &[u8], extended: bool) -> Option<(u8, &[u8], &[u8])> {
    let (length, at) = if extended {
        (usize::from(u16::from_be_bytes([*data.get(1)?, *data.get(2)?])), 3)
    } else {
        (usize::from(*data.get(1)?), 2)
    };
    let value = data.get(at..at + length)?;
    Some((data[0], value, &data[at + length..]))
}

/// Length of the message at the front of a stream: `None` until its header is whole.
///
/// # Errors
/// The NOTIFICATION to answer a header with (RFC 4271 section 6.1).
pub fn length(data: &[u8]) -> Result<Option<usize>, Notification> {
    let Some(header) = data.first_chunk::<HEADER>() else { return Ok(None) };
    if header[..16] != MARKER {
        return Err(Notification::new(1, 1));
    }
    let length = usize::from(u16::from_be_bytes([header[16], header[17]]));
    let least = match header[18] {
        1 => 29,
        2 => 23,
        3 => 21,
        4 | 5 => HEADER,
        kind => return Err(Notification { code: 1, subcode: 3, data: vec![kind] }),
    };
    let bad = length < least || length > MAX_MESSAGE || (header[18] == 4 && length != HEADER);
    if bad {
        return Err(Notification { code: 1, subcode: 2, data: header[16..18].to_vec() });
    }
    Ok(Some(length))
}

/// Decodes one whole message, as [`length`] cut it.
///
/// # Errors
/// The NOTIFICATION to answer it with.
pub fn decode(message: &[u8]) -> Result<Message, Notification> {
    let body = message.get(HEADER..).ok_or_else(|| Notification::new(1, 2))?;
    Ok(match message[18] {
        1 => Message::Open(Open::decode(body)?),
        2 => Message::Update(body.to_vec()),
        3 => Message::Notification(Notification {
            code: *body.first().unwrap_or(&0),
            subcode: *body.get(1).unwrap_or(&0),
            data: body.get(2..).unwrap_or_default().to_vec(),
        }),
        4 => Message::Keepalive,
        5 => match body {
            [a, b, subtype, safi] => {
                let subtype = match subtype {
                    0 => Some(Refresh::Request),
                    1 => Some(Refresh::Begin),
                    2 => Some(Refresh::End),
                    _ => None,
                };
                Message::RouteRefresh(Family::from_numbers(u16::from_be_bytes([*a, *b]), *safi).zip(subtype))
            }
            _ => return Err(Notification { code: 7, subcode: 1, data: message.to_vec() }),
        },
        kind => return Err(Notification { code: 1, subcode: 3, data: vec![kind] }),
    })
}
