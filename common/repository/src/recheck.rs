//! Reading a file again for one of its fields: what is wrong with a value may show only when all of
//! the file is known, and an error has to have the value's place all the same.

use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};

use super::ConfigError;

/// Reads the text again, of which only that field counts.
///
/// # Errors
/// What the field's check says, with its place.
pub(super) fn recheck<S>(text: &str, name: &'static str, check: S) -> Result<(), ConfigError>
where
    S: for<'de> DeserializeSeed<'de> + Clone,
{
    let text = yaml_serde::Deserializer::from_str(text);
    let checked = Field { name, check }.deserialize(text);
    checked.map_err(|error| ConfigError::from_yaml(&error))
}

/// A file of which one field is read.
struct Field<S> {
    name: &'static str,
    check: S,
}

impl<'de, S: DeserializeSeed<'de> + Clone> DeserializeSeed<'de> for Field<S> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, S: DeserializeSeed<'de> + Clone> Visitor<'de> for Field<S> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("fields")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        while let Some(field) = fields.next_key::<String>()? {
            if field == self.name {
                fields.next_value_seed(self.check.clone())?;
            } else {
                fields.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}
