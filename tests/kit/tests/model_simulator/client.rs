//! A client that believes nothing: it sends what it is given and keeps the bytes that come back.

use std::io::Read as _;
use std::time::Duration;

use patchfleet_testkit::model::{Protocol, Script, Simulator};
use serde_json::{Value, json};

pub(crate) const ALL: [Protocol; 5] = [
    Protocol::Anthropic,
    Protocol::Responses,
    Protocol::Chat,
    Protocol::Gemini,
    Protocol::Ollama,
];

/// How long anything may take on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) struct Client {
    pub(crate) simulator: Simulator,
    http: reqwest::Client,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) bytes: Vec<u8>,
    /// The body came to its end.
    pub(crate) whole: bool,
}

impl Client {
    pub(crate) async fn start(script: &str) -> Self {
        let script = Script::parse("test.yaml", script).unwrap_or_else(|error| panic!("{error}"));
        Self::of(Simulator::start(script).await.unwrap())
    }

    /// A client of a simulator that runs.
    pub(crate) fn of(simulator: Simulator) -> Self {
        Self {
            simulator,
            http: reqwest::Client::builder()
                .no_proxy()
                .timeout(PATIENCE)
                .build()
                .unwrap(),
        }
    }

    /// A request with a key and a body.
    pub(crate) fn request(
        &self,
        protocol: Protocol,
        body: &Value,
        stream: bool,
    ) -> reqwest::RequestBuilder {
        let mut body = body.clone();
        let path = match protocol {
            Protocol::Anthropic => "/v1/messages".to_owned(),
            Protocol::Responses => "/v1/responses".to_owned(),
            Protocol::Chat => "/v1/chat/completions".to_owned(),
            Protocol::Ollama => "/api/chat".to_owned(),
            Protocol::Gemini => {
                let model = body["model"].as_str().unwrap().to_owned();
                body.as_object_mut().unwrap().remove("model");
                if stream {
                    format!("/v1beta/models/{model}:streamGenerateContent?alt=sse")
                } else {
                    format!("/v1beta/models/{model}:generateContent")
                }
            }
        };
        if protocol != Protocol::Gemini {
            body["stream"] = stream.into();
        }
        if protocol == Protocol::Chat && stream {
            body["stream_options"] = json!({ "include_usage": true });
        }
        let request = self
            .http
            .post(self.simulator.base_url() + &path)
            .json(&body);
        match protocol {
            Protocol::Anthropic => request
                .header("x-api-key", self.simulator.key())
                .header("anthropic-version", "2023-06-01"),
            Protocol::Gemini => request.header("x-goog-api-key", self.simulator.key()),
            Protocol::Responses | Protocol::Chat => request.bearer_auth(self.simulator.key()),
            Protocol::Ollama => request,
        }
    }

    /// What comes back, as far as it comes; an error if nothing does.
    pub(crate) async fn send(
        &self,
        protocol: Protocol,
        body: &Value,
        stream: bool,
    ) -> reqwest::Result<Answer> {
        receive(self.request(protocol, body, stream)).await
    }

    /// The answer to a text.
    pub(crate) async fn ask(&self, protocol: Protocol, text: &str, stream: bool) -> Answer {
        let body = ask(protocol, text);
        self.send(protocol, &body, stream).await.unwrap()
    }

    /// Nothing happened that must not.
    pub(crate) fn nothing_failed(&self) {
        assert_eq!(self.simulator.state().failures, [] as [&str; 0]);
    }
}

pub(crate) async fn receive(request: reqwest::RequestBuilder) -> reqwest::Result<Answer> {
    let mut response = request.send().await?;
    let mut answer = Answer {
        status: response.status().as_u16(),
        headers: response.headers().clone(),
        bytes: Vec::new(),
        whole: true,
    };
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) => answer.bytes.extend(chunk),
            Ok(None) => return Ok(answer),
            Err(error) => {
                assert!(!error.is_timeout(), "{error:?}");
                answer.whole = false;
                return Ok(answer);
            }
        }
    }
}

/// A request with one text.
pub(crate) fn ask(protocol: Protocol, text: &str) -> Value {
    match protocol {
        Protocol::Anthropic => json!({
            "model": "simulated",
            "max_tokens": 1000,
            "messages": [{ "role": "user", "content": text }],
        }),
        Protocol::Responses => json!({
            "model": "simulated",
            "store": false,
            "include": ["reasoning.encrypted_content"],
            "input": [{ "role": "user", "content": text }],
        }),
        Protocol::Chat | Protocol::Ollama => json!({
            "model": "simulated",
            "messages": [{ "role": "user", "content": text }],
        }),
        Protocol::Gemini => json!({
            "model": "simulated",
            "contents": [{ "role": "user", "parts": [{ "text": text }] }],
        }),
    }
}

