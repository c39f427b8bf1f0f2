//! Contents of files that are no text, as git writes them into a patch (`GIT binary patch`): the
//! new content or a delta from the old one, deflated and in base 85.
//!
//! A patch may come from anybody, so nothing is inflated or built that is longer than it says, and
//! what it says is compared with the limits first. Absent: the way back, which git writes as well.

use std::borrow::Cow;

use miniz_oxide::inflate::{TINFLStatus, decompress_to_vec_zlib_with_limit};

/// The line with which the contents of a file begin.
pub(super) const HEAD: &str = "GIT binary patch";

/// Git's digits of base 85.
const DIGITS: &[u8; 85] =
    b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~";
/// No two lengths at the beginning of a delta have more bytes.
const LENGTHS: usize = 20;
/// How many bytes a copy has that names none.
const WHOLE_COPY: usize = 0x1_0000;

/// The content that a patch gives to a file, compressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BinaryPatch {
    method: Method,
    /// Length of the data once it is inflated.
    length: usize,
    deflated: Vec<u8>,
    /// Length of the content that it leads to.
    size: usize,
}

/// Whether a patch has the content itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    Literal,
    Delta,
}

impl BinaryPatch {
    /// The most bytes that this patch needs: those of the content or those of a longer delta.
    pub(super) fn size(&self) -> usize {
        self.size.max(self.length)
    }

    /// The content that the patch leads to.
    ///
    /// # Errors
    /// Why it leads to none, in words.
    pub(super) fn content(&self, before: &[u8]) -> Result<Vec<u8>, String> {
        let data = inflated(&self.deflated, self.length)?;
        match self.method {
            Method::Literal => Ok(data),
            Method::Delta => Delta::new(&data)?.on(before),
        }
    }
}

/// True for the first line of a hunk.
pub(super) fn is_hunk(line: &str) -> bool {
    announced(line).is_some()
}

fn announced(line: &str) -> Option<(Method, usize)> {
    let (word, length) = line.split_once(' ')?;
    let method = match word {
        "literal" => Method::Literal,
        "delta" => Method::Delta,
        _ => return None,
    };
    let is_number = length.bytes().all(|byte| byte.is_ascii_digit());
    Some((method, length.parse().ok().filter(|_| is_number)?))
}

/// Reads a hunk from its first line and those below it, without their line ends.
///
/// # Errors
/// What is wrong with it, in words.
pub(super) fn hunk(head: &str, lines: &[&str]) -> Result<BinaryPatch, String> {
    let (method, length) = announced(head).ok_or_else(|| {
        format!("`{HEAD}` has to be followed by `literal` or `delta` and a length")
    })?;
    let mut deflated = Vec::new();
    for line in lines {
        decode(line, &mut deflated).ok_or("a line of a binary patch is no base 85")?;
    }
    let size = match method {
        Method::Literal => length,
        Method::Delta => Delta::new(&beginning(&deflated, LENGTHS)?)?.after,
    };
    Ok(BinaryPatch {
        method,
        length,
        deflated,
        size,
    })
}

/// One line of base 85: its length as a letter, and five digits for each four bytes.
fn decode(line: &str, bytes: &mut Vec<u8>) -> Option<()> {
    let (first, digits) = line.as_bytes().split_first()?;
    let length = match first {
        b'A'..=b'Z' => first - b'A' + 1,
        b'a'..=b'z' => first - b'a' + 27,
        _ => return None,
    };
    let length = usize::from(length);
    if digits.len() != length.div_ceil(4) * 5 {
        return None;
    }
    let end = bytes.len() + length;
    for group in digits.chunks_exact(5) {
        let mut value = 0_u64;
        for digit in group {
            let digit = DIGITS.iter().position(|it| it == digit)?;
            value = value * 85 + digit as u64;
        }
        bytes.extend(u32::try_from(value).ok()?.to_be_bytes());
    }
    bytes.truncate(end);
    Some(())
}

