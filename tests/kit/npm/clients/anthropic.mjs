// Anthropic's own client.
import Anthropic from "@anthropic-ai/sdk";
import { failure, key, model, report, root, tool } from "./expect.mjs";

const client = new Anthropic({ apiKey: key, baseURL: root });
const base = { model, max_tokens: 4096 };
const tools = [{ name: tool.name, description: tool.description, input_schema: tool.schema }];
const seen = {};

const stream = client.messages.stream({ ...base, messages: [{ role: "user", content: "say it" }] });
let pieces = 0;
stream.on("text", () => pieces++);
const said = await stream.finalMessage();
seen.text = said.content.find((block) => block.type === "text").text;
seen.pieces = pieces;
seen.stop = said.stop_reason;
seen.usage = [
  said.usage.input_tokens,
  said.usage.cache_read_input_tokens,
  said.usage.cache_creation_input_tokens,
  said.usage.output_tokens,
  said.usage.output_tokens_details.thinking_tokens,
];

const messages = [{ role: "user", content: "weather, please" }];
const thinking = { type: "enabled", budget_tokens: 2048 };
const asked = await client.messages.stream({ ...base, messages, tools, thinking }).finalMessage();
const calls = asked.content.filter((block) => block.type === "tool_use");
seen.thought = asked.content[0].thinking;
seen.calls = calls.map((call) => [call.name, call.input]);
messages.push({ role: "assistant", content: asked.content });
messages.push({
  role: "user",
  content: calls.map((call) => ({
    type: "tool_result",
    tool_use_id: call.id,
    content: `${call.input.city}: 20 degrees`,
  })),
});
const answered = await client.messages.create({ ...base, messages, tools, thinking });
seen.answer = answered.content[0].text;

const once = { ...base, messages: [{ role: "user", content: "once more" }] };
const waited = await client.messages.create(once);
seen.waited = waited.content[0].text;
const error = await failure(() =>
  client.messages.create({ ...base, messages: [{ role: "user", content: "too long" }] }),
);
seen.error = [error instanceof Anthropic.BadRequestError, error.status, error.error.error.message];
const midway = await failure(() =>
  client.messages
    .stream({ ...base, messages: [{ role: "user", content: "fail midway" }] })
    .finalMessage(),
);
seen.midway = midway.message;
seen.counted = (
  await client.messages.countTokens({ model, messages: [{ role: "user", content: "12345678" }] })
).input_tokens;
seen.models = [];
for await (const known of client.models.list()) seen.models.push(known.id);
report(seen);
