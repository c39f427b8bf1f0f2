// Ollama's own client.
import { Ollama } from "ollama";
import { failure, key, model, report, root, tool } from "./expect.mjs";

const client = new Ollama({ host: root });
const tools = [
  { type: "function", function: { name: tool.name, description: tool.description, parameters: tool.schema } },
];
const options = { num_predict: 4096, num_ctx: 32768 };
const ask = (content) => [{ role: "user", content }];
const seen = {};

let text = "";
let pieces = 0;
let last;
for await (const part of await client.chat({ model, messages: ask("say it"), options, stream: true })) {
  if (part.message.content) pieces++;
  text += part.message.content;
  last = part;
}
seen.text = text;
seen.pieces = pieces;
seen.stop = last.done_reason;
seen.usage = [last.prompt_eval_count, 0, 0, last.eval_count, 0];

const messages = ask("weather, please");
const said = { role: "assistant", content: "", thinking: "", tool_calls: [] };
for await (const part of await client.chat({ model, messages, tools, options, think: true, stream: true })) {
  said.content += part.message.content;
  said.thinking += part.message.thinking ?? "";
  said.tool_calls.push(...(part.message.tool_calls ?? []));
}
seen.thought = said.thinking;
seen.calls = said.tool_calls.map((call) => [call.function.name, call.function.arguments]);
messages.push(said);
for (const call of said.tool_calls) {
  const { city } = call.function.arguments;
  messages.push({ role: "tool", tool_name: call.function.name, content: `${city}: 20 degrees` });
}
seen.answer = (await client.chat({ model, messages, tools, options, think: true })).message.content;

const error = await failure(() => client.chat({ model, messages: ask("too long"), options }));
seen.error = [error.name === "ResponseError", error.status_code, error.error];
const midway = await failure(async () => {
  for await (const part of await client.chat({ model, messages: ask("fail midway"), options, stream: true })) void part;
});
seen.midway = midway.message;
seen.models = (await client.list()).models.map((known) => known.name);
seen.capabilities = (await client.show({ model })).capabilities;
seen.version = (await client.version()).version;
report(seen);
