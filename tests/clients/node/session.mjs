// A session of npm's official client, changed in nothing but its base URL, which is the only argument. Prints a
// line of JSON for each step: its name, and what came of it or the error that ended it.

import OpenAI from 'openai';
import { toResponseInputItems } from 'openai/lib/responses/ResponseInputItems';

const client = new OpenAI({ baseURL: process.argv[2], apiKey: 'unused', maxRetries: 0 });
const model = 'auto';
const question = 'What is the capital of France?';
const messages = [{ role: 'user', content: question }];
const image =
  'data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==';

const weather = object({ city: { type: 'string' }, days: { type: 'integer' } });
const time = object({ zone: { type: 'string' } });
const city = object({ name: { type: 'string' }, inhabitants: { type: 'integer' } });
const chatTools = [
  { type: 'function', function: { name: 'get_weather', parameters: weather, strict: true } },
  { type: 'function', function: { name: 'get_time', parameters: time, strict: true } },
];
const responseTools = chatTools.map((tool) => ({ type: 'function', ...tool.function }));
const both = { tool_choice: 'required', parallel_tool_calls: true };

const steps = {
  async chat() {
    const completion = await client.chat.completions.create({ model, messages });
    return { model: completion.model, text: completion.choices[0].message.content, usage: completion.usage };
  },

  async chatStreamWithUsage() {
    const stream = await client.chat.completions.create({
      model,
      messages,
      stream: true,
      stream_options: { include_usage: true },
    });
    return readChunks(stream);
  },

  async chatStreamWithoutUsage() {
    return readChunks(await client.chat.completions.create({ model, messages, stream: true }));
  },

  async chatToolsStreamed() {
    const pieces = [];
    const stream = client.chat.completions
      .stream({ model, messages, tools: chatTools, ...both, stream_options: { include_usage: true } })
      .on('tool_calls.function.arguments.delta', ({ index, arguments_delta: piece }) => {
        (pieces[index] ??= []).push(piece);
      });
    const completion = await stream.finalChatCompletion();
    return {
      calls: completion.choices[0].message.tool_calls.map(({ id, function: called }) => ({ id, ...called })),
      pieces,
      finish: completion.choices[0].finish_reason,
      usage: completion.usage,
    };
  },

  async chatRunTools() {
    const given = [];
    const tools = chatTools.map((tool) => ({
      type: 'function',
      function: {
        ...tool.function,
        parse: JSON.parse,
        function(values) {
          given.push({ name: tool.function.name, values });
          return '17';
        },
      },
    }));
    // One round, since a choice that is forced would be forced for ever.
    const runner = client.chat.completions.runTools(
      { model, messages, tools, ...both },
      { maxChatCompletions: 1 },
    );
    await runner.done();
    const second = await client.chat.completions.create({ model, messages: runner.messages, tools: chatTools });
    return { given, roles: runner.messages.map(({ role }) => role), text: second.choices[0].message.content };
  },

  async chatStructured() {
    const completion = await client.chat.completions.parse({
      model,
      messages,
      response_format: { type: 'json_schema', json_schema: { name: 'city', schema: city, strict: true } },
    });
    return { text: completion.choices[0].message.content, usage: completion.usage };
  },

  async chatImage() {
    const content = [
      { type: 'text', text: question },
      { type: 'image_url', image_url: { url: image } },
    ];
    const completion = await client.chat.completions.create({ model, messages: [{ role: 'user', content }] });
    return { text: completion.choices[0].message.content, usage: completion.usage };
  },

  async chatUnknownModel() {
    return refused(() => client.chat.completions.create({ model: 'gpt-9', messages }));
  },

  async chatBadInput() {
    return refused(() => client.chat.completions.create({ model, messages: [] }));
  },

  async embeddings() {
    const packed = await client.embeddings.create({ model, input: [question, 'And of Italy?'] });
    return { vectors: packed.data.map(({ embedding }) => Array.from(embedding)), usage: packed.usage };
  },

  async responses() {
    const response = await client.responses.create({ model, input: question });
    return { model: response.model, text: response.output_text, status: response.status, usage: response.usage };
  },

  async responsesStream() {
    const stream = client.responses.stream({ model, input: question });
    const types = [];
    let text = '';
    for await (const event of stream) {
      types.push(event.type);
      if (event.type === 'response.output_text.delta') text += event.delta;
    }
    const response = await stream.finalResponse();
    return { types, text, final: response.output_text, usage: response.usage };
  },

  async responsesToolsStreamed() {
    const input = [{ role: 'user', content: question }];
    const stream = client.responses.stream({ model, input, tools: responseTools, ...both });
    const pieces = [];
    for await (const event of stream) {
      if (event.type === 'response.function_call_arguments.delta') {
        (pieces[event.output_index] ??= []).push(event.delta);
      }
    }
    const first = await stream.finalResponse();
    const calls = first.output.filter((item) => item.type === 'function_call');
    const outputs = calls.map(({ call_id }) => ({ type: 'function_call_output', call_id, output: '17' }));
    const second = await client.responses.create({
      model,
      input: [...input, ...toResponseInputItems(first.output), ...outputs],
      tools: responseTools,
    });
    return {
      calls: calls.map(({ call_id, name, arguments: values }) => ({ id: call_id, name, arguments: values })),
      pieces,
      usage: first.usage,
      text: second.output_text,
    };
  },

  async responsesStructured() {
    const response = await client.responses.parse({
      model,
      input: question,
      text: { format: { type: 'json_schema', name: 'city', schema: city, strict: true } },
    });
    return { text: response.output_text, usage: response.usage };
  },

  async responsesImage() {
    const content = [
      { type: 'input_text', text: question },
      { type: 'input_image', image_url: image, detail: 'auto' },
    ];
    const response = await client.responses.create({ model, input: [{ role: 'user', content }] });
    return { text: response.output_text, usage: response.usage };
  },

  async responsesBuiltInTool() {
    return refused(() =>
      client.responses.create({ model, input: question, tools: [{ type: 'web_search' }] }),
    );
  },
};

function object(properties) {
  return { type: 'object', properties, required: Object.keys(properties), additionalProperties: false };
}

async function readChunks(stream) {
  let text = '';
  const usages = [];
  let chunks = 0;
  for await (const chunk of stream) {
    chunks += 1;
    text += chunk.choices[0]?.delta.content ?? '';
    if (chunk.usage) usages.push(chunk.usage);
  }
  return { text, chunks, usages };
}

async function refused(call) {
  try {
    await call();
  } catch (error) {
    const { status, code, param, message } = error;
    return { name: error.constructor.name, status, code, param, message };
  }
  throw new Error('the call was not refused');
}

for (const [step, run] of Object.entries(steps)) {
  let line;
  try {
    line = { step, result: await run() };
  } catch (error) {
    line = { step, error: `${error.constructor.name}: ${error.message}` };
  }
  console.log(JSON.stringify(line));
}
