//! `patchfleet model list|show|import`: what is known of models.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use chrono::Utc;
use clap::{Args, Subcommand};
use patchfleet_model::{Bill, Entry, Table};
use serde_json::json;

use crate::output::{Line, Output, Tone};

/// Which models there are and what they cost.
#[derive(Debug, Args)]
pub(crate) struct ModelArgs {
    /// A table of your own, which stands over the models that are shipped.
    #[arg(
        long,
        global = true,
        env = "PATCHFLEET_MODEL_TABLE",
        value_name = "FILE",
        default_value = "patchfleet-models.json",
        display_order = 100
    )]
    table: PathBuf,
    #[command(subcommand)]
    command: ModelCommand,
}

#[derive(Debug, Subcommand)]
enum ModelCommand {
    /// List all models with their prices for a million tokens.
    List,
    /// Show all that is known of a model, by any of its names.
    Show {
        /// The name, alone or after its provider: `anthropic/claude-haiku-4-5`.
        name: String,
    },
    /// Put the models of a file in the form of genai-prices into your own table.
    Import {
        /// The file, such as genai-prices' data.json.
        file: PathBuf,
    },
}

/// Does what was asked.
#[expect(clippy::unused_async, reason = "as all commands")]
pub(crate) async fn run(args: ModelArgs, output: Output) -> anyhow::Result<ExitCode> {
    let own = read(&args.table)?;
    match args.command {
        ModelCommand::List => list(&over(own), output),
        ModelCommand::Show { name } => show(&over(own), &name, output)?,
        ModelCommand::Import { file } => import(own, &file, &args.table, output)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The table of the user's own, if there is one.
fn read(path: &Path) -> anyhow::Result<Option<Table>> {
    match std::fs::read_to_string(path) {
        Ok(text) => {
            let table = Table::import(&text);
            Ok(Some(table.with_context(|| path.display().to_string())?))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("can't read {}", path.display())),
    }
}

fn over(own: Option<Table>) -> Table {
    let shipped = Table::shipped();
    match own {
        Some(own) => shipped.under(own),
        None => shipped,
    }
}

fn list(table: &Table, output: Output) {
    for (provider, entry) in table.entries() {
        let hidden = table.find(provider, &entry.id);
        if hidden.is_none_or(|first| !std::ptr::eq(first, entry)) {
            // A table of the user's own says something else.
            continue;
        }
        output.object(&document(provider, entry));
        let name = format!("{provider}/{}", entry.id);
        let line = Line::from(format!("{name:<40}  "));
        output.line(match entry.bill(Utc::now()).first() {
            _ if entry.is_free() => line.and_toned(Tone::Good, "free"),
            None => line.and_toned(Tone::Notice, "price not known"),
            Some(bill) => line.and(format!(
                "in {:<7}  out {:<7}  {}",
                dollars(bill.input),
                dollars(bill.output),
                window(entry)
            )),
        });
    }
}

fn show(table: &Table, name: &str, output: Output) -> anyhow::Result<()> {
    let found = match name.split_once('/') {
        Some((provider, model)) => table.find(provider, model).map(|entry| (provider, entry)),
        None => None,
    };
    let Some((provider, entry)) = found.or_else(|| anywhere(table, name)) else {
        bail!(
            "no model is called `{name}`; `patchfleet model list` names those that are known, \
             `patchfleet model import` adds others"
        );
    };
    output.object(&document(provider, entry));
    let title = entry.name.as_deref().unwrap_or(&entry.id);
    output.line(
        Line::toned(Tone::Good, format!("{provider}/{}", entry.id)).and(format!("  {title}")),
    );
    let tokens = |known: Option<u64>| {
        known.map_or("not known".to_owned(), |known| format!("{known} tokens"))
    };
    output.line(format!("window    {}", tokens(entry.window())));
    output.line(format!("output    {}", tokens(entry.output_limit())));
    output.line(format!(
        "tools     {}",
        if entry.tools() { "yes" } else { "no" }
    ));
    let takes = entry
        .takes()
        .map(|takes| json!(takes).to_string().replace(['[', ']', '"'], ""));
    output.line(format!(
        "takes     {}",
        takes
            .unwrap_or_else(|| "not known".to_owned())
            .replace(',', ", ")
    ));
    if entry.is_free() {
        output.line("price     free");
    }
    let bills = entry.bill(Utc::now());
    if bills.is_empty() && !entry.is_free() {
        output.line(Line::toned(
            Tone::Notice,
            "price     not known; a run with a budget is refused",
        ));
    }
    for bill in bills {
        output.line(format!("price     {}", priced(&bill)));
    }
    let as_of = entry
        .as_of
        .map(|day| format!(" (as of {day})"))
        .unwrap_or_default();
    if let Some(source) = &entry.source {
        output.line(format!("source    {source}{as_of}"));
    }
    Ok(())
}

/// The first provider that has a model of a name.
fn anywhere<'a>(table: &'a Table, name: &str) -> Option<(&'a str, &'a Entry)> {
    let exact = table
        .entries()
        .find(|(_, entry)| entry.id.eq_ignore_ascii_case(name));
    exact.or_else(|| {
        table.entries().find_map(|(provider, entry)| {
            // One that takes every name has none of its own.
            let found = table.find(provider, name)?;
            (std::ptr::eq(found, entry) && !entry.is_free()).then_some((provider, entry))
        })
    })
}

fn import(own: Option<Table>, file: &Path, to: &Path, output: Output) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(file);
    let text = text.with_context(|| format!("can't read {}", file.display()))?;
    let imported = Table::import(&text).with_context(|| file.display().to_string())?;
    let count = imported.entries().count();
    let table = match own {
        Some(own) => own.under(imported),
        None => imported,
    };
    write(to, &table.export())?;
    output.object(&json!({ "event": "imported", "models": count, "table": to }));
    output.line(format!("{count} models are in {} now", to.display()));
    Ok(())
}

/// Writes a file as a whole or not at all.
fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let cannot = || format!("can't write {}", path.display());
    let mut file = tempfile::NamedTempFile::new_in(folder).with_context(cannot)?;
    std::io::Write::write_all(&mut file, text.as_bytes()).with_context(cannot)?;
    file.as_file().sync_all().with_context(cannot)?;
    file.persist(path).with_context(cannot)?;
    Ok(())
}

fn document(provider: &str, entry: &Entry) -> serde_json::Value {
    json!({
        "provider": provider,
        "model": entry.id,
        "name": entry.name,
        "window": entry.window(),
        "output_limit": entry.output_limit(),
        "tools": entry.tools(),
        "edit_format": entry.edit_format(),
        "takes": entry.takes(),
        "free": entry.is_free(),
        "prices": entry.bill(Utc::now()),
        "source": entry.source,
        "as_of": entry.as_of,
    })
}

fn dollars(price: Option<impl std::fmt::Display>) -> String {
    price.map_or("-".to_owned(), |price| format!("${price}"))
}

fn window(entry: &Entry) -> String {
    let window = entry.window();
    window.map_or("window not known".to_owned(), |window| {
        format!("window {window}")
    })
}

fn priced(bill: &Bill) -> String {
    let above = match bill.above {
        0 => String::new(),
        above => format!("  when the prompt has more than {above} tokens"),
    };
    format!(
        "input {}, cache read {}, cache write {}, output {} for a million tokens{above}",
        dollars(bill.input),
        dollars(bill.cache_read),
        dollars(bill.cache_write),
        dollars(bill.output)
    )
}
