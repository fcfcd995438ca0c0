//! What is owed to the store for one key: the steps that make of what is there what callers were told. It knows nothing
//! of other keys, and sends nothing.
//!
//! A change takes in the ones before it where that comes to the same, so that a key never owes more than a few steps.
//! Counts stay differences, as others may count meanwhile; what depends on a condition keeps it.

use alloc::vec;
use alloc::vec::Vec;

use super::words::{Octets, When, number, text};
use crate::time::Instant;

/// When a value ends: [`Instant::NEVER`] is for ever.
pub(super) type Ends = Instant;

/// One operation of the store.
///
/// Where it is for something that is there, `until` is when that ends in the store by itself. Afterwards its absence is
/// nobody's removal, and what was told to callers is put there anew.
#[derive(Clone)]
pub(super) enum Step<V> {
    Write {
        value: V,
        ends: Ends,
        when: When,
        until: Ends,
    },
    Remove,
    /// `ends` is for a number that this creates.
    Add {
        by: i64,
        ends: Ends,
    },
    /// `value` is what ends later than it would have.
    Expire {
        ends: Ends,
        until: Ends,
        value: Option<V>,
    },
}

/// A count that does not fit into 64 bits; nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooLarge;

impl<V> Step<V> {
    const fn write(value: V, ends: Ends) -> Self {
        Self::Write { value, ends, when: When::Always, until: Instant::NEVER }
    }

    /// When what it is for ends in the store by itself.
    fn until(&self) -> Ends {
        match self {
            Self::Write { until, .. } | Self::Expire { until, .. } => *until,
            Self::Remove | Self::Add { .. } => Instant::NEVER,
        }
    }

    /// Whether something is there when this is done.
    const fn leaves_something(&self) -> bool {
        matches!(self, Self::Write { when: When::Always | When::Absent, .. } | Self::Add { .. })
    }

    /// Whether this may leave what others have put there as it is.
    const fn is_reserved(&self) -> bool {
        matches!(self, Self::Write { when: When::Absent, .. } | Self::Add { .. })
    }
}

/// The steps that a key owes, in their order.
#[derive(Clone)]
pub(super) struct Steps<V>(Vec<Step<V>>);

impl<V> Default for Steps<V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<V: Octets> Steps<V> {
    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes the first one out.
    pub(super) fn next(&mut self) -> Option<Step<V>> {
        (!self.0.is_empty()).then(|| self.0.remove(0))
    }

    /// What is counted in them.
    pub(super) fn counted(&self) -> i64 {
        let counts = self.0.iter().map(|step| if let Step::Add { by, .. } = step { *by } else { 0 });
        counts.fold(0, i64::saturating_add)
    }

    /// Whether what is there afterwards does not depend on what is there before.
    pub(super) fn are_absolute(&self) -> bool {
        matches!(self.0.first(), Some(Step::Remove | Step::Write { when: When::Always, .. }))
    }

    /// One more step. Conditions of it hold, as far as is known here.
    ///
    /// # Errors
    ///
    /// [`TooLarge`].
    pub(super) fn push(&mut self, step: Step<V>) -> Result<(), TooLarge> {
        match step {
            Step::Remove | Step::Write { when: When::Always, .. } => self.0 = vec![step],
            Step::Write { value, ends, when: When::Absent, .. } => match &self.0[..] {
                [Step::Remove] => self.0 = vec![Step::write(value, ends)],
                _ => self.0.push(Step::Write { value, ends, when: When::Absent, until: Instant::NEVER }),
            },
            Step::Write { value, ends, when: When::Present, until } => {
                let is_certain = self.0.iter().any(Step::leaves_something);
                let when = if is_certain { When::Always } else { When::Present };
                let until = self.0.iter().map(Step::until).fold(until, Ends::min);
                self.0 = vec![Step::Write { value, ends, when, until }];
            }
            Step::Add { by, ends } => return self.add(by, ends),
            Step::Expire { ends, until, value } => self.expire(ends, until, value),
        }
        Ok(())
    }

