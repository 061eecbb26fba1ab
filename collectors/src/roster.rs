//! [`Roster`]: a bounded table of what names itself from outside (exporters, their domains), in which a flood of forged names
//! does not push out who has been of use.
//!
//! When the table is full, those make room who never sent anything usable, oldest first; then those who did so in less than
//! [`SETTLED`] different seconds and sent nothing since they were last looked at; then those silent for [`IDLE`]. Who is settled and speaks stays, whatever arrives.

use std::collections::VecDeque;
use std::hash::Hash;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dashmap::DashMap;
use traffic::Time;

/// Seconds with usable data after which a member is settled.
const SETTLED: u32 = 10;
/// When all members are settled, those silent for this long make room.
const IDLE: Duration = Duration::from_secs(60);

/// How a member stands. One per member; shared by workers.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    /// Seconds in which it was of use, up to [`SETTLED`].
    useful: AtomicU32,
    last_useful: AtomicU32,
    /// Times that it was of use, modulo 2^32.
    uses: AtomicU32,
    last_seen: AtomicU64,
    has_left: AtomicBool,
}

impl Standing {
    /// Remembers that it spoke.
    #[inline]
    pub(crate) fn seen(&self, now: Time) {
        self.last_seen.store(now.0, Ordering::Relaxed);
    }

    /// Remembers that it sent something usable.
    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "seconds are compared for equality only")]
    pub(crate) fn was_useful(&self, now: Time) {
        let useful = self.useful.load(Ordering::Relaxed);
        if useful < SETTLED {
            self.uses.fetch_add(1, Ordering::Relaxed);
            let second = (now.0 / 1_000_000_000) as u32;
            if useful == 0 || self.last_useful.load(Ordering::Relaxed) != second {
                self.last_useful.store(second, Ordering::Relaxed);
                self.useful.store(useful + 1, Ordering::Relaxed);
            }
        }
    }

    /// Whether the table has given its place away: a copy kept elsewhere is then no longer the member.
    #[inline]
    pub(crate) fn has_left(&self) -> bool {
        self.has_left.load(Ordering::Relaxed)
    }

    /// When it spoke last.
    pub(crate) fn last_seen(&self) -> Time {
        Time(self.last_seen.load(Ordering::Relaxed))
    }
}

/// What can be on a roster.
pub(crate) trait Member {
    fn standing(&self) -> &Standing;
}

/// Entries by key, `capacity` at most: what was not used for longest makes room.
pub(crate) struct Roster<K, V> {
    members: DashMap<K, Arc<V>>,
    capacity: usize,
    queues: Mutex<Queues<K>>,
    last_sweep: AtomicU64,
}

/// Members in order of their joining, at most twice the capacity each; those that have left or risen are skipped.
#[derive(Debug)]
struct Queues<K> {
    newcomers: VecDeque<K>,
    /// With how often they had been of use when they were last looked at.
    juniors: VecDeque<(K, u32)>,
}

impl<K: Eq + Hash, V> std::fmt::Debug for Roster<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Roster").field("members", &self.members.len()).finish_non_exhaustive()
    }
}

impl<K: Copy + Eq + Hash, V: Member> Roster<K, V> {
    pub(crate) fn new(capacity: usize) -> Self {
        let queues = Mutex::new(Queues { newcomers: VecDeque::new(), juniors: VecDeque::new() });
        Self { members: DashMap::new(), capacity, queues, last_sweep: AtomicU64::new(0) }
    }

    /// The member of that name.
    pub(crate) fn get(&self, key: K) -> Option<Arc<V>> {
        self.members.get(&key).map(|member| Arc::clone(&member))
    }

    /// The member of that name, which joins if it is new; `None` if nobody makes room. `left` hears of those who did.
    pub(crate) fn join(&self, now: Time, key: K, make: impl FnOnce() -> V, left: impl Fn(K, &V)) -> Option<Arc<V>> {
        if let Some(member) = self.get(key) {
            return Some(member);
        }
        if self.members.len() >= self.capacity && !self.make_room(now, &left) {
            return None;
        }
        let mut is_new = false;
        let member = Arc::clone(&self.members.entry(key).or_insert_with(|| {
            is_new = true;
            let member = make();
            member.standing().seen(now);
            Arc::new(member)
        }));
        if is_new {
            let mut queues = self.queues();
            if queues.newcomers.len() >= 2 * self.capacity {
                queues.newcomers.retain(|k| self.members.contains_key(k));
            }
            queues.newcomers.push_back(key);
        }
        Some(member)
    }

