// Google's own client.
import { ApiError, GoogleGenAI } from "@google/genai";
import { failure, key, model, report, root, tool } from "./expect.mjs";

const client = new GoogleGenAI({ apiKey: key, httpOptions: { baseUrl: root, retryOptions: { attempts: 3 } } });
const tools = [
  { functionDeclarations: [{ name: tool.name, description: tool.description, parametersJsonSchema: tool.schema }] },
];
const config = { maxOutputTokens: 4096 };
const ask = (text) => [{ role: "user", parts: [{ text }] }];
const seen = {};

let text = "";
let pieces = 0;
let last;
for await (const chunk of await client.models.generateContentStream({ model, contents: ask("say it"), config })) {
  if (chunk.text) pieces++;
  text += chunk.text ?? "";
  last = chunk;
}
const usage = last.usageMetadata;
seen.text = text;
seen.pieces = pieces;
seen.stop = last.candidates[0].finishReason;
seen.usage = [
  usage.promptTokenCount,
  usage.cachedContentTokenCount,
  0,
  usage.candidatesTokenCount + usage.thoughtsTokenCount,
  usage.thoughtsTokenCount,
];

const contents = ask("weather, please");
const thinking = { ...config, tools, thinkingConfig: { includeThoughts: true } };
const parts = [];
for await (const chunk of await client.models.generateContentStream({ model, contents, config: thinking })) {
  parts.push(...(chunk.candidates[0].content?.parts ?? []));
}
seen.thought = parts.filter((part) => part.thought).map((part) => part.text).join("");
const calls = parts.map((part) => part.functionCall).filter(Boolean);
seen.calls = calls.map((call) => [call.name, call.args]);
contents.push({ role: "model", parts });
contents.push({
  role: "user",
  parts: calls.map(({ id, name, args }) => ({
    functionResponse: { id, name, response: { output: `${args.city}: 20 degrees` } },
  })),
});
seen.answer = (await client.models.generateContent({ model, contents, config: thinking })).text;

seen.waited = (await client.models.generateContent({ model, contents: ask("once more"), config })).text;
const error = await failure(() => client.models.generateContent({ model, contents: ask("too long"), config }));
seen.error = [error instanceof ApiError, error.status, JSON.parse(error.message).error.status];
const midway = await failure(async () => {
  const stream = await client.models.generateContentStream({ model, contents: ask("fail midway"), config });
  for await (const chunk of stream) void chunk;
});
seen.midway = midway.message;
seen.counted = (await client.models.countTokens({ model, contents: ask("12345678") })).totalTokens;
seen.models = [];
for await (const known of await client.models.list()) seen.models.push(known.name);
report(seen);
