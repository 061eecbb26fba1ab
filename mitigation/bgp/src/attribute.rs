//! UPDATE messages and their path attributes (RFC 4271 section 4.3, RFC 4760, RFC 1997, RFC 4360, RFC 5701, RFC 8092), with the error
//! handling of RFC 7606.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use flowspec::Action;
use flowspec::nlri::{self, FlowNlri, NlriError};
use traffic::{IpVersion, Prefix};

use super::message::{MAX_MESSAGE, Notification, frame};
use crate::announcement::{Announcement, Community, ExtendedCommunity, LargeCommunity, Route};
use crate::peer::Family;

/// What the sender is to the receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sender {
    /// Our AS number.
    pub asn: u32,
    /// Same AS: `LOCAL_PREF` and an empty `AS_PATH`.
    pub ibgp: bool,
    /// Both sides speak four-octet AS numbers.
    pub four_octet_as: bool,
    /// Next hops of routes that name none.
    pub next_hops: (Ipv4Addr, Ipv6Addr),
    /// AS number that rate limits carry for information (RFC 8955 section 7.1); FastNetMon sends 0.
    pub rate_asn: u16,
}

/// Why a route cannot be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The NLRI cannot be encoded.
    #[error(transparent)]
    Nlri(#[from] NlriError),
    /// The attributes leave no room for the NLRI.
    #[error("the attributes do not fit a BGP message")]
    TooLong,
    /// The next hop is of the other address family.
    #[error("the next hop is of the other address family")]
    NextHop,
}

/// The family in which a route is announced.
#[must_use]
pub fn family_of(route: &Route) -> Option<Family> {
    match route {
        Route::Unicast(prefix) => Some(match prefix.version() {
            IpVersion::V4 => Family::Ipv4Unicast,
            IpVersion::V6 => Family::Ipv6Unicast,
        }),
        Route::FlowSpec(pattern) => pattern.version().map(|version| match version {
            IpVersion::V4 => Family::Ipv4FlowSpec,
            IpVersion::V6 => Family::Ipv6FlowSpec,
        }),
    }
}

/// The NLRI octets of a route, as they stand in an UPDATE.
///
/// # Errors
/// See [`NlriError`].
pub fn encode_nlri(route: &Route) -> Result<Vec<u8>, NlriError> {
    match route {
        Route::Unicast(prefix) => {
            let mut out = Vec::new();
            nlri::encode_unicast(prefix, &mut out);
            Ok(out)
        }
        Route::FlowSpec(pattern) => nlri::encode_with_length(pattern),
    }
}

fn push(out: &mut Vec<u8>, flags: u8, code: u8, value: &[u8]) {
    match u8::try_from(value.len()) {
        Ok(length) => out.extend([flags, code, length]),
        Err(_) => {
            out.extend([flags | 0x10, code]);
            out.extend(u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes());
        }
    }
    out.extend(value);
}

/// One UPDATE that announces routes of one family with the same attributes; `nlri` are their encoded NLRI.
///
/// # Errors
/// See [`EncodeError`].
pub fn announce(
    family: Family,
    sender: &Sender,
    announcement: &Announcement,
    nlri: &[Vec<u8>],
) -> Result<Vec<u8>, EncodeError> {
    let nlri = nlri.concat();
    let mut attributes = Vec::new();
    // ORIGIN: IGP.
    push(&mut attributes, 0x40, 1, &[0]);
    push(&mut attributes, 0x40, 2, &as_path(sender));
    let next_hop = next_hop(family, sender, announcement)?;
    if family == Family::Ipv4Unicast {
        push(&mut attributes, 0x40, 3, &next_hop);
    }
    if sender.ibgp {
        push(&mut attributes, 0x40, 5, &100u32.to_be_bytes());
    }
    if !announcement.communities.is_empty() {
        let mut communities = announcement.communities.clone();
        // RFC 1997 gives no order; ascending by value.
        communities.sort_unstable();
        communities.dedup();
        let value: Vec<u8> =
            communities.iter().flat_map(|c| c.0.to_be_bytes().into_iter().chain(c.1.to_be_bytes())).collect();
        push(&mut attributes, 0xc0, 8, &value);
    }
    if family != Family::Ipv4Unicast {
        let (afi, safi) = family.numbers();
        let mut reach = afi.to_be_bytes().to_vec();
        reach.push(safi);
        reach.push(u8::try_from(next_hop.len()).unwrap_or(0));
        reach.extend(&next_hop);
        reach.push(0);
        reach.extend(&nlri);
        push(&mut attributes, 0x80, 14, &reach);
    }
    extended_communities(sender, announcement, &mut attributes);
    if !announcement.large_communities.is_empty() {
        let value: Vec<u8> = announcement
            .large_communities
            .iter()
            .flat_map(|c| [c.0, c.1, c.2].into_iter().flat_map(u32::to_be_bytes))
            .collect();
        push(&mut attributes, 0xc0, 32, &value);
    }
    let mut body = vec![0, 0];
    body.extend(u16::try_from(attributes.len()).map_err(|_| EncodeError::TooLong)?.to_be_bytes());
    body.extend(attributes);
    if family == Family::Ipv4Unicast {
        body.extend(nlri);
    }
    finish(&body)
}

