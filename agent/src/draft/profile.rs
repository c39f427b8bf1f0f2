//! Coding command lines that are known: how each is run without a person, led to the gateway, kept from
//! updating itself and calling home, and understood.
//!
//! A profile is data for the mode `cli`: arguments, variables, and the meaning of what the program says.
//! Its result is the work tree, as of any command. What a repository brings for such a program (hooks,
//! servers, permissions) is left out, as whoever may change the repository could run programs by it.

mod events;
mod transcript;

use patchfleet_model::Protocol;
use serde::Deserialize;
use serde_json::{Value, json};

pub(super) use transcript::{Ending, Transcript};

use crate::sandbox::egress::URL_PLACEHOLDER;

/// Stands for the path of the request's file in arguments.
pub(super) const REQUEST_PLACEHOLDER: &str = "{request}";
/// Programs don't start without a key; this is none.
const NO_KEY: &str = "patchfleet-adds-the-key";
/// The name of the gateway in the configuration of a program.
const GATEWAY: &str = "patchfleet";

/// Gemini CLI takes a key with another address only when its settings say so.
const GEMINI_SETTINGS: &str = r#"{"security":{"auth":{"selectedType":"gemini-api-key"}},"privacy":{"usageStatisticsEnabled":false},"telemetry":{"enabled":false},"general":{"enableAutoUpdate":false,"enableAutoUpdateNotification":false}}"#;

/// A coding command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// Claude Code, of Anthropic.
    ClaudeCode,
    /// Codex, of `OpenAI`.
    Codex,
    /// Gemini CLI, of Google.
    Gemini,
    /// opencode, which speaks to models of any provider.
    Opencode,
    /// aider, which has its model write blocks of text.
    Aider,
}

impl Profile {
    /// The name in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ClaudeCode => "claude-code",
            Self::Codex => "codex",
            Self::Gemini => "gemini",
            Self::Opencode => "opencode",
            Self::Aider => "aider",
        }
    }

    /// The program, where the configuration names no other.
    pub const fn program(self) -> &'static str {
        match self {
            Self::ClaudeCode => "claude",
            Self::Codex => "codex",
            Self::Gemini => "gemini",
            Self::Opencode => "opencode",
            Self::Aider => "aider",
        }
    }

    /// The command that installs it.
    pub const fn install(self) -> &'static str {
        match self {
            Self::ClaudeCode => "npm install -g @anthropic-ai/claude-code",
            Self::Codex => "npm install -g @openai/codex",
            Self::Gemini => "npm install -g @google/gemini-cli",
            Self::Opencode => "npm install -g opencode-ai",
            Self::Aider => "pipx install aider-chat",
        }
    }

    /// The oldest version that has all that is used of it.
    pub const fn oldest(self) -> &'static str {
        match self {
            Self::ClaudeCode => "2.1.0",
            Self::Codex => "0.120.0",
            Self::Gemini => "0.50.0",
            Self::Opencode => "1.10.0",
            Self::Aider => "0.86.0",
        }
    }

    /// The protocols by which it may reach its model, the usual one first.
    pub const fn protocols(self) -> &'static [Protocol] {
        match self {
            Self::ClaudeCode => &[Protocol::Anthropic],
            Self::Codex => &[Protocol::Responses],
            Self::Gemini => &[Protocol::Gemini],
            Self::Opencode | Self::Aider => &[Protocol::Chat, Protocol::Anthropic],
        }
    }

    /// The arguments, for a model that is reached by a protocol.
    pub fn arguments(self, protocol: Protocol, model: &str) -> Vec<String> {
        match self {
            Self::ClaudeCode => claude_code(model),
            Self::Codex => codex(model),
            Self::Gemini => words(&[
                "--output-format",
                "stream-json",
                "--approval-mode",
                "yolo",
                "--skip-trust",
                "--model",
                model,
                "--prompt",
                "Do what the request above says.",
            ]),
            Self::Opencode => {
                let model = format!("{GATEWAY}/{model}");
                words(&["run", "--format", "json", "--auto", "--model", &model])
            }
            Self::Aider => aider(protocol, model),
        }
    }

    /// The variables, with [`URL_PLACEHOLDER`] for the gateway's address.
    pub fn variables(self, protocol: Protocol, model: &str) -> Vec<(String, String)> {
        let versioned = format!("{URL_PLACEHOLDER}/v1");
        let versioned = versioned.as_str();
        let opencode;
        let all: &[(&str, &str)] = match (self, protocol) {
            (Self::ClaudeCode, _) => &[
                ("ANTHROPIC_BASE_URL", URL_PLACEHOLDER),
                ("ANTHROPIC_API_KEY", NO_KEY),
                ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1"),
                ("DISABLE_AUTOUPDATER", "1"),
                ("DISABLE_TELEMETRY", "1"),
                ("DISABLE_ERROR_REPORTING", "1"),
            ],
            (Self::Codex, _) => &[
                ("OPENAI_BASE_URL", versioned),
                ("PATCHFLEET_MODEL_KEY", NO_KEY),
            ],
            (Self::Gemini, _) => &[
                ("GOOGLE_GEMINI_BASE_URL", URL_PLACEHOLDER),
                ("GEMINI_API_KEY", NO_KEY),
            ],
            (Self::Opencode, _) => {
                opencode = opencode_config(protocol, model).to_string();
                &[
                    ("OPENCODE_CONFIG_CONTENT", opencode.as_str()),
                    ("OPENCODE_DISABLE_AUTOUPDATE", "1"),
                    ("OPENCODE_DISABLE_MODELS_FETCH", "1"),
                    ("OPENCODE_DISABLE_LSP_DOWNLOAD", "1"),
                ]
            }
            (Self::Aider, Protocol::Anthropic) => &[
                ("ANTHROPIC_API_BASE", URL_PLACEHOLDER),
                ("ANTHROPIC_API_KEY", NO_KEY),
                ("LITELLM_LOCAL_MODEL_COST_MAP", "True"),
            ],
            (Self::Aider, _) => &[
                ("OPENAI_API_BASE", versioned),
                ("OPENAI_API_KEY", NO_KEY),
                ("LITELLM_LOCAL_MODEL_COST_MAP", "True"),
            ],
        };
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        all.iter().map(own).collect()
    }

    /// A shell script around the program: it makes the home what it has to be, or removes what the program
    /// leaves in the work tree for itself. It runs in the sandbox: what is in that home already, such as
    /// links, is not the agent's to follow.
    pub(super) fn preparation(self) -> Option<String> {
        match self {
            Self::Gemini => Some(format!(
                "mkdir -p \"$HOME/.gemini\" && printf %s '{GEMINI_SETTINGS}' > \
                 \"$HOME/.gemini/settings.json\" && exec \"$@\""
            )),
            Self::Aider => Some(
                "\"$@\"; code=$?; rm -rf .aider.chat.history.md .aider.input.history \
                 .aider.tags.cache.v*; exit $code"
                    .to_owned(),
            ),
            Self::ClaudeCode | Self::Codex | Self::Opencode => None,
        }
    }

    /// True when it reads the request from its standard input; else an argument names its file.
    pub(super) const fn reads_input(self) -> bool {
        !matches!(self, Self::Aider)
    }
}

