//! Requests that are no tunnels.

use super::rig::{PUBLIC, Rig, limits};
use crate::sandbox::egress::{Limits, Reason};

#[tokio::test]
async fn a_plain_request_for_an_allowed_host_is_fetched_as_its_own() {
    let rig = Rig::new(limits()).await;
    let request = "GET http://allowed.test/a?b=c HTTP/1.1\r\nHost: evil.test\r\naccept: */*\r\n\
                   Proxy-Authorization: Basic eDp5\r\nProxy-Connection: keep-alive\r\n\
                   Connection: x-own\r\nX-Own: 1\r\nUpgrade: websocket\r\n\r\n";
    // The rig's server answers no HTTP, which is the server's fault.
    let answer = rig.answer(request).await;
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    let received = String::from_utf8(rig.seen.received()).unwrap();
    assert_eq!(
        received,
        "GET /a?b=c HTTP/1.1\r\naccept: */*\r\nhost: allowed.test\r\n\r\n"
    );
    assert_eq!(
        rig.seen.dialled(),
        [format!("{PUBLIC}:80").parse().unwrap()]
    );
}

#[tokio::test]
async fn everything_else_is_refused_unresolved() {
    let rig = Rig::new(Limits {
        tunnels: 1,
        ..limits()
    })
    .await;
    for (request, reason) in [
        (
            "TRACE http://allowed.test/ HTTP/1.1\r\n\r\n",
            Reason::RequestNotAllowed,
        ),
        (
            "POST http://allowed.test/ HTTP/1.1\r\ncontent-length: 0\r\n\r\n",
            Reason::RequestNotAllowed,
        ),
        ("OPTIONS * HTTP/1.1\r\n\r\n", Reason::RequestNotAllowed),
        (
            "PUT http://allowed.test/ HTTP/1.1\r\ncontent-length: 0\r\n\r\n",
            Reason::RequestNotAllowed,
        ),
        (
            "GET / HTTP/1.1\r\nHost: allowed.test\r\n\r\n",
            Reason::RequestNotAllowed,
        ),
        (
            "GET https://allowed.test/ HTTP/1.1\r\n\r\n",
            Reason::RequestNotAllowed,
        ),
        (
            "GET ftp://allowed.test/ HTTP/1.1\r\n\r\n",
            Reason::RequestNotAllowed,
        ),
        (
            "GET http://allowed.test/ HTTP/1.1\r\ncontent-length: 1\r\n\r\nx",
            Reason::RequestNotAllowed,
        ),
        (
            "GET http://allowed.test/ HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            Reason::RequestNotAllowed,
        ),
        (
            "GET http://allowed.test:8080/ HTTP/1.1\r\n\r\n",
            Reason::PortNotAllowed,
        ),
        (
            "GET http://allowed.test:443/ HTTP/1.1\r\n\r\n",
            Reason::PortNotAllowed,
        ),
        (
            "GET http://user:word@allowed.test/ HTTP/1.1\r\n\r\n",
            Reason::InvalidHost,
        ),
        (
            "GET http://evil.test/?allowed.test HTTP/1.1\r\n\r\n",
            Reason::HostNotAllowed,
        ),
        (
            "GET http://169.254.169.254/latest/meta-data/ HTTP/1.1\r\n\r\n",
            Reason::AddressLiteral,
        ),
        ("GET http://[::1]/ HTTP/1.1\r\n\r\n", Reason::AddressLiteral),
        (
            "GET http://localhost/ HTTP/1.1\r\n\r\n",
            Reason::InvalidHost,
        ),
    ] {
        let answer = rig.answer(request).await;
        assert!(answer.starts_with("HTTP/1.1 403 "), "{request}: {answer}");
        let header = format!("x-patchfleet-refused: {reason}\r\n");
        assert!(answer.contains(&header), "{request}: {answer}");
        assert_eq!(
            (rig.seen.resolved(), rig.seen.dialled()),
            (vec![], vec![]),
            "{request}"
        );
    }
}

#[tokio::test]
async fn other_protocols_are_hung_up_on() {
    let rig = Rig::new(limits()).await;
    for bytes in [
        "\x05\x01\0",
        "\x04\x01\x01\u{bb}\x01\x01\x01\x01\0",
        "SSH-2.0-x\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let mut client = rig.client().await;
        client.write(bytes.as_bytes()).await;
        tokio::io::AsyncWriteExt::shutdown(&mut client.0)
            .await
            .unwrap();
        let answer = String::from_utf8_lossy(&client.rest().await).into_owned();
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 4"),
            "{bytes:?}: {answer}"
        );
        assert_eq!((rig.seen.resolved(), rig.seen.dialled()), (vec![], vec![]));
    }
}
