//! What a request gives away: words and files.

use patchfleet_domain::TaskRequest;

/// Most files that are kept.
const MAX_FILES: usize = 20;

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
            text: format!(" {} ", words.join(" ")),
        }
    }

    /// True when the word or phrase stands in the text.
    pub(super) fn mentions(&self, phrase: &str) -> bool {
        let phrase = words(phrase).join(" ");
        !phrase.is_empty() && self.text.contains(&format!(" {phrase} "))
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
