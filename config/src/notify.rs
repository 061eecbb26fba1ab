//! Who is told of what is announced: FastNetMon's `notify_script_*`, `web_callback_*` and `email_*` of `[main]`, and `[notify.NAME]`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use crate::kind::{self, Of, choice, list, number, seconds, secret, switch, template, text, texts, url};
use crate::report::Report;
use crate::schema::{Key, Section, key, set, some};
use crate::value::Value;

/// What somebody can be told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    /// A host is blackholed (or diverted).
    Ban,
    /// It no longer is.
    Unban,
    /// A FlowSpec rule is announced.
    PartialBlock,
    /// It is withdrawn.
    PartialUnblock,
    /// A threshold was passed, in a dry run too.
    AttackDetected,
    /// The attack is over.
    AttackFinished,
    /// Something keeps the daemon from working well.
    Warning,
}

impl Event {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Ban,
        Self::Unban,
        Self::PartialBlock,
        Self::PartialUnblock,
        Self::AttackDetected,
        Self::AttackFinished,
        Self::Warning,
    ];
    /// Those of FastNetMon, which scripts written for it know.
    pub const FASTNETMON: [Self; 4] = [Self::Ban, Self::Unban, Self::PartialBlock, Self::PartialUnblock];

    /// FastNetMon's word where it has one.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ban => "ban",
            Self::Unban => "unban",
            Self::PartialBlock => "partial_block",
            Self::PartialUnblock => "partial_unblock",
            Self::AttackDetected => "attack_detected",
            Self::AttackFinished => "attack_finished",
            Self::Warning => "warning",
        }
    }
}

/// What a script is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// Arguments `IP DIRECTION PPS ACTION`, a report on standard input.
    #[default]
    Text,
    /// Arguments `ACTION IP`, an object on standard input.
    Json,
}

/// An address of the web.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// `https`.
    pub is_tls: bool,
    /// Name or address, without the brackets of IPv6.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Path and query, beginning with a slash.
    pub path: String,
}

impl std::str::FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // Without the text: what stands behind the host may be a secret.
        let wrong = || "this is not an address of the web: write for example \"https://example.net/hook\"".to_owned();
        let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
        let is_tls = match scheme {
            "https" => true,
            "http" => false,
            _ => return Err(wrong()),
        };
        let at = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(at);
        let (host, port) = match authority.strip_prefix('[').and_then(|a| a.split_once(']')) {
            Some((host, rest)) if host.parse::<std::net::Ipv6Addr>().is_ok() => (host, rest.strip_prefix(':')),
            Some(_) => return Err(wrong()),
            None => authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
        };
        let port = match port {
            Some(port) => port.parse().ok().filter(|p| *p > 0).ok_or_else(wrong)?,
            None if is_tls => 443,
            None => 80,
        };
        let is_fine =
            |text: &str| text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\' | b'<' | b'>'));
        if host.is_empty() || host.contains('@') || !is_fine(host) || !is_fine(path) || path.contains('#') {
            return Err(wrong());
        }
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Self { is_tls, host: host.to_owned(), port, path })
    }
}

/// A text with `{{ name }}` in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Template(String);

/// Names that a template may have.
pub const VARIABLES: [&str; 14] = [
    "summary",
    "action",
    "ip",
    "direction",
    "power",
    "peak",
    "mbps",
    "threshold",
    "group",
    "severity",
    "rule",
    "route",
    "attack_uuid",
    "details",
];

impl Template {
    /// # Errors
    /// A name that there is not.
    pub fn new(text: &str) -> Result<Self, String> {
        let mut wrong = Ok(());
        let template = Self(text.to_owned());
        template.fill(|name| {
            if !VARIABLES.contains(&name) {
                wrong = Err(format!("there is no {{{{ {name} }}}}: write one of {}", VARIABLES.join(", ")));
            }
            String::new()
        });
        if text.matches("{{").count() != text.matches("}}").count() {
            return Err("write {{ name }}: a pair of braces is not closed".to_owned());
        }
        wrong.map(|()| template)
    }

    /// The text with every name replaced by what `value` makes of it.
    pub fn fill(&self, mut value: impl FnMut(&str) -> String) -> String {
        let mut text = String::new();
        let mut rest = self.0.as_str();
        while let Some((before, behind)) = rest.split_once("{{") {
            let Some((name, after)) = behind.split_once("}}") else { break };
            text.push_str(before);
            text.push_str(&value(name.trim()));
            rest = after;
        }
        text + rest
    }
}

/// A chat service with incoming web hooks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// `{"text": ...}`
    Slack,
    /// As Slack.
    Mattermost,
    /// `{"content": ...}`
    Discord,
    /// `sendMessage` of the bot API.
    Telegram,
}

