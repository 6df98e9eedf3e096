"""The embedding provider: a Python callable that the settings name, and the checks on what it answers.

`module:function` takes a list of texts and returns a list of vectors, one per text, in the same order; it may be async.
The texts hold patients' data, and so may the errors that it raises: their texts are never repeated.
"""

import asyncio
import importlib
import inspect
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from bonfire.lane.handler import JobError

Vector = list[float]
Provider = Callable[[list[str]], list[Vector] | Awaitable[list[Vector]]]


class ProviderError(JobError):
    """The provider gave no answer: it may next time. The message holds no patient's data."""


class ProviderUnusable(ProviderError):
    """The provider is not there, or answers something that can't be used: the settings or the provider must change."""


def load_provider(spec: str) -> Provider:
    """The callable named by `module:function`. ProviderUnusable says what is wrong with the name."""
    module_name, _, function_name = spec.partition(":")
    if not module_name or not function_name:
        raise ProviderUnusable(f"the embedding provider {spec!r} is not spelled module:function")
    try:
        provider: object = importlib.import_module(module_name)
    except Exception as error:
        raise ProviderUnusable(f"the embedding provider {spec!r} can't be imported: {type(error).__name__}") from error
    for name in function_name.split("."):
        provider = getattr(provider, name, None)
    if not callable(provider):
        raise ProviderUnusable(f"the embedding provider {spec!r} is no function of its module")
    return provider


class Embedder:
    """Asks a provider, in batches, and checks each answer: one vector a text, each of `dimensions` finite numbers."""

    def __init__(
        self, provider: Provider, *, name: str, dimensions: int, batch: int = 64, timeout: float = 60.0
    ) -> None:
        self._provider = provider
        self._batch = batch
        self._timeout = timeout
        self.name = name
        self.dimensions = dimensions

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """A vector per text. ProviderError when the provider fails or takes more than `timeout` seconds for a batch;
        ProviderUnusable when it answers something else."""
        vectors: list[Vector] = []
        for start in range(0, len(texts), self._batch):
            vectors += await self._embed_batch(list(texts[start : start + self._batch]))
        return vectors

    async def _embed_batch(self, texts: list[str]) -> list[Vector]:
        try:
            async with asyncio.timeout(self._timeout):
                # In a thread, since a provider that computes or waits would stop the whole node.
                answer = await asyncio.to_thread(self._provider, texts)
                if inspect.isawaitable(answer):
                    answer = await answer
        except TimeoutError:
            raise ProviderError(f"the embedding provider gave no answer in {self._timeout:g} s") from None
        except Exception as error:
            raise ProviderError(f"the embedding provider failed: {type(error).__name__}") from None
        return self._checked(answer, len(texts))

    def _checked(self, answer: Any, count: int) -> list[Vector]:
        try:
            vectors = [[float(number) for number in vector] for vector in answer]
        except (TypeError, ValueError):
            raise ProviderUnusable("the embedding provider answered something else than lists of numbers") from None
        if len(vectors) != count:
            raise ProviderUnusable(f"the embedding provider answered {len(vectors)} vectors for {count} texts")
        for vector in vectors:
            if len(vector) != self.dimensions:
                raise ProviderUnusable(
                    f"the embedding provider's vectors have {len(vector)} dimensions; {self.dimensions} are set"
                )
            if not all(map(math.isfinite, vector)) or not any(vector):
                raise ProviderUnusable("the embedding provider answered a vector without a direction")
        return vectors