fn finish(body: &[u8]) -> Result<Vec<u8>, EncodeError> {
    let message = frame(2, body);
    if message.len() > MAX_MESSAGE { Err(EncodeError::TooLong) } else { Ok(message) }
}

fn as_path(sender: &Sender) -> Vec<u8> {
    if sender.ibgp {
        return Vec::new();
    }
    let mut path = vec![2, 1];
    if sender.four_octet_as {
        path.extend(sender.asn.to_be_bytes());
    } else {
        path.extend(u16::try_from(sender.asn).unwrap_or(23456).to_be_bytes());
    }
    path
}

/// FlowSpec routes have none (RFC 8955 section 4), but for the redirection to the next hop itself.
fn next_hop(family: Family, sender: &Sender, announcement: &Announcement) -> Result<Vec<u8>, EncodeError> {
    match (family, announcement.next_hop) {
        (Family::Ipv4FlowSpec | Family::Ipv6FlowSpec, _) => Ok(match redirect_next_hop(&announcement.actions) {
            Some(IpAddr::V4(address)) => address.octets().to_vec(),
            Some(IpAddr::V6(address)) => address.octets().to_vec(),
            None => Vec::new(),
        }),
        (Family::Ipv4Unicast, None) => Ok(sender.next_hops.0.octets().to_vec()),
        (Family::Ipv6Unicast, None) => Ok(sender.next_hops.1.octets().to_vec()),
        (Family::Ipv4Unicast, Some(IpAddr::V4(a))) => Ok(a.octets().to_vec()),
        (Family::Ipv6Unicast, Some(IpAddr::V6(a))) => Ok(a.octets().to_vec()),
        (Family::Ipv4Unicast | Family::Ipv6Unicast, Some(_)) => Err(EncodeError::NextHop),
    }
}

fn redirect_next_hop(actions: &[Action]) -> Option<IpAddr> {
    actions.iter().find_map(|a| if let Action::RedirectToNextHop { next_hop, .. } = a { *next_hop } else { None })
}

/// Filtering actions as extended communities (RFC 8955 section 7); IPv6 next hops as attribute 25 (RFC 5701).
fn extended_communities(sender: &Sender, announcement: &Announcement, attributes: &mut Vec<u8>) {
    let mut extended = Vec::new();
    let mut extended_v6 = Vec::new();
    for community in &announcement.extended_communities {
        extended.extend(community.0);
    }
    for action in &announcement.actions {
        match community_of(action, sender.rate_asn) {
            None => {}
            Some(ActionCommunity::Plain(kind, value)) => {
                extended.extend(kind.to_be_bytes());
                extended.extend(value);
            }
            Some(ActionCommunity::Ipv6 { address, copy }) => {
                extended_v6.extend([0x00, 0x0c]);
                extended_v6.extend(address.octets());
                extended_v6.extend([0, copy]);
            }
        }
    }
    if !extended.is_empty() {
        push(attributes, 0xc0, 16, &extended);
    }
    if !extended_v6.is_empty() {
        push(attributes, 0xc0, 25, &extended_v6);
    }
}

/// A filtering action on the wire.
enum ActionCommunity {
    /// Of attribute 16: type and subtype, value.
    Plain(u16, [u8; 6]),
    /// Of attribute 25: redirection to an IPv6 address; `copy` is 1 where the original goes on.
    Ipv6 { address: Ipv6Addr, copy: u8 },
}