/// How a mail leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// The submission server.
    pub host: String,
    /// Its port; 465 means TLS from the first octet.
    pub port: u16,
    /// TLS; STARTTLS unless the port is 465.
    pub tls: bool,
    /// Any certificate will do.
    pub trust_all: bool,
    /// User and password.
    pub login: Option<(String, String)>,
    /// Sender.
    pub from: String,
    /// To whom.
    pub recipients: Vec<String>,
    /// Subjects of bans, unbans and partial blocks.
    pub subjects: BTreeMap<Event, Template>,
    /// Leave rules out.
    pub hide_rules: bool,
    /// Put the sample in.
    pub with_sample: bool,
}

/// Where syslog messages go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SyslogServer {
    /// A socket of this host.
    Local(PathBuf),
    /// UDP, RFC 5426.
    Remote(String),
}

/// How somebody is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// FastNetMon's notify script.
    Script {
        /// The program.
        path: PathBuf,
        /// What it is given.
        format: Format,
        /// Only attacks on sums of host groups; else only others.
        of_groups: bool,
        /// It is killed when it takes longer.
        timeout: Duration,
    },
    /// JSON by POST.
    WebHook {
        /// Where.
        url: Url,
        /// Key of the signature.
        secret: Option<String>,
    },
    /// A line in a chat.
    Chat {
        /// Whose form.
        service: Service,
        /// Where.
        url: Url,
        /// The line.
        text: Template,
        /// Telegram's chat.
        chat: String,
    },
    /// Mail.
    Mail(Mail),
    /// Syslog.
    Syslog {
        /// Where.
        server: SyslogServer,
        /// The line.
        text: Template,
    },
}

/// One way to tell somebody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Channel {
    /// `notify_script`, `web_callback`, `email`, or the NAME of a `[notify.NAME]`.
    pub name: String,
    /// What of.
    pub events: BTreeSet<Event>,
    /// How.
    pub kind: Kind,
}

/// `type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// JSON by POST.
    WebHook,
    /// A chat.
    Chat(Service),
    /// Syslog.
    Syslog,
}

/// `[notify.NAME]` as written.
#[derive(Debug, Clone, PartialEq, Default)]
#[allow(missing_docs, reason = "the table of keys says what they mean")]
pub struct Named {
    pub kind: Option<Type>,
    pub active: bool,
    pub events: BTreeSet<Event>,
    pub url: Option<Url>,
    pub secret: String,
    pub token: String,
    pub chat: String,
    pub server: Option<SyslogServer>,
    pub template: Template,
}

/// Keys of `[main]` as written.
#[derive(Debug, Clone, PartialEq, Default)]
#[allow(missing_docs, reason = "the table of keys says what they mean")]
#[allow(clippy::struct_excessive_bools, reason = "switches of the file")]
pub struct Draft {
    pub script: bool,
    pub script_path: String,
    pub script_format: Format,
    pub script_timeout: u64,
    pub group_script: bool,
    pub group_script_path: String,
    pub callback: bool,
    pub callback_url: Option<Url>,
    pub callback_secret: String,
    pub mail: bool,
    pub mail_host: String,
    pub mail_port: u16,
    pub mail_tls: bool,
    pub mail_trust_all: bool,
    pub mail_auth: bool,
    pub mail_username: String,
    pub mail_password: String,
    pub mail_from: String,
    pub mail_recipients: Vec<String>,
    pub mail_hide_rules: bool,
    pub mail_with_sample: bool,
    pub mail_subjects: BTreeMap<Event, Template>,
    pub named: BTreeMap<String, Named>,
}

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
pub(crate) fn main_keys() -> Vec<Key> {
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
    list(kind::Kind::Choice { choices }, one).saying(advice).then(|all| Ok(all.into_iter().collect()))
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
    Of::new(kind::Kind::Form { example: "HOST:514" }, read).saying(advice)
}