    fn add(&mut self, by: i64, ends: Ends) -> Result<(), TooLarge> {
        match &mut self.0[..] {
            [Step::Write { value, when: When::Always, .. }] => {
                let sum = number(value.as_ref()).and_then(|number| number.checked_add(by)).ok_or(TooLarge)?;
                *value = text(sum);
                return Ok(());
            }
            [Step::Remove] => {
                self.0 = vec![Step::write(text(by), ends)];
                return Ok(());
            }
            _ => {}
        }
        let earlier = self.0.iter_mut().find_map(|step| if let Step::Add { by, .. } = step { Some(by) } else { None });
        match earlier {
            // What is there keeps its end, so it does not matter whether it got that before or after.
            Some(sum) => *sum = sum.checked_add(by).ok_or(TooLarge)?,
            None => self.0.push(Step::Add { by, ends }),
        }
        Ok(())
    }

    fn expire(&mut self, new: Ends, until: Ends, value: Option<V>) {
        if let [Step::Remove] = &self.0[..] {
            return;
        }
        // What these create ends so, too.
        let (mut is_settled, mut is_count, mut creates) = (false, false, false);
        for step in &mut self.0 {
            match step {
                Step::Write { ends, when, .. } => {
                    *ends = new;
                    is_settled |= *when != When::Absent;
                    creates |= *when == When::Absent;
                }
                Step::Add { ends, .. } => (*ends, is_count) = (new, true),
                Step::Expire { ends, .. } => (*ends, is_settled) = (new, true),
                Step::Remove => {}
            }
        }
        if is_settled {
            return;
        }
        if is_count && !creates {
            // Before the count: if it has to be put there anew, then as it was before.
            let value =
                value.as_ref().and_then(|value| number(value.as_ref())).map(|sum| sum.saturating_sub(self.counted()));
            let value = value.map(text);
            self.0.insert(0, Step::Expire { ends: new, until, value });
        } else {
            self.0.push(Step::Expire { ends: new, until, value: value.filter(|_| !creates) });
        }
    }

    /// The value has ended, as far as is known here. What may have been another's all the time is let alone: a count
    /// belongs to the number that it was made on, and has ended with it.
    pub(super) fn end(&mut self) {
        self.0 = if self.0.iter().all(Step::is_reserved) { Vec::new() } else { vec![Step::Remove] };
    }

