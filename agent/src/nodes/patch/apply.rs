//! Hunks on a text, in memory. No fuzz: what a hunk says was there has to be there, though it may
//! have moved.

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
    for hunk in hunks {
        let before: Vec<&str> = hunk.before().collect();
        let said = hunk
            .old_start
            .saturating_sub(usize::from(!before.is_empty()));
        let wanted = said.saturating_add_signed(shift);
        let found =
            find(&lines, &before, done, wanted).ok_or_else(|| misfit(hunk, &lines, said))?;
        output.extend(&lines[done..found]);
        output.extend(hunk.after());
        done = found + before.len();
        shift = found.cast_signed() - said.cast_signed();
        let rest = &lines[done..];
        if output
            .iter()
            .rev()
            .skip(usize::from(rest.is_empty()))
            .any(|line| !line.ends_with('\n'))
        {
            return Err(Misfit {
                header: hunk.header.clone(),
                reason: "text would follow a line that has no line end".to_owned(),
            });
        }
    }
    output.extend(&lines[done..]);
    Ok(output.concat())
}

/// Where the lines stand: at the wanted place, or the nearest other that is not done yet.
fn find(lines: &[&str], before: &[&str], done: usize, wanted: usize) -> Option<usize> {
    let last = lines.len().checked_sub(before.len())?;
    if done > last {
        return None;
    }
    let fits = |at: &usize| lines[*at..*at + before.len()] == *before;
    let wanted = wanted.clamp(done, last);
    // An insertion without context says nothing but its place.
    if before.is_empty() {
        return Some(wanted);
    }
    let farthest = (wanted - done).max(last - wanted);
    (0..=farthest).find_map(|distance| {
        let down = wanted.checked_sub(distance).filter(|at| *at >= done);
        let up = Some(wanted + distance).filter(|at| *at <= last);
        down.into_iter().chain(up).find(fits)
    })
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
