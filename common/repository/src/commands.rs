//! Commands as fields of the file: one or several, each as text or as words.

use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, SeqAccess, Visitor};

use super::command::split_command;
use super::text::ListOf;

pub(super) fn tests<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<Vec<String>>>, D::Error> {
    deserializer.deserialize_any(Tests).map(Some)
}

pub(super) fn commands<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<Vec<String>>>, D::Error> {
    deserializer.deserialize_seq(Commands).map(Some)
}

/// A command as text or as words.
struct Command;

impl<'de> Visitor<'de> for Command {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a command as text or as a list of words")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Vec<String>, E> {
        split_command(text).map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Vec<String>, A::Error> {
        let words = ListOf("a list of words", |word: &str| Ok(word.to_owned())).visit_seq(items)?;
        match words.first() {
            Some(program) if !program.is_empty() => Ok(words),
            _ => Err(serde::de::Error::custom("a command must not be empty")),
        }
    }
}

/// A command as text or as words, or several of them.
struct Tests;

impl<'de> Visitor<'de> for Tests {
    type Value = Vec<Vec<String>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a command as text or as a list of words, or a list of commands")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(vec![split_command(text).map_err(E::custom)?])
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Item)? {
            list.push(item);
        }
        // No program has a space in its name, so that a first item with one is a whole command.
        let is_command = |item: &Listed| match item {
            Listed::Words(_) => true,
            Listed::Text(text) => text.trim().contains(char::is_whitespace),
        };
        match list.first() {
            None => Err(serde::de::Error::custom("a command must not be empty")),
            Some(first) if is_command(first) => {
                let commands = list.into_iter().map(Listed::into_command);
                let commands: Result<_, _> = commands.collect();
                commands.map_err(serde::de::Error::custom)
            }
            Some(_) => {
                let words = list.into_iter().map(Listed::into_word);
                let words: Result<Vec<_>, _> = words.collect();
                let words = words.map_err(serde::de::Error::custom)?;
                match words.first() {
                    Some(program) if !program.is_empty() => Ok(vec![words]),
                    _ => Err(serde::de::Error::custom("a command must not be empty")),
                }
            }
        }
    }
}

/// An item of a list that is one command or several.
enum Listed {
    Text(String),
    Words(Vec<String>),
}

struct Item;

impl<'de> DeserializeSeed<'de> for Item {
    type Value = Listed;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Listed, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Item {
    type Value = Listed;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a word, or a command as text or as a list of words")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Listed, E> {
        Ok(Listed::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Listed, A::Error> {
        Command.visit_seq(items).map(Listed::Words)
    }
}

impl Listed {
    fn into_command(self) -> Result<Vec<String>, String> {
        match self {
            Self::Text(text) => split_command(&text),
            Self::Words(words) => Ok(words),
        }
    }

    fn into_word(self) -> Result<String, String> {
        match self {
            Self::Text(text) => Ok(text),
            Self::Words(words) => Err(format!(
                "`{}` is a list among words; write each command as text or as a list",
                words.join(" ")
            )),
        }
    }
}

/// A list of commands.
struct Commands;

impl<'de> Visitor<'de> for Commands {
    type Value = Vec<Vec<String>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of commands, each as text or as a list of words")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut commands = Vec::new();
        while let Some(command) = items.next_element_seed(Command)? {
            commands.push(command);
        }
        Ok(commands)
    }
}

impl<'de> DeserializeSeed<'de> for Command {
    type Value = Vec<String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}
