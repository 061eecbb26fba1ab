//! What of a configuration is not for eyes and logs, however the file spells it: passwords, tokens, secrets, and what stands behind
//! the host of an address of the web (the hooks of chat services carry their secret there). And what reaches beyond the daemon.
//! The kind of a key says whether it is a secret; only of a name that no key has, its sound decides.

use toml_edit::{DocumentMut, Item, TableLike};

use crate::kind::Kind;
use crate::schema::{self, Key, Needs, Section, keys};

/// What stands in a secret's place.
pub const HIDDEN: &str = "***";

/// Whether a key's value is not for eyes: by its name, or its full name (`bgp.r1.md5_auth_password`).
#[must_use]
pub fn is_secret(key: &str) -> bool {
    let name = key.rsplit('.').next().unwrap_or(key);
    judge(name, Kind::is_secret, |name| {
        ["password", "token", "secret"].iter().any(|word| name.contains(word)) || sounds_like_address(name)
    })
}

/// Of an address the host may be seen.
fn is_address(name: &str) -> bool {
    judge(name, |kind| *kind == Kind::Url, sounds_like_address)
}

/// Asks the kinds of the keys of a name, in whatever section; the name itself where there is no such key: it may be misspelt, or
/// that of another program.
fn judge(name: &str, by_kind: impl Fn(&Kind) -> bool, by_sound: impl Fn(&str) -> bool) -> bool {
    let mut of_name = keys().iter().filter(|key| key.name == name).peekable();
    if of_name.peek().is_some() { of_name.any(|key| by_kind(&key.kind)) } else { by_sound(name) }
}

fn sounds_like_address(name: &str) -> bool {
    name == "url" || name.ends_with("_url")
}

/// Whether a typed line names a secret.
#[must_use]
pub fn is_in(line: &str) -> bool {
    line.split(|c: char| c.is_whitespace() || matches!(c, '"' | '\'')).any(is_secret)
}

/// How many words behind `set SECTION` may be seen: not the value of a secret, nor words that stand where a key should.
#[must_use]
pub fn seen(section: Section, words: &[String]) -> usize {
    let at = usize::from(section.is_named());
    let Some(key) = words.get(at) else { return words.len() };
    if let Some(key) = schema::find(section, key) {
        return if key.kind.is_secret() { at + 1 } else { words.len() };
    }
    // A key that is misspelt tells what was meant; behind a key that stands where a name should there is its value.
    let slipped = at > 0 && words.first().is_some_and(|name| is_secret(name));
    if slipped { at } else { at + 1 }
}

/// Whether a key decides what programs are run, what is told to whom, or who gets in: more than an editor of thresholds needs. A
/// whole table, or a name that no key has, is judged by whether all keys of its section are such.
#[must_use]
pub fn reaches_out(section: Section, key: &str) -> bool {
    let is_admin = |key: &Key| key.needs == Needs::Admin;
    schema::find(section, key)
        .map_or_else(|| keys().iter().filter(|key| key.section == section).all(is_admin), is_admin)
}

/// The same by the full name of a key: `main.ban_time`, `notify.noc.url`.
#[must_use]
pub fn path_reaches_out(path: &str) -> bool {
    let (section, rest) = path.split_once('.').unwrap_or((path, ""));
    let key = rest.rsplit('.').next().unwrap_or(rest);
    // What is in no section is nobody's to judge.
    crate::words::section(section).is_none_or(|section| reaches_out(section, key))
}

/// A text without its secrets, still a valid configuration where it was one. Of what is not TOML nothing is shown.
#[must_use]
pub fn hide(text: &str) -> String {
    let Ok(mut document) = text.parse::<DocumentMut>() else {
        return "# not TOML: nothing of it is shown\n".to_owned();
    };
    hide_table(document.as_table_mut());
    let mut hidden: String = document.to_string().lines().map(|line| hide_comment(line) + "\n").collect();
    if !text.ends_with('\n') {
        hidden.pop();
    }
    hidden
}

