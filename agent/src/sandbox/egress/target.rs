//! What a client asks to be connected to: `host:port`, read once.

use super::{HostName, NameError};

/// The port of HTTPS, the only one that is tunnelled to.
const HTTPS: u16 = 443;

/// A host that a tunnel is asked for; its port is that of HTTPS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The host to connect to, on port 443.
    pub host: HostName,
}

/// The target of a CONNECT request can't be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// The host is none.
    #[error(transparent)]
    Name(#[from] NameError),
    /// There is no port, or not one in digits.
    #[error("write the target as `host:443`")]
    NoPort,
    /// The port is not 443.
    #[error("only port 443 is reached, not {0}")]
    Port(u16),
}

impl Target {
    /// Reads the authority form of a CONNECT request's target.
    ///
    /// # Errors
    /// When the host is no name, or the port another than that of HTTPS.
    pub fn parse(authority: &str) -> Result<Self, TargetError> {
        if authority.starts_with('[') {
            return Err(NameError::Address.into());
        }
        let (host, port) = authority.rsplit_once(':').ok_or(TargetError::NoPort)?;
        // `parse` alone would also take a sign.
        let is_plain = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port
            .parse()
            .ok()
            .filter(|_| is_plain)
            .ok_or(TargetError::NoPort)?;
        let host = HostName::parse(host)?;
        if port == HTTPS {
            Ok(Self { host })
        } else {
            Err(TargetError::Port(port))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_name_and_the_port_of_https() {
        let target = Target::parse("Example.org.:443").unwrap();
        assert_eq!(target.host.as_str(), "example.org");
        let cases = [
            ("example.org", TargetError::NoPort),
            ("example.org:", TargetError::NoPort),
            ("example.org:+443", TargetError::NoPort),
            ("example.org:443 ", TargetError::NoPort),
            ("example.org:https", TargetError::NoPort),
            ("example.org:65979", TargetError::NoPort),
            ("example.org:22", TargetError::Port(22)),
            ("example.org:0", TargetError::Port(0)),
            ("[::1]:443", NameError::Address.into()),
            ("::1:443", NameError::Character(':').into()),
            ("10.0.0.1:443", NameError::Address.into()),
            (
                "user:word@example.org:443",
                NameError::Character(':').into(),
            ),
            ("user@example.org:443", NameError::Character('@').into()),
            (":443", NameError::Empty.into()),
            ("example.org%00:443", NameError::Character('%').into()),
        ];
        for (text, error) in cases {
            assert_eq!(Target::parse(text), Err(error), "{text:?}");
        }
    }
}
