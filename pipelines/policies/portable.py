"""A policy as plain layers, for other runtimes: safetensors with a JSON beside it, ONNX, TorchScript.

Normaliser, features and dueling heads are folded in, as for acting. So what is left is, for observations float32[B, D]:
h = clip(obs, low, high); each layer but the last: h = relu(h @ W + b), or tanh; scores = h @ W + b. Of a prior:
scores += table[clip(ceil(obs @ w + b), 0, A - 1)]. A discrete action is the greatest score's number. A continuous one
is the scores, cut to the bounds. docs/acting.md has it for people.
"""

import hashlib
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from headrace.learners.acting import BoxPolicy, Network, Policy
from headrace.schemas.errors import SettingsError

if TYPE_CHECKING:
    import torch

FORMAT: Final = "headrace policy 1"
Arrays = dict[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Portable:
    """A policy's layers. kind: "values" (of actions), "softmax" (logits) or "normal" (means of continuous actions).

    arrays: observation.low and .high [D], where observations are cut off, infinite where they are not;
    layer_<i>.weight [inputs, outputs] and .bias; of a prior prior.weight [D], .bias [1] and .table [A, A]; of
    normals log_std [A], action.low and action.high [A], infinite where there is no bound.
    """

    kind: str
    tanh: bool
    layers: int
    arrays: Arrays

    @classmethod
    def of(cls, policy: Policy | BoxPolicy) -> "Portable":
        """Take a policy apart; raises SettingsError for rules, which have no layers."""
        network = policy.network
        if not isinstance(network, Network):
            raise SettingsError("these are rules, and have no layers: `headrace rules show TASK@VERSION` writes them")
        arrays: dict[str, Any] = {"observation.low": network.low, "observation.high": network.high}
        for i, (weight, bias) in enumerate(network.layers):
            arrays |= {f"layer_{i}.weight": weight, f"layer_{i}.bias": bias}
        if isinstance(policy, BoxPolicy):
            arrays |= {"log_std": policy.log_std, "action.low": policy.low, "action.high": policy.high}
        elif policy.prior is not None:
            prior = policy.prior
            arrays |= {"prior.weight": prior.weight, "prior.bias": np.array([prior.bias]), "prior.table": prior.table}
        kind = "normal" if isinstance(policy, BoxPolicy) else "softmax" if policy.softmax else "values"
        held = {name: np.ascontiguousarray(array, np.float32) for name, array in arrays.items()}
        return cls(kind, network.tanh, len(network.layers), held)

    @property
    def width(self) -> int:
        """D, the number of observation features."""
        return len(self.arrays["layer_0.weight"])


def to_safetensors(policy: Portable) -> bytes:
    """Return the arrays as a safetensors file."""
    return safetensors.numpy.save(policy.arrays)


def to_json(policy: Portable, told: dict[str, Any]) -> bytes:
    """Describe the safetensors file. told: what the version's record says beside that."""
    described = {
        "format": FORMAT,
        **told,
        "kind": policy.kind,
        "activation": "tanh" if policy.tanh else "relu",
        "layers": policy.layers,
        "prior": "prior.weight" in policy.arrays,
        "sha256": hashlib.sha256(to_safetensors(policy)).hexdigest(),
    }
    return json.dumps(described, indent=2, ensure_ascii=False).encode() + b"\n"


def to_onnx(policy: Portable) -> bytes:
    """Return an ONNX model: obs float32[B, D] -> action (int64[B] or float32[B, A]) and scores float32[B, A].

    Raises SettingsError where the package is missing.
    """
    try:
        from onnx import TensorProto, checker, helper, numpy_helper  # noqa: PLC0415 an optional package
    except ModuleNotFoundError as missing:
        raise SettingsError(f"export to ONNX needs a package: pip install 'headrace[onnx]' ({missing})") from missing
    shape: list[str | int | None]
    discrete, actions = policy.kind != "normal", policy.arrays[f"layer_{policy.layers - 1}.bias"].size
    kind, shape = TensorProto.INT64 if discrete else TensorProto.FLOAT, ["B"] if discrete else ["B", actions]
    constants = dict(policy.arrays)
    graph = helper.make_graph(
        [helper.make_node(*node[:3], **node[3]) for node in _nodes(policy, constants)],
        "policy",
        [helper.make_tensor_value_info("obs", TensorProto.FLOAT, ["B", policy.width])],
        [
            helper.make_tensor_value_info("action", kind, shape),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["B", actions]),
        ],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="headrace"
    )
    checker.check_model(model, full_check=True)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


