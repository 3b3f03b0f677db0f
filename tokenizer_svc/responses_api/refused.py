"""Fields of the Responses API that this server does not serve: what to do instead. And what may be included."""

from __future__ import annotations

LOGPROBS = "message.output_text.logprobs"
ENCRYPTED = "reasoning.encrypted_content"
INCLUDABLE = (
    LOGPROBS,
    ENCRYPTED,
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
)
"""Of these only the first two ask for anything here: the others are about tools, and images, that there are not."""

REFUSED = {
    "access_programs": "leave it out",
    "background_options": "use background",
    "context_management": 'use truncation "auto"',
    "conversation": "use previous_response_id",
    "image": "only text is served",
    "modalities": "only text is served",
    "moderation": "moderation is not served",
    "personality": "say it in instructions",
    "prompt": "stored prompts are not served: use instructions and input",
    "prompt_cache_options": "a shared prefix is reused by itself",
    "prompt_cache_retention": "the cache keeps what was used last",
}
