//! Names of things: a UUID that is a hash of what is named, and how few of its digits tell it from others.
//!
//! A route's id is the SHA-256 of its own octets, so it is the same on every machine and after every restart, and nothing that is
//! kept on disk holds one. People see the first digits: as many as no other route in force shares, [`DIGITS`] at least.

use bgp::Route;
use policy::state::route_key;

/// Digits of an id that people see at least.
pub const DIGITS: usize = 8;

/// A UUID (version 8, RFC 9562 section 5.8) of a text: the same for the same text.
#[must_use]
pub fn uuid(text: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    let mut octets: [u8; 16] = std::array::from_fn(|i| digest.as_ref()[i]);
    octets[6] = octets[6] & 0x0f | 0x80;
    octets[8] = octets[8] & 0x3f | 0x80;
    let hex: String = octets.iter().map(|b| format!("{b:02x}")).collect();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

/// The name of a route.
#[must_use]
pub fn route_id(route: &Route) -> String {
    uuid(&route_key(route))
}

/// Whether a text is an id or its first digits, with or without hyphens.
#[must_use]
pub fn begins(id: &str, text: &str) -> bool {
    let mut digits = id.bytes().filter(|b| *b != b'-');
    let mut typed = text.bytes().filter(|b| *b != b'-').peekable();
    typed.peek().is_some() && typed.all(|b| digits.next() == Some(b.to_ascii_lowercase()))
}

/// Ids by which things are shown, so that each is told from all others.
#[derive(Debug, Default)]
pub struct Shown<'a>(Vec<&'a str>);

impl<'a> Shown<'a> {
    /// Of everything that is in force, whether it is shown or not.
    pub fn of(ids: impl IntoIterator<Item = &'a str>) -> Self {
        let mut ids: Vec<&str> = ids.into_iter().collect();
        ids.sort_unstable();
        ids.dedup();
        Self(ids)
    }

    /// The first digits of an id that no other begins with, [`DIGITS`] at least.
    #[must_use]
    pub fn short<'i>(&self, id: &'i str) -> &'i str {
        let shared = |other: &&str| id.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
        let at = self.0.partition_point(|other| *other < id);
        let before = self.0[..at].last();
        let behind = self.0[at..].iter().find(|other| **other != id);
        let length = before.into_iter().chain(behind).map(shared).max().map_or(0, |shared| shared + 1);
        id.get(..length.max(DIGITS)).unwrap_or(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(n: u32) -> Route {
        Route::Unicast(traffic::Prefix::host(std::net::Ipv4Addr::from(0xcb00_7100 + n).into()))
    }

    #[test]
    fn a_route_has_one_id_and_neighbours_share_no_digits() {
        let id = route_id(&host(9));
        assert_eq!((id.len(), id.as_bytes()[14], id == route_id(&host(9))), (36, b'8', true), "{id}");
        let mut first: Vec<String> = (0..256).map(|n| route_id(&host(n))[..DIGITS].to_owned()).collect();
        first.sort();
        first.dedup();
        assert_eq!(first.len(), 256, "every host of a /24 by its first digits");
    }

    #[test]
    fn the_first_digits_name_an_id_however_they_are_written() {
        let id = "abcdef01-2345-8678-9abc-def012345678";
        for text in ["a", "abcdef01", "ABCDEF01", "abcdef012345", "abcdef01-2", id, "abcdef012345867-89abcdef012345678"]
        {
            assert!(begins(id, text), "{text}");
        }
        for text in ["", "-", "b", "abcdef02", "abcdef0123467", "abcdef01 2", "abcdef01-2345-8678-9abc-def0123456780"] {
            assert!(!begins(id, text), "{text}");
        }
    }

    #[test]
    fn as_many_digits_are_shown_as_tell_an_id_from_all_others() {
        let ids = ["abcdef01-2345", "abcdef01-2399", "abcdef77-0000", "ff"];
        let shown = Shown::of(ids.into_iter().chain(["abcdef77-0000"]));
        let short: Vec<&str> = ids.iter().map(|id| shown.short(id)).collect();
        assert_eq!(short, ["abcdef01-234", "abcdef01-239", "abcdef77", "ff"]);
        assert_eq!(Shown::default().short(ids[0]), "abcdef01");
    }
}
