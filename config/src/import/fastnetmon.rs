//! FastNetMon's configurations: `fastnetmon.conf` of the Community edition, and dumps of `fcli show main|hostgroup|bgp` of the
//! Advanced edition, as text or JSON.

use std::collections::BTreeMap;

use detector::Unit;
use traffic::Direction;

use super::{Builder, Fate, Imported, Option, advice};
use crate::hostgroup::{measures, switch_key};
use crate::schema::{Holds, Section, keys};

/// Where a program's files are, as texts.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// `fastnetmon.conf`: name and text.
    pub conf: std::option::Option<(String, String)>,
    /// `networks_list`.
    pub networks: std::option::Option<(String, String)>,
    /// `networks_whitelist`.
    pub whitelist: std::option::Option<(String, String)>,
    /// Dumps of `fcli show ...`: category (`main`, `hostgroup`, `bgp`), name and text.
    pub dumps: Vec<(String, String, String)>,
}

/// Imports everything at once.
///
/// # Errors
/// A text that is neither of the expected forms.
pub fn import(sources: &Sources) -> Result<Imported, String> {
    let mut main = Vec::new();
    let mut groups: BTreeMap<String, Vec<Option>> = BTreeMap::new();
    let mut peers: BTreeMap<String, Vec<Option>> = BTreeMap::new();
    let mut builder = Builder::default();
    for (file, list) in [(&sources.networks, "networks_list"), (&sources.whitelist, "networks_whitelist")] {
        if let Some((name, text)) = file {
            import_list(&mut builder, name, text, list);
        }
    }
    let is_community = sources.conf.is_some();
    if let Some((name, text)) = &sources.conf {
        split_conf(name, text, &mut main, &mut groups, &mut builder);
    }
    for (category, name, text) in &sources.dumps {
        match category.as_str() {
            "main" => main.extend(dump(name, text)?.into_values().flatten()),
            "hostgroup" => groups.extend(dump(name, text)?),
            "bgp" => peers.extend(dump(name, text)?),
            _ => return Err(format!("{category} is not a category that is imported: main, hostgroup or bgp")),
        }
    }
    for (name, options) in &peers {
        import_peer(&mut builder, name, options, &main);
    }
    import_main(&mut builder, &main, is_community, !peers.is_empty());
    if is_community {
        // Its thresholds stand in the main part.
        let of_global: Vec<Option> = main.iter().filter(|o| is_threshold(&o.key)).cloned().collect();
        groups.entry("global".to_owned()).or_default().extend(of_global);
    }
    groups.entry("global".to_owned()).or_default();
    for (name, options) in &groups {
        import_group(&mut builder, name, options, is_community);
    }
    Ok(builder.finish(
        "# Imported from FastNetMon. Every host group is alert-only (enable_ban = false): watch what it would announce, then\n\
         # remove those lines.",
    ))
}

/// `networks_list` and `networks_whitelist`: one prefix a line.
fn import_list(builder: &mut Builder, name: &str, text: &str, list: &str) {
    for (number, line) in text.lines().enumerate() {
        let prefix = line.split('#').next().unwrap_or("").trim();
        if prefix.is_empty() {
            continue;
        }
        let option =
            Option { source: format!("{name}:{}", number + 1), key: list.to_owned(), values: vec![prefix.to_owned()] };
        let values = vec![whole(prefix)];
        let note = if values[0] == prefix { "" } else { "bits behind the length are cleared" };
        builder.map(&option, Section::Main, &[list], &values, Fate::Mapped, note);
    }
}

/// A prefix without bits behind its length; other texts as they are.
fn whole(prefix: &str) -> String {
    prefix.parse::<traffic::Prefix>().map_or_else(|_| prefix.to_owned(), |p| p.to_string())
}

