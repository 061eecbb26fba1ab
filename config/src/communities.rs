//! BGP communities as texts: `65001:7`, large ones `65001:1:2`, extended ones `rt:65001:100`.

use std::net::Ipv4Addr;

use bgp::{Community, ExtendedCommunity, LargeCommunity};

use crate::kind::{Kind, Of, list};

pub(crate) fn communities() -> Of<Vec<Community>> {
    list(Kind::Form { example: "65001:7" }, community)
}

pub(crate) fn large_communities() -> Of<Vec<LargeCommunity>> {
    list(Kind::Form { example: "65001:1:2" }, large_community)
}

pub(crate) fn extended_communities() -> Of<Vec<ExtendedCommunity>> {
    list(Kind::Form { example: "rt:65001:100" }, extended_community)
        .saying("write \"rt:65001:100\", \"ro:192.0.2.1:5\" or 16 hexadecimal digits")
}

fn community(text: &str) -> Result<Community, String> {
    let parts = text.split_once(':').and_then(|(a, b)| Some(Community(a.parse().ok()?, b.parse().ok()?)));
    parts.ok_or_else(|| format!("{text:?} is not a community: write for example \"65001:7\""))
}

fn large_community(text: &str) -> Result<LargeCommunity, String> {
    let parts: Vec<u32> = text.split(':').filter_map(|p| p.parse().ok()).collect();
    match parts[..] {
        [a, b, c] if text.matches(':').count() == 2 => Ok(LargeCommunity(a, b, c)),
        _ => Err(format!("{text:?} is not a large community: write for example \"65001:1:2\"")),
    }
}

fn extended_community(text: &str) -> Result<ExtendedCommunity, String> {
    let wrong = || {
        format!(
            "{text:?} is not an extended community: write \"rt:65001:100\", \"ro:192.0.2.1:5\" or 16 hexadecimal digits"
        )
    };
    if text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return u64::from_str_radix(text, 16).map(|n| ExtendedCommunity(n.to_be_bytes())).map_err(|_| wrong());
    }
    let parts: Vec<&str> = text.split(':').collect();
    let [kind, administrator, value] = parts[..] else { return Err(wrong()) };
    let subtype = match kind {
        "rt" => 2,
        "ro" | "soo" => 3,
        _ => return Err(wrong()),
    };
    // RFC 4360 section 3.1 and 3.2, RFC 5668.
    if let Ok(asn) = administrator.parse::<u16>() {
        let ([a, b], [c, d, e, f]) = (asn.to_be_bytes(), value.parse::<u32>().map_err(|_| wrong())?.to_be_bytes());
        return Ok(ExtendedCommunity([0, subtype, a, b, c, d, e, f]));
    }
    let [e, f] = value.parse::<u16>().map_err(|_| wrong())?.to_be_bytes();
    let (kind, [a, b, c, d]) = match (administrator.parse::<Ipv4Addr>(), administrator.parse::<u32>()) {
        (Ok(address), _) => (1, address.octets()),
        (_, Ok(asn)) => (2, asn.to_be_bytes()),
        _ => return Err(wrong()),
    };
    Ok(ExtendedCommunity([kind, subtype, a, b, c, d, e, f]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extended_communities_are_read_in_all_three_forms() {
        let hex =
            |text: &str| extended_community(text).map(|c| c.0.iter().map(|o| format!("{o:02x}")).collect::<String>());
        assert_eq!(hex("rt:65001:100").as_deref(), Ok("0002fde900000064"));
        assert_eq!(hex("ro:192.0.2.1:5").as_deref(), Ok("0103c00002010005"));
        assert_eq!(hex("rt:4200000001:7").as_deref(), Ok("0202fa56ea010007"));
        assert_eq!(hex("0002fde900000064").as_deref(), Ok("0002fde900000064"));
        for wrong in ["", "rt:1", "xx:1:2", "rt:65001:9999999999", "rt:4200000001:70000", "rt:host:1"] {
            assert!(extended_community(wrong).is_err(), "{wrong}");
        }
    }
}
