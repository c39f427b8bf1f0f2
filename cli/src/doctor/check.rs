//! One finding of the doctor.

use serde::Serialize;

use crate::output::explain;

/// How a thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Health {
    /// As it should be.
    Good,
    /// Something works less well, or later, for it.
    Notice,
    /// Has to be mended.
    Bad,
}

/// What was looked at, what was found and how to mend it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Check {
    pub(super) name: String,
    pub(super) health: Health,
    pub(super) found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mend: Option<String>,
}

impl Check {
    /// As it should be.
    pub(super) fn good(name: impl Into<String>, found: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            health: Health::Good,
            found: found.into(),
            mend: None,
        }
    }

    /// Works, but.
    pub(super) fn notice(
        name: impl Into<String>,
        found: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        Self {
            health: Health::Notice,
            mend: Some(mend.into()),
            ..Self::good(name, found)
        }
    }

    /// Has to be mended.
    pub(super) fn bad(
        name: impl Into<String>,
        found: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        Self {
            health: Health::Bad,
            ..Self::notice(name, found, mend)
        }
    }

    /// Good or bad, as a result says.
    pub(super) fn of<E: Into<anyhow::Error>>(
        name: impl Into<String>,
        result: Result<String, E>,
        mend: impl Into<String>,
    ) -> Self {
        match result {
            Ok(found) => Self::good(name, found),
            // With all its causes: the innermost is what the operator has to know.
            Err(error) => Self::bad(name, explain(&error.into()), mend),
        }
    }
}
