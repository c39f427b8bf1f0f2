//! Texts that are parsed where they are read, so that an error has the place of the text.

use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, SeqAccess, Visitor};

/// Text that is parsed where it is read, so that an error has the place of the text.
#[derive(Clone)]
pub(super) struct TextOf<F>(pub(super) &'static str, pub(super) F);

impl<T, F: Fn(&str) -> Result<T, String>> Visitor<'_> for TextOf<F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        (self.1)(text).map_err(E::custom)
    }
}

impl<'de, T, F: Fn(&str) -> Result<T, String>> DeserializeSeed<'de> for TextOf<F> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        deserializer.deserialize_str(self)
    }
}

/// A list of such texts.
#[derive(Clone)]
pub(super) struct ListOf<F>(pub(super) &'static str, pub(super) F);

impl<'de, T, F: Fn(&str) -> Result<T, String>> Visitor<'de> for ListOf<F> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<T>, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(TextOf(self.0, &self.1))? {
            list.push(item);
        }
        Ok(list)
    }
}

impl<'de, T, F: Fn(&str) -> Result<T, String>> DeserializeSeed<'de> for ListOf<F> {
    type Value = Vec<T>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<T>, D::Error> {
        deserializer.deserialize_seq(self)
    }
}
