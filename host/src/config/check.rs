//! What contradicts itself: refused where it cannot work, doubted where it is not what anybody wants.

use std::time::Duration;

use tideover_core::Policy;
use tideover_core::breaker::Mode;
use tideover_core::time::Text;

use super::setting::{Said, Setting};
use super::settle::{Effective, lifetime};
use super::store;
use crate::cache::Ttl;

/// Looks at the configuration as a whole.
pub(super) fn contradictions(policy: &Policy, effective: &Effective, said: &mut Said) {
    let mut check = Check { policy, effective, said };
    check.store();
    check.windows();
    check.lifetimes();
    check.deadlines();
    check.idle_options();
}

struct Check<'a> {
    policy: &'a Policy,
    effective: &'a Effective,
    said: &'a mut Said,
}

/// An option that switches others off, whether it is on, and which those are.
type Switch = (&'static str, bool, fn(&str) -> bool);

impl Check<'_> {
    /// The setting, if somebody has said it, and not only a preset.
    fn said(&self, option: &str) -> Option<&Setting> {
        self.effective.of(option).filter(|setting| setting.origin.is_said())
    }

    fn doubt(&mut self, option: &str, reason: impl Into<String>) {
        if let Some(setting) = self.effective.of(option) {
            self.said.warnings.push(setting.finding(reason));
        }
    }

    /// Refuses what cannot work; if what stands in its way was said by somebody stronger, who knows, it is a doubt.
    fn refuse(&mut self, option: &str, because_of: &str, reason: impl Into<String>) {
        let (Some(setting), Some(cause)) = (self.effective.of(option), self.effective.of(because_of)) else { return };
        let finding = setting.finding(reason);
        if cause.rank() > setting.rank() {
            self.said.warnings.push(finding);
        } else {
            self.said.refusals.push(finding);
        }
    }

    fn store(&mut self) {
        let Some(url) = self.effective.of("url").filter(|url| url.text == store::NONE) else {
            return self.protocol();
        };
        if self.said.refusals.iter().any(|refusal| refusal.option == "url") {
            return;
        }
        let (rank, origin) = (url.rank(), url.origin.clone());
        if self.policy.lease && self.said("lease").is_some() {
            self.refuse("lease", "url", format!("needs a shared store, and url is mem:// ({origin})"));
        }
        let unused: Vec<&'static str> = super::options()
            .iter()
            .map(|option| option.name)
            .filter(|name| name.starts_with("redis."))
            .filter(|name| self.said(name).is_some_and(|setting| setting.rank() >= rank))
            .collect();
        for option in unused {
            self.doubt(option, format!("is of no use: url is mem:// ({origin})"));
        }
    }

    /// Tracking takes the newer protocol.
    fn protocol(&mut self) {
        let older = self.effective.of("url").is_some_and(|url| url.text.contains("protocol=resp2"));
        let tracking = self.said("redis.backplane").is_some_and(|setting| setting.text == "tracking");
        if older && tracking {
            self.doubt("redis.backplane", "takes RESP3, and url says protocol=resp2; pubsub works with either");
        }
    }

    /// What never expires is never stale.
    fn windows(&mut self) {
        if self.policy.ttl.is_some() {
            return;
        }
        let windows = [
            ("stale_while_revalidate", self.policy.stale_while_revalidate),
            ("stale_if_error", self.policy.stale_if_error),
            ("keep", self.policy.keep),
        ];
        for (option, window) in windows {
            if !window.is_zero() && self.said(option).is_some() {
                self.refuse(option, "ttl", "begins when ttl ends, and ttl is 0: it never does");
            }
        }
        for option in ["ttl_jitter", "refresh_ahead", "early_refresh"] {
            let chosen = self.said(option).is_some_and(|setting| setting.text != "0");
            if chosen {
                self.doubt(option, "is of no use: ttl is 0, which never expires");
            }
        }
    }

    /// Names that say the opposite of what they are.
    fn lifetimes(&mut self) {
        let never_last = |length: Duration| if length.is_zero() { Duration::MAX } else { length };
        let lifetimes: Vec<_> = Ttl::ALL.into_iter().filter_map(|ttl| lifetime(self.effective, ttl)).collect();
        let mut doubts = Vec::new();
        for pair in lifetimes.windows(2) {
            let [(shorter, short), (longer, long)] = pair else { continue };
            if never_last(*short) > never_last(*long) && (shorter.origin.is_said() || longer.origin.is_said()) {
                let reason = format!("is longer than {} = {} ({})", longer.option, longer.shown(), longer.origin);
                doubts.push(shorter.finding(reason));
            }
        }
        self.said.warnings.extend(doubts);
    }

    fn deadlines(&mut self) {
        let policy = self.policy;
        let attempts = policy.load_deadline.saturating_mul(policy.load_attempts);
        self.longer("load_deadline", policy.load_deadline, "leader_age_max", policy.leader_age_max, |end| {
            format!("is longer than leader_age_max = {end}: what a load brings after that is refused")
        });
        self.longer("load_deadline", policy.load_deadline, "call_deadline", policy.call_deadline, |end| {
            format!("is longer than call_deadline = {end}: nobody waits for so long")
        });
        if policy.load_attempts > 1 && policy.load_deadline <= policy.call_deadline {
            self.longer("load_attempts", attempts, "call_deadline", policy.call_deadline, |end| {
                format!("of load_deadline = {} each take longer than call_deadline = {end}", Text(policy.load_deadline))
            });
        }
        if policy.lease && policy.store {
            self.longer("lease_wait_max", policy.lease_wait_max, "call_deadline", policy.call_deadline, |end| {
                format!("is longer than call_deadline = {end}: callers give up before the lease is free")
            });
        }
        if policy.store {
            self.longer(
                "store_read_deadline",
                policy.store_read_deadline,
                "call_deadline",
                policy.call_deadline,
                |end| format!("is longer than call_deadline = {end}: a hung store leaves no time to load"),
            );
        }
        if let Some(soft) = policy.soft_deadline {
            self.longer("soft_deadline", soft, "call_deadline", policy.call_deadline, |end| {
                format!("is longer than call_deadline = {end}, and so never reached")
            });
            if policy.stale_if_error.is_zero() {
                self.doubt("soft_deadline", "is of no use: stale_if_error is 0, so there is nothing to answer with");
            }
        }
    }

    /// Doubts a limit that another one makes pointless, unless neither was said.
    fn longer(
        &mut self,
        option: &str,
        length: Duration,
        end_option: &str,
        end: Duration,
        reason: impl FnOnce(String) -> String,
    ) {
        if length > end && (self.said(option).is_some() || self.said(end_option).is_some()) {
            self.doubt(option, reason(Text(end).to_string()));
        }
    }

    /// Options of something that is switched off, by somebody who is not stronger than who said them.
    fn idle_options(&mut self) {
        let policy = self.policy;
        let breaker = |on: bool, mode: Mode| on && mode != Mode::Disabled;
        let limited = policy.loads_max > 0 || policy.loads_adaptive;
        let switches: [Switch; 6] = [
            ("lease", policy.lease, |option| option.starts_with("lease_")),
            ("load_attempts", policy.load_attempts > 1, |option| option.starts_with("retry_")),
            ("loads_max", limited, |option| option == "load_queue_max"),
            ("loads_adaptive", policy.loads_adaptive, |option| option == "loads_min"),
            ("store_breaker", breaker(policy.store_breaker, policy.store_breaker_mode), |option| {
                option.starts_with("store_breaker_") && !option.ends_with("_mode")
            }),
            ("load_breaker", breaker(policy.load_breaker, policy.load_breaker_mode), |option| {
                option.starts_with("load_breaker_") && !option.ends_with("_mode")
            }),
        ];
        for (switch, on, belongs) in switches {
            let Some(setting) = self.effective.of(switch).filter(|_| !on) else { continue };
            let (rank, state) = (setting.rank(), format!("{switch} = {} ({})", setting.shown(), setting.origin));
            let idle: Vec<&'static str> = Policy::OPTIONS
                .iter()
                .map(|option| option.name)
                .filter(|name| belongs(name) && self.said(name).is_some_and(|setting| setting.rank() >= rank))
                .collect();
            for option in idle {
                self.doubt(option, format!("is of no use with {state}"));
            }
        }
    }
}
