"""OpenAI's API, spoken by OpenAI's own client to a real server on the pocket bundle."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionUserMessageParam
from serving import Serving, data_url, serving

from uservlm.models.demo import QUESTIONS
from uservlm.runtime import GenerationOptions, UserVLM
from uservlm.runtime.server.sentences import Sentences

CALL = "How do I make a video call?"


@pytest.fixture(scope="module")
def brain(pocket_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(pocket_bundle, tmp_path_factory.mktemp("brain")) as started:
        yield started


@pytest.fixture(scope="module")
def client(brain: Serving) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{brain.url}/v1", api_key="none", max_retries=0)


@pytest.fixture(scope="module")
def answers(pocket_bundle: Path, pictures: Path) -> dict[str, str]:
    """What the engine itself says to each."""
    with UserVLM.load(pocket_bundle) as vlm:
        return {
            name: vlm.ask(CALL, image=pictures / f"{name}.png").text for name in ("grace", "sam")
        }


def seen(question: str, picture: Path) -> ChatCompletionUserMessageParam:
    """A question with a picture, as OpenAI's clients put it."""
    return {
        "role": "user",
        "content": [
            {"type": "text", "text": question},
            {"type": "image_url", "image_url": {"url": data_url(picture)}},
        ],
    }


@pytest.mark.parametrize("name", ["grace", "sam"])
def test_a_picture_is_answered_as_the_engine_answers(
    client: openai.OpenAI, pictures: Path, answers: dict[str, str], name: str
) -> None:
    done = client.chat.completions.create(
        model="pocket", messages=[seen(CALL, pictures / f"{name}.png")]
    )
    assert done.choices[0].message.content == answers[name]
    assert done.choices[0].finish_reason == "stop"
    assert done.usage is not None
    assert done.usage.total_tokens == done.usage.prompt_tokens + done.usage.completion_tokens


def test_a_stream_gives_the_same_in_pieces_and_its_usage(
    client: openai.OpenAI, pictures: Path, answers: dict[str, str]
) -> None:
    stream = client.chat.completions.create(
        model="pocket",
        messages=[seen(CALL, pictures / "sam.png")],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(pieces) == answers["sam"]
    assert sum(bool(piece) for piece in pieces) > 5
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].usage is not None and chunks[-1].usage.completion_tokens > 5


def test_a_stream_by_sentences_gives_each_whole_and_ends_as_any_other(
    client: openai.OpenAI, pictures: Path
) -> None:
    def ask(pieces: str, **more: Any) -> tuple[list[str], list[Any]]:
        chunks = list(
            client.chat.completions.create(
                model="pocket",
                messages=[seen(QUESTIONS[1], pictures / "grace.png")],
                stream=True,
                stream_options={"include_usage": True},
                extra_body={"uservlm": {"pieces": pieces}},
                **more,
            )
        )
        deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
        assert deltas[0].role == "assistant"
        return [delta.content for delta in deltas if delta.content], chunks

    said, chunks = ask("sentences")
    tokens, others = ask("tokens")
    whole, answer = Sentences(), "".join(tokens)
    assert said == whole.add(answer) + whole.finish() and len(said) > 1
    assert " ".join(said) == answer
    assert chunks[-1].usage == others[-1].usage
    assert chunks[-2].choices[0].finish_reason == others[-2].choices[0].finish_reason == "stop"
    stop = said[1][3:9]
    cut, _ = ask("sentences", stop=[stop])
    assert cut[0] == said[0] and " ".join(cut) == answer.partition(stop)[0].strip()


def test_a_whole_answer_is_whole_however_its_pieces_are_wanted(
    brain: Serving, pictures: Path, answers: dict[str, str]
) -> None:
    brain.encode(pictures / "sam.png", user="sam")
    done = brain.ask(CALL, user="sam", uservlm={"pieces": "sentences"}).json()
    assert done["choices"][0]["message"]["content"] == answers["sam"]


def test_a_kept_user_is_answered_from_the_cache(
    client: openai.OpenAI, brain: Serving, pictures: Path, answers: dict[str, str]
) -> None:
    brain.encode(pictures / "grace.png", user="grace")
    done = client.chat.completions.create(
        model="pocket", messages=[{"role": "user", "content": CALL}], user="grace"
    )
    assert done.choices[0].message.content == answers["grace"]
    assert done.usage is not None and done.usage.prompt_tokens_details is not None
    cached = done.usage.prompt_tokens_details.cached_tokens
    assert cached is not None and 0 < cached < done.usage.prompt_tokens
    assert done.to_dict()["uservlm"]["vision_runs"] == 0  # type: ignore[index]


def test_the_picture_may_be_in_an_earlier_message_and_the_rest_is_said_to_be_unread(
    client: openai.OpenAI, pictures: Path, answers: dict[str, str]
) -> None:
    done = client.chat.completions.create(
        model="pocket",
        messages=[
            {"role": "system", "content": "Be brief."},
            seen("Am I alone?", pictures / "grace.png"),
            seen("Am I alone?", pictures / "sam.png"),
            {"role": "assistant", "content": "Yes."},
            {"role": "user", "content": CALL},
        ],
    )
    assert done.choices[0].message.content == answers["sam"]
    assert done.to_dict()["uservlm"]["unread_messages"] == 4  # type: ignore[index]