_Node = tuple[str, list[str], list[str], dict[str, Any]]


def _nodes(policy: Portable, constants: dict[str, NDArray[Any]]) -> list[_Node]:
    """Return ONNX's steps: operator, inputs, outputs, attributes; the constants that they need more are added."""
    nodes: list[_Node] = [
        ("Max", ["obs", "observation.low"], ["raised"], {}),
        ("Min", ["raised", "observation.high"], ["within"], {}),
    ]
    hidden, last = "within", policy.layers - 1
    scores = "sums" if "prior.weight" in policy.arrays else "scores"
    for i in range(policy.layers):
        nodes.append(("MatMul", [hidden, f"layer_{i}.weight"], [f"product_{i}"], {}))
        nodes.append(("Add", [f"product_{i}", f"layer_{i}.bias"], [scores if i == last else f"sum_{i}"], {}))
        if i < last:
            hidden = f"hidden_{i}"
            nodes.append(("Tanh" if policy.tanh else "Relu", [f"sum_{i}"], [hidden], {}))
    if scores == "sums":
        bounds = np.array([0, len(policy.arrays["prior.table"]) - 1], np.float32)
        constants |= {"first": bounds[:1].reshape(()), "last": bounds[1:].reshape(())}
        nodes += [
            ("MatMul", ["obs", "prior.weight"], ["rule"], {}),
            ("Add", ["rule", "prior.bias"], ["wanted"], {}),
            ("Ceil", ["wanted"], ["whole"], {}),
            ("Clip", ["whole", "first", "last"], ["place"], {}),
            ("Cast", ["place"], ["row"], {"to": 7}),  # int64
            ("Gather", ["prior.table", "row"], ["logits"], {"axis": 0}),
            ("Add", ["sums", "logits"], ["scores"], {}),
        ]
    if policy.kind == "normal":
        return [
            *nodes,
            ("Max", ["scores", "action.low"], ["above"], {}),
            ("Min", ["above", "action.high"], ["action"], {}),
        ]
    return [*nodes, ("ArgMax", ["scores"], ["action"], {"axis": 1, "keepdims": 0})]


def to_torchscript(policy: Portable) -> bytes:
    """Return a TorchScript file: a module that gives (action, scores) for obs, as the ONNX model does."""
    import torch  # noqa: PLC0415 it takes a second to load

    class Module(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name, array in policy.arrays.items():
                self.register_buffer(name.replace(".", "_"), torch.from_numpy(array.copy()))

        def forward(self, obs: "torch.Tensor") -> tuple["torch.Tensor", "torch.Tensor"]:
            def of(name: str) -> "torch.Tensor":
                return self.get_buffer(name.replace(".", "_"))

            hidden = torch.minimum(torch.maximum(obs, of("observation.low")), of("observation.high"))
            for i in range(policy.layers):
                hidden = hidden @ of(f"layer_{i}.weight") + of(f"layer_{i}.bias")
                if i < policy.layers - 1:
                    hidden = torch.tanh(hidden) if policy.tanh else torch.relu(hidden)
            if "prior.weight" in policy.arrays:
                wanted = torch.ceil(obs @ of("prior.weight") + of("prior.bias"))
                hidden = hidden + of("prior.table")[wanted.clamp(0, hidden.shape[1] - 1).long()]
            if policy.kind == "normal":
                return torch.minimum(torch.maximum(hidden, of("action.low")), of("action.high")), hidden
            return hidden.argmax(dim=1), hidden

    file = BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch advises against TorchScript; who asks for it has a reason
        traced: Any = torch.jit.trace(Module(), torch.zeros(2, policy.width))  # type: ignore[no-untyped-call]
        torch.jit.save(traced, file)
    return file.getvalue()


FORMATS: Final[dict[str, Callable[[Portable], bytes]]] = {
    ".safetensors": to_safetensors,
    ".onnx": to_onnx,
    ".pt": to_torchscript,
}
"""By the file's suffix."""
