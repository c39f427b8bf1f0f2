use chrono::TimeZone as _;

use super::*;
use crate::Protocol;

fn at(day: &str) -> DateTime<Utc> {
    format!("{day}Z").parse().unwrap()
}

fn usage(input: u64, cache_read: u64, cache_write: u64, output: u64) -> Usage {
    Usage {
        input,
        cache_read,
        cache_write,
        output,
        reasoning: output / 2,
        estimated: false,
    }
}

fn dollars(text: &str) -> Decimal {
    text.parse().unwrap()
}

fn table(prices: &str) -> Table {
    let text = format!(
        r#"[{{"id": "p", "models": [{{"id": "m", "match": {{"equals": "m"}}, "prices": {prices}}}]}}]"#
    );
    Table::import(&text).unwrap()
}

const NOW: &str = "2026-11-26T12:00:00";

#[test]
fn what_is_shipped_is_whole() {
    let table = Table::shipped();
    let now = at(NOW);
    let mut count = 0;
    for (provider, entry) in table.entries() {
        count += 1;
        let found = table.find(provider, &entry.id).unwrap();
        assert_eq!(found.id, entry.id);
        assert!(entry.as_of.is_some(), "{provider}/{}", entry.id);
        if provider == "ollama" {
            continue;
        }
        assert!(
            entry.window().is_some() && entry.output_limit().is_some(),
            "{}",
            entry.id
        );
        assert!(
            entry.takes().is_some() && entry.source.is_some(),
            "{}",
            entry.id
        );
        assert!(
            entry.output_limit() >= Some(16_000) || !entry.tools(),
            "{}",
            entry.id
        );
        let cost = entry.cost(&usage(1000, 1000, 1000, 1000), now).unwrap();
        assert!(cost > Decimal::ZERO, "{}", entry.id);
        let most = entry.ceiling(3000, 1000, now).unwrap();
        assert!(most >= cost, "{}: {most} < {cost}", entry.id);
    }
    assert!(count >= 40, "{count} models");
}

#[test]
fn classes_have_their_own_prices_and_reasoning_is_paid_once() {
    let table = table(
        r#"{"input_mtok": 3, "cache_read_mtok": 0.3, "cache_write_mtok": 3.75, "output_mtok": 15}"#,
    );
    let entry = table.find("p", "m").unwrap();
    let cost = entry
        .cost(&usage(1_000_000, 1_000_000, 1_000_000, 1_000_000), at(NOW))
        .unwrap();
    assert_eq!(cost, dollars("22.05"));
    assert_eq!(
        entry.cost(&usage(1, 0, 0, 0), at(NOW)),
        Ok(dollars("0.000003"))
    );
    assert_eq!(
        entry.ceiling(1_000_000, 1_000_000, at(NOW)),
        Ok(dollars("18.75"))
    );
    let micro = |usage: &Usage| entry.micro_dollars(usage, at(NOW));
    assert_eq!(micro(&usage(1, 0, 0, 0)), Some(3));
    assert_eq!(
        micro(&usage(0, 1, 0, 0)),
        Some(1),
        "a part counts as a whole"
    );
    assert_eq!(micro(&usage(u64::MAX, 0, 0, 0)), Some(u64::MAX));
    let absurd = entry.cost(&usage(u64::MAX, 0, 0, u64::MAX), at(NOW));
    assert!(
        absurd.unwrap() > dollars("300000000000000"),
        "it neither wraps nor panics"
    );
}

