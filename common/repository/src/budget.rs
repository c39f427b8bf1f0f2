//! What models may cost a task.

use std::fmt;

use patchfleet_domain::{Limit, Money};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize as _, Deserializer};

/// A limit: dollars alone, or dollars and tokens by their names.
pub(super) fn budget<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Limit, D::Error> {
    deserializer.deserialize_any(Budget)
}

struct Budget;

impl<'de> Visitor<'de> for Budget {
    type Value = Limit;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("dollars such as `5` or `2.50`, or `{usd: 5, tokens: 500000}`")
    }

    fn visit_u64<E: Error>(self, dollars: u64) -> Result<Limit, E> {
        self.visit_str(&dollars.to_string())
    }

    fn visit_i64<E: Error>(self, dollars: i64) -> Result<Limit, E> {
        self.visit_str(&dollars.to_string())
    }

    fn visit_f64<E: Error>(self, dollars: f64) -> Result<Limit, E> {
        // The shortest text that reads as the same number: what was written.
        self.visit_str(&dollars.to_string())
    }

    fn visit_str<E: Error>(self, dollars: &str) -> Result<Limit, E> {
        let usd: Money = dollars.parse().map_err(E::custom)?;
        Ok(Limit {
            usd: Some(usd),
            tokens: None,
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, limits: A) -> Result<Limit, A::Error> {
        Limit::deserialize(MapAccessDeserializer::new(limits))
    }
}
