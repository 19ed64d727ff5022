"""JSON and YAML of files that somebody else may have written, within bounds. A leaf.

What is too deep, or too large once its aliases are written out, is refused before anything walks through it. Errors are
those that damaged text has anyway: ValueError for JSON, yaml.YAMLError for YAML, OSError for what is no file.
"""

import errno
import json
import stat
from pathlib import Path
from typing import Any

MOST_DEPTH = 100
MOST_VALUES = 100_000  # of a YAML document, aliases written out


def check_regular(path: str | Path) -> Path:
    """`path`, if a file is there that can be read to its end. OSError for folders, pipes, sockets and devices."""
    path = Path(path)
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "this is no regular file", str(path))
    return path


def read_json(path: str | Path) -> Any:
    """The content of a JSON file. Raises OSError, ValueError."""
    return parse_json(check_regular(path).read_text(encoding="utf-8"))


def parse_json(text: str | bytes) -> Any:
    """The content of a JSON text. Raises ValueError, also for what is nested too deep."""
    try:
        content = json.loads(text)
    except RecursionError:
        raise ValueError(f"nested deeper than {MOST_DEPTH}") from None
    _check_depth(content)
    return content


def read_yaml(path: str | Path) -> Any:
    """The content of a YAML file. Raises OSError, UnicodeDecodeError, yaml.YAMLError."""
    return parse_yaml(Path(path).read_text(encoding="utf-8"))


def parse_yaml(text: str) -> Any:
    """The content of a YAML document. Raises yaml.YAMLError, also for what is too deep or too large, or a key twice."""
    import yaml

    if (fault := _fault_of_yaml(yaml, text)) is not None:
        raise yaml.YAMLError(fault)

    class Loader(yaml.SafeLoader):
        def compose_mapping_node(self, anchor: Any) -> Any:
            node: Any = super().compose_mapping_node(anchor)
            seen: set[tuple[str, str]] = set()
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode) and (key.tag, key.value) in seen:
                    raise yaml.YAMLError(f"the key {key.value!r} stands twice, again in line {key.start_mark.line + 1}")
                seen.add((key.tag, str(key.value)))
            return node

    return yaml.load(text, Loader=Loader)


def _fault_of_yaml(yaml: Any, text: str) -> str | None:
    """Why a document is out of bounds, from its events alone: they do not nest, and aliases are not followed."""
    sizes: dict[str, int] = {}  # of finished anchors, aliases written out
    open_anchors: list[tuple[str | None, int]] = []
    total = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                return f"the alias *{event.anchor} is inside of what it names, or names nothing"
            total += sizes[event.anchor]
        elif isinstance(event, yaml.CollectionStartEvent):
            open_anchors.append((event.anchor, total))
            total += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_anchors.pop()
            if anchor is not None:
                sizes[anchor] = total - before
        elif isinstance(event, yaml.ScalarEvent):
            total += 1
            if event.anchor is not None:
                sizes[event.anchor] = 1
        if len(open_anchors) > MOST_DEPTH:
            return f"nested deeper than {MOST_DEPTH}"
        if total > MOST_VALUES:
            return f"more than {MOST_VALUES:,} values, aliases written out"
    return None


def _check_depth(content: Any) -> None:
    level = [content]
    for _ in range(MOST_DEPTH):
        level = [
            value
            for each in level
            if isinstance(each, dict | list)
            for value in (each.values() if isinstance(each, dict) else each)
        ]
        if not level:
            return
    raise ValueError(f"nested deeper than {MOST_DEPTH}")