/// `key = value` lines; host groups and their options are told apart by name.
fn split_conf(
    name: &str,
    text: &str,
    main: &mut Vec<Option>,
    groups: &mut BTreeMap<String, Vec<Option>>,
    builder: &mut Builder,
) {
    let mut options = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let source = format!("{name}:{}", number + 1);
        match line.split_once('=') {
            Some((key, value)) => {
                let values = value.trim().split(',').map(|v| v.trim().to_owned()).filter(|v| !v.is_empty()).collect();
                options.push(Option { source, key: key.trim().to_owned(), values });
            }
            None => {
                let option = Option { source, key: line.to_owned(), values: Vec::new() };
                builder.report(&option, Fate::NoEqual, "this line is not KEY = VALUE");
            }
        }
    }
    // `hostgroup = NAME:PREFIX,PREFIX` may stand behind the options of its group.
    for option in options.iter().filter(|o| o.key == "hostgroup") {
        let value = option.value();
        let (group, networks) = value.split_once(':').unwrap_or((&value, ""));
        let networks = Option {
            source: option.source.clone(),
            key: "networks".to_owned(),
            values: networks.split(',').map(|p| p.trim().to_owned()).filter(|p| !p.is_empty()).collect(),
        };
        groups.entry(group.trim().to_owned()).or_default().push(networks);
    }
    for option in options.into_iter().filter(|o| o.key != "hostgroup") {
        let group = groups.keys().find(|g| {
            let rest = option.key.strip_prefix(g.as_str()).and_then(|r| r.strip_prefix('_'));
            rest.is_some_and(|rest| rest == "enable_ban" || is_threshold(rest))
        });
        match group.cloned() {
            Some(group) => {
                let key = option.key[group.len() + 1..].to_owned();
                groups.entry(group).or_default().push(Option { key, ..option });
            }
            None => main.push(option),
        }
    }
}

fn is_threshold(key: &str) -> bool {
    key.starts_with("threshold_") && key != "threshold_specific_ban_details" || key.starts_with("ban_for_")
}

/// A dump of `fcli show`: options by the name of the host group or peer, empty for main.
fn dump(name: &str, text: &str) -> Result<BTreeMap<String, Vec<Option>>, String> {
    let trimmed = text.trim_start();
    if trimmed.starts_with('{') || trimmed.starts_with('[') {
        let json: serde_json::Value = serde_json::from_str(text).map_err(|e| format!("{name} is not JSON: {e}"))?;
        return dump_json(name, &json);
    }
    let mut all: BTreeMap<String, Vec<Option>> = BTreeMap::new();
    let mut current = String::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim().trim_end_matches(',');
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (key, value) = line
            .split_once(['=', ':'])
            .filter(|(key, _)| !key.trim().contains(char::is_whitespace))
            .or_else(|| line.split_once(char::is_whitespace))
            .unwrap_or((line, ""));
        let (key, value) = (key.trim().trim_matches('"'), value.trim());
        let list = value.trim_matches(['[', ']']);
        let values: Vec<String> = list
            .split([',', ' '])
            .map(|v| v.trim().trim_matches(['"', '\'']).to_owned())
            .filter(|v| !v.is_empty())
            .collect();
        // `hostgroup web` or `name web` begins a group or peer.
        if matches!(key, "name" | "hostgroup" | "bgp") {
            current = values.first().cloned().unwrap_or_default();
            all.entry(current.clone()).or_default();
            continue;
        }
        let option = Option { source: format!("{name}:{}", number + 1), key: key.to_owned(), values };
        let options = all.entry(current.clone()).or_default();
        // A list may stand as one line per value.
        match options.iter_mut().find(|o| o.key == option.key) {
            Some(earlier) => earlier.values.extend(option.values),
            None => options.push(option),
        }
    }
    Ok(all)
}

fn dump_json(name: &str, json: &serde_json::Value) -> Result<BTreeMap<String, Vec<Option>>, String> {
    use serde_json::Value;
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let options = |object: &serde_json::Map<String, Value>| -> Vec<Option> {
        object
            .iter()
            .filter(|(key, _)| *key != "name" && !key.starts_with('_'))
            .map(|(key, value)| Option {
                source: name.to_owned(),
                key: key.clone(),
                values: value
                    .as_array()
                    .map_or_else(|| vec![value], |list| list.iter().collect())
                    .into_iter()
                    .filter(|v| !v.is_null())
                    .map(plain)
                    .filter(|v| !v.is_empty())
                    .collect(),
            })
            .collect()
    };
    let named = |object: &serde_json::Map<String, Value>| object.get("name").map(plain).unwrap_or_default();
    match json {
        Value::Array(list) => Ok(list.iter().filter_map(Value::as_object).map(|o| (named(o), options(o))).collect()),
        // A map by name, or one object.
        Value::Object(map) if !map.is_empty() && map.values().all(Value::is_object) => {
            Ok(map.iter().filter_map(|(name, o)| Some((name.clone(), options(o.as_object()?)))).collect())
        }
        Value::Object(map) => Ok(BTreeMap::from([(named(map), options(map))])),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Err(format!("{name} holds no options")),
    }
}

