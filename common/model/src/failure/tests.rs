use http::HeaderValue;
use serde_json::{Value, json};

use super::*;
use crate::protocol::report;

fn error(status: u16, body: Value) -> ModelError {
    let mut report = report(&body);
    report.status.get_or_insert(status);
    let sent = [
        Parameter::Temperature,
        Parameter::Effort,
        Parameter::EncryptedReasoning,
    ];
    report.error("m", &sent.into())
}

fn openai(status: u16, code: &str, message: &str) -> ModelError {
    let body = json!({"error": {"message": message, "type": "x", "param": null, "code": code}});
    error(status, body)
}

fn anthropic(status: u16, kind: &str, message: &str) -> ModelError {
    error(
        status,
        json!({"type": "error", "error": {"type": kind, "message": message}}),
    )
}

fn seconds(after: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(after).ok()
}

#[test]
fn each_provider_s_errors_have_their_class() {
    use ModelError as E;
    let is = |error: ModelError, word: &str| assert_eq!(error.word(), word, "{error:?}");
    is(
        anthropic(401, "authentication_error", "invalid x-api-key"),
        "authentication",
    );
    is(anthropic(402, "billing_error", "pay"), "quota");
    is(
        anthropic(404, "not_found_error", "model: m"),
        "unknown_model",
    );
    is(
        anthropic(413, "request_too_large", "too large"),
        "context_too_long",
    );
    is(
        anthropic(529, "overloaded_error", "Overloaded"),
        "overloaded",
    );
    is(anthropic(500, "api_error", "Internal"), "overloaded");
    is(
        anthropic(400, "invalid_request_error", "messages: at least one"),
        "rejected",
    );
    is(
        openai(429, "insufficient_quota", "You exceeded your current quota"),
        "quota",
    );
    is(openai(429, "credit_balance_exhausted", "none"), "quota");
    is(openai(503, "server_is_overloaded", "slow"), "overloaded");
    is(openai(404, "model_not_found", "no"), "unknown_model");
    is(openai(400, "content_filter", "no"), "refused");
    is(
        error(404, json!({"error": "model 'm' not found"})),
        "unknown_model",
    );
    is(error(500, Value::Null), "overloaded");
    is(error(422, json!({"detail": "what?"})), "rejected");
    is(anthropic(404, "api_error", "nothing here"), "unknown_model");
    is(anthropic(409, "api_error", "again"), "overloaded");
    let broke = json!({"error": "You exceeded your current quota, please check your plan"});
    is(error(429, broke), "quota");
    let google = |status: &str, code: u16, details: Value| {
        error(
            code,
            json!([{"error": {"code": code, "status": status, "message": "m", "details": details}}]),
        )
    };
    is(
        google(
            "INVALID_ARGUMENT",
            400,
            json!([{"reason": "API_KEY_INVALID"}]),
        ),
        "authentication",
    );
    let daily = json!([{"violations": [{"quotaId": "GenerateRequestsPerDayPerProject"}]}]);
    is(google("RESOURCE_EXHAUSTED", 429, daily), "quota");
    is(google("UNAVAILABLE", 503, Value::Null), "overloaded");
    let delay = json!([{"retryDelay": "34.07s"}]);
    assert_eq!(
        google("RESOURCE_EXHAUSTED", 429, delay),
        E::RateLimited {
            after: seconds(34.07)
        }
    );
    let limits = "You have reached your specified API usage limits. You will regain access on \
                  2026-12-01 at 00:00 UTC.";
    let until = "2026-12-01T00:00:00Z".parse().ok();
    assert_eq!(
        anthropic(400, "invalid_request_error", limits),
        E::Quota { until }
    );
}

#[test]
fn a_window_that_is_too_small_says_how_large_it_is() {
    let limit = |error: ModelError| match error {
        ModelError::ContextTooLong { limit } => limit,
        other => panic!("{other:?}"),
    };
    let long = "prompt is too long: 210000 tokens > 200000 maximum";
    assert_eq!(
        limit(anthropic(400, "invalid_request_error", long)),
        Some(200_000)
    );
    let long = "This model's maximum context length is 8192 tokens. However, you requested 9000";
    assert_eq!(
        limit(openai(400, "context_length_exceeded", long)),
        Some(8192)
    );
    let long = json!({"error": {"code": 400, "type": "exceed_context_size_error", "message":
        "request (5000 tokens) exceeds the available context size (4096 tokens)"}});
    assert_eq!(limit(error(400, long)), Some(4096));
    let long =
        "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).";
    let google = json!({"error": {"code": 400, "status": "INVALID_ARGUMENT", "message": long}});
    assert_eq!(limit(error(400, google)), Some(1_048_576));
}

