//! Waiting for what a device answers. Natively the thread waits; in a browser none may, and what is not there yet comes
//! to whoever awaits it.

use crate::error::{Error, Result};
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

/// Whether this thread may wait.
pub const WAITS: bool = !cfg!(target_arch = "wasm32");

/// The value of a future, once it is there.
///
/// # Errors
/// Its own; in a browser, that it is not there yet.
pub fn here<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    let mut future = pin!(future);
    // Natively what is awaited has mostly waited itself: then no memory is asked for.
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending if WAITS => pollster::block_on(future),
        Poll::Pending => Err(Error::Device(
            "nothing may wait for a device in a browser: there the functions that end with _async do"
                .to_string(),
        )),
    }
}
