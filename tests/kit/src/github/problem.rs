//! The errors that GitHub answers with: status, message, `errors[]`.
//!
//! Every refusal of the simulator is one of these, so that a client meets the
//! words that it will meet in production.

use serde_json::{Value, json};

/// Where the documentation link of an error points, as on GitHub.
const DOCUMENTATION: &str = "https://docs.github.com/rest";

/// A refusal in GitHub's terms.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The token is unknown, revoked or expired.
    #[error("Bad credentials")]
    BadCredentials,
    /// The call needs credentials and had none.
    #[error("Requires authentication")]
    RequiresAuthentication,
    /// The JSON web token of a GitHub App was refused.
    #[error("{0}")]
    BadJsonWebToken(String),
    /// Known account, not allowed.
    #[error("{0}")]
    Forbidden(String),
    /// Missing, or hidden from this account.
    #[error("Not Found")]
    NotFound,
    /// It was there, and was deleted.
    #[error("This issue was deleted")]
    Gone,
    /// It is at another address now.
    #[error("Moved Permanently")]
    Moved {
        /// Where.
        location: String,
        /// The request was one for reading, which is answered 301; others get 307.
        is_read: bool,
    },
    /// The request body is not JSON.
    #[error("Problems parsing JSON")]
    MalformedJson,
    /// The request body is JSON of a wrong shape or value.
    #[error("{message}")]
    Validation {
        /// Headline, usually `Validation Failed`.
        message: String,
        /// Single findings.
        errors: Vec<FieldError>,
    },
    /// A merge that is not possible in the present state.
    #[error("{0}")]
    NotMergeable(String),
    /// The head moved since the caller looked.
    #[error("{0}")]
    Conflict(String),
    /// Git failed in a way that GitHub would answer with a 500.
    #[error("Server Error")]
    Internal(#[from] anyhow::Error),
}

/// One entry of `errors[]` in a 422.
#[derive(Debug, Clone)]
pub struct FieldError {
    /// `Issue`, `PullRequest`, `Label`…
    pub resource: &'static str,
    /// Offending field, where one is to blame.
    pub field: Option<&'static str>,
    /// `missing`, `missing_field`, `invalid`, `already_exists`, `custom`.
    pub code: &'static str,
    /// Text of a `custom` error.
    pub message: Option<String>,
}

impl Problem {
    /// A 422 that blames one field.
    pub(crate) fn invalid(resource: &'static str, field: &'static str, code: &'static str) -> Self {
        Self::validation(FieldError {
            resource,
            field: Some(field),
            code,
            message: None,
        })
    }

    /// A 422 that says in words what is wrong.
    pub(crate) fn custom(resource: &'static str, message: String) -> Self {
        Self::validation(FieldError {
            resource,
            field: None,
            code: "custom",
            message: Some(message),
        })
    }

    fn validation(error: FieldError) -> Self {
        Self::Validation {
            message: "Validation Failed".to_owned(),
            errors: vec![error],
        }
    }

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        match self {
            Self::BadCredentials | Self::RequiresAuthentication | Self::BadJsonWebToken(_) => 401,
            Self::Forbidden(_) => 403,
            Self::NotFound => 404,
            Self::Gone => 410,
            Self::Moved { is_read: true, .. } => 301,
            Self::Moved { is_read: false, .. } => 307,
            Self::MalformedJson => 400,
            Self::Validation { .. } => 422,
            Self::NotMergeable(_) => 405,
            Self::Conflict(_) => 409,
            Self::Internal(_) => 500,
        }
    }

    /// The JSON body.
    pub(crate) fn body(&self) -> Value {
        let mut body = json!({
            "message": self.to_string(),
            "documentation_url": DOCUMENTATION,
            "status": self.status().to_string(),
        });
        if let Self::Moved { location, .. } = self {
            body["url"] = json!(location);
        }
        if let Self::Validation { errors, .. } = self {
            body["errors"] = errors.iter().map(FieldError::body).collect();
        }
        body
    }
}

impl FieldError {
    fn body(&self) -> Value {
        let mut body = json!({ "resource": self.resource, "code": self.code });
        if let Some(field) = self.field {
            body["field"] = json!(field);
        }
        if let Some(message) = &self.message {
            body["message"] = json!(message);
        }
        body
    }
}
