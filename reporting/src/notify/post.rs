//! [`Post`]: the notify thread. One queue per channel, in order, with back-off; a channel that fails delays no other.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use config::notify::{Channel, Event, Kind};
use operator::clock;
use operator::report::Entry;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use traffic::Time;

use super::deliver::{self, Failure};
use super::outbox::{MAX_TOLD, MAX_WAITING, Outbox};
use super::{Facts, Job, Message, Troubles, dump, message};
use crate::case::Case;

/// Scripts of one channel at once at most; never two of one address.
pub const MAX_SCRIPTS: usize = 8;
/// Age at which a message that cannot be sent is given up.
pub const GIVE_UP: Duration = Duration::from_secs(24 * 3600);
/// Longest wait between two tries.
pub const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// What runs at the end is waited for this long.
pub const LAST_WORDS: Duration = Duration::from_secs(2);
/// Messages that one mail or line of a chat joins at most.
const MAX_JOINED: usize = 20;
/// Samples of attacks that are kept at most.
const MAX_CASES: usize = 256;

/// A channel and what waits for it.
#[derive(Debug)]
struct Line {
    channel: Arc<Channel>,
    waiting: VecDeque<(u64, Arc<Message>)>,
    /// Addresses of what is on its way.
    running: Vec<String>,
    failures: u32,
    not_before: Time,
}

/// A delivery that ended.
struct Done {
    channel: String,
    sent: Vec<(u64, Arc<Message>)>,
    result: Result<(), Failure>,
}

/// Gives messages to channels, each with its own queue and retries, until they have arrived or are too old.
#[derive(Debug)]
pub struct Post {
    lines: Vec<Line>,
    outbox: Outbox,
    told: BTreeMap<String, Message>,
    cases: BTreeMap<(String, String), Arc<Case>>,
    troubles: Troubles,
    clock: fn() -> Time,
}

impl Post {
    /// With what an earlier run left.
    #[must_use]
    pub fn new(channels: Vec<Channel>, mut outbox: Outbox, troubles: Troubles, clock: fn() -> Time) -> Self {
        let (waiting, told) = outbox.load();
        let mut post = Self {
            lines: Vec::new(),
            outbox,
            told: told.into_iter().collect(),
            cases: BTreeMap::new(),
            troubles,
            clock,
        };
        post.configure(channels);
        for (id, channel, message) in waiting {
            match post.lines.iter_mut().find(|l| l.channel.name == channel) {
                Some(line) => line.waiting.push_back((id, Arc::new(message))),
                None => post.outbox.remove(id),
            }
        }
        post
    }

    /// Until [`Job::Stop`].
    pub async fn run(mut self, mut inbox: mpsc::Receiver<Job>) {
        let mut tasks = JoinSet::new();
        loop {
            self.pump(&mut tasks);
            let wait = self.next_try();
            tokio::select! {
                job = inbox.recv() => match job {
                    Some(Job::Stop) | None => break,
                    Some(job) => self.job(job),
                },
                Some(done) = tasks.join_next() => self.done(done),
                () = tokio::time::sleep(wait) => {}
            }
        }
        self.pump(&mut tasks);
        let ended = async {
            while let Some(done) = tasks.join_next().await {
                self.done(done);
            }
        };
        // What is cut off here is sent again by the next run, but for scripts: those are killed.
        let _ = tokio::time::timeout(LAST_WORDS, ended).await;
    }

    fn job(&mut self, job: Job) {
        match job {
            Job::Entry(entry, facts) => self.entry(&entry, *facts),
            Job::Case(case) => {
                let key = (case.prefix.clone(), case.direction.clone());
                if self.cases.len() < MAX_CASES || self.cases.contains_key(&key) {
                    self.cases.insert(key, case);
                }
            }
            Job::InForce(keys) => self.in_force(&keys),
            Job::Configure(channels) => self.configure(channels),
            Job::Stop => {}
        }
    }

    /// Channels that stay keep what waits for them.
    fn configure(&mut self, channels: Vec<Channel>) {
        let mut old = std::mem::take(&mut self.lines);
        for channel in channels {
            let channel = Arc::new(channel);
            let line = match old.iter().position(|l| l.channel.name == channel.name) {
                Some(at) => Line { channel, failures: 0, not_before: Time(0), ..old.swap_remove(at) },
                None => {
                    Line { channel, waiting: VecDeque::new(), running: Vec::new(), failures: 0, not_before: Time(0) }
                }
            };
            self.lines.push(line);
        }
        for gone in old {
            self.troubles.set(&gone.channel.name, None);
            gone.waiting.iter().for_each(|(id, _)| self.outbox.remove(*id));
        }
    }

    /// Whoever is told of a beginning is told of its end, and of each once.
    fn entry(&mut self, entry: &Entry, facts: Facts) {
        let Some(event) = message::event(&entry.report) else { return };
        let (target, route) = message::subject(&entry.report);
        let Some(target) = target else { return self.send(Message::of(entry, event, &facts, &[])) };
        let key = message::key(&target, &route.map(ToString::to_string).unwrap_or_default());
        let place = (target.prefix.to_string(), target.direction.name().to_owned());
        let said = match event {
            Event::Ban | Event::PartialBlock => {
                if self.told.contains_key(&key) {
                    return;
                }
                let sample = self.cases.get(&place).map(|case| dump::samples(case)).unwrap_or_default();
                let message = Message::of(entry, event, &facts, &sample);
                if self.told.len() < MAX_TOLD {
                    let kept = message.without_sample();
                    self.outbox.told(&key, &kept);
                    self.told.insert(key, kept);
                }
                message
            }
            Event::Unban | Event::PartialUnblock => {
                let Some(told) = self.told.remove(&key) else { return };
                self.outbox.untold(&key);
                told.ended(entry.time, event, &entry.report.to_string())
            }
            Event::AttackFinished => {
                self.cases.remove(&place);
                Message::of(entry, event, &facts, &[])
            }
            Event::AttackDetected | Event::Warning => Message::of(entry, event, &facts, &[]),
        };
        self.send(said);
    }

