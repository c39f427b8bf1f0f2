//! Who commits are by.

use serde::Deserializer;

use super::text::TextOf;

/// Who a commit is by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Author {
    /// The name that commits show as author and committer.
    pub name: String,
    /// The e-mail address beside it, by which GitHub finds the account.
    pub email: String,
}

pub(super) fn author<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Author>, D::Error> {
    let expected = "of the form `Name <address>`";
    let parse =
        |text: &str| parse_author(text).ok_or_else(|| format!("`{text}` is not {expected}"));
    deserializer
        .deserialize_str(TextOf(expected, parse))
        .map(Some)
}

fn parse_author(text: &str) -> Option<Author> {
    let (name, rest) = text.split_once('<')?;
    let email = rest.trim_end().strip_suffix('>')?;
    let plain = |text: &str| !text.is_empty() && !text.contains(['<', '>', '\n', '\r', '\0']);
    let (name, email) = (name.trim(), email.trim());
    // Git leaves punctuation out at both ends of a name, and takes none that is nothing else.
    let has_letters = |text: &str| text.chars().any(char::is_alphanumeric);
    let is_author = plain(name) && has_letters(name) && plain(email) && has_letters(email);
    (is_author && email.contains('@')).then(|| Author {
        name: name.to_owned(),
        email: email.to_owned(),
    })
}
