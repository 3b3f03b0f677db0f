"""LangChain's own standard tests for chat models, run on ChatOpenAI with rootstream behind it.

Skipped by them, as the model is one of text: images, audio and PDFs in messages, Anthropic's content blocks. The test
of streaming time needs recorded cassettes.
"""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests

from tests.clients.recorder import Recorder
from tests.clients.serving import MODEL, SCRIPTED


class TestChatOpenAI(ChatModelIntegrationTests):
    """Structured answers through the grammar, tools by tool_choice, or by the script where they are up to the model."""

    @pytest.fixture(autouse=True)
    def _server(self, request: pytest.FixtureRequest) -> None:
        up_to_the_model = request.function.__name__ == "test_agent_loop"
        recorder: Recorder = request.getfixturevalue("scripted" if up_to_the_model else "recorder")
        self._model = SCRIPTED if up_to_the_model else MODEL
        self._base_url = f"{recorder.url}/v1"

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatOpenAI

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {
            "model": self._model,
            "base_url": self._base_url,
            "api_key": "none",
            "temperature": 0,
            "frequency_penalty": 0.5,  # or the small model tells the same joke without end
            "max_tokens": 500,
            "max_retries": 0,
            "stream_usage": True,
            "model_kwargs": {"parallel_tool_calls": False},  # or it calls a tool that it must call several times
        }

    @property
    def supports_json_mode(self) -> bool:
        return True

    @property
    def has_tool_choice(self) -> bool:
        return True