#[test]
fn a_parameter_that_is_not_taken_is_named_if_it_was_sent() {
    let unsupported = |error: ModelError| match error {
        ModelError::Unsupported { parameter } => parameter,
        other => other.word().to_owned(),
    };
    let openai = |param: &str, code: &str, message: &str| {
        let body = json!({"error": {"message": message, "param": param, "code": code}});
        unsupported(error(400, body))
    };
    assert_eq!(
        openai("temperature", "unsupported_value", "only 1"),
        "temperature"
    );
    assert_eq!(
        openai("reasoning.effort", "unsupported_parameter", ""),
        "effort"
    );
    assert_eq!(
        openai(
            "include",
            "invalid_value",
            "Encrypted content is not supported with this model."
        ),
        "include"
    );
    assert_eq!(
        openai("max_tokens", "unsupported_parameter", "use the other"),
        "max_tokens"
    );
    assert_eq!(
        openai("top_p", "unsupported_parameter", "never sent"),
        "rejected"
    );
    assert_eq!(
        openai(
            "messages",
            "invalid_type",
            "must include thinking of reasoning"
        ),
        "rejected"
    );
    let text = |message: &str| unsupported(anthropic(400, "invalid_request_error", message));
    assert_eq!(
        text("`temperature` is deprecated for this model."),
        "temperature"
    );
    assert_eq!(
        text("temperature and `thinking` do not go together"),
        "rejected"
    );
    let ollama = |text: &str| unsupported(error(400, json!({"error": text})));
    assert_eq!(ollama("\"m\" does not support thinking"), "effort");
    assert_eq!(
        ollama("registry.ollama.ai/m does not support tools"),
        "tools"
    );
}

#[test]
fn waits_are_read_from_headers_and_from_the_two_texts() {
    let now = "2026-11-26T10:00:00Z".parse().unwrap();
    let advice = |headers: &[(&'static str, &str)]| {
        let headers = headers.iter().map(|(name, value)| {
            (
                http::HeaderName::from_static(name),
                HeaderValue::from_str(value).unwrap(),
            )
        });
        Advice::of(&headers.collect(), now)
    };
    assert_eq!(advice(&[("retry-after", "2.5")]).wait, seconds(2.5));
    let both = advice(&[("retry-after", "9"), ("retry-after-ms", "350")]);
    assert_eq!(both.wait, seconds(0.35));
    let date = "Thu, 26 Nov 2026 10:00:07 GMT";
    assert_eq!(advice(&[("retry-after", date)]).wait, seconds(7.0));
    let by_their_clock = [
        ("retry-after", date),
        ("date", "Thu, 26 Nov 2026 10:00:05 GMT"),
    ];
    assert_eq!(advice(&by_their_clock).wait, seconds(2.0));
    for senseless in ["-1", "soon", "NaN", "1e300", ""] {
        assert_eq!(
            advice(&[("retry-after", senseless)]).wait,
            None,
            "{senseless}"
        );
    }
    let used_up = [
        ("anthropic-ratelimit-requests-remaining", "0"),
        ("anthropic-ratelimit-requests-reset", "2026-11-26T10:00:09Z"),
        ("anthropic-ratelimit-tokens-remaining", "7"),
        ("anthropic-ratelimit-tokens-reset", "2026-11-26T11:00:00Z"),
        ("x-ratelimit-remaining-tokens", "0"),
        ("x-ratelimit-reset-tokens", "6m0s"),
    ];
    assert_eq!(advice(&used_up[..4]).wait, seconds(9.0));
    assert_eq!(advice(&used_up).wait, seconds(360.0));
    assert_eq!(advice(&[("x-should-retry", "false")]).again, Some(false));
    assert_eq!(advice(&[]), Advice::default());
    assert_eq!(
        wait_in_text("Please try again in 1.3s. Visit"),
        seconds(1.3)
    );
    assert_eq!(wait_in_text("Please retry in 12s."), seconds(12.0));
    assert_eq!(wait_in_text("try again in 6m0s"), seconds(360.0));
    assert_eq!(wait_in_text("Try again in 350ms."), seconds(0.35));
    assert_eq!(wait_in_text("try again in 20 seconds"), seconds(20.0));
    assert_eq!(wait_in_text("try again in a while"), None);
}

#[test]
fn a_long_text_of_the_provider_s_is_shortened() {
    let why = shortened(&"ä".repeat(2000), Some(400));
    assert!(
        why.chars().count() < 520 && why.ends_with("… (400)"),
        "{why}"
    );
}
