//! Header fields that end at a proxy.

use hyper::HeaderMap;
use hyper::header::{CONNECTION, HOST, HeaderName};

/// Fields about one connection (RFC 9110, 7.6.1), and those of proxies.
const HOP_BY_HOP: &[&str] = &[
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// A field's name as the servers compare it that take `-`, `_` and `.` for one: with `-`.
pub(crate) fn normalized(name: &HeaderName) -> String {
    name.as_str().replace(['_', '.'], "-")
}

/// Removes the fields of the connection, and those that it names as its own.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<String> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_lowercase().replace(['_', '.'], "-"))
        .collect();
    retain(headers, |name| {
        !HOP_BY_HOP.contains(&name) && !named.iter().any(|it| it == name)
    });
}

/// Keeps the fields whose normalized name passes.
pub(crate) fn retain(headers: &mut HeaderMap, keep: impl Fn(&str) -> bool) {
    let names: Vec<HeaderName> = headers.keys().cloned().collect();
    for name in names {
        if !keep(&normalized(&name)) {
            headers.remove(name);
        }
    }
}

/// How many bytes the fields have on the wire, about.
pub(super) fn size(headers: &HeaderMap) -> usize {
    headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 4)
        .sum()
}

/// Removes what names the host, in any spelling.
pub(crate) fn strip_host(headers: &mut HeaderMap) {
    retain(headers, |name| {
        name != HOST.as_str() && !name.starts_with("x-forwarded-") && name != "forwarded"
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_the_connection_go_in_every_spelling() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, X-Own"),
            ("x_own", "1"),
            ("x-own", "1"),
            ("transfer_encoding", "chunked"),
            ("proxy.authorization", "Basic eDp5"),
            ("te", "trailers"),
            ("host", "a.test"),
            ("x_forwarded.for", "1"),
            ("accept", "*/*"),
        ] {
            headers.append(HeaderName::from_static(name), value.parse().unwrap());
        }
        strip_hop_by_hop(&mut headers);
        strip_host(&mut headers);
        let left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(left, ["accept"]);
    }
}
