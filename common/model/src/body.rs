//! The bytes of a response: decompressed where they are compressed, and told from what is no
//! stream at all.

use std::io::Write as _;

use flate2::write::MultiGzDecoder;
use http::HeaderMap;
use http::header::CONTENT_ENCODING;

use crate::ModelError;
use crate::decode::malformed;

/// How much is decompressed at once; it grows a thousandfold at most.
const SLICE: usize = 4096;

/// Undoes the encoding of a body. None was asked for, and some proxies compress all the same.
pub(crate) enum Encoding {
    /// As it is.
    Identity,
    /// Compressed by gzip.
    Gzip(Box<MultiGzDecoder<Vec<u8>>>),
}

impl Encoding {
    /// The encoding that the headers name.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, ModelError> {
        let name = headers.get(CONTENT_ENCODING);
        let name = name.map_or(Ok(""), |name| name.to_str()).unwrap_or("?");
        match name.trim().to_ascii_lowercase().as_str() {
            "" | "identity" => Ok(Self::Identity),
            "gzip" | "x-gzip" => Ok(Self::Gzip(Box::new(MultiGzDecoder::new(Vec::new())))),
            other => Err(malformed(format!(
                "it is compressed by `{other}` although no compression was asked for"
            ))),
        }
    }

    /// Takes bytes and gives them decoded, in pieces of bounded size.
    pub(crate) fn push(
        &mut self,
        bytes: &[u8],
        mut each: impl FnMut(&[u8]),
    ) -> Result<(), ModelError> {
        let Self::Gzip(decoder) = self else {
            each(bytes);
            return Ok(());
        };
        for slice in bytes.chunks(SLICE) {
            let written = decoder.write_all(slice).and_then(|()| decoder.flush());
            written.map_err(|error| malformed(format!("its compression is broken: {error}")))?;
            each(&std::mem::take(decoder.get_mut()));
        }
        Ok(())
    }
}

/// What a body turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing but white space until now.
    Unknown,
    /// The stream that was asked for.
    Stream,
    /// A JSON document, of an error as a rule.
    Document,
    /// A page for people.
    Html,
}

impl Kind {
    /// Tells by the first byte, because content types are wrong too often: a stream of events
    /// begins with the name of a field or a colon, one of lines with a brace.
    pub(crate) fn of(bytes: &[u8], is_lines: bool) -> Self {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        match bytes.iter().find(|byte| !byte.is_ascii_whitespace()) {
            None => Self::Unknown,
            Some(b'<') => Self::Html,
            Some(b'{') if is_lines => Self::Stream,
            Some(b'{' | b'[' | b'"') => Self::Document,
            Some(_) => Self::Stream,
        }
    }
}

/// The error for a page instead of an answer.
pub(crate) fn page(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let lower = text.to_ascii_lowercase();
    let title = lower.find("<title>").and_then(|at| {
        let rest = text.get(at + "<title>".len()..)?;
        Some(
            rest.split('<')
                .next()?
                .trim()
                .chars()
                .take(100)
                .collect::<String>(),
        )
    });
    let title = title.filter(|title| !title.is_empty());
    let title = title
        .map(|title| format!(" (\"{title}\")"))
        .unwrap_or_default();
    format!("an HTML page came instead of an answer{title}; check `url`, and what stands between")
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use http::HeaderValue;

    use super::*;

    fn headers(encoding: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(CONTENT_ENCODING, HeaderValue::from_static(encoding))])
    }

    #[test]
    fn a_compressed_body_is_read_as_it_arrives() {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(b"data: one\n\n").unwrap();
        encoder.flush().unwrap();
        let first = encoder.get_ref().len();
        encoder.write_all(b"data: two\n\n").unwrap();
        let whole = encoder.finish().unwrap();
        let mut encoding = Encoding::of(&headers("gzip")).unwrap();
        let mut text = Vec::new();
        encoding
            .push(&whole[..first], |bytes| text.extend_from_slice(bytes))
            .unwrap();
        assert_eq!(text, b"data: one\n\n");
        for byte in &whole[first..] {
            encoding
                .push(&[*byte], |bytes| text.extend_from_slice(bytes))
                .unwrap();
        }
        assert_eq!(text, b"data: one\n\ndata: two\n\n");
        let mut broken = Encoding::of(&headers("gzip")).unwrap();
        assert!(broken.push(b"this is no gzip at all", |_| {}).is_err());
        assert!(Encoding::of(&headers("br")).is_err());
    }

    #[test]
    fn a_page_is_told_from_a_stream_by_its_first_byte() {
        assert_eq!(Kind::of(b" \n<html>", false), Kind::Html);
        assert_eq!(Kind::of(b"\xef\xbb\xbfdata: {}", false), Kind::Stream);
        assert_eq!(Kind::of(b": ping", false), Kind::Stream);
        assert_eq!(Kind::of(b"{\"error\": 1}", false), Kind::Document);
        assert_eq!(Kind::of(b"{\"error\": 1}", true), Kind::Stream);
        assert_eq!(Kind::of(b"\r\n", true), Kind::Unknown);
        let why = page(b"<html><TITLE>502 Bad Gateway</TITLE>");
        assert!(
            why.contains("502 Bad Gateway") && why.contains("check `url`"),
            "{why}"
        );
    }
}