fn import_main(builder: &mut Builder, options: &[Option], is_community: bool, has_peers: bool) {
    let all = keys();
    for option in options {
        if is_community && is_threshold(&option.key) {
            continue;
        }
        if is_community && option.values.first().is_some_and(|v| matches!(v.as_str(), "yes" | "true" | "enable")) {
            builder.report(option, Fate::NotNeeded, "FastNetMon takes only \"on\" for on: this was off");
            continue;
        }
        if import_alias(builder, option) {
            continue;
        }
        match option.key.as_str() {
            "enable_ban" if option.is_on() && has_peers && builder.has(Section::Main, &["networks_list"]) => {
                let note = "host groups are alert-only all the same, until you remove their enable_ban = false";
                builder.map(option, Section::Main, &["enable_ban"], &option.values, Fate::Changed, note);
            }
            "enable_ban" if option.is_on() => {
                let note = "left off: there is no BGP peer to announce to yet; add one, then set it";
                builder.report(option, Fate::Changed, note);
            }
            "ban_time" if option.value() == "0" => {
                let values = ["31536000".to_owned()];
                builder.map(option, Section::Main, &["ban_time"], &values, Fate::Changed, "never is a year here");
            }
            "ban_details_records_count" if option.value() == "0" => {
                builder.report(option, Fate::NoEqual, "nothing is announced without a sample");
            }
            "average_calculation_time" => import_average(builder, option),
            "notify_script_path" if is_community => {
                // There the script runs if it is there; here it is switched on.
                let _ = builder.set(Section::Main, &["notify_script_enabled"], &["true".to_owned()]);
                let note = "switched on by notify_script_enabled; called as before";
                builder.map(option, Section::Main, &["notify_script_path"], &option.values, Fate::Mapped, note);
            }
            "networks_list" | "networks_whitelist" | "networks_whitelist_remote" => {
                let values: Vec<String> = option.values.iter().map(|v| whole(v)).collect();
                let key = option.key.clone();
                builder.map(option, Section::Main, &[&key], &values, Fate::Mapped, "");
            }
            "logging_level" if !matches!(option.value().as_str(), "debug" | "info" | "warn" | "error") => {
                builder.report(option, Fate::NoEqual, "the level is error, warn, info or debug");
            }
            key if all.iter().any(|k| k.section == Section::Main && k.name == key) && !option.values.is_empty() => {
                builder.map(option, Section::Main, &[key], &option.values, Fate::Mapped, "");
            }
            key => rest(builder, option, key),
        }
    }
}

/// What is neither ours nor renamed.
fn rest(builder: &mut Builder, option: &Option, key: &str) {
    let at_rest =
        option.values.iter().all(|v| matches!(v.as_str(), "off" | "false" | "disable" | "0" | "" | "0.0.0.0"));
    match advice(key) {
        Some(advice) if at_rest => builder.report(option, Fate::NotNeeded, advice),
        Some(advice) => builder.report(option, Fate::NoEqual, advice),
        None => {
            let of_group =
                key.rsplit_once("_enable_ban").is_some() || key.contains("_threshold_") || key.contains("_ban_for_");
            let note = if of_group {
                "no hostgroup line names this group, so it has no effect there either"
            } else {
                "this is not an option of FastNetMon that is known here"
            };
            builder.report(option, Fate::NoEqual, note);
        }
    }
}

