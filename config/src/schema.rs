//! The table of keys: where each stands, what it takes, its default, its meaning, who may set it, and where its value is stored.
//!
//! A subject (a peer, the sources of traffic, notifications) is a file of its own: the structure of what is written, its keys, and
//! what becomes of them. To add a key, add the field, the key and its use there; [`keys`] lists the files, [`Draft`] their
//! structures. Check, advice, `reference.toml`, completion and `/api/v1/config/schema` follow from the key.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use serde::Serialize;

use crate::kind::{Kind, Of, Read};
use crate::value::Value;

/// Where a key stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    /// `[main]`
    Main,
    /// `[hostgroup.NAME]`
    HostGroup,
    /// `[traffic_rule.NAME]`
    TrafficRule,
    /// `[whitelist.NAME]`
    Whitelist,
    /// `[bgp.NAME]`
    Bgp,
    /// `[notify.NAME]`
    Notify,
    /// `[api]`
    Api,
    /// `[state]`
    State,
    /// `[enforcer]`
    Enforcer,
    /// `[enforcer_peer.NAME]`
    EnforcerPeer,
}

impl Section {
    /// All sections in the order of the reference.
    pub const ALL: [Self; 10] = [
        Self::Main,
        Self::HostGroup,
        Self::TrafficRule,
        Self::Whitelist,
        Self::Bgp,
        Self::Notify,
        Self::Api,
        Self::State,
        Self::Enforcer,
        Self::EnforcerPeer,
    ];

    /// Name in the file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Main => "main",
            Self::HostGroup => "hostgroup",
            Self::TrafficRule => "traffic_rule",
            Self::Whitelist => "whitelist",
            Self::Bgp => "bgp",
            Self::Notify => "notify",
            Self::Api => "api",
            Self::State => "state",
            Self::Enforcer => "enforcer",
            Self::EnforcerPeer => "enforcer_peer",
        }
    }

    /// Whether it has one table per name.
    #[must_use]
    pub const fn is_named(self) -> bool {
        matches!(
            self,
            Self::HostGroup | Self::TrafficRule | Self::Whitelist | Self::Bgp | Self::Notify | Self::EnforcerPeer
        )
    }
}

/// The scope that setting a key takes (decision 40).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Needs {
    /// An editor of thresholds will do.
    Config,
    /// It decides what programs are run, what is told to whom, or who gets in.
    Admin,
}

/// A name that FastNetMon has for a key; `floodwall import` goes by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Alias {
    /// As FastNetMon spells it.
    pub name: &'static str,
    /// What of it holds for the key.
    pub holds: Holds,
    /// What the report of an import says of it, where there is something to say.
    pub note: &'static str,
}

/// What of an alias holds for its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// Its value.
    Value,
    /// Its value, unless it is this one, which is the default.
    Unless(&'static str),
    /// That it is on: then the key is too.
    On,
    /// Its value, for each peer that has none of its own: there it stands in the main part.
    ForPeers,
}

/// What a value becomes when it is stored: read already, and in range.
type Store = Box<dyn FnOnce(&mut Draft, &str)>;

/// A key of the file.
pub struct Key {
    /// Its section.
    pub section: Section,
    /// Its name.
    pub name: String,
    /// What it takes.
    pub kind: Kind,
    /// Its default as TOML; `None` when absence has a meaning of its own.
    pub default: Option<String>,
    /// What it means, with its unit.
    pub meaning: String,
    /// Who may set it.
    pub needs: Needs,
    /// FastNetMon's names for it, where they are others.
    pub aliases: Vec<Alias>,
    /// What to write instead of a value of a type that no key takes.
    pub(crate) advice: String,
    read: Box<Read<Store>>,
}

impl Key {
    /// The same for scope admin alone.
    pub(crate) fn admin(self) -> Self {
        Self { needs: Needs::Admin, ..self }
    }

    /// The same with one more name in FastNetMon.
    pub(crate) fn alias(self, name: &'static str) -> Self {
        self.known_as(name, Holds::Value, "")
    }

    pub(crate) fn known_as(mut self, name: &'static str, holds: Holds, note: &'static str) -> Self {
        self.aliases.push(Alias { name, holds, note });
        self
    }

    /// Checks a value's type and range.
    ///
    /// # Errors
    /// What to write instead.
    pub(crate) fn read(&self, value: &Value) -> Result<Store, String> {
        (self.read)(value)
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.section.name(), self.name)
    }
}

/// A key from what it takes and where that is stored; `default` is empty when absence has a meaning of its own.
pub(crate) fn key<T: 'static>(
    section: Section,
    name: &str,
    default: &str,
    meaning: &str,
    of: Of<T>,
    set: impl Fn(&mut Draft, &str, T) + Send + Sync + 'static,
) -> Key {
    let Of { kind, advice, read } = of;
    let set = Arc::new(set);
    Key {
        section,
        name: name.to_owned(),
        kind,
        default: (!default.is_empty()).then(|| default.to_owned()),
        meaning: meaning.to_owned(),
        needs: Needs::Config,
        aliases: Vec::new(),
        advice,
        read: Box::new(move |value| {
            let value = read(value)?;
            let set = Arc::clone(&set);
            Ok(Box::new(move |draft, instance| set(draft, instance, value)))
        }),
    }
}

