//! [`Enforcer`]: keeps a back end equal to what the sources announce. Blocking: it runs programs and writes files.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::Arc;

use bgp::adj_rib_in::AdjRibIn;
use traffic::Time;

use super::acl::Acl;
use super::config::{BackEndConfig, Config};
use super::model::Model;
use super::nftables::{NftError, Nftables};
use super::redirect;
use super::ruleset::{self, Frame, Hook, Rule};
use super::table::{State, Table};

/// Nested refusals are looked into this often per change; then the rest waits for the next.
const MAX_ATTEMPTS: usize = 64;

/// What carries rules out.
enum BackEnd {
    Nftables(Nftables),
    Acl(Acl),
    Print(Model, Box<dyn Write + Send>),
}

/// Traffic that matched a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Hits {
    /// Before the counter last began anew.
    earlier: (u64, u64),
    /// What the counter last showed.
    now: (u64, u64),
}

/// A rule for people and programs.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct RuleStatus {
    /// Number of the rule; `r17` and `a17` in `nft list table inet floodwall`.
    pub id: u32,
    /// Source it was taken from.
    pub peer: String,
    /// Further sources that announced it.
    pub also: Vec<String>,
    /// The rule, as `Route` writes it.
    pub rule: String,
    /// Its actions as announced.
    pub actions: Vec<String>,
    /// What happens to matching packets here; empty if nothing does.
    pub carried_out: String,
    /// `installed`, `pending` or `not installed`.
    pub state: String,
    /// Why it is not installed.
    pub reason: Option<String>,
    /// Packets that matched since it was installed.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// When it was announced, in seconds since the Unix epoch.
    pub since: f64,
    /// Of a session that was lost, kept for graceful restart.
    pub stale: bool,
}

/// The enforcer for people and programs.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct EnforcerStatus {
    /// `nftables`, `acl` or `print`.
    pub backend: String,
    /// Where packets are looked at.
    pub hook: String,
    /// Rules installed.
    pub installed: usize,
    /// Rules not installed.
    pub not_installed: usize,
    /// Changes carried out since the start.
    pub changes: u64,
    /// Changes that the back end refused or could not carry out.
    pub failures: u64,
    /// Why the back end is not as it should be now.
    pub error: Option<String>,
    /// How long the last change took, in milliseconds.
    pub last_change_ms: f64,
    /// Rules in the order in which they are looked at.
    pub rules: Vec<RuleStatus>,
}

/// Keeps this host's packet filter equal to the rules that were received.
pub struct Enforcer {
    config: Config,
    backend: BackEnd,
    table: Table,
    hits: BTreeMap<u32, Hits>,
    changes: u64,
    failures: u64,
    error: Option<String>,
    last_change_ms: f64,
    clock: Box<dyn Fn() -> Time + Send>,
}

impl std::fmt::Debug for Enforcer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Enforcer").field("table", &self.table).finish_non_exhaustive()
    }
}

impl Enforcer {
    /// Starts from a clean state: what a run left that did not end cleanly is replaced. Returns what was found.
    ///
    /// # Errors
    /// The back end cannot be used at all: says what to do.
    pub fn start(config: Config, clock: Box<dyn Fn() -> Time + Send>) -> Result<(Self, Option<String>), String> {
        let mut leftovers = None;
        let backend = match &config.backend {
            BackEndConfig::Nftables { nft } => {
                let nftables = Nftables::new(nft);
                if nftables.has_leftovers().map_err(|e| e.to_string())? {
                    leftovers = Some("table inet floodwall of a run that did not end cleanly: replaced".to_owned());
                }
                BackEnd::Nftables(nftables)
            }
            BackEndConfig::Acl(acl) => {
                let acl = Acl::new(acl.clone());
                let files = acl.leftovers().map_err(|e| e.to_string())?;
                if !files.is_empty() {
                    leftovers = Some(format!("{} ACL files of a run that did not end cleanly: replaced", files.len()));
                }
                BackEnd::Acl(acl)
            }
            BackEndConfig::Print => BackEnd::Print(Model::default(), Box::new(std::io::stdout())),
        };
        let table = Table::default();
        let mut enforcer = Self {
            config,
            backend,
            table,
            hits: BTreeMap::new(),
            changes: 0,
            failures: 0,
            error: None,
            last_change_ms: 0.0,
            clock,
        };
        if matches!(enforcer.backend, BackEnd::Nftables(_)) {
            redirect::set_up(&enforcer.config.redirects)?;
        }
        enforcer.reconcile(&BTreeMap::new());
        match &enforcer.error {
            Some(error) => Err(error.clone()),
            None => Ok((enforcer, leftovers)),
        }
    }

