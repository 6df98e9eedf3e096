import asyncio

import pytest

from bonfire.insight.embeddings import Embedder, ProviderError, ProviderUnusable, load_provider
from support import toy_embeddings


def embedder(spec: str, dimensions: int = toy_embeddings.DIMENSIONS) -> Embedder:
    return Embedder(load_provider(f"support.toy_embeddings:{spec}"), name=spec, dimensions=dimensions, batch=2)


@pytest.mark.parametrize("spec", ["embed", "embed_async"])
async def test_each_text_gets_its_vector_in_order_across_batches(spec: str) -> None:
    texts = ["one", "two", "three", "four", "five"]
    assert await embedder(spec).embed(texts) == toy_embeddings.embed(texts)


async def test_no_texts_ask_nobody() -> None:
    assert await embedder("fail").embed([]) == []


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("embed", "64 dimensions; 3 are set"),
        ("embed_nothing", "0 vectors for 1 texts"),
    ],
)
async def test_a_wrong_answer_is_refused(spec: str, message: str) -> None:
    with pytest.raises(ProviderUnusable, match=message):
        await embedder(spec, dimensions=3).embed(["one"])


@pytest.mark.parametrize("vector", [[0.0, 0.0], [float("nan"), 1.0], [float("inf"), 1.0]])
async def test_a_vector_without_a_direction_is_refused(vector: list[float]) -> None:
    with pytest.raises(ProviderUnusable, match="direction"):
        await Embedder(lambda texts: [vector], name="x", dimensions=2).embed(["one"])


async def test_an_answer_that_is_no_vectors_is_refused() -> None:
    with pytest.raises(ProviderUnusable, match="lists of numbers"):
        await Embedder(lambda texts: [["one"]], name="x", dimensions=1).embed(["one"])  # type: ignore[list-item]  # that is the point


async def test_an_error_of_the_provider_never_repeats_what_it_was_asked() -> None:
    with pytest.raises(ProviderError) as caught:
        await embedder("fail").embed(["Ada Lovelace"])
    assert str(caught.value) == "the embedding provider failed: ConnectionError"
    assert not isinstance(caught.value, ProviderUnusable)


async def test_a_provider_that_hangs_is_given_up() -> None:
    async def hang(texts: list[str]) -> list[list[float]]:
        await asyncio.Event().wait()
        return []

    with pytest.raises(ProviderError, match="no answer"):
        await Embedder(hang, name="x", dimensions=1, timeout=0.01).embed(["one"])


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("support.toy_embeddings", "not spelled module:function"),
        ("support.no_such_module:embed", "can't be imported: ModuleNotFoundError"),
        ("support.toy_embeddings:no_such", "no function"),
        ("support.toy_embeddings:NOT_A_FUNCTION", "no function"),
    ],
)
def test_a_wrong_name_says_what_is_wrong(spec: str, message: str) -> None:
    with pytest.raises(ProviderUnusable, match=message):
        load_provider(spec)