fn words(all: &[&str]) -> Vec<String> {
    all.iter().map(|word| (*word).to_owned()).collect()
}

/// It edits files and runs programs without asking, as all it reaches is the sandbox, and never what the
/// repository configures. Its own searches of the web would be paid for beside the tokens.
fn claude_code(model: &str) -> Vec<String> {
    words(&[
        "--print",
        "--output-format",
        "stream-json",
        "--verbose",
        "--permission-mode",
        "acceptEdits",
        "--allowedTools",
        "Bash",
        "--disallowedTools",
        "WebFetch,WebSearch",
        "--setting-sources",
        "user",
        "--strict-mcp-config",
        "--no-session-persistence",
        "--model",
        model,
    ])
}

/// Its own sandbox can't be made inside of ours. It tries a failed question again twice, not five times:
/// each try is reserved anew.
fn codex(model: &str) -> Vec<String> {
    let provider = format!(
        "model_providers.{GATEWAY}={{name=\"{GATEWAY}\",base_url=\"{}/v1\",env_key=\"PATCHFLEET_MODEL_KEY\",\
         wire_api=\"responses\",request_max_retries=2,stream_max_retries=2,supports_websockets=false}}",
        crate::sandbox::MODEL_URL
    );
    let chosen = format!("model_provider=\"{GATEWAY}\"");
    words(&[
        "exec",
        "--json",
        "--ephemeral",
        "--ignore-rules",
        "--skip-git-repo-check",
        "--sandbox",
        "danger-full-access",
        "--model",
        model,
        "--config",
        &chosen,
        "--config",
        &provider,
        "--config",
        "check_for_update_on_startup=false",
        "--config",
        "analytics.enabled=false",
        "--config",
        "web_search=\"disabled\"",
        "-",
    ])
}

fn aider(protocol: Protocol, model: &str) -> Vec<String> {
    let model = match protocol {
        Protocol::Anthropic => format!("anthropic/{model}"),
        _ => format!("openai/{model}"),
    };
    words(&[
        "--message-file",
        REQUEST_PLACEHOLDER,
        "--yes-always",
        "--no-stream",
        "--no-auto-commits",
        "--no-gitignore",
        "--no-check-update",
        "--no-show-release-notes",
        "--no-show-model-warnings",
        "--no-pretty",
        "--no-fancy-input",
        "--analytics-disable",
        "--model",
        &model,
    ])
}

fn opencode_config(protocol: Protocol, model: &str) -> Value {
    let package = match protocol {
        Protocol::Anthropic => "@ai-sdk/anthropic",
        _ => "@ai-sdk/openai-compatible",
    };
    let mut models = json!({});
    models[model] = json!({});
    json!({
        "autoupdate": false,
        "share": "disabled",
        "provider": { GATEWAY: {
            "npm": package,
            "name": GATEWAY,
            "options": { "baseURL": format!("{URL_PLACEHOLDER}/v1"), "apiKey": NO_KEY },
            "models": models,
        }},
    })
}

#[cfg(test)]
mod tests;
