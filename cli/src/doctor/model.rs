//! Whether the model of an agent answers, by one cheap call.

use chrono::Utc;
use patchfleet_agent::{CheckedModel, LanguageModelConfig, check_model};
use patchfleet_domain::Money;
use patchfleet_model::Entry;

use crate::doctor::check::Check;

/// The findings of one model: whether it answers, and whether its price is known.
pub(super) async fn checks(name: String, model: &LanguageModelConfig) -> Vec<Check> {
    let what = format!(
        "{} of {} at {}",
        model.model,
        model.provider,
        model.target().base_url
    );
    let price = price(format!("{name}'s price"), model);
    let answer = match check_model(model).await {
        Ok(found) => answers(name, &what, &found),
        Err(fault) if fault.may_pass() => {
            Check::notice(name, format!("{what}: {fault}"), fault.mend())
        }
        Err(fault) => Check::bad(name, format!("{what}: {fault}"), fault.mend()),
    };
    vec![answer, price]
}

fn answers(name: String, what: &str, found: &CheckedModel) -> Check {
    let usage = found.usage;
    let cost = found
        .micro_dollars
        .map_or_else(String::new, |micros| format!(", {}", Money(micros)));
    let used = format!(
        "asked once: {} tokens in, {} out{cost}",
        usage.prompt(),
        usage.output
    );
    match found.calls_tools {
        Some(true) => Check::good(name, format!("{what} calls tools ({used})")),
        None => Check::good(name, format!("{what} takes tools ({used})")),
        Some(false) => {
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