    fn queues(&self) -> MutexGuard<'_, Queues<K>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn make_room(&self, now: Time, left: &impl Fn(K, &V)) -> bool {
        let useful = |key: &K| self.members.get(key).map(|m| m.standing().useful.load(Ordering::Relaxed));
        let uses = |key: &K| self.members.get(key).map_or(0, |m| m.standing().uses.load(Ordering::Relaxed));
        loop {
            let Some(key) = self.queues().newcomers.pop_front() else { break };
            match useful(&key) {
                Some(0) => {
                    self.remove(key, left);
                    return true;
                }
                Some(1..SETTLED) => {
                    let mut queues = self.queues();
                    if queues.juniors.len() >= 2 * self.capacity {
                        queues.juniors.retain(|(k, _)| self.members.contains_key(k));
                    }
                    queues.juniors.push_back((key, 1));
                }
                Some(_) | None => {}
            }
        }
        let mut looked_at = 0;
        while looked_at <= self.capacity {
            looked_at += 1;
            let Some((key, before)) = self.queues().juniors.pop_front() else { break };
            if useful(&key).is_none_or(|n| n >= SETTLED) {
                continue;
            }
            // Who was of use again since gets another turn.
            let uses = uses(&key);
            if uses == before || looked_at > self.capacity {
                self.remove(key, left);
                return true;
            }
            self.queues().juniors.push_back((key, uses));
        }
        // At most once a second, so that a flood cannot make it work.
        if now.since(Time(self.last_sweep.load(Ordering::Relaxed))) < Duration::from_secs(1) {
            return false;
        }
        self.last_sweep.store(now.0, Ordering::Relaxed);
        let is_idle = |member: &V| now.since(member.standing().last_seen()) >= IDLE;
        let idle: Vec<K> = self.members.iter().filter(|m| is_idle(m.value())).map(|m| *m.key()).collect();
        idle.into_iter().for_each(|key| self.remove(key, left));
        self.members.len() < self.capacity
    }

    /// Takes a member's place away.
    pub(crate) fn remove(&self, key: K, left: &impl Fn(K, &V)) {
        if let Some((key, member)) = self.members.remove(&key) {
            member.standing().has_left.store(true, Ordering::Relaxed);
            left(key, &member);
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    /// All members, in no order.
    pub(crate) fn members(&self) -> Vec<(K, Arc<V>)> {
        self.members.iter().map(|m| (*m.key(), Arc::clone(m.value()))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Plain(Standing);

    impl Member for Plain {
        fn standing(&self) -> &Standing {
            &self.0
        }
    }

    fn join(roster: &Roster<u32, Plain>, second: u64, key: u32) -> Option<Arc<Plain>> {
        let now = Time::from_seconds(second, 0);
        let member = roster.join(now, key, Plain::default, |_, _| {})?;
        member.0.seen(now);
        Some(member)
    }

    #[test]
    fn forged_newcomers_push_out_each_other_and_nobody_else() {
        let roster = Roster::new(100);
        let honest = join(&roster, 1, 0).expect("room");
        honest.0.was_useful(Time::from_seconds(1, 0));
        assert_eq!((1..100_000).filter(|k| join(&roster, 1, *k).is_some()).count(), 99_999);
        let late = join(&roster, 2, 500_000).expect("a latecomer finds room");
        late.0.was_useful(Time::from_seconds(2, 0));
        assert!((600_000..700_000).all(|k| join(&roster, 2, k).is_some()));
        assert_eq!((roster.len(), honest.0.has_left(), late.0.has_left()), (100, false, false));
        assert!(Arc::ptr_eq(&late, &join(&roster, 3, 500_000).expect("there")));
    }

    #[test]
    fn forged_names_that_send_usable_data_do_not_push_out_who_is_settled() {
        let roster = Roster::new(100);
        let honest = join(&roster, 1, 0).expect("room");
        (1..=u64::from(SETTLED)).for_each(|s| honest.0.was_useful(Time::from_seconds(s, 0)));
        for key in 1..10_000 {
            let forged = join(&roster, 20, key).expect("others make room");
            forged.0.was_useful(Time::from_seconds(20, 0));
        }
        assert!(!honest.0.has_left());
        assert_eq!(roster.len(), 100);
    }

    #[test]
    fn when_all_are_settled_the_silent_make_room_and_a_newcomer_may_be_refused() {
        let roster = Roster::new(10);
        for key in 0..10 {
            let member = join(&roster, 1, key).expect("room");
            (1..=u64::from(SETTLED)).for_each(|s| member.0.was_useful(Time::from_seconds(s, 0)));
        }
        assert!(join(&roster, 30, 100).is_none());
        (0..9).for_each(|key| roster.get(key).expect("there").0.seen(Time::from_seconds(90, 0)));
        assert!(join(&roster, 100, 100).is_some());
        assert!(roster.get(9).is_none() && roster.get(0).is_some());
    }
}
