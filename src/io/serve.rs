//! Answers questions about this process: by HTTP for probes and Prometheus, by a Unix
//! socket for `edgevip status`, which also takes orders. What the answers are is the caller's
//! business.

mod http;
mod orders;
mod unix;

use std::future::Future;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use async_io::Timer;
pub use http::{Door, serve_http};
pub use orders::{Order, order_socket};
use smol::future;
pub use unix::{ask_socket, serve_unix, socket_paths};

/// A question.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ask {
    /// `/healthz`.
    Health,
    /// `/livez`.
    Live,
    /// `/metrics`.
    Metrics,
    /// `/readyz`.
    Ready,
    /// `status` on the Unix socket.
    Status,
}

/// Answers with an HTTP status and a body.
pub type Answer = Rc<dyn Fn(Ask) -> (u16, String)>;

/// Whole conversations, not single reads: who sends a byte a second is cut off, too.
const TIME_LIMIT: Duration = Duration::from_secs(5);

/// How long a client of the Unix socket may keep others waiting.
const PATIENCE: Duration = Duration::from_millis(500);

/// Time between attempts to open a listener.
const RETRY: Duration = Duration::from_secs(10);

/// After an accept that failed, as without free file descriptors it would at once again.
const BREATHER: Duration = Duration::from_secs(1);

async fn limited<T>(
    limit: Duration,
    conversation: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    let late = async {
        Timer::after(limit).await;
        Err(io::ErrorKind::TimedOut.into())
    };
    future::or(conversation, late).await
}

/// Tries until it succeeds, and tells of each new reason why not.
async fn persistently<T>(what: &str, mut open: impl FnMut() -> io::Result<T>) -> T {
    let mut told = String::new();
    loop {
        match open() {
            Ok(it) if told.is_empty() => return it,
            Ok(it) => {
                log::info!("listening after all on {what}");
                return it;
            }
            Err(error) => {
                let why = error.to_string();
                if why != told {
                    log::warn!(error = why; "cannot listen on {what}, trying again every {RETRY:?}");
                    told = why;
                }
            }
        }
        Timer::after(RETRY).await;
    }
}
