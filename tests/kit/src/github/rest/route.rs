//! The table of calls. Templates are word for word those of GitHub's `OpenAPI`
//! description, so that a test can hold every one of them to it.

use super::call::{Call, Result};
use super::{app, check, comment, commit, hook, issue, label, pull, repository, review, user};

/// What answers a call.
type Handler = fn(&mut Call<'_>) -> Result;

/// Method, path template, function.
type Route = (&'static str, &'static str, Handler);

/// Parameters that may contain slashes.
const GREEDY: [&str; 3] = ["path", "ref", "branch"];

/// Every call that the simulator answers; the first that fits wins.
pub(crate) const ROUTES: &[Route] = &[
    ("GET", "/user", user::me),
    ("GET", "/user/repos", user::repositories),
    ("POST", "/user/repos", repository::create),
    ("GET", "/rate_limit", user::rate_limit),
    ("GET", "/app", app::get),
    ("GET", "/app/installations", app::installations),
    (
        "GET",
        "/app/installations/{installation_id}",
        app::installation,
    ),
    (
        "POST",
        "/app/installations/{installation_id}/access_tokens",
        app::access_token,
    ),
    ("GET", "/app/hook/deliveries", hook::app_list),
    ("GET", "/app/hook/deliveries/{delivery_id}", hook::app_get),
    (
        "POST",
        "/app/hook/deliveries/{delivery_id}/attempts",
        hook::app_redeliver,
    ),
    ("GET", "/installation/repositories", app::repositories),
    ("GET", "/repos/{owner}/{repo}", repository::get),
    (
        "GET",
        "/repos/{owner}/{repo}/installation",
        app::of_repository,
    ),
    (
        "GET",
        "/repos/{owner}/{repo}/collaborators/{username}/permission",
        repository::permission,
    ),
    (
        "GET",
        "/repos/{owner}/{repo}/contents/{path}",
        repository::contents,
    ),
    ("GET", "/repos/{owner}/{repo}/labels", label::list_all),
    ("POST", "/repos/{owner}/{repo}/labels", label::create),
    ("GET", "/repos/{owner}/{repo}/issues", issue::list),
    ("POST", "/repos/{owner}/{repo}/issues", issue::create),
    (
        "GET",
        "/repos/{owner}/{repo}/issues/comments/{comment_id}",
        comment::get,
    ),
    (
        "PATCH",
        "/repos/{owner}/{repo}/issues/comments/{comment_id}",
        comment::update,
    ),
    (
        "DELETE",
        "/repos/{owner}/{repo}/issues/comments/{comment_id}",
        comment::delete,
    ),
    (
        "GET",
        "/repos/{owner}/{repo}/issues/{issue_number}",
        issue::get,
    ),
    (
        "PATCH",
        "/repos/{owner}/{repo}/issues/{issue_number}",
        issue::update,
    ),
    (
        "GET",
        "/repos/{owner}/{repo}/issues/{issue_number}/events",
        issue::events,
    ),
    (
        "GET",
        "/repos/{owner}/{repo}/issues/{issue_number}/comments",
        comment::list,
    ),
    (
        "POST",
        "/repos/{owner}/{repo}/issues/{issue_number}/comments",
        comment::create,
    ),
    (
        "GET",
        "/repos/{owner}/{repo}/issues/{issue_number}/labels",
        label::list,
    ),
    (
        "POST",
        "/repos/{owner}/{repo}/issues/{issue_number}/labels",
        label::add,
    ),
    (
        "PUT",
        "/repos/{owner}/{repo}/issues/{issue_number}/labels",
        label::set,
    ),
    (
        "DELETE",
        "/repos/{owner}/{repo}/issues/{issue_number}/labels/{name}",
        label::remove,
    ),
    ("GET", "/repos/{owner}/{repo}/pulls", pull::list),
    ("POST", "/repos/{owner}/{repo}/pulls", pull::create),
    (
        "GET",
        "/repos/{owner}/{repo}/pulls/{pull_number}",
        pull::get,
    ),
    (
        "PATCH",
        "/repos/{owner}/{repo}/pulls/{pull_number}",
        pull::update,
    ),
    (
        "PUT",
        "/repos/{owner}/{repo}/pulls/{pull_number}/merge",
        pull::merge,
    ),
    (
        "GET",
        "/repos/{owner}/{repo}/pulls/{pull_number}/files",
        pull::files,
    ),
    (
        "GET",
        "/repos/{owner}/{repo}/pulls/{pull_number}/commits",
        pull::commits,
    ),
    (
        "GET",
        "/repos/{owner}/{repo}/pulls/{pull_number}/reviews",
        review::list,
    ),
    (
        "POST",
        "/repos/{owner}/{repo}/pulls/{pull_number}/reviews",
        review::create,
    ),
    (
        "POST",
        "/repos/{owner}/{repo}/pulls/{pull_number}/requested_reviewers",
        review::request,
    ),
    (
        "GET",
        "/repos/{owner}/{repo}/git/ref/{ref}",
        commit::get_ref,
    ),
    (
        "DELETE",
        "/repos/{owner}/{repo}/git/refs/{ref}",
        commit::delete_ref,
    ),
    (
        "GET",
        "/repos/{owner}/{repo}/branches/{branch}",
        commit::branch,
    ),
    (
        "GET",
        "/repos/{owner}/{repo}/commits/{ref}/check-runs",
        check::list,
    ),
    (
        "GET",
        "/repos/{owner}/{repo}/commits/{ref}/statuses",
        check::statuses,
    ),
    (
        "GET",
        "/repos/{owner}/{repo}/commits/{ref}/status",
        check::combined,
    ),
    ("GET", "/repos/{owner}/{repo}/commits/{ref}", commit::get),
    ("POST", "/repos/{owner}/{repo}/check-runs", check::create),
    (
        "PATCH",
        "/repos/{owner}/{repo}/check-runs/{check_run_id}",
        check::update,
    ),
    (
        "POST",
        "/repos/{owner}/{repo}/statuses/{sha}",
        check::report_status,
    ),
    (
        "GET",
        "/repos/{owner}/{repo}/hooks/{hook_id}/deliveries",
        hook::list,
    ),
    (
        "GET",
        "/repos/{owner}/{repo}/hooks/{hook_id}/deliveries/{delivery_id}",
        hook::get,
    ),
    (
        "POST",
        "/repos/{owner}/{repo}/hooks/{hook_id}/deliveries/{delivery_id}/attempts",
        hook::redeliver,
    ),
];

/// Path parameters by name.
type Params = Vec<(&'static str, String)>;

/// The call that a request means. What takes PATCH takes POST as well, for
/// clients that do not know PATCH, as on GitHub.
pub(super) fn find(method: &str, path: &str) -> Option<(Handler, Params)> {
    let exact = lookup(method, path);
    match method {
        "POST" => exact.or_else(|| lookup("PATCH", path)),
        _ => exact,
    }
}

fn lookup(method: &str, path: &str) -> Option<(Handler, Params)> {
    let segments: Vec<_> = path.trim_matches('/').split('/').collect();
    ROUTES
        .iter()
        .filter(|(wanted, ..)| *wanted == method)
        .find_map(|(_, template, handler)| {
            let template: Vec<_> = template.trim_matches('/').split('/').collect();
            fit(&template, &segments).map(|params| (*handler, params))
        })
}

fn fit(template: &[&'static str], segments: &[&str]) -> Option<Params> {
    let Some((first, rest)) = template.split_first() else {
        return segments.is_empty().then(Vec::new);
    };
    let Some(name) = parameter(first) else {
        return (segments.first() == Some(first)).then(|| fit(rest, &segments[1..]))?;
    };
    let longest = if GREEDY.contains(&name) {
        segments.len().checked_sub(rest.len())?
    } else {
        1
    };
    // The root of a repository is a path too, of no segments.
    let shortest = usize::from(name != "path");
    if longest < shortest || segments.len() < longest {
        return None;
    }
    let (mine, others) = segments.split_at(longest);
    let mut params = fit(rest, others)?;
    params.push((name, decode(&mine.join("/"))));
    Some(params)
}

fn parameter(segment: &'static str) -> Option<&'static str> {
    segment.strip_prefix('{')?.strip_suffix('}')
}

/// Undoes percent encoding; a broken escape stays as it is.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let escaped = (*first == b'%').then(|| tail.get(..2)).flatten();
        let escaped = escaped.and_then(|digits| hex::decode(digits).ok());
        if let Some(byte) = escaped {
            bytes.extend(byte);
            rest = &tail[2..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params_of(method: &str, path: &str) -> Params {
        find(method, path)
            .map(|(_, params)| params)
            .unwrap_or_default()
    }

    #[test]
    fn a_branch_may_contain_slashes_and_escapes() {
        let params = params_of("GET", "/repos/o/r/branches/patchfleet/1-a%20b");
        assert!(
            params.contains(&("branch", "patchfleet/1-a b".to_owned())),
            "{params:?}"
        );
        let params = params_of("GET", "/repos/o/r/commits/patchfleet%2Fx/check-runs");
        assert!(
            params.contains(&("ref", "patchfleet/x".to_owned())),
            "{params:?}"
        );
    }

    #[test]
    fn the_root_of_a_repository_is_a_path() {
        for path in ["/repos/o/r/contents", "/repos/o/r/contents/"] {
            let params = params_of("GET", path);
            assert!(params.contains(&("path", String::new())), "{params:?}");
        }
    }

    #[test]
    fn unknown_calls_are_found_nowhere() {
        assert!(find("GET", "/repos/o/r/nothing").is_none());
        assert!(find("PUT", "/repos/o/r/issues").is_none());
        assert!(find("GET", "/").is_none());
    }
}
