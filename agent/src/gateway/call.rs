//! One call of a model by another program: reserved before it is sent, settled with what its answer
//! says that it used.

use bytes::Bytes;
use patchfleet_model::{
    Entry, ModelError, NoAnswer, Origin, Protocol, Read, Reading, Target, Usage,
};
use url::Url;

use super::call_log::{CallLog, Entry as LogEntry};
use super::record::ModelRecord;
use super::refusal::{Reason, Refused};
use super::request::Asked;
use crate::config::known_model;
use crate::model::Budgets;
use crate::model::charges::{Charges, spent};

/// Who allows the calls of one sandbox, and where it is noted what they used.
pub(super) struct Accounts {
    pub(super) budgets: Budgets,
    pub(super) base: Url,
    pub(super) record: ModelRecord,
    /// Where calls are recorded, if they are.
    pub(super) log: Option<CallLog>,
}

/// A call that may be made.
pub(super) struct Call {
    target: Target,
    sent: usize,
    /// Its charges, and the name under which it is reserved; none where there are no budgets.
    reserved: Option<(Charges, String)>,
    record: ModelRecord,
    log: Option<LogEntry>,
}

impl Accounts {
    /// Reserves a call, by its path and its body. Once one was refused, all are: a command that
    /// goes on with smaller questions does not get its work done either.
    pub(super) async fn reserve(
        &self,
        asked: &Asked,
        (protocol, path, body): (Protocol, &str, &Bytes),
    ) -> Result<Call, Refused> {
        if let Some(failure) = self.record.stopped() {
            return Err(Refused::new(Reason::NoBudget, failure.message));
        }
        let origin = Origin {
            provider: protocol.name().to_owned(),
            model: asked.model.clone(),
        };
        let target = Target::new(protocol, origin.clone()).at(self.base.clone());
        let entry: Option<&'static Entry> = known_model(&target);
        let (prompt, output) = asked.most(entry);
        let reserved = match self.budgets.charges(origin, entry.cloned()) {
            None => None,
            Some(charges) => {
                let failure = match charges.reserve(prompt, output).await {
                    Ok(Ok(call)) => Ok((charges, call)),
                    Ok(Err(exceeded)) => Err(spent(exceeded)),
                    Err(failure) => Err(failure),
                };
                Some(failure.map_err(|failure| {
                    let refused = Refused::new(Reason::NoBudget, failure.message.clone());
                    self.record.stop(failure);
                    refused
                })?)
            }
        };
        Ok(Call {
            target,
            sent: body.len(),
            reserved,
            record: self.record.clone(),
            log: self.log.as_ref().map(|it| it.begin(path, body.clone())),
        })
    }
}

impl Call {
    /// A reader of its answer.
    pub(super) fn reading(&self) -> Reading {
        self.target.reading(self.sent)
    }

    /// The status of the answer.
    pub(super) fn answered(&mut self, status: hyper::StatusCode) {
        if let Some(log) = &mut self.log {
            log.answered(status.as_u16());
        }
    }

    /// A piece of the answer as the client gets it.
    pub(super) fn passed(&mut self, piece: &[u8]) {
        if let Some(log) = &mut self.log {
            log.push(piece);
        }
    }

    /// The error that an answer is whose status is none of success.
    pub(super) fn refusal(&self, head: &hyper::http::response::Parts, body: &[u8]) -> ModelError {
        self.target.refusal(head.status, &head.headers, body)
    }

    /// There is no answer: charged as our own calls are.
    pub(super) async fn unanswered(self, no_answer: NoAnswer) {
        let broken = self.target.unanswered(no_answer, self.sent);
        self.settle(broken.into()).await;
    }

    /// It was not sent, or refused before anything was generated.
    pub(super) async fn free(self, error: Option<ModelError>) {
        let usage = Usage::default();
        self.settle(Read { usage, error }).await;
    }

    /// Returns when it is durable what the call used.
    pub(super) async fn settle(self, read: Read) {
        if let Some(log) = self.log {
            log.end(&read);
        }
        let Read { usage, error } = read;
        self.record.used(&self.target.origin, usage, error);
        if let Some((charges, call)) = self.reserved {
            charges.settle(call, usage).await;
        }
    }
}
