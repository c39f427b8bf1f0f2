//! Git inside of a sandbox, for what talks to servers that a repository names: submodules, Git LFS.
//!
//! Its settings are those of the git outside. A token for the repository's own host goes in by the
//! standard input, and from there into memory that the sandbox alone has; git asks for it only
//! when that host wants to know who is there. Nothing of the repository runs in such a sandbox, and
//! the next one has another memory.

use std::path::Path;

use super::{CONFIGURATION, Credential, ENVIRONMENT, Remote};

/// Keeps the token in a folder that is memory and goes with the sandbox, then becomes the command, which
/// gets no input.
const SCRIPT: &str = "umask 077 && cat > /tmp/credential && exec \"$@\" < /dev/null";
/// The credential helper.
const HELPER: &str = "!f() { test \"$1\" = get && cat /tmp/credential; }; f";

/// Variables of the git outside that the one inside does without: the sandbox has a home of its own,
/// and `git-lfs` would take the nothing that `true` says for a name and a password, again and again.
const NOT_INSIDE: &[&str] = &["HOME", "GIT_ASKPASS"];

/// A git command for a sandbox with network.
pub struct SandboxedGit {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// What it sees besides the variables of every run.
    pub env: Vec<(String, String)>,
    /// What it reads; secret.
    pub input: Vec<u8>,
}

impl SandboxedGit {
    /// A command in a clone of a remote, with settings of its own. Servers are trusted because of
    /// these authorities instead of the system's.
    pub fn new(
        remote: &Remote,
        (args, settings): (&[&str], &[(&str, &str)]),
        authorities: Option<&Path>,
    ) -> Self {
        let script = ["sh", "-c", SCRIPT, "sh", "git"];
        let words = script.iter().chain(args);
        let credential = remote.credential();
        Self {
            command: words.map(|&word| word.to_owned()).collect(),
            env: environment(remote, settings, authorities),
            input: credential.map(Credential::answer).unwrap_or_default(),
        }
    }
}

fn environment(
    remote: &Remote,
    settings: &[(&str, &str)],
    authorities: Option<&Path>,
) -> Vec<(String, String)> {
    let mut env: Vec<_> = ENVIRONMENT
        .iter()
        .filter(|(name, _)| !NOT_INSIDE.contains(name))
        .map(|&(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    env.push(("GIT_ALLOW_PROTOCOL".to_owned(), "https".to_owned()));
    if let Some(file) = authorities {
        let file = file.display().to_string();
        env.push(("GIT_SSL_CAINFO".to_owned(), file));
    }
    let own = CONFIGURATION
        .iter()
        .chain(settings)
        .map(|&(key, value)| (key.to_owned(), value.to_owned()));
    // Relative addresses of submodules and the server of Git LFS begin with it.
    let url = ("remote.origin.url".to_owned(), remote.url().to_owned());
    let helper = remote
        .credential()
        .map(|it| (it.helper_key(), HELPER.to_owned()));
    let mut count = 0;
    for (key, value) in own.chain([url]).chain(helper) {
        env.push((format!("GIT_CONFIG_KEY_{count}"), key));
        env.push((format!("GIT_CONFIG_VALUE_{count}"), value));
        count += 1;
    }
    env.push(("GIT_CONFIG_COUNT".to_owned(), count.to_string()));
    env
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_in_the_input_alone_and_for_one_host() {
        let token = Some("ghs_secret0123456789".into());
        let remote = Remote::new("https://git.example.org/acme/orders.git", token).unwrap();
        let git = SandboxedGit::new(&remote, (&["lfs", "pull"], &[]), None);
        assert_eq!(git.command[3..], ["sh", "git", "lfs", "pull"]);
        let input = String::from_utf8(git.input.clone()).unwrap();
        assert!(
            input.ends_with("password=ghs_secret0123456789\n"),
            "{input}"
        );
        let seen = format!("{:?}{:?}", git.command, git.env);
        assert!(!seen.contains("ghs_secret"), "{seen}");
        assert!(
            seen.contains("credential.https://git.example.org.helper"),
            "{seen}"
        );
        let remote = Remote::new("https://git.example.org/acme/orders.git", None).unwrap();
        let git = SandboxedGit::new(&remote, (&["lfs", "pull"], &[]), None);
        assert!(git.input.is_empty());
        assert!(!format!("{:?}", git.env).contains("credential.https"));
    }
}
