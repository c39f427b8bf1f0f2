//! What happens to connections and bytes: cuts, resets, refusals, stalls, and forms of the same answer.

use patchfleet_testkit::model::Protocol;

use crate::client::{ALL, Client, ask, ended, receive, text};

const SAID: &str = "Grüße, 世界! This is long enough for several pieces. 😀";

#[tokio::test]
async fn a_stream_is_cut_after_each_of_its_events() {
    for protocol in ALL {
        let events = {
            let script = format!("turns: [{{text: '{SAID}'}}]");
            let client = Client::start(&script).await;
            client.ask(protocol, "Hi", true).await.events()
        };
        assert_eq!(text(protocol, &events), SAID);
        assert!(ended(protocol, &events));
        let cut = |count| {
            format!("  - {{text: '{SAID}', fault: {{cut: {{at: {{events: {count}}}}}}}}}\n")
        };
        let pings = usize::from(protocol == Protocol::Anthropic);
        let count = events.len() + pings;
        let turns: String = (0..count).map(cut).collect();
        let client = Client::start(&format!("turns:\n{turns}")).await;
        for count in 0..count {
            let answer = client.ask(protocol, "Hi", true).await;
            assert_eq!(
                (answer.status, answer.whole),
                (200, false),
                "{protocol:?} {count}"
            );
            let seen = answer.events();
            let expected = if count > 1 { count - pings } else { count };
            assert_eq!(seen.len(), expected, "{protocol:?} {count}");
            assert!(SAID.starts_with(&text(protocol, &seen)));
            // Chat's sentinel and the end of the events may be two.
            assert!(protocol == Protocol::Chat || !ended(protocol, &seen));
        }
        client.nothing_failed();
    }
}

#[tokio::test]
async fn an_answer_is_cut_at_any_byte_and_inside_a_character() {
    let script = format!(
        "turns:\n\
         \x20 - {{text: '{SAID}', fault: {{cut: {{at: {{bytes: 0}}}}}}}}\n\
         \x20 - {{text: '{SAID}', fault: {{cut: {{at: {{bytes: 33}}}}}}}}\n\
         \x20 - {{text: '{SAID}', fault: {{cut: {{at: inside_character}}}}}}\n\
         \x20 - {{text: '{SAID}', fault: {{cut: {{at: {{events: 3}}, clean: true}}}}}}\n"
    );
    for protocol in ALL {
        let client = Client::start(&script).await;
        for length in [0, 33] {
            let answer = client.ask(protocol, "Hi", true).await;
            assert_eq!(
                (answer.bytes.len(), answer.whole),
                (length, false),
                "{protocol:?}"
            );
        }
        let answer = client.ask(protocol, "Hi", true).await;
        let error = std::str::from_utf8(&answer.bytes).unwrap_err();
        assert_eq!(
            (error.error_len(), answer.whole),
            (None, false),
            "{protocol:?}"
        );
        let answer = client.ask(protocol, "Hi", true).await;
        assert!(
            answer.whole && !ended(protocol, &answer.events()),
            "{protocol:?}"
        );
        let state = client.simulator.state();
        let ends: Vec<_> = state.requests.iter().map(|it| it.ended).collect();
        assert_eq!(ends, [false, false, false, true]);
        let sent = state.requests.iter().map(|it| it.bytes_out).sum::<u64>();
        assert_eq!(state.bytes_out, sent);
    }
}

