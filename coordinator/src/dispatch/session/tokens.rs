//! Tokens on request: for the live attempt's repository, fetched beside the conversation.

use std::sync::Arc;

use patchfleet_domain::{AgentId, Work};
use patchfleet_proto::v1;
use patchfleet_proto::v1::coordinator_message::Body;
use patchfleet_proto::v1::credential::Answer;
use secrecy::ExposeSecret as _;
use tokio::task::JoinError;
use tonic::Status;

use super::Session;
use super::registration::invalid;
use crate::dispatch::credentials::{CredentialScope, Requested};
use crate::dispatch::service::Shared;

/// Requests of one agent that are under way at once.
const MOST: usize = 16;

impl Session {
    pub(super) async fn request_token(
        &mut self,
        request: v1::CredentialRequest,
    ) -> Result<(), Status> {
        if self.tokens.len() >= MOST {
            let refused = Answer::Refused(format!("{MOST} requests are under way; ask again"));
            return self.say_credential(request.request_id, refused).await;
        }
        let scope = request.scope();
        let work = request.work.map(Work::try_from).transpose();
        let work = work.map_err(|error| invalid(&error))?;
        let (shared, agent) = (self.shared.clone(), self.agent.clone());
        let is_local = self.is_local;
        self.tokens.spawn(async move {
            let issued = issue(&shared, (&agent, is_local), work, scope).await;
            v1::Credential {
                request_id: request.request_id,
                answer: Some(issued.map_or_else(Answer::Refused, Answer::Token)),
            }
        });
        Ok(())
    }

    pub(super) async fn answer(
        &mut self,
        credential: Result<v1::Credential, JoinError>,
    ) -> Result<(), Status> {
        match credential {
            Ok(credential) => self.outgoing.say(Body::Credential(credential)).await,
            Err(error) => {
                tracing::error!(%error, "fetching a token broke off");
                Ok(())
            }
        }
    }

    async fn say_credential(&mut self, request_id: String, answer: Answer) -> Result<(), Status> {
        let answer = Some(answer);
        let credential = v1::Credential { request_id, answer };
        self.outgoing.say(Body::Credential(credential)).await
    }
}

/// The token, or why there is none.
async fn issue(
    shared: &Arc<Shared>,
    (agent, is_local): (&AgentId, bool),
    work: Option<Work>,
    scope: v1::CredentialScope,
) -> Result<v1::Token, String> {
    let work = work.ok_or("field `credential_request.work` is missing")?;
    let scope = match scope {
        v1::CredentialScope::Read => CredentialScope::Read,
        v1::CredentialScope::Publish => CredentialScope::Publish,
        v1::CredentialScope::Unspecified => {
            return Err("field `credential_request.scope` is missing".to_owned());
        }
    };
    let away = |_| "the coordinator's database is unavailable; ask again".to_owned();
    let live = shared.store.live_attempts(agent).await.map_err(away)?;
    if !live.iter().any(|attempt| attempt.work == work) {
        tracing::warn!(agent.id = %agent, %work, "a token was refused: the attempt is not live");
        return Err("the attempt is not this agent's, or not live any more".to_owned());
    }
    let task = shared.store.task(work.task).await.map_err(away)?;
    let task = task.ok_or("the task is gone")?;
    let requested = Requested {
        repository: &task.repository,
        scope,
        is_local,
    };
    let issued = shared.credentials.token(requested).await;
    let issued = issued.inspect_err(|reason| {
        tracing::warn!(agent.id = %agent, %work, ?scope, reason, "a token was refused");
    })?;
    tracing::info!(agent.id = %agent, %work, ?scope, "a token was issued");
    Ok(v1::Token {
        token: issued.token.expose_secret().to_owned(),
        expires_unix_ms: u64::try_from(issued.expires_at.timestamp_millis()).unwrap_or_default(),
        api_url: issued.api_url.to_string(),
    })
}
