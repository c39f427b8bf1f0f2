//! Which Redis is meant, as whom, and whether its certificate has to be right; and what it is that
//! keeps us out, in words that help.

use std::error::Error as _;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use redis::io::tcp::TcpSettings;
use redis::io::tcp::socket2::TcpKeepalive;
use redis::{
    Client, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo as _, RedisError,
    ServerErrorKind, TlsCertificates,
};
use rustls::CertificateError;

/// After how long without a word the system asks whether the other host is still there.
const KEEPALIVE: Duration = Duration::from_mins(1);

/// A Redis that may be connected to. Its password is never shown.
#[derive(Clone)]
pub struct Server {
    pub(super) client: Client,
}

/// What was given leads to no Redis. An address is not repeated, as it may hold a password.
#[derive(Debug, thiserror::Error)]
pub enum InvalidRedis {
    /// The address is none.
    #[error(
        "url: not an address of Redis, which is redis://USER:PASSWORD@HOST:PORT/DB (rediss:// over \
         TLS) or redis+unix:///PATH, with special characters of a password as %XX: {0}"
    )]
    Address(String),
    /// The address asks to leave TLS unchecked.
    #[error(
        "url: with #insecure anybody on the way could be Redis; leave it out, and name the \
         authority of its certificate in ca_file"
    )]
    Unchecked,
    /// There is an authority and no TLS.
    #[error("ca_file: of no use without TLS; write rediss:// in url, or leave it out")]
    NoTls,
    /// The authority can't be read.
    #[error("ca_file: {path}: {reason}")]
    Authority {
        /// Where it should be.
        path: PathBuf,
        /// Why it can't be used.
        reason: String,
    },
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").finish_non_exhaustive()
    }
}

impl Server {
    /// The Redis at that address; over TLS its certificate has to be of that authority (PEM), or of
    /// one that the host trusts when there is none.
    ///
    /// # Errors
    /// [`InvalidRedis`]; nothing is connected to.
    pub fn new(url: &str, authority: Option<&Path>) -> Result<Self, InvalidRedis> {
        let wrong = |error: RedisError| InvalidRedis::Address(error.category().to_owned());
        let info = url.into_connection_info().map_err(wrong)?;
        let tls = match info.addr() {
            ConnectionAddr::TcpTls { insecure: true, .. } => return Err(InvalidRedis::Unchecked),
            ConnectionAddr::TcpTls { .. } => true,
            _ => false,
        };
        let info = settled(info);
        let client = match authority {
            None => Client::open(info).map_err(wrong)?,
            Some(_) if !tls => return Err(InvalidRedis::NoTls),
            Some(path) => trusting(info, path)?,
        };
        Ok(Self { client })
    }

    fn is_tls(&self) -> bool {
        let address = self.client.get_connection_info().addr();
        matches!(address, ConnectionAddr::TcpTls { .. })
    }

    /// What to say when it says nothing.
    pub(super) fn silence(&self) -> String {
        if self.is_tls() {
            // A Redis without TLS takes the first message for half a command, and waits.
            return "no answer; if it speaks no TLS on this port, write redis:// or the port that does".to_owned();
        }
        "no answer".to_owned()
    }

    /// What keeps us out, and what to do about it.
    pub(super) fn why(&self, error: &RedisError) -> String {
        if let Some(reason) = tls_fault(error) {
            return reason;
        }
        match (error.kind(), error.code()) {
            (ErrorKind::AuthenticationFailed, _) | (_, Some("WRONGPASS")) => {
                "it does not accept user and password (WRONGPASS); mend them in \
                 redis://USER:PASSWORD@HOST"
                    .to_owned()
            }
            (_, Some("NOAUTH")) => {
                "it wants to know who asks (NOAUTH): write user and password into \
                                    the address, redis://USER:PASSWORD@HOST"
                    .to_owned()
            }
            (ErrorKind::Server(ServerErrorKind::NoPerm), _) => format!(
                "its user may not do what Patchfleet needs (NOPERM {}); docs/OPERATIONS.md has the \
                 rule for ACL SETUSER",
                error.detail().unwrap_or_default()
            ),
            _ if error.is_timeout() => self.silence(),
            _ if !self.is_tls() && is_broken_off(error) => {
                format!("{error}; if it speaks TLS, write rediss://")
            }
            _ => error.to_string(),
        }
    }
}

/// The settings that do not depend on the address.
fn settled(info: ConnectionInfo) -> ConnectionInfo {
    // What a library calls itself is of no use to anybody, and would need one more right.
    let redis = info.redis_settings().clone().set_skip_set_lib_name();
    // A host that is gone without a word must not be listened to for ever.
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE);
    let tcp = TcpSettings::default().set_nodelay(true);
    info.set_redis_settings(redis)
        .set_tcp_settings(tcp.set_keepalive(keepalive))
}

fn trusting(info: ConnectionInfo, path: &Path) -> Result<Client, InvalidRedis> {
    let invalid = |reason: String| InvalidRedis::Authority {
        path: path.to_owned(),
        reason,
    };
    let pem = std::fs::read(path).map_err(|error| invalid(error.to_string()))?;
    if !String::from_utf8_lossy(&pem).contains("-----BEGIN CERTIFICATE-----") {
        return Err(invalid("there is no certificate in it (PEM)".to_owned()));
    }
    let certificates = TlsCertificates {
        client_tls: None,
        root_cert: Some(pem),
    };
    Client::build_with_tls(info, certificates).map_err(|error| invalid(error.to_string()))
}

/// What is wrong with TLS, if that is what is wrong.
fn tls_fault(error: &RedisError) -> Option<String> {
    let inner = error.source()?;
    let inner = inner.downcast_ref::<Arc<dyn std::error::Error + Send + Sync>>()?;
    let io = inner.downcast_ref::<io::Error>()?;
    let fault = io.get_ref()?.downcast_ref::<rustls::Error>()?;
    Some(match fault {
        // An authority that was made anew under its old name signs otherwise than the one that is known.
        rustls::Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => "its certificate is of no authority that is trusted here; name the authority in \
             coordinator.redis.ca_file"
            .to_owned(),
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => format!(
            "its certificate is for another host than the address names, so this may be another \
             Redis: {fault}"
        ),
        rustls::Error::InvalidCertificate(_) => format!("its certificate is not valid: {fault}"),
        rustls::Error::InvalidMessage(_) => {
            "it does not speak TLS on this port, write redis:// or the port that does".to_owned()
        }
        _ => format!("TLS: {fault}"),
    })
}

fn is_broken_off(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Parse
        || (error.is_connection_dropped() && !error.is_connection_refusal())
}