fn hide_table(table: &mut dyn TableLike) {
    for (key, item) in table.iter_mut() {
        match item {
            Item::None => {}
            Item::Value(value) => hide_value(key.get(), value),
            Item::Table(inner) => hide_table(inner),
            Item::ArrayOfTables(array) => array.iter_mut().for_each(|inner| hide_table(inner)),
        }
    }
}

fn hide_value(key: &str, value: &mut toml_edit::Value) {
    if !is_secret(key) {
        match value {
            toml_edit::Value::InlineTable(inner) => hide_table(inner),
            toml_edit::Value::Array(array) => array.iter_mut().for_each(|value| hide_value(key, value)),
            toml_edit::Value::String(_)
            | toml_edit::Value::Integer(_)
            | toml_edit::Value::Float(_)
            | toml_edit::Value::Boolean(_)
            | toml_edit::Value::Datetime(_) => {}
        }
        return;
    }
    if value.as_str() == Some("") {
        return;
    }
    let shown = value.as_str().filter(|_| is_address(key)).map_or_else(|| HIDDEN.to_owned(), host);
    // What is said behind a secret on its line may be about the secret.
    let prefix = value.decor().prefix().cloned().unwrap_or_default();
    *value = toml_edit::Value::from(shown);
    value.decor_mut().set_prefix(prefix);
}

/// `https://hooks.example.net/services/X` as `https://hooks.example.net/***`.
fn host(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return HIDDEN.to_owned() };
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let authority = authority.rsplit('@').next().unwrap_or(authority);
    if path.len() > 1 { format!("{scheme}://{authority}/{HIDDEN}") } else { format!("{scheme}://{authority}{path}") }
}

