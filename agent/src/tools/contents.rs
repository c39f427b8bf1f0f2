//! The files that a model is shown which can't look for itself: those that the request names, then
//! those in which the names of code of the request stand, the rarest names first.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use regex::bytes::Regex;

use super::prompt::names;
use super::text::shown;
use super::view::View;
use super::{Tools, as_data};
use crate::draft::DraftRequest;

/// Largest file that is looked at.
const LARGEST: u64 = 256 * 1024;
/// Longest that looking may take.
const TIME: Duration = Duration::from_secs(20);
/// A repository is shown whole up to this size, also where the request names nothing of it.
const SMALL: u64 = 48 * 1024;
/// What a name counts that stands in one file only; one in more files counts less.
const RARE: u32 = 1000;
/// What it counts that the request has the name of the file as a word.
const NAMED: u32 = 500;
/// Shortest name of a file that is a word.
const WORD: usize = 4;
/// Most files that are named as left out.
const LISTED: usize = 20;

/// Files as a model is shown them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Contents {
    /// Each as data, below its path.
    pub(crate) text: String,
    /// How many there are.
    pub(crate) files: usize,
    /// Those that are about the request and did not fit, or can't be shown.
    pub(crate) left_out: Vec<String>,
}

/// What is looked for.
struct Looking {
    /// Named by the request.
    selected: BTreeSet<String>,
    names: Vec<Regex>,
    words: BTreeSet<String>,
    room: usize,
}

impl Tools<'_> {
    /// The files that are about a request, as far as there is room, in bytes.
    ///
    /// # Errors
    /// In words, when the work tree can't be listed.
    pub(crate) async fn contents(
        &self,
        request: &DraftRequest,
        room: usize,
    ) -> Result<Contents, String> {
        let said = format!("{}\n{}", request.title, request.body);
        let selected = request.structure.iter().filter(|file| file.selected);
        let looking = Looking {
            selected: selected.map(|file| file.path.clone()).collect(),
            names: names(&said).iter().filter_map(|it| by_itself(it)).collect(),
            words: words(&said),
            room,
        };
        let tracked = self.tracked.clone();
        self.on_disk(move |view| looking.all(view, &tracked)).await
    }
}

impl Looking {
    fn all(&self, view: &View, tracked: &BTreeSet<String>) -> Result<Contents, String> {
        let listing = view.files("", (tracked, false))?;
        let files = listing.files.iter().filter(|file| !file.is_link);
        let files: Vec<_> = files.filter(|file| file.size <= LARGEST).collect();
        let is_small = files.iter().map(|file| file.size).sum::<u64>() <= SMALL;
        let started = Instant::now();
        let mut found: BTreeMap<&str, BTreeSet<usize>> = BTreeMap::new();
        for file in &files {
            if self.names.is_empty() || started.elapsed() > TIME {
                break;
            }
            let Ok(source) = view.read(&file.path) else {
                continue;
            };
            let names = self.names.iter().enumerate();
            let there = names.filter(|(_, name)| name.is_match(&source.content));
            found.insert(&file.path, there.map(|(number, _)| number).collect());
        }
        let mut ranked: Vec<(u32, &str)> = files
            .iter()
            .map(|file| (self.score(&file.path, &found), file.path.as_str()))
            .collect();
        ranked.sort_by_key(|(score, path)| (std::cmp::Reverse(*score), *path));
        let wanted = ranked.iter().filter(|(score, _)| *score > 0 || is_small);
        Ok(self.show(view, wanted.copied()))
    }

    fn score(&self, path: &str, found: &BTreeMap<&str, BTreeSet<usize>>) -> u32 {
        if self.selected.contains(path) {
            return u32::MAX;
        }
        let files_with = |name: usize| found.values().filter(|it| it.contains(&name)).count();
        let names = found.get(path).into_iter().flatten();
        let rarity =
            names.map(|name| RARE / u32::try_from(files_with(*name)).unwrap_or(RARE).max(1));
        let file = path.rsplit('/').next().unwrap_or(path);
        let stem = file.split('.').next().unwrap_or(file).to_lowercase();
        let is_named = stem.len() >= WORD && self.words.contains(&stem);
        rarity.sum::<u32>() + if is_named { NAMED } else { 0 }
    }