/// The extended community of an action; `None` for the one that needs none.
fn community_of(action: &Action, rate_asn: u16) -> Option<ActionCommunity> {
    let two_four = |[a, b]: [u8; 2], [c, d, e, f]: [u8; 4]| [a, b, c, d, e, f];
    let four_two = |[a, b, c, d]: [u8; 4], [e, f]: [u8; 2]| [a, b, c, d, e, f];
    let last = |value: u8| [0, 0, 0, 0, 0, value];
    let rate = |value: f32| {
        let asn = if value == 0.0 { [0, 0] } else { rate_asn.to_be_bytes() };
        two_four(asn, value.to_be_bytes())
    };
    let (kind, value) = match action {
        Action::Accept => return None,
        Action::Discard => (0x8006, [0; 6]),
        Action::RateLimitBytes(value) => (0x8006, rate(*value)),
        Action::RateLimitPackets(value) => (0x800c, rate(*value)),
        Action::RedirectAs2 { asn, value } => (0x8008, two_four(asn.to_be_bytes(), value.to_be_bytes())),
        Action::RedirectIpv4 { address, value } => (0x8108, four_two(address.octets(), value.to_be_bytes())),
        Action::RedirectAs4 { asn, value } => (0x8208, four_two(asn.to_be_bytes(), value.to_be_bytes())),
        Action::Mark(dscp) => (0x8009, last(*dscp)),
        Action::TrafficAction { sample, go_on } => (0x8007, last(u8::from(*sample) << 1 | u8::from(*go_on))),
        Action::RedirectToNextHop { copy, .. } => (0x0800, last(u8::from(*copy))),
        Action::RedirectToIp(address) | Action::CopyToIp(address) => {
            let copy = u8::from(matches!(action, Action::CopyToIp(_)));
            match address {
                IpAddr::V4(address) => (0x010c, four_two(address.octets(), [0, copy])),
                IpAddr::V6(address) => return Some(ActionCommunity::Ipv6 { address: *address, copy }),
            }
        }
    };
    Some(ActionCommunity::Plain(kind, value))
}

/// One UPDATE that withdraws routes of one family.
///
/// # Errors
/// [`EncodeError::TooLong`].
pub fn withdraw(family: Family, nlri: &[Vec<u8>]) -> Result<Vec<u8>, EncodeError> {
    let nlri = nlri.concat();
    if family == Family::Ipv4Unicast {
        let mut body = u16::try_from(nlri.len()).map_err(|_| EncodeError::TooLong)?.to_be_bytes().to_vec();
        body.extend(nlri);
        body.extend([0, 0]);
        return finish(&body);
    }
    let (afi, safi) = family.numbers();
    let mut unreach = afi.to_be_bytes().to_vec();
    unreach.push(safi);
    unreach.extend(nlri);
    let mut attributes = Vec::new();
    push(&mut attributes, 0x80, 15, &unreach);
    let mut body = vec![0, 0];
    body.extend(u16::try_from(attributes.len()).map_err(|_| EncodeError::TooLong)?.to_be_bytes());
    body.extend(attributes);
    finish(&body)
}

/// End-of-RIB of a family (RFC 4724 section 2).
#[must_use]
pub fn end_of_rib(family: Family) -> Vec<u8> {
    if family == Family::Ipv4Unicast {
        return frame(2, &[0, 0, 0, 0]);
    }
    let (afi, safi) = family.numbers();
    let [a, b] = afi.to_be_bytes();
    frame(2, &[0, 0, 0, 6, 0x80, 15, 3, a, b, safi])
}

/// A received UPDATE.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Update {
    /// Routes announced; all share the attributes.
    pub announced: Vec<Route>,
    /// Routes withdrawn, also those of a message whose attributes are in error (RFC 7606 section 2: treat-as-withdraw).
    pub withdrawn: Vec<Route>,
    /// The attributes.
    pub attributes: Attributes,
    /// End-of-RIB of this family.
    pub end_of_rib: Option<Family>,
    /// FlowSpec NLRI that were not understood; their rules are dropped, the session stays.
    pub dropped: usize,
    /// The first reason why one was not.
    pub dropped_reason: Option<NlriError>,
    /// The FlowSpec routes of `announced`, as they stood on the wire.
    pub flow_announced: Vec<FlowNlri>,
    /// The FlowSpec routes of `withdrawn`, as they stood on the wire.
    pub flow_withdrawn: Vec<FlowNlri>,
}