/// Stores a value in a field.
macro_rules! set {
    ($($field:tt).+) => {
        |target, value| target.$($field).+ = value
    };
}

/// Stores a value where absence has a meaning of its own.
macro_rules! some {
    ($($field:ident).+) => {
        |target, value| target.$($field).+ = Some(value)
    };
}

pub(crate) use {set, some};

static KEYS: LazyLock<Vec<Key>> = LazyLock::new(all_keys);

/// Every key, in the order of the reference.
#[must_use]
pub fn keys() -> &'static [Key] {
    &KEYS
}

/// A key by its place.
#[must_use]
pub fn find(section: Section, name: &str) -> Option<&'static Key> {
    keys().iter().find(|key| key.section == section && key.name == name)
}

fn all_keys() -> Vec<Key> {
    let mut keys = crate::counting::network_keys();
    keys.extend(crate::announcing::ban_keys());
    keys.push(crate::counting::end_key());
    keys.extend(crate::announcing::limit_keys());
    keys.extend(crate::counting::keys());
    keys.push(crate::process::log_key());
    keys.extend(crate::announcing::flow_spec_keys());
    keys.extend(crate::announcing::safety_keys());
    keys.extend(crate::collecting::keys());
    keys.extend(crate::hostgroup::keys());
    keys.extend(crate::detection::traffic_rule_keys());
    keys.extend(crate::detection::whitelist_keys());
    keys.extend(crate::peer::keys());
    keys.extend(crate::api::ban2bgp_keys().into_iter().map(Key::admin));
    keys.extend(crate::notify::main_keys());
    keys.extend(crate::export::main_keys());
    keys.extend(crate::notify::named_keys());
    keys.extend(crate::api::keys().into_iter().map(Key::admin));
    keys.extend(crate::process::keys());
    keys.extend(crate::api::history_keys());
    keys.extend(crate::enforcer::keys());
    keys
}

/// The file as written, typed but not yet checked as a whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    /// Our networks, and what is an attack.
    pub counting: crate::counting::Counting,
    /// What is announced.
    pub announcing: crate::announcing::Announcing,
    /// Log, state, control socket.
    pub process: crate::process::Process,
    /// Sources of traffic.
    pub collecting: crate::collecting::Collecting,
    /// The HTTP listeners and the history.
    pub api: crate::api::Draft,
    /// Where rates go.
    pub export: crate::export::Draft,
    /// Who is told.
    pub notify: crate::notify::Draft,
    /// Host groups by name; `global` is always there.
    pub groups: BTreeMap<String, crate::hostgroup::Group>,
    /// Traffic rules by name.
    pub traffic_rules: BTreeMap<String, crate::detection::TrafficRule>,
    /// Whitelist entries by name.
    pub whitelists: BTreeMap<String, crate::detection::Whitelist>,
    /// BGP peers by name.
    pub bgp: BTreeMap<String, crate::peer::Bgp>,
    /// `[enforcer]`.
    pub enforcer: crate::enforcer::Enforcer,
    /// Whom the enforcer takes rules from, by name.
    pub enforcer_peers: BTreeMap<String, crate::enforcer::EnforcerPeer>,
}

impl Draft {
    /// What an empty file says: everything at its default.
    #[must_use]
    pub fn new() -> Self {
        static EMPTY: LazyLock<Draft> = LazyLock::new(|| {
            let mut draft = Draft::unset();
            for section in Section::ALL.into_iter().filter(|s| !s.is_named() || *s == Section::HostGroup) {
                draft.fill(section, "global");
            }
            draft
        });
        EMPTY.clone()
    }

    fn unset() -> Self {
        Self {
            counting: crate::counting::Counting::default(),
            announcing: crate::announcing::Announcing::default(),
            process: crate::process::Process::default(),
            collecting: crate::collecting::Collecting::default(),
            api: crate::api::Draft::default(),
            export: crate::export::Draft::default(),
            notify: crate::notify::Draft::default(),
            groups: BTreeMap::from([("global".to_owned(), crate::hostgroup::Group::default())]),
            traffic_rules: BTreeMap::new(),
            whitelists: BTreeMap::new(),
            bgp: BTreeMap::new(),
            enforcer: crate::enforcer::Enforcer::default(),
            enforcer_peers: BTreeMap::new(),
        }
    }

    /// Makes a table of a section with names, all at its default; but a host group inherits what it leaves out.
    pub(crate) fn add(&mut self, section: Section, name: &str) {
        if section == Section::HostGroup {
            self.groups.entry(name.to_owned()).or_default();
        } else {
            self.fill(section, name);
        }
    }

    /// Stores the defaults of a section's keys.
    fn fill(&mut self, section: Section, name: &str) {
        for key in keys().iter().filter(|key| key.section == section) {
            let Some(default) = &key.default else { continue };
            match key.read(&Value::of_default(default)) {
                Ok(store) => store(self, name),
                Err(problem) => unreachable!("default of {key:?}: {problem}"),
            }
        }
    }
}

impl Default for Draft {
    fn default() -> Self {
        Self::new()
    }
}
