//! What a request gives away: words, files, issues it waits for.

use patchfleet_domain::{IssueNumber, TaskRequest};

/// Most files that are kept.
const MAX_FILES: usize = 20;

/// Most issues to wait for that are kept.
const MAX_DEPENDENCIES: usize = 20;

/// Endings that make a word a file.
const ENDINGS: &[&str] = &[
    "py", "pyi", "rs", "go", "java", "kt", "rb", "php", "cs", "c", "h", "cpp", "hpp", "ts", "tsx",
    "js", "jsx", "mjs", "css", "scss", "html", "vue", "svelte", "sql", "sh", "tf", "md", "rst",
    "txt", "csv", "json", "yaml", "yml", "toml", "ini", "cfg", "xml", "proto", "lock",
];
/// Files that have no ending.
const NAMES: &[&str] = &["Dockerfile", "Makefile", "Jenkinsfile", "Procfile"];

/// What a request gives away.
#[derive(Debug)]
pub(super) struct Clues {
    /// Lower-case words with single spaces between and around, so that phrases can be found.
    text: String,
    /// Its labels, in lower case.
    pub(super) labels: Vec<String>,
    /// Files it names, in order.
    pub(super) files: Vec<String>,
    /// How many words it has.
    pub(super) words: usize,
    /// How many characters it has.
    pub(super) characters: usize,
    /// How many items of a task list are open.
    pub(super) open_items: usize,
    depends_on: Vec<u64>,
}

impl Clues {
    pub(super) fn of(request: &TaskRequest) -> Self {
        let text = format!("{}\n{}", request.title, request.body);
        let words = words(&text);
        Self {
            labels: request
                .labels
                .iter()
                .map(|label| label.to_lowercase())
                .collect(),
            files: files(&text),
            words: words.len(),
            characters: text.chars().count(),
            open_items: text.lines().filter(|line| is_open_item(line)).count(),
            depends_on: depends_on(&text),
            text: format!(" {} ", words.join(" ")),
        }
    }

    /// True when the word or phrase stands in the text.
    pub(super) fn mentions(&self, phrase: &str) -> bool {
        let phrase = words(phrase).join(" ");
        !phrase.is_empty() && self.text.contains(&format!(" {phrase} "))
    }

    /// Issues that have to be done first, but for the issue itself.
    pub(super) fn depends_on(&self, own: Option<IssueNumber>) -> Vec<u64> {
        let others = self.depends_on.iter().copied();
        others
            .filter(|number| own != Some(IssueNumber(*number)))
            .collect()
    }
}

/// Lower-case words; digits at the end are a version (`python3`).
fn words(text: &str) -> Vec<String> {
    let letters = |c: char| !c.is_alphanumeric();
    let words = text.split(letters).filter(|word| !word.is_empty());
    words
        .map(|word| {
            let word = word.to_lowercase();
            let bare = word.trim_end_matches(|c: char| c.is_ascii_digit());
            if bare.is_empty() {
                word
            } else {
                bare.to_owned()
            }
        })
        .collect()
}

fn is_open_item(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("- [ ]") || line.starts_with("* [ ]")
}

fn files(text: &str) -> Vec<String> {
    let around = |c: char| c.is_whitespace() || "`'\"()[]<>{},;|*".contains(c);
    let mut files: Vec<String> = Vec::new();
    for word in text.split(around) {
        let word = word.trim_end_matches(['.', ':', '!', '?']);
        let path = word.split(':').next().unwrap_or_default();
        let path = path.strip_prefix("./").unwrap_or(path);
        if is_file(word, path) && !files.iter().any(|known| known == path) {
            files.push(path.to_owned());
        }
        if files.len() == MAX_FILES {
            break;
        }
    }
    files
}

fn is_file(word: &str, path: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-/@+".contains(c);
    let inside =
        !path.starts_with('/') && !path.split('/').any(|part| part == ".." || part.is_empty());
    if word.contains("://") || !inside || !path.chars().all(plain) {
        return false;
    }
    let name = path.rsplit('/').next().unwrap_or_default();
    let ending = name.rsplit_once('.').filter(|(stem, _)| !stem.is_empty());
    NAMES.contains(&name) || ending.is_some_and(|(_, ending)| ENDINGS.contains(&ending))
}

/// `depends on #12, #13 and #14` or `blocked by #12`.
fn depends_on(text: &str) -> Vec<u64> {
    let lower = text.to_lowercase();
    let mut words = lower.split_whitespace().peekable();
    let mut found = Vec::new();
    while let Some(word) = words.next() {
        let next = words.peek().map(|word| word.trim_end_matches(':'));
        if !matches!(
            (word, next),
            ("depends", Some("on")) | ("blocked", Some("by"))
        ) {
            continue;
        }
        words.next();
        while let Some(word) = words.peek() {
            let bare = word.trim_end_matches([',', '.', ';', ':', ')']);
            match bare.strip_prefix('#').map(str::parse) {
                Some(Ok(number)) if !found.contains(&number) && found.len() < MAX_DEPENDENCIES => {
                    found.push(number);
                }
                Some(Ok(_)) => {}
                _ if matches!(bare, "and" | "&") => {}
                _ => break,
            }
            words.next();
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_and_nothing_else() {
        let text = "In `orders/money.py:12` and ./src/lib.rs, see https://example.com/a.py, e.g. v1.2.3 \
                    or ../../etc/passwd.txt, /abs/x.py, example.com. Then (Dockerfile) and orders/money.py. \
                    Also .gitignore and a//b.py";
        assert_eq!(files(text), ["orders/money.py", "src/lib.rs", "Dockerfile"]);
    }

    #[test]
    fn dependencies_are_found() {
        assert_eq!(
            depends_on("Depends on #12, #13 and #12.\nBlocked by: #7"),
            [12, 13, 7]
        );
        assert_eq!(depends_on("It depends on luck. See #5; #6"), [0_u64; 0]);
    }

    #[test]
    fn phrases_are_found_as_words() {
        let request = TaskRequest {
            title: "Python3 fails".to_owned(),
            body: "GitHub  Actions\nare red".to_owned(),
            labels: Vec::new(),
            author: String::new(),
            triggered_by: String::new(),
            clone_url: String::new(),
            default_branch: String::new(),
            agent_type: None,
        };
        let clues = Clues::of(&request);
        assert!(clues.mentions("python") && clues.mentions("github actions"));
        assert!(!clues.mentions("act") && !clues.mentions("ui/ux"));
    }
}
