//! The port that callers of a model stand at.

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::{Answer, Broken, Conversation, Origin};

/// A model that can be asked: a client of a provider, one that adds retry, budget or recording
/// to another, or a double in a test.
#[async_trait]
pub trait Model: Send + Sync {
    /// Which model this is.
    fn origin(&self) -> &Origin;

    /// Asks for the next turn of a conversation.
    ///
    /// # Errors
    /// [`Broken`] when there is no whole answer, with what was received and used until then. A
    /// cancelled call ends so within a second.
    async fn answer(
        &self,
        conversation: &Conversation,
        cancel: &CancellationToken,
    ) -> Result<Answer, Broken>;
}

#[async_trait]
impl<M: Model + ?Sized> Model for std::sync::Arc<M> {
    fn origin(&self) -> &Origin {
        (**self).origin()
    }

    async fn answer(
        &self,
        conversation: &Conversation,
        cancel: &CancellationToken,
    ) -> Result<Answer, Broken> {
        (**self).answer(conversation, cancel).await
    }
}
