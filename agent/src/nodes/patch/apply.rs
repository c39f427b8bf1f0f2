//! Hunks on a text, in memory. No fuzz: what a hunk says was there has to be there, though it may
//! have moved. The work is bounded by the length of text and hunks, whatever the hunks say of their
//! places.

use super::parse::{Hunk, Line};

/// The first hunk that does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Misfit {
    /// The hunk's head.
    pub(super) header: String,
    /// Why.
    pub(super) reason: String,
}

/// The text after all hunks.
pub(super) fn apply(original: &str, hunks: &[Hunk]) -> Result<String, Misfit> {
    let lines: Vec<&str> = original.split_inclusive('\n').collect();
    let mut output: Vec<&str> = Vec::with_capacity(lines.len());
    let mut done = 0;
    let mut shift: isize = 0;
    // How much of the output is known to have a line end everywhere.
    let mut ended = 0;
    let mut search = Search {
        lines: &lines,
        steps: SPARE_STEPS + STEPS_PER_LINE * lines.len(),
    };
    for hunk in hunks {
        let before: Vec<&str> = hunk.before().collect();
        let said = hunk
            .old_start
            .saturating_sub(usize::from(!before.is_empty()));
        let wanted = said.saturating_add_signed(shift);
        let found = match search.find(&before, done, wanted) {
            Some(found) => found,
            None if search.steps == 0 => return Err(lost(hunk)),
            None => return Err(misfit(hunk, &lines, said)),
        };
        output.extend(&lines[done..found]);
        output.extend(hunk.after());
        done = found + before.len();
        shift = found.cast_signed() - said.cast_signed();
        // The last line of all may be without one.
        let inner = output
            .len()
            .saturating_sub(usize::from(done == lines.len()));
        let new = ended.min(inner)..inner;
        ended = inner;
        if output[new].iter().any(|line| !line.ends_with('\n')) {
            return Err(Misfit {
                header: hunk.header.clone(),
                reason: "text would follow a line that has no line end".to_owned(),
            });
        }
    }
    output.extend(&lines[done..]);
    Ok(output.concat())
}

/// How many comparisons of lines a search may take, for each line of the text.
const STEPS_PER_LINE: usize = 16;
/// Comparisons that are always allowed.
const SPARE_STEPS: usize = 1 << 20;

/// Looks for hunks that moved.
struct Search<'a> {
    lines: &'a [&'a str],
    /// Comparisons that are left for all hunks together.
    steps: usize,
}

impl Search<'_> {
    /// Where the lines stand: at the wanted place, or the nearest other that is not done yet.
    fn find(&mut self, before: &[&str], done: usize, wanted: usize) -> Option<usize> {
        let last = self.lines.len().checked_sub(before.len())?;
        if done > last {
            return None;
        }
        let wanted = wanted.clamp(done, last);
        // An insertion without context says nothing but its place.
        if before.is_empty() {
            return Some(wanted);
        }
        let farthest = (wanted - done).max(last - wanted);
        for distance in 0..=farthest {
            let down = wanted.checked_sub(distance).filter(|at| *at >= done);
            let up = Some(wanted + distance).filter(|at| *at <= last);
            for at in down.into_iter().chain(up) {
                let there = self.lines[at..].iter().zip(before);
                let same = there.take_while(|(line, wanted)| line == wanted).count();
                if same == before.len() {
                    return Some(at);
                }
                self.steps = self.steps.saturating_sub(same + 1);
            }
            if self.steps == 0 {
                return None;
            }
        }
        None
    }
}

fn lost(hunk: &Hunk) -> Misfit {
    Misfit {
        header: hunk.header.clone(),
        reason: "it and the hunks before are too far from where they say they are".to_owned(),
    }
}

fn misfit(hunk: &Hunk, lines: &[&str], said: usize) -> Misfit {
    let differs = hunk
        .before()
        .zip(said..)
        .find(|(line, at)| lines.get(*at) != Some(line));
    let reason = match differs {
        Some((line, at)) => format!(
            "line {} should be `{}` but is `{}`",
            at + 1,
            line.trim_end(),
            lines
                .get(at)
                .map_or("the end of the file", |line| line.trim_end()),
        ),
        None => "it overlaps the hunk before".to_owned(),
    };
    Misfit {
        header: hunk.header.clone(),
        reason,
    }
}

impl Hunk {
    fn before(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().filter_map(|line| match line {
            Line::Context(text) | Line::Removed(text) => Some(text.as_str()),
            Line::Added(_) => None,
        })
    }

    fn after(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().filter_map(|line| match line {
            Line::Context(text) | Line::Added(text) => Some(text.as_str()),
            Line::Removed(_) => None,
        })
    }
}
