//! Where a field stands in a file.

use std::ops::Range;

use serde_path_to_error::{Path, Segment};
use toml::de::{DeTable, DeValue};

/// The segments of a path as serde walked it; entries of lists by their number.
pub(crate) fn segments(path: &Path) -> Vec<String> {
    let known = path.iter().filter_map(|segment| match segment {
        Segment::Seq { index } => Some(index.to_string()),
        Segment::Map { key } => Some(key.clone()),
        Segment::Enum { .. } | Segment::Unknown => None,
    });
    known.collect()
}

/// The bytes of a field, or of the closest thing around it that the file has. `of_key` asks for
/// the field's name instead of its value.
pub(crate) fn span(text: &str, path: &[String], of_key: bool) -> Option<Range<usize>> {
    let root = DeTable::parse(text).ok()?;
    let (mut at, mut found) = (DeValue::Table(root.into_inner()), None);
    for (depth, name) in path.iter().enumerate() {
        let last = depth + 1 == path.len();
        let next = match at {
            DeValue::Table(table) => {
                let entry = table.into_iter().find(|(key, _)| key.get_ref() == name);
                entry.map(|(key, value)| (key.span(), value))
            }
            DeValue::Array(items) => {
                let item = name.parse().ok().and_then(|it| items.into_iter().nth(it));
                item.map(|item| (item.span(), item))
            }
            _ => None,
        };
        let Some((key, value)) = next else { break };
        found = Some(if last && of_key { key } else { value.span() });
        at = value.into_inner();
    }
    found
}

/// Whether the file has the field itself.
pub(crate) fn has(text: &str, path: &[String]) -> bool {
    let Ok(table) = text.parse::<toml::Table>() else {
        return false;
    };
    let mut at = Some(&toml::Value::Table(table)).cloned();
    for name in path {
        at = at.and_then(|value| match name.parse::<usize>() {
            Ok(index) if value.is_array() => value.get(index).cloned(),
            _ => value.get(name).cloned(),
        });
    }
    at.is_some()
}

/// Line and column of a byte, counted from 1.
pub(crate) fn line_and_column(text: &str, byte: usize) -> (usize, usize) {
    let before = &text[..byte.min(text.len())];
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let column = before[line_start..].chars().count() + 1;
    (before.matches('\n').count() + 1, column)
}