    fn show<'a>(&self, view: &View, ranked: impl Iterator<Item = (u32, &'a str)>) -> Contents {
        let mut contents = Contents::default();
        for (score, path) in ranked {
            let file = view.read(path).and_then(|it| shown(path, &it.content));
            let text = file.map(|file| {
                let notes = file.notes.iter().map(|note| format!(" [{note}]"));
                let notes: String = notes.collect();
                format!("\n`{path}`:{notes}\n{}", as_data(&file.text))
            });
            match text {
                Ok(text) if contents.text.len() + text.len() <= self.room => {
                    contents.text.push_str(&text);
                    contents.files += 1;
                }
                // Of what the request is not about, nobody misses anything.
                _ if score == 0 => {}
                _ if contents.left_out.len() == LISTED => {
                    contents.left_out.push("others".to_owned());
                    break;
                }
                _ => contents.left_out.push(format!("`{path}`")),
            }
        }
        if !contents.left_out.is_empty() {
            let named = contents.left_out.join(", ");
            let _ = write!(
                contents.text,
                "\nNot shown, because there is no room or they are no text: {named}\n"
            );
        }
        contents
    }
}

/// Finds a name that stands by itself and not within another.
fn by_itself(name: &str) -> Option<Regex> {
    Regex::new(&format!(r"\b{}\b", regex::escape(name))).ok()
}

/// The words of a text, in small letters, singular and plural alike.
fn words(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_alphanumeric() && c != '_');
    let long = words.filter(|word| word.len() >= WORD);
    let both = long.flat_map(|word| {
        let word = word.to_lowercase();
        let other = match word.strip_suffix('s') {
            Some(one) => one.to_owned(),
            None => format!("{word}s"),
        };
        [word, other]
    });
    both.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_word_of_its_own() {
        let name = by_itself("parse_url").unwrap();
        assert!(name.is_match(b"x = parse_url(y)") && name.is_match(b"\xffreparse_url parse_url"));
        assert!(!name.is_match(b"reparse_urls my_parse_url2") && !name.is_match(b""));
    }

    #[test]
    fn words_are_known_in_singular_and_plural() {
        let words = words("Wrong amounts on Invoices, see discount 5%");
        for word in ["amount", "invoices", "invoice", "discounts"] {
            assert!(words.contains(word), "{word}");
        }
        assert!(!words.contains("on") && !words.contains("see"));
    }

    fn contents(
        files: &[(&str, &str)],
        (selected, said): (&[&str], &str),
        room: usize,
    ) -> Contents {
        let folder = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        let view = View::new(folder.path().to_owned(), Vec::new());
        let looking = Looking {
            selected: selected.iter().map(|&path| path.to_owned()).collect(),
            names: names(said).iter().filter_map(|it| by_itself(it)).collect(),
            words: words(said),
            room,
        };
        let tracked = files.iter().map(|(path, _)| (*path).to_owned()).collect();
        looking.all(&view, &tracked).unwrap()
    }

    /// The paths of what is shown, in their order.
    fn paths(contents: &Contents) -> Vec<&str> {
        let lines = contents.text.lines();
        let titles = lines.filter_map(|line| line.strip_prefix('`')?.split_once("`:"));
        titles.map(|(path, _)| path).collect()
    }

    #[test]
    fn what_is_named_comes_first_and_then_what_has_the_rarest_names() {
        let filler = "x\n".repeat(30_000);
        let files = [
            ("a_common.py", "get_total()\n"),
            ("b_rare.py", "get_total()\nround_half()\n"),
            ("invoice.py", "nothing\n"),
            ("named.py", "nothing\n"),
            ("other.py", filler.as_str()),
        ];
        let said = (
            &["named.py"][..],
            "`round_half` and get_total are wrong on invoices",
        );
        let all = contents(&files, said, 100_000);
        assert_eq!(
            paths(&all),
            ["named.py", "b_rare.py", "a_common.py", "invoice.py"]
        );
        assert_eq!((all.files, all.left_out.len()), (4, 0));
        assert!(
            all.text
                .contains("<untrusted-text>\nget_total()\nround_half()\n</untrusted-text>")
        );
        let tight = contents(&files, said, 150);
        assert_eq!(paths(&tight)[0], "named.py");
        assert!(
            tight.left_out.contains(&"`invoice.py`".to_owned()),
            "{tight:?}"
        );
        assert!(tight.text.contains("no room"), "{}", tight.text);
    }

    #[test]
    fn a_small_repository_is_shown_whole_and_of_a_large_one_what_it_is_about() {
        let said = (&[][..], "It is wrong.");
        let small = [("a.py", "x = 1\n"), ("b.py", "y = 1\n"), ("logo.png", "\0")];
        let all = contents(&small, said, 10_000);
        assert_eq!(paths(&all), ["a.py", "b.py"]);
        assert_eq!(all.left_out, Vec::<String>::new());
        let filler = "x\n".repeat(30_000);
        let large = [("a.py", "x = 1\n"), ("b.py", filler.as_str())];
        assert_eq!(contents(&large, said, 10_000).files, 0);
    }
}
