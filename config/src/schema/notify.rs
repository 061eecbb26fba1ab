//! Keys of notifications: FastNetMon's in `[main]`, and `[notify.NAME]`.

use super::{Key, Section, Value, key};
use crate::notify::{Draft, Event, Format, Named, Service, SyslogServer, Template, Type};

fn main(
    name: &str,
    default: &str,
    meaning: &str,
    set: impl Fn(&mut Draft, &Value) -> Result<(), String> + 'static,
) -> Key {
    key(Section::Main, name, default, meaning, Box::new(move |draft, _, value| set(&mut draft.notify, value)))
}

fn named(
    name: &str,
    default: &str,
    meaning: &str,
    set: impl Fn(&mut Named, &Value) -> Result<(), String> + 'static,
) -> Key {
    let apply = move |draft: &mut crate::draft::Draft, instance: &str, value: &Value| {
        set(draft.notify.named.entry(instance.to_owned()).or_default(), value)
    };
    key(Section::Notify, name, default, meaning, Box::new(apply))
}

/// A key that is a text.
macro_rules! text {
    ($field:ident) => {
        |target, value| {
            value.text()?.clone_into(&mut target.$field);
            Ok(())
        }
    };
}

/// A key that is a switch.
macro_rules! switch {
    ($field:ident) => {
        |target, value| {
            target.$field = value.switch()?;
            Ok(())
        }
    };
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
            switch!(callback),
        ),
        main("web_callback_url", "", "where to, such as \"https://example.net/hook\"", |n, v| {
            n.callback_url = Some(v.text()?.parse()?);
            Ok(())
        }),
        main(
            "web_callback_secret",
            "\"\"",
            "key of the HMAC-SHA256 that the header X-Floodwall-Signature-256 carries; none without it",
            text!(callback_secret),
        ),
    ]);
    keys.extend(mail_keys());
    keys
}

fn script_keys() -> Vec<Key> {
    vec![
        main(
            "notify_script_enabled",
            "false",
            "run notify_script_path with ban, unban, partial_block and partial_unblock, as FastNetMon does",
            switch!(script),
        ),
        main("notify_script_path", SCRIPT, "the script, started without a shell", text!(script_path)),
        main(
            "notify_script_format",
            "\"text\"",
            "text: arguments IP DIRECTION PPS ACTION and a report on standard input; json: ACTION IP and an object",
            |n, v| {
                n.script_format = match v.text()? {
                    "text" => Format::Text,
                    "json" => Format::Json,
                    _ => return Err("write \"text\" or \"json\"".to_owned()),
                };
                Ok(())
            },
        ),
        main("notify_script_timeout", "30", "seconds after which a script is killed with all it started", |n, v| {
            n.script_timeout = v.number(1, 3600)?;
            Ok(())
        }),
        main(
            "notify_script_hostgroup_enabled",
            "false",
            "run notify_script_hostgroup_path for attacks on the sum of a host group, always with JSON and no arguments",
            switch!(group_script),
        ),
        main("notify_script_hostgroup_path", SCRIPT, "that script", text!(group_script_path)),
    ]
}