/// An option that is a key of `[main]` under another name; `false` if it is none, or one that is off.
fn import_alias(builder: &mut Builder, option: &Option) -> bool {
    let of_main = keys().iter().filter(|key| key.section == Section::Main);
    let mut aliases = of_main.flat_map(|key| key.aliases.iter().map(move |alias| (key, alias)));
    let Some((key, alias)) = aliases.find(|(_, alias)| alias.name == option.key) else { return false };
    let on = ["true".to_owned()];
    let values = match alias.holds {
        Holds::Unless(default) if option.value() == default => {
            builder.report(option, Fate::NotNeeded, format!("{default} is the default"));
            return true;
        }
        Holds::On if option.is_on() => &on[..],
        Holds::On | Holds::ForPeers => return false,
        Holds::Value | Holds::Unless(_) => &option.values,
    };
    builder.map(option, Section::Main, &[&key.name], values, Fate::Changed, alias.note);
    true
}

/// Milliseconds of `burst_tolerance_ms` for a second of FastNetMon's average. An exponential average of time constant T passes the
/// threshold T·ln(f / (f - 1)) after the beginning of an attack of f times the threshold; a volume of threshold times v is passed
/// after v / (f - 1). With a twenty-fifth of T that is no later from f = 1.01 on.
const TOLERANCE_PER_SECOND_MS: u64 = 40;
/// The most that is imported: the default.
const LONGEST_TOLERANCE_MS: u64 = 300;

/// FastNetMon alarms when a moving average passes the threshold; the import detects no later (decisions 6 and 44).
fn import_average(builder: &mut Builder, option: &Option) {
    let seconds = option.value().parse::<u64>().unwrap_or(0);
    if seconds == 0 {
        return builder.report(option, Fate::NoEqual, "not a number of seconds: burst_tolerance_ms keeps its default");
    }
    let values = [seconds.saturating_mul(TOLERANCE_PER_SECOND_MS).min(LONGEST_TOLERANCE_MS).to_string()];
    let note = "a burst above the threshold that is let pass; attacks alarm no later than with FastNetMon's average";
    builder.map(option, Section::Main, &["burst_tolerance_ms"], &values, Fate::Changed, note);
}

fn import_group(builder: &mut Builder, name: &str, options: &[Option], both_directions: bool) {
    let off = ["false".to_owned()];
    for option in options {
        let path = option.key.as_str();
        match path {
            "networks" if name == "global" => {
                builder.report(option, Fate::NotNeeded, "global holds every host that no other group does");
            }
            "networks" => {
                let values: Vec<String> = option.values.iter().map(|v| whole(v)).collect();
                builder.map(option, Section::HostGroup, &[name, "networks"], &values, Fate::Mapped, "");
            }
            "enable_ban" => {
                let note =
                    "alert-only after an import: remove enable_ban = false when you have seen what it would announce";
                builder.map(option, Section::HostGroup, &[name, "enable_ban"], &off, Fate::Changed, note);
            }
            "calculation_method" if option.value() == "total" => {
                let note = "its thresholds are for the sum of its networks";
                builder.map(option, Section::HostGroup, &[name, path], &option.values, Fate::Mapped, note);
            }
            "calculation_method" => {
                builder.report(option, Fate::NotNeeded, "thresholds are per host unless it is total")
            }
            "description" if !option.values.is_empty() => {
                let text = [option.values.join(" ")];
                builder.map(option, Section::HostGroup, &[name, "description"], &text, Fate::Mapped, "");
            }
            "enable_bgp_flow_spec" | "enable_ban_incoming" | "enable_ban_outgoing" => {
                builder.map(option, Section::HostGroup, &[name, path], &option.values, Fate::Mapped, "");
            }
            _ if is_threshold(path) => import_threshold(builder, name, options, option, both_directions),
            _ => rest(builder, option, path),
        }
    }
    if !builder.has(Section::HostGroup, &[name, "enable_ban"]) {
        let _ = builder.set(Section::HostGroup, &[name, "enable_ban"], &off);
    }
    if options.is_empty() {
        return;
    }
    // Groups inherit from global and global from the defaults; there, a group has only what it names itself.
    let defaults = crate::schema::Draft::new().groups.remove("global").unwrap_or_default().switches;
    for (direction, measure) in measures() {
        let switch = switch_key(direction, measure);
        let plain = switch.trim_end_matches("_outgoing");
        let named = options.iter().any(|o| o.key == switch || both_directions && o.key == plain);
        let inherited = defaults.get(&(direction, measure)).is_some_and(|on| *on)
            || name != "global" && builder.has(Section::HostGroup, &["global", &switch]);
        if !named && inherited {
            let _ = builder.set(Section::HostGroup, &[name, &switch], &off);
        }
    }
    // It blackholes at its thresholds: the least of each unit is the level at which a blackhole needs no approval (decision 33).
    for (unit, level) in [(Unit::Packets, "blackhole_pps"), (Unit::Bytes, "blackhole_mbps")] {
        let of_unit = measures().into_iter().filter(|(d, m)| *d == Direction::Incoming && m.unit == unit);
        let least = of_unit.filter_map(|(d, m)| threshold_in_force(options, &switch_key(d, m), &m.key(d))).min();
        if let Some(least) = least {
            let _ = builder.set(Section::HostGroup, &[name, level], &[least.to_string()]);
        }
    }
}

