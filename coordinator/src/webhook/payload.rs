//! The two ways in which GitHub sends JSON: as it is, or as a form's `payload`. Of its kilobytes only
//! what somebody asks for is read.

use std::borrow::Cow;
use std::str;

use patchfleet_domain::RepositoryName;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use url::form_urlencoded;

/// A payload that is a JSON object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload<'a> {
    text: Cow<'a, str>,
    /// What was done, where it says so.
    pub action: Option<String>,
    /// The repository that it is about.
    pub repository: Option<RepositoryName>,
}

/// What every payload may have, of any type: a strange one is as good as none.
#[derive(Debug, Deserialize)]
struct Outline<'a> {
    #[serde(borrow)]
    action: Option<&'a RawValue>,
    #[serde(borrow)]
    repository: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
struct Repository {
    full_name: RepositoryName,
}

impl<'a> Payload<'a> {
    /// The payload of a request, or what is wrong with it.
    pub(super) fn of(content_type: Option<&str>, body: &'a [u8]) -> Result<Self, String> {
        let kind = content_type.unwrap_or("application/json");
        let kind = kind.split(';').next().unwrap_or_default().trim();
        match kind.to_ascii_lowercase().as_str() {
            "application/json" => {
                let text = str::from_utf8(body);
                let text = text.map_err(|error| format!("the payload is not JSON: {error}"))?;
                Self::read(text.into())
            }
            "application/x-www-form-urlencoded" => {
                let mut fields = form_urlencoded::parse(body);
                let field = fields.find(|(name, _)| name == "payload");
                let (_, text) = field.ok_or("the form has no field `payload`")?;
                Self::read(text)
            }
            _ => Err(
                "the content type is neither application/json nor application/x-www-form-urlencoded"
                    .to_owned(),
            ),
        }
    }

    /// Reads a text.
    ///
    /// # Errors
    /// What is wrong with it, when it is no JSON object.
    pub fn read(text: Cow<'a, str>) -> Result<Self, String> {
        // A list would pass for an object without fields.
        let is_object = text.trim_ascii_start().starts_with('{');
        let outline: Outline<'_> = match serde_json::from_str(&text) {
            Ok(outline) if is_object => outline,
            Err(error) if is_object || !error.is_data() => {
                return Err(format!("the payload is not JSON: {error}"));
            }
            Ok(_) | Err(_) => return Err("the payload is no JSON object".to_owned()),
        };
        let action = outline.action.and_then(part);
        let repository = outline.repository.and_then(part);
        let repository = repository.map(|it: Repository| it.full_name);
        Ok(Self {
            text,
            action,
            repository,
        })
    }

    /// The payload itself.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// What it says about that; nothing when it lacks something.
    pub(super) fn says<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_str(&self.text).ok()
    }
}

fn part<T: DeserializeOwned>(raw: &RawValue) -> Option<T> {
    serde_json::from_str(raw.get()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_say_the_same() {
        let text = r#"{"action":"a+b & c"}"#;
        let plain = Payload::of(Some("application/json; charset=utf-8"), text.as_bytes());
        assert_eq!(plain.clone().unwrap().action.as_deref(), Some("a+b & c"));
        let form = b"payload=%7B%22action%22%3A%22a%2Bb+%26+c%22%7D";
        let form = Payload::of(Some("application/x-www-form-urlencoded"), form);
        assert_eq!(form, plain);
    }

    #[test]
    fn what_has_another_type_is_as_good_as_none() {
        let read = |text: &'static str| Payload::read(text.into()).unwrap();
        let strange = read(r#" {"action":7,"repository":["x"],"issue":null}"#);
        assert_eq!((strange.action, strange.repository), (None, None));
        let none = read(r#"{"repository":{"full_name":"no name"}}"#);
        assert_eq!(none.repository, None);
        let good = read(r#"{"repository":{"id":1,"full_name":"acme/orders"}}"#);
        assert_eq!(good.repository.unwrap().as_str(), "acme/orders");
    }

    #[test]
    fn what_is_wrong_is_said() {
        let problem = |kind, body: &'static [u8]| Payload::of(Some(kind), body).unwrap_err();
        assert!(problem("application/json", b"{\"a\":").contains("line 1 column"));
        for no_object in [&b"[]"[..], b"[1]", b"7", b"null", b"\"text\""] {
            assert!(problem("application/json", no_object).contains("object"));
        }
        assert!(problem("application/json", b"{\"a\":\"\xff\"}").contains("utf-8"));
        assert!(problem("text/xml", b"{}").contains("content type"));
        assert!(problem("application/x-www-form-urlencoded", b"a=1").contains("`payload`"));
    }
}
