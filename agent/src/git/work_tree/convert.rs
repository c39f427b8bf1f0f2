//! Content between a repository and its work tree, as git converts it: line ends, `$Id$`.
//!
//! The rules are those of git's `convert.c` with `core.autocrlf` off on a system that ends lines
//! with LF, so that only attributes matter. What has to be run or known elsewhere is no
//! conversion: `filter` and `working-tree-encoding` are for those who call.

/// What a file's attributes say of its line ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum LineEnds {
    /// Line ends are content and stay as they are.
    #[default]
    AsTheyAre,
    /// CRLF becomes LF in the repository.
    Lf,
    /// The same, and LF becomes CRLF in the work tree.
    Crlf,
    /// As `Lf`, for what looks like text and had no CRLF before.
    AutoLf,
    /// As `Crlf`, for what looks like text and had no CRLF before.
    AutoCrlf,
}

impl LineEnds {
    const fn is_guessed(self) -> bool {
        matches!(self, Self::AutoLf | Self::AutoCrlf)
    }
}

/// How a file is converted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Conversion {
    pub(super) line_ends: LineEnds,
    /// `$Id$` shows the blob's name in the work tree.
    pub(super) ident: bool,
}

impl Conversion {
    /// From the work tree into the repository. `before` is what the repository had at that place.
    pub(super) fn into_repository(self, content: Vec<u8>, before: Option<&[u8]>) -> Vec<u8> {
        let content = match self.line_ends {
            LineEnds::AsTheyAre => content,
            ends => without_crlf(content, ends.is_guessed(), before),
        };
        if self.ident { folded(content) } else { content }
    }

    /// From the repository into the work tree.
    pub(super) fn into_work_tree(self, content: &[u8], id: &str) -> Vec<u8> {
        let content = if self.ident {
            expanded(content, id)
        } else {
            content.to_vec()
        };
        match self.line_ends {
            LineEnds::Crlf | LineEnds::AutoCrlf => with_crlf(content, self.line_ends.is_guessed()),
            _ => content,
        }
    }
}

/// What a content is made of.
#[derive(Default)]
struct Counts {
    nul: usize,
    lone_cr: usize,
    lone_lf: usize,
    crlf: usize,
    printable: usize,
    unprintable: usize,
}

impl Counts {
    fn of(content: &[u8]) -> Self {
        let mut counts = Self::default();
        let mut at = 0;
        while let Some(byte) = content.get(at) {
            match byte {
                b'\r' if content.get(at + 1) == Some(&b'\n') => {
                    counts.crlf += 1;
                    at += 1;
                }
                b'\r' => counts.lone_cr += 1,
                b'\n' => counts.lone_lf += 1,
                0 => {
                    counts.nul += 1;
                    counts.unprintable += 1;
                }
                0x08 | b'\t' | 0x1b | 0x0c => counts.printable += 1,
                0x01..=0x1f | 0x7f => counts.unprintable += 1,
                _ => counts.printable += 1,
            }
            at += 1;
        }
        if content.last() == Some(&0x1a) {
            // DOS's end of file.
            counts.unprintable -= 1;
        }
        counts
    }

    const fn is_binary(&self) -> bool {
        self.lone_cr > 0 || self.nul > 0 || (self.printable >> 7) < self.unprintable
    }
}

fn without_crlf(content: Vec<u8>, is_guessed: bool, before: Option<&[u8]>) -> Vec<u8> {
    let counts = Counts::of(&content);
    let had_crlf = || {
        before.is_some_and(|before| {
            let counts = Counts::of(before);
            counts.crlf > 0 && !counts.is_binary()
        })
    };
    if counts.crlf == 0 || is_guessed && (counts.is_binary() || had_crlf()) {
        return content;
    }
    let mut plain = Vec::with_capacity(content.len());
    for (at, byte) in content.iter().enumerate() {
        if *byte != b'\r' || content.get(at + 1) != Some(&b'\n') {
            plain.push(*byte);
        }
    }
    plain
}

