//! What a line may go on with: words, keys, host groups, peers, prefixes, live attacks.

use config::kind::Kind;
use config::schema::{self, Section, keys};
use config::words::Verb;
use operator::status::{Effect, Status};
use operator::{order, words};

use super::{settings, show};

/// Words that may stand where the last of `line` stands, with a line of help each.
#[must_use]
pub fn complete(running: &str, status: &Status, line: &[String]) -> Vec<(String, String)> {
    let (typed, before) = line.split_last().map_or(("", &[][..]), |(last, before)| (last.as_str(), before));
    let before: Vec<&str> = before.iter().map(String::as_str).filter(|w| *w != "|").collect();
    let mut all = candidates(running, status, &before);
    all.retain(|(word, _)| word.starts_with(typed));
    all.sort();
    all.dedup();
    all
}

fn candidates(running: &str, status: &Status, before: &[&str]) -> Vec<(String, String)> {
    let pairs = |all: &[(&str, &str)]| all.iter().map(|(w, h)| ((*w).to_owned(), (*h).to_owned())).collect::<Vec<_>>();
    match before {
        [] => words::VERBS.iter().map(|(verb, _, help)| ((*verb).to_owned(), (*help).to_owned())).collect(),
        ["show"] => {
            let mut all: Vec<(String, String)> =
                show::CATEGORIES.iter().map(|c| (c.name.to_owned(), c.help.to_owned())).collect();
            all.extend(sections());
            all.extend(pairs(show::OF_CONFIGURATION));
            all
        }
        ["set" | "delete"] => {
            let mut all = sections();
            let verb = if before[0] == "set" { Verb::Set } else { Verb::Delete };
            let acting = order::ORDERS.iter().filter(|a| a.verb == verb);
            all.extend(acting.map(|a| (a.category.to_owned(), a.help.to_owned())));
            all.push(("token".to_owned(), "who may use the API; acts at once".to_owned()));
            all
        }
        ["commit"] => pairs(&[
            ("check", "only say whether it would do"),
            ("confirmed", "MINUTES: take it back unless it is confirmed"),
            ("comment", "TEXT: for the history"),
        ]),
        ["show", "single_host_counters", ..] | ["set", "blackhole"] => attacked(status),
        ["delete", "blackhole"] => mitigated(status, Effect::Blackhole),
        ["set" | "delete" | "show", section, rest @ ..] => match config::words::section(section) {
            Some(section) => of_section(running, section, rest, before[0] == "delete"),
            None => Vec::new(),
        },
        _ => Vec::new(),
    }
}

fn sections() -> Vec<(String, String)> {
    Section::ALL.into_iter().map(|s| (s.name().to_owned(), format!("settings of [{}]", s.name()))).collect()
}

fn attacked(status: &Status) -> Vec<(String, String)> {
    status.attacks.iter().map(|a| (a.prefix.address().to_string(), format!("attacked: {}", a.threshold))).collect()
}

fn mitigated(status: &Status, effect: Effect) -> Vec<(String, String)> {
    let of_kind = status.mitigations.iter().filter(|m| m.kind == effect);
    of_kind.map(|m| (m.prefix.address().to_string(), m.route.to_string())).collect()
}

/// Names, then keys, then values.
fn of_section(running: &str, section: Section, rest: &[&str], is_delete: bool) -> Vec<(String, String)> {
    let values = config::candidate::flatten(&config::secrets::hide(running));
    let (path, rest) = match (section.is_named(), rest) {
        (true, []) => {
            return settings::names(&values, section).into_iter().map(|n| (n, String::new())).collect();
        }
        (true, [name, rest @ ..]) => (format!("{}.{name}", section.name()), rest),
        (false, rest) => (section.name().to_owned(), rest),
    };
    match rest {
        [] => keys()
            .iter()
            .filter(|k| k.section == section && (!is_delete || values.contains_key(&format!("{path}.{}", k.name))))
            .map(|k| (k.name.clone(), k.meaning.clone()))
            .collect(),
        [key, ..] => of_key(&values, section, &path, key, is_delete),
    }
}

fn of_key(
    values: &std::collections::BTreeMap<String, String>,
    section: Section,
    path: &str,
    name: &str,
    is_delete: bool,
) -> Vec<(String, String)> {
    let Some(key) = schema::find(section, name) else { return Vec::new() };
    // Prefixes of the running configuration, wherever a list of prefixes is meant.
    let list = |path: &str| -> Vec<(String, String)> {
        let text = values.get(path).map_or("", String::as_str);
        text.split('"').skip(1).step_by(2).map(|v| (v.to_owned(), String::new())).collect()
    };
    if is_delete {
        return list(&format!("{path}.{name}"));
    }
    let choices = key.kind.choices();
    if !choices.is_empty() {
        return choices.iter().map(|word| ((*word).to_owned(), key.meaning.clone())).collect();
    }
    let is_prefixes = matches!(&key.kind, Kind::List { of } if **of == Kind::Prefix);
    if is_prefixes {
        return list("main.networks_list");
    }
    let default = key.default.as_deref().filter(|text| *text != "\"\"" && !key.kind.is_list() && !key.kind.is_secret());
    default.map(|value| (value.trim_matches('"').to_owned(), key.kind.takes())).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_goes_on_with_what_its_key_takes() {
        let running = "[main]\nnetworks_list = [\"203.0.113.0/24\"]\n";
        for (line, wanted) in [
            ("set main logging_level ", &["debug", "error", "info", "warn"][..]),
            ("set main enable_ban ", &["disable", "enable"]),
            ("set bgp r1 flowspec_ranges d", &["disable"]),
            ("set bgp r1 profile j", &["juniper"]),
            ("set hostgroup web mitigation_ladder discard r", &["rate-limit", "redirect"]),
            ("set traffic_rule r tcp_flags s", &["syn"]),
            ("set notify noc type ", &["discord", "mattermost", "slack", "syslog", "telegram", "webhook"]),
            ("set hostgroup web networks ", &["203.0.113.0/24"]),
            ("set main ban_time ", &["1900"]),
            ("set main influxdb_password ", &[]),
            ("set main influxdb_host ", &["127.0.0.1"]),
        ] {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            let found: Vec<String> =
                complete(running, &Status::default(), &words).into_iter().map(|(w, _)| w).collect();
            assert_eq!(found, wanted, "{line:?}");
        }
        let ban_time = ["set", "main", "ban_time", ""].map(str::to_owned);
        assert_eq!(complete(running, &Status::default(), &ban_time)[0].1, "1 to 31536000 seconds");
    }
}
