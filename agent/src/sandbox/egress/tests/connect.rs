//! Tunnels by CONNECT, with real sockets.

use std::time::Duration;

use super::rig::{GREETING, PUBLIC, Rig, limits};
use crate::sandbox::egress::client_hello::tests::client_hello;
use crate::sandbox::egress::{Limits, Reason};

/// TLS record type of an alert.
const ALERT: u8 = 21;

#[tokio::test]
async fn a_tunnel_to_an_allowed_host_passes_bytes_both_ways() {
    let rig = Rig::new(limits()).await;
    for host in ["allowed.test", "Allowed.TEST.", "a.below.test"] {
        let mut client = rig.tunnel(host).await;
        let hello = client_hello(Some(host.trim_end_matches('.')));
        client.write(&hello).await;
        assert_eq!(client.read(GREETING.len()).await, GREETING);
        client.write(b"more").await;
        assert_eq!(client.read(GREETING.len()).await, GREETING);
        assert!(
            rig.seen
                .received()
                .ends_with(&[&hello[..], b"more"].concat())
        );
    }
    // What was judged is what was dialled, and each name was resolved once.
    assert_eq!(
        rig.seen.resolved(),
        ["allowed.test", "allowed.test", "a.below.test"]
    );
    let address = format!("{PUBLIC}:443").parse().unwrap();
    assert_eq!(rig.seen.dialled(), [address; 3]);
    assert_eq!(rig.refused(), []);
}

#[tokio::test]
async fn a_handshake_may_come_with_the_request_or_byte_by_byte() {
    let rig = Rig::new(limits()).await;
    let hello = client_hello(Some("allowed.test"));
    let mut client = rig.client().await;
    let together = [b"CONNECT allowed.test:443 HTTP/1.1\r\n\r\n", &hello[..]].concat();
    client.write(&together).await;
    client.ask("").await;
    assert_eq!(client.read(GREETING.len()).await, GREETING);

    let mut client = rig.tunnel("allowed.test").await;
    for byte in &hello {
        client.write(&[*byte]).await;
    }
    assert_eq!(client.read(GREETING.len()).await, GREETING);
    assert_eq!(rig.seen.received(), [&hello[..], &hello[..]].concat());
}

#[tokio::test]
async fn a_refused_host_is_never_looked_up() {
    let rig = Rig::new(limits()).await;
    for host in [
        "evil.test",
        "evilallowed.test",
        "allowed.test.evil.test",
        "below.test",
    ] {
        let answer = rig
            .answer(&format!("CONNECT {host}:443 HTTP/1.1\r\n\r\n"))
            .await;
        assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
        assert!(
            answer.contains("x-patchfleet-refused: host_not_allowed\r\n"),
            "{answer}"
        );
        let body = format!("Patchfleet: {host} is not among the hosts that may be reached");
        assert!(answer.contains(&body), "{answer}");
        assert!(
            rig.refused()
                .contains(&(host.to_owned(), Reason::HostNotAllowed))
        );
    }
    assert_eq!((rig.seen.resolved(), rig.seen.dialled()), (vec![], vec![]));
}

#[tokio::test]
async fn what_is_no_plain_host_and_port_is_refused_unresolved() {
    let rig = Rig::new(limits()).await;
    for target in [
        "allowed.test\0:443",
        "allowed.test\0.evil.test:443",
        "allowed.test%00:443",
        "allowed.test%00.evil.test:443",
        "allowed.test..:443",
        ".allowed.test:443",
        "allowed.test:443:443",
        "allowed.test:22",
        "allowed.test:80",
        "allowed.test:0443x",
        "allowed.test:+443",
        "allowed.test",
        "allowed.test:443/path",
        "user@allowed.test:443",
        "evil.test@allowed.test:443",
        "[allowed.test]:443",
        "[::1]:443",
        "[::ffff:127.0.0.1]:443",
        "127.0.0.1:443",
        "2130706433:443",
        "0x7f000001:443",
        "localhost:443",
        "аllowed.test:443",
        "http://allowed.test:443",
        "/",
        "*",
        "",
        "allowed.test :443",
        "allowed.test\t:443",
        "allowed.test\r\n:443",
    ] {
        let answer = rig
            .answer(&format!(
                "CONNECT {target} HTTP/1.1\r\nHost: allowed.test\r\n\r\n"
            ))
            .await;
        let is_refused = answer.is_empty() || answer.starts_with("HTTP/1.1 4");
        assert!(is_refused, "{target:?}: {answer}");
        assert_eq!(
            (rig.seen.resolved(), rig.seen.dialled()),
            (vec![], vec![]),
            "{target:?}"
        );
    }
    let refused = rig.refused();
    assert!(
        refused.contains(&("allowed.test:22".to_owned(), Reason::PortNotAllowed)),
        "{refused:?}"
    );
    assert!(
        refused.contains(&("127.0.0.1:443".to_owned(), Reason::AddressLiteral)),
        "{refused:?}"
    );
}