#[tokio::test]
async fn a_connection_is_reset_or_refused_before_anything_is_answered() {
    let script = "turns:\n  - fault: reset\n  - fault: {refuse_connections: {seconds: 3600}}\n  - text: Back again.\n";
    for protocol in ALL {
        let client = Client::start(script).await;
        let body = ask(protocol, "Hi");
        let error = client.send(protocol, &body, true).await.unwrap_err();
        assert!(!error.is_connect() && error.is_request(), "{error:?}");
        let error = client.send(protocol, &body, true).await.unwrap_err();
        assert!(!error.is_connect() && error.is_request(), "{error:?}");
        for _ in 0..3 {
            let error = client.send(protocol, &body, true).await.unwrap_err();
            assert!(error.is_connect(), "{error:?}");
        }
        client.simulator.accept_connections();
        let answer = loop {
            match client.send(protocol, &body, true).await {
                Ok(answer) => break answer,
                // The port is not listened on yet.
                Err(error) => assert!(error.is_connect(), "{error:?}"),
            }
        };
        assert_eq!(text(protocol, &answer.events()), "Back again.");
        assert_eq!(
            client.simulator.state().calls,
            3,
            "what is refused never arrives"
        );
    }
}

#[tokio::test]
async fn connections_are_accepted_again_after_the_time_of_the_script() {
    let client = Client::start(
        "turns:\n  - fault: {refuse_connections: {seconds: 0.02}}\n  - text: Back.\n",
    )
    .await;
    let body = ask(Protocol::Chat, "Hi");
    client.send(Protocol::Chat, &body, true).await.unwrap_err();
    while client.send(Protocol::Chat, &body, true).await.is_err() {}
    client.nothing_failed();
}

#[tokio::test]
async fn a_stall_is_silent_or_gives_signs_of_life_and_may_end() {
    let script = format!(
        "turns:\n\
         \x20 - {{text: '{SAID}', fault: {{stall: {{after: 2, pings: true}}}}}}\n\
         \x20 - {{text: '{SAID}', fault: {{stall: {{after: 2}}}}}}\n\
         \x20 - {{text: '{SAID}', fault: {{stall: {{after: 2, seconds: 0.02}}}}}}\n\
         \x20 - {{text: '{SAID}', fault: {{stall: {{after: 2, seconds: 0.3, pings: true}}}}}}\n"
    );
    for protocol in ALL {
        let client = Client::start(&script).await;
        let body = ask(protocol, "Hi");
        let mut response = client.request(protocol, &body, true).send().await.unwrap();
        let mut bytes = Vec::new();
        let sign = match protocol {
            Protocol::Anthropic => "event: ping",
            Protocol::Responses | Protocol::Chat | Protocol::Gemini => ": keep-alive",
            Protocol::Ollama => "\n\n\n",
        };
        // Anthropic's stream has a ping of its own.
        while String::from_utf8_lossy(&bytes).matches(sign).count() < 3 {
            bytes.extend(response.chunk().await.unwrap().unwrap());
        }
        drop(response);
        // The second never goes on: what is there when its client goes is what there was to come.
        let response = client.request(protocol, &body, true).send().await.unwrap();
        let two = |state: &patchfleet_testkit::model::State| state.requests[1].bytes_out > 0;
        client.simulator.wait(two).await;
        drop(response);
        for _ in 0..2 {
            let answer = client.ask(protocol, "Hi", true).await;
            let events = answer.events();
            assert_eq!(text(protocol, &events), SAID, "{protocol:?}");
            assert!(answer.whole && ended(protocol, &events));
        }
        let state = client.simulator.state();
        let ends: Vec<_> = state.requests.iter().map(|it| it.ended).collect();
        assert_eq!(ends, [false, false, true, true]);
    }
}

#[tokio::test]
async fn lines_may_end_with_a_carriage_return_alone() {
    let script = format!("turns: [{{text: '{SAID}', wire: {{line_end: cr}}}}]");
    for protocol in ALL {
        let client = Client::start(&script).await;
        let answer = client.ask(protocol, "Hi", true).await;
        assert_eq!(text(protocol, &answer.events()), SAID, "{protocol:?}");
        let lone = answer.bytes.contains(&b'\r') && !answer.bytes.contains(&b'\n');
        assert_eq!(lone, protocol != Protocol::Ollama, "{protocol:?}");
    }
}

