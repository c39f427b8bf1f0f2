//! What a model has to write: JSON of a fixed form, which it is told as a JSON Schema and held to.

use jsonschema::Validator;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Most faults that are named.
const NAMED: usize = 5;

/// A schema that was read.
#[derive(Debug)]
pub(crate) struct Schema(Validator);

impl Schema {
    /// # Panics
    /// When it is none: the schemas are part of the program, and a test reads them.
    pub(crate) fn new(schema: &Value) -> Self {
        let validator = jsonschema::draft202012::new(schema);
        Self(validator.expect("the schemas are checked by a test"))
    }

    /// # Panics
    /// As [`Self::new`].
    pub(crate) fn of_text(schema: &str) -> Self {
        let schema = serde_json::from_str(schema).expect("the schemas are checked by a test");
        Self::new(&schema)
    }

    /// The value as a type; the error names each rule that failed.
    pub(crate) fn read<T: DeserializeOwned>(&self, value: &Value) -> Result<T, String> {
        let mut faults = self.0.iter_errors(value);
        let named: Vec<_> = faults.by_ref().take(NAMED).map(|it| fault(&it)).collect();
        if !named.is_empty() {
            let more = match faults.count() {
                0 => String::new(),
                more => format!("; and {more} more"),
            };
            return Err(format!("{}{more}", named.join("; ")));
        }
        T::deserialize(value).map_err(|error| error.to_string())
    }
}

fn fault(error: &jsonschema::ValidationError<'_>) -> String {
    let place = error.instance_path().to_string();
    let place = match place.trim_start_matches('/') {
        "" => String::new(),
        place => format!("`{place}`: "),
    };
    let said: String = error.to_string().chars().take(300).collect();
    format!("{place}{said} (rule `{}`)", error.kind().keyword())
}
