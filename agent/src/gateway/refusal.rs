//! What a client is told whose request does not go on, in the form that its protocol has for errors.

use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use patchfleet_model::Protocol;
use serde_json::{Value, json};

use super::full;
use crate::sandbox::egress::{Body, REASON_HEADER};

/// A request that is not answered by the upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) reason: Reason,
    pub(super) message: String,
}

/// Why it is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// Nothing of a model is asked for, or something that the gateway can't count.
    NotAllowed,
    /// It can't be read.
    Malformed,
    /// It is more than a sandbox may send or receive.
    TooMuch,
    /// No budget has room for it.
    NoBudget,
    /// The upstream did not answer, or not usefully.
    Away,
}

impl Reason {
    const fn status(self) -> StatusCode {
        match self {
            Self::NotAllowed => StatusCode::FORBIDDEN,
            Self::Malformed => StatusCode::BAD_REQUEST,
            Self::TooMuch => StatusCode::PAYLOAD_TOO_LARGE,
            Self::NoBudget => StatusCode::PAYMENT_REQUIRED,
            Self::Away => StatusCode::BAD_GATEWAY,
        }
    }

    /// The word for logs, and for whoever looks at the answer's head.
    const fn word(self) -> &'static str {
        match self {
            Self::NotAllowed => "request_not_allowed",
            Self::Malformed => "request_malformed",
            Self::TooMuch => "too_many_bytes",
            Self::NoBudget => "budget_spent",
            Self::Away => "upstream_unreachable",
        }
    }

    /// The provider's own word.
    const fn kind(self, protocol: Protocol) -> &'static str {
        match (protocol, self) {
            (Protocol::Anthropic, Self::NotAllowed) => "permission_error",
            (Protocol::Anthropic, Self::NoBudget) => "billing_error",
            (Protocol::Anthropic, Self::Away) => "api_error",
            (Protocol::Gemini, Self::NotAllowed) => "PERMISSION_DENIED",
            (Protocol::Gemini, Self::Malformed | Self::TooMuch) => "INVALID_ARGUMENT",
            (Protocol::Gemini, Self::NoBudget) => "FAILED_PRECONDITION",
            (Protocol::Gemini, Self::Away) => "UNAVAILABLE",
            // The word that OpenAI's clients know as one after which nothing is tried again.
            (Protocol::Responses | Protocol::Chat, Self::NoBudget) => "insufficient_quota",
            (Protocol::Responses | Protocol::Chat, Self::Away) => "server_error",
            (Protocol::Responses | Protocol::Chat, Self::NotAllowed) => "request_not_allowed",
            (_, Self::Malformed) => "invalid_request_error",
            (Protocol::Anthropic | Protocol::Responses | Protocol::Chat, Self::TooMuch) => {
                "request_too_large"
            }
            (Protocol::Ollama, reason) => reason.word(),
        }
    }
}

impl Refused {
    pub(super) fn new(reason: Reason, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { reason, message }
    }

    /// The answer, in the form of a protocol.
    pub(super) fn response(&self, protocol: Protocol) -> Response<Body> {
        let Self { reason, message } = self;
        tracing::info!(reason = reason.word(), message, "model request refused");
        let body = Bytes::from(self.body(protocol).to_string());
        let mut response = Response::new(full(body));
        *response.status_mut() = reason.status();
        let headers = response.headers_mut();
        headers.insert(REASON_HEADER, HeaderValue::from_static(reason.word()));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if *reason != Reason::Away {
            // What the official clients obey before they look at the status.
            headers.insert("x-should-retry", HeaderValue::from_static("false"));
        }
        response
    }

    fn body(&self, protocol: Protocol) -> Value {
        let kind = self.reason.kind(protocol);
        let message = format!("Patchfleet: {}", self.message);
        match protocol {
            Protocol::Anthropic => {
                json!({"type": "error", "error": {"type": kind, "message": message}})
            }
            Protocol::Responses | Protocol::Chat => json!({
                "error": {"message": message, "type": kind, "param": null, "code": kind}
            }),
            Protocol::Gemini => {
                let code = self.reason.status().as_u16();
                json!({"error": {"code": code, "message": message, "status": kind}})
            }
            Protocol::Ollama => json!({"error": message}),
        }
    }
}