    /// A step that was taken out was not done: it is the first again.
    pub(super) fn put_back(&mut self, step: Step<V>) {
        let later = core::mem::replace(&mut self.0, vec![step]);
        for step in later {
            if self.push(step.clone()).is_err() {
                // As two counts they fit.
                self.0.push(step);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;
    use std::borrow::ToOwned;
    use std::format;
    use std::string::String;

    use super::*;

    type Step = super::Step<Vec<u8>>;
    type Steps = super::Steps<Vec<u8>>;

    const NEVER: Ends = Instant::NEVER;

    fn at(seconds: u64) -> Ends {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    fn write(value: &'static str, when: When) -> Step {
        Step::Write { value: value.into(), ends: NEVER, when, until: NEVER }
    }

    const fn end(ends: Ends) -> Step {
        Step::Expire { ends, until: NEVER, value: None }
    }

    const fn add(by: i64) -> Step {
        Step::Add { by, ends: NEVER }
    }

    /// The steps as text, to be compared at a glance.
    fn after(steps: impl IntoIterator<Item = Step>) -> String {
        let mut owed = Steps::default();
        steps.into_iter().for_each(|step| owed.push(step).expect("small numbers"));
        told(&owed)
    }

    fn told(owed: &Steps) -> String {
        let end = |ends: &Ends| if *ends == NEVER { String::new() } else { format!("/{ends:?}") };
        let word = |step: &Step| match step {
            Step::Write { value, ends, when, .. } => {
                let when = match when {
                    When::Always => "",
                    When::Absent => "?",
                    When::Present => "!",
                };
                format!("{}{when}{}", String::from_utf8_lossy(value), end(ends))
            }
            Step::Remove => "-".to_owned(),
            Step::Add { by, ends } => format!("+{by}{}", end(ends)),
            Step::Expire { ends, value, .. } => {
                let anew = value.as_ref().map(|value| format!("({})", String::from_utf8_lossy(value)));
                format!("end{}{}", end(ends), anew.unwrap_or_default())
            }
        };
        owed.0.iter().map(word).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_replaces_everything_is_all_that_is_owed() {
        for last in [Step::Remove, write("9", When::Always)] {
            let alone = after([last.clone()]);
            for first in [Step::Remove, write("1", When::Always), write("1", When::Absent), add(1)] {
                assert_eq!(after([first, end(NEVER), add(2), last.clone()]), alone);
            }
        }
    }

    #[test]
    fn counts_are_added_up_and_stay_differences_where_the_number_is_not_ours() {
        assert_eq!(after([add(1), add(2)]), "+3");
        assert_eq!(after([write("5", When::Absent), add(2), add(-1)]), "5? +1");
        assert_eq!(after([write("5", When::Present), add(2)]), "5! +2");
        assert_eq!(after([write("5", When::Always), add(2)]), "7");
        assert_eq!(after([Step::Remove, add(2)]), "2");
        assert_eq!(after([add(1), end(at(9)), add(2)]), "end/9s +3/9s");
        let mut owed = Steps::default();
        owed.push(add(i64::MAX)).expect("it fits");
        assert_eq!(owed.push(add(1)), Err(TooLarge));
        assert_eq!(owed.counted(), i64::MAX);
    }

    #[test]
    fn conditions_are_kept_until_they_are_certain() {
        assert_eq!(after([write("a", When::Absent)]), "a?");
        assert_eq!(after([Step::Remove, write("a", When::Absent)]), "a");
        assert_eq!(after([write("a", When::Absent), write("b", When::Present)]), "b");
        assert_eq!(after([write("a", When::Present), write("b", When::Present)]), "b!");
        assert_eq!(after([add(1), write("b", When::Present)]), "b");
    }

    #[test]
    fn the_newest_end_is_that_of_what_is_there_and_of_what_is_created() {
        let end = |seconds| end(at(seconds));
        assert_eq!(after([end(5), end(6)]), "end/6s");
        assert_eq!(after([write("a", When::Always), end(5)]), "a/5s");
        assert_eq!(after([write("a", When::Absent), end(5)]), "a?/5s end/5s");
        assert_eq!(after([write("a", When::Present), end(5)]), "a!/5s");
        assert_eq!(after([Step::Remove, end(5)]), "-");
        assert_eq!(after([add(1), end(5), end(6)]), "end/6s +1/6s");
    }

    #[test]
    fn what_ends_later_than_it_would_have_is_put_there_anew_as_it_was() {
        let later = |value: &'static str| Step::Expire { ends: at(9), until: at(5), value: Some(value.into()) };
        assert_eq!(after([later("a")]), "end/9s(a)");
        assert_eq!(after([add(2), later("7")]), "end/9s(5) +2/9s");
        assert_eq!(after([later("5"), add(2)]), "end/9s(5) +2");
        assert_eq!(after([write("1", When::Absent), later("1")]), "1?/9s end/9s", "it was not there");
    }

    #[test]
    fn what_has_ended_leaves_others_alone() {
        let ended = |steps: &[Step]| {
            let mut owed = Steps::default();
            steps.iter().for_each(|step| owed.push(step.clone()).expect("small numbers"));
            owed.end();
            told(&owed)
        };
        assert_eq!(ended(&[add(1)]), "");
        assert_eq!(ended(&[write("1", When::Absent), add(1)]), "");
        assert_eq!(ended(&[write("1", When::Always)]), "-");
        assert_eq!(ended(&[write("1", When::Present)]), "-");
        assert_eq!(ended(&[add(1), end(at(1))]), "-");
    }

    #[test]
    fn a_step_that_was_not_done_is_the_first_again() {
        let mut owed = Steps::default();
        owed.push(add(2)).expect("it fits");
        owed.put_back(add(1));
        assert_eq!(told(&owed), "+3");
        owed.put_back(write("4", When::Always));
        assert_eq!(told(&owed), "7");
        owed.put_back(Step::Remove);
        assert_eq!(told(&owed), "7");
    }
}