/// The value of a threshold whose switch is on.
fn threshold_in_force(options: &[Option], switch: &str, key: &str) -> std::option::Option<u64> {
    let find = |name: &str| options.iter().find(|o| o.key == name);
    find(switch).filter(|o| o.is_on())?;
    find(key)?.value().parse().ok().filter(|value| *value > 0)
}

/// A threshold and its switch belong together: a threshold whose switch is off is left out.
fn import_threshold(builder: &mut Builder, group: &str, options: &[Option], option: &Option, both: bool) {
    let found = measures().into_iter().find_map(|(direction, measure)| {
        let (key, switch) = (measure.key(direction), switch_key(direction, measure));
        (key == option.key || switch == option.key).then_some((key, switch))
    });
    let Some((key, switch)) = found else {
        return builder.report(option, Fate::NoEqual, "there is no such threshold");
    };
    let find = |name: &str| options.iter().find(|o| o.key == name);
    let is_on = find(&switch).is_some_and(Option::is_on);
    let path = |name: &str| format!("hostgroup.{group}.{name}");
    if option.key == switch {
        let values = [is_on.to_string()];
        let _ = builder.set(Section::HostGroup, &[group, &switch], &values);
        let mut note = path(&switch);
        let outgoing = format!("{switch}_outgoing");
        if both && !switch.ends_with("_outgoing") {
            let _ = builder.set(Section::HostGroup, &[group, &outgoing], &values);
            note = format!("{note}, and {outgoing}: there one threshold holds for both directions");
        }
        return builder.report(option, Fate::Mapped, note);
    }
    if !is_on || option.value() == "0" {
        return builder.report(option, Fate::NotNeeded, format!("{switch} is off, so it is not checked"));
    }
    let is_both = both && !key.ends_with("_outgoing");
    let note = if is_both { "and the same outgoing; it fires above the value, as there" } else { "" };
    builder.map(option, Section::HostGroup, &[group, &key], &option.values, Fate::Mapped, note);
    if is_both {
        let _ = builder.set(Section::HostGroup, &[group, &format!("{key}_outgoing")], &option.values);
    }
}

