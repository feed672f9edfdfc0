"""One model of a GGUF file, run by llama.cpp in this process: one answer at a time, the likeliest token each time."""

import ctypes
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from headrace.schemas.errors import SettingsError, StorageError
from headrace.sinks.llama.requests import Asked, Reply, RequestError

CONTEXT: Final = 4_096
"""Tokens that a question and its answer may have together."""
PIECE: Final = 128
"""Tokens of a question that are read at once; after each piece one looks whether the client is still there."""
TRIED: Final = (1, 64)
"""So many of the likeliest tokens the grammar is asked about first: to ask about all takes longer than the model."""
_TOKEN: Final = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])


class GoneError(Exception):
    """The client has hung up, or the server stops: nobody waits for the answer."""


class Engine:
    """A loaded model. name: the file's, without its ending. Not for several threads at once.

    What a question has in common with the one before it from its first token on is not read again.
    """

    def __init__(self, path: Path) -> None:
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # else threads that wait take a core each
        try:
            import llama_cpp  # noqa: PLC0415 an extra, and half a second to load
            from llama_cpp import llama_chat_format  # noqa: PLC0415
        except ImportError as error:
            raise SettingsError("a local model needs llama-cpp-python: pip install 'headrace[local]'") from error
        if not path.is_file():
            raise SettingsError(f"there is no model {path}")
        try:
            # A second thread makes it 40 times slower where another process has the other core.
            threads = {"n_threads": 1, "n_threads_batch": 1}
            self._llama = llama_cpp.Llama(str(path), n_ctx=CONTEXT, n_batch=PIECE, verbose=False, **threads)
        except (ValueError, OSError) as error:
            raise StorageError(f"{path} is no model that llama.cpp reads ({error})") from error
        self.name = path.stem
        self._cpp = llama_cpp
        self._vocabulary = llama_cpp.llama_model_get_vocab(self._llama.model)
        metadata = self._llama.metadata
        marks = {name: self._text_of(getattr(self._llama, f"token_{name}")()) for name in ("eos", "bos")}
        self._formatter = llama_chat_format.Jinja2ChatFormatter(
            metadata.get("tokenizer.chat_template", ""), eos_token=marks["eos"], bos_token=marks["bos"]
        )

    def _text_of(self, token: int) -> str:
        return bytes(self._llama.detokenize([token], special=True)).decode("utf-8", "replace") if token >= 0 else ""

    def answer(self, asked: Asked, gone: Callable[[], bool]) -> Reply:
        """Return the model's answer; raises RequestError where it can't be asked so, GoneError once `gone` holds."""
        tokens = self._tokens(asked)
        with self._grammar(asked.schema) as grammar:
            self._read(tokens, gone)
            made = list[int]()
            while len(made) < asked.max_tokens and len(tokens) + len(made) < CONTEXT:
                token = self._likeliest(grammar)
                if self._cpp.llama_vocab_is_eog(self._vocabulary, token):
                    return self._reply(tokens, made, whole=True)
                made.append(token)
                if gone():
                    raise GoneError
                self._llama.eval([token])
        return self._reply(tokens, made, whole=False)

    def _reply(self, tokens: Sequence[int], made: list[int], *, whole: bool) -> Reply:
        text = bytes(self._llama.detokenize(made)).decode("utf-8", "replace")
        return Reply(text, whole, len(tokens), len(made))

    def _tokens(self, asked: Asked) -> list[int]:
        messages = [{"role": turn.role, "content": turn.content} for turn in asked.turns]
        prompt = self._formatter(messages=messages).prompt
        tokens: list[int] = self._llama.tokenize(prompt.encode(), add_bos=False, special=True)
        if not 0 < len(tokens) < CONTEXT:
            raise RequestError(400, f"the question has {len(tokens)} tokens; less than {CONTEXT} can be read")
        return tokens

    def _read(self, tokens: Sequence[int], gone: Callable[[], bool]) -> None:
        """Read the question from where it differs from what was read last; its last token is always read."""
        known = self._llama.input_ids[: min(self._llama.n_tokens, len(tokens) - 1)]
        differs = np.flatnonzero(known != np.asarray(tokens[: len(known)]))
        self._llama.n_tokens = int(differs[0]) if differs.size else len(known)
        while self._llama.n_tokens < len(tokens):
            if gone():
                raise GoneError
            self._llama.eval(tokens[self._llama.n_tokens : self._llama.n_tokens + PIECE])

    @contextmanager
    def _grammar(self, schema: dict[str, Any] | None) -> Iterator[Any]:
        if schema is None:
            yield None
            return
        rules = self._rules(schema).encode()
        grammar = self._cpp.llama_sampler_init_grammar(self._vocabulary, rules, b"root")
        if not grammar:  # to use it nevertheless would end the process
            raise RequestError(400, "the schema gives no grammar that llama.cpp reads")
        try:
            yield grammar
        finally:
            self._cpp.llama_sampler_free(grammar)

    def _rules(self, schema: dict[str, Any]) -> str:
        from llama_cpp.llama_grammar import json_schema_to_gbnf  # noqa: PLC0415 it is loaded: the class imported it

        try:
            rules = str(json_schema_to_gbnf(json.dumps(schema)))
        except (AssertionError, LookupError, RecursionError, TypeError, ValueError) as error:
            raise RequestError(400, f"the schema can't be served: {error}") from error
        return re.sub(r"(?m)^space ::=.*$", 'space ::= ""', rules)  # blanks between JSON's marks are tokens too

    def _likeliest(self, grammar: Any) -> int:
        """Return the likeliest token that the grammar allows, and tell the grammar of it."""
        found = self._cpp.llama_get_logits_ith(self._llama.ctx, -1)
        logits = np.ctypeslib.as_array(found, shape=(self._llama.n_vocab(),))
        if grammar is None:
            return int(logits.argmax())
        for most in (*TRIED, len(logits)):
            places = np.argpartition(logits, -most)[-most:] if most < len(logits) else np.arange(len(logits))
            allowed = self._allowed(grammar, places, logits[places])
            best = int(allowed.argmax())
            if np.isfinite(allowed[best]):
                token = int(places[best])
                self._cpp.llama_sampler_accept(grammar, token)
                return token
        raise RequestError(400, "the schema's grammar allows no token")

    def _allowed(self, grammar: Any, places: NDArray[np.int64], logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the logits, -inf where the grammar does not allow the token."""
        tokens = np.zeros(len(places), _TOKEN)
        tokens["id"], tokens["logit"] = places, logits
        data = tokens.ctypes.data_as(ctypes.POINTER(self._cpp.llama_token_data))
        array = self._cpp.llama_token_data_array(data=data, size=len(tokens), selected=-1, sorted=False)
        self._cpp.llama_sampler_apply(grammar, ctypes.byref(array))
        return tokens["logit"]

    def close(self) -> None:
        """Free the model."""
        self._llama.close()
