//! What a path asks for: a call of a model, which is paid for, or something about models, which is not.

use hyper::{Method, Uri};
use patchfleet_model::Protocol;

use super::refusal::{Reason, Refused};

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) purpose: Purpose,
    /// The path with its query, as the upstream gets it.
    pub(super) path: String,
}

/// What it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A model is asked.
    Call {
        /// The model, where the path names it.
        model: Option<String>,
    },
    /// Tokens are counted, or models listed: no provider takes anything for it.
    Free,
}

/// The protocol that a path belongs to, for the form of a refusal; whatever is of none is taken for
/// one of `OpenAI`'s, as most servers are compatible with that.
pub(super) fn protocol(path: &str) -> Protocol {
    if path.starts_with("/v1/messages") {
        Protocol::Anthropic
    } else if path.starts_with("/v1/responses") {
        Protocol::Responses
    } else if path.starts_with("/v1beta/") {
        Protocol::Gemini
    } else if path.starts_with("/api/") {
        Protocol::Ollama
    } else {
        Protocol::Chat
    }
}

/// Where a request goes, when it may go anywhere.
pub(super) fn route(method: &Method, uri: &Uri) -> Result<Route, Refused> {
    let refused = |message: String| Refused::new(Reason::NotAllowed, message);
    if uri.authority().is_some() || method == Method::CONNECT {
        let message = "this address only leads to the model";
        return Err(refused(message.to_owned()));
    }
    let path = uri.path();
    let Some(purpose) = purpose(method, path) else {
        return Err(refused(format!(
            "{method} {path} is not forwarded to the model"
        )));
    };
    let query = match uri.query() {
        // Pages of a list, and versions of clients: nothing depends on them.
        Some(_) if method == Method::GET => None,
        query => query,
    };
    match query {
        None => Ok(Route {
            purpose,
            path: path.to_owned(),
        }),
        Some(query) if is_usual(protocol(path), query) => Ok(Route {
            purpose,
            path: format!("{path}?{query}"),
        }),
        Some(_) => Err(refused(format!(
            "the query of {path} is not forwarded to the model"
        ))),
    }
}

/// The queries that usual clients have; another one might choose an account.
fn is_usual(protocol: Protocol, query: &str) -> bool {
    match protocol {
        Protocol::Anthropic => query == "beta=true",
        Protocol::Gemini => query == "alt=sse",
        Protocol::Responses | Protocol::Chat | Protocol::Ollama => false,
    }
}

fn purpose(method: &Method, path: &str) -> Option<Purpose> {
    let call = || Some(Purpose::Call { model: None });
    if method == Method::GET {
        let lists = ["/v1/models", "/v1beta/models", "/api/tags", "/api/version"];
        let names = ["/v1/models/", "/v1beta/models/"];
        let of_one = names.iter().find_map(|it| path.strip_prefix(it));
        let is_free = lists.contains(&path) || of_one.is_some_and(is_name);
        return is_free.then_some(Purpose::Free);
    }
    if method != Method::POST {
        return None;
    }
    match path {
        "/v1/messages" | "/v1/responses" | "/v1/chat/completions" | "/api/chat" => call(),
        "/v1/messages/count_tokens" | "/v1/responses/input_tokens" | "/api/show" => {
            Some(Purpose::Free)
        }
        _ => {
            let (model, verb) = path.strip_prefix("/v1beta/models/")?.split_once(':')?;
            match verb {
                "generateContent" | "streamGenerateContent" if is_name(model) => {
                    let model = Some(model.to_owned());
                    Some(Purpose::Call { model })
                }
                "countTokens" if is_name(model) => Some(Purpose::Free),
                _ => None,
            }
        }
    }
}

/// A model's name, which leads nowhere else.
fn is_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:@/".contains(&byte);
    !name.is_empty()
        && name.bytes().all(is_plain)
        && name
            .split('/')
            .all(|part| !part.is_empty() && part != "." && part != "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routed(method: &Method, uri: &str) -> Option<Route> {
        route(method, &uri.parse().unwrap()).ok()
    }

    #[test]
    fn each_path_is_a_call_or_free_or_refused() {
        let post = |uri: &str| routed(&Method::POST, uri).map(|it| it.purpose);
        for path in [
            "/v1/messages?beta=true",
            "/v1/responses",
            "/v1/chat/completions",
            "/api/chat",
        ] {
            assert_eq!(post(path), Some(Purpose::Call { model: None }), "{path}");
        }
        let named = "/v1beta/models/gemini-3-pro:streamGenerateContent?alt=sse";
        let model = Some("gemini-3-pro".to_owned());
        assert_eq!(post(named), Some(Purpose::Call { model }));
        for path in [
            "/v1/messages/count_tokens?beta=true",
            "/v1/responses/input_tokens",
            "/v1beta/models/gemini-3-pro:countTokens",
            "/api/show",
        ] {
            assert_eq!(post(path), Some(Purpose::Free), "{path}");
        }
        for path in [
            "/v1/messages/batches",
            "/v1/responses/compact",
            "/v1/files",
            "/api/pull",
            "/v1beta/models/x:batchGenerateContent",
            "/v1beta/models/../files:generateContent",
            "/v1beta/models/gemini-3-pro:generateContent?key=k",
            "/v1/responses?alt=sse",
        ] {
            assert_eq!(post(path), None, "{path}");
        }
    }

    #[test]
    fn a_list_of_models_has_no_query_that_goes_on() {
        let listed = routed(&Method::GET, "/v1/models?client_version=1&key=k").unwrap();
        assert_eq!(listed.path, "/v1/models");
        assert_eq!(listed.purpose, Purpose::Free);
        assert!(routed(&Method::GET, "/v1/models/qwen/qwen3-coder").is_some());
        for path in [
            "/v1/models/../files",
            "/v1/models//x",
            "/v1/models/%2e%2e",
            "/v1/responses",
        ] {
            assert_eq!(routed(&Method::GET, path), None, "{path}");
        }
    }
}