    /// What was told and is not in force any more ended while nobody looked.
    fn in_force(&mut self, keys: &[String]) {
        let gone: Vec<String> = self.told.keys().filter(|k| !keys.contains(k)).cloned().collect();
        for key in gone {
            let Some(told) = self.told.remove(&key) else { continue };
            self.outbox.untold(&key);
            let event = if told.event() == Some(Event::PartialBlock) { Event::PartialUnblock } else { Event::Unban };
            self.send(told.ended(clock::wall((self.clock)()).as_seconds(), event, "a restart"));
        }
    }

    fn send(&mut self, message: Message) {
        let message = Arc::new(message);
        let event = message.event();
        for line in &mut self.lines {
            let fits = match &line.channel.kind {
                Kind::Script { of_groups, .. } => *of_groups == message.of_group,
                Kind::WebHook { .. } | Kind::Chat { .. } | Kind::Mail(_) | Kind::Syslog { .. } => true,
            };
            if !fits || !event.is_some_and(|e| line.channel.events.contains(&e)) {
                continue;
            }
            if line.waiting.len() >= MAX_WAITING {
                tracing::error!(channel = line.channel.name, "a notification is dropped: {MAX_WAITING} wait already");
                continue;
            }
            let id = self.outbox.add(&line.channel.name, &message);
            line.waiting.push_back((id, Arc::clone(&message)));
        }
    }

    /// Until something may be tried again.
    fn next_try(&self) -> Duration {
        let now = (self.clock)();
        let lines = self.lines.iter().filter(|l| !l.waiting.is_empty() && l.running.is_empty());
        lines.map(|l| l.not_before.since(now)).min().unwrap_or(LONGEST_WAIT).max(Duration::from_millis(10))
    }

    fn pump(&mut self, tasks: &mut JoinSet<Done>) {
        let now = (self.clock)();
        for line in &mut self.lines {
            while let Some(sent) = next(line, now) {
                let is_script = matches!(line.channel.kind, Kind::Script { .. });
                line.running.extend(sent.iter().map(|(_, m)| m.ip.clone()));
                if is_script {
                    // Started at most once, whatever happens then.
                    sent.iter().for_each(|(id, _)| self.outbox.remove(*id));
                }
                let channel = Arc::clone(&line.channel);
                tasks.spawn(async move {
                    let messages: Vec<Arc<Message>> = sent.iter().map(|(_, m)| Arc::clone(m)).collect();
                    let result = deliver::deliver(&channel, &messages, false).await;
                    Done { channel: channel.name.clone(), sent, result }
                });
            }
        }
    }

    fn done(&mut self, done: Result<Done, tokio::task::JoinError>) {
        let Ok(Done { channel, sent, result }) = done else { return };
        let now = (self.clock)();
        let Some(line) = self.lines.iter_mut().find(|l| l.channel.name == channel) else { return };
        for (_, message) in &sent {
            if let Some(at) = line.running.iter().position(|ip| *ip == message.ip) {
                line.running.swap_remove(at);
            }
        }
        let is_script = matches!(line.channel.kind, Kind::Script { .. });
        match result {
            Ok(()) => {
                sent.iter().for_each(|(id, _)| self.outbox.remove(*id));
                line.failures = 0;
                self.troubles.set(&channel, None);
            }
            Err(failure) if failure.is_final || is_script => {
                tracing::error!(channel, "a notification is given up: {}", failure.text);
                sent.iter().for_each(|(id, _)| self.outbox.remove(*id));
                self.troubles.set(&channel, Some(failure.text));
            }
            Err(failure) => {
                line.failures = line.failures.saturating_add(1);
                let doubled = Duration::from_secs(1 << line.failures.min(9).saturating_sub(1));
                let wait = failure.retry_after.unwrap_or(doubled).min(LONGEST_WAIT);
                line.not_before = now.after(wait);
                tracing::warn!(channel, "a notification is tried again in {} s: {}", wait.as_secs(), failure.text);
                self.troubles.set(&channel, Some(failure.text));
                for (id, message) in sent.into_iter().rev() {
                    if clock::wall(now).as_seconds() - message.time > GIVE_UP.as_secs_f64() {
                        tracing::error!(channel, "a notification is given up: it is a day old");
                        self.outbox.remove(id);
                    } else {
                        line.waiting.push_front((id, message));
                    }
                }
            }
        }
    }
}

/// What a line sends next, if it may.
fn next(line: &mut Line, now: Time) -> Option<Vec<(u64, Arc<Message>)>> {
    if line.waiting.is_empty() || now < line.not_before {
        return None;
    }
    let joined = match &line.channel.kind {
        Kind::Script { .. } => {
            if line.running.len() >= MAX_SCRIPTS {
                return None;
            }
            // Of one address in order.
            let at = line.waiting.iter().position(|(_, m)| !line.running.contains(&m.ip))?;
            let earlier = |at: usize| line.waiting.iter().take(at).any(|(_, m)| m.ip == line.waiting[at].1.ip);
            debug_assert!(!earlier(at), "the first of its address");
            return line.waiting.remove(at).map(|one| vec![one]);
        }
        Kind::WebHook { .. } => 1,
        Kind::Chat { .. } | Kind::Mail(_) | Kind::Syslog { .. } => MAX_JOINED,
    };
    let count = joined.min(line.waiting.len());
    line.running.is_empty().then(|| line.waiting.drain(..count).collect())
}