#[tokio::test]
async fn an_allowed_name_that_leads_inwards_is_not_dialled() {
    for addresses in [
        "127.0.0.1",
        "169.254.169.254",
        "::ffff:10.0.0.1",
        "::1",
        "10.0.0.1",
        "fd00:ec2::254",
        "64:ff9b::a00:1",
        "93.184.216.34 10.0.0.1",
        "2606:4700::1 fe80::1",
    ] {
        let rig = Rig::with(limits(), &[("allowed.test", addresses)]).await;
        let answer = rig
            .answer("CONNECT allowed.test:443 HTTP/1.1\r\n\r\n")
            .await;
        assert!(answer.starts_with("HTTP/1.1 403 "), "{addresses}: {answer}");
        assert_eq!(
            rig.refused(),
            [("allowed.test".to_owned(), Reason::AddressNotPublic)]
        );
        assert_eq!(rig.seen.dialled(), [], "{addresses}");
    }
}

#[tokio::test]
async fn a_handshake_that_does_not_name_the_host_reaches_nobody() {
    for (first, host, reason) in [
        (
            client_hello(Some("evil.test")),
            "evil.test",
            Reason::ServerNameMismatch,
        ),
        (
            client_hello(Some("a.below.test")),
            "a.below.test",
            Reason::ServerNameMismatch,
        ),
        (client_hello(None), "allowed.test", Reason::NoServerName),
        (
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            "allowed.test",
            Reason::NoServerName,
        ),
        (
            b"SSH-2.0-x\r\n".to_vec(),
            "allowed.test",
            Reason::NoServerName,
        ),
        (vec![0x16; 20_000], "allowed.test", Reason::NoServerName),
    ] {
        let rig = Rig::new(limits()).await;
        let mut client = rig.tunnel("allowed.test").await;
        client.write(&first).await;
        let rest = client.rest().await;
        assert!(rest.is_empty() || rest[0] == ALERT, "{rest:?}");
        assert_eq!(rig.refused(), [(host.to_owned(), reason)]);
        assert_eq!(rig.seen.received(), b"", "{host}");
    }
}

