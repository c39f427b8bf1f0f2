//! Whether the models of an agent answer, each by one cheap call.

use std::collections::BTreeMap;

use chrono::Utc;
use patchfleet_agent::{
    AgentConfig, CheckedModel, DraftConfig, LanguageModelConfig, Needed, check_model,
};
use patchfleet_domain::Money;
use patchfleet_model::Entry;
use secrecy::ExposeSecret as _;

use crate::doctor::check::{Check, Health};

/// Models that were asked. Agents often have the same one, and each call is paid for.
#[derive(Debug, Default)]
pub(super) struct Asked(BTreeMap<Identity, (String, Health)>);

/// What makes two models one: the server, the name there and the key, which is never printed.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Identity {
    provider: &'static str,
    base_url: String,
    name: String,
    key: Key,
    needs_tools: bool,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Key(Option<String>);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "a key" } else { "no key" })
    }
}

/// A model of an agent, and where it stands in the configuration.
struct Configured<'a> {
    what: &'static str,
    section: &'static str,
    model: &'a LanguageModelConfig,
    needed: Needed,
}

/// The models that an agent or its draft command asks.
fn configured(config: &AgentConfig) -> Vec<Configured<'_>> {
    let (drafting, needed) = match &config.draft {
        DraftConfig::Tools(tools) => (Some(&tools.model), Needed::Tools),
        DraftConfig::Diff(diff) => (Some(&diff.model), Needed::Words),
        DraftConfig::Cli(cli) => (cli.asked.as_deref(), Needed::Words),
        DraftConfig::Replay { .. } => (None, Needed::Words),
    };
    let review = config.review.as_ref().map(|it| &it.model);
    let summary = config.summary.as_ref().map(|it| &it.model);
    let all = [
        ("model", "agents.draft.model", drafting, needed),
        ("review model", "agents.review.model", review, Needed::Words),
        (
            "summary model",
            "agents.summary.model",
            summary,
            Needed::Words,
        ),
    ];
    let there = |(what, section, model, needed)| {
        let model: Option<&LanguageModelConfig> = model;
        model.map(|model| Configured {
            what,
            section,
            model,
            needed,
        })
    };
    all.into_iter().filter_map(there).collect()
}

impl Asked {
    /// The findings of an agent's models: whether each answers, and whether its price is known.
    pub(super) async fn checks(&mut self, config: &AgentConfig) -> Vec<Check> {
        let mut checks = Vec::new();
        for model in configured(config) {
            let name = format!("{}: {}", config.id, model.what);
            if let Some((first, health)) = self.before(&model) {
                checks.push(Check {
                    health: *health,
                    ..Check::good(name, format!("the same as `{first}`"))
                });
                continue;
            }
            let answer = ask(&name, &model).await;
            let identity = Identity::of(&model);
            self.0.insert(identity, (name.clone(), answer.health));
            checks.extend([answer, price(format!("{name}'s price"), model.model)]);
        }
        checks
    }

    /// What was asked of the same model before, if it was. Who calls tools also answers in words.
    fn before(&self, model: &Configured<'_>) -> Option<&(String, Health)> {
        let identity = Identity::of(model);
        let by_tools = Identity {
            needs_tools: true,
            ..Identity::of(model)
        };
        self.0.get(&identity).or_else(|| self.0.get(&by_tools))
    }
}

impl Identity {
    fn of(model: &Configured<'_>) -> Self {
        let Configured {
            section,
            model,
            needed,
            ..
        } = model;
        let key = model.key.as_ref();
        // One that can't be had is a finding of its own.
        let key = key.map(|key| match key.reveal(section) {
            Ok(key) => key.expose_secret().to_owned(),
            Err(error) => error.to_string(),
        });
        Self {
            provider: model.provider.name(),
            base_url: model.target().base_url.to_string(),
            name: model.model.clone(),
            key: Key(key),
            needs_tools: *needed == Needed::Tools,
        }
    }
}

async fn ask(name: &str, configured: &Configured<'_>) -> Check {
    let Configured {
        section,
        model,
        needed,
        ..
    } = configured;
    let what = format!(
        "{} of {} at {}",
        model.model,
        model.provider,
        model.target().base_url
    );
    match check_model(model, section, *needed).await {
        Ok(found) => answers(name, (&what, *needed), &found),
        Err(fault) if fault.may_pass() => {
            Check::notice(name, format!("{what}: {fault}"), fault.mend(section))
        }
        Err(fault) => Check::bad(name, format!("{what}: {fault}"), fault.mend(section)),
    }
}

fn answers(name: &str, (what, needed): (&str, Needed), found: &CheckedModel) -> Check {
    let usage = found.usage;
    let cost = found
        .micro_dollars
        .map_or_else(String::new, |micros| format!(", {}", Money(micros)));
    let used = format!(
        "asked once: {} tokens in, {} out{cost}",
        usage.prompt(),
        usage.output
    );
    match (needed, found.calls_tools) {
        (Needed::Words, _) => Check::good(name, format!("{what} answers ({used})")),
        (Needed::Tools, Some(true)) => Check::good(name, format!("{what} calls tools ({used})")),
        (Needed::Tools, None) => Check::good(name, format!("{what} takes tools ({used})")),
        (Needed::Tools, Some(false)) => {
            let found = format!("{what} was told to call a tool and only talked ({used})");
            let mend = "choose a model that calls tools, or let its server parse the calls \
                        (docs/MODELS.md, set-up); a draft without calls is stopped";
            Check::notice(name, found, mend)
        }
    }
}

/// Whether what it costs is known.
fn price(name: String, model: &LanguageModelConfig) -> Check {
    let entry = model.entry();
    if entry.is_some_and(Entry::is_free) {
        return Check::good(name, "free");
    }
    let bills = entry
        .map(|entry| entry.bill(Utc::now()))
        .unwrap_or_default();
    let Some(bill) = bills.first() else {
        let mend = "add it by `patchfleet model import FILE` (docs/MODELS.md), or say there that it is \
                    free; a run with a budget of money is refused";
        return Check::notice(name, "not known", mend);
    };
    let dollars =
        |price: Option<_>| price.map_or_else(|| "nothing".to_owned(), |it| format!("${it}"));
    let found = format!(
        "{} in, {} out for a million tokens",
        dollars(bill.input),
        dollars(bill.output)
    );
    Check::good(name, found)
}
