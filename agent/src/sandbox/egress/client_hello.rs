//! The first message of a TLS client, read without answering it: whom it wants to talk to.
//!
//! rustls judges the message; a walk of our own over the same bytes finds the one extension that
//! rustls does not show. Whatever either can't read is refused.

use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::HostName;

/// How long a first message may be. Post-quantum ones have less than 2 KiB.
pub(super) const MAX_BYTES: usize = 16 * 1024;
/// TLS record type, handshake message type and extension (RFC 9849) that are looked for.
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const ENCRYPTED_CLIENT_HELLO: u16 = 0xfe0d;

/// The first message of a connection can't be passed on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    /// Something else than TLS, or an invalid message.
    #[error("the connection does not begin with a TLS handshake")]
    NotTls,
    /// Longer than any real one.
    #[error("the TLS handshake's first message is too long")]
    TooLong,
    /// It ended before it was whole.
    #[error("the connection ended within the TLS handshake's first message")]
    Ended,
    /// It names no host, or not by a name.
    #[error("the TLS handshake names no host (SNI)")]
    NoServerName,
    /// The name in sight need not be the one that the server acts on.
    #[error("the TLS handshake hides the host's name (ECH)")]
    Encrypted,
}

/// Reads a first message from pieces of any size.
#[derive(Default)]
pub struct ClientHelloReader {
    acceptor: Acceptor,
    bytes: Vec<u8>,
}

impl ClientHelloReader {
    /// Takes what came in; the host's name once the message is whole.
    ///
    /// # Errors
    /// As soon as it can be no message that names its host.
    pub fn push(&mut self, piece: &[u8]) -> Result<Option<HostName>, HelloError> {
        self.bytes.extend_from_slice(piece);
        let mut rest = piece;
        while !rest.is_empty() {
            match self.acceptor.read_tls(&mut rest) {
                Ok(0) | Err(_) => return Err(HelloError::TooLong),
                Ok(_) => {}
            }
            if let Some(accepted) = self.acceptor.accept().map_err(|_| HelloError::NotTls)? {
                let hello = accepted.client_hello();
                let name = hello.server_name().ok_or(HelloError::NoServerName)?;
                let name = HostName::parse(name).map_err(|_| HelloError::NoServerName)?;
                return match has_extension(&self.bytes, ENCRYPTED_CLIENT_HELLO) {
                    Some(false) => Ok(Some(name)),
                    Some(true) => Err(HelloError::Encrypted),
                    None => Err(HelloError::NotTls),
                };
            }
        }
        if self.bytes.len() >= MAX_BYTES {
            return Err(HelloError::TooLong);
        }
        Ok(None)
    }

    /// Everything that came in, to be passed on as it was.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// Reads a connection's first message: the host that it names, and all bytes that were read.
pub(super) async fn read(
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<(HostName, Vec<u8>), HelloError> {
    let mut reader = ClientHelloReader::default();
    let mut buffer = [0; 2048];
    loop {
        let count = stream.read(&mut buffer).await.unwrap_or(0);
        if count == 0 {
            return Err(HelloError::Ended);
        }
        if let Some(name) = reader.push(&buffer[..count])? {
            return Ok((name, reader.into_bytes()));
        }
    }
}

/// Whether a first message has an extension; `None` when its extensions can't be found.
fn has_extension(records: &[u8], wanted: u16) -> Option<bool> {
    let message = handshake_message(records)?;
    let mut hello = Bytes(&message);
    hello.take(2 + 32)?; // version and random
    hello.vector(1)?; // session
    hello.vector(2)?; // cipher suites
    hello.vector(1)?; // compression methods
    let mut extensions = Bytes(hello.vector(2)?);
    let mut found = false;
    while !extensions.0.is_empty() {
        found |= extensions.number(2)? == usize::from(wanted);
        extensions.vector(2)?;
    }
    Some(found)
}

/// The body of the first handshake message, put together from as many records as it takes.
fn handshake_message(records: &[u8]) -> Option<Vec<u8>> {
    let (mut records, mut message) = (Bytes(records), Vec::new());
    loop {
        if let Some(head) = message.get(..4) {
            let mut head = Bytes(head);
            (head.number(1)? == usize::from(CLIENT_HELLO)).then_some(())?;
            let end = 4 + head.number(3)?;
            if message.len() >= end {
                return Some(message[4..end].to_vec());
            }
        }
        (records.number(1)? == usize::from(HANDSHAKE)).then_some(())?;
        records.take(2)?; // version
        message.extend_from_slice(records.vector(2)?);
    }
}

/// Bytes that are taken from the front.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// A big-endian number of some bytes.
    fn number(&mut self, bytes: usize) -> Option<usize> {
        let digits = self.take(bytes)?.iter();
        Some(digits.fold(0, |number, &byte| number << 8 | usize::from(byte)))
    }

    /// Bytes whose count stands before them, in some bytes itself.
    fn vector(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let count = self.number(bytes)?;
        self.take(count)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, ClientConnection, RootCertStore};

    use super::*;

    /// The first message of a real client; with `None`, of one that names no host.
    pub(in crate::sandbox::egress) fn client_hello(host: Option<&str>) -> Vec<u8> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        let name = host.map_or(
            ServerName::IpAddress(std::net::Ipv4Addr::LOCALHOST.into()),
            |host| ServerName::try_from(host.to_owned()).unwrap(),
        );
        let mut bytes = Vec::new();
        let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
        client.write_tls(&mut bytes).unwrap();
        bytes
    }

