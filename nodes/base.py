"""Base class of the pack's nodes."""

from __future__ import annotations

import functools
import inspect
from typing import Any

from comfy_api.latest import io

from ..host.inputs import check_inputs


class Node(io.ComfyNode):
    """A node that checks its inputs before it runs, because links bypass ComfyUI's own validation."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        execute = cls.execute.__func__
        if hasattr(execute, "__wrapped__"):  # ComfyUI runs a clone of each node class, which has the checks already
            return
        parameters = inspect.signature(execute).parameters
        defaults = {name: parameter.default for name, parameter in parameters.items()}

        @functools.wraps(execute)
        def checked(node: type[Node], *args: Any, **kwargs: Any) -> io.NodeOutput:
            inputs = dict(zip([*parameters][1:], args, strict=False)) | kwargs
            connected = {name: value for name, value in inputs.items() if value is not defaults.get(name)}
            schema = _schema(cls)
            # ComfyUI passes on links to inputs that do not exist.
            if surplus := inputs.keys() - {each.id for each in schema.inputs}:
                raise ValueError(
                    f"{schema.display_name} has no input {', '.join(sorted(surplus))}: remove it from the prompt."
                )
            check_inputs(schema.display_name or schema.node_id, schema.inputs, connected, listed=schema.is_input_list)
            return execute(node, *args, **kwargs)

        cls.execute = classmethod(checked)  # pyright: ignore[reportAttributeAccessIssue]


@functools.cache
def _schema(node: type[Node]) -> io.Schema:
    return node.define_schema()
