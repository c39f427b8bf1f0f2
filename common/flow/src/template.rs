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

fn fill_text(text: &str, ctx: &Context) -> Result<Value, TemplateError> {
    let mut filled = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("{{") {
        let malformed = || TemplateError::Malformed(rest[start..].to_owned());
        let length = rest[start..].find("}}").ok_or_else(malformed)?;
        let path = rest[start + 2..start + length].trim();
        let path = path.strip_prefix("$ctx.").ok_or_else(malformed)?;
        let value = ctx
            .get(path)
            .ok_or_else(|| TemplateError::Missing(path.to_owned()))?;
        let after = &rest[start + length + 2..];
        if filled.is_empty() && start == 0 && after.is_empty() {
            return Ok(value.clone());
        }
        filled.push_str(&rest[..start]);
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
