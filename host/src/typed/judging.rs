//! What the error of a loader means for its origin: as it was said of its type, else as the error says itself.

use std::any::{Any, TypeId};
use std::sync::Arc;
use std::time::Duration;

use tideover_core::{Class, LoadFailure};

use crate::error::Error;
use crate::loader::LoadError;

/// What was said of error types, of each once. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Judges(Arc<[Judge]>);

/// What was said of one error type.
#[derive(Clone)]
struct Judge {
    of: TypeId,
    class: Option<Arc<Reading<Class>>>,
    retry_after: Option<Arc<Reading<Duration>>>,
}

type Reading<T> = dyn Fn(&dyn Any) -> Option<T> + Send + Sync;

impl Judges {
    /// The same, and the class of an `E` is this.
    pub(super) fn class<E: 'static>(&self, class: impl Fn(&E) -> Class + Send + Sync + 'static) -> Self {
        let read = move |error: &dyn Any| error.downcast_ref().map(&class);
        self.and::<E>(|judge| judge.class = Some(Arc::new(read)))
    }

    /// The same, and an `E` asks to be asked again after so long.
    pub(super) fn retry_after<E: 'static>(
        &self,
        wait: impl Fn(&E) -> Option<Duration> + Send + Sync + 'static,
    ) -> Self {
        let read = move |error: &dyn Any| error.downcast_ref().and_then(&wait);
        self.and::<E>(|judge| judge.retry_after = Some(Arc::new(read)))
    }

    fn and<E: 'static>(&self, say: impl FnOnce(&mut Judge)) -> Self {
        let new = Judge { of: TypeId::of::<E>(), class: None, retry_after: None };
        let mut judge = self.of::<E>().cloned().unwrap_or(new);
        say(&mut judge);
        let others = self.0.iter().filter(|other| other.of != judge.of).cloned();
        Self(others.chain([judge.clone()]).collect())
    }

    fn of<E: 'static>(&self) -> Option<&Judge> {
        self.0.iter().find(|judge| judge.of == TypeId::of::<E>())
    }

    /// The error as the cache takes it, with the loader's own inside.
    pub(super) fn judge<E: Send + Sync + 'static>(&self, error: E) -> LoadError {
        let (judge, itself) = (self.of::<E>(), of_itself(&error));
        let known = itself.as_ref().map_or(LoadFailure::from(Class::Unavailable), LoadError::failure);
        let class = judge.and_then(|judge| judge.class.as_ref()?(&error)).unwrap_or(known.class);
        let retry_after = match judge.and_then(|judge| judge.retry_after.as_ref()) {
            Some(said) => said(&error),
            None => known.retry_after,
        };
        let itself = itself.unwrap_or_else(|| LoadError::of_class(class));
        itself.failing(LoadFailure { class, retry_after }).owning(error)
    }
}

/// What an error of this crate says of itself: a loader may bring one that it has made, or that of another cache.
fn of_itself(error: &dyn Any) -> Option<LoadError> {
    let error = match error.downcast_ref::<LoadError>() {
        Some(error) => return Some(error.clone()),
        None => error.downcast_ref::<Error>()?,
    };
    let class = match error {
        Error::Load(load) => return Some(LoadError::clone(load)),
        Error::Remembered { class, .. } => *class,
        _ if error.is_unavailable() => Class::Unavailable,
        _ => Class::Answer,
    };
    let retry_after = error.retry_after();
    Some(LoadError::of_class(class).failing(LoadFailure { class, retry_after }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    struct Busy(u64);

    fn wait(error: &LoadError) -> Option<Duration> {
        error.failure().retry_after
    }

    #[test]
    fn an_error_of_this_crate_keeps_what_it_says_and_comes_back_whole() {
        let limited = LoadError::isolated("slowly").retry_after(Duration::from_secs(3)).with_detail("page".into());
        let judged = Judges::default().judge(limited);
        assert_eq!((judged.class(), wait(&judged)), (Class::Isolated, Some(Duration::from_secs(3))));
        assert_eq!((judged.detail().as_ref(), judged.to_string().as_str()), (&b"page"[..], "slowly"));
        let own = judged.own::<LoadError>().expect("the loader's");
        assert_eq!((own.class(), own.detail().as_ref()), (Class::Isolated, &b"page"[..]));
    }

    #[test]
    fn what_another_cache_has_to_say_is_understood() {
        let class = |error: Error| Judges::default().judge(error).class();
        assert_eq!(class(Error::Load(Arc::new(LoadError::answer("gone")))), Class::Answer);
        assert_eq!(class(Error::Load(Arc::new(LoadError::timed_out("late")))), Class::TimedOut);
        let retry_after = Duration::from_secs(1);
        assert_eq!(class(Error::Remembered { class: Class::Isolated, retry_after }), Class::Isolated);
        assert_eq!(class(Error::Absent { retry_after: None }), Class::Answer);
        let open = Judges::default().judge(Error::Open { retry_after: Some(retry_after) });
        assert_eq!((open.class(), wait(&open)), (Class::Unavailable, Some(retry_after)));
        assert!(matches!(open.own::<Error>().as_deref(), Some(Error::Open { .. })));
    }

    #[test]
    fn class_and_wait_of_a_type_are_said_apart_and_the_last_word_on_each_counts() {
        let busy = |error: &Busy| Some(Duration::from_secs(error.0)).filter(|wait| !wait.is_zero());
        let judges = Judges::default().class(|_: &Busy| Class::Answer).retry_after(busy);
        let judges = judges.class(|_: &Busy| Class::Isolated);
        let judged = judges.judge(Busy(3));
        assert_eq!((judged.class(), wait(&judged)), (Class::Isolated, Some(Duration::from_secs(3))));
        assert_eq!((judged.own::<Busy>().as_deref(), wait(&judges.judge(Busy(0)))), (Some(&Busy(3)), None));
        let other = judges.judge("of another type");
        assert_eq!((other.class(), wait(&other)), (Class::Unavailable, None));
    }

    #[test]
    fn what_is_said_of_an_error_of_this_crate_overrules_it() {
        let judges = Judges::default().class(|_: &LoadError| Class::Unavailable).retry_after(|_: &LoadError| None);
        let judged = judges.judge(LoadError::answer("gone").retry_after(Duration::from_secs(3)));
        assert_eq!((judged.class(), wait(&judged)), (Class::Unavailable, None));
        assert_eq!(judged.to_string(), "gone");
    }
}