/// Attributes of received routes that matter here.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Attributes {
    /// Filtering actions; empty means accept.
    pub actions: Vec<Action>,
    /// Types of extended communities that ask for an action this program does not know.
    pub unknown_actions: Vec<u16>,
    /// Next hop of unicast routes.
    pub next_hop: Option<IpAddr>,
    /// Standard communities.
    pub communities: Vec<Community>,
    /// Large communities.
    pub large_communities: Vec<LargeCommunity>,
    /// Extended communities that are no action.
    pub extended_communities: Vec<ExtendedCommunity>,
    /// AS numbers of the `AS_PATH`, nearest first, sets flattened.
    pub as_path: Vec<u32>,
    /// Next hop in the `MP_REACH` of FlowSpec routes: only the redirection to it gives it a meaning.
    flowspec_next_hop: Option<IpAddr>,
    has_origin: bool,
    has_as_path: bool,
}

/// How a peer's messages are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receiver {
    /// Both sides speak four-octet AS numbers (RFC 6793).
    pub four_octet_as: bool,
}

/// Decodes an UPDATE's body from a peer with four-octet AS numbers.
///
/// # Errors
/// The NOTIFICATION, where the NLRI cannot be located (RFC 7606 section 3).
pub fn decode(body: &[u8]) -> Result<Update, Notification> {
    decode_from(Receiver { four_octet_as: true }, body)
}

impl Attributes {
    /// With these actions and nothing else.
    #[must_use]
    pub fn of_actions(actions: Vec<Action>) -> Self {
        Self { actions, ..Self::default() }
    }

    /// With what extended communities stand for, and nothing else; `None` if a rate is no number.
    #[must_use]
    pub fn of_extended_communities(octets: &[u8]) -> Option<Self> {
        let mut attributes = Self::default();
        attributes.extended(octets.as_chunks::<8>().0).ok().map(|()| attributes)
    }
}

/// Decodes an UPDATE's body.
///
/// # Errors
/// The NOTIFICATION, where the NLRI cannot be located (RFC 7606 section 3).
pub fn decode_from(receiver: Receiver, body: &[u8]) -> Result<Update, Notification> {
    let malformed = || Notification::new(3, 1);
    let take = |data: &'_ [u8]| -> Option<(usize, usize)> {
        let length = usize::from(u16::from_be_bytes(*data.first_chunk()?));
        (data.len() >= 2 + length).then_some((2, 2 + length))
    };
    let (start, end) = take(body).ok_or_else(malformed)?;
    let (withdrawn, rest) = (&body[start..end], &body[end..]);
    let (start, end) = take(rest).ok_or_else(malformed)?;
    let (mut attributes, unicast) = (&rest[start..end], &rest[end..]);
    let mut update = Update::default();
    let invalid_network = || Notification::new(3, 10);
    let routes = |prefixes: Vec<Prefix>| prefixes.into_iter().map(Route::Unicast);
    update.withdrawn.extend(routes(nlri::decode_unicast(IpVersion::V4, withdrawn).ok_or_else(invalid_network)?));
    update.announced.extend(routes(nlri::decode_unicast(IpVersion::V4, unicast).ok_or_else(invalid_network)?));
    let is_empty = body == [0, 0, 0, 0];
    let mut treat_as_withdraw = false;
    let mut unusable = false;
    let mut seen = std::collections::BTreeSet::new();
    while !attributes.is_empty() {
        let Some((flags, code, value, rest)) = split(attributes) else {
            // RFC 7606 section 4: the rest cannot be read; without MP_REACH its NLRI are those known so far.
            treat_as_withdraw = true;
            break;
        };
        attributes = rest;
        if !seen.insert(code) {
            // RFC 7606 section 3 (g): a second MP attribute resets, any other repetition is ignored.
            if code == 14 || code == 15 {
                return Err(malformed());
            }
            continue;
        }
        match update.attribute(receiver, code, flags, value) {
            Ok(()) => {}
            Err(Fault::Withdraw) => treat_as_withdraw = true,
            Err(Fault::Drop) => unusable = true,
            Err(Fault::Ignore) => {}
            Err(Fault::Reset(subcode)) => return Err(Notification::new(3, subcode)),
        }
    }
    update.attributes.settle_next_hop();
    if is_empty {
        update.end_of_rib = Some(Family::Ipv4Unicast);
    }
    let mandatory = update.attributes.has_origin && update.attributes.has_as_path;
    let unicast_without_next_hop = !unicast.is_empty() && update.attributes.next_hop.is_none();
    if unusable {
        update.dropped += update.announced.len();
    }
    if unusable || treat_as_withdraw || (!update.announced.is_empty() && (!mandatory || unicast_without_next_hop)) {
        update.treat_as_withdraw();
    }
    Ok(update)
}