/// A key that is commented out holds its secret all the same.
fn hide_comment(line: &str) -> String {
    let is_comment = line.trim_start().starts_with('#');
    match line.split_once('=').filter(|(key, _)| is_comment && is_secret(key.trim_matches(['#', ' ', '\t', '"', '\''])))
    {
        Some((key, _)) => format!("{key}= \"{HIDDEN}\""),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_hidden_however_it_is_spelt() {
        for text in [
            "[bgp.r1]\nmd5_auth_password = \"hunter-2\"\n",
            "[bgp.r1]\nmd5_auth_password = 'hunter-2' # was hunter-1\n",
            "[bgp.r1]\nmd5_auth_password = \"\"\"\nhunter-2\"\"\"\n",
            "[bgp.r1]\nmd5_auth_password = '''\n\nhunter-2\n'''\nlocal_asn = 1\n",
            "[bgp.r1]\nmd5_auth_password = \"\\u0068unter-2 hunter-2\"\n",
            "[bgp.r1]\n\"md5_auth_password\" = \"hunter-2\"\n",
            "[bgp.r1]\n'md5_auth_password'='hunter-2'\n",
            "bgp.r1.md5_auth_password = \"hunter-2\"\n",
            "[bgp]\nr1.\"md5_auth_password\" = \"\"\"hunter-2\"\"\"\n",
            "bgp = { r1 = { md5_auth_password = \"hunter-2\", local_asn = 1 } }\n",
            "[bgp]\nr1 = { md5_auth_password = \"hunter-2\" }\n",
            "[[notify]]\ntoken = [\n \"hunter-2\",\n # hunter-3\n]\n",
            "[main]\nlist = [{ api_secret = \"hunter-2\" }]\n",
            "[notify.noc]\nsecret = 7 # hunter\ntoken = { a = \"hunter-2\" }\n",
            "[main]\n# influxdb_password = \"hunter-2\"\n",
            "[main]\n  #\"influxdb_password\"=\"hunter-2\"\n",
            "[notify.noc]\nurl = \"https://hooks.example.net/services/hunter-2\"\n",
            "[notify.noc]\nurl = \"https://user:hunter-2@hooks.example.net?key=hunter-3\"\n",
            "[main]\nweb_callback_url = '''\nhttps://example.net/?hunter-2'''\n",
            "[main\nweb_callback_secret = \"hunter-2\"\n",
        ] {
            let hidden = hide(text);
            assert!(!hidden.contains("hunter") && !hidden.contains("unter-2"), "{text}\n{hidden}");
        }
    }

    #[test]
    fn all_the_rest_is_shown_as_it_is_written() {
        let text = "# our edge\n[main]\n# agreed = yes\nban_time = 60 # seconds\nnetworks_list = [\n    # customers\n    \"203.0.113.0/24\",\n]\n\
                    web_callback_secret = \"\"\nemail_subject_partial_block = \"\"\"\n= {{ ip }}\"\"\"\n\n[notify.token]\nchat = \"-100\"\n\
                    url = \"https://hooks.example.net\"";
        assert_eq!(hide(text), text);
        let text = "[main]\nweb_callback_url = \"https://[2001:db8::1]:8443/hook\" # theirs\nban_time = 60\n";
        assert_eq!(hide(text), "[main]\nweb_callback_url = \"https://[2001:db8::1]:8443/***\"\nban_time = 60\n");
        assert!(crate::check(&hide(text)).is_ok(), "it still is a configuration");
    }

    #[test]
    fn the_kind_of_a_key_says_whether_it_is_hidden_and_paths_are_judged_by_their_key() {
        let secret: Vec<String> = keys().iter().filter(|k| k.kind.is_secret()).map(|k| format!("{k:?}")).collect();
        assert_eq!(
            secret,
            [
                "bgp.md5_auth_password",
                "main.web_callback_url",
                "main.web_callback_secret",
                "main.email_notifications_password",
                "main.influxdb_password",
                "notify.url",
                "notify.secret",
                "notify.token",
                "enforcer_peer.md5_auth_password",
            ]
        );
        assert!(is_secret("notify.noc.url") && !is_secret("notify.token_of_noc.chat"));
        assert!(is_in("set main 'influxdb_password' x") && !is_in("set main ban_time 60"));
    }

    #[test]
    fn words_of_an_edit_are_seen_up_to_the_secret() {
        let seen = |line: &str| {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            let section = crate::words::section(&words[0]).expect("a section");
            super::seen(section, &words[1..]) + 1
        };
        for (line, shown) in [
            ("main ban_time 60", 3),
            ("main influxdb_password hunter", 2),
            ("main influxdb_pasword hunter", 2),
            ("bgp r1 md5_auth_password hunter two", 3),
            ("bgp md5_auth_password hunter", 2),
            ("bgp md5_auth_password local_asn 1", 4),
            ("notify noc url https://example.net/hunter", 3),
            ("bgp r1", 2),
        ] {
            assert_eq!(seen(line), shown, "{line}");
        }
    }

    #[test]
    fn a_secret_is_never_set_with_less_than_scope_admin() {
        let weak: Vec<&Key> = keys().iter().filter(|k| k.kind.is_secret() && k.needs != Needs::Admin).collect();
        assert!(weak.is_empty(), "{weak:?}");
    }

    #[test]
    fn what_runs_programs_or_leaves_the_host_is_more_than_an_ordinary_edit() {
        for path in [
            "main.notify_script_path",
            "main.notify_script_enabled",
            "main.notify_script_hostgroup_path",
            "main.exabgp_command_pipe",
            "main.web_callback_url",
            "main.email_notifications_recipients",
            "main.influxdb_host",
            "notify.noc.server",
            "notify.noc",
            "api.listen",
            "enforcer.nft",
            "state.directory",
            "bgp.r1.md5_auth_password",
            "frob.x",
        ] {
            assert!(path_reaches_out(path), "{path}");
        }
        for path in [
            "main.ban_time",
            "main.networks_list",
            "hostgroup.global.threshold_pps",
            "whitelist.w.note",
            "bgp.r1.remote_asn",
        ] {
            assert!(!path_reaches_out(path), "{path}");
        }
    }
}
