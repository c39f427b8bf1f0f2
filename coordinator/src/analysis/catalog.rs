//! The agent types and what speaks for each: configuration, with the specification's defaults.

use std::collections::BTreeSet;

use patchfleet_domain::{AgentType, Capability};
use serde::Deserialize;

/// The agent types that tasks are sorted into; the first wins a draw.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentCatalog {
    /// The types but `general`, which is for what fits none.
    pub types: Vec<AgentProfile>,
}

/// An agent type and what speaks for it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentProfile {
    /// The type. A label of this name speaks for it.
    pub name: AgentType,
    /// What its agents are good at; each is a keyword, too.
    #[serde(default)]
    pub capabilities: BTreeSet<Capability>,
    /// Labels that speak for it.
    #[serde(default)]
    pub labels: Vec<String>,
    /// Words of the request that speak for it.
    #[serde(default)]
    pub keywords: Vec<String>,
    /// Files that speak for it: `.py` (ending), `tests/` (folder) or `Dockerfile` (name).
    #[serde(default)]
    pub paths: Vec<String>,
}

impl AgentCatalog {
    /// The names of all types, `general` included.
    pub fn names(&self) -> BTreeSet<AgentType> {
        let names = self.types.iter().map(|profile| profile.name.clone());
        names.chain([AgentType::general()]).collect()
    }

    /// Everything that some agent is good at.
    pub fn capabilities(&self) -> BTreeSet<Capability> {
        let all = self.types.iter().flat_map(|profile| &profile.capabilities);
        all.cloned().collect()
    }
}

impl Default for AgentCatalog {
    fn default() -> Self {
        Self {
            types: DEFAULTS.iter().filter_map(Defaults::profile).collect(),
        }
    }
}

struct Defaults {
    name: &'static str,
    capabilities: &'static str,
    labels: &'static str,
    keywords: &'static str,
    paths: &'static str,
}

impl Defaults {
    fn profile(&self) -> Option<AgentProfile> {
        let list = |text: &str| text.split(", ").map(str::to_owned).collect::<Vec<_>>();
        Some(AgentProfile {
            name: self.name.parse().ok()?,
            capabilities: self
                .capabilities
                .split(", ")
                .map(Capability::from)
                .collect(),
            labels: list(self.labels),
            keywords: list(self.keywords),
            paths: list(self.paths),
        })
    }
}

const DEFAULTS: [Defaults; 7] = [
    Defaults {
        name: "backend",
        capabilities: "python, fastapi, postgresql, redis",
        labels: "api, server, python, rust, go, java",
        keywords: "api, endpoint, server, django, flask, exception, traceback, program, rust, golang, java",
        paths: ".py, .rs, .go, .java, .rb, .php, .cs, .kt",
    },
    Defaults {
        name: "frontend",
        capabilities: "typescript, react, css, ui/ux",
        labels: "ui, ux, web, css, accessibility, a11y",
        keywords: "button, layout, browser, page, component, responsive, html, javascript, dark mode",
        paths: ".ts, .tsx, .js, .jsx, .css, .scss, .html, .vue, .svelte",
    },
    Defaults {
        name: "testing",
        capabilities: "pytest, jest, selenium, qa",
        labels: "test, tests, qa, flaky",
        keywords: "flaky, coverage, add tests, missing tests, unit tests, regression test, end to end",
        paths: "tests/, test/, __tests__/, .spec.ts, .test.ts, .test.js",
    },
    Defaults {
        name: "devops",
        capabilities: "docker, ansible, github actions",
        labels: "ci, cd, infra, infrastructure, deployment, build",
        keywords: "deploy, deployment, kubernetes, helm, terraform, pipeline, container, ci",
        paths: "Dockerfile, Makefile, .tf, .github/, docker-compose.yml, compose.yaml, deploy/",
    },
    Defaults {
        name: "database",
        capabilities: "postgresql, redis, migration",
        labels: "db, sql, migration, schema",
        keywords: "sql, schema, index, query plan, deadlock, foreign key, sqlite, migrations",
        paths: ".sql, migrations/",
    },
    Defaults {
        name: "security",
        capabilities: "authentication, authorization, vulnerability inspection",
        labels: "vulnerability, cve",
        keywords: "vulnerability, cve, xss, csrf, injection, password, oauth, permission, encryption, login",
        paths: "SECURITY.md, auth/",
    },
    Defaults {
        name: "documentation",
        capabilities: "markdown, api doc, tutorial",
        labels: "docs, doc, readme",
        keywords: "documentation, docs, typo, spelling, docstring, changelog, example in the readme",
        paths: ".md, .rst, docs/",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_the_specification() {
        let names: Vec<_> = AgentCatalog::default()
            .types
            .iter()
            .map(|profile| profile.name.to_string())
            .collect();
        let expected = "backend frontend testing devops database security documentation";
        assert_eq!(names.join(" "), expected);
        assert_eq!(AgentCatalog::default().names().len(), 8);
    }
}
