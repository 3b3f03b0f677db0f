// The openai package for Node, run by tests/clients/test_node.py.

import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI from "openai";
import { zodFunction, zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";

const model = process.env.MODEL;
const client = new OpenAI({ baseURL: process.env.BASE_URL, apiKey: "none", maxRetries: 0 });
const messages = [{ role: "user", content: "What is the capital of France?" }];
const Weather = z.object({ city: z.string().max(20), unit: z.enum(["celsius", "fahrenheit"]) });

test("models", async () => {
  const ids = [];
  for await (const found of client.models.list()) ids.push(found.id);
  assert.deepEqual(ids, [model]);
  assert.equal((await client.models.retrieve(model)).id, model);
});

test("an unknown model is not found", async () => {
  const asked = client.chat.completions.create({ model: "gpt-4o", messages });
  await assert.rejects(asked, (error) => error instanceof OpenAI.NotFoundError && error.code === "model_not_found");
});

test("a stream says what the whole answer says", async () => {
  const asked = { model, messages, max_tokens: 16, temperature: 0 };
  const whole = await client.chat.completions.create(asked);
  let text = "";
  let usage;
  const options = { stream: true, stream_options: { include_usage: true } };
  for await (const chunk of await client.chat.completions.create({ ...asked, ...options })) {
    text += chunk.choices[0]?.delta.content ?? "";
    usage = chunk.usage ?? usage;
  }
  assert.equal(text, whole.choices[0].message.content);
  assert.equal(usage.completion_tokens, whole.usage.completion_tokens);
});

test("parse with zod", async () => {
  const reply = await client.chat.completions.parse({
    model,
    messages: [{ role: "user", content: "Weather in Oslo?" }],
    response_format: zodResponseFormat(Weather, "weather"),
    temperature: 0,
  });
  Weather.parse(reply.choices[0].message.parsed);
});

test("parse tools with zod", async () => {
  const reply = await client.chat.completions.parse({
    model,
    messages: [{ role: "user", content: "Weather in Oslo?" }],
    tools: [zodFunction({ name: "get_weather", parameters: Weather })],
    tool_choice: "required",
    temperature: 0,
  });
  const [call] = reply.choices[0].message.tool_calls;
  Weather.parse(call.function.parsed_arguments);
  assert.equal(reply.choices[0].finish_reason, "tool_calls");
});

test("the streaming helper", async () => {
  const stream = client.chat.completions.stream({ model, messages, max_tokens: 12, temperature: 0 });
  let text = "";
  stream.on("content", (delta) => (text += delta));
  const whole = await stream.finalContent();
  assert.equal(text, whole);
});

test("the tools runner calls the function and goes on", async () => {
  const asked = [];
  const runner = client.chat.completions.runTools(
    {
      model,
      messages: [{ role: "user", content: "Weather in Oslo?" }],
      tools: [
        {
          type: "function",
          function: {
            name: "get_weather",
            description: "The weather in a city.",
            parameters: z.toJSONSchema(Weather),
            parse: JSON.parse,
            function: (given) => {
              asked.push(Weather.parse(given));
              return "3 degrees";
            },
          },
        },
      ],
      tool_choice: { type: "function", function: { name: "get_weather" } },
      max_tokens: 60,
      temperature: 0,
    },
    { maxChatCompletions: 2 },
  );
  await runner.done();
  assert.ok(asked.length >= 1);
});

test("completions", async () => {
  const stream = await client.completions.create({ model, prompt: "One, two,", max_tokens: 6, stream: true });
  let text = "";
  for await (const chunk of stream) text += chunk.choices[0]?.text ?? "";
  assert.ok(text.length > 0);
});

test("a client may leave in the middle", async () => {
  const stream = await client.chat.completions.create({ model, messages, max_tokens: 1000, stream: true });
  for await (const chunk of stream) if (chunk.choices[0]?.delta.content) break;
  const reply = await client.chat.completions.create({ model, messages, max_tokens: 2 });
  assert.equal(reply.choices.length, 1);
});
