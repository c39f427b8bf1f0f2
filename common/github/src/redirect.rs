//! Redirections: GitHub answers with one where a repository was renamed or an issue was moved.
//!
//! Each is followed with the same method and body, as GitHub's documentation asks for: 301 for good, 302
//! and 307 for now, 308 as 301 ("Best practices for using the REST API", redirects). Never to another
//! server and never out of the API: the credentials go along.

use http::{HeaderMap, StatusCode, header};
use url::Url;

use crate::{GitHubError, GitHubResult};

/// How many redirections of one request are followed.
pub(crate) const MOST: usize = 5;

/// Where redirections may lead.
#[derive(Debug)]
pub(crate) struct Redirects {
    api: Url,
}

impl Redirects {
    /// To anywhere below the root of the API.
    pub(crate) const fn below(api: Url) -> Self {
        Self { api }
    }

    /// Path and query to ask next instead of `target`; nothing when the answer is no redirection.
    ///
    /// # Errors
    /// When it leads elsewhere or nowhere.
    pub(crate) fn next(
        &self,
        target: &str,
        (status, headers): (StatusCode, &HeaderMap),
    ) -> GitHubResult<Option<String>> {
        use StatusCode as Code;
        let followed = [
            Code::MOVED_PERMANENTLY,
            Code::FOUND,
            Code::TEMPORARY_REDIRECT,
            Code::PERMANENT_REDIRECT,
        ];
        if !followed.contains(&status) {
            return Ok(None);
        }
        let location = headers.get(header::LOCATION);
        let location = location.and_then(|value| value.to_str().ok());
        let location = location.ok_or_else(|| {
            GitHubError::unexpected(format!("{status} without an address to go to"))
        })?;
        let root = self.api.path().trim_end_matches('/');
        let here = self.api.join(&format!("{root}{target}"));
        let next = here.and_then(|here| here.join(location)).map_err(|error| {
            GitHubError::unexpected(format!("{status} to what is no address: {error}"))
        })?;
        let below = next.path().strip_prefix(root);
        let below = below.filter(|path| path.starts_with('/'));
        let is_there = next.origin() == self.api.origin()
            && next.username().is_empty()
            && next.password().is_none();
        let Some(path) = below.filter(|_| is_there) else {
            let to = next.host_str().unwrap_or_default();
            return Err(GitHubError::unexpected(format!(
                "{status} to `{to}{}`, outside of GitHub's API, where the credentials do not go",
                next.path()
            )));
        };
        let query = next
            .query()
            .map_or_else(String::new, |query| format!("?{query}"));
        Ok(Some(format!("{path}{query}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(api: &str, status: u16, location: &str) -> GitHubResult<Option<String>> {
        let redirects = Redirects::below(api.parse().unwrap());
        let headers = HeaderMap::from_iter([(header::LOCATION, location.parse().unwrap())]);
        let status = StatusCode::from_u16(status).unwrap();
        redirects.next("/repos/acme/orders?x=1", (status, &headers))
    }

    #[test]
    fn redirections_within_the_api_are_followed() {
        let github = "https://api.github.com";
        for status in [301, 302, 307, 308] {
            let to = next(github, status, "https://api.github.com/repositories/1?x=1");
            assert_eq!(to, Ok(Some("/repositories/1?x=1".to_owned())), "{status}");
        }
        let relative = next(github, 301, "/repositories/1/issues");
        assert_eq!(relative, Ok(Some("/repositories/1/issues".to_owned())));
        let enterprise = "https://git.example.com/api/v3/";
        let to = next(
            enterprise,
            307,
            "https://git.example.com/api/v3/repositories/1",
        );
        assert_eq!(to, Ok(Some("/repositories/1".to_owned())));
        assert_eq!(next(github, 304, "/x"), Ok(None));
        assert_eq!(next(github, 200, "/x"), Ok(None));
    }

    #[test]
    fn credentials_go_nowhere_else() {
        let github = "https://api.github.com";
        for location in [
            "https://elsewhere.example.com/repositories/1",
            "http://api.github.com/repositories/1",
            "https://api.github.com:8443/repositories/1",
            "https://api.github.com.example.com/repositories/1",
            "https://user:word@api.github.com/repositories/1",
            "//elsewhere.example.com/repositories/1",
            "file:///etc/passwd",
        ] {
            let refused = next(github, 301, location);
            assert!(
                matches!(refused, Err(GitHubError::Unexpected { .. })),
                "{location}: {refused:?}"
            );
        }
        let enterprise = "https://git.example.com/api/v3";
        for location in [
            "https://git.example.com/login",
            "https://git.example.com/api/v3evil/x",
            "/api/v3/../../login",
        ] {
            assert!(next(enterprise, 301, location).is_err(), "{location}");
        }
    }
}
