//! `ban2bgp.ini`: `[main]` and one section per peer.

use std::collections::BTreeMap;

use super::{Builder, Fate, Imported, Option};
use crate::schema::{Section, keys};

/// Imports an INI file.
///
/// # Errors
/// A line that is neither a section nor `key = value`.
pub fn import(name: &str, text: &str) -> Result<Imported, String> {
    let sections = sections(name, text)?;
    let empty = Vec::new();
    let main = sections.get("main").unwrap_or(&empty);
    let find = |key: &str| main.iter().find(|o| o.key == key);
    let mut builder = Builder::default();
    let listed: Vec<String> = find("peers").map(|o| words(&o.value())).unwrap_or_default();
    for (peer, options) in sections.iter().filter(|(name, _)| *name != "main") {
        import_peer(&mut builder, peer, options, main, &listed);
    }
    for option in main {
        let all_words = words(&option.value());
        match option.key.as_str() {
            "duration" => {
                builder.map(option, Section::Main, &["ban2bgp_duration"], &all_words, Fate::Mapped, "seconds, as there")
            }
            "skiplist" => {
                let note = "protected here also from wider prefixes";
                builder.map(option, Section::Main, &["protected_networks"], &all_words, Fate::Changed, note);
            }
            "routerid" => builder.report(option, Fate::Mapped, "router_id of every peer"),
            "nexthop" => builder.report(option, Fate::Mapped, "next_hop_ipv4 of every peer"),
            "nexthop6" => builder.report(option, Fate::Mapped, "next_hop_ipv6 of every peer"),
            "communities" => builder.report(option, Fate::Mapped, "communities of every peer"),
            "peers" => {
                let missing: Vec<&String> = listed.iter().filter(|p| !sections.contains_key(*p)).collect();
                if missing.is_empty() {
                    builder.report(option, Fate::Mapped, "one [bgp.NAME] each");
                } else {
                    builder.report(
                        option,
                        Fate::Changed,
                        format!("no section {missing:?}: ban2bgp skips those silently"),
                    );
                }
            }
            "listen" => builder.report(option, Fate::NoEqual, "Floodwall connects to routers: have them wait for it"),
            "httplisten" => {
                let note = "adding and removing take a token: floodwall set token NAME scopes operate";
                let listen = option.value().replace("0.0.0.0:", "127.0.0.1:");
                builder.map(option, Section::Main, &["ban2bgp_listen"], &[listen], Fate::Changed, note);
            }
            "http_files_root" => builder.report(option, Fate::NoEqual, "no files are served"),
            _ => builder.report(option, Fate::NoEqual, "this is not an option of ban2bgp that is known here"),
        }
    }
    set_mode(&mut builder, &sections);
    let networks = Option { source: name.to_owned(), key: "(networks)".to_owned(), values: Vec::new() };
    let note = "set main networks_list: ban2bgp announces any address, Floodwall only your own";
    builder.report(&networks, Fate::Changed, note);
    Ok(builder
        .finish("# Imported from ban2bgp. List your own prefixes in networks_list before anything can be announced."))
}

/// What a ban becomes: what the peers' modes have in common.
fn set_mode(builder: &mut Builder, sections: &BTreeMap<String, Vec<Option>>) {
    let modes: Vec<bool> = sections
        .values()
        .flatten()
        .filter(|o| o.key == "mode")
        .map(|o| matches!(o.value().as_str(), "flowsource" | "flowspec"))
        .collect();
    let mode = match (modes.contains(&true), modes.contains(&false)) {
        (true, false) => "flowspec",
        (false, true) => "blackhole",
        _ => "both",
    };
    let _ = builder.set(Section::Main, &["ban2bgp_mode"], &[mode.to_owned()]);
}