/// What an error in an attribute costs (RFC 7606 section 2).
enum Fault {
    Withdraw,
    /// An action that no router can carry out: its rules are dropped.
    Drop,
    Ignore,
    /// With this subcode of an UPDATE message error.
    Reset(u8),
}

/// The communities of an attribute, of so many octets each: at least one, and nothing behind the last.
fn some_chunks<const N: usize>(value: &[u8]) -> Result<&[[u8; N]], Fault> {
    let (chunks, rest) = value.as_chunks::<N>();
    if chunks.is_empty() || !rest.is_empty() { Err(Fault::Withdraw) } else { Ok(chunks) }
}

/// Flags, code, value, rest.
fn split(data: &[u8]) -> Option<(u8, u8, &[u8], &[u8])> {
    let (flags, code) = (*data.first()?, *data.get(1)?);
    let (length, at) = if flags & 0x10 != 0 {
        (usize::from(u16::from_be_bytes([*data.get(2)?, *data.get(3)?])), 4)
    } else {
        (usize::from(*data.get(2)?), 3)
    };
    Some((flags, code, data.get(at..at + length)?, &data[at + length..]))
}

impl Attributes {
    fn settle_next_hop(&mut self) {
        for action in &mut self.actions {
            if let Action::RedirectToNextHop { next_hop, .. } = action {
                *next_hop = self.flowspec_next_hop;
            }
        }
    }

    /// RFC 1997.
    fn standard(&mut self, communities: &[[u8; 4]]) {
        let community = |c: &[u8; 4]| Community(u16::from_be_bytes([c[0], c[1]]), u16::from_be_bytes([c[2], c[3]]));
        self.communities = communities.iter().map(community).collect();
    }

    /// RFC 8092.
    fn large(&mut self, communities: &[[u8; 12]]) {
        let word = |c: &[u8; 12], i: usize| u32::from_be_bytes([c[i], c[i + 1], c[i + 2], c[i + 3]]);
        let community = |c: &[u8; 12]| LargeCommunity(word(c, 0), word(c, 4), word(c, 8));
        self.large_communities = communities.iter().map(community).collect();
    }

    /// Redirections to IPv6 addresses (RFC 5701); what else there may be is none of ours.
    fn extended_ipv6(&mut self, value: &[u8]) -> Result<(), Fault> {
        let (communities, rest) = value.as_chunks::<20>();
        if !rest.is_empty() {
            return Err(Fault::Withdraw);
        }
        for community in communities.iter().filter(|c| c[..2] == [0x00, 0x0c]) {
            let octets: [u8; 16] = community[2..18].try_into().map_err(|_| Fault::Ignore)?;
            let address = IpAddr::from(octets);
            let copy = community[19] & 1 != 0;
            self.actions.push(if copy { Action::CopyToIp(address) } else { Action::RedirectToIp(address) });
        }
        Ok(())
    }

    /// Actions, and what is none.
    fn extended(&mut self, communities: &[[u8; 8]]) -> Result<(), Fault> {
        for community in communities {
            match action(community) {
                Some(Ok(action)) => self.actions.push(action),
                Some(Err(())) => return Err(Fault::Drop),
                None if is_action(community[0], community[1]) => {
                    self.unknown_actions.push(u16::from_be_bytes([community[0], community[1]]));
                }
                None => self.extended_communities.push(ExtendedCommunity(*community)),
            }
        }
        Ok(())
    }
}

impl Update {
    /// RFC 7606 section 2: the routes of the message are withdrawn, the session stays.
    pub(crate) fn treat_as_withdraw(&mut self) {
        self.withdrawn.append(&mut self.announced);
        self.flow_withdrawn.append(&mut self.flow_announced);
    }