#[tokio::test]
async fn a_client_that_stalls_is_hung_up_on_and_frees_its_tunnel() {
    let short = Duration::from_millis(100);
    let rig = Rig::new(Limits {
        hello: short,
        head: short,
        tunnels: 1,
        ..limits()
    })
    .await;
    let mut half = rig.client().await;
    half.write(b"CONNECT allowed.test:4").await;
    assert_eq!(half.rest().await, b"");
    let mut silent = rig.client().await;
    assert_eq!(silent.rest().await, b"");
    for _ in 0..3 {
        let mut client = rig.tunnel("allowed.test").await;
        client
            .write(&client_hello(Some("allowed.test"))[..20])
            .await;
        assert_eq!(client.rest().await.first(), Some(&ALERT));
        // The tunnel is free again once the client was hung up on.
        while rig.proxy.refusals().list()[0].times == 0 {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(
        rig.refused(),
        [("allowed.test".to_owned(), Reason::HandshakeTimeout)]
    );
    assert_eq!(rig.seen.received(), b"");
}

#[tokio::test]
async fn a_tunnel_that_is_silent_is_closed() {
    let rig = Rig::new(Limits {
        idle: Duration::from_millis(100),
        ..limits()
    })
    .await;
    let mut client = rig.tunnel("allowed.test").await;
    client.write(&client_hello(Some("allowed.test"))).await;
    let rest = client.rest().await;
    assert!(rest.starts_with(GREETING), "{rest:?}");
    assert_eq!(
        rig.refused(),
        [("allowed.test".to_owned(), Reason::TimeLimit)]
    );
}

#[tokio::test]
async fn a_head_without_end_is_refused() {
    let rig = Rig::new(limits()).await;
    let long = "x".repeat(20_000);
    let answer = rig
        .answer(&format!(
            "CONNECT allowed.test:443 HTTP/1.1\r\nx: {long}\r\n\r\n"
        ))
        .await;
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 431 "),
        "{answer}"
    );
    let many = "x: y\r\n".repeat(100);
    let answer = rig
        .answer(&format!("CONNECT allowed.test:443 HTTP/1.1\r\n{many}\r\n"))
        .await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    assert_eq!(rig.seen.resolved(), Vec::<String>::new());
}

#[tokio::test]
async fn bytes_are_limited_over_all_connections() {
    let hello = client_hello(Some("allowed.test"));
    let bytes_up = u64::try_from(hello.len()).unwrap() + 1000;
    let rig = Rig::new(Limits {
        bytes_up,
        ..limits()
    })
    .await;
    let mut client = rig.tunnel("allowed.test").await;
    client.write(&hello).await;
    client.read(GREETING.len()).await;
    client.write(&[7; 900]).await;
    client.read(GREETING.len()).await;
    client.write(&[7; 900]).await;
    client.rest().await;
    let mut client = rig.tunnel("allowed.test").await;
    client.write(&hello).await;
    client.rest().await;
    assert_eq!(
        rig.refused(),
        [("allowed.test".to_owned(), Reason::TooManyBytes)]
    );
    assert_eq!(rig.seen.received().len(), hello.len() + 900);

    let rig = Rig::new(Limits {
        bytes_down: 3,
        ..limits()
    })
    .await;
    let mut client = rig.tunnel("allowed.test").await;
    client.write(&hello).await;
    assert!(!client.rest().await.starts_with(GREETING));
    assert_eq!(
        rig.refused(),
        [("allowed.test".to_owned(), Reason::TooManyBytes)]
    );
}

#[tokio::test]
async fn tunnels_are_limited_and_given_back() {
    let rig = Rig::new(Limits {
        tunnels: 2,
        ..limits()
    })
    .await;
    let first = rig.tunnel("allowed.test").await;
    let _second = rig.tunnel("allowed.test").await;
    let request = "CONNECT allowed.test:443 HTTP/1.1\r\n\r\n";
    let answer = rig.answer(request).await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert_eq!(
        rig.refused(),
        [("allowed.test".to_owned(), Reason::TooManyTunnels)]
    );
    drop(first);
    loop {
        let head = rig.client().await.ask(request).await;
        if head.starts_with("HTTP/1.1 200 ") {
            break;
        }
    }
}

#[tokio::test]
async fn a_host_that_is_away_is_an_accident_and_no_refusal() {
    let rig = Rig::with(limits(), &[]).await;
    let answer = rig
        .answer("CONNECT allowed.test:443 HTTP/1.1\r\n\r\n")
        .await;
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    assert!(
        answer.contains("allowed.test can't be resolved: no such name"),
        "{answer}"
    );
    assert_eq!(rig.refused(), []);
}

#[tokio::test]
async fn the_end_of_a_phase_ends_its_tunnels_and_its_socket() {
    let rig = Rig::new(limits()).await;
    let mut client = rig.tunnel("allowed.test").await;
    client.write(&client_hello(Some("allowed.test"))).await;
    client.read(GREETING.len()).await;
    let socket = rig.proxy.socket().to_owned();
    rig.proxy.close().await;
    assert_eq!(client.rest().await, b"");
    assert!(!socket.exists());
}

#[tokio::test]
async fn a_socket_may_lie_deeper_than_its_path_could_be_long() {
    let rig = Rig::new(limits()).await;
    let folder = rig.proxy.socket().parent().unwrap().join("x".repeat(120));
    std::fs::create_dir(&folder).unwrap();
    let path = folder.join("connect.sock");
    let policy = crate::sandbox::egress::Policy {
        phase: crate::sandbox::egress::Phase::Setup,
        allow: crate::sandbox::egress::AllowList::default(),
        addresses: crate::sandbox::egress::AddressRules::default(),
        limits: limits(),
    };
    let network = std::sync::Arc::new(crate::sandbox::egress::HostNetwork);
    let proxy = crate::sandbox::egress::ConnectProxy::bind(&path, policy, network).unwrap();
    assert!(path.exists());
    proxy.close().await;
    assert!(!path.exists());
}
