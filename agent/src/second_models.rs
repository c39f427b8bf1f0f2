//! Models beside the one that drafts: one reviews a change, one puts it into words. Both answer in a
//! fixed form about the same subject, and the rules stand without either.

mod reviewer;
mod subject;
mod summarizer;

pub use reviewer::Reviewer;
pub(crate) use reviewer::{Reviewed, Status, Verdict};
pub(crate) use subject::Subject;
pub use summarizer::Summarizer;
pub(crate) use summarizer::Words;