    /// Makes the back end equal to what the sources announce.
    pub fn reconcile(&mut self, tables: &BTreeMap<String, Arc<AdjRibIn>>) {
        let start = (self.clock)();
        let mut rules = self.table.update(&self.config, tables);
        let live: BTreeSet<u32> = self.table.entries().values().map(|e| e.id).collect();
        self.hits.retain(|id, _| live.contains(id));
        let mut result = Ok(());
        for _ in 0..MAX_ATTEMPTS {
            match self.apply(&rules) {
                Ok((refused, never)) => {
                    self.table.refuse(refused);
                    self.table.installed(&never);
                    result = Ok(());
                    break;
                }
                Err(Failure::Rules(message, suspects)) => {
                    self.failures += 1;
                    let guilty = self.find_guilty(&rules, &suspects, &message);
                    self.table.refuse(guilty);
                    rules = self.table.wanted();
                    result = Err(message);
                }
                Err(Failure::All(message)) => {
                    self.failures += 1;
                    result = Err(message);
                    break;
                }
            }
        }
        match result {
            Ok(()) => {
                self.changes += 1;
                self.error = None;
            }
            Err(message) => {
                self.table.failed(&message);
                self.error = Some(message);
            }
        }
        self.last_change_ms = (self.clock)().since(start).as_secs_f64() * 1000.0;
    }

    /// Hands rules to the back end. Returns those it cannot express, and those that never match.
    fn apply(&mut self, rules: &[Rule]) -> Result<(BTreeMap<u32, String>, BTreeSet<u32>), Failure> {
        let frame = self.frame();
        match &mut self.backend {
            BackEnd::Nftables(nftables) => {
                let (model, never) = ruleset::compile(rules, &frame);
                nftables.apply(&model)?;
                Ok((BTreeMap::new(), never))
            }
            BackEnd::Acl(acl) => acl.apply(rules, &self.config.management).map_err(Failure::All),
            BackEnd::Print(before, out) => {
                let (model, never) = ruleset::compile(rules, &frame);
                let script = model.difference(before);
                if !script.is_empty() {
                    let written = writeln!(out, "{script}").and_then(|()| out.flush());
                    written.map_err(|e| Failure::All(format!("cannot write to standard output: {e}")))?;
                }
                *before = model;
                Ok((BTreeMap::new(), never))
            }
        }
    }

    /// Which of the suspects the back end refuses: the others are installed in groups that are halved until the guilty stand alone.
    fn find_guilty(&mut self, rules: &[Rule], suspects: &BTreeSet<u32>, message: &str) -> BTreeMap<u32, String> {
        let refusal = |message: &str| format!("the packet filter refused it: {message}");
        if suspects.len() <= 1 {
            return suspects.iter().map(|id| (*id, refusal(message))).collect();
        }
        let mut guilty = BTreeMap::new();
        let mut innocent: BTreeSet<u32> = rules.iter().map(|r| r.id).filter(|id| !suspects.contains(id)).collect();
        let mut groups: Vec<Vec<u32>> = vec![suspects.iter().copied().collect()];
        for _ in 0..MAX_ATTEMPTS * 16 {
            let Some(group) = groups.pop() else { break };
            let tried: Vec<Rule> =
                rules.iter().filter(|r| innocent.contains(&r.id) || group.contains(&r.id)).cloned().collect();
            match self.apply(&tried) {
                Ok(_) => innocent.extend(group),
                Err(Failure::Rules(message, _) | Failure::All(message)) => match &group[..] {
                    [one] => {
                        guilty.insert(*one, refusal(&message));
                    }
                    many => {
                        let (a, b) = many.split_at(many.len() / 2);
                        groups.extend([a.to_vec(), b.to_vec()]);
                    }
                },
            }
        }
        guilty.extend(groups.into_iter().flatten().map(|id| (id, refusal(message))));
        guilty
    }

    fn frame(&self) -> Frame {
        let config = &self.config;
        let mut sessions = BTreeSet::new();
        for source in &config.sources {
            let listening = config.listen.map(|l| l.ip()).filter(|ip| !ip.is_unspecified());
            let ours = source.local_address.or(listening).filter(|ip| ip.is_ipv4() == source.remote_address.is_ipv4());
            sessions.extend(config.listen.map(|l| (source.remote_address, l.port(), ours)));
            sessions.insert((source.remote_address, source.remote_port, ours));
        }
        Frame { hook: config.hook.clone(), priority: config.priority, sessions, management: config.management.clone() }
    }

