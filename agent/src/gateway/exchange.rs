//! A request on its way to the upstream, and its answer on its way back.
//!
//! It runs in a task of its own, so that a call is settled also when its client went away in the
//! middle: with what was received until then. The answer's bytes pass on as they come, but for the key;
//! of the last ones of a call the client hears when it is durable what the call used.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited, StreamBody};
use hyper::Response;
use hyper::body::Frame;
use hyper::header::CONTENT_ENCODING;
use hyper::http::response::Parts;
use patchfleet_model::{ModelError, NoAnswer};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;

use super::call::Call;
use super::mask::KeyMask;
use super::metered::TooMuch;
use super::record::OpenRequest;
use super::refusal::{Reason, Refused};
use super::{HEAD, OfSandbox, full};
use crate::sandbox::egress::{Allowance, Body};

/// Largest error that is passed on.
const MAX_ERROR: usize = 64 << 10;

type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// Where the answer's head goes, or why there is none.
pub(super) type HeadSender = oneshot::Sender<Result<Response<Body>, Refused>>;

/// A request that may be sent.
pub(super) struct Exchange {
    pub(super) request: reqwest::Request,
    /// The call that it is; none when nobody takes anything for it.
    pub(super) call: Option<Call>,
    pub(super) open: OpenRequest,
}

impl Exchange {
    /// Sends it and passes its answer on.
    pub(super) async fn run(self, sandbox: &OfSandbox, mut client: HeadSender) {
        let Self {
            request,
            mut call,
            open,
        } = self;
        let executed = sandbox.model.client.execute(request);
        let answered = tokio::select! {
            answered = executed => answered,
            () = client.closed() => {
                return unanswered(call, NoAnswer::lost(ModelError::Cancelled)).await;
            }
        };
        let response = match answered {
            Ok(response) => Response::from(response),
            // The client's own limit of what it reads, which is that of an answer.
            Err(error) if error.is_timeout() && !error.is_connect() => {
                let limit = sandbox.model.limits.answer;
                unanswered(call, NoAnswer::timed_out(limit)).await;
                let late = format!("the model does not answer within {limit:?}");
                return answer(client, Err(away(late)));
            }
            Err(error) => {
                let error = error.without_url();
                unanswered(call, NoAnswer::failed(&error)).await;
                return answer(client, Err(OfSandbox::not_sent(&error)));
            }
        };
        let (mut head, body) = response.into_parts();
        head.extensions = hyper::http::Extensions::new();
        if let Some(call) = &mut call {
            call.answered(head.status);
        }
        let key = sandbox.model.upstream.key().as_bytes();
        if !head.status.is_success() {
            let refused = refused(&head, body, (key, &mut call)).await;
            if let Some((call, error)) = refused.error {
                call.free(Some(error)).await;
            }
            sandbox.pick(&mut head.headers);
            head.headers.remove(CONTENT_ENCODING);
            drop(open);
            return answer(
                client,
                refused.answer.map(|body| Response::from_parts(head, body)),
            );
        }
        let encoding = head.headers.remove(CONTENT_ENCODING);
        if encoding.is_some_and(|it| it != "identity") {
            let away = away("the model's server compresses what was to be plain");
            let lost = NoAnswer::lost(transport(&away.message));
            unanswered(call, lost).await;
            return answer(client, Err(away));
        }
        sandbox.pick(&mut head.headers);
        let (pieces, stream) = mpsc::channel(1);
        let stream = Body::new(StreamBody::new(ReceiverStream::new(stream)));
        answer(client, Ok(Response::from_parts(head, stream)));
        let passing = Passing {
            body,
            mask: KeyMask::new(key),
            allowance: sandbox.down.clone(),
            pieces,
        };
        passing.pass(call, open).await;
    }
}

/// An answer that passes on.
struct Passing {
    body: reqwest::Body,
    mask: KeyMask,
    allowance: Allowance,
    pieces: mpsc::Sender<Result<Frame<Bytes>, BoxError>>,
}

