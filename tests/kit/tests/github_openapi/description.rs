//! GitHub's description of its own interface, as something to validate with.

use anyhow::{Context as _, Result};
use jsonschema::{Draft, Registry};
use patchfleet_testkit::github::examples;
use serde_json::{Value, json};

const ROOT: &str = "urn:github";

/// Turns the dialect of `OpenAPI` 3.0 into plain JSON Schema: `nullable`.
fn to_json_schema(value: &mut Value) {
    match value {
        Value::Array(list) => list.iter_mut().for_each(to_json_schema),
        Value::Object(map) => {
            map.values_mut().for_each(to_json_schema);
            if map.get("nullable") != Some(&json!(true)) {
                return;
            }
            map.remove("nullable");
            if let Some(Value::Array(words)) = map.get_mut("enum") {
                words.push(Value::Null);
            }
            let plain = Value::Object(std::mem::take(map));
            *value = json!({ "anyOf": [{ "type": "null" }, plain] });
        }
        _ => {}
    }
}

/// The list of installations describes an account that is a user and an
/// enterprise at once, which none is; a single installation has it right.
fn mend(document: &mut Value) -> Result<()> {
    let json = escape("application/json");
    let list = format!("/paths/~1app~1installations/get/responses/200/content/{json}");
    let account = document
        .pointer_mut(&format!("{list}/schema/items/properties/account/anyOf/1"))
        .and_then(Value::as_object_mut)
        .context("the list of installations is described in another way now")?;
    let both = account
        .remove("allOf")
        .context("the description has been mended")?;
    account.insert("anyOf".to_owned(), both);
    Ok(())
}

/// GitHub's description, ready to validate with.
pub(crate) struct Description {
    document: Value,
    registry: Registry<'static>,
}

impl Description {
    /// Reads it; takes seconds.
    pub(crate) fn load() -> Result<Self> {
        let mut document: Value = serde_json::from_str(&examples::openapi()?)?;
        if let Some(map) = document.as_object_mut() {
            // Examples only cost time.
            map.remove("tags");
        }
        to_json_schema(&mut document);
        mend(&mut document)?;
        let resource = Draft::Draft4.create_resource(document.clone());
        let registry = Registry::new().add(ROOT, resource)?.prepare()?;
        Ok(Self { document, registry })
    }

    /// Follows a reference within the document, if there is one.
    fn at(&self, pointer: &str) -> Result<(String, &Value)> {
        let found = self.document.pointer(pointer);
        let found = found.with_context(|| format!("GitHub's description has no {pointer}"))?;
        match found["$ref"].as_str() {
            Some(target) => self.at(target.trim_start_matches('#')),
            None => Ok((pointer.to_owned(), found)),
        }
    }

    /// Findings about a JSON value that should fit the schema at a pointer.
    fn findings(&self, pointer: &str, value: &Value) -> Result<Vec<String>> {
        let fragment = pointer.replace('{', "%7B").replace('}', "%7D");
        let schema = json!({ "$ref": format!("{ROOT}#{fragment}") });
        let validator = jsonschema::options()
            .with_draft(Draft::Draft4)
            .with_registry(&self.registry)
            .should_validate_formats(true)
            .build(&schema)
            .map_err(|error| anyhow::anyhow!("{pointer}: {error}"))?;
        let findings = validator.iter_errors(value);
        Ok(findings
            .map(|one| {
                let mut text = one.to_string();
                text.truncate(
                    text.char_indices()
                        .nth(300)
                        .map_or(text.len(), |(at, _)| at),
                );
                format!("{}: {text}", one.instance_path())
            })
            .collect())
    }

    /// Findings about an answer to a call.
    pub(crate) fn answer(
        &self,
        call: (&str, &str),
        status: u16,
        body: Option<&Value>,
    ) -> Result<Vec<String>> {
        let (method, path) = (call.0.to_lowercase(), escape(call.1));
        let pointer = format!("/paths/{path}/{method}/responses/{status}");
        let (pointer, response) = self.at(&pointer)?;
        match (response.get("content"), body) {
            (None, None) => Ok(Vec::new()),
            (None, Some(body)) => Ok(vec![format!("a body where none belongs: {body}")]),
            (Some(_), None) => Ok(vec!["no body".to_owned()]),
            (Some(content), Some(body)) => {
                let kind = content.as_object().and_then(|map| map.keys().next());
                let kind = escape(kind.context("a media type")?);
                self.findings(&format!("{pointer}/content/{kind}/schema"), body)
            }
        }
    }

    /// Findings about a webhook's payload.
    pub(crate) fn webhook(&self, event: &str, payload: &Value) -> Result<Vec<String>> {
        let event = event.replace('_', "-");
        let name = match payload["action"].as_str() {
            Some(action) => format!("{event}-{}", action.replace('_', "-")),
            None => event,
        };
        let json = escape("application/json");
        let pointer = format!("/x-webhooks/{name}/post/requestBody/content/{json}/schema");
        self.findings(&pointer, payload)
    }
}

fn escape(text: &str) -> String {
    text.replace('~', "~0").replace('/', "~1")
}