fn import_peer(builder: &mut Builder, name: &str, options: &[Option], main: &[Option]) {
    let all = keys();
    let _ = builder.set(Section::Bgp, &[name], &[]);
    let find = |list: &[Option], key: &str| list.iter().find(|o| o.key == key).map(Option::value).unwrap_or_default();
    for option in options {
        let key = option.key.as_str();
        let known = all.iter().any(|k| k.section == Section::Bgp && k.name == key);
        match key {
            _ if option.values.is_empty() => builder.report(option, Fate::NotNeeded, "it is empty"),
            "md5_auth" => builder.report(option, Fate::NotNeeded, "md5_auth_password switches it on"),
            "md5_auth_password" if find(options, "md5_auth") == "false" || find(options, "md5_auth") == "disable" => {
                builder.report(option, Fate::NotNeeded, "md5_auth is off");
            }
            "description" => {
                let text = [option.values.join(" ")];
                builder.map(option, Section::Bgp, &[name, key], &text, Fate::Mapped, "");
            }
            _ if known => builder.map(option, Section::Bgp, &[name, key], &option.values, Fate::Mapped, ""),
            _ => rest(builder, option, key),
        }
    }
    // What stands in the main part there belongs to each peer here.
    let of_peers = keys().iter().filter(|key| key.section == Section::Bgp);
    for (key, alias) in of_peers.flat_map(|key| key.aliases.iter().map(move |alias| (key, alias))) {
        let values = main.iter().find(|o| o.key == alias.name).map(|o| o.values.clone()).unwrap_or_default();
        let is_unset = values.iter().all(|v| matches!(v.as_str(), "" | "0.0.0.0" | "::0" | "::"));
        if !is_unset && !builder.has(Section::Bgp, &[name, &key.name]) {
            builder.take_over(Section::Bgp, &[name, &key.name], &values);
        }
    }
    if !builder.has(Section::Bgp, &[name, "router_id"]) && find(options, "local_address").contains(':') {
        let option = Option { source: "(missing)".to_owned(), key: "router_id".to_owned(), values: Vec::new() };
        builder.report(&option, Fate::NoEqual, format!("set bgp {name} router_id to an IPv4 address of yours"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conf(text: &str) -> Imported {
        let conf = Some(("fastnetmon.conf".to_owned(), text.to_owned()));
        let networks = Some(("networks_list".to_owned(), "203.0.113.0/24\n# ours\n198.51.100.7/24\n".to_owned()));
        import(&Sources { conf, networks, ..Sources::default() }).expect("a configuration")
    }

    fn fate<'a>(imported: &'a Imported, key: &str) -> (&'a Fate, &'a str) {
        let line = imported.report.iter().find(|l| l.key == key).unwrap_or_else(|| panic!("{key} is reported"));
        (&line.fate, &line.note)
    }

    #[test]
    fn a_community_configuration_is_valid_alert_only_and_keeps_its_thresholds() {
        let imported = conf(
            "enable_ban = on\nban_time = 0\naverage_calculation_time = 5\nban_for_pps = on\nthreshold_pps = 20000\n\
             ban_for_udp_pps = off\nthreshold_udp_pps = 100000\nnetflow = on\nnetflow_port = 2055,2056\nsflow = yes\n\
             hostgroup = web:203.0.113.0/28\nweb_ban_for_pps = on\nweb_threshold_pps = 900\nweb_enable_ban = on\n\
             my_threshold_pps = 5\ngraphite = on\nlocal_option = 3\n",
        );
        let config = crate::check(&imported.text).unwrap_or_else(|p| panic!("{p:?}\n{}", imported.text));
        assert!(config.mitigation.groups.values().all(|g| !g.enable_ban) && !config.mitigation.enable_ban);
        assert_eq!(config.detector.burst_tolerance.as_millis(), 200);
        assert_eq!(config.collectors.listeners.len(), 2);
        assert_eq!(config.detector.networks.len(), 2);
        let web = config.detector.groups.iter().find(|g| g.name == "web").expect("the group");
        assert_eq!(
            web.thresholds.values().copied().collect::<Vec<_>>(),
            [900, 900],
            "incoming and outgoing, nothing inherited"
        );
        assert_eq!(fate(&imported, "threshold_udp_pps").0, &Fate::NotNeeded);
        assert_eq!(fate(&imported, "sflow").0, &Fate::NotNeeded, "yes is off there");
        assert!(fate(&imported, "my_threshold_pps").1.contains("no hostgroup line"));
        assert_eq!(fate(&imported, "graphite").0, &Fate::Mapped);
        assert!(config.export.graphite.is_some() && config.export.influx.is_none());
        assert_eq!(fate(&imported, "local_option").0, &Fate::NoEqual);
        assert_eq!(imported.report.len(), 2 + 17, "every key is reported once");
    }

    #[test]
    fn advanced_dumps_come_as_text_or_json() {
        let main = "networks_list [203.0.113.0/24 2001:db8::/32]\nban_time 600\ngobgp_flow_spec_announces enable\nenable_ban true\n\
                    average_calculation_time 5\ntraffic_buffer true\n";
        let groups = r#"[{"name": "global", "ban_for_pps": true, "threshold_pps": 7000, "enable_ban": true},
                         {"name": "web", "networks": ["203.0.113.0/28"], "ban_for_udp_pps": true, "threshold_udp_pps": 500,
                          "calculation_method": "per_host"}]"#;
        let peers = r#"[{"name": "r1", "local_asn": 65001, "local_address": "192.0.2.2", "remote_asn": 65002,
                         "remote_address": "192.0.2.1", "ipv4_flowspec": true, "ipv4_unicast": true, "ipv6_unicast": false,
                         "ipv6_flowspec": false, "multihop": true, "md5_auth": false, "md5_auth_password": "", "active": true}]"#;
        let dumps = [("main", main), ("hostgroup", groups), ("bgp", peers)]
            .map(|(category, text)| (category.to_owned(), format!("{category}.txt"), text.to_owned()));
        let imported = import(&Sources { dumps: dumps.into(), ..Sources::default() }).expect("dumps");
        let config = crate::check(&imported.text).unwrap_or_else(|p| panic!("{p:?}\n{}", imported.text));
        assert!(config.mitigation.enable_ban, "a peer is there");
        assert!(config.mitigation.groups.values().all(|g| !g.enable_ban), "but every group is alert-only");
        assert_eq!(config.mitigation.peers.len(), 1);
        assert_eq!(config.mitigation.ban_time.as_secs(), 600);
        let web = config.detector.groups.iter().find(|g| g.name == "web").expect("the group");
        assert_eq!(web.thresholds.values().copied().collect::<Vec<_>>(), [500], "nothing inherited");
    }

    #[test]
    fn each_name_of_fastnetmon_stands_for_one_key_and_is_taken_over() {
        let mut seen: BTreeMap<(Section, &str), &str> = BTreeMap::new();
        for key in keys() {
            for alias in &key.aliases {
                assert_eq!(seen.insert((key.section, alias.name), &key.name), None, "{}", alias.name);
            }
        }
        assert!(seen.len() > 15, "{seen:?}");
        let imported = conf(
            "netflow = on\nnetflow_port = 2056\nnetflow_threads_per_port = 3\nmirror_afpacket = on\ninterfaces = eth1\npcap = off\n\
             mirror_external_af_packet_sampling_rate = 1\nmirror_af_packet_custom_sampling_rate = 64\n\
             override_internal_traffic_as_incoming = on\n",
        );
        let config = crate::check(&imported.text).unwrap_or_else(|p| panic!("{p:?}\n{}", imported.text));
        let netflow = &config.collectors.listeners[0];
        assert_eq!((netflow.address.port(), netflow.workers), (2056, 3));
        assert_eq!(config.collectors.interfaces[0].sampling_rate, 64);
        assert!(config.detector.process_internal);
        assert_eq!(fate(&imported, "netflow_port"), (&Fate::Changed, "main.netflow_ports"));
        assert_eq!(fate(&imported, "mirror_afpacket"), (&Fate::Changed, "main.mirror: capture through libpcap"));
        assert_eq!(fate(&imported, "pcap").0, &Fate::NotNeeded);
        let unset = fate(&imported, "mirror_external_af_packet_sampling_rate");
        assert_eq!(unset, (&Fate::NotNeeded, "1 is the default"));
    }

    #[test]
    fn one_bad_entry_of_a_list_does_not_take_the_others_with_it() {
        let text = |s: &str| ("list".to_owned(), s.to_owned());
        let sources = Sources {
            conf: Some(("fastnetmon.conf".to_owned(), "threshold_pps = 900\nban_for_pps = on\n".to_owned())),
            networks: Some(text("203.0.113.0/24\n203.0.113.0/24\nnonsense\n2001:db8::/32\n")),
            whitelist: Some(text("203.0.113.9/32\n192.0.2.7/32\n2001:db8::9/128\n2001:db9::/32\n203.0.113.64/28\n")),
            ..Sources::default()
        };
        let imported = import(&sources).expect("imports");
        let config = crate::check(&imported.text).expect("valid");
        assert_eq!(config.mitigation.networks.len(), 2, "{}", imported.text);
        let silenced: Vec<String> =
            config.detector.whitelist.iter().flat_map(|w| &w.networks).map(ToString::to_string).collect();
        assert_eq!(silenced, ["203.0.113.9/32", "2001:db8::9/128", "203.0.113.64/28"]);
        let left_out: Vec<&str> =
            imported.report.iter().filter(|l| l.fate == Fate::NoEqual).map(|l| l.value.as_str()).collect();
        assert_eq!(left_out, ["nonsense", "192.0.2.7/32", "2001:db9::/32"]);

        // The same of the Advanced edition, where a list is one option.
        let main = r#"{"networks_list": ["203.0.113.0/24", "nonsense", "2001:db8::/32"], "networks_whitelist":
            ["203.0.113.9/32", "192.0.2.7/32", "2001:db8::9/128"], "networks_whitelist_remote": ["198.51.100.0/24", "x"]}"#;
        let dumps = vec![("main".to_owned(), "main.json".to_owned(), main.to_owned())];
        let imported = import(&Sources { dumps, ..Sources::default() }).expect("imports");
        let config = crate::check(&imported.text).expect("valid");
        assert_eq!(config.mitigation.networks.len(), 2, "{}", imported.text);
        assert_eq!(config.mitigation.remote_skiplist.len(), 1, "{}", imported.text);
        let silenced = config.detector.whitelist.iter().flat_map(|w| &w.networks).count();
        assert_eq!(silenced, 2, "{}", imported.text);

        // And of what a peer takes over from the main part.
        let main = r#"{"gobgp_community_host": ["65001:668", "nonsense", "65001:669"]}"#;
        let peer = r#"[{"name": "r1", "local_asn": 65001, "remote_asn": 65002, "remote_address": "192.0.2.1",
            "local_address": "192.0.2.2"}]"#;
        let dumps = [("main", main), ("bgp", peer)].map(|(c, t)| (c.to_owned(), format!("{c}.json"), t.to_owned()));
        let imported = import(&Sources { dumps: dumps.to_vec(), ..Sources::default() }).expect("imports");
        assert!(imported.text.contains(r#"communities = ["65001:668", "65001:669"]"#), "{}", imported.text);
        assert!(fate(&imported, "bgp.r1.communities").1.contains("nonsense"));
    }

    #[test]
    fn a_group_whose_thresholds_are_for_its_sum_stays_one() {
        let text = "name: all\ncalculation_method: total\nnetworks: 203.0.113.0/25 2001:db8::/48\nban_for_bandwidth: enable\n\
                    threshold_mbps: 9000\nname: web\ncalculation_method: per_host\nnetworks: 203.0.113.0/28\n\
                    ban_for_pps: enable\nthreshold_pps: 900\n";
        let json = r#"[{"name": "all", "calculation_method": "total", "networks": ["203.0.113.0/25", "2001:db8::/48"],
                        "ban_for_bandwidth": true, "threshold_mbps": 9000},
                       {"name": "web", "calculation_method": "per_host", "networks": ["203.0.113.0/28"],
                        "ban_for_pps": true, "threshold_pps": 900}]"#;
        for groups in [text, json] {
            let dumps = [("main", "networks_list 203.0.113.0/24 2001:db8::/32\n"), ("hostgroup", groups)]
                .map(|(category, text)| (category.to_owned(), format!("{category}.txt"), text.to_owned()));
            let imported = import(&Sources { dumps: dumps.into(), ..Sources::default() }).expect("dumps");
            let config = crate::check(&imported.text).unwrap_or_else(|p| panic!("{p:?}\n{}", imported.text));
            let is_total = |name: &str| config.detector.groups.iter().find(|g| g.name == name).map(|g| g.is_total);
            assert_eq!((is_total("all"), is_total("web")), (Some(true), Some(false)), "{}", imported.text);
        }
    }

    #[test]
    fn what_is_imported_alarms_no_later_than_fastnetmon_and_blackholes_where_it_does() {
        for seconds in [1, 2, 5, 15, 60, 3600] {
            let conf = format!("average_calculation_time = {seconds}\nban_for_pps = on\nthreshold_pps = 900\n");
            let sources = Sources { conf: Some(("fastnetmon.conf".to_owned(), conf)), ..Sources::default() };
            let config = crate::check(&import(&sources).expect("imports").text).expect("valid");
            let tolerance = config.detector.burst_tolerance.as_secs_f64();
            for times in [1.01, 1.1, 1.5, 3.0, 10.0, 100.0_f64] {
                let theirs = f64::from(seconds) * (times / (times - 1.0)).ln() + 1.0;
                assert!(tolerance / (times - 1.0) <= theirs, "{seconds} s, {times} times");
            }
            assert_eq!(config.mitigation.groups["global"].blackhole_pps, Some(900));
        }
    }
}
