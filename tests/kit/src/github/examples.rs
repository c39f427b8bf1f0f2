//! GitHub's own published webhook examples, from the npm package that
//! `make setup` fetches; they are not part of this repository.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::Value;

/// All examples: the event's name and a payload.
pub fn webhook_examples() -> Result<Vec<(String, Value)>> {
    let file = material("@octokit/webhooks-examples/api.github.com/index.json");
    let text = read(&file)?;
    let events: Vec<Value> = serde_json::from_str(&text)
        .with_context(|| format!("{} is not what it should be", file.display()))?;
    let mut all = Vec::new();
    for event in events {
        let name = event["name"].as_str().context("an event without a name")?;
        let examples = event["examples"]
            .as_array()
            .context("an event without examples")?;
        all.extend(
            examples
                .iter()
                .map(|example| (name.to_owned(), example.clone())),
        );
    }
    Ok(all)
}

/// GitHub's own description of its REST interface (`OpenAPI`), as JSON text.
pub fn openapi() -> Result<String> {
    read(&material("@octokit/openapi/generated/api.github.com.json"))
}

fn material(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("npm/node_modules")
        .join(path)
}

fn read(file: &Path) -> Result<String> {
    std::fs::read_to_string(file)
        .with_context(|| format!("cannot read {}; run `make setup`", file.display()))
}