/// Forms of bytes that mean the same, and what has to be found in them where they apply.
const FORMS: [(&str, &str, &str); 8] = [
    ("line_end: crlf", "\r\n", "\r\n"),
    ("bom: true", "\u{feff}", "\u{feff}"),
    ("comments: true", ": keep-alive\n", "\n\n"),
    ("multi_line: true", "data: {\ndata: ", "\n"),
    ("padding: 1048576", "{                ", "{                "),
    ("unknown_event: true", "hologram", "hologram"),
    ("unknown_block: true", "hologram", "hologram"),
    ("drip: {bytes: 1, milliseconds: 0}", "", ""),
];

#[tokio::test]
async fn each_form_of_the_bytes_says_the_same() {
    let turn = |(form, ..): (&str, &str, &str)| {
        let name = form.split(':').next().unwrap_or_default();
        format!("  - {{when: {{text: '^{name}'}}, text: '{SAID}', wire: {{{form}}}}}\n")
    };
    let turns = FORMS.map(turn);
    let script = format!("turns:\n{}", turns.concat());
    for protocol in ALL {
        let client = Client::start(&script).await;
        for (form, in_events, in_lines) in FORMS {
            let answer = client.ask(protocol, form, true).await;
            let events = answer.events();
            assert_eq!(text(protocol, &events), SAID, "{protocol:?} {form}");
            assert!(
                answer.whole && ended(protocol, &events),
                "{protocol:?} {form}"
            );
            let raw = String::from_utf8(answer.bytes).unwrap();
            let expected = if protocol == Protocol::Ollama {
                in_lines
            } else {
                in_events
            };
            assert!(raw.contains(expected), "{protocol:?} {form}: {raw}");
            let long = raw.lines().any(|line| line.len() > 1 << 20);
            assert_eq!(long, form.starts_with("padding"), "{protocol:?} {form}");
        }
        client.nothing_failed();
    }
}

#[tokio::test]
async fn compression_content_type_and_broken_json_are_as_the_script_wants_them() {
    let script = format!(
        "turns:\n\
         \x20 - {{text: '{SAID}', wire: {{gzip: true}}, when: {{text: gzip}}}}\n\
         \x20 - {{text: '{SAID}', wire: {{content_type: text/html}}, when: {{text: html}}}}\n\
         \x20 - {{text: '{SAID}', fault: {{broken_json: {{event: 2}}}}}}\n\
         \x20 - {{text: '{SAID}', fault: {{broken_json: {{}}}}}}\n"
    );
    for protocol in ALL {
        let client = Client::start(&script).await;
        let answer = client.ask(protocol, "gzip", true).await;
        assert_eq!(answer.header("content-encoding"), Some("gzip"));
        assert_eq!(text(protocol, &answer.events()), SAID);
        let answer = client.ask(protocol, "html", true).await;
        assert_eq!(answer.header("content-type"), Some("text/html"));
        assert_eq!(text(protocol, &answer.events()), SAID);
        let answer = client.ask(protocol, "Hi", true).await;
        let broken = answer
            .events()
            .iter()
            .filter(|event| event.is_string() && *event != "[DONE]")
            .count();
        assert_eq!((broken, answer.whole), (1, true), "{protocol:?}");
        let answer = client.ask(protocol, "Hi", false).await;
        assert!(serde_json::from_slice::<serde_json::Value>(&answer.bytes).is_err());
    }
}

#[tokio::test]
async fn gemini_streams_an_array_unless_events_are_asked_for() {
    let client = Client::start(&format!(
        "turns: [{{text: '{SAID}', wire: {{line_end: crlf}}}}]"
    ))
    .await;
    let request = client.request(Protocol::Gemini, &ask(Protocol::Gemini, "Hi"), true);
    let (http, request) = request.build_split();
    let mut request = request.unwrap();
    request.url_mut().set_query(None);
    let answer = receive(reqwest::RequestBuilder::from_parts(http, request))
        .await
        .unwrap();
    let events = answer.json();
    assert_eq!(text(Protocol::Gemini, events.as_array().unwrap()), SAID);
}