    /// The same with one more extension at the end.
    fn with_extension(hello: &[u8], kind: u16, body: &[u8]) -> Vec<u8> {
        let mut message = handshake_message(hello).unwrap();
        let mut extension = kind.to_be_bytes().to_vec();
        extension.extend_from_slice(&u16::try_from(body.len()).unwrap().to_be_bytes());
        extension.extend_from_slice(body);
        let mut rest = Bytes(&message);
        rest.take(34).unwrap();
        for bytes in [1, 2, 1] {
            rest.vector(bytes).unwrap();
        }
        let at = message.len() - rest.0.len();
        let count = u16::try_from(rest.0.len() - 2 + extension.len()).unwrap();
        message[at..at + 2].copy_from_slice(&count.to_be_bytes());
        message.extend_from_slice(&extension);
        let count = u32::try_from(message.len()).unwrap().to_be_bytes();
        let message = [&[CLIENT_HELLO], &count[1..], &message].concat();
        in_records(&message, usize::MAX)
    }

    fn in_records(message: &[u8], size: usize) -> Vec<u8> {
        let record = |part: &[u8]| {
            let count = u16::try_from(part.len()).unwrap().to_be_bytes();
            [&[HANDSHAKE, 3, 1], &count[..], part].concat()
        };
        message
            .chunks(size.min(message.len()))
            .flat_map(record)
            .collect()
    }

    fn read_all(bytes: &[u8]) -> Result<Option<HostName>, HelloError> {
        ClientHelloReader::default().push(bytes)
    }

    #[test]
    fn the_name_is_read_from_pieces_and_records_of_any_size() {
        let hello = client_hello(Some("Example.org"));
        for size in [1, 7, 100, hello.len()] {
            let mut reader = ClientHelloReader::default();
            let found: Vec<_> = hello
                .chunks(size)
                .filter_map(|piece| reader.push(piece).unwrap())
                .collect();
            assert_eq!(found.len(), 1, "pieces of {size}");
            assert_eq!(found[0].as_str(), "example.org");
            assert_eq!(reader.into_bytes(), hello);
        }
        let message = handshake_message(&hello).unwrap();
        let count = u32::try_from(message.len()).unwrap().to_be_bytes();
        let message = [&[CLIENT_HELLO], &count[1..], &message].concat();
        let name = read_all(&in_records(&message, 50)).unwrap().unwrap();
        assert_eq!(name.as_str(), "example.org");
    }

    #[test]
    fn a_message_that_names_no_host_is_refused() {
        assert_eq!(read_all(&client_hello(None)), Err(HelloError::NoServerName));
        let mut literal = client_hello(Some("a127-0-0-1.x"));
        let at = literal
            .windows(12)
            .position(|part| part == b"a127-0-0-1.x")
            .unwrap();
        literal[at..at + 12].copy_from_slice(b"127.000.00.1");
        assert!(read_all(&literal).is_err());
    }

    #[test]
    fn a_message_that_may_hide_another_name_is_refused() {
        let hello = client_hello(Some("example.org"));
        // An outer one: cipher, key, and what only the server can read.
        let body = [&[0, 0, 1, 0, 1, 7, 0, 32][..], &[8; 32], &[0, 16], &[9; 16]].concat();
        let hidden = with_extension(&hello, ENCRYPTED_CLIENT_HELLO, &body);
        assert_eq!(read_all(&hidden), Err(HelloError::Encrypted));
        let other = with_extension(&hello, 0xffce, &body);
        assert!(read_all(&other).unwrap().is_some());
    }

    #[test]
    fn what_is_no_tls_is_refused_at_once() {
        for text in [
            &b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n"[..],
            b"SSH-2.0-OpenSSH_9.2\r\n",
            b"\x05\x01\x00",
            &[0; 64],
            b"\x16\x03\x01\x00\x05\x02\x00\x00\x01\x00",
        ] {
            assert!(read_all(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_message_without_end_is_refused_at_the_limit() {
        let endless = [
            &[HANDSHAKE, 3, 1, 0x40, 0, CLIENT_HELLO, 0, 0xff, 0xff][..],
            &vec![0; 40_000],
        ]
        .concat();
        let mut reader = ClientHelloReader::default();
        let mut pieces = endless.chunks(1000);
        let error = loop {
            match reader.push(pieces.next().unwrap()) {
                Ok(None) => {}
                other => break other.unwrap_err(),
            }
        };
        assert!(
            matches!(error, HelloError::TooLong | HelloError::NotTls),
            "{error}"
        );
        assert!(reader.into_bytes().len() <= MAX_BYTES + 1000);
    }
}
