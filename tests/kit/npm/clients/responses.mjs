// OpenAI's own client, on Responses.
import OpenAI from "openai";
import { failure, key, model, report, root, tool } from "./expect.mjs";

const client = new OpenAI({ apiKey: key, baseURL: `${root}/v1` });
const base = { model, max_output_tokens: 4096, store: false, include: ["reasoning.encrypted_content"] };
const tools = [
  { type: "function", name: tool.name, description: tool.description, parameters: tool.schema, strict: false },
];
const seen = {};

const stream = client.responses.stream({ ...base, input: "say it" });
let pieces = 0;
stream.on("response.output_text.delta", () => pieces++);
const said = await stream.finalResponse();
seen.text = said.output_text;
seen.pieces = pieces;
seen.stop = said.status;
seen.usage = [
  said.usage.input_tokens,
  said.usage.input_tokens_details.cached_tokens,
  said.usage.input_tokens_details.cache_write_tokens,
  said.usage.output_tokens,
  said.usage.output_tokens_details.reasoning_tokens,
];

const input = [{ role: "user", content: "weather, please" }];
const asked = await client.responses.stream({ ...base, input, tools }).finalResponse();
const calls = asked.output.filter((item) => item.type === "function_call");
seen.thought = asked.output[0].summary[0].text;
seen.calls = calls.map((call) => [call.name, JSON.parse(call.arguments)]);
input.push(...asked.output.map(({ parsed_arguments, ...item }) => item));
for (const call of calls) {
  const { city } = JSON.parse(call.arguments);
  input.push({ type: "function_call_output", call_id: call.call_id, output: `${city}: 20 degrees` });
}
for (const item of input) {
  if (item.type === "message") item.content = item.content.map(({ parsed, ...part }) => part);
}
const answered = await client.responses.create({ ...base, input, tools });
seen.answer = answered.output_text;

const waited = await client.responses.create({ ...base, input: "once more" });
seen.waited = waited.output_text;
const error = await failure(() => client.responses.create({ ...base, input: "too long" }));
seen.error = [error instanceof OpenAI.BadRequestError, error.status, error.code];
let midway;
for await (const event of await client.responses.create({ ...base, input: "fail midway", stream: true })) {
  if (event.type === "response.failed") midway = event.response.error.code;
}
seen.midway = midway;
seen.models = [];
for await (const known of client.models.list()) seen.models.push(known.id);
report(seen);
