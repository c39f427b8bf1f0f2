//! The environment over the file: `PATCHFLEET__COORDINATOR__LISTEN` sets `coordinator.listen`.

use toml::{Table, Value};

/// What a variable's name starts with; levels are separated by two underscores.
const PREFIX: &str = "PATCHFLEET__";

/// A variable that sets a field.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Override {
    /// The variable's name.
    pub(crate) variable: String,
    /// The field's path.
    pub(crate) path: Vec<String>,
    value: Value,
}

impl Override {
    /// The field's path with dots.
    pub(crate) fn field(&self) -> String {
        self.path.join(".")
    }
}

/// Picks the overrides out of an environment, in the order of their names.
pub(crate) fn overrides(variables: impl Iterator<Item = (String, String)>) -> Vec<Override> {
    let mut found: Vec<Override> = variables
        .filter_map(|(variable, text)| {
            let path = variable
                .strip_prefix(PREFIX)?
                .split("__")
                .map(str::to_lowercase)
                .collect();
            Some(Override {
                variable,
                path,
                value: value(&text),
            })
        })
        .collect();
    found.sort_by(|a, b| a.variable.cmp(&b.variable));
    found
}

/// A TOML value where the text is one (`true`, `3`, `["a"]`), else the text itself.
fn value(text: &str) -> Value {
    text.parse::<Value>()
        .unwrap_or_else(|_| Value::String(text.to_owned()))
}

/// Sets the fields. A path through something that is no table replaces it.
pub(crate) fn apply(table: &mut Table, overrides: &[Override]) {
    for change in overrides {
        set(table, &change.path, change.value.clone());
    }
}

fn set(table: &mut Table, path: &[String], value: Value) {
    match path {
        [] => {}
        [last] => {
            table.insert(last.clone(), value);
        }
        [first, rest @ ..] => {
            let entry = table.entry(first.clone()).or_insert(Value::Boolean(false));
            if !entry.is_table() {
                *entry = Value::Table(Table::new());
            }
            if let Value::Table(next) = entry {
                set(next, rest, value);
            }
        }
    }
}
