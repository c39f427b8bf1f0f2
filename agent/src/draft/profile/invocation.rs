//! How each program is run: its arguments, its variables, and what its home has to be.
//!
//! All of it keeps three things in mind: nobody is there to be asked, there is no network but the gateway,
//! and whoever wrote the repository may have left settings in it, of which none may count but the
//! instructions in words.

use patchfleet_model::{EditFormat, Entry, Protocol};
use serde_json::{Value, json};

use super::Profile;
use crate::sandbox::egress::URL_PLACEHOLDER;
use crate::sandbox::{MODEL_URL, WORKSPACE};

/// Stands for the path of the request's file in arguments.
pub(in crate::draft) const REQUEST_PLACEHOLDER: &str = "{request}";
/// Programs don't start without a key; this is none.
pub(super) const NO_KEY: &str = "patchfleet-adds-the-key";
/// The name of the gateway in the configuration of a program.
const GATEWAY: &str = "patchfleet";

/// Gemini CLI takes a key with another address only when its settings say so, and reads no `AGENTS.md`
/// by itself.
const GEMINI_SETTINGS: &str = r#"{"security":{"auth":{"selectedType":"gemini-api-key"}},"context":{"fileName":["AGENTS.md","GEMINI.md"]},"privacy":{"usageStatisticsEnabled":false},"telemetry":{"enabled":false},"general":{"enableAutoUpdate":false,"enableAutoUpdateNotification":false}}"#;

/// aider reads the repository's settings beside those that are named, so that its arguments go before all
/// that would run a program; and its `.env`, over the variables that lead to the gateway, unless they stand
/// in a file as well. Whatever file a message names it adds to the conversation, so that the list of files,
/// which is the last part of a request, is left out: it has a map of its own.
const AIDER_SCRIPT: &str = r#"echo 'check-update: false' > "$HOME/aider.yml"
env | grep -E '^(OPENAI|ANTHROPIC)_API_(BASE|KEY)=' > "$HOME/aider.env"
last=$(grep -n '^## Files$' "$PATCHFLEET_REQUEST_FILE" | tail -n 1 | cut -d : -f 1)
head -n "$((${last:-1000001} - 1))" "$PATCHFLEET_REQUEST_FILE" > "$HOME/aider.request.md"
[ ! -f AGENTS.md ] || set -- "$@" --read AGENTS.md
"$@" --config "$HOME/aider.yml" --env-file "$HOME/aider.env" --message-file "$HOME/aider.request.md" \
    --chat-history-file "$HOME/aider.chat.md" --input-history-file "$HOME/aider.input"
code=$?
rm -rf .aider.tags.cache.v*
exit $code"#;

/// The model that a program is to ask.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AskedModel<'a> {
    /// The protocol by which it is reached.
    pub(crate) protocol: Protocol,
    /// Its name, as its provider has it.
    pub(crate) name: &'a str,
    /// What the table knows of it.
    pub(crate) entry: Option<&'a Entry>,
}

impl Profile {
    /// The arguments, for the model that it asks.
    pub(crate) fn arguments(self, model: AskedModel<'_>) -> Vec<String> {
        match self {
            Self::ClaudeCode => claude_code(model.name),
            Self::Codex => codex(model.name),
            Self::Gemini => words(&[
                "--output-format",
                "stream-json",
                "--approval-mode",
                "yolo",
                "--skip-trust",
                "--model",
                model.name,
                "--prompt",
                "Do what the request above says.",
            ]),
            Self::Opencode => {
                let model = format!("{GATEWAY}/{}", model.name);
                // Without a title of ours, it asks its model for one.
                words(&[
                    "run", "--format", "json", "--auto", "--title", GATEWAY, "--model", &model,
                ])
            }
            Self::Aider => aider(model),
        }
    }

    /// The variables, with [`URL_PLACEHOLDER`] for the gateway's address.
    pub(crate) fn variables(self, model: AskedModel<'_>) -> Vec<(String, String)> {
        let versioned = format!("{URL_PLACEHOLDER}/v1");
        let versioned = versioned.as_str();
        let opencode;
        let all: &[(&str, &str)] = match (self, model.protocol) {
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
                opencode = opencode_config(model).to_string();
                &[
                    ("OPENCODE_CONFIG_CONTENT", opencode.as_str()),
                    // A repository's settings name programs, and packages that it waits for without end.
                    ("OPENCODE_DISABLE_PROJECT_CONFIG", "1"),
                    ("OPENCODE_PURE", "1"),
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
    pub(in crate::draft) fn preparation(self) -> Option<String> {
        match self {
            Self::Gemini => Some(format!(
                "mkdir -p \"$HOME/.gemini\" && printf %s '{GEMINI_SETTINGS}' > \
                 \"$HOME/.gemini/settings.json\" && exec \"$@\""
            )),
            Self::Aider => Some(AIDER_SCRIPT.to_owned()),
            Self::ClaudeCode | Self::Codex | Self::Opencode => None,
        }
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
        "model_providers.{GATEWAY}={{name=\"{GATEWAY}\",base_url=\"{MODEL_URL}/v1\",env_key=\"PATCHFLEET_MODEL_KEY\",\
         wire_api=\"responses\",request_max_retries=2,stream_max_retries=2,supports_websockets=false}}",
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

/// Whatever it would ask is answered with yes: an address in a request would have it install a browser.
fn aider(model: AskedModel<'_>) -> Vec<String> {
    let provider = match model.protocol {
        Protocol::Anthropic => "anthropic",
        _ => "openai",
    };
    let name = format!("{provider}/{}", model.name);
    let mut words = words(&[
        "--yes-always",
        "--no-stream",
        "--no-auto-commits",
        "--no-dirty-commits",
        "--no-gitignore",
        "--no-suggest-shell-commands",
        "--no-detect-urls",
        "--disable-playwright",
        "--no-auto-lint",
        "--lint-cmd",
        "true",
        "--no-auto-test",
        "--test-cmd",
        "true",
        "--load",
        "/dev/null",
        "--no-notifications",
        "--notifications-command",
        "true",
        "--set-env",
        "PATCHFLEET=1",
        "--no-check-update",
        "--no-show-release-notes",
        "--no-show-model-warnings",
        "--no-pretty",
        "--no-fancy-input",
        "--analytics-disable",
        "--model",
        &name,
    ]);
    // Of most models of this year it knows nothing, and has them write whole files.
    if model.entry.map(Entry::edit_format) == Some(EditFormat::Diff) {
        words.extend(["--edit-format", "diff"].map(str::to_owned));
    }
    words
}

fn opencode_config(model: AskedModel<'_>) -> Value {
    let package = match model.protocol {
        Protocol::Anthropic => "@ai-sdk/anthropic",
        Protocol::Responses => "@ai-sdk/openai",
        _ => "@ai-sdk/openai-compatible",
    };
    let mut limits = json!({});
    let known = model
        .entry
        .and_then(|it| Some((it.window()?, it.output_limit()?)));
    if let Some((window, output)) = known {
        // What it does not know it neither shortens nor keeps to.
        limits["limit"] = json!({"context": window, "output": output});
    }
    let mut models = json!({});
    models[model.name] = limits;
    json!({
        "autoupdate": false,
        "share": "disabled",
        "snapshot": false,
        // All that it is to read of the repository's settings.
        "instructions": [format!("{WORKSPACE}/AGENTS.md")],
        "provider": { GATEWAY: {
            "npm": package,
            "name": GATEWAY,
            "options": { "baseURL": format!("{URL_PLACEHOLDER}/v1"), "apiKey": NO_KEY },
            "models": models,
        }},
    })
}
