//! Coding command lines that are known: how each is run without a person, led to the gateway, kept from
//! updating itself and calling home, and understood.
//!
//! A profile is data for the mode `cli`: arguments, variables, and the meaning of what the program says.
//! Its result is the work tree, as of any command. What a repository brings for such a program (hooks,
//! servers, permissions) is left out, as whoever may change the repository could run programs by it.

mod events;
mod invocation;
mod transcript;

use patchfleet_model::Protocol;
use serde::Deserialize;

pub(crate) use invocation::AskedModel;
pub(super) use invocation::REQUEST_PLACEHOLDER;
pub(super) use transcript::{Ending, Transcript};

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
            Self::Codex => "0.122.0",
            Self::Gemini => "0.61.0",
            Self::Opencode => "1.17.18",
            Self::Aider => "0.86.0",
        }
    }

    /// The protocols by which it may reach its model, the usual one first.
    pub const fn protocols(self) -> &'static [Protocol] {
        match self {
            Self::ClaudeCode => &[Protocol::Anthropic],
            Self::Codex => &[Protocol::Responses],
            Self::Gemini => &[Protocol::Gemini],
            // Its client of compatible servers names the limit of an answer in a way that OpenAI's own
            // does not take of reasoning models.
            Self::Opencode => &[Protocol::Responses, Protocol::Chat, Protocol::Anthropic],
            Self::Aider => &[Protocol::Chat, Protocol::Anthropic],
        }
    }

    /// True when it reads the request from its standard input; else its preparation names its file.
    pub(super) const fn reads_input(self) -> bool {
        !matches!(self, Self::Aider)
    }
}

#[cfg(test)]
mod tests;
