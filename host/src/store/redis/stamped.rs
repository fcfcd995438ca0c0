//! Writes that compare: [`Condition::admits`](tideover_core::stamp::Condition::admits) as a script, so that looking and
//! writing are one step at the server. And the removal of what was there before a clear.
//!
//! An envelope's first bytes are all that the scripts look at. What does not begin as an envelope of ours, or is no plain
//! value at all, counts as nothing. Lua's numbers hold whole numbers up to 2^53 only, so those of the stamp are compared
//! half by half, and versions as bytes.

use std::time::Duration;

use bytes::Bytes;
use tideover_core::envelope::{TOMBSTONE_BYTES, stamp_of};
use tideover_core::stamp::{Condition, Version, Written};

use super::RedisStore;
use super::backplane::Deed;
use super::echoes::Own;
use super::failure::{Fault, unexpected};
use super::operations::ttl_millis;
use super::reply::Reply;
use super::request::Effect;
use super::script::Script;
use crate::store::{StoreError, When};

/// `KEYS`: entries. `ARGV`: in which channel to publish, or nothing; then for each entry the envelope, the [rule](rule), and,
/// if there is a channel, the message. Answers for each entry whether it was written, or why not: each is looked at and
/// written by itself, one after the other, and nothing comes in between.
/// A retry finds its own write, which it may replace. Lua counts bytes from one: the writer begins at 8, the number at
/// 16, the time of the change at 24. What is of another type is an error, which has no length. A full server has no room
/// for a tombstone (forty bytes): then what is there is removed.
static REPLACE: Script = Script::new(
    Effect::Write,
    "local pcall, sub, unpack = redis.pcall, string.sub, struct.unpack \
     local keys, arguments, results = KEYS, ARGV, {} \
     local channel, width = arguments[1], 2 \
     if channel ~= '' then width = 3 end \
     for i = 1, #keys do \
       local key, at = keys[i], 2 + (i - 1) * width \
       local new, rule, result = arguments[at], arguments[at + 1], 1 \
       local held = pcall('GETRANGE', key, '0', '38') \
       if #held == 39 and sub(held, 1, 3) == 'to\\2' then \
         local w1, w2, n1, n2, c1, c2 = unpack('>I4I4I4I4I4I4', held, 8) \
         local new_w1, new_w2, new_n1, new_n2, new_c1, new_c2 = unpack('>I4I4I4I4I4I4', new, 8) \
         local letter = sub(rule, 1, 1) \
         if w1 == new_w1 and w2 == new_w2 then \
           if n1 > new_n1 or (n1 == new_n1 and n2 > new_n2) then result = 0 end \
         elseif letter == 'z' then \
           result = 0 \
         elseif letter == 'u' then \
           if sub(held, 8, 23) ~= sub(rule, 2, 17) then result = 0 end \
         elseif letter == 'n' and (c1 > new_c1 or (c1 == new_c1 and c2 > new_c2)) then \
           result = 0 \
         end \
       end \
       if result == 1 then \
         local millis, done = sub(rule, 18) \
         if millis == '' then done = pcall('SET', key, new) else done = pcall('SET', key, new, 'PX', millis) end \
         if done.err then \
           if #new == 40 and string.find(done.err, 'OOM', 1, true) then pcall('UNLINK', key) else result = done end \
         end \
         if width == 3 and result == 1 then pcall('PUBLISH', channel, arguments[at + 2]) end \
       end \
       results[i] = result \
     end \
     return results",
);

/// `KEYS`: the entry. `ARGV`: the number of the clear, eight bytes. Removes the entry unless it was born after that.
/// The birth begins at 32.
pub(super) static SWEEP: Script = Script::new(
    Effect::Write,
    "local held = redis.pcall('GETRANGE', KEYS[1], 0, 38) \
     if #held == 39 and string.sub(held, 1, 3) == 'to\\2' then \
       local high, low = struct.unpack('>I4I4', held, 32) \
       local clear_high, clear_low = struct.unpack('>I4I4', ARGV[1], 1) \
       if high > clear_high or (high == clear_high and low >= clear_low) then return 0 end \
     end \
     return redis.call('UNLINK', KEYS[1])",
);

impl RedisStore {
    pub(super) async fn replace_entry(
        &self,
        key: &str,
        envelope: Bytes,
        ttl: Option<Duration>,
        condition: Condition,
    ) -> Result<Written, StoreError> {
        let own = stamp_of(&envelope).map(|stamp| stamp.version);
        let Some(own) = own.filter(|_| self.compare) else {
            self.set(key, &envelope, ttl, When::Always).await?;
            self.tell_changed(&[key], own.map(|own| own.writer)).await;
            return Ok(Written::Kept);
        };
        let place = self.namespace.entry(key);
        let deed = Deed::Changed(key, Some(own.writer));
        let rule = rule(condition, ttl);
        let (channel, message) = self
            .backplane
            .message(&deed)
            .map_or((Bytes::new(), None), |(channel, message)| (channel.clone(), Some(message)));
        let arguments: Vec<&[u8]> = [&envelope[..], &rule].into_iter().chain(message.as_deref()).collect();
        let removes = envelope.len() == TOMBSTONE_BYTES;
        let echo = if removes { Own::Removed(own.writer) } else { Own::Written(own.writer) };
        self.backplane.expect_echo(key, echo);
        match REPLACE.run_for_many(&place, &channel, &arguments, |request| self.ask(&place, request)).await {
            Ok(Reply::Int(0)) => {
                self.backplane.withdraw_echo(key);
                Ok(Written::Overtaken)
            }
            Ok(Reply::Int(_)) => {
                self.backplane.tell_here(&deed);
                Ok(Written::Kept)
            }
            Ok(_) => Err(unexpected("EVALSHA")),
            Err(fault) if forbids_scripts(&fault) => Err(StoreError::Rejected(
                "NOPERM: the user may not run scripts (EVALSHA, EVAL); the option `compare` does without them".into(),
            )),
            Err(fault) => Err(fault.into()),
        }
    }
}

/// A letter: `a` for always, `n` for the newest, `u` for unchanged, `z` for unchanged since there was nothing. Then the version
/// that `u` has seen, sixteen bytes; and the milliseconds to live, or nothing.
fn rule(condition: Condition, ttl: Option<Duration>) -> Vec<u8> {
    let (letter, Version { writer, number }) = match condition {
        Condition::Always => (b'a', Version::default()),
        Condition::Newest => (b'n', Version::default()),
        Condition::Unchanged(Some(seen)) => (b'u', seen),
        Condition::Unchanged(None) => (b'z', Version::default()),
    };
    let millis = ttl.map(|ttl| ttl_millis(ttl).to_string()).unwrap_or_default();
    [&[letter][..], &writer.to_be_bytes(), &number.to_be_bytes(), millis.as_bytes()].concat()
}

/// Whether it is the command that the user may not use, and not this key.
fn forbids_scripts(fault: &Fault) -> bool {
    matches!(fault, Fault::Refused(refusal) if refusal.code() == "NOPERM" && refusal.text().contains("eval"))
}