#[test]
fn a_large_prompt_pays_its_tier_for_every_token() {
    let table = table(
        r#"{"input_mtok": {"base": 1, "tiers": [{"start": 200000, "price": 2}, {"start": 500000, "price": 5}]},
            "output_mtok": {"base": 10, "tiers": [{"start": 200000, "price": 20}]}}"#,
    );
    let entry = table.find("p", "m").unwrap();
    let cost = |input, cache_read| {
        entry
            .cost(&usage(input, cache_read, 0, 1_000_000), at(NOW))
            .unwrap()
    };
    assert_eq!(cost(200_000, 0), dollars("10.2"));
    assert_eq!(cost(200_001, 0), dollars("20.400002"));
    assert_eq!(
        cost(100_000, 100_001),
        dollars("20.400002"),
        "the whole prompt counts"
    );
    assert_eq!(cost(600_000, 0), dollars("23"));
    let bills = entry.bill(at(NOW));
    let shown: Vec<_> = bills
        .iter()
        .map(|bill| (bill.above, bill.input.unwrap()))
        .collect();
    assert_eq!(
        shown,
        [
            (0, dollars("1")),
            (200_000, dollars("2")),
            (500_000, dollars("5"))
        ]
    );
}

#[test]
fn prices_change_at_their_day_and_hour() {
    let table = table(
        r#"[{"prices": {"input_mtok": 1}}, {"constraint": {"start_date": "2026-12-01"}, "prices": {"input_mtok": 2}},
            {"constraint": {"start_time": "22:00:00+00:00", "end_time": "01:00:00Z"}, "prices": {"input_mtok": 0.5}}]"#,
    );
    let entry = table.find("p", "m").unwrap();
    let cost = |moment: &str| entry.cost(&usage(1_000_000, 0, 0, 0), at(moment)).unwrap();
    assert_eq!(cost("2026-11-30T21:59:59"), dollars("1"));
    assert_eq!(cost("2026-12-01T12:00:00"), dollars("2"));
    assert_eq!(cost("2026-12-01T23:00:00"), dollars("0.5"));
    assert_eq!(cost("2026-12-02T00:59:59"), dollars("0.5"));
    assert_eq!(cost("2026-12-02T01:00:00"), dollars("2"));
}

