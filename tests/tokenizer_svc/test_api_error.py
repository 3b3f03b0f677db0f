"""What clients are told: whose fault it was, and not their own request again."""

from __future__ import annotations

from shared.grammar import EXHAUSTED
from shared.protocol import Failed, Failure
from tokenizer_svc.api_error import invalid, of_failure


def test_a_grammar_that_takes_too_much_work_is_the_client_s_fault() -> None:
    error = of_failure(Failed(1, Failure.WORKER, EXHAUSTED), 1)
    assert (error.status, error.body.code) == (400, "invalid_grammar")
    assert of_failure(Failed(1, Failure.WORKER, "another reason"), 1).status == 500


def test_a_refusal_does_not_repeat_the_request() -> None:
    error = invalid(f"model {'x' * 10**6} does not exist: use another", "y" * 10**6)
    assert len(error.json()) < 3000
    assert error.body.message.startswith("model xxx")
    assert error.body.message.endswith("does not exist: use another")
    assert invalid("short", "n").body.message == "short"