    fn attribute(&mut self, receiver: Receiver, code: u8, flags: u8, value: &[u8]) -> Result<(), Fault> {
        let optional = flags & 0x80 != 0;
        match code {
            1..=3 | 5 if optional => return Err(Fault::Withdraw),
            8 | 14 | 15 | 16 | 25 | 32 if !optional => return Err(Fault::Withdraw),
            _ => {}
        }
        match code {
            1 => {
                self.attributes.has_origin = true;
                if value.len() == 1 && value[0] <= 2 { Ok(()) } else { Err(Fault::Withdraw) }
            }
            2 => {
                self.attributes.has_as_path = true;
                self.attributes.as_path = as_numbers(value, receiver.four_octet_as).ok_or(Fault::Withdraw)?;
                Ok(())
            }
            3 => {
                let octets: [u8; 4] = value.try_into().map_err(|_| Fault::Withdraw)?;
                self.attributes.next_hop = Some(IpAddr::from(octets));
                Ok(())
            }
            8 => some_chunks(value).map(|communities| self.attributes.standard(communities)),
            14 => self.reach(value),
            15 => self.unreach(value),
            16 => self.attributes.extended(some_chunks(value)?),
            25 => self.attributes.extended_ipv6(value),
            32 => some_chunks(value).map(|communities| self.attributes.large(communities)),
            // An attribute that is unknown and well-known at once (RFC 4271 section 6.3).
            _ if !optional && !matches!(code, 4..=7 | 9 | 10 | 17 | 18) => Err(Fault::Reset(2)),
            _ => Ok(()),
        }
    }

    /// `MP_REACH_NLRI` (RFC 4760 section 3).
    fn reach(&mut self, value: &[u8]) -> Result<(), Fault> {
        let [a, b, safi, length, rest @ ..] = value else { return Err(Fault::Reset(9)) };
        let (next_hop, rest) = rest.split_at_checked(usize::from(*length)).ok_or(Fault::Reset(9))?;
        let (_, nlri) = rest.split_first().ok_or(Fault::Reset(9))?;
        let Some(family) = Family::from_numbers(u16::from_be_bytes([*a, *b]), *safi) else { return Ok(()) };
        // RFC 8955 section 4: the next hop of a FlowSpec route is ignored, whatever its length.
        let address = match next_hop.len() {
            4 => next_hop.try_into().ok().map(|o: [u8; 4]| IpAddr::from(o)),
            16 | 32 => next_hop[..16].try_into().ok().map(|o: [u8; 16]| IpAddr::from(o)),
            _ => None,
        };
        match family {
            Family::Ipv4Unicast | Family::Ipv6Unicast => {
                self.attributes.next_hop = Some(address.ok_or(Fault::Reset(9))?);
            }
            Family::Ipv4FlowSpec | Family::Ipv6FlowSpec => self.attributes.flowspec_next_hop = address,
        }
        let routes = Routes::read(family, nlri).ok_or(Fault::Reset(9))?;
        self.announced.extend(routes.routes);
        self.flow_announced.extend(routes.flow);
        self.dropped += routes.dropped;
        self.dropped_reason = self.dropped_reason.or(routes.reason);
        Ok(())
    }

    /// `MP_UNREACH_NLRI` (RFC 4760 section 4).
    fn unreach(&mut self, value: &[u8]) -> Result<(), Fault> {
        let [a, b, safi, nlri @ ..] = value else { return Err(Fault::Reset(9)) };
        let Some(family) = Family::from_numbers(u16::from_be_bytes([*a, *b]), *safi) else { return Ok(()) };
        if nlri.is_empty() {
            self.end_of_rib = Some(family);
        }
        let routes = Routes::read(family, nlri).ok_or(Fault::Reset(9))?;
        self.withdrawn.extend(routes.routes);
        self.flow_withdrawn.extend(routes.flow);
        self.dropped += routes.dropped;
        self.dropped_reason = self.dropped_reason.or(routes.reason);
        Ok(())
    }
}

/// The routes of an NLRI field.
#[derive(Default)]
struct Routes {
    routes: Vec<Route>,
    flow: Vec<FlowNlri>,
    dropped: usize,
    reason: Option<NlriError>,
}

