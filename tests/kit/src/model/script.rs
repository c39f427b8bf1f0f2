//! The script of a model simulator: which models there are and what they answer, turn by turn.
//!
//! It is YAML or JSON. A mistake names file, line, column and field; fields that are not known are
//! mistakes.

mod fault;
mod shape;

use std::fmt;
use std::path::Path;

use regex::Regex;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use fault::{CutAt, Fault, Wait};
pub use shape::{CallShape, Drip, LineEnd, Shape, UsageReport};

/// The key that clients send when the script names no other.
pub const DEFAULT_KEY: &str = "simulated-key";
/// The model that is there when the script names none.
pub const DEFAULT_MODEL: &str = "simulated";

/// A mistake in a script, with its place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: {message}")]
pub struct ScriptError {
    /// The file, or what stands for one.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1.
    pub column: usize,
    /// The field and what is wrong with it.
    pub message: String,
}

/// Everything that a simulator knows.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Script {
    /// The key that every client has to send.
    pub key: String,
    /// The models, whatever protocol asks for them.
    pub models: Vec<Model>,
    /// Takes two messages of one role in a row, as Anthropic does, instead of refusing them.
    pub merge_roles: bool,
    /// Answers a request that was answered before once more, instead of refusing it.
    pub allow_repeats: bool,
    /// Conversations by what they begin with; the first that matches is taken.
    pub conversations: Vec<Conversation>,
    /// The turns of every conversation that matches none of `conversations`.
    pub turns: Vec<Turn>,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            key: DEFAULT_KEY.to_owned(),
            models: vec![Model::named(DEFAULT_MODEL)],
            merge_roles: false,
            allow_repeats: false,
            conversations: Vec::new(),
            turns: Vec::new(),
        }
    }
}

impl Script {
    /// Reads a script; `file` is what its mistakes are said to be in.
    ///
    /// # Errors
    /// When it is no YAML or JSON, has a field that is not known or a value that makes no sense,
    /// or no turn at all.
    pub fn parse(file: &str, text: &str) -> Result<Self, ScriptError> {
        let yaml = yaml_serde::Deserializer::from_str(text);
        let read: Result<Self, _> = yaml_serde::with::singleton_map_recursive::deserialize(yaml);
        let script = read.map_err(|error| {
            let place = error.location();
            let message = error.to_string();
            // The place is said once.
            let end = message.rfind(" at line ").filter(|_| place.is_some());
            ScriptError {
                file: file.to_owned(),
                line: place.as_ref().map_or(1, yaml_serde::Location::line),
                column: place.as_ref().map_or(1, yaml_serde::Location::column),
                message: message[..end.unwrap_or(message.len())].to_owned(),
            }
        })?;
        let at_start = |message: &str| ScriptError {
            file: file.to_owned(),
            line: 1,
            column: 1,
            message: message.to_owned(),
        };
        if script.turns.is_empty() && script.conversations.is_empty() {
            return Err(at_start(
                "there is neither `turns` nor `conversations`: say what the model answers",
            ));
        }
        if script.models.is_empty() {
            return Err(at_start("`models` is empty: leave it out or name one"));
        }
        Ok(script)
    }

    /// Reads a script from a file.
    ///
    /// # Errors
    /// When it can't be read, or has a mistake.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        use anyhow::Context as _;
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("can't read the script {}", path.display()))?;
        Ok(Self::parse(&path.to_string_lossy(), &text)?)
    }

    /// The model of a name.
    pub fn model(&self, name: &str) -> Option<&Model> {
        self.models.iter().find(|model| model.name == name)
    }
}

/// What a model takes.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a field of what is written"
)]
pub struct Model {
    /// Its name in requests.
    pub name: String,
    /// The tokens of its window; a longer prompt is refused.
    #[serde(default = "Model::default_context")]
    pub context: u64,
    /// The most tokens that a request may ask for.
    #[serde(default = "Model::default_output")]
    pub max_output: u64,
    /// Takes `temperature` and its kin; otherwise they are refused.
    #[serde(default = "yes")]
    pub sampling: bool,
    /// Takes tools; otherwise they are refused.
    #[serde(default = "yes")]
    pub tools: bool,
    /// Estimates what its provider's cache had: the start that a prompt shares with an earlier one.
    #[serde(default)]
    pub cache: bool,
    /// Insists on the signature of its calls, as Gemini 3 does; so do models named `gemini-3…`.
    #[serde(default)]
    pub signatures: bool,
}

