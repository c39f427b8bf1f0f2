//! The body of a delivery, read before anybody knows who sent it.
//!
//! Strangers may send what they like: all bodies together take a bounded part of the memory, and
//! each has to arrive within the time that GitHub itself waits for an answer.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::answer::Refused;

/// GitHub sends no more than this.
const MAX_BODY: usize = 25 * 1024 * 1024;
/// Nearly all deliveries are smaller than this.
const SMALL: usize = 1024 * 1024;
/// How much all small bodies may take that are read at once, and all others.
const MAX_SMALL: usize = 128 * SMALL;
const MAX_LARGE: usize = 6 * MAX_BODY;
/// What memory is counted in.
const UNIT: usize = 1024;
/// GitHub gives a delivery up after ten seconds.
const DEADLINE: Duration = Duration::from_secs(10);
/// How long a delivery waits for room.
const PATIENCE: Duration = Duration::from_secs(2);

/// The memory for bodies, in which large ones keep no room from small ones. Cheap to clone; clones
/// share it.
#[derive(Debug, Clone)]
pub(super) struct Bodies {
    small: Arc<Semaphore>,
    large: Arc<Semaphore>,
}

impl Default for Bodies {
    fn default() -> Self {
        let room = |bytes: usize| Arc::new(Semaphore::new(bytes / UNIT));
        Self {
            small: room(MAX_SMALL),
            large: room(MAX_LARGE),
        }
    }
}

/// A body that was read. Its memory counts until it is dropped: what is waited for with a body in
/// hand, such as GitHub or the database, may take longer than reading it.
#[derive(Debug)]
pub(super) struct Whole {
    bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

impl std::ops::Deref for Whole {
    type Target = Bytes;

    fn deref(&self) -> &Bytes {
        &self.bytes
    }
}

impl Bodies {
    /// Reads a body to its end.
    ///
    /// # Errors
    /// When it is too large, too slow, broken off, or there is no room for it now.
    pub(super) async fn read(&self, headers: &HeaderMap, body: Body) -> Result<Whole, Refused> {
        let length = announced(headers);
        if length > MAX_BODY {
            // Who is cut off while it sends does not read the answer.
            let _ = tokio::time::timeout(DEADLINE, discard(body)).await;
            return Err(Refused::TooLarge);
        }
        let units = u32::try_from(length.div_ceil(UNIT)).map_err(|_| Refused::TooLarge)?;
        let room = if length <= SMALL {
            Arc::clone(&self.small)
        } else {
            Arc::clone(&self.large)
        };
        let room = tokio::time::timeout(PATIENCE, room.acquire_many_owned(units)).await;
        let Ok(Ok(room)) = room else {
            return Err(Refused::Crowded);
        };
        let whole = tokio::time::timeout(DEADLINE, Limited::new(body, length).collect()).await;
        match whole {
            Ok(Ok(whole)) => Ok(Whole {
                bytes: whole.to_bytes(),
                _room: room,
            }),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Refused::TooLarge),
            Ok(Err(_)) => Err(Refused::Unreadable),
            Err(_) => Err(Refused::TooSlow),
        }
    }
}

/// Reads as much of a body as would have been taken, and keeps nothing.
async fn discard(mut body: Body) {
    let mut left = MAX_BODY;
    while let Some(Ok(frame)) = body.frame().await {
        left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
        if left == 0 {
            return;
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
        let many = futures::future::join_all((0..7).map(|_| bodies.read(&large, endless())));
        let beside = async {
            // Those have all the room there is for such by then.
            tokio::time::sleep(Duration::from_secs(1)).await;
            let small = bodies.read(&headers(2), Body::from("{}")).await;
            assert_eq!(**small.unwrap(), *b"{}", "large ones keep nobody else out");
        };
        let (refused, ()) = tokio::join!(many, beside);
        let crowded = |it: &&Result<Whole, Refused>| matches!(it, Err(Refused::Crowded));
        assert_eq!(refused.iter().filter(crowded).count(), 1, "{refused:?}");
        // They are gone, and there is room again.
        let whole = vec![b'x'; MAX_BODY];
        let again = bodies.read(&large, Body::from(whole)).await;
        assert_eq!(again.unwrap().len(), MAX_BODY);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_takes_its_room_until_it_is_handled() {
        let bodies = Bodies::default();
        let large = headers(MAX_BODY);
        let read = || bodies.read(&large, Body::from("{}"));
        let mut in_hand = Vec::new();
        for _ in 0..6 {
            in_hand.push(read().await.unwrap());
        }
        let crowded = read().await;
        assert!(matches!(crowded, Err(Refused::Crowded)), "{crowded:?}");
        in_hand.pop();
        assert_eq!(**read().await.unwrap(), *b"{}");
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