fn with_crlf(content: Vec<u8>, is_guessed: bool) -> Vec<u8> {
    let counts = Counts::of(&content);
    let is_mixed = counts.lone_cr > 0 || counts.crlf > 0 || counts.is_binary();
    if counts.lone_lf == 0 || is_guessed && is_mixed {
        return content;
    }
    let mut converted = Vec::with_capacity(content.len() + counts.lone_lf);
    for (at, byte) in content.iter().enumerate() {
        if *byte == b'\n' && (at == 0 || content[at - 1] != b'\r') {
            converted.push(b'\r');
        }
        converted.push(*byte);
    }
    converted
}

/// `$Id: whatever $` becomes `$Id$`.
fn folded(content: Vec<u8>) -> Vec<u8> {
    replace_idents(&content, |inside| match inside {
        [b':', ..] => Some(Vec::new()),
        _ => None,
    })
}

/// `$Id$` and what git wrote there before become the blob's name.
fn expanded(content: &[u8], id: &str) -> Vec<u8> {
    replace_idents(content, |inside| {
        let is_foreign = inside.get(2..).is_some_and(|text| {
            let space = text.iter().position(|byte| *byte == b' ');
            space.is_some_and(|at| at + 1 < text.len())
        });
        let is_ident = inside.is_empty() || inside.starts_with(b":");
        (is_ident && !is_foreign).then(|| format!(": {id} ").into_bytes())
    })
}

/// Replaces what stands between `$Id` and the next `$` of the same line, where told so.
fn replace_idents(content: &[u8], replace: impl Fn(&[u8]) -> Option<Vec<u8>>) -> Vec<u8> {
    let mut result = Vec::with_capacity(content.len());
    let mut rest = content;
    while let Some(at) = rest.windows(3).position(|three| three == b"$Id") {
        let (head, tail) = rest.split_at(at + 3);
        result.extend(head);
        let end = tail.iter().position(|byte| matches!(byte, b'$' | b'\n'));
        let inside = end.filter(|end| tail[*end] == b'$').map(|end| &tail[..end]);
        match inside.and_then(|inside| Some((inside.len(), replace(inside)?))) {
            Some((length, text)) => {
                result.extend(text);
                result.push(b'$');
                rest = &tail[length + 1..];
            }
            None => rest = tail,
        }
    }
    result.extend(rest);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn conversion(line_ends: LineEnds, ident: bool) -> Conversion {
        Conversion { line_ends, ident }
    }

    #[test]
    fn guessed_text_keeps_the_crlf_that_the_repository_has() {
        let auto = conversion(LineEnds::AutoLf, false);
        let into = |content: &[u8], before| auto.into_repository(content.to_vec(), before);
        assert_eq!(into(b"a\r\nb\r\n", None), b"a\nb\n");
        assert_eq!(
            into(b"a\r\nb\r\n", Some(b"x\r\n".as_slice())),
            b"a\r\nb\r\n"
        );
        assert_eq!(into(b"a\r\n\0", None), b"a\r\n\0");
        let text = conversion(LineEnds::Lf, false);
        assert_eq!(
            text.into_repository(b"a\r\n\0\r".to_vec(), None),
            b"a\n\0\r"
        );
    }

    #[test]
    fn an_ident_is_shown_in_the_work_tree_and_folded_in_the_repository() {
        let ident = conversion(LineEnds::AsTheyAre, true);
        let shown = ident.into_work_tree(b"$Id$ $Id: old $ $Id: by another system $ $Id", "abc");
        assert_eq!(shown, b"$Id: abc $ $Id: abc $ $Id: by another system $ $Id");
        let folded = ident.into_repository(b"$Id: abc $ $Ida$ $Id: a\n$".to_vec(), None);
        assert_eq!(folded, b"$Id$ $Ida$ $Id: a\n$");
    }
}