/// The list that a protocol has its messages in.
pub(crate) fn messages(protocol: Protocol, body: &mut Value) -> &mut Vec<Value> {
    let field = match protocol {
        Protocol::Responses => "input",
        Protocol::Gemini => "contents",
        Protocol::Anthropic | Protocol::Chat | Protocol::Ollama => "messages",
    };
    body[field].as_array_mut().unwrap()
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> Value {
        let text = String::from_utf8_lossy(&self.bytes);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// The data of each event, read as the format's specification has it; those of a type `ping` are
    /// left out.
    pub(crate) fn events(&self) -> Vec<Value> {
        let bytes = match self.header("content-encoding") {
            Some("gzip") => {
                let mut bytes = Vec::new();
                // A cut stream gives what it has.
                let _ = flate2::read::GzDecoder::new(&self.bytes[..]).read_to_end(&mut bytes);
                bytes
            }
            _ => self.bytes.clone(),
        };
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let data = if text.trim_start_matches(['\r', '\n']).starts_with('{') {
            let lines = text.lines().filter(|line| !line.is_empty());
            lines.map(str::to_owned).collect()
        } else {
            server_sent(text)
        };
        let values = data
            .iter()
            .map(|data| serde_json::from_str(data).unwrap_or_else(|_| Value::String(data.clone())));
        values.filter(|value| value["type"] != "ping").collect()
    }
}

fn server_sent(text: &str) -> Vec<String> {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let mut found = Vec::new();
    let mut data: Option<String> = None;
    // What is after the last line end is no line.
    let (lines, _) = text.rsplit_once('\n').unwrap_or_default();
    for line in lines.split('\n') {
        if line.is_empty() {
            found.extend(data.take());
        } else if let Some(more) = line.strip_prefix("data:") {
            let more = more.strip_prefix(' ').unwrap_or(more);
            data = Some(match data {
                Some(data) => format!("{data}\n{more}"),
                None => more.to_owned(),
            });
        }
    }
    found
}

/// The text that the events of a protocol say.
pub(crate) fn text(protocol: Protocol, events: &[Value]) -> String {
    let pieces = events.iter().filter_map(|event| match protocol {
        Protocol::Anthropic => event["delta"]["text"].as_str(),
        Protocol::Responses => {
            let delta = event["type"] == "response.output_text.delta";
            event["delta"].as_str().filter(|_| delta)
        }
        Protocol::Chat => event["choices"][0]["delta"]["content"].as_str(),
        Protocol::Gemini => {
            let part = &event["candidates"][0]["content"]["parts"][0];
            part["text"].as_str().filter(|_| part["thought"] != true)
        }
        Protocol::Ollama => event["message"]["content"].as_str(),
    });
    pieces.collect()
}

/// Whether the events have the one that ends a stream of the protocol.
pub(crate) fn ended(protocol: Protocol, events: &[Value]) -> bool {
    events.iter().any(|event| match protocol {
        Protocol::Anthropic => event["type"] == "message_stop",
        Protocol::Responses => event["type"] == "response.completed",
        Protocol::Chat => event == "[DONE]",
        Protocol::Gemini => event["candidates"][0]["finishReason"].is_string(),
        Protocol::Ollama => event["done"] == true,
    })
}

/// The calls that the events of a protocol make: name and arguments, in the order of their numbers.
pub(crate) fn calls(protocol: Protocol, events: &[Value]) -> Vec<(String, String)> {
    let mut calls: std::collections::BTreeMap<u64, (String, String)> =
        std::collections::BTreeMap::new();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    for event in events {
        let index = |value: &Value| value.as_u64().unwrap();
        match protocol {
            Protocol::Anthropic => {
                let block = &event["content_block"];
                if block["type"] == "tool_use" {
                    calls.insert(
                        index(&event["index"]),
                        (text(&block["name"]), String::new()),
                    );
                }
                if event["delta"]["type"] == "input_json_delta" {
                    let call = calls.get_mut(&index(&event["index"])).unwrap();
                    call.1 += &text(&event["delta"]["partial_json"]);
                }
            }
            Protocol::Responses => {
                let added = event["type"] == "response.output_item.added";
                if added && event["item"]["type"] == "function_call" {
                    let name = text(&event["item"]["name"]);
                    calls.insert(index(&event["output_index"]), (name, String::new()));
                }
                if event["type"] == "response.function_call_arguments.delta" {
                    let call = calls.get_mut(&index(&event["output_index"])).unwrap();
                    call.1 += &text(&event["delta"]);
                }
            }
            Protocol::Chat => {
                let deltas = event["choices"][0]["delta"]["tool_calls"].as_array();
                for delta in deltas.into_iter().flatten() {
                    let call = calls.entry(index(&delta["index"])).or_default();
                    call.0 += &text(&delta["function"]["name"]);
                    call.1 += &text(&delta["function"]["arguments"]);
                }
            }
            Protocol::Gemini => {
                let parts = event["candidates"][0]["content"]["parts"].as_array();
                for part in parts.into_iter().flatten() {
                    let call = &part["functionCall"];
                    if call.is_object() {
                        let number = calls.len() as u64;
                        calls.insert(number, (text(&call["name"]), call["args"].to_string()));
                    }
                }
            }
            Protocol::Ollama => {
                let made = event["message"]["tool_calls"].as_array();
                for call in made.into_iter().flatten() {
                    let call = &call["function"];
                    let number = index(&call["index"]);
                    calls.insert(number, (text(&call["name"]), call["arguments"].to_string()));
                }
            }
        }
    }
    calls.into_values().collect()
}