@pytest.mark.parametrize("stream", [False, True])
def test_a_stop_text_ends_the_answer_before_it(
    brain: Serving, client: openai.OpenAI, pictures: Path, answers: dict[str, str], stream: bool
) -> None:
    brain.encode(pictures / "grace.png", user="grace")
    ask: dict[str, Any] = {
        "model": "pocket",
        "messages": [{"role": "user", "content": CALL}],
        "user": "grace",
        "stop": ["call app", "never said"],
    }
    if stream:
        chunks = client.chat.completions.create(**ask, stream=True)
        said = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    else:
        said = client.chat.completions.create(**ask).choices[0].message.content or ""
    assert said == answers["grace"].partition("call app")[0] != answers["grace"]


def test_max_tokens_and_temperature_and_seed_do_what_they_say(
    brain: Serving, client: openai.OpenAI, pictures: Path, pocket_bundle: Path
) -> None:
    brain.encode(pictures / "grace.png", user="grace")
    options = GenerationOptions(max_new_tokens=5, temperature=1.0, seed=3)
    with UserVLM.load(pocket_bundle) as vlm:
        wanted = vlm.ask(CALL, image=pictures / "grace.png", options=options)
    done = client.chat.completions.create(
        model="pocket", messages=[{"role": "user", "content": CALL}], user="grace",
        max_tokens=5, temperature=1.0, seed=3,
    )  # fmt: skip
    assert done.choices[0].message.content == wanted.text
    assert done.choices[0].finish_reason == wanted.usage.finish
    assert done.usage is not None and done.usage.completion_tokens == wanted.usage.answer_tokens


def test_an_answer_ends_at_max_tokens(
    brain: Serving, client: openai.OpenAI, pictures: Path, answers: dict[str, str]
) -> None:
    brain.encode(pictures / "grace.png", user="grace")
    done = client.chat.completions.create(
        model="pocket", messages=[{"role": "user", "content": CALL}], user="grace", max_tokens=3
    )
    assert answers["grace"].startswith(done.choices[0].message.content or "never")
    assert done.choices[0].finish_reason == "length"
    assert done.usage is not None and done.usage.completion_tokens == 3


def test_models_are_listed_and_another_one_is_unknown(
    client: openai.OpenAI, pictures: Path
) -> None:
    assert [model.id for model in client.models.list()] == ["pocket"]
    assert client.models.retrieve("pocket").id == "pocket"
    with pytest.raises(openai.NotFoundError) as raised:
        client.chat.completions.create(
            model="gpt-4o", messages=[seen(CALL, pictures / "grace.png")]
        )
    assert raised.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 400, "bad_request"),
        ({"user": "nobody"}, 404, "unknown_user"),
        ({"user": "\u202e"}, 400, "bad_request"),
        ({"tools": [{"type": "function"}]}, 400, "invalid_request"),
        ({"n": 2}, 400, "invalid_request"),
        ({"logprobs": True}, 400, "invalid_request"),
        ({"frequency_penalty": 0.5}, 400, "invalid_request"),
        ({"response_format": {"type": "json_object"}}, 400, "invalid_request"),
        ({"max_tokens": 5, "max_completion_tokens": 6}, 400, "bad_request"),
        ({"uservlm": {"turn": "a/b"}}, 400, "invalid_request"),
        ({"uservlm": {"turn": "a\n"}}, 400, "invalid_request"),
        ({"uservlm": {"pieces": "words"}}, 400, "invalid_request"),
        ({"user": "grace", "content": " \n"}, 400, "bad_question"),
        ({"user": "grace", "content": "why? " * 1000}, 400, "bad_question"),
        ({"content": [{"type": "input_audio"}]}, 400, "invalid_request"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_sentence(
    brain: Serving, pictures: Path, body: dict[str, Any], status: int, code: str
) -> None:
    brain.encode(pictures / "grace.png", user="grace")
    refused = brain.ask(CALL, **body)
    assert refused.status_code == status, refused.text
    error = refused.json()["error"]
    assert error["code"] == code
    assert error["message"] and "/" not in error["message"].replace("and/or", "")


def test_two_pictures_of_who_asks_are_one_too_many(brain: Serving, pictures: Path) -> None:
    both = [
        {"type": "image_url", "image_url": {"url": data_url(pictures / f"{name}.png")}}
        for name in ("grace", "sam")
    ]
    refused = brain.ask(CALL, content=[{"type": "text", "text": CALL}, *both])
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "bad_request")


def test_a_picture_is_never_fetched(brain: Serving) -> None:
    part = {"type": "image_url", "image_url": {"url": "http://127.0.0.1:9/grace.png"}}
    refused = brain.ask(CALL, content=[{"type": "text", "text": CALL}, part])
    assert refused.status_code == 400
    assert "127.0.0.1" not in refused.text


def test_fifty_at_once_are_answered_each_with_their_own_or_told_to_wait(
    brain: Serving, pictures: Path, answers: dict[str, str]
) -> None:
    for name in answers:
        brain.encode(pictures / f"{name}.png", user=name)
    heard: list[tuple[str, int, str, str | None]] = []

    def ask(name: str) -> None:
        done = brain.ask(CALL, user=name)
        said = done.json()["choices"][0]["message"]["content"] if done.is_success else ""
        heard.append((name, done.status_code, said, done.headers.get("retry-after")))

    askers = [threading.Thread(target=ask, args=(name,)) for name in [*answers] * 25]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    assert len(heard) == 50
    assert {status for _, status, _, _ in heard} <= {200, 429}
    for name, status, said, again in heard:
        assert said == answers[name] if status == 200 else int(again or 0) >= 1