fn import_peer(builder: &mut Builder, name: &str, options: &[Option], main: &[Option], listed: &[String]) {
    let find = |list: &[Option], key: &str| list.iter().find(|o| o.key == key).map(Option::value);
    let peer = name.replace(|c: char| !c.is_ascii_alphanumeric() && c != '-', "_");
    for option in options {
        let values = words(&option.value());
        match option.key.as_str() {
            "peer" => builder.map(option, Section::Bgp, &[&peer, "remote_address"], &values, Fate::Mapped, ""),
            "as" => builder.map(option, Section::Bgp, &[&peer, "remote_asn"], &values, Fate::Mapped, ""),
            "localas" => builder.map(option, Section::Bgp, &[&peer, "local_asn"], &values, Fate::Mapped, ""),
            "mode" => {
                let is_flowspec = matches!(option.value().as_str(), "flowsource" | "flowspec");
                for (key, on) in [
                    ("ipv4_unicast", !is_flowspec),
                    ("ipv6_unicast", !is_flowspec),
                    ("ipv4_flowspec", is_flowspec),
                    ("ipv6_flowspec", is_flowspec),
                ] {
                    let _ = builder.set(Section::Bgp, &[&peer, key], &[on.to_string()]);
                }
                let note = "the families of the session; rules carry their action here";
                builder.report(option, Fate::Changed, note);
            }
            _ => builder.report(option, Fate::NoEqual, "this is not an option of ban2bgp that is known here"),
        }
    }
    let defaults = [
        ("local_asn", find(options, "as")),
        ("router_id", find(main, "routerid").or(Some("1.1.1.1".to_owned()))),
        ("next_hop_ipv4", find(main, "nexthop")),
        ("next_hop_ipv6", find(main, "nexthop6")),
        ("communities", find(main, "communities")),
    ];
    for (key, value) in defaults {
        if let Some(value) = value.filter(|_| !builder.has(Section::Bgp, &[&peer, key])) {
            builder.take_over(Section::Bgp, &[&peer, key], &words(&value));
        }
    }
    if keys().iter().any(|k| k.section == Section::Bgp && k.name == "announce_remote_bans") {
        let _ = builder.set(Section::Bgp, &[&peer, "announce_remote_bans"], &["true".to_owned()]);
    }
    if !listed.is_empty() && !listed.iter().any(|l| l == name) {
        let _ = builder.set(Section::Bgp, &[&peer, "active"], &["false".to_owned()]);
        let option = Option { source: "(the result)".to_owned(), key: name.to_owned(), values: Vec::new() };
        builder.report(&option, Fate::Changed, format!("not named in peers: bgp.{peer}.active is off"));
    }
}

/// Values are separated by blanks or commas.
fn words(text: &str) -> Vec<String> {
    text.split([' ', ',', '\t']).filter(|w| !w.is_empty()).map(str::to_owned).collect()
}

fn sections(name: &str, text: &str) -> Result<BTreeMap<String, Vec<Option>>, String> {
    let mut all: BTreeMap<String, Vec<Option>> = BTreeMap::new();
    let mut current = "main".to_owned();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(section) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            current = section.trim().to_owned();
            all.entry(current.clone()).or_default();
            continue;
        }
        let (key, value) = line
            .split_once('=')
            .ok_or_else(|| format!("{name}:{}: neither [SECTION] nor KEY = VALUE: {line}", number + 1))?;
        let source = format!("{name}:{}", number + 1);
        let option = Option { source, key: key.trim().to_owned(), values: vec![value.trim().to_owned()] };
        all.entry(current.clone()).or_default().push(option);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ini_becomes_peers_and_every_key_is_reported() {
        let ini = "[main]\nrouterid = 10.0.0.1\nhttplisten = 0.0.0.0:8080\nnexthop = 192.0.2.1\ncommunities = 65535:666 65001:7\n\
                   duration = 600\nskiplist = 192.0.2.0/24, 2001:db8::/32\npeers = r1 r2\n\n\
                   [r1]\npeer = 10.0.0.2\nas = 65001\nmode = blackhole\n[r3]\npeer = 10.0.0.3\nas = 65002\nlocalas = 65001\nmode = flowsource\n";
        let imported = import("ban2bgp.ini", ini).expect("an INI file");
        let config = crate::check(&imported.text).unwrap_or_else(|p| panic!("{p:?}\n{}", imported.text));
        let api = config.api.ban2bgp.expect("ban2bgp's API is on");
        assert_eq!((api.listen.to_string().as_str(), api.duration_seconds), ("127.0.0.1:8080", 600));
        assert_eq!(api.form, crate::api::BanForm::Both, "one peer of each mode");
        assert_eq!(config.mitigation.protected.len(), 2);
        assert_eq!(config.mitigation.peers.len(), 1, "r3 is not named in peers");
        assert_eq!(config.mitigation.peers[0].communities.len(), 2);
        for key in
            ["routerid", "httplisten", "nexthop", "communities", "duration", "skiplist", "peers", "peer", "as", "mode"]
        {
            assert!(imported.report.iter().any(|l| l.key == key), "{key} is reported");
        }
        let peers = imported.report.iter().find(|l| l.key == "peers").expect("reported");
        assert!(peers.note.contains("r2"), "{peers:?}");
        assert!(import("x.ini", "frob").is_err());
    }
}
