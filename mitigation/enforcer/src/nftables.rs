//! The nftables back end: runs `nft`.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;

use super::model::{Model, TABLE};
use super::process::{self, Outcome};

/// Why the packet filter is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// The program cannot be run.
    #[error("cannot run {program}: {error}; install the nftables package, or set nft in [enforcer]")]
    Run {
        /// Its name.
        program: String,
        /// The system's reason.
        error: io::Error,
    },
    /// It refused a script; nothing of it is in force.
    #[error("nft refused: {message}")]
    Refused {
        /// Its first complaint.
        message: String,
        /// Numbers of the rules it complained about, if it named any.
        rules: BTreeSet<u32>,
    },
}

/// Maps that one run of `nft` lists at most: an argument has a limited length.
const LISTED_AT_ONCE: usize = 200;

/// Makes the kernel's table equal to a [`Model`], one transaction per change.
#[derive(Debug)]
pub struct Nftables {
    program: OsString,
    /// What the kernel holds, as far as we know.
    installed: Option<Model>,
}

impl Nftables {
    /// With this `nft` program.
    #[must_use]
    pub fn new(program: impl Into<OsString>) -> Self {
        Self { program: program.into(), installed: None }
    }

    fn run(&self, arguments: &[&str], input: &str) -> Result<Outcome, NftError> {
        process::run(&self.program, arguments, input)
            .map_err(|error| NftError::Run { program: self.program.to_string_lossy().into_owned(), error })
    }

    fn script(&self, script: &str) -> Result<(), NftError> {
        let outcome = self.run(&["-f", "-"], script)?;
        if outcome.success { Ok(()) } else { Err(refusal(script, &outcome.stderr)) }
    }

    /// Whether a run that did not end cleanly left our table behind.
    ///
    /// # Errors
    /// See [`NftError`]; also without the right to change the packet filter.
    pub fn has_leftovers(&self) -> Result<bool, NftError> {
        let outcome = self.run(&["list", "tables"], "")?;
        if !outcome.success {
            return Err(refusal("", &outcome.stderr));
        }
        Ok(String::from_utf8_lossy(&outcome.stdout).lines().any(|l| l.trim() == format!("table {TABLE}")))
    }

    /// Makes the kernel's table equal to `model`, in one transaction.
    ///
    /// # Errors
    /// See [`NftError`]; the kernel then holds what it held.
    pub fn apply(&mut self, model: &Model) -> Result<(), NftError> {
        let Some(before) = &self.installed else {
            self.script(&model.script())?;
            self.installed = Some(model.clone());
            return Ok(());
        };
        let difference = model.difference(before);
        if difference.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.script(&difference) {
            if matches!(&error, NftError::Refused { rules, .. } if !rules.is_empty()) {
                return Err(error);
            }
            // Perhaps the table is not what we think it is (somebody flushed it): make it from nothing.
            self.script(&model.script())?;
        }
        self.installed = Some(model.clone());
        Ok(())
    }

    /// Whether our table is still in the kernel; if not, [`Nftables::apply`] makes it from nothing.
    pub fn check(&mut self) -> bool {
        let is_there = self.run(&["-t", "list", "table", "inet", "floodwall"], "").is_ok_and(|o| o.success);
        if !is_there {
            self.installed = None;
        }
        is_there
    }

    /// Removes everything of ours.
    ///
    /// # Errors
    /// See [`NftError`].
    pub fn remove(&mut self) -> Result<(), NftError> {
        self.installed = None;
        self.script(&Model::removal())
    }

    /// Packets and bytes by rule number, since the rule was installed or moved inside the table.
    ///
    /// # Errors
    /// See [`NftError`].
    pub fn counters(&self) -> Result<BTreeMap<u32, (u64, u64)>, NftError> {
        let Some(model) = &self.installed else { return Ok(BTreeMap::new()) };
        let mut commands = vec![format!("list counters table {TABLE}")];
        commands.extend(model.counting_maps().map(|name| format!("list map {TABLE} {name}")));
        let mut read = Vec::new();
        // As arguments: nft 1.0.6 prints nothing when it reads list commands from a file.
        for some in commands.chunks(LISTED_AT_ONCE) {
            let outcome = self.run(&["-j", &some.join("; ")], "")?;
            if !outcome.success {
                return Err(refusal("", &outcome.stderr));
            }
            read.extend(outcome.stdout);
        }
        Ok(read_counters(&read))
    }
}

