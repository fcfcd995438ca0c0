//! Other processes on the same store: what they put, remove, load and invalidate there, and how the machine learns of it.

use std::time::Duration;

use tideover_core::stamp::{Condition, Stamp, Version};
use tideover_core::{Entry, Found, Instant, Invalidation, News, Note, Step, Tag, Tidings, Tier, WallTime};

use super::{Broken, Expiry, Key, MACHINE, Noted, Origin, Rival, Stored, Value, World};

/// The civil time at a reading of the clock.
pub(super) fn civil(at: Instant) -> WallTime {
    WallTime::from_unix_millis(at.as_nanos() / 1_000_000)
}

impl World {
    /// Another process changes the origin, and puts the new version or removes the key.
    ///
    /// # Errors
    ///
    /// As [`World::lookup`].
    pub fn other_changes(&mut self, key: Key, puts: bool) -> Result<(), Broken> {
        let version = self.change(key);
        let value = self.value(self.others_origin(key, version));
        let gone = (!puts).then(|| self.now + self.cache.policy().fence_for());
        let stamp = self.others_stamp(self.logged);
        self.primary.insert(key, Stored { value, born_at: self.now, windows: self.windows, stamp, gone });
        self.untold.push((key, version));
        self.check_store(key)
    }

    /// The machine is told of the oldest change that it does not know of.
    pub fn tell_change(&mut self) {
        if self.untold.is_empty() {
            return;
        }
        let (key, version) = self.untold.remove(0);
        self.cache.learn(Tidings::Changed(key), self.now);
        let contested = self.is_contested(key);
        self.put_until.insert(key, Instant::ZERO);
        let floor = self.floors.entry(key).or_default();
        *floor = (if contested { floor.0 } else { floor.0.max(version) }, floor.1 + 1);
        let fences = floor.1;
        // Who is reading the store will ask it again, and is as good as if it had begun now.
        for flying in self.flying.values_mut().filter(|flying| flying.key == Some(key)) {
            if matches!(
                flying.step,
                Step::ReadStore { tier: Tier::Primary, .. } | Step::AcquireLease { .. } | Step::AwaitLease { .. }
            ) {
                flying.fences = fences;
            }
        }
    }

    /// Whoever watches the store for the machine loses sight of it and comes back: what had not been told never will be.
    pub fn miss_changes(&mut self) {
        for (key, version) in std::mem::take(&mut self.untold) {
            if !self.is_contested(key) {
                let floor = self.fresh_floors.entry(key).or_default();
                *floor = (*floor).max(version);
            }
        }
        self.put_until.clear();
        self.missed.push(self.now);
        self.cache.learn(Tidings::Missed, self.now);
    }

    /// Whether what was put here may be newer, and nobody can tell.
    fn is_contested(&self, key: Key) -> bool {
        // Its own may have come later, which is known by then.
        let own = self.primary.get(&key).is_some_and(|stored| stored.stamp.version.writer == MACHINE);
        own || self.puts.values().any(|(put, _)| *put == key) || self.cache.health().stats.owed > 0
    }

    /// Another process takes the lease on `key`, for so long.
    pub fn other_leases(&mut self, key: Key, time: Duration) {
        self.leased.insert(key, self.now + time);
    }

    /// Another process reads the store, and begins a load.
    pub fn other_loads(&mut self, key: Key) {
        let version = *self.truth.entry(key).or_default();
        let value = self.value(self.others_origin(key, version));
        let condition = Condition::Unchanged(self.held(Tier::Primary, key).map(|held| held.stamp.version));
        self.rivals.push(Rival { key, value, condition, born: self.logged, began_at: self.now });
    }

    /// The oldest load of another process ends, unless it has taken too long, and is written.
    ///
    /// # Errors
    ///
    /// As [`World::lookup`].
    pub fn other_load_ends(&mut self) -> Result<(), Broken> {
        if self.rivals.is_empty() {
            return Ok(());
        }
        let Rival { key, value, condition, born, began_at } = self.rivals.remove(0);
        let stamp = Stamp { changed_at: civil(began_at), ..self.others_stamp(born) };
        let held = self.held(Tier::Primary, key).map(|held| held.stamp);
        let in_time = self.now - began_at < self.cache.policy().fence_for();
        if in_time && condition.admits(held.as_ref(), &stamp) {
            let stored = Stored { value, born_at: began_at, windows: self.windows, stamp, gone: None };
            self.primary.insert(key, stored);
            self.untold.push((key, self.origin_of(value).version));
            self.check_store(key)?;
        }
        Ok(())
    }

    /// Another process changes the origin of every key with that tag, and invalidates the tag.
    pub fn other_invalidates(&mut self, tag: Tag, how: Invalidation) {
        if self.cache.policy().store_log {
            let bearing: Vec<Key> = self.truth.keys().copied().filter(|key| (self.tags)(*key).contains(&tag)).collect();
            for key in bearing {
                self.change(key);
            }
            self.log_note(Note::Invalidated(tag, how), self.now, false);
        }
    }