impl Passing {
    /// Passes it on to its end, and settles the call as soon as its answer is whole.
    async fn pass(mut self, mut call: Option<Call>, open: OpenRequest) {
        let mut reading = call.as_ref().map(Call::reading);
        let ended = loop {
            let piece = tokio::select! {
                piece = self.body.frame() => piece,
                () = self.pieces.closed() => break Err(None),
            };
            let bytes = match piece.map(|it| it.map(Frame::into_data)) {
                None => break Ok(()),
                Some(Ok(Ok(bytes))) => bytes,
                // Trailers.
                Some(Ok(Err(_))) => continue,
                Some(Err(error)) => break Err(Some(error.into())),
            };
            if let Some(reading) = &mut reading {
                reading.push(&bytes);
            }
            let passed = self.mask.push(&bytes);
            if let Some(call) = &mut call {
                call.passed(&passed);
            }
            if reading
                .as_ref()
                .is_some_and(patchfleet_model::Reading::is_complete)
                && let (Some(call), Some(reading)) = (call.take(), reading.take())
            {
                call.settle(reading.end()).await;
            }
            if let Err(error) = self.send(passed).await {
                break Err(error);
            }
        };
        let ended = match ended {
            Ok(()) => {
                let rest = self.mask.finish();
                if let Some(call) = &mut call {
                    call.passed(&rest);
                }
                self.send(rest).await
            }
            failed => failed,
        };
        if let (Some(call), Some(mut reading)) = (call, reading) {
            match &ended {
                Ok(()) => {}
                Err(None) => reading.fail(ModelError::Cancelled),
                Err(Some(error)) => reading.fail(transport(&error.to_string())),
            }
            call.settle(reading.end()).await;
        }
        // The request is over when its client sees the end.
        drop(open);
        if let Err(Some(error)) = ended {
            let _ = self.pieces.send(Err(error)).await;
        }
    }

    /// Sends a piece; an error without a word means that nobody is there to read it.
    async fn send(&mut self, bytes: Vec<u8>) -> Result<(), Option<BoxError>> {
        if bytes.is_empty() {
            return Ok(());
        }
        if !self.allowance.take(bytes.len()) {
            // Less would have fitted; but a stream that was cut is not worth its rest.
            self.allowance.use_up();
            return Err(Some(TooMuch.into()));
        }
        let sent = self.pieces.send(Ok(Frame::data(bytes.into()))).await;
        sent.map_err(|_| None)
    }
}

/// An answer whose status is none of success.
struct RefusedAnswer {
    answer: Result<Body, Refused>,
    /// The call, which was refused before anything was generated, and why.
    error: Option<(Call, ModelError)>,
}

async fn refused(
    head: &Parts,
    body: reqwest::Body,
    (key, call): (&[u8], &mut Option<Call>),
) -> RefusedAnswer {
    let text = error_text(body, KeyMask::new(key)).await;
    let error = call.take().map(|mut call| {
        call.passed(&text);
        let error = call.refusal(head, &text);
        (call, error)
    });
    let status = head.status;
    let answer = if status.is_redirection() || status.is_informational() {
        Err(Refused::new(
            Reason::Away,
            format!("the model's server answers {status}, which is not followed"),
        ))
    } else {
        Ok(full(text))
    };
    RefusedAnswer { answer, error }
}

/// An error's text, bounded, without the key and what looks like one.
async fn error_text(body: reqwest::Body, mut mask: KeyMask) -> Bytes {
    /// For the text of an error.
    const PATIENCE: Duration = HEAD;
    let read = timeout(PATIENCE, Limited::new(body, MAX_ERROR).collect()).await;
    let Ok(Ok(read)) = read else {
        return Bytes::new();
    };
    let mut bytes = mask.push(&read.to_bytes());
    bytes.extend(mask.finish());
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Bytes::from(patchfleet_guard::redact(&text).into_owned())
}

pub(super) fn away(message: impl Into<String>) -> Refused {
    Refused::new(Reason::Away, message)
}

fn transport(message: &str) -> ModelError {
    ModelError::Away {
        transport: message.to_owned(),
    }
}

/// Whoever asked may have gone away.
pub(super) fn answer(client: HeadSender, answer: Result<Response<Body>, Refused>) {
    let _ = client.send(answer);
}

async fn unanswered(call: Option<Call>, no_answer: NoAnswer) {
    if let Some(call) = call {
        call.unanswered(no_answer).await;
    }
}
