//! A request as data, so that it can be made again.

use http::Method;
use serde_json::Value;
use url::Url;

/// Whether a request may be made again after an answer that leaves open what happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// Twice is as good as once.
    Safe,
    /// It creates something.
    Never,
}

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) method: Method,
    /// Path and query, starting with a slash.
    pub(crate) target: String,
    pub(crate) body: Option<Value>,
    pub(crate) repeat: Repeat,
    /// The answer may be looked up in the response cache, and kept there.
    pub(crate) cacheable: bool,
}

impl Ask {
    pub(crate) fn get(path: &[&str]) -> Self {
        Self::new(Method::GET, path, None)
    }

    pub(crate) fn post(path: &[&str], body: Value) -> Self {
        Self::new(Method::POST, path, Some(body))
    }

    pub(crate) fn patch(path: &[&str], body: Value) -> Self {
        Self::new(Method::PATCH, path, Some(body))
    }

    pub(crate) fn delete(path: &[&str]) -> Self {
        Self::new(Method::DELETE, path, None)
    }

    /// This request creates something.
    pub(crate) const fn never_again(mut self) -> Self {
        self.repeat = Repeat::Never;
        self
    }

    /// The answer decides what somebody may do: GitHub alone is believed, never a cache.
    pub(crate) const fn authoritative(mut self) -> Self {
        self.cacheable = false;
        self
    }

    /// Adds to the query.
    pub(crate) fn query(mut self, pairs: &[(&str, &str)]) -> Self {
        let mut url = base();
        url.query_pairs_mut().extend_pairs(pairs);
        self.target.push('?');
        self.target.push_str(url.query().unwrap_or_default());
        self
    }

    fn new(method: Method, path: &[&str], body: Option<Value>) -> Self {
        let method_is_get = method == Method::GET;
        let mut url = base();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.extend(path);
        }
        Self {
            method,
            target: url.path().to_owned(),
            cacheable: method_is_get,
            body,
            repeat: Repeat::Safe,
        }
    }
}

/// Something to build paths on; it is never asked.
fn base() -> Url {
    Url::parse("http://github/").expect("a constant address parses")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_path_stay_parts() {
        let ask = Ask::get(&["repos", "a", "b", "labels", "need help/now?"]);
        assert_eq!(ask.target, "/repos/a/b/labels/need%20help%2Fnow%3F");
        let ask = Ask::get(&["pulls"]).query(&[("head", "a:patchfleet/1-x&y")]);
        assert_eq!(ask.target, "/pulls?head=a%3Apatchfleet%2F1-x%26y");
    }
}