/// All of the data, which has exactly this length.
fn inflated(deflated: &[u8], length: usize) -> Result<Vec<u8>, String> {
    let data = beginning(deflated, length.saturating_add(1))?;
    if data.len() == length {
        Ok(data)
    } else {
        Err("its data has another length than it says".to_owned())
    }
}

/// As much of the data as there is, up to a limit.
fn beginning(deflated: &[u8], limit: usize) -> Result<Vec<u8>, String> {
    match decompress_to_vec_zlib_with_limit(deflated, limit) {
        Ok(data) => Ok(data),
        Err(error) if error.status == TINFLStatus::HasMoreOutput => Ok(error.output),
        Err(_) => Err("its data can't be inflated".to_owned()),
    }
}

/// A content told by that of before.
struct Delta<'a> {
    before: usize,
    after: usize,
    steps: &'a [u8],
}

impl<'a> Delta<'a> {
    fn new(data: &'a [u8]) -> Result<Self, String> {
        let mut steps = data;
        let mut length = || length(&mut steps).ok_or("its delta has no lengths");
        let (before, after) = (length()?, length()?);
        Ok(Self {
            before,
            after,
            steps,
        })
    }

    fn on(&self, before: &[u8]) -> Result<Vec<u8>, String> {
        let misfit = || "its delta does not fit the file".to_owned();
        if before.len() != self.before {
            return Err(misfit());
        }
        let mut after = Vec::with_capacity(self.after);
        let mut steps = self.steps;
        while !steps.is_empty() {
            let piece = step(&mut steps, before);
            let piece = piece.filter(|piece| piece.len() <= self.after - after.len());
            after.extend_from_slice(piece.ok_or_else(misfit)?);
        }
        if after.len() == self.after {
            Ok(after)
        } else {
            Err(misfit())
        }
    }
}

/// A length of a delta: seven bits a byte, the lowest first.
fn length(data: &mut &[u8]) -> Option<usize> {
    let mut value = 0_u64;
    for shift in (0..63).step_by(7) {
        let byte = take(data, 1)?[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return usize::try_from(value).ok();
        }
    }
    None
}

/// What the next step of a delta adds; nothing when it is no step.
fn step<'a>(steps: &mut &'a [u8], before: &'a [u8]) -> Option<&'a [u8]> {
    match take(steps, 1)?[0] {
        0 => None,
        code @ 1..=0x7f => take(steps, usize::from(code)),
        code => copied(code, steps, before),
    }
}

/// A piece of the content before; of its place and its length only bytes that are not 0 are written.
fn copied<'a>(code: u8, steps: &mut &[u8], before: &'a [u8]) -> Option<&'a [u8]> {
    let mut number = |bits: std::ops::Range<u8>| {
        let mut value = 0_usize;
        for (at, bit) in bits.enumerate() {
            if code & 1 << bit != 0 {
                value |= usize::from(take(steps, 1)?[0]) << (8 * at);
            }
        }
        Some(value)
    };
    let (start, length) = (number(0..4)?, number(4..7)?);
    let length = if length == 0 { WHOLE_COPY } else { length };
    before.get(start..start.checked_add(length)?)
}

fn take<'a>(data: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, rest) = data.split_at_checked(count)?;
    *data = rest;
    Some(taken)
}

/// A patch for people and models: without the contents of files that are no text.
pub(crate) fn without_contents(diff: &str) -> Cow<'_, str> {
    if !diff.contains(HEAD) {
        return Cow::Borrowed(diff);
    }
    let mut lines = diff.split_inclusive('\n').peekable();
    let mut plain = String::with_capacity(diff.len());
    while let Some(line) = lines.next() {
        plain.push_str(line);
        if line.trim_end() != HEAD {
            continue;
        }
        while lines.next_if(|line| is_hunk(line.trim_end())).is_some() {
            while lines.next_if(|line| !line.trim_end().is_empty()).is_some() {}
            lines.next();
        }
    }
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests;
