//! The stream to the coordinator: register, heartbeat, listen, and connect again when it breaks.
//!
//! A stream has no memory of its own. What an agent has to say is on its [`desk`]; a new stream
//! says again what was not acknowledged, to whichever coordinator answers.

pub(crate) mod desk;
#[cfg(test)]
pub(crate) mod heard;
mod refusal;
pub(crate) mod reporter;
mod stream;

use std::sync::Arc;
use std::time::Duration;

use patchfleet_proto::v1::fleet_client::FleetClient;
use patchfleet_proto::{MAX_MESSAGE_BYTES, PUSHBACK};
use rand::Rng as _;
use tokio_util::sync::CancellationToken;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::member::Member;
pub use refusal::{IdTaken, NotAdmitted};
use refusal::{Refusals, Verdict};
use stream::{Ended, Stream};

/// The first pause before connecting again.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest one: a coordinator that is back is found within it.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// The longest that a coordinator may ask for.
const LONGEST_PUSHBACK: Duration = Duration::from_mins(1);
/// How long a connection may take.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// How often HTTP/2 asks whether the other side is there, and how long it waits for an answer.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(10));

/// A client that shows the fleet's key.
type Client = FleetClient<InterceptedService<Channel, ShowKey>>;

/// Adds the key to each call.
#[derive(Clone)]
pub(crate) struct ShowKey(MetadataValue<Ascii>);

impl tonic::service::Interceptor for ShowKey {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request
            .metadata_mut()
            .insert("authorization", self.0.clone());
        Ok(request)
    }
}

impl ShowKey {
    /// Makes the header once; it is never shown in logs.
    pub(crate) fn new(key: &str) -> anyhow::Result<Self> {
        let mut value: MetadataValue<Ascii> = format!("Bearer {key}").parse().map_err(|_| {
            anyhow::anyhow!("the fleet key has characters that a header can't carry")
        })?;
        value.set_sensitive(true);
        Ok(Self(value))
    }
}

/// Keeps a stream to the coordinator until told to say goodbye.
///
/// # Errors
/// [`IdTaken`] or [`NotAdmitted`] when the coordinator refuses this agent for good.
pub(crate) async fn run(member: Arc<Member>, goodbye: CancellationToken) -> anyhow::Result<()> {
    let mut pause = FIRST_PAUSE;
    let mut refusals = Refusals::default();
    loop {
        let mut asked = Duration::ZERO;
        let ended = tokio::select! {
            ended = once(&member, &goodbye) => ended,
            () = forced(&goodbye) => return Ok(()),
        };
        match ended {
            Ok(Ended::Goodbye) => return Ok(()),
            Ok(Ended::TakenOver) => return Err(refused(&member, Verdict::IdTaken)),
            Ok(Ended::Broken { lasted, why }) => {
                tracing::warn!(why, "the stream to the coordinator broke");
                refusals.admitted();
                if lasted > LONGEST_PAUSE {
                    pause = FIRST_PAUSE;
                }
            }
            Err(error) => {
                let before = member.was_admitted();
                match refusals.judge(status(&error), before) {
                    Verdict::TryAgain => {}
                    verdict => return Err(refused(&member, verdict)),
                }
                tracing::warn!(error = format!("{error:#}"), "can't reach the coordinator");
                asked = pushback(&error).unwrap_or_default();
            }
        }
        let jitter = rand::rng().random_range(0.5..=1.0);
        tokio::select! {
            () = tokio::time::sleep(asked + pause.mul_f64(jitter)) => {}
            () = goodbye.cancelled() => return Ok(()),
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// The end of an agent that the coordinator refuses for good.
fn refused(member: &Member, verdict: Verdict) -> anyhow::Error {
    let id = member.config.id.clone();
    let coordinator = member.config.coordinator.url.clone();
    match verdict {
        Verdict::NotAdmitted(reason) => NotAdmitted {
            id,
            coordinator,
            reason,
        }
        .into(),
        Verdict::IdTaken | Verdict::TryAgain => IdTaken { id, coordinator }.into(),
    }
}

fn status(error: &anyhow::Error) -> Option<&Status> {
    error.chain().find_map(|cause| cause.downcast_ref())
}

/// A time in a refusal's trailers.
fn millis(status: &Status, trailer: &str) -> Option<Duration> {
    let millis = status.metadata().get(trailer)?.to_str().ok()?;
    Some(Duration::from_millis(millis.parse().ok()?))
}

/// How long the coordinator asked to be left alone.
fn pushback(error: &anyhow::Error) -> Option<Duration> {
    Some(millis(status(error)?, PUSHBACK)?.min(LONGEST_PUSHBACK))
}

/// Nobody waits longer than this for a goodbye to arrive.
async fn forced(goodbye: &CancellationToken) {
    goodbye.cancelled().await;
    tokio::time::sleep(LONGEST_PAUSE).await;
}

async fn once(member: &Arc<Member>, goodbye: &CancellationToken) -> anyhow::Result<Ended> {
    let endpoint = Endpoint::from_shared(member.config.coordinator.url.to_string())?
        .connect_timeout(CONNECT_PATIENCE)
        .http2_keep_alive_interval(KEEPALIVE.0)
        .keep_alive_timeout(KEEPALIVE.1)
        .keep_alive_while_idle(true)
        .tcp_nodelay(true);
    let channel = endpoint.connect().await?;
    let client: Client = FleetClient::with_interceptor(channel, member.key.clone())
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    Stream::open(client, member).await?.run(goodbye).await
}
