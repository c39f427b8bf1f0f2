//! Own events: what Patchfleet did itself must not make it do more.
//!
//! An App's bot is nobody else. The account behind a personal token is also a person's, who may
//! label and command; there, only what carries Patchfleet's marks is its own.

use patchfleet_github::{Identity, IdentityKind};

use crate::webhook::event::{Event, IssueAction};

/// How every label that Patchfleet sets begins, and every mark in its comments.
pub(crate) const LABEL_PREFIX: &str = "patchfleet:";
/// How every comment of Patchfleet begins.
const COMMENT_MARK: &str = "<!-- patchfleet:";

/// True of a label that Patchfleet sets; GitHub does not mind case.
pub(crate) fn is_own_label(label: &str) -> bool {
    label.to_lowercase().starts_with(LABEL_PREFIX)
}

pub(super) fn is_own(identity: &Identity, event: &Event) -> bool {
    let Some(sender) = event.sender() else {
        return false;
    };
    identity.is(sender) && (identity.kind == IdentityKind::App || is_marked(event))
}

fn is_marked(event: &Event) -> bool {
    match event {
        Event::Comment(event) => event.comment.body.trim_start().starts_with(COMMENT_MARK),
        Event::Issue(event) => {
            matches!(&event.action, IssueAction::Labeled(label) if is_own_label(label))
        }
        Event::PullRequestClosed(_)
        | Event::PullRequestReopened(_)
        | Event::RepositoryMoved(_)
        | Event::RepositoryDeleted(_)
        | Event::Other(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::webhook::payload::Payload;

    fn labeled(sender: &str, label: &str) -> Event {
        let payload = json!({
            "action": "labeled",
            "label": { "name": label },
            "issue": {
                "id": 1, "number": 1, "title": "t", "state": "open",
                "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z",
            },
            "repository": { "full_name": "a/b", "clone_url": "u", "default_branch": "main" },
            "sender": { "login": sender, "type": "Bot" },
        });
        let payload = Payload::read(payload.to_string().into()).unwrap();
        Event::read("issues", &payload)
    }

    #[test]
    fn an_apps_bot_is_nobody_else_but_a_tokens_account_may_be_a_person() {
        let identity = |login: &str, kind| Identity {
            login: login.to_owned(),
            kind,
        };
        let app = identity("fleet[bot]", IdentityKind::App);
        assert!(is_own(&app, &labeled("fleet[bot]", "patchfleet")));
        assert!(!is_own(&app, &labeled("other[bot]", "patchfleet:queued")));
        let account = identity("mona", IdentityKind::Account);
        assert!(is_own(&account, &labeled("Mona", "patchfleet:queued")));
        assert!(is_own(&account, &labeled("mona", "Patchfleet:Queued")));
        assert!(!is_own(&account, &labeled("mona", "patchfleet")));
        assert!(!is_own(&account, &labeled("lisa", "patchfleet:queued")));
    }
}