impl Model {
    fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            context: Self::default_context(),
            max_output: Self::default_output(),
            sampling: true,
            tools: true,
            cache: false,
            signatures: false,
        }
    }

    fn default_context() -> u64 {
        200_000
    }

    fn default_output() -> u64 {
        64_000
    }

    /// Whether its calls have to come back with their signatures.
    pub fn wants_signatures(&self) -> bool {
        self.signatures || self.name.starts_with("gemini-3")
    }
}

fn yes() -> bool {
    true
}

/// A kind of conversation, known by how it begins; each one has its own place in the turns.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conversation {
    /// What its first request has to hold; `text` is the first message of the user.
    #[serde(default)]
    pub when: When,
    /// What is answered, in order.
    pub turns: Vec<Turn>,
}

/// What a request has to hold; all that is given has to be found.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct When {
    /// In the newest text of the user.
    pub text: Option<Pattern>,
    /// In one of the results that came last.
    pub tool_result: Option<Pattern>,
    /// In the model's name.
    pub model: Option<Pattern>,
    /// In the system prompt.
    pub system: Option<Pattern>,
}

/// A regular expression.
#[derive(Clone, Deserialize)]
#[serde(try_from = "String")]
pub struct Pattern(Regex);

impl Pattern {
    /// Whether it is found in a text.
    pub fn is_in(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

impl TryFrom<String> for Pattern {
    type Error = regex::Error;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Regex::new(&text).map(Self)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One answer.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default, try_from = "TurnText")]
pub struct Turn {
    /// What the request has to hold, in addition to being next.
    pub when: When,
    /// How many requests of a conversation it answers.
    pub times: u32,
    /// Answers for ever.
    pub forever: bool,
    /// What the model thinks before it answers.
    pub thinking: Option<String>,
    /// The thinking is shown to nobody: only its sealed form is sent.
    pub redacted: bool,
    /// What the model says.
    pub text: Option<String>,
    /// The tools that it calls, at once.
    pub calls: Vec<Call>,
    /// The tokens; estimated from the texts where it is not given.
    pub usage: Option<Usage>,
    /// Why the answer ends.
    pub stop: Option<Stop>,
    /// What goes wrong.
    pub fault: Option<Fault>,
    /// How the answer looks on the wire.
    pub wire: Shape,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TurnText {
    #[serde(default)]
    when: When,
    times: Option<u32>,
    #[serde(default)]
    forever: bool,
    thinking: Option<String>,
    #[serde(default)]
    redacted: bool,
    text: Option<String>,
    #[serde(default)]
    calls: Vec<Call>,
    usage: Option<Usage>,
    stop: Option<Stop>,
    fault: Option<Fault>,
    #[serde(default)]
    wire: Shape,
}

impl TryFrom<TurnText> for Turn {
    type Error = String;

