//! A message from one task of the instance to another, sent once.

use core::future::poll_fn;
use core::task::{Poll, Waker};

use spin::Mutex;

pub(super) struct OneShot<T>(Mutex<Slot<T>>);

struct Slot<T> {
    message: Option<T>,
    receiver: Option<Waker>,
}

impl<T> Default for OneShot<T> {
    fn default() -> Self {
        Self(Mutex::new(Slot { message: None, receiver: None }))
    }
}

impl<T> OneShot<T> {
    /// Wakes the receiver, for which the instance calls a built-in of its host: not to be done under a lock.
    pub(super) fn send(&self, message: T) {
        let receiver = {
            let mut slot = self.0.lock();
            slot.message = Some(message);
            slot.receiver.take()
        };
        if let Some(receiver) = receiver {
            receiver.wake();
        }
    }

    pub(super) async fn receive(&self) -> T {
        poll_fn(|cx| {
            let mut slot = self.0.lock();
            match slot.message.take() {
                Some(message) => Poll::Ready(message),
                None => {
                    slot.receiver = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }
}
