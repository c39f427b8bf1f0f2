//! What a flow knows: one JSON object that nodes read and add to.

use serde_json::{Map, Value};

/// The flow's context, `ctx` in templates and conditions.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Context {
    root: Map<String, Value>,
}

impl Context {
    /// A context that starts with an object; anything else starts empty.
    pub fn new(value: Value) -> Self {
        match value {
            Value::Object(root) => Self { root },
            _ => Self::default(),
        }
    }

    /// The value at a path such as `workspace.files[0].path`; `None` when there is none.
    pub fn get(&self, path: &str) -> Option<&Value> {
        let mut steps = steps(path);
        let first = self.root.get(steps.next()?)?;
        steps.try_fold(first, |at, step| match at {
            Value::Object(map) => map.get(step),
            Value::Array(items) => step
                .parse::<usize>()
                .ok()
                .and_then(|index| items.get(index)),
            _ => None,
        })
    }

    /// The text at a path; `None` when there is none or it is no text.
    pub fn text(&self, path: &str) -> Option<&str> {
        self.get(path).and_then(Value::as_str)
    }

    /// Adds a node's output: objects are merged, anything else replaces what was there.
    pub fn merge(&mut self, delta: &Value) {
        if let Value::Object(delta) = delta {
            merge(&mut self.root, delta);
        }
    }

    /// The whole as a value.
    pub fn to_value(&self) -> Value {
        Value::Object(self.root.clone())
    }
}

/// Names and indexes of a path, in order.
fn steps(path: &str) -> impl Iterator<Item = &str> {
    path.split(['.', '[', ']']).filter(|step| !step.is_empty())
}

fn merge(into: &mut Map<String, Value>, delta: &Map<String, Value>) {
    for (name, value) in delta {
        match (into.get_mut(name), value) {
            (Some(Value::Object(old)), Value::Object(new)) => merge(old, new),
            _ => {
                into.insert(name.clone(), value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn objects_merge_and_the_rest_is_replaced() {
        let mut ctx = Context::new(json!({ "a": { "b": 1, "c": [1, 2] } }));
        ctx.merge(&json!({ "a": { "c": [3], "d": "new" } }));
        assert_eq!(
            ctx.to_value(),
            json!({ "a": { "b": 1, "c": [3], "d": "new" } })
        );
        assert_eq!(ctx.get("a.c[0]"), Some(&json!(3)));
        assert_eq!(ctx.get("a.c[1]"), None);
        assert_eq!(ctx.text("a.d"), Some("new"));
    }
}