    fn try_from(written: TurnText) -> Result<Self, Self::Error> {
        let turn = Self {
            when: written.when,
            times: written.times.unwrap_or(1),
            forever: written.forever,
            thinking: written.thinking,
            redacted: written.redacted,
            text: written.text,
            calls: written.calls.iter().flat_map(Call::copies).collect(),
            usage: written.usage,
            stop: written.stop,
            fault: written.fault,
            wire: written.wire,
        };
        let says = turn.text.is_some() || turn.thinking.is_some() || !turn.calls.is_empty();
        if !says && turn.stop.is_none() && !turn.fault.as_ref().is_some_and(Fault::is_whole) {
            let problem = "a turn needs `text`, `thinking`, `calls`, `stop` or a `fault` that replaces the answer";
            return Err(problem.to_owned());
        }
        if written.times == Some(0) {
            return Err("`times` is 0: the turn would never answer".to_owned());
        }
        if turn.forever && written.times.is_some() {
            return Err("`times` and `forever` exclude each other".to_owned());
        }
        let cut_in_character = matches!(
            turn.fault,
            Some(Fault::Cut {
                at: CutAt::InsideCharacter,
                ..
            })
        );
        if cut_in_character && turn.text.as_deref().is_none_or(str::is_ascii) {
            return Err(
                "`inside_character` needs a `text` with a character beyond ASCII".to_owned(),
            );
        }
        Ok(turn)
    }
}

/// A call of a tool.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, try_from = "CallText")]
pub struct Call {
    /// The tool; it need not be one that was offered.
    pub name: String,
    /// Its arguments.
    pub arguments: Arguments,
    /// The id; made up where it is not given.
    pub id: Option<String>,
    /// How many calls like this one are made at once.
    times: u32,
}

impl Call {
    fn copies(&self) -> impl Iterator<Item = Self> {
        std::iter::repeat_n(self.clone(), self.times as usize)
    }
}

/// Arguments as an object, or as the text that stands for one and need not be JSON.
#[derive(Debug, Clone, PartialEq)]
pub enum Arguments {
    /// What a model should write.
    Object(Map<String, Value>),
    /// What it wrote.
    Text(String),
}

impl Arguments {
    /// As the text that protocols with a text of JSON send.
    pub fn text(&self) -> String {
        match self {
            Self::Object(object) => serde_json::to_string(object).unwrap_or_default(),
            Self::Text(text) => text.clone(),
        }
    }

    /// As the value that protocols with objects send: JSON if it is that, else the text.
    pub fn value(&self) -> Value {
        match self {
            Self::Object(object) => Value::Object(object.clone()),
            Self::Text(text) if text.is_empty() => Value::Object(Map::new()),
            Self::Text(text) => {
                serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.clone()))
            }
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CallText {
    name: String,
    arguments: Option<Map<String, Value>>,
    arguments_text: Option<String>,
    id: Option<String>,
    times: Option<u32>,
}

impl TryFrom<CallText> for Call {
    type Error = &'static str;

    fn try_from(written: CallText) -> Result<Self, Self::Error> {
        let arguments = match (written.arguments, written.arguments_text) {
            (Some(_), Some(_)) => {
                return Err("`arguments` and `arguments_text` exclude each other");
            }
            (object, None) => Arguments::Object(object.unwrap_or_default()),
            (None, Some(text)) => Arguments::Text(text),
        };
        Ok(Self {
            name: written.name,
            arguments,
            id: written.id,
            times: written.times.unwrap_or(1),
        })
    }
}

/// Tokens by class; the classes of the input are disjoint, reasoning is a part of the output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Usage {
    /// Input that was neither read from a cache nor written to one.
    pub input: u64,
    /// Input that a cache had.
    pub cache_read: u64,
    /// Input that was written to a cache.
    pub cache_write: u64,
    /// Output, with the reasoning.
    pub output: u64,
    /// The part of the output that was reasoning.
    pub reasoning: u64,
}

impl Usage {
    /// All of the input.
    pub fn prompt(&self) -> u64 {
        self.input
            .saturating_add(self.cache_read)
            .saturating_add(self.cache_write)
    }

    /// Adds another one, class by class.
    pub fn add(&mut self, other: &Self) {
        for (sum, more) in [
            (&mut self.input, other.input),
            (&mut self.cache_read, other.cache_read),
            (&mut self.cache_write, other.cache_write),
            (&mut self.output, other.output),
            (&mut self.reasoning, other.reasoning),
        ] {
            *sum = sum.saturating_add(more);
        }
    }
}

/// Why an answer ends, in words that no protocol uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stop {
    /// The model has said what it had to say.
    End,
    /// It waits for the results of its calls.
    Calls,
    /// The output limit was reached; the last call is left unfinished.
    MaxTokens,
    /// The window is full.
    Context,
    /// The model refuses.
    Refusal,
    /// A filter stopped it.
    ContentFilter,
    /// A stop sequence was met.
    StopSequence,
    /// The turn is paused and may be sent back to go on.
    Pause,
    /// The model wrote a call that its server could not read.
    MalformedCall,
}
