//! The body of a delivery, read before anybody knows who sent it.
//!
//! Strangers may send what they like: all bodies together take a bounded part of the memory, and
//! each has to arrive within the time that GitHub itself waits for an answer.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use tokio::sync::Semaphore;

use super::answer::Refused;

/// GitHub sends no more than this.
const MAX_BODY: usize = 25 * 1024 * 1024;
/// How much all bodies may take that are read at once.
const MAX_BODIES: usize = 10 * MAX_BODY;
/// What memory is counted in.
const UNIT: usize = 1024;
/// GitHub gives a delivery up after ten seconds.
const DEADLINE: Duration = Duration::from_secs(10);
/// How long a delivery waits for room.
const PATIENCE: Duration = Duration::from_secs(2);

/// The memory for bodies. Cheap to clone; clones share it.
#[derive(Debug, Clone)]
pub(super) struct Bodies(Arc<Semaphore>);

impl Default for Bodies {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_BODIES / UNIT)))
    }
}

impl Bodies {
    /// Reads a body to its end.
    ///
    /// # Errors
    /// When it is too large, too slow, broken off, or there is no room for it now.
    pub(super) async fn read(&self, headers: &HeaderMap, body: Body) -> Result<Bytes, Refused> {
        let length = announced(headers);
        if length > MAX_BODY {
            return Err(Refused::TooLarge);
        }
        let units = u32::try_from(length.div_ceil(UNIT)).map_err(|_| Refused::TooLarge)?;
        let room = tokio::time::timeout(PATIENCE, self.0.acquire_many(units)).await;
        let Ok(Ok(_room)) = room else {
            return Err(Refused::Crowded);
        };
        let whole = tokio::time::timeout(DEADLINE, Limited::new(body, length).collect()).await;
        match whole {
            Ok(Ok(whole)) => Ok(whole.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Refused::TooLarge),
            Ok(Err(_)) => Err(Refused::Unreadable),
            Err(_) => Err(Refused::TooSlow),
        }
    }
}

/// The length that the sender announces, which GitHub does; the largest there may be otherwise.
fn announced(headers: &HeaderMap) -> usize {
    let length = headers.get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
    length.unwrap_or(MAX_BODY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::StreamExt as _;

    fn headers(length: usize) -> HeaderMap {
        let length = length.to_string().parse().unwrap();
        HeaderMap::from_iter([(header::CONTENT_LENGTH, length)])
    }

    /// A body of which nothing ever comes.
    fn endless() -> Body {
        Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>())
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_trickles_is_given_up() {
        let drip = futures::stream::repeat(()).then(|()| async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok::<_, std::io::Error>(Bytes::from_static(b"x"))
        });
        let drip = Body::from_stream(drip);
        let read = Bodies::default().read(&headers(1000), drip).await;
        assert!(matches!(read, Err(Refused::TooSlow)), "{read:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_that_announce_more_than_there_is_room_for_wait_and_are_refused() {
        let bodies = Bodies::default();
        let large = headers(MAX_BODY);
        let many = (0..11).map(|_| bodies.read(&large, endless()));
        let refused = futures::future::join_all(many).await;
        let crowded = |it: &&Result<Bytes, Refused>| matches!(it, Err(Refused::Crowded));
        assert_eq!(refused.iter().filter(crowded).count(), 1, "{refused:?}");
        // They are gone, and there is room again.
        let small = bodies.read(&headers(2), Body::from("{}")).await;
        assert_eq!(small.unwrap(), "{}");
    }

    #[tokio::test]
    async fn a_body_is_no_longer_than_it_may_be() {
        let bodies = Bodies::default();
        let read = bodies.read(&headers(MAX_BODY + 1), Body::empty()).await;
        assert!(matches!(read, Err(Refused::TooLarge)), "{read:?}");
        let chunked = vec![b'x'; MAX_BODY + 1];
        let read = bodies.read(&HeaderMap::new(), Body::from(chunked)).await;
        assert!(matches!(read, Err(Refused::TooLarge)), "{read:?}");
    }
}
