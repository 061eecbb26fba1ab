//! Keys of notifications: FastNetMon's in `[main]`, and `[notify.NAME]`.

use std::collections::BTreeSet;

use super::{Key, Section, key};
use crate::kind::{Kind, Of, choice, list, number, seconds, secret, switch, template, text, texts, url};
use crate::notify::{Draft, Event, Format, Named, Service, SyslogServer, Type};
use crate::value::Value;

fn main<T: 'static>(
    name: &str,
    default: &str,
    meaning: &str,
    of: Of<T>,
    set: impl Fn(&mut Draft, T) + Send + Sync + 'static,
) -> Key {
    key(Section::Main, name, default, meaning, of, move |draft, _, value| set(&mut draft.notify, value))
}

fn named<T: 'static>(
    name: &str,
    default: &str,
    meaning: &str,
    of: Of<T>,
    set: impl Fn(&mut Named, T) + Send + Sync + 'static,
) -> Key {
    key(Section::Notify, name, default, meaning, of, move |draft, instance, value| {
        set(draft.notify.named.entry(instance.to_owned()).or_default(), value);
    })
    .admin()
}

const SCRIPT: &str = "\"/usr/local/bin/notify_about_attack.sh\"";

/// Of `[main]`.
pub(super) fn main_keys() -> Vec<Key> {
    let mut keys = script_keys();
    keys.extend([
        main(
            "web_callback_enabled",
            "false",
            "post FastNetMon's JSON to web_callback_url for the same events",
            switch(),
            set!(callback),
        ),
        main("web_callback_url", "", "where to, such as \"https://example.net/hook\"", url(), some!(callback_url)),
        main(
            "web_callback_secret",
            "\"\"",
            "key of the HMAC-SHA256 that the header X-Floodwall-Signature-256 carries; none without it",
            secret(),
            set!(callback_secret),
        ),
    ]);
    keys.extend(mail_keys());
    let mut keys: Vec<Key> = keys.into_iter().map(Key::admin).collect();
    keys.extend(subject_keys());
    keys
}

fn script_keys() -> Vec<Key> {
    vec![
        main(
            "notify_script_enabled",
            "false",
            "run notify_script_path with ban, unban, partial_block and partial_unblock, as FastNetMon does",
            switch(),
            set!(script),
        ),
        main("notify_script_path", SCRIPT, "the script, started without a shell", text(), set!(script_path)),
        main(
            "notify_script_format",
            "\"text\"",
            "text: arguments IP DIRECTION PPS ACTION and a report on standard input; json: ACTION IP and an object",
            choice([("text", Format::Text), ("json", Format::Json)]),
            set!(script_format),
        ),
        main(
            "notify_script_timeout",
            "30",
            "seconds after which a script is killed with all it started",
            seconds(1, 3600),
            set!(script_timeout),
        ),
        main(
            "notify_script_hostgroup_enabled",
            "false",
            "run notify_script_hostgroup_path for attacks on the sum of a host group, always with JSON and no arguments",
            switch(),
            set!(group_script),
        ),
        main("notify_script_hostgroup_path", SCRIPT, "that script", text(), set!(group_script_path)),
    ]
}

fn mail_keys() -> Vec<Key> {
    vec![
        main("email_notifications_enabled", "false", "send a mail for the same events", switch(), set!(mail)),
        main("email_notifications_host", "\"localhost\"", "mail server that takes it", text(), set!(mail_host)),
        main(
            "email_notifications_port",
            "587",
            "its port; 465 means TLS from the first octet, else STARTTLS",
            number(1, 65_535),
            set!(mail_port),
        ),
        main(
            "email_notifications_tls",
            "true",
            "encrypt; false only for a server on this host",
            switch(),
            set!(mail_tls),
        ),
        main(
            "email_notifications_disable_certificate_checks",
            "false",
            "take any certificate: whoever stands in between can read the mail and the password",
            switch(),
            set!(mail_trust_all),
        ),
        main("email_notifications_auth", "true", "log in with username and password", switch(), set!(mail_auth)),
        main("email_notifications_username", "\"\"", "user of the mail server", text(), set!(mail_username)),
        main("email_notifications_password", "\"\"", "its password", secret(), set!(mail_password)),
        main("email_notifications_from", "\"\"", "the sender's address", text(), set!(mail_from)),
        main(
            "email_notifications_recipients",
            "[]",
            "who gets it, such as [\"noc@example.net\"]",
            texts(),
            set!(mail_recipients),
        ),
        main(
            "email_notifications_hide_flow_spec_rules",
            "false",
            "leave the rules out of the mail",
            switch(),
            set!(mail_hide_rules),
        ),
        main(
            "email_notifications_add_simple_packet_dump",
            "true",
            "put the sample of the attack into the mail",
            switch(),
            set!(mail_with_sample),
        ),
    ]
}

