"""LangChain's own standard tests for chat models, run on ChatOpenAI with rootstream behind it."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests

from tests.clients.recorder import Recorder
from tests.clients.serving import MODEL


class TestChatOpenAI(ChatModelIntegrationTests):
    """Structured answers through the grammar, tools by tool_choice."""

    @pytest.fixture(autouse=True)
    def _server(self, base_url: str, recorder: Recorder) -> None:
        self._base_url = base_url

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatOpenAI

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {
            "model": MODEL,
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


class TestChatOpenAIWithScript(TestChatOpenAI):
    """The tests that leave it to the model whether it calls a tool, with a model that does."""

    @pytest.fixture(autouse=True)
    def _server(self, scripted_url: str) -> None:
        self._base_url = scripted_url
