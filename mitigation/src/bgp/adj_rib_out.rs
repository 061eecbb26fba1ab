//! [`AdjRibOut`]: what a peer has been sent, and the messages that make it equal to what is wanted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use detector::{Networks, Prefix};

use super::attribute::{self, EncodeError, Sender};
use super::message::MAX_MESSAGE;
use crate::announcement::{Announcement, Route, Wanted};
use crate::config::{Family, Peer};

/// NLRI octets per UPDATE, with room for the attributes; some routers refuse more than 4095 in all.
const NLRI_PER_UPDATE: usize = MAX_MESSAGE - 1024;

/// What may be sent to a peer: decision 1, checked once more on what is about to be encoded, whoever wanted it.
#[derive(Debug, Clone)]
pub struct Rails {
    networks: Networks,
    protected: Networks,
    incoming: bool,
    outgoing: bool,
}

/// Why a wanted route is not sent to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RailError {
    /// Neither its destination nor its source is wholly ours, or this peer does not get that class.
    #[error("neither destination nor source lies in our networks, or announce_incoming/announce_outgoing is off")]
    Class,
    /// It touches a router, a peer or protected space.
    #[error("it touches a protected address")]
    Protected,
}

impl Rails {
    /// For a peer: our networks, protected prefixes, and the classes it gets.
    #[must_use]
    pub fn new(networks: &[Prefix], protected: &[Prefix], peer: &Peer) -> Self {
        let mut protected = protected.to_vec();
        protected.push(Prefix::host(peer.remote_address));
        protected.extend(peer.local_address.map(Prefix::host));
        Self {
            networks: Networks::new(networks),
            protected: Networks::new(&protected),
            incoming: peer.announce_incoming,
            outgoing: peer.announce_outgoing,
        }
    }

    /// Checks a route.
    ///
    /// # Errors
    /// See [`RailError`].
    pub fn check(&self, route: &Route) -> Result<(), RailError> {
        let (destination, source) = match route {
            Route::Unicast(prefix) => (Some(*prefix), None),
            Route::FlowSpec(pattern) => (pattern.destination(), pattern.source()),
        };
        let ours = |p: Option<Prefix>| p.filter(|p| self.networks.contain(p));
        let own_end = ours(destination)
            .filter(|_| self.incoming)
            .or_else(|| ours(source).filter(|_| self.outgoing))
            .ok_or(RailError::Class)?;
        if self.protected.overlap(&own_end) { Err(RailError::Protected) } else { Ok(()) }
    }
}

/// See the module.
#[derive(Debug)]
pub struct AdjRibOut {
    sender: Sender,
    families: BTreeSet<Family>,
    rails: Rails,
    communities: (Vec<crate::Community>, Vec<crate::LargeCommunity>),
    sent: BTreeMap<Route, Announcement>,
    /// Routes that were sent with attributes that no longer hold.
    stale: BTreeSet<Route>,
    /// Wanted routes that are not sent, and why: reported, not retried.
    refused: BTreeMap<Route, String>,
}

impl AdjRibOut {
    /// Empty, for a new session.
    #[must_use]
    pub fn new(sender: Sender, families: BTreeSet<Family>, rails: Rails, peer: &Peer) -> Self {
        let communities = (peer.communities.clone(), peer.large_communities.clone());
        Self {
            sender,
            families,
            rails,
            communities,
            sent: BTreeMap::new(),
            stale: BTreeSet::new(),
            refused: BTreeMap::new(),
        }
    }

    /// From now on under these rails and attributes. What was sent and is still wanted is sent again by the next
    /// [`AdjRibOut::reconcile`] if its attributes changed, withdrawn if the rails forbid it, and otherwise left alone.
    pub fn reconfigure(&mut self, sender: Sender, rails: Rails, peer: &Peer) -> Vec<Vec<u8>> {
        self.rails = rails;
        self.refused.clear();
        let forbidden: Vec<Route> =
            self.sent.keys().filter(|route| self.rails.check(route).is_err()).cloned().collect();
        let messages = self.withdrawals(&forbidden);
        forbidden.iter().for_each(|route| {
            self.sent.remove(route);
        });
        let communities = (peer.communities.clone(), peer.large_communities.clone());
        if communities != self.communities || sender != self.sender {
            (self.communities, self.sender) = (communities, sender);
            self.stale = self.sent.keys().cloned().collect();
        }
        messages
    }