impl Routes {
    /// `None` if the field cannot be cut into routes.
    fn read(family: Family, data: &[u8]) -> Option<Self> {
        let version = match family {
            Family::Ipv4Unicast | Family::Ipv4FlowSpec => IpVersion::V4,
            Family::Ipv6Unicast | Family::Ipv6FlowSpec => IpVersion::V6,
        };
        let mut read = Self::default();
        match family {
            Family::Ipv4Unicast | Family::Ipv6Unicast => {
                read.routes = nlri::decode_unicast(version, data)?.into_iter().map(Route::Unicast).collect();
            }
            Family::Ipv4FlowSpec | Family::Ipv6FlowSpec => {
                for part in nlri::split_flowspec(data)? {
                    match FlowNlri::decode(version, part) {
                        Ok(flow) => {
                            read.routes.push(Route::FlowSpec(flow.pattern.clone()));
                            read.flow.push(flow);
                        }
                        Err(error) => {
                            read.dropped += 1;
                            read.reason = read.reason.or(Some(error));
                        }
                    }
                }
            }
        }
        Some(read)
    }
}

/// The AS numbers of an `AS_PATH`; `None` if it is malformed (RFC 7606 section 7.2).
fn as_numbers(mut data: &[u8], four_octet_as: bool) -> Option<Vec<u32>> {
    let width = if four_octet_as { 4 } else { 2 };
    let mut found = Vec::new();
    while let [kind, count, rest @ ..] = data {
        let length = usize::from(*count) * width;
        if !(1..=4).contains(kind) || *count == 0 || rest.len() < length {
            return None;
        }
        let number = |octets: &[u8]| octets.iter().fold(0u32, |n, o| n << 8 | u32::from(*o));
        found.extend(rest[..length].chunks(width).map(number));
        data = &rest[length..];
    }
    data.is_empty().then_some(found)
}

/// The action of an extended community, if it is one; an error if nothing can carry it out.
fn action(community: &[u8; 8]) -> Option<Result<Action, ()>> {
    let [kind, subtype, a, b, c, d, e, f] = *community;
    let address = Ipv4Addr::new(a, b, c, d);
    Some(Ok(match (kind, subtype) {
        (0x80, 0x06 | 0x0c) => {
            let rate = f32::from_be_bytes([c, d, e, f]);
            if rate.is_nan() || rate == f32::INFINITY {
                return Some(Err(()));
            }
            // RFC 8955 section 7.1: negative is zero; so is what lets nothing through in practice.
            match (rate < 1.0, subtype) {
                (true, _) => Action::Discard,
                (false, 0x06) => Action::RateLimitBytes(rate),
                (false, _) => Action::RateLimitPackets(rate),
            }
        }
        (0x80, 0x08) => {
            Action::RedirectAs2 { asn: u16::from_be_bytes([a, b]), value: u32::from_be_bytes([c, d, e, f]) }
        }
        (0x81, 0x08) => Action::RedirectIpv4 { address, value: u16::from_be_bytes([e, f]) },
        (0x82, 0x08) => {
            Action::RedirectAs4 { asn: u32::from_be_bytes([a, b, c, d]), value: u16::from_be_bytes([e, f]) }
        }
        // RFC 8955 section 7.3: bit 46 samples, bit 47 goes on; the rest is reserved and ignored.
        (0x80, 0x07) => Action::TrafficAction { sample: f & 2 != 0, go_on: f & 1 != 0 },
        (0x80, 0x09) => Action::Mark(f & 0x3f),
        (0x01, 0x0c) if f & 1 != 0 => Action::CopyToIp(address.into()),
        (0x01, 0x0c) => Action::RedirectToIp(address.into()),
        (0x08, 0x00) => Action::RedirectToNextHop { next_hop: None, copy: f & 1 != 0 },
        _ => return None,
    }))
}

/// Whether an extended community that is no known [`Action`] is an action all the same, so that a filter that leaves it out
/// would do something else than asked: the experimental types of RFC 8955 section 7, redirection to an IP address, and the older
/// draft's 0x0800.
const fn is_action(kind: u8, subtype: u8) -> bool {
    matches!((kind, subtype), (0x80..=0x82, _) | (0x01 | 0x08, 0x0c) | (0x08, 0x00))
}