#[test]
fn an_unknown_price_is_an_error_and_free_is_a_value() {
    let table = table("{}");
    let entry = table.find("p", "m").unwrap();
    let unknown = entry.cost(&usage(1, 0, 0, 0), at(NOW)).unwrap_err();
    assert!(unknown.to_string().contains("model import"), "{unknown}");
    assert!(entry.cost(&Usage::default(), at(NOW)).is_err());
    assert!(entry.ceiling(1, 1, at(NOW)).is_err());
    let half = self::table(r#"{"input_mtok": 1}"#);
    let half = half.find("p", "m").unwrap();
    assert!(half.cost(&usage(1, 0, 0, 0), at(NOW)).is_ok());
    assert!(half.cost(&usage(1, 0, 0, 1), at(NOW)).is_err());
    let shipped = Table::shipped();
    let local = shipped.find("ollama", "qwen3:8b").unwrap();
    assert!(local.is_free());
    assert_eq!(local.cost(&usage(1, 0, 0, 1), at(NOW)), Ok(Decimal::ZERO));
    let hosted = shipped.find("ollama", "gpt-oss:120b-cloud").unwrap();
    assert!(
        hosted.cost(&usage(1, 0, 0, 1), at(NOW)).is_err(),
        "somebody's else machine"
    );
}

#[test]
fn a_server_is_known_by_its_address_before_its_name() {
    let table = Table::shipped();
    let target = |protocol, provider: &str, model: &str| {
        let origin = Origin {
            provider: provider.into(),
            model: model.into(),
        };
        Target::new(protocol, origin)
    };
    let id = |target: &Target| table.lookup(target).map(|entry| entry.id.as_str());
    let mine = target(Protocol::Anthropic, "mine", "claude-haiku-4-5-20251001");
    assert_eq!(id(&mine), Some("claude-haiku-4-5"));
    let google = target(Protocol::Gemini, "g", "gemini-3.8-flash");
    assert_eq!(id(&google), Some("gemini-3.8-flash"));
    let deepseek = target(Protocol::Chat, "openai-chat", "deepseek-v4-pro");
    assert_eq!(id(&deepseek), None);
    let deepseek = deepseek.at("https://api.deepseek.com/v1".parse().unwrap());
    assert_eq!(id(&deepseek), Some("deepseek-v4-pro"));
    let trap = target(Protocol::Chat, "x", "deepseek-v4-pro");
    let trap = trap.at("http://evil.example/https://api.deepseek.com"
        .parse()
        .unwrap());
    assert_eq!(id(&trap), None);
    let local = target(Protocol::Chat, "lmstudio", "gpt-oss-20b");
    assert_eq!(
        id(&local.at("http://127.0.0.1:1234/v1".parse().unwrap())),
        None
    );
    let ollama = target(Protocol::Ollama, "home", "llama3.2");
    assert_eq!(id(&ollama), Some("local"));
}

#[test]
fn the_table_says_what_a_model_takes() {
    let table = Table::shipped();
    let takes = |protocol, model: &str| {
        let origin = Origin {
            provider: "p".into(),
            model: model.into(),
        };
        let target = table.fit(Target::new(protocol, origin));
        (
            target.takes.contains(&Parameter::Temperature),
            target.window.is_some(),
        )
    };
    assert_eq!(takes(Protocol::Anthropic, "claude-haiku-4-5"), (true, true));
    assert_eq!(takes(Protocol::Anthropic, "claude-opus-5-5"), (false, true));
    assert_eq!(takes(Protocol::Responses, "gpt-6.1-sol"), (false, true));
    assert_eq!(takes(Protocol::Responses, "gpt-4.1"), (true, true));
    assert_eq!(takes(Protocol::Responses, "of tomorrow"), (false, false));
    assert_eq!(takes(Protocol::Ollama, "llama3.2"), (true, false));
}

#[test]
fn an_import_says_where_it_is_wrong_and_a_table_of_one_s_own_comes_first() {
    let wrong = |text: &str| Table::import(text).unwrap_err().to_string();
    assert!(wrong("{}").contains("form of genai-prices"));
    let negative = r#"[{"id": "p", "models": [{"id": "m", "match": {"equals": "m"}, "prices": {"input_mtok": -1}}]}]"#;
    assert!(
        wrong(negative).contains("[0].models[0].prices"),
        "{}",
        wrong(negative)
    );
    let pattern = r#"[{"id": "p", "models": [{"id": "m", "match": {"regex": "("}}]}]"#;
    assert!(
        wrong(pattern).contains("[0].models[0].match"),
        "{}",
        wrong(pattern)
    );
    let typo = r#"[{"id": "p", "models": [{"id": "m", "match": {"equals": "m"}, "patchfleet": {"fre": true}}]}]"#;
    assert!(wrong(typo).contains("fre"), "{}", wrong(typo));
    let own = r#"[{"id": "anthropic", "models": [{"id": "claude-opus-5-5", "match": {"equals": "x"},
        "prices": {"input_mtok": 0.1, "output_mtok": "0.2"}, "unknown": 1}]}]"#;
    let table = Table::shipped().under(Table::import(own).unwrap());
    let entry = table.find("anthropic", "claude-opus-5-5").unwrap();
    let when = Utc.with_ymd_and_hms(2026, 11, 26, 0, 0, 0).unwrap();
    assert_eq!(
        entry.cost(&usage(1_000_000, 0, 0, 1_000_000), when),
        Ok(dollars("0.3"))
    );
    assert!(table.find("anthropic", "claude-sonnet-5-5").is_some());
    let again = Table::import(&table.export()).unwrap();
    assert_eq!(again.entries().count(), table.entries().count());
    let back = again.find("anthropic", "claude-opus-5-5").unwrap();
    assert_eq!(
        back.cost(&usage(1_000_000, 0, 0, 1_000_000), when),
        Ok(dollars("0.3"))
    );
}

#[test]
fn an_expression_may_look_around_as_those_of_genai_prices_do() {
    let text = r#"[{"id": "p", "models": [{"id": "m", "match": {"and": [{"starts_with": "gemini"},
        {"regex": "^(?!.*-tts$)"}]}}]}]"#;
    let table = Table::import(text).unwrap();
    assert!(table.find("p", "Gemini-9").is_some());
    assert!(table.find("p", "gemini-9-tts").is_none());
}
