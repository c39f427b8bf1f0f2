//! A client of `fleet.v1` without a will of its own.

use std::time::Duration;

use patchfleet_proto::v1;
use patchfleet_proto::v1::agent_message::Body as Say;
use patchfleet_proto::v1::coordinator_message::Body as Hear;
use patchfleet_proto::v1::fleet_client::FleetClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::transport::Endpoint;
use tonic::{Request, Status, Streaming};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// One stream.
pub(crate) struct Client {
    tx: mpsc::Sender<v1::AgentMessage>,
    incoming: Streaming<v1::CoordinatorMessage>,
}

impl Client {
    pub(crate) async fn open(url: &str, key: &str) -> Result<Self, Status> {
        let endpoint = Endpoint::from_shared(url.to_owned()).unwrap();
        let channel = endpoint.connect().await.unwrap();
        let (tx, rx) = mpsc::channel(64);
        let mut request = Request::new(ReceiverStream::new(rx));
        let bearer = MetadataValue::try_from(format!("Bearer {key}")).unwrap();
        request.metadata_mut().insert("authorization", bearer);
        let incoming = FleetClient::new(channel).connect(request).await?;
        Ok(Self {
            tx,
            incoming: incoming.into_inner(),
        })
    }

    pub(crate) async fn say(&self, body: impl Into<Option<Say>>) {
        let message = v1::AgentMessage { body: body.into() };
        self.tx.send(message).await.unwrap();
    }

    /// The next message.
    pub(crate) async fn hear(&mut self) -> Result<Hear, Status> {
        let message = self.incoming.message().await?;
        Ok(message.unwrap().body.unwrap())
    }

    /// The next message for which `look` finds something; others are left out.
    pub(crate) async fn wait<T>(&mut self, what: &str, look: impl Fn(&Hear) -> Option<T>) -> T {
        let search = async {
            loop {
                let heard = self.hear().await.unwrap();
                if let Some(found) = look(&heard) {
                    return found;
                }
            }
        };
        let found = tokio::time::timeout(PATIENCE, search).await;
        found.unwrap_or_else(|_| panic!("waited in vain for {what}"))
    }

    /// How the stream ends, whatever is heard before.
    pub(crate) async fn end(mut self) -> Result<(), Status> {
        while self.incoming.message().await?.is_some() {}
        Ok(())
    }
}
