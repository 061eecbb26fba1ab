//! Templates and sampling rates on disk, so that exports can be read from the first datagram after a restart.
//!
//! One JSON document, replaced as a whole. What it holds passes the same checks and limits as what comes from the network.

use std::fs;
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::Path;

use serde::{Deserialize, Serialize};
use traffic::Time;

use crate::domain::DomainKey;
use crate::plan::{Declared, MAX_FIELDS, Template};
use crate::sampling::Sampler;
use crate::template::{Domain, MAX_SAMPLERS, MAX_TEMPLATES, Templates};

/// Version of the document.
const VERSION: u32 = 1;
/// Largest file that is read, in bytes.
const LARGEST: u64 = 64 << 20;

#[derive(Debug, Serialize, Deserialize)]
struct Document {
    version: u32,
    domains: Vec<DomainState>,
}

#[derive(Debug, Serialize, Deserialize)]
struct DomainState {
    exporter: IpAddr,
    version: u16,
    domain: u32,
    templates: Vec<TemplateState>,
    /// Sampler and rate.
    rates: Vec<(SamplerState, u32)>,
    /// Selection sequence and its selector.
    sequences: Vec<(u64, u64)>,
    active_timeout_s: u32,
    idle_timeout_s: u32,
}

#[derive(Debug, Serialize, Deserialize)]
struct TemplateState {
    id: u16,
    is_options: bool,
    /// Enterprise, element, length.
    fields: Vec<Declared>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum SamplerState {
    Id(u64),
    Interface(u32),
    All,
}

/// Writes all templates and rates; the file is replaced at once, or not at all.
///
/// # Errors
/// Those of the file system.
pub fn save(templates: &Templates, path: &Path) -> io::Result<()> {
    let mut domains: Vec<DomainState> = templates.known().iter().filter_map(|(key, d)| describe(*key, d)).collect();
    domains.sort_by_key(|d| (d.exporter, d.version, d.domain));
    let text = serde_json::to_vec(&Document { version: VERSION, domains })?;
    let new = path.with_extension("new");
    let mut file = fs::File::create(&new)?;
    file.write_all(&text)?;
    file.sync_all()?;
    fs::rename(&new, path)
}

fn describe(key: DomainKey, domain: &Domain) -> Option<DomainState> {
    let snapshot = domain.snapshot();
    let sampling = &snapshot.sampling;
    let rates: Vec<(SamplerState, u32)> = sampling
        .announced()
        .map(|(sampler, rate)| match sampler {
            Sampler::Id(id) => (SamplerState::Id(id), rate),
            Sampler::Interface(index) => (SamplerState::Interface(index), rate),
            Sampler::All => (SamplerState::All, rate),
        })
        .collect();
    if snapshot.templates.is_empty() && rates.is_empty() {
        return None;
    }
    Some(DomainState {
        exporter: key.exporter,
        version: key.version,
        domain: key.domain,
        templates: snapshot
            .templates
            .iter()
            .map(|(id, t)| TemplateState { id: *id, is_options: t.is_options, fields: t.declared().to_vec() })
            .collect(),
        rates,
        sequences: sampling.sequences().collect(),
        active_timeout_s: sampling.active_timeout,
        idle_timeout_s: sampling.idle_timeout,
    })
}

/// Reads what [`save`] wrote; returns how many templates were learned. A file that is not there is no error.
///
/// # Errors
/// Those of the file system, or that the file is not such a document.
pub fn load(templates: &Templates, now: Time, path: &Path) -> io::Result<usize> {
    let size = match fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    if size > LARGEST {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the file is larger than 64 MiB"));
    }
    let document: Document = serde_json::from_slice(&fs::read(path)?)?;
    if document.version != VERSION {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("version {} is not known", document.version)));
    }
    Ok(document.domains.into_iter().map(|domain| restore(templates, now, domain)).sum())
}

fn restore(templates: &Templates, now: Time, state: DomainState) -> usize {
    let key = DomainKey { exporter: state.exporter, version: state.version, domain: state.domain };
    let Some(domain) = templates.domain(now, key) else { return 0 };
    let mut learned = 0;
    for template in state.templates.into_iter().take(MAX_TEMPLATES) {
        if template.fields.len() <= MAX_FIELDS
            && template.id > 255
            && let Some(plan) = Template::compile(&template.fields, template.is_options)
        {
            learned += usize::from(templates.store(&domain, template.id, plan));
        }
    }
    for (sampler, rate) in state.rates.into_iter().take(MAX_SAMPLERS).filter(|(_, rate)| *rate > 0) {
        let sampler = match sampler {
            SamplerState::Id(id) => Sampler::Id(id),
            SamplerState::Interface(index) => Sampler::Interface(index),
            SamplerState::All => Sampler::All,
        };
        domain.set_rate(sampler, rate);
    }
    state
        .sequences
        .into_iter()
        .take(MAX_SAMPLERS)
        .for_each(|(sequence, selector)| domain.set_sequence(sequence, selector));
    domain.set_timeouts(state.active_timeout_s, state.idle_timeout_s);
    learned
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sampling::Named;

    fn key() -> DomainKey {
        DomainKey { exporter: "2001:db8::1".parse().expect("literal"), version: 10, domain: 7 }
    }

    #[test]
    fn what_is_saved_is_known_after_a_restart() {
        let folder = std::env::temp_dir().join(format!("floodwall-templates-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("creates");
        let path = folder.join("templates.json");
        let before = Templates::default();
        let domain = before.domain(Time(1), key()).expect("room");
        let plan = || Template::compile(&[(0, 8, 4), (29_305, 1, 8), (0, 82, 0xffff)], false).expect("valid");
        assert!(before.store(&domain, 300, plan()));
        domain.set_rate(Sampler::Id(3), 1000);
        domain.set_rate(Sampler::All, 10);
        domain.set_sequence(9, 3);
        domain.set_timeouts(60, 15);
        save(&before, &path).expect("saves");
        let after = Templates::default();
        assert_eq!(load(&after, Time(2), &path).expect("loads"), 1);
        let snapshot = after.domain(Time(2), key()).expect("there").snapshot();
        assert_eq!(*snapshot.templates[&300], plan());
        assert_eq!(snapshot.sampling, domain.snapshot().sampling);
        assert_eq!(snapshot.sampling.rate(Named { sequence: Some(9), ..Named::default() }), Some(1000));
        assert_eq!(load(&after, Time(2), &folder.join("absent")).expect("nothing"), 0);
        fs::write(&path, "{\"version\":1}").expect("writes");
        assert!(load(&after, Time(2), &path).is_err());
        fs::remove_dir_all(&folder).expect("removes");
    }
}