/// Of `[notify.NAME]`.
pub(crate) fn named_keys() -> Vec<Key> {
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
            some!(server),
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

pub(crate) fn compose(draft: &Draft, report: &mut Report) -> Vec<Channel> {
    let mut channels = Vec::new();
    let fastnetmon: BTreeSet<Event> = Event::FASTNETMON.into();
    let mut add = |name: &str, kind: Kind| {
        channels.push(Channel { name: name.to_owned(), events: fastnetmon.clone(), kind });
    };
    let scripts = [
        ("notify_script", draft.script, &draft.script_path, false),
        ("notify_script_hostgroup", draft.group_script, &draft.group_script_path, true),
    ];
    for (name, _, path, of_groups) in scripts.into_iter().filter(|(_, on, ..)| *on) {
        if !path.starts_with('/') {
            report.add(format!("main.{name}_path"), "write the whole path of the script, beginning with a slash");
        }
        let (path, timeout) = (PathBuf::from(path), Duration::from_secs(draft.script_timeout));
        add(name, Kind::Script { path, format: draft.script_format, of_groups, timeout });
    }
    if draft.callback {
        match &draft.callback_url {
            Some(url) => {
                add("web_callback", Kind::WebHook { url: url.clone(), secret: filled(&draft.callback_secret) });
            }
            None => report.add("main.web_callback_url", "web_callback_enabled is on: write where to post to"),
        }
    }
    if draft.mail {
        add("email", Kind::Mail(compose_mail(draft, report)));
    }
    for (name, named) in draft.named.iter().filter(|(_, named)| named.active) {
        let reserved = ["notify_script", "notify_script_hostgroup", "web_callback", "email"];
        if reserved.contains(&name.as_str()) {
            report.add(format!("notify.{name}"), "this name is that of FastNetMon's keys in [main]: choose another");
        }
        if let Some(kind) = compose_named(name, named, report) {
            channels.push(Channel { name: name.clone(), events: named.events.clone(), kind });
        }
    }
    channels
}

fn filled(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn compose_mail(draft: &Draft, report: &mut Report) -> Mail {
    let is_address = |text: &str| text.split_once('@').is_some_and(|(user, host)| !user.is_empty() && !host.is_empty());
    if !is_address(&draft.mail_from) {
        report.add("main.email_notifications_from", "write the sender's address, such as floodwall@example.net");
    }
    if draft.mail_recipients.is_empty() || !draft.mail_recipients.iter().all(|r| is_address(r)) {
        report.add("main.email_notifications_recipients", "write addresses, such as [\"noc@example.net\"]");
    }
    if draft.mail_host.is_empty() {
        report.add("main.email_notifications_host", "write the name of the mail server");
    }
    if draft.mail_auth && (draft.mail_username.is_empty() || draft.mail_password.is_empty()) {
        report.add(
            "main.email_notifications_auth",
            "a login needs email_notifications_username and email_notifications_password; without one write false",
        );
    }
    if draft.mail_auth && !draft.mail_tls {
        report.add("main.email_notifications_tls", "the password would cross the network in plain text: write true");
    }
    let login = draft.mail_auth.then(|| (draft.mail_username.clone(), draft.mail_password.clone()));
    Mail {
        host: draft.mail_host.clone(),
        port: draft.mail_port,
        tls: draft.mail_tls,
        trust_all: draft.mail_trust_all,
        login,
        from: draft.mail_from.clone(),
        recipients: draft.mail_recipients.clone(),
        subjects: draft.mail_subjects.clone(),
        hide_rules: draft.mail_hide_rules,
        with_sample: draft.mail_with_sample,
    }
}

fn compose_named(name: &str, named: &Named, report: &mut Report) -> Option<Kind> {
    let path = |key: &str| format!("notify.{name}.{key}");
    let Some(kind) = named.kind else {
        report.add(
            path("type"),
            "write type = \"webhook\", \"slack\", \"mattermost\", \"discord\", \"telegram\" or \"syslog\"",
        );
        return None;
    };
    if kind == Type::Chat(Service::Telegram) && (named.token.is_empty() || named.chat.is_empty()) {
        report.add(path("token"), "telegram needs the bot's token and the chat it writes to: set token and chat");
    }
    let url = match (kind, &named.url) {
        (_, Some(url)) => Some(url.clone()),
        (Type::Chat(Service::Telegram), None) => "https://api.telegram.org".parse().ok(),
        (Type::WebHook | Type::Chat(_), None) => {
            report.add(path("url"), "where to? write url = \"https://...\"");
            None
        }
        (Type::Syslog, None) => None,
    };
    let text = named.template.clone();
    Some(match kind {
        Type::WebHook => Kind::WebHook { url: url?, secret: filled(&named.secret) },
        Type::Chat(service) => {
            let mut url = url?;
            if service == Service::Telegram {
                url.path = format!("{}/bot{}/sendMessage", url.path.trim_end_matches('/'), named.token);
            }
            Kind::Chat { service, url, text, chat: named.chat.clone() }
        }
        Type::Syslog => Kind::Syslog { server: named.server.clone()?, text },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_the_web_are_taken_apart() {
        let url = |text: &str| text.parse::<Url>();
        let right = url("https://example.net/hook?a=b").expect("right");
        assert_eq!((right.is_tls, right.port, right.path.as_str()), (true, 443, "/hook?a=b"));
        let right = url("http://[2001:db8::1]:8080").expect("right");
        assert_eq!((right.host.as_str(), right.port, right.path.as_str()), ("2001:db8::1", 8080, "/"));
        assert_eq!(url("http://127.0.0.1:81?x").expect("right").path, "/?x");
        for wrong in
            ["", "example.net", "ftp://x/", "http://", "http://a:0/", "http://u@h/", "http://h/ x", "http://[::1/"]
        {
            assert!(url(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn templates_replace_known_names_and_refuse_others() {
        let template = Template::new("{{ip}} and {{ action }}, {not}").expect("right");
        assert_eq!(template.fill(|name| name.to_uppercase()), "IP and ACTION, {not}");
        assert!(Template::new("{{ nonsense }}").is_err_and(|e| e.contains("summary")));
        assert!(Template::new("{{ ip").is_err());
    }
}
