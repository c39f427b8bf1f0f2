// OpenAI's own client, on Chat Completions.
import OpenAI from "openai";
import { failure, key, model, report, root, tool } from "./expect.mjs";

const client = new OpenAI({ apiKey: key, baseURL: `${root}/v1` });
const base = { model, max_completion_tokens: 4096 };
const tools = [
  { type: "function", function: { name: tool.name, description: tool.description, parameters: tool.schema } },
];
const seen = {};
const streamed = { ...base, stream: true, stream_options: { include_usage: true } };
const ask = (content) => [{ role: "user", content }];

const stream = client.chat.completions.stream({ ...streamed, messages: ask("say it") });
let pieces = 0;
stream.on("content.delta", () => pieces++);
const said = await stream.finalChatCompletion();
seen.text = said.choices[0].message.content;
seen.pieces = pieces;
seen.stop = said.choices[0].finish_reason;
seen.usage = [
  said.usage.prompt_tokens,
  said.usage.prompt_tokens_details.cached_tokens,
  said.usage.prompt_tokens_details.cache_write_tokens,
  said.usage.completion_tokens,
  said.usage.completion_tokens_details.reasoning_tokens,
];

const messages = ask("weather, please");
const asked = await client.chat.completions.stream({ ...streamed, messages, tools }).finalChatCompletion();
const { content, tool_calls: calls } = asked.choices[0].message;
seen.calls = calls.map((call) => [call.function.name, JSON.parse(call.function.arguments)]);
const sent = calls.map(({ id, type, function: { name, arguments: text } }) => ({
  id,
  type,
  function: { name, arguments: text },
}));
messages.push({ role: "assistant", content, tool_calls: sent });
for (const call of calls) {
  const { city } = JSON.parse(call.function.arguments);
  messages.push({ role: "tool", tool_call_id: call.id, content: `${city}: 20 degrees` });
}
const answered = await client.chat.completions.create({ ...base, messages, tools });
seen.answer = answered.choices[0].message.content;

const waited = await client.chat.completions.create({ ...base, messages: ask("once more") });
seen.waited = waited.choices[0].message.content;
const error = await failure(() => client.chat.completions.create({ ...base, messages: ask("too long") }));
seen.error = [error instanceof OpenAI.BadRequestError, error.status, error.code];
const midway = await failure(async () => {
  const stream = await client.chat.completions.create({ ...streamed, messages: ask("fail midway") });
  for await (const chunk of stream) void chunk;
});
seen.midway = midway.code;
report(seen);
