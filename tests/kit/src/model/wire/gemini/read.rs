//! Reading a request of Gemini's `generateContent`.

use std::collections::HashMap;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use crate::model::asked::{Asked, CallPart, Message, Part, ResultPart, Role, Sealed, read};
use crate::model::problem::Problem;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[expect(dead_code, reason = "named so that every other field is unknown")]
struct Request {
    contents: Vec<Content>,
    system_instruction: Option<Content>,
    generation_config: Option<Generation>,
    tools: Option<Vec<Tool>>,
    tool_config: Option<IgnoredAny>,
    safety_settings: Option<IgnoredAny>,
    cached_content: Option<IgnoredAny>,
    labels: Option<IgnoredAny>,
    store: Option<bool>,
    service_tier: Option<IgnoredAny>,
    continuation_token: Option<IgnoredAny>,
    /// Counting wraps the request, and names the model again.
    model: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    role: Option<String>,
    #[serde(default)]
    parts: Vec<Written>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[expect(dead_code, reason = "named so that every other field is unknown")]
struct Written {
    text: Option<String>,
    thought: Option<bool>,
    thought_signature: Option<String>,
    function_call: Option<Call>,
    function_response: Option<Response>,
    inline_data: Option<IgnoredAny>,
    file_data: Option<IgnoredAny>,
    executable_code: Option<IgnoredAny>,
    code_execution_result: Option<IgnoredAny>,
    video_metadata: Option<IgnoredAny>,
    media_resolution: Option<IgnoredAny>,
    part_metadata: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "named so that every other field is unknown")]
struct Call {
    id: Option<String>,
    name: String,
    args: Option<serde_json::Map<String, Value>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[expect(dead_code, reason = "named so that every other field is unknown")]
struct Response {
    id: Option<String>,
    name: String,
    #[serde(rename = "response")]
    content: serde_json::Map<String, Value>,
    will_continue: Option<bool>,
    scheduling: Option<String>,
    parts: Option<IgnoredAny>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct Generation {
    max_output_tokens: Option<u64>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    top_k: Option<f64>,
    presence_penalty: Option<f64>,
    frequency_penalty: Option<f64>,
    candidate_count: Option<u64>,
    stop_sequences: Option<Vec<String>>,
    seed: Option<i64>,
    response_logprobs: Option<bool>,
    logprobs: Option<u64>,
    response_mime_type: Option<String>,
    response_schema: Option<IgnoredAny>,
    response_json_schema: Option<IgnoredAny>,
    response_modalities: Option<IgnoredAny>,
    media_resolution: Option<IgnoredAny>,
    speech_config: Option<IgnoredAny>,
    thinking_config: Option<ThinkingConfig>,
    audio_transcription_config: Option<IgnoredAny>,
    image_config: Option<IgnoredAny>,
    enable_enhanced_civic_answers: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[expect(dead_code, reason = "named so that every other field is unknown")]
struct ThinkingConfig {
    include_thoughts: Option<bool>,
    thinking_budget: Option<i64>,
    thinking_level: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Tool {
    function_declarations: Option<Vec<Function>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[expect(dead_code, reason = "named so that every other field is unknown")]
struct Function {
    name: String,
    description: Option<String>,
    parameters: Option<IgnoredAny>,
    parameters_json_schema: Option<IgnoredAny>,
    response: Option<IgnoredAny>,
    response_json_schema: Option<IgnoredAny>,
    behavior: Option<IgnoredAny>,
}

pub(super) fn request(body: &Value, model: &str) -> Result<Asked, Problem> {
    // Counting may put the whole request into a field.
    let body = body.get("generateContentRequest").unwrap_or(body);
    let request: Request = read(body, "")?;
    let config = request.generation_config.unwrap_or_default();
    let sampling = [
        ("temperature", config.temperature.is_some()),
        ("topP", config.top_p.is_some()),
        ("topK", config.top_k.is_some()),
        ("presencePenalty", config.presence_penalty.is_some()),
        ("frequencyPenalty", config.frequency_penalty.is_some()),
    ];
    let mut asked = Asked {
        model: model.to_owned(),
        stream_usage: true,
        sealed: true,
        max_output: config.max_output_tokens,
        sampling: sampling.iter().filter(|it| it.1).map(|it| it.0).collect(),
        ..Asked::default()
    };
    if let Some(system) = &request.system_instruction {
        let texts = system.parts.iter().filter_map(|part| part.text.as_deref());
        asked.system = texts.collect::<Vec<_>>().join("\n");
    }
    let tools = request.tools.into_iter().flatten();
    let functions = tools.filter_map(|tool| tool.function_declarations);
    asked.tools = functions.flatten().map(|function| function.name).collect();
    let mut ids = Ids::default();
    for (at, content) in request.contents.into_iter().enumerate() {
        asked.messages.push(message(at, content, &mut ids)?);
    }
    Ok(asked)
}

/// Ids where none are sent: the nth call of a name in a message has the nth result of that name.
#[derive(Default)]
struct Ids {
    seen: HashMap<String, usize>,
}

impl Ids {
    fn of(&mut self, id: Option<String>, name: &str) -> String {
        let nth = self.seen.entry(name.to_owned()).or_default();
        *nth += 1;
        id.unwrap_or_else(|| format!("{name}#{nth}"))
    }
}

fn message(at: usize, content: Content, ids: &mut Ids) -> Result<Message, Problem> {
    let role = match content.role.as_deref() {
        Some("user") | None => Role::User,
        Some("model") => Role::Assistant,
        Some(_) => {
            let words = "Please use a valid role: user, model.";
            return Err(Problem::invalid(&format!("contents[{at}].role"), words));
        }
    };
    ids.seen.clear();
    let mut message = Message::new(role);
    for (nth, part) in content.parts.into_iter().enumerate() {
        let place = format!("contents[{at}].parts[{nth}]");
        read_part(&place, part, ids, &mut message)?;
    }
    Ok(message)
}

fn read_part(
    place: &str,
    part: Written,
    ids: &mut Ids,
    message: &mut Message,
) -> Result<(), Problem> {
    let data = [
        part.text.is_some(),
        part.function_call.is_some(),
        part.function_response.is_some(),
        part.inline_data.is_some() || part.file_data.is_some(),
    ];
    if data.into_iter().filter(|there| *there).count() != 1 {
        let words = "required oneof field 'data' must have one initialized field";
        return Err(Problem::invalid(&format!("{place}.data"), words));
    }
    let bound = part.function_call.as_ref().map(|call| call.name.clone());
    if let Some(seal) = part.thought_signature.clone() {
        let bound = bound.unwrap_or_default();
        message.parts.push(Part::Sealed(Sealed { seal, bound }));
    }
    let read = if let Some(call) = part.function_call {
        Part::Call(CallPart {
            id: ids.of(call.id, &call.name),
            name: call.name,
            signed: part.thought_signature.is_some(),
        })
    } else if let Some(response) = part.function_response {
        Part::Result(ResultPart {
            id: ids.of(response.id, &response.name),
            text: Value::Object(response.content).to_string(),
        })
    } else if let Some(text) = part.text {
        // A signature may come on a text that is empty.
        if part.thought == Some(true) || (text.is_empty() && part.thought_signature.is_some()) {
            return Ok(());
        }
        Part::Text(text)
    } else {
        Part::Other
    };
    message.parts.push(read);
    Ok(())
}