    /// Another process changes everything at the origin, and clears.
    pub fn other_clears(&mut self) {
        if self.cache.policy().store_log {
            let keys: Vec<Key> = self.truth.keys().copied().collect();
            for key in keys {
                self.change(key);
            }
            self.log_note(Note::Cleared, self.now, false);
        }
    }

    /// What another process has from the origin now, which knows what stands in the log.
    fn others_origin(&self, key: Key, version: u32) -> Origin {
        Origin { knows: self.logged, ..self.origin(key, version) }
    }

    /// The machine is told what stands in the log.
    pub fn tell(&mut self) {
        if !self.cache.policy().store_log {
            return;
        }
        for noted in std::mem::take(&mut self.log) {
            let Noted { number, at, own, note, reached } = noted;
            if !own {
                let at = if note == Note::Unknown { self.now } else { at };
                self.on_told(note, at, number, &reached);
            }
            self.cache.learn(News { number, ago: self.now - at, own, note }, self.now);
            self.told = number;
        }
    }

    /// From here on nobody may get what another process has invalidated; but puts that are on their way are newer.
    fn on_told(&mut self, note: Note, at: Instant, logged: u64, reached: &[(Key, u32)]) {
        self.invalidations += 1;
        let spared: Vec<(Key, Value)> = self.puts.values().copied().collect();
        for (_, value) in &spared {
            self.values[value.number as usize].spared.push(self.invalidations);
        }
        // It reaches keys, too, that nobody had asked for when it was noted.
        let known_then = |key: &Key| reached.iter().any(|(known, _)| known == key);
        let (mut later, number) = (self.truth.keys().copied().collect::<Vec<Key>>(), self.invalidations);
        let doubt = note == Note::Unknown;
        later.retain(|key| self.concerns(note, *key) && !known_then(key));
        for key in later {
            self.expiries.push(Expiry { key, at, number, logged, doubt });
            self.put_until.insert(key, Instant::ZERO);
        }
        for &(key, truth) in reached {
            self.expiries.push(Expiry { key, at, number, logged, doubt });
            // A put that is spared may have been replaced by what a load brought, which is not.
            self.put_until.insert(key, Instant::ZERO);
            if spared.iter().any(|(spared, _)| *spared == key) {
                continue;
            }
            let removed = matches!(note, Note::Cleared | Note::Invalidated(_, Invalidation::Remove));
            let floor = self.floors.entry(key).or_default();
            if removed {
                floor.0 = floor.0.max(truth);
            }
            let fresh = self.fresh_floors.entry(key).or_default();
            *fresh = (*fresh).max(truth);
        }
    }

    /// Notes something in the log.
    pub(super) fn log_note(&mut self, note: Note, at: Instant, own: bool) {
        if !self.cache.policy().store_log {
            return;
        }
        // Numbers are moments, as a rule.
        self.logged = (self.logged + 1).max(self.now.as_nanos() / 1_000_000);
        let reached = self
            .truth
            .iter()
            .filter(|(key, _)| self.concerns(note, **key))
            .map(|(key, truth)| (*key, *truth))
            .collect();
        self.log.push(Noted { number: self.logged, at, own, note, reached });
    }

    fn concerns(&self, note: Note, key: Key) -> bool {
        match note {
            Note::Invalidated(tag, _) => (self.tags)(key).contains(&tag),
            Note::Cleared | Note::Unknown => true,
        }
    }

    /// What a tier has under `key`: an entry or a tombstone.
    pub(super) fn held(&self, tier: Tier, key: Key) -> Option<Stored> {
        self.store(tier).get(&key).copied().filter(|stored| stored.gone.is_none_or(|until| self.now < until))
    }

    pub(super) fn found(&self, stored: Stored) -> Found<Value> {
        let Stamp { version, born, .. } = stored.stamp;
        let entry: Option<Entry<Value>> = stored.gone.is_none().then(|| self.entry(stored));
        Found { entry, version: Some(version), born }
    }

    /// What has come into the shared store under `key` is the newest, whatever was there.
    pub(super) fn trust_store(&mut self, key: Key) -> Result<(), Broken> {
        self.store_floors.remove(&key);
        self.check_store(key)
    }

    /// What has come into the shared store under `key` is not older than what was there.
    pub(super) fn check_store(&mut self, key: Key) -> Result<(), Broken> {
        let Some(Stored { value, gone, .. }) = self.primary.get(&key).copied() else { return Ok(()) };
        let floor = self.store_floors.entry(key).or_default();
        let Some(version) = self.values.get(value.number as usize).map(|origin| origin.version) else { return Ok(()) };
        if version < *floor && gone.is_none() {
            return Err(format!("law 4: version {version} of {key} has come into the store, which had {floor}"));
        }
        *floor = version.max(*floor);
        Ok(())
    }

    pub(super) fn others_stamp(&mut self, born: u64) -> Stamp {
        self.others += 1;
        // Each is a process of its own: one and the same would have fenced its own load.
        let version = Version { writer: MACHINE + self.others, number: 1 };
        Stamp { version, changed_at: civil(self.now), born }
    }
}