fn mail_keys() -> Vec<Key> {
    let mut keys = vec![
        main("email_notifications_enabled", "false", "send a mail for the same events", switch!(mail)),
        main("email_notifications_host", "\"localhost\"", "mail server that takes it", text!(mail_host)),
        main(
            "email_notifications_port",
            "587",
            "its port; 465 means TLS from the first octet, else STARTTLS",
            |n, v| {
                n.mail_port = u16::try_from(v.number(1, 65_535)?).unwrap_or(587);
                Ok(())
            },
        ),
        main("email_notifications_tls", "true", "encrypt; false only for a server on this host", switch!(mail_tls)),
        main(
            "email_notifications_disable_certificate_checks",
            "false",
            "take any certificate: whoever stands in between can read the mail and the password",
            switch!(mail_trust_all),
        ),
        main("email_notifications_auth", "true", "log in with username and password", switch!(mail_auth)),
        main("email_notifications_username", "\"\"", "user of the mail server", text!(mail_username)),
        main("email_notifications_password", "\"\"", "its password", text!(mail_password)),
        main("email_notifications_from", "\"\"", "the sender's address", text!(mail_from)),
        main("email_notifications_recipients", "[]", "who gets it, such as [\"noc@example.net\"]", |n, v| {
            n.mail_recipients = v.list()?.into_iter().map(str::to_owned).collect();
            Ok(())
        }),
        main(
            "email_notifications_hide_flow_spec_rules",
            "false",
            "leave the rules out of the mail",
            switch!(mail_hide_rules),
        ),
        main(
            "email_notifications_add_simple_packet_dump",
            "true",
            "put the sample of the attack into the mail",
            switch!(mail_with_sample),
        ),
    ];
    for (name, event, default) in [
        ("email_subject_blackhole_block", Event::Ban, "\"Floodwall blocked host {{ ip }}\""),
        ("email_subject_blackhole_unblock", Event::Unban, "\"Floodwall unblocked host {{ ip }}\""),
        (
            "email_subject_partial_block",
            Event::PartialBlock,
            "\"Floodwall partially blocked traffic for host {{ ip }}\"",
        ),
        ("email_subject_partial_unblock", Event::PartialUnblock, "\"Floodwall unblocked traffic for host {{ ip }}\""),
    ] {
        keys.push(main(
            name,
            default,
            "subject of the mail; {{ ip }} and the names of notify templates stand for values",
            {
                move |n, v| {
                    n.mail_subjects.insert(event, Template::new(v.text()?)?);
                    Ok(())
                }
            },
        ));
    }
    keys
}

/// Of `[notify.NAME]`.
pub(super) fn named_keys() -> Vec<Key> {
    vec![
        named("type", "", "webhook, slack, mattermost, discord, telegram or syslog", |n, v| {
            n.kind = Some(match v.text()? {
                "webhook" => Type::WebHook,
                "slack" => Type::Chat(Service::Slack),
                "mattermost" => Type::Chat(Service::Mattermost),
                "discord" => Type::Chat(Service::Discord),
                "telegram" => Type::Chat(Service::Telegram),
                "syslog" => Type::Syslog,
                _ => {
                    return Err(
                        "write \"webhook\", \"slack\", \"mattermost\", \"discord\", \"telegram\" or \"syslog\""
                            .to_owned(),
                    );
                }
            });
            Ok(())
        }),
        named("active", "true", "tell this one", switch!(active)),
        named(
            "events",
            "[\"ban\", \"unban\", \"partial_block\", \"partial_unblock\", \"warning\"]",
            "what of; besides these attack_detected and attack_finished, which a dry run has too",
            |n, v| {
                let wrong = |word: &str| {
                    let all: Vec<&str> = Event::ALL.iter().map(|e| e.name()).collect();
                    format!("{word:?} is no event: write of {}", all.join(", "))
                };
                let find = |word: &str| Event::ALL.into_iter().find(|e| e.name() == word).ok_or_else(|| wrong(word));
                n.events = v.list()?.into_iter().map(find).collect::<Result<_, _>>()?;
                Ok(())
            },
        ),
        named("url", "", "where to post to; telegram has a default", |n, v| {
            n.url = Some(v.text()?.parse()?);
            Ok(())
        }),
        named(
            "secret",
            "\"\"",
            "webhook: key of the HMAC-SHA256 in the header X-Floodwall-Signature-256; none without it",
            text!(secret),
        ),
        named("token", "\"\"", "telegram: the bot's token", text!(token)),
        named("chat", "\"\"", "telegram: the chat's id", text!(chat)),
        named(
            "server",
            "\"/dev/log\"",
            "syslog: a socket of this host, or \"HOST:PORT\" for UDP (RFC 5424)",
            |n, v| {
                let text = v.text()?;
                let port = text.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
                n.server = match (text.starts_with('/'), port) {
                    (true, _) => SyslogServer::Local(text.into()),
                    (false, Some(_)) => SyslogServer::Remote(text.to_owned()),
                    (false, None) => return Err("write \"/dev/log\" or \"HOST:514\"".to_owned()),
                };
                Ok(())
            },
        ),
        named(
            "template",
            "\"{{ summary }}\"",
            "the line in a chat or syslog; names: summary, action, ip, direction, power, peak, mbps, threshold, group, severity, rule, \
             route, attack_uuid, details",
            |n, v| {
                n.template = Template::new(v.text()?)?;
                Ok(())
            },
        ),
    ]
}
