"""The ONNX graph of a package: no weights in it, only offsets into the safetensors file.

Each initializer that is a tensor of the weights file becomes FLOAT16 external data at that tensor's offset, followed by a
Cast to float; so one file of weights serves torch, OpenVINO and ONNX Runtime.
"""

import json
import struct
import tempfile
import warnings
from pathlib import Path
from typing import Final

import onnx
import torch
from onnx import TensorProto, helper

from model_zoo.architecture import NETWORK_PREFIX, SmearNetwork
from model_zoo.card import WEIGHTS_FILE
from model_zoo.errors import PackageError

OUTPUTS: Final = ("logits", "features", "activation")


def tensor_ranges(weights: Path) -> dict[str, tuple[str, list[int], int, int]]:
    """Dtype, shape, offset and length in bytes, within the file, of every tensor of a safetensors file."""
    with weights.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    start = 8 + length
    return {
        name: (
            entry["dtype"],
            entry["shape"],
            start + entry["data_offsets"][0],
            entry["data_offsets"][1] - entry["data_offsets"][0],
        )
        for name, entry in header.items()
        if name != "__metadata__"
    }


def export_graph(network: SmearNetwork, *, size: tuple[int, int] = (224, 224)) -> onnx.ModelProto:
    """Export a network in evaluation mode, without auxiliary head, to ONNX with its weights inside.

    Args:
        network: With the very weights that the weights file holds.
        size: Input height and width in pixels.

    Raises:
        PackageError: If torch exports nothing.
    """
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network,
            (torch.zeros(2, 3, *size),),
            dynamo=True,
            optimize=False,  # it would fold batch norm into new weights, which are in no file
            input_names=["image"],
            output_names=list(OUTPUTS),
            dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
            verbose=False,
        )
        if program is None:
            msg = f"torch exported no graph of {network.architecture}"
            raise PackageError(msg)
        path = Path(folder) / "graph.onnx"
        program.save(str(path), external_data=False)
        return onnx.load(str(path))


def write_graph(exported: onnx.ModelProto, path: Path, *, weights: Path) -> int:
    """Write a graph whose initializers point into a weights file.

    Args:
        exported: From `export_graph`; left as it is.
        path: Where to write, in the weights file's folder.
        weights: The safetensors file, already written.

    Returns:
        How many initializers point into the weights file.

    Raises:
        PackageError: If an initializer of some size has no counterpart in the weights file.
    """
    model = onnx.ModelProto()
    model.CopyFrom(exported)
    count = _point_into(model, tensor_ranges(weights))
    _strip(model)
    path.write_bytes(model.SerializeToString())
    return count


def _point_into(model: onnx.ModelProto, ranges: dict[str, tuple[str, list[int], int, int]]) -> int:
    graph = model.graph
    casts, kept, count = [], [], 0
    for tensor in graph.initializer:
        entry = ranges.get(NETWORK_PREFIX + tensor.name)
        if entry is None or tensor.data_type != TensorProto.FLOAT:
            if onnx.numpy_helper.to_array(tensor).size > 64:  # noqa: PLR2004
                msg = f"the graph's initializer {tensor.name} is not in {WEIGHTS_FILE}: the weights would be stored twice"
                raise PackageError(msg)
            kept.append(tensor)
            continue
        dtype, shape, offset, length = entry
        if dtype != "F16" or list(tensor.dims) != shape:
            msg = (
                f"tensor {tensor.name} is {dtype} {shape} in {WEIGHTS_FILE}, {list(tensor.dims)} in the graph"
            )
            raise PackageError(msg)
        half = TensorProto(name=f"{tensor.name}.f16", data_type=TensorProto.FLOAT16, dims=shape)
        half.data_location = TensorProto.EXTERNAL
        for key, value in (("location", WEIGHTS_FILE), ("offset", str(offset)), ("length", str(length))):
            half.external_data.add(key=key, value=value)
        kept.append(half)
        casts.append(
            helper.make_node(
                "Cast", [half.name], [tensor.name], name=f"{tensor.name}.cast", to=TensorProto.FLOAT
            )
        )
        count += 1
    nodes = list(graph.node)
    del graph.node[:], graph.initializer[:]
    graph.node.extend([*casts, *nodes])
    graph.initializer.extend(kept)
    return count


def _strip(model: onnx.ModelProto) -> None:
    """Leave out notes of the exporter: they hold file paths and stack traces of the machine that exported."""
    del model.metadata_props[:], model.graph.metadata_props[:], model.graph.value_info[:]
    model.producer_name, model.doc_string = "hemolink", ""
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in [*model.graph.input, *model.graph.output]:
        del value.metadata_props[:]
    for tensor in model.graph.initializer:
        del tensor.metadata_props[:]