/// The first complaint of `nft`, and the rules in the lines it complained about.
fn refusal(script: &str, stderr: &str) -> NftError {
    let lines: Vec<&str> = script.lines().collect();
    let mut rules = BTreeSet::new();
    let mut message = None;
    for complaint in stderr.lines() {
        // "/dev/stdin:LINE:FROM-TO: Error: TEXT"
        let mut parts = complaint.splitn(4, ':');
        let number = parts.nth(1).and_then(|n| n.parse::<usize>().ok());
        let Some(text) = complaint.split_once("Error: ").map(|(_, text)| text) else { continue };
        let line = number.and_then(|n| lines.get(n.checked_sub(1)?)).copied();
        message.get_or_insert_with(|| match line {
            Some(line) => format!("{text} in: {}", line.chars().take(200).collect::<String>()),
            None => text.to_owned(),
        });
        // A command with many elements is not the fault of them all: those are found one by one.
        let found = line.map(rule_numbers).unwrap_or_default();
        rules.extend(found);
    }
    let first = || stderr.lines().find(|l| !l.trim().is_empty()).unwrap_or("no reason given").to_owned();
    NftError::Refused { message: message.unwrap_or_else(first), rules }
}

/// Rule numbers in a line of a script: words that are `r`, `a` or `l` and a number.
fn rule_numbers(line: &str) -> BTreeSet<u32> {
    line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter_map(|word| {
            let number = word.strip_prefix(['r', 'a', 'l'])?;
            let digits = number.bytes().take_while(u8::is_ascii_digit).count();
            number[..digits].parse().ok()
        })
        .collect()
}

fn read_counters(json: &[u8]) -> BTreeMap<u32, (u64, u64)> {
    let mut found: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
    let mut add = |name: &serde_json::Value, counter: &serde_json::Value| {
        let id = name.as_str().and_then(|n| n.strip_prefix('r')?.parse().ok());
        let number = |key: &str| counter[key].as_u64().unwrap_or(0);
        if let Some(id) = id {
            let sum: &mut (u64, u64) = found.entry(id).or_default();
            *sum = (sum.0 + number("packets"), sum.1 + number("bytes"));
        }
    };
    for document in serde_json::Deserializer::from_slice(json).into_iter::<serde_json::Value>() {
        let Ok(document) = document else { break };
        for item in document["nftables"].as_array().into_iter().flatten() {
            add(&item["counter"]["name"], &item["counter"]);
            for pair in item["map"]["elem"].as_array().into_iter().flatten() {
                add(&pair[0]["elem"]["comment"], &pair[0]["elem"]["counter"]);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_names_the_rules_of_its_line() {
        let script = "add table inet floodwall\nadd rule inet floodwall v4 th sport 1 counter name r17 jump a17\n";
        let stderr = "/dev/stdin:2:1-5: Error: Could not process rule: Operation not supported\nadd rule ...\n^^^^\n";
        let NftError::Refused { message, rules } = refusal(script, stderr) else { panic!("a refusal") };
        assert_eq!(rules, BTreeSet::from([17]));
        assert!(message.starts_with("Could not process rule: Operation not supported in: add rule"), "{message}");
    }

    #[test]
    fn counters_of_objects_and_of_map_elements_are_summed_by_rule() {
        let json = br#"{"nftables": [{"counter": {"name": "r3", "packets": 5, "bytes": 500}}]}
            {"nftables": [{"map": {"elem": [[{"elem": {"val": 1, "comment": "r4", "counter": {"packets": 1, "bytes": 9}}},
            {"drop": null}], [{"elem": {"val": 2, "comment": "r4", "counter": {"packets": 2, "bytes": 9}}}, {"drop": null}]]}}]}"#;
        assert_eq!(read_counters(json), BTreeMap::from([(3, (5, 500)), (4, (3, 18))]));
    }
}