/// Words alone: they change nothing about who is told.
fn subject_keys() -> Vec<Key> {
    let subjects = [
        ("email_subject_blackhole_block", Event::Ban, "\"Floodwall blocked host {{ ip }}\""),
        ("email_subject_blackhole_unblock", Event::Unban, "\"Floodwall unblocked host {{ ip }}\""),
        (
            "email_subject_partial_block",
            Event::PartialBlock,
            "\"Floodwall partially blocked traffic for host {{ ip }}\"",
        ),
        ("email_subject_partial_unblock", Event::PartialUnblock, "\"Floodwall unblocked traffic for host {{ ip }}\""),
    ];
    let meaning = "subject of the mail; {{ ip }} and the names of notify templates stand for values";
    let key = |(name, event, default)| {
        main(name, default, meaning, template(), move |n, v| drop(n.mail_subjects.insert(event, v)))
    };
    subjects.map(key).into()
}

const TYPES: [(&str, Type); 6] = [
    ("webhook", Type::WebHook),
    ("slack", Type::Chat(Service::Slack)),
    ("mattermost", Type::Chat(Service::Mattermost)),
    ("discord", Type::Chat(Service::Discord)),
    ("telegram", Type::Chat(Service::Telegram)),
    ("syslog", Type::Syslog),
];

fn events() -> Of<BTreeSet<Event>> {
    let choices: Vec<&'static str> = Event::ALL.iter().map(|event| event.name()).collect();
    let advice = format!("write of {}", choices.join(", "));
    let wrong = advice.clone();
    let one = move |word: &str| {
        let found = Event::ALL.into_iter().find(|event| event.name() == word);
        found.ok_or_else(|| format!("{word:?} is no event: {wrong}"))
    };
    list(Kind::Choice { choices }, one).saying(advice).then(|all| Ok(all.into_iter().collect()))
}

fn server() -> Of<SyslogServer> {
    let advice = "write \"/dev/log\" or \"HOST:514\"";
    let read = move |value: &Value| {
        let text = value.text()?;
        let port = text.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
        match (text.starts_with('/'), port) {
            (true, _) => Ok(SyslogServer::Local(text.into())),
            (false, Some(_)) => Ok(SyslogServer::Remote(text.to_owned())),
            (false, None) => Err(advice.to_owned()),
        }
    };
    Of::new(Kind::Form { example: "HOST:514" }, read).saying(advice)
}

/// Of `[notify.NAME]`.
pub(super) fn named_keys() -> Vec<Key> {
    vec![
        named("type", "", "webhook, slack, mattermost, discord, telegram or syslog", choice(TYPES), some!(kind)),
        named("active", "true", "tell this one", switch(), set!(active)),
        named(
            "events",
            "[\"ban\", \"unban\", \"partial_block\", \"partial_unblock\", \"warning\"]",
            "what of; besides these attack_detected and attack_finished, which a dry run has too",
            events(),
            set!(events),
        ),
        named("url", "", "where to post to; telegram has a default", url(), some!(url)),
        named(
            "secret",
            "\"\"",
            "webhook: key of the HMAC-SHA256 in the header X-Floodwall-Signature-256; none without it",
            secret(),
            set!(secret),
        ),
        named("token", "\"\"", "telegram: the bot's token", secret(), set!(token)),
        named("chat", "\"\"", "telegram: the chat's id", text(), set!(chat)),
        named(
            "server",
            "\"/dev/log\"",
            "syslog: a socket of this host, or \"HOST:PORT\" for UDP (RFC 5424)",
            server(),
            set!(server),
        ),
        named(
            "template",
            "\"{{ summary }}\"",
            "the line in a chat or syslog; names: summary, action, ip, direction, power, peak, mbps, threshold, group, severity, rule, \
             route, attack_uuid, details",
            template(),
            set!(template),
        ),
    ]
}
