"""What each route does, takes and answers, as the OpenAPI document says it. One entry per route: a test counts them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from tokenizer_svc.rendering import ANSWER_PREFIX

JSON, TEXT, HTML, EVENTS = "application/json", "text/plain", "text/html", "text/event-stream"


class Operation(NamedTuple):
    """One method of one route."""

    id: str
    summary: str
    tag: str
    answer: Mapping[str, Any]  # a schema, or a reference to one
    request: str | None = None  # the struct of its body
    is_request_required: bool = True
    streams: bool = False  # the answer may come as server-sent events
    media: str = JSON
    example: Mapping[str, Any] | None = None  # of a body
    id_at: str | None = None  # where an answer's id is in it, as a JSON pointer
    may_be_503: bool = False  # also answers 503, with the same schema
    later: bool = False  # also answers 202: where to find what is not there yet
    parameters: tuple[Mapping[str, Any], ...] = ()  # besides those in the path


def ref(name: str) -> dict[str, str]:
    """A reference to a schema of the document."""
    return {"$ref": f"#/components/schemas/{name}"}


_LAST_EVENT = "The id of the last event that arrived: those after it are sent"
_LAST_EVENT_ID = {"type": "string", "pattern": f"^{ANSWER_PREFIX}[0-9a-f]{{16}}:[0-9]{{1,12}}$"}
_AGAIN: tuple[Mapping[str, Any], ...] = (
    {"name": "Last-Event-ID", "in": "header", "description": _LAST_EVENT, "schema": _LAST_EVENT_ID},
)
_KEPT: tuple[Mapping[str, Any], ...] = (
    {
        "name": "X-Resumable",
        "in": "header",
        "description": "The same as the field `resumable`",
        "schema": {"enum": ["true", "false"]},
    },
    *_AGAIN,
)

_HELLO = {"messages": [{"role": "user", "content": "Say hello in French."}], "max_tokens": 16}

_STATUS = {"type": "object", "required": ["status"], "properties": {"status": {"const": "ok"}}}
_MODEL_INFO = {
    "type": "object",
    "required": ["model_path", "is_generation", "max_model_len"],
    "properties": {"max_model_len": {"type": "integer", "minimum": 1}},
}

OPERATIONS: Mapping[tuple[str, str], Operation] = {
    ("POST", "/v1/chat/completions"): Operation(
        "chat",
        "Continue a conversation",
        "generation",
        ref("ChatCompletion"),
        "ChatRequest",
        streams=True,
        example=_HELLO,
        later=True,
        parameters=_KEPT,
    ),
    ("POST", "/v1/completions"): Operation(
        "complete",
        "Continue a text",
        "generation",
        ref("TextCompletion"),
        "CompletionRequest",
        streams=True,
        id_at="/id",
        example={"prompt": "The capital of France is", "max_tokens": 8, "temperature": 0},
        later=True,
        parameters=_KEPT,
    ),
    ("POST", "/generate"): Operation(
        "generate",
        "Continue texts, token ids or a template with gaps",
        "generation",
        {"anyOf": [ref("Output"), {"type": "array", "items": ref("Output")}]},
        "GenerateRequest",
        streams=True,
        id_at="/meta_info/id",
        example={"text": "The capital of France is", "sampling_params": {"max_new_tokens": 8, "temperature": 0}},
        later=True,
        parameters=_KEPT,
    ),
    ("GET", "/v1/streams/{id}"): Operation(
        "resume",
        "The rest of a resumable stream, or a background request's answer",
        "generation",
        {
            "anyOf": [
                *map(ref, ("ChatCompletion", "TextCompletion", "Output", "MessageReply", "Response")),
                {"type": "array", "items": ref("Output")},
            ]
        },
        streams=True,
        later=True,
        parameters=(
            *_AGAIN,
            {"name": "last_event_id", "in": "query", "description": _LAST_EVENT, "schema": _LAST_EVENT_ID},
            {
                "name": "wait",
                "in": "query",
                "description": "Seconds to wait for an answer that is no stream",
                "schema": {"type": "number", "minimum": 0, "maximum": 30},
            },
        ),
    ),
    ("DELETE", "/v1/streams/{id}"): Operation(
        "forget", "Cancel a resumable or background request and forget its answer", "generation", ref("Deleted")
    ),
    ("POST", "/v1/contexts"): Operation(
        "create_context",
        "Go on from a context with text, gaps that the model fills, and choices; keep the whole as another one",
        "contexts",
        ref("ContextAnswer"),
        "ContextRequest",
        streams=True,
        example={
            "parts": [
                {"type": "text", "text": "The capital of France is"},
                {"type": "gen", "name": "capital", "max_tokens": 8, "stop": "."},
            ]
        },
    ),
    ("GET", "/v1/contexts/{context_id}"): Operation(
        "get_context", "What a context says, and how it was made", "contexts", ref("ContextBody")
    ),
    ("DELETE", "/v1/contexts/{context_id}"): Operation(
        "delete_context", "Let a context go", "contexts", ref("DroppedContext")
    ),
    ("POST", "/v1/responses"): Operation(
        "create_response",
        "Continue a conversation, and keep it",
        "responses",
        ref("Response"),
        "ResponsesRequest",
        streams=True,
        id_at="/id",
        example={"input": "Say hello in French.", "max_output_tokens": 16},
        parameters=_KEPT,
    ),
    ("POST", "/v1/responses/input_tokens"): Operation(
        "count_response_tokens",
        "How many tokens the prompt of a response has",
        "tokens",
        ref("InputTokens"),
        "InputTokensRequest",
        example={"input": "Say hello in French."},
    ),
    ("GET", "/v1/responses/{id}"): Operation(
        "get_response",
        "A response as of now, or its events",
        "responses",
        ref("Response"),
        streams=True,
        parameters=(
            {"name": "stream", "in": "query", "schema": {"type": "boolean"}},
            {
                "name": "starting_after",
                "in": "query",
                "description": "The number of the last event that arrived: those after it are sent",
                "schema": {"type": "integer", "minimum": 0, "maximum": 10**9},
            },
        ),
    ),
    ("DELETE", "/v1/responses/{id}"): Operation(
        "delete_response", "Cancel a response and forget it", "responses", ref("DeletedResponse")
    ),
    ("POST", "/v1/responses/{id}/cancel"): Operation(
        "cancel_response", "End a response in the background", "responses", ref("Response")
    ),
    ("GET", "/v1/responses/{id}/input_items"): Operation(
        "list_input_items",
        "All that went into a response, what came before it included",
        "responses",
        ref("ItemList"),
        parameters=(
            {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 100}},
            {"name": "order", "in": "query", "schema": {"enum": ["asc", "desc"]}},
            {"name": "after", "in": "query", "description": "The id of an item", "schema": {"type": "string"}},
        ),
    ),
    ("POST", "/v1/messages"): Operation(
        "messages",
        "Continue a conversation, in Anthropic's shape",
        "generation",
        ref("MessageReply"),
        "MessagesRequest",
        streams=True,
        example=_HELLO,
        later=True,
        parameters=_KEPT,
    ),
    ("POST", "/v1/messages/count_tokens"): Operation(
        "count_message_tokens",
        "How many tokens a conversation has, in Anthropic's shape",
        "tokens",
        ref("TokenCount"),
        "MessagesCountRequest",
        example={"messages": _HELLO["messages"]},
    ),
    ("GET", "/v1/models"): Operation(
        "list_models",
        "The one model, as a list",
        "models",
        {
            "type": "object",
            "required": ["object", "data"],
            "properties": {"object": {"const": "list"}, "data": {"type": "array", "items": ref("Model")}},
        },
    ),
    ("GET", "/v1/models/{model}"): Operation("get_model", "The one model", "models", ref("Model")),
    ("GET", "/health"): Operation(
        "health",
        "Whether text can be had, and how far what is loading has come",
        "state",
        {"type": "object", "required": ["status"]},
        may_be_503=True,
    ),
    ("GET", "/ready"): Operation(
        "ready",
        "Whether requests can be served now",
        "state",
        {"type": "object", "required": ["ready"]},
        may_be_503=True,
    ),
    ("GET", "/ping"): Operation(
        "ping",
        "Whether this process lives and stays",
        "state",
        {"type": "object", "required": ["status"]},
        may_be_503=True,
    ),
    ("GET", "/health_generate"): Operation(
        "health_generate", "Whether a token can be had: one is generated", "state", _STATUS
    ),
    ("GET", "/version"): Operation(
        "version",
        "The release that runs here",
        "state",
        {"type": "object", "required": ["version"], "properties": {"version": {"type": "string"}}},
    ),
    ("GET", "/model_info"): Operation("model_info", "What the model is", "models", _MODEL_INFO),
    ("GET", "/get_model_info"): Operation("get_model_info", "The same as /model_info", "models", _MODEL_INFO),
    ("POST", "/tokenize"): Operation(
        "tokenize",
        "Token ids of texts or of a conversation",
        "tokens",
        ref("Tokenized"),
        "TokenizeRequest",
        example={"prompt": "The capital of France is"},
    ),
    ("POST", "/v1/embeddings"): Operation(
        "embed",
        "Vectors of texts",
        "vectors",
        ref("Embeddings"),
        "EmbeddingRequest",
        example={"input": ["The capital of France is", "Paris"]},
    ),
    ("POST", "/v1/score"): Operation(
        "score",
        "How likely tokens follow a query with each item, or how alike texts are",
        "vectors",
        {"anyOf": [ref("LabelScores"), ref("TextScores")]},
        "ScoreRequest",
        example={"query": "Is Paris in France? ", "items": ["Yes or no: "], "label_token_ids": [57, 46]},
    ),
    ("POST", "/detokenize"): Operation(
        "detokenize",
        "The text of token ids",
        "tokens",
        ref("Detokenized"),
        "DetokenizeRequest",
        example={"tokens": [72, 73]},
    ),
    ("GET", "/tokenizer_info"): Operation(
        "tokenizer_info",
        "The tokenizer's size, special tokens and chat template",
        "tokens",
        {"type": "object", "required": ["vocab_size", "chat_template"]},
    ),
    ("POST", "/pause_generation"): Operation(
        "pause",
        "Compute nothing until told to go on; requests wait",
        "operation",
        _STATUS,
        "PauseRequest",
        is_request_required=False,
        example={"mode": "in_place"},
    ),
    ("POST", "/continue_generation"): Operation("continue", "Go on after a pause", "operation", _STATUS),
    ("GET", "/get_server_info"): Operation(
        "get_server_info", "The same as /server_info", "operation", {"type": "object", "required": ["version"]}
    ),
    ("GET", "/metrics"): Operation(
        "metrics", "Metrics of all processes, for Prometheus", "operation", {"type": "string"}, media=TEXT
    ),
    ("GET", "/server_info"): Operation(
        "server_info", "What runs here, with which limits", "operation", {"type": "object", "required": ["version"]}
    ),
    ("GET", "/flush_cache"): Operation("flush_cache_by_get", "Empty the radix cache", "operation", ref("Flushed")),
    ("POST", "/flush_cache"): Operation("flush_cache", "Empty the radix cache", "operation", ref("Flushed")),
    ("POST", "/reset_prefix_cache"): Operation(
        "reset_prefix_cache", "The same by vLLM's name", "operation", ref("Flushed")
    ),
    ("POST", "/abort_request"): Operation(
        "abort",
        "End a request by the id of its answer or its rid, or all of one's own",
        "generation",
        {"type": "object", "required": ["success"], "properties": {"success": {"const": True}}},
        "AbortRequest",
        example={"request_id": "chatcmpl-0123456789abcdef"},
    ),
    ("GET", "/"): Operation("chat_page", "A page to chat with the model", "pages", {"type": "string"}, media=HTML),
    ("GET", "/docs"): Operation("docs_page", "This document as a page", "pages", {"type": "string"}, media=HTML),
    ("GET", "/pages/{name}"): Operation(
        "page_file", "What the pages load: scripts, styles, the icon", "pages", {"type": "string"}, media="*/*"
    ),
    ("GET", "/openapi.json"): Operation(
        "openapi", "This document", "state", {"type": "object", "required": ["openapi"]}
    ),
}
