"""Answers that are valid by construction: a schema, a pattern, a tool. Needs the openai package."""

from openai import OpenAI
from pydantic import BaseModel, Field

MODEL = "smollm2-135m-instruct"
client = OpenAI(base_url="http://127.0.0.1:30000/v1", api_key="none")


class City(BaseModel):
    """What the first answer is."""

    name: str = Field(max_length=30)
    country: str = Field(max_length=30)
    population: int = Field(ge=1, le=50_000_000)


reply = client.chat.completions.parse(
    model=MODEL, messages=[{"role": "user", "content": "Describe Paris."}], response_format=City, temperature=0
)
print(reply.choices[0].message.parsed, reply.usage.completion_tokens_details)

reply = client.chat.completions.create(
    model=MODEL,
    messages=[{"role": "user", "content": "When did the second world war end?"}],
    extra_body={"regex": "The war ended in (19|20)[0-9]{2}\\."},
)
print(reply.choices[0].message.content)

tool = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 30}, "unit": {"enum": ["celsius", "fahrenheit"]}},
            "required": ["city", "unit"],
        },
    },
}
reply = client.chat.completions.create(
    model=MODEL,
    messages=[{"role": "user", "content": "What is the weather in Oslo?"}],
    tools=[tool],
    tool_choice={"type": "function", "function": {"name": "get_weather"}},
    temperature=0,
)
call = reply.choices[0].message.tool_calls[0]
print(call.function.name, call.function.arguments)
