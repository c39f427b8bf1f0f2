//! Fields of the file that are one value, or a list of hosts.

use std::time::Duration;

use patchfleet_domain::AgentType;
use serde::Deserializer;

use super::hosts::Entry;
use super::text::{ListOf, TextOf};

/// What an entry of the allow-list of hosts is.
pub(super) const HOSTS: &str = "a list of hosts and ecosystems";

/// What the agent type is.
pub(super) const AGENT_TYPE: &str = "an agent type";

pub(super) fn network<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<Entry>>, D::Error> {
    let parse = |text: &str| text.parse::<Entry>().map_err(|error| error.to_string());
    deserializer.deserialize_seq(ListOf(HOSTS, parse)).map(Some)
}

pub(super) fn duration<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    let expected = "a time such as `90s`, `5m` or `1h`, at most 1h";
    let parse =
        |text: &str| parse_duration(text).ok_or_else(|| format!("`{text}` is not {expected}"));
    deserializer
        .deserialize_str(TextOf(expected, parse))
        .map(Some)
}

fn parse_duration(text: &str) -> Option<Duration> {
    let unit = text.strip_suffix("ms").map(|number| (number, 1));
    let unit = unit.or_else(|| text.strip_suffix('s').map(|number| (number, 1_000)));
    let unit = unit.or_else(|| text.strip_suffix('m').map(|number| (number, 60_000)));
    let unit = unit.or_else(|| text.strip_suffix('h').map(|number| (number, 3_600_000)));
    let (number, factor) = unit?;
    let millis = number.trim().parse::<u64>().ok()?.checked_mul(factor)?;
    (1..=3_600_000)
        .contains(&millis)
        .then(|| Duration::from_millis(millis))
}

pub(super) fn agent_type<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<AgentType>, D::Error> {
    let parse = |text: &str| text.parse::<AgentType>().map_err(|error| error.to_string());
    deserializer
        .deserialize_str(TextOf(AGENT_TYPE, parse))
        .map(Some)
}
