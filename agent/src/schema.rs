//! What a tool takes: a JSON Schema that the model is given, and that its arguments are held to.

use jsonschema::Validator;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Most faults of arguments that are named.
const NAMED: usize = 5;

/// A tool as the model is told of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Definition {
    /// What it is called by.
    pub(crate) name: &'static str,
    /// What it does.
    pub(crate) description: &'static str,
    /// What it takes, as a JSON Schema of an object.
    pub(crate) parameters: Value,
}

/// A schema that was read.
#[derive(Debug)]
pub(super) struct Schema(Validator);

impl Schema {
    /// # Panics
    /// When it is none: the schemas are part of the program, and a test reads them.
    pub(super) fn new(definition: &Definition) -> Self {
        let validator = jsonschema::draft202012::new(&definition.parameters);
        Self(validator.expect("the schemas are checked by a test"))
    }

    /// The arguments as a type; the error names each rule that failed.
    pub(super) fn read<T: DeserializeOwned>(&self, arguments: &Value) -> Result<T, String> {
        // No arguments at all are what some models send for none.
        let none = Value::Object(Map::new());
        let arguments = if arguments.is_null() {
            &none
        } else {
            arguments
        };
        let mut faults = self.0.iter_errors(arguments);
        let named: Vec<_> = faults.by_ref().take(NAMED).map(|it| fault(&it)).collect();
        if !named.is_empty() {
            let more = match faults.count() {
                0 => String::new(),
                more => format!("; and {more} more"),
            };
            return Err(format!(
                "the arguments are refused: {}{more}",
                named.join("; ")
            ));
        }
        T::deserialize(arguments).map_err(|error| format!("the arguments are refused: {error}"))
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
