//! The two ways in which GitHub sends JSON: as it is, or as a form's `payload`.

use serde_json::Value;
use url::form_urlencoded;

/// The payload, or what is wrong with it.
pub(super) fn read(content_type: Option<&str>, body: &[u8]) -> Result<Value, String> {
    let kind = content_type.unwrap_or("application/json");
    let kind = kind.split(';').next().unwrap_or_default().trim();
    let payload: Value = match kind.to_ascii_lowercase().as_str() {
        "application/json" => json(body),
        "application/x-www-form-urlencoded" => {
            let mut fields = form_urlencoded::parse(body);
            let field = fields.find(|(name, _)| name == "payload");
            let (_, text) = field.ok_or("the form has no field `payload`")?;
            json(text.as_bytes())
        }
        _ => Err(
            "the content type is neither application/json nor application/x-www-form-urlencoded"
                .to_owned(),
        ),
    }?;
    if payload.is_object() {
        Ok(payload)
    } else {
        Err("the payload is no JSON object".to_owned())
    }
}

fn json(text: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(text).map_err(|error| format!("the payload is not JSON: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_say_the_same() {
        let expected = serde_json::json!({ "zen": "a+b & c" });
        let plain = read(
            Some("application/json; charset=utf-8"),
            br#"{"zen":"a+b & c"}"#,
        );
        assert_eq!(plain, Ok(expected.clone()));
        let form = b"payload=%7B%22zen%22%3A%22a%2Bb+%26+c%22%7D";
        assert_eq!(
            read(Some("application/x-www-form-urlencoded"), form),
            Ok(expected)
        );
    }

    #[test]
    fn what_is_wrong_is_said() {
        let problem = |kind, body: &[u8]| read(Some(kind), body).unwrap_err();
        assert!(problem("application/json", b"{\"a\":").contains("line 1 column"));
        assert!(problem("application/json", b"[]").contains("object"));
        assert!(problem("text/xml", b"{}").contains("content type"));
        assert!(problem("application/x-www-form-urlencoded", b"a=1").contains("`payload`"));
    }
}