    /// The messages that make the peer's table equal to `wanted`: withdrawals first.
    pub fn reconcile(&mut self, wanted: &Wanted) -> Vec<Vec<u8>> {
        let gone: Vec<Route> = self.sent.keys().filter(|route| !wanted.contains_key(route)).cloned().collect();
        self.refused.retain(|route, _| wanted.contains_key(route));
        let mut messages = self.withdrawals(&gone);
        gone.iter().for_each(|route| {
            self.sent.remove(route);
        });
        let stale = std::mem::take(&mut self.stale);
        let new: Vec<(&Route, &Announcement)> = wanted
            .iter()
            .filter(|(route, announcement)| self.sent.get(route) != Some(announcement) || stale.contains(route))
            .collect();
        messages.extend(self.announcements(&new));
        messages
    }

    /// Everything of a family again (RFC 2918).
    pub fn refresh(&mut self, family: Family) -> Vec<Vec<u8>> {
        let again: BTreeMap<Route, Announcement> = self
            .sent
            .iter()
            .filter(|(r, _)| attribute::family_of(r) == Some(family))
            .map(|(r, a)| (r.clone(), a.clone()))
            .collect();
        let routes: Vec<(&Route, &Announcement)> = again.iter().collect();
        let mut messages = self.announcements(&routes);
        messages.push(attribute::end_of_rib(family));
        messages
    }

    /// End-of-RIB of each negotiated family, and of no other: some routers reset on those.
    #[must_use]
    pub fn end_of_ribs(&self) -> Vec<Vec<u8>> {
        self.families.iter().map(|f| attribute::end_of_rib(*f)).collect()
    }

    fn withdrawals(&self, routes: &[Route]) -> Vec<Vec<u8>> {
        let mut batches: BTreeMap<Family, Vec<Vec<u8>>> = BTreeMap::new();
        for route in routes {
            if let (Some(family), Ok(nlri)) = (attribute::family_of(route), attribute::encode_nlri(route)) {
                batches.entry(family).or_default().push(nlri);
            }
        }
        let messages = batches.iter().flat_map(|(family, nlri)| {
            chunks(nlri).into_iter().filter_map(|chunk| attribute::withdraw(*family, chunk).ok()).collect::<Vec<_>>()
        });
        messages.collect()
    }

    fn announcements(&mut self, routes: &[(&Route, &Announcement)]) -> Vec<Vec<u8>> {
        // Routes with equal attributes share UPDATEs; neighbours in the ordered set mostly do.
        let mut batches: Vec<(Family, Announcement, Vec<Vec<u8>>)> = Vec::new();
        for (route, announcement) in routes {
            match self.prepare(route) {
                Ok(None) => {}
                Ok(Some((family, nlri))) => {
                    match batches.iter_mut().find(|(f, a, _)| *f == family && a == *announcement) {
                        Some((_, _, batch)) => batch.push(nlri),
                        None => batches.push((family, (*announcement).clone(), vec![nlri])),
                    }
                    self.sent.insert((*route).clone(), (*announcement).clone());
                }
                Err(reason) => {
                    self.refused.insert((*route).clone(), reason);
                }
            }
        }
        let mut messages = Vec::new();
        for (family, mut announcement, nlri) in batches {
            announcement.communities.extend(&self.communities.0);
            announcement.large_communities.extend(&self.communities.1);
            for chunk in chunks(&nlri) {
                messages.extend(attribute::announce(family, &self.sender, &announcement, chunk).ok());
            }
        }
        messages
    }

    /// Rails and encoding; `None` if the peer does not speak the family.
    fn prepare(&self, route: &Route) -> Result<Option<(Family, Vec<u8>)>, String> {
        let family = attribute::family_of(route).ok_or("the rule has no prefix to tell its address family")?;
        if !self.families.contains(&family) {
            return Ok(None);
        }
        self.rails.check(route).map_err(|e| e.to_string())?;
        let nlri =
            attribute::encode_nlri(route).map_err(|e: super::nlri::NlriError| EncodeError::from(e).to_string())?;
        Ok(Some((family, nlri)))
    }

    /// The routes the peer has been sent.
    #[must_use]
    pub fn sent(&self) -> Arc<BTreeSet<Route>> {
        Arc::new(self.sent.keys().cloned().collect())
    }

    /// Wanted routes that the rails or the codec refused, with the reason.
    #[must_use]
    pub const fn refused(&self) -> &BTreeMap<Route, String> {
        &self.refused
    }
}

/// Cuts encoded NLRI into what fits an UPDATE.
fn chunks(nlri: &[Vec<u8>]) -> Vec<&[Vec<u8>]> {
    let mut chunks = Vec::new();
    let (mut start, mut size) = (0, 0);
    for (i, one) in nlri.iter().enumerate() {
        if size + one.len() > NLRI_PER_UPDATE {
            chunks.push(&nlri[start..i]);
            (start, size) = (i, 0);
        }
        size += one.len();
    }
    chunks.push(&nlri[start..]);
    chunks
}
