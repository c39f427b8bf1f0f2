//! `{{ $ctx.path }}` in a node's input.

use serde_json::Value;

use crate::context::Context;

/// A template that can't be filled in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// What it refers to is not there.
    #[error("`$ctx.{0}` is not set")]
    Missing(String),
    /// It is not `{{ $ctx.path }}`.
    #[error("`{0}` is not a template: write `{{{{ $ctx.path }}}}`")]
    Malformed(String),
}

/// Fills in every template within a value. A text that is one template and nothing else becomes
/// the value it refers to, with its type; a template within a text becomes text.
///
/// # Errors
/// [`TemplateError`], which names the path or the text.
pub fn fill(value: &Value, ctx: &Context) -> Result<Value, TemplateError> {
    match value {
        Value::String(text) => fill_text(text, ctx),
        Value::Array(items) => items.iter().map(|item| fill(item, ctx)).collect(),
        Value::Object(map) => map
            .iter()
            .map(|(name, item)| Ok((name.clone(), fill(item, ctx)?)))
            .collect(),
        other => Ok(other.clone()),
    }
}

/// Checks every template within a value without a context.
///
/// # Errors
/// [`TemplateError::Malformed`].
pub(crate) fn check(value: &Value) -> Result<(), TemplateError> {
    match value {
        Value::String(text) => {
            let mut rest = text.as_str();
            while let Some(found) = first(rest)? {
                rest = found.after;
            }
            Ok(())
        }
        Value::Array(items) => items.iter().try_for_each(check),
        Value::Object(map) => map.values().try_for_each(check),
        _ => Ok(()),
    }
}

/// A template within a text.
struct Found<'a> {
    before: &'a str,
    path: &'a str,
    after: &'a str,
}

/// The first template of a text.
fn first(text: &str) -> Result<Option<Found<'_>>, TemplateError> {
    let Some((before, opened)) = text.split_once("{{") else {
        return Ok(None);
    };
    let malformed = || TemplateError::Malformed(text[before.len()..].to_owned());
    let (inner, after) = opened.split_once("}}").ok_or_else(malformed)?;
    let path = inner.trim().strip_prefix("$ctx.").ok_or_else(malformed)?;
    let named = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '[' | ']');
    if path.is_empty() || !path.chars().all(named) {
        return Err(malformed());
    }
    Ok(Some(Found {
        before,
        path,
        after,
    }))
}

fn fill_text(text: &str, ctx: &Context) -> Result<Value, TemplateError> {
    let mut filled = String::new();
    let mut rest = text;
    while let Some(Found {
        before,
        path,
        after,
    }) = first(rest)?
    {
        let value = ctx
            .get(path)
            .ok_or_else(|| TemplateError::Missing(path.to_owned()))?;
        if rest.len() == text.len() && before.is_empty() && after.is_empty() {
            return Ok(value.clone());
        }
        filled.push_str(before);
        match value {
            Value::String(text) => filled.push_str(text),
            other => filled.push_str(&other.to_string()),
        }
        rest = after;
    }
    filled.push_str(rest);
    Ok(Value::String(filled))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_whole_template_keeps_its_type() {
        let ctx = Context::new(json!({ "n": 3, "who": { "name": "Ada" } }));
        let filled = fill(
            &json!({ "n": "{{ $ctx.n }}", "text": "{{$ctx.who.name}}: {{ $ctx.n }}." }),
            &ctx,
        );
        assert_eq!(filled, Ok(json!({ "n": 3, "text": "Ada: 3." })));
    }

    #[test]
    fn what_is_missing_or_malformed_is_named() {
        let ctx = Context::default();
        assert_eq!(
            fill(&json!("{{ $ctx.a.b }}"), &ctx)
                .unwrap_err()
                .to_string(),
            "`$ctx.a.b` is not set"
        );
        assert!(fill(&json!("{{ a }}"), &ctx).is_err());
        assert!(fill(&json!("{{ $ctx.a"), &ctx).is_err());
    }
}