    /// Whether the back end still holds what it should; makes it so if not. Returns what was found.
    pub fn check(&mut self, tables: &BTreeMap<String, Arc<AdjRibIn>>) -> Option<String> {
        let lost = match &mut self.backend {
            BackEnd::Nftables(nftables) => !nftables.check(),
            BackEnd::Acl(_) | BackEnd::Print(..) => false,
        };
        if !lost && self.error.is_none() {
            return None;
        }
        let found = lost.then(|| "table inet floodwall was removed by somebody else: made again".to_owned());
        self.reconcile(tables);
        found
    }

    /// Reads the counters.
    pub fn count(&mut self) {
        let BackEnd::Nftables(nftables) = &self.backend else { return };
        let Ok(read) = nftables.counters() else { return };
        for (id, now) in read {
            let hits = self.hits.entry(id).or_default();
            // A rule that moved inside the table counts from zero again.
            if now.0 < hits.now.0 {
                hits.earlier = (hits.earlier.0 + hits.now.0, hits.earlier.1 + hits.now.1);
            }
            hits.now = now;
        }
    }

    /// The state of everything.
    #[must_use]
    pub fn status(&self) -> EnforcerStatus {
        let (backend, hook) = match &self.config.backend {
            BackEndConfig::Nftables { .. } => ("nftables", hook_name(&self.config.hook)),
            BackEndConfig::Acl(_) => ("acl", "forward"),
            BackEndConfig::Print => ("print", hook_name(&self.config.hook)),
        };
        let rules: Vec<RuleStatus> = self.table.entries().values().map(|e| self.rule_status(e)).collect();
        let installed = rules.iter().filter(|r| r.state == "installed").count();
        EnforcerStatus {
            backend: backend.to_owned(),
            hook: hook.to_owned(),
            installed,
            not_installed: rules.len() - installed,
            changes: self.changes,
            failures: self.failures,
            error: self.error.clone(),
            last_change_ms: self.last_change_ms,
            rules,
        }
    }

    fn rule_status(&self, entry: &super::table::Entry) -> RuleStatus {
        let hits = self.hits.get(&entry.id).copied().unwrap_or_default();
        let (state, reason) = match &entry.state {
            State::Installed => ("installed", None),
            State::Pending => ("pending", None),
            State::NotInstalled(reason) => ("not installed", Some(reason.clone())),
        };
        let attributes = &entry.learned.attributes;
        let unknown = attributes.unknown_actions.iter().map(|kind| format!("action {kind:#06x}"));
        let carried_out = match (&entry.plan, &entry.state) {
            (Some(plan), State::Installed) => plan.to_string(),
            _ => String::new(),
        };
        RuleStatus {
            id: entry.id,
            peer: entry.source.clone(),
            also: entry.also.clone(),
            rule: format!("flow {}", entry.learned.flow.pattern),
            actions: attributes.actions.iter().map(ToString::to_string).chain(unknown).collect(),
            carried_out,
            state: state.to_owned(),
            reason,
            packets: hits.earlier.0 + hits.now.0,
            bytes: hits.earlier.1 + hits.now.1,
            since: entry.learned.since.as_seconds(),
            stale: entry.learned.stale,
        }
    }

    /// Removes everything of ours.
    ///
    /// # Errors
    /// What could not be removed and why.
    pub fn stop(mut self) -> Result<(), String> {
        match &mut self.backend {
            BackEnd::Nftables(nftables) => {
                redirect::tear_down(&self.config.redirects);
                nftables.remove().map_err(|e| e.to_string())
            }
            BackEnd::Acl(acl) => acl.remove(),
            BackEnd::Print(..) => Ok(()),
        }
    }
}

const fn hook_name(hook: &Hook) -> &'static str {
    match hook {
        Hook::Forward => "forward",
        Hook::Input => "input",
        Hook::Prerouting => "prerouting",
        Hook::Ingress(_) => "ingress",
    }
}

/// Why a change was not carried out.
enum Failure {
    /// Because of some of these rules.
    Rules(String, BTreeSet<u32>),
    /// Whatever the rules.
    All(String),
}

impl From<NftError> for Failure {
    fn from(error: NftError) -> Self {
        match error {
            NftError::Refused { message, rules } if !rules.is_empty() => Self::Rules(message, rules),
            error @ (NftError::Refused { .. } | NftError::Run { .. }) => Self::All(error.to_string()),
        }
    }
}
