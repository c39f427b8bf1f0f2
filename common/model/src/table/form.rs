//! The form of genai-prices, read and written. Members that are not known are left alone.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use url::Url;

use super::EditFormat;
use super::clause::{Clause, Pattern};
use super::price::Pricing;
use crate::Parameter;

/// A table can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file is larger than any table.
    #[error("the table is larger than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// The text is not in the form of genai-prices.
    #[error("the table is not in the form of genai-prices, at `{path}`: {why}")]
    Form {
        /// The member that is wrong.
        path: String,
        /// What is wrong with it.
        why: String,
    },
}

/// A provider and its models.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Provider {
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) name: Option<String>,
    /// What its address looks like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) api_pattern: Option<Pattern>,
    #[serde(default)]
    pub(crate) pricing_urls: Vec<String>,
    #[serde(default, rename = "patchfleet")]
    pub(crate) more: MoreOfProvider,
    pub(crate) models: Vec<TableEntry>,
}

/// What the form does not say of a provider.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct MoreOfProvider {
    /// Other names that configurations have for it.
    pub(crate) aliases: Vec<String>,
    /// The day of which the data are.
    pub(crate) as_of: Option<chrono::NaiveDate>,
}

/// A model.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TableEntry {
    /// Its name.
    pub id: String,
    /// Its name for people.
    #[serde(default)]
    pub name: Option<String>,
    #[serde(rename = "match")]
    pub(crate) matches: Clause,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) context_window: Option<u64>,
    #[serde(default)]
    pub(crate) prices: Pricing,
    #[serde(default, rename = "patchfleet")]
    pub(crate) more: MoreOfModel,
    /// Where the prices are published, the first first. Filled when the table is read.
    #[serde(skip)]
    pub source: Option<String>,
    /// The day of which the data are, if the table says so.
    #[serde(skip)]
    pub as_of: Option<chrono::NaiveDate>,
}

/// What the form does not say of a model.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct MoreOfModel {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) output_limit: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) takes: Option<BTreeSet<Parameter>>,
    pub(crate) tools: bool,
    pub(crate) edit_format: EditFormat,
    pub(crate) free: bool,
}

impl Default for MoreOfModel {
    fn default() -> Self {
        Self {
            output_limit: None,
            takes: None,
            // Nearly all can; one that can't says so when it is asked.
            tools: true,
            edit_format: EditFormat::default(),
            free: false,
        }
    }
}

impl Provider {
    /// True for its id and its other names.
    pub(crate) fn is_called(&self, name: &str) -> bool {
        self.id == name || self.more.aliases.iter().any(|alias| alias == name)
    }

    /// True for the address of its server.
    pub(crate) fn is_at(&self, url: &Url) -> bool {
        let pattern = self.api_pattern.as_ref();
        // From the beginning: the address of another server may have this one in its path.
        pattern.is_some_and(|pattern| pattern.begins(url.as_str()))
    }

    pub(crate) fn model(&self, name: &str) -> Option<&TableEntry> {
        let name = name.to_lowercase();
        let exact = self
            .models
            .iter()
            .find(|model| model.id.to_lowercase() == name);
        exact.or_else(|| {
            self.models
                .iter()
                .find(|model| model.matches.matches(&name))
        })
    }
}

pub(crate) fn read(text: &str) -> Result<Vec<Provider>, ImportError> {
    let mut json = serde_json::Deserializer::from_str(text);
    let read = serde_path_to_error::deserialize::<_, Vec<Provider>>(&mut json);
    let mut providers = read.map_err(|error| ImportError::Form {
        path: error.path().to_string(),
        why: error.inner().to_string(),
    })?;
    json.end().map_err(|error| ImportError::Form {
        path: ".".to_owned(),
        why: error.to_string(),
    })?;
    for provider in &mut providers {
        for model in &mut provider.models {
            model.source = provider.pricing_urls.first().cloned();
            model.as_of = provider.more.as_of;
        }
    }
    Ok(providers)
}

pub(crate) fn write(providers: &[Provider]) -> String {
    serde_json::to_string_pretty(providers).unwrap_or_default()
}
