//! The ACL back end: files in the form that Cumulus Linux reads from `/etc/cumulus/acl/policy.d`, and the command that loads them.
//!
//! ```text
//! [iptables]
//! -A FORWARD --in-interface swp+ -p udp -d 192.168.0.1/32 --sport 123 -j DROP
//! ```
//! One file per rule, numbered in the order of the rules; the files of a batch are written first, then loaded once. When that
//! fails, the files before are restored and loaded again.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::PathBuf;
use std::{fs, io};

use traffic::Prefix;

use super::config::AclConfig;
use super::ruleset::Rule;
use super::{iptables, process};

/// Digits of a file's number: 100,000 files sort as text.
const DIGITS: usize = 5;

/// Makes files of access lists equal to the rules, and runs the reload command.
#[derive(Debug)]
pub(super) struct Acl {
    config: AclConfig,
    /// File name to content, as on disk.
    files: BTreeMap<String, String>,
    /// Whether the switch has taken what is on disk.
    is_loaded: bool,
}

impl Acl {
    pub(super) const fn new(config: AclConfig) -> Self {
        Self { config, files: BTreeMap::new(), is_loaded: false }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.config.directory.join(name)
    }

    fn name(&self, number: usize) -> String {
        let AclConfig { priority, prefix, suffix, .. } = &self.config;
        format!("{priority}{prefix}{number:0DIGITS$}{suffix}")
    }

    /// Our files in the folder.
    pub(super) fn leftovers(&self) -> io::Result<Vec<String>> {
        let AclConfig { priority, prefix, suffix, directory, .. } = &self.config;
        let advice = |e: io::Error| {
            io::Error::new(
                e.kind(),
                format!("cannot read {}: {e}; set acl_directory in [enforcer]", directory.display()),
            )
        };
        let mut found = Vec::new();
        for entry in fs::read_dir(directory).map_err(advice)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            let number =
                name.strip_prefix(&format!("{priority}{prefix}")).and_then(|n| n.strip_suffix(suffix.as_str()));
            if number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit())) {
                found.push(name);
            }
        }
        Ok(found)
    }

    /// Makes the files those of `rules`, in order, and loads them. Returns the rules that cannot be expressed, with the reason.
    #[allow(clippy::type_complexity, reason = "as Enforcer::apply")]
    pub(super) fn apply(
        &mut self,
        rules: &[Rule],
        management: &[Prefix],
    ) -> Result<(BTreeMap<u32, String>, BTreeSet<u32>), String> {
        let mut refused = BTreeMap::new();
        let mut never = BTreeSet::new();
        let mut files = BTreeMap::new();
        let interface = &self.config.interface;
        let guards = iptables::guards(management, interface);
        if !guards.is_empty() && !rules.is_empty() {
            files.insert(self.name(0), guards);
        }
        let mut number = 0;
        for rule in rules {
            match iptables::content(rule, interface) {
                Ok(Some(content)) => {
                    number += 1;
                    files.insert(self.name(number), content);
                }
                Ok(None) => {
                    never.insert(rule.id);
                }
                Err(reason) => {
                    refused.insert(rule.id, format!("the ACL back end cannot express it: {reason}"));
                }
            }
        }
        if files == self.files && self.is_loaded {
            return Ok((refused, never));
        }
        let before = std::mem::take(&mut self.files);
        let result = self.write(&before, &files).map_err(|e| e.to_string()).and_then(|()| self.load());
        if let Err(error) = result {
            // Back to what was in force.
            let restored = self.write(&files, &before).map_err(|e| e.to_string()).and_then(|()| self.load());
            self.files = before;
            let outcome = match restored {
                Ok(()) => "the rules before are in force again".to_owned(),
                Err(second) => format!("restoring the rules before failed as well: {second}"),
            };
            self.is_loaded = false;
            return Err(format!("{error}; {outcome}"));
        }
        self.files = files;
        self.is_loaded = true;
        Ok((refused, never))
    }

    /// Every file is complete under its name or not there: written beside it, then renamed.
    fn write(&self, before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> io::Result<()> {
        let directory = self.config.directory.display();
        let advice = |e: io::Error| io::Error::new(e.kind(), format!("cannot write in {directory}: {e}"));
        let changed: Vec<(&String, &String)> = after.iter().filter(|(n, c)| before.get(*n) != Some(c)).collect();
        let beside = |name: &str| self.path(&format!(".{name}.new"));
        for (name, content) in &changed {
            fs::write(beside(name), content).map_err(advice)?;
        }
        for (name, _) in &changed {
            fs::rename(beside(name), self.path(name)).map_err(advice)?;
        }
        for name in self.leftovers()?.iter().filter(|n| !after.contains_key(*n)) {
            fs::remove_file(self.path(name)).map_err(advice)?;
        }
        Ok(())
    }

    fn load(&self) -> Result<(), String> {
        let Some((program, arguments)) = self.config.reload.split_first() else { return Ok(()) };
        let command = self.config.reload.join(" ");
        let outcome = process::run(OsStr::new(program), arguments, "")
            .map_err(|e| format!("cannot run {command:?}: {e}; set acl_reload in [enforcer]"))?;
        if outcome.success {
            return Ok(());
        }
        let said = [String::from_utf8_lossy(&outcome.stdout).trim().to_owned(), outcome.stderr.trim().to_owned()];
        let said = said.iter().filter(|s| !s.is_empty()).cloned().collect::<Vec<_>>().join("; ");
        Err(format!("{command:?} failed: {}", said.chars().take(500).collect::<String>()))
    }

    /// Removes our files and loads what is left.
    pub(super) fn remove(&mut self) -> Result<(), String> {
        self.files.clear();
        self.write(&BTreeMap::new(), &BTreeMap::new()).map_err(|e| e.to_string())?;
        self.load()
    }
}
