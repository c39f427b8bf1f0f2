//! The environment over the file: `PATCHFLEET__COORDINATOR__LISTEN` sets `coordinator.listen`.
//!
//! A value has no type in an environment. It is read as TOML where it is TOML (`true`, `3`,
//! `["a"]`), as plain text, or as a list of one plain text: whichever the field takes, in that
//! order, so that a key of digits is a key and one webhook secret is a list.

use std::ffi::OsString;

use toml::{Table, Value};

use crate::load::ConfigError;

/// What a variable's name starts with; levels are separated by two underscores.
const PREFIX: &str = "PATCHFLEET__";

/// A variable that sets a field.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Override {
    /// The variable's name.
    pub(crate) variable: String,
    /// The field's path, with indices where the file has a list.
    pub(crate) path: Vec<String>,
    /// What the value may mean, the likeliest first.
    pub(crate) readings: Vec<Value>,
    /// Which of the readings is taken.
    pub(crate) reading: usize,
}

impl Override {
    /// Whether the variable sets the field at the path, or what it stands in.
    pub(crate) fn sets(&self, path: &[String]) -> bool {
        path.starts_with(&self.path)
    }

    /// Whether the variable sets a part of the field at the path.
    pub(crate) fn sets_part_of(&self, path: &[String]) -> bool {
        self.path.starts_with(path)
    }
}

/// Picks the overrides out of an environment, ordered by their paths, and puts them on their
/// places in the table.
pub(crate) fn overrides(
    variables: impl Iterator<Item = (OsString, OsString)>,
    table: &Table,
) -> Result<Vec<Override>, ConfigError> {
    let mut found = Vec::new();
    for (name, text) in variables {
        let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else {
            continue;
        };
        let wrong = |message: String| ConfigError::Environment {
            variable: name.to_owned(),
            message,
        };
        let text = text.into_string();
        let text = text.map_err(|_| wrong("the value is not UTF-8".to_owned()))?;
        found.push((name.to_owned(), text));
    }
    found.sort_by_cached_key(|(name, _)| order(name));
    let mut placed = table.clone();
    let mut overrides = Vec::new();
    for (variable, text) in found {
        let words: Vec<&str> = variable[PREFIX.len()..].split("__").collect();
        let path = resolve(&placed, &words).map_err(|message| ConfigError::Environment {
            variable: variable.clone(),
            message,
        })?;
        let it = Override {
            variable,
            path,
            readings: readings(&text),
            reading: 0,
        };
        set_table(&mut placed, &it.path, it.readings[0].clone());
        overrides.push(it);
    }
    Ok(overrides)
}

/// Numbers in the order of numbers, so that the agent 10 comes after the agent 9.
fn order(name: &str) -> Vec<(Option<usize>, String)> {
    let words = name.split("__");
    words.map(|it| (it.parse().ok(), it.to_owned())).collect()
}

fn readings(text: &str) -> Vec<Value> {
    let plain = Value::String(text.to_owned());
    let list = Value::Array(vec![plain.clone()]);
    let toml = text.parse::<Value>().ok();
    toml.into_iter().chain([plain, list]).collect()
}

/// The path that a variable's words mean in this table.
fn resolve(table: &Table, words: &[&str]) -> Result<Vec<String>, String> {
    let mut path = Vec::new();
    let root = Value::Table(table.clone());
    let mut at = Some(&root);
    for word in words {
        let key = match at {
            Some(Value::Array(items)) => index(items, word)?.to_string(),
            Some(Value::Table(table)) => key(table, word),
            _ => key(&Table::new(), word),
        };
        at = at.and_then(|value| step(value, &key));
        path.push(key);
    }
    Ok(path)
}

fn step<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    match value {
        Value::Table(table) => table.get(key),
        Value::Array(items) => items.get(key.parse::<usize>().ok()?),
        _ => None,
    }
}

/// A key that is there is found whatever its case. Else a word with small letters is a key as it
/// is written, such as a repository's name, and one without is written small.
fn key(table: &Table, word: &str) -> String {
    let there = table.keys().find(|key| key.eq_ignore_ascii_case(word));
    match there {
        Some(key) => key.clone(),
        None if word.contains(char::is_lowercase) => word.to_owned(),
        None => word.to_lowercase(),
    }
}

/// The place in a list: a number, where the one after the last adds an entry, or an entry's `id`,
/// in which everything but letters and digits is an underscore.
fn index(items: &[Value], word: &str) -> Result<usize, String> {
    if let Ok(index) = word.parse::<usize>() {
        let count = items.len();
        return if index <= count {
            Ok(index)
        } else {
            Err(format!(
                "there is no entry {index}: there are {count}, counted from 0"
            ))
        };
    }
    let ids = items.iter().map(|it| it.get("id").and_then(Value::as_str));
    let named: Vec<String> = ids.map(|id| id.map(as_word).unwrap_or_default()).collect();
    let mut fitting = named
        .iter()
        .enumerate()
        .filter(|(_, id)| **id == as_word(word));
    match (fitting.next(), fitting.next()) {
        (Some((index, _)), None) => Ok(index),
        (Some(_), Some(_)) => Err(format!(
            "several entries are called {word}: use their numbers, counted from 0"
        )),
        (None, _) => Err(format!(
            "there is no entry {word}: use its number, counted from 0, or one of {}",
            named.join(", ")
        )),
    }
}

fn as_word(id: &str) -> String {
    let letter = |c: char| {
        if c.is_alphanumeric() {
            c.to_ascii_uppercase()
        } else {
            '_'
        }
    };
    id.chars().map(letter).collect()
}

/// The table with the fields set.
pub(crate) fn applied(table: &Table, overrides: &[Override]) -> Table {
    let mut table = table.clone();
    for change in overrides {
        set_table(
            &mut table,
            &change.path,
            change.readings[change.reading].clone(),
        );
    }
    table
}

fn set_table(table: &mut Table, path: &[String], value: Value) {
    let mut root = Value::Table(std::mem::take(table));
    set(&mut root, path, value);
    if let Value::Table(changed) = root {
        *table = changed;
    }
}

/// Sets a field. A path through something that is neither table nor list replaces it.
fn set(place: &mut Value, path: &[String], value: Value) {
    let [key, rest @ ..] = path else {
        *place = value;
        return;
    };
    let index = key.parse::<usize>().ok();
    if !matches!(
        (&*place, index),
        (Value::Table(_), _) | (Value::Array(_), Some(_))
    ) {
        *place = match index {
            Some(0) => Value::Array(Vec::new()),
            _ => Value::Table(Table::new()),
        };
    }
    match (place, index) {
        (Value::Array(items), Some(index)) => {
            if index >= items.len() {
                items.push(Value::Boolean(false));
            }
            if let Some(item) = items.get_mut(index) {
                set(item, rest, value);
            }
        }
        (Value::Table(table), _) => {
            let entry = table.entry(key.clone()).or_insert(Value::Boolean(false));
            set(entry, rest, value);
        }
        _ => {}
    }
}
