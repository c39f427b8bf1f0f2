//! Models beside the one that drafts: one reviews a change, one puts it into words. Both answer in a
//! fixed form about the same subject, and the rules stand without either.

mod reviewer;
mod subject;
mod summarizer;

pub(crate) use reviewer::{Reviewed, Reviewer, Status, Verdict};
pub(crate) use subject::Subject;
pub(crate) use summarizer::{Summarizer, Words};
