// The Vercel AI SDK with its provider for OpenAI-compatible servers, run by tests/clients/test_node.py.

import assert from "node:assert/strict";
import { test } from "node:test";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateObject, generateText, stepCountIs, streamObject, streamText, tool } from "ai";
import { z } from "zod";

const settings = { name: "rootstream", baseURL: process.env.BASE_URL, apiKey: "none", includeUsage: true };
const provider = createOpenAICompatible({ ...settings, supportsStructuredOutputs: true });
const model = provider(process.env.MODEL);
const common = { model, temperature: 0, maxRetries: 0 };
const Weather = z.object({ city: z.string().max(20), unit: z.enum(["celsius", "fahrenheit"]) });
const weather = (asked) =>
  tool({
    description: "The weather in a city.",
    inputSchema: Weather,
    execute: async (input) => {
      asked.push(Weather.parse(input));
      return { degrees: 3 };
    },
  });

test("generateText", async () => {
  const { text, usage, finishReason } = await generateText({ ...common, prompt: "Say hello.", maxOutputTokens: 8 });
  assert.ok(text.length > 0);
  assert.ok(usage.outputTokens > 0 && usage.inputTokens > 0);
  assert.ok(["stop", "length"].includes(finishReason));
});

test("streamText", async () => {
  const result = streamText({ ...common, prompt: "Say hello.", maxOutputTokens: 8 });
  let text = "";
  for await (const part of result.textStream) text += part;
  assert.equal(text, await result.text);
  assert.ok((await result.usage).outputTokens > 0);
});

test("tool calls, and a second step with their results", async () => {
  const asked = [];
  const { steps } = await generateText({
    ...common,
    prompt: "Weather in Oslo?",
    tools: { get_weather: weather(asked) },
    prepareStep: ({ stepNumber }) => ({ toolChoice: stepNumber === 0 ? { type: "tool", toolName: "get_weather" } : "none" }),
    stopWhen: stepCountIs(2),
    maxOutputTokens: 60,
  });
  assert.equal(asked.length, 1);
  assert.equal(steps.length, 2);
  assert.equal(steps[0].finishReason, "tool-calls");
});

test("streamed tool calls", async () => {
  const asked = [];
  const result = streamText({
    ...common,
    prompt: "Weather in Oslo?",
    tools: { get_weather: weather(asked) },
    toolChoice: { type: "tool", toolName: "get_weather" },
    maxOutputTokens: 60,
  });
  const kinds = [];
  for await (const part of result.fullStream) kinds.push(part.type);
  assert.equal(asked.length, 1);
  assert.ok(kinds.includes("tool-input-delta") && kinds.includes("tool-call") && !kinds.includes("error"));
});

test("generateObject", async () => {
  const { object } = await generateObject({ ...common, schema: Weather, prompt: "Weather in Oslo?" });
  Weather.parse(object);
});

test("streamObject", async () => {
  const result = streamObject({ ...common, schema: Weather, prompt: "Weather in Oslo?" });
  const parts = [];
  for await (const part of result.partialObjectStream) parts.push(part);
  assert.ok(parts.length > 1);
  Weather.parse(await result.object);
});

test("generateObject without a schema", async () => {
  const plain = createOpenAICompatible(settings)(process.env.MODEL);
  const asked = { ...common, model: plain, output: "no-schema", prompt: "A fox as short JSON.", maxOutputTokens: 300 };
  // JSON of any shape need not end: a small model may go on until its tokens are used up, and is asked once more.
  for (let seed = 1; seed <= 8; seed++) {
    try {
      const { object } = await generateObject({ ...asked, seed, temperature: 1 });
      return assert.equal(typeof object, "object");
    } catch (error) {
      assert.equal(error.finishReason, "length");
    }
  }
  assert.fail("no answer came to an end");
});

test("completions", async () => {
  const asked = { ...common, model: provider.completionModel(process.env.MODEL), maxOutputTokens: 6 };
  const { text } = await generateText({ ...asked, prompt: "One, two, three," });
  assert.ok(text.length > 0);
});
