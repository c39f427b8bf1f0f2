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

pub(super) fn is_own(identity: &Identity, event: &Event) -> bool {
    let sender = match event {
        Event::Issue(event) => &event.sender,
        Event::Comment(event) => &event.sender,
        Event::PullRequestClosed(event) => &event.sender,
        Event::Other(_) => return false,
    };
    identity.is(sender) && (identity.kind == IdentityKind::App || is_marked(event))
}

fn is_marked(event: &Event) -> bool {
    match event {
        Event::Comment(event) => event.comment.body.contains(COMMENT_MARK),
        Event::Issue(event) => {
            matches!(&event.action, IssueAction::Labeled(label) if label.starts_with(LABEL_PREFIX))
        }
        Event::PullRequestClosed(_) | Event::Other(_) => false,
    }
}
