"""What routes take and give, in OpenAPI's words: records by reference, as msgspec describes them."""

from typing import Any, Final

from headrace.pipelines.serve.body import JSON

TEXT: Final = {"type": "string"}
BYTES: Final = {"type": "string", "format": "binary"}

Responses = dict[int | str, dict[str, Any]]


def reference(kind: type) -> dict[str, Any]:
    """Return the reference to a record's schema; `openapi.KINDS` lists those that there are."""
    return {"$ref": f"#/components/schemas/{kind.__name__}"}


def page_of(kind: type) -> dict[str, Any]:
    """Return the schema of a page of records."""
    items = {"type": "array", "items": reference(kind)}
    following = {"type": ["string", "null"], "description": "The cursor of the page after it; null at the end."}
    return {"type": "object", "required": ["items", "next"], "properties": {"items": items, "next": following}}


def gives(content: dict[str, Any] | type, about: str = "As asked for.", status: int = 200) -> Responses:
    """Return the answer of a route: of JSON by its schema or record, of others schemas by media type."""
    if isinstance(content, type):
        content = reference(content)
    by_media = content if any("/" in name for name in content) else {JSON: content}
    return {status: {"description": about, "content": {name: {"schema": one} for name, one in by_media.items()}}}


def lasts(content: dict[str, Any] | type, about: str = "As asked for.") -> Responses:
    """Return the answer of a route that has an ETag."""
    return {**gives(content, about), 304: {"description": "As the client has it, by `If-None-Match`."}}


def takes(content: dict[str, Any] | type) -> dict[str, Any]:
    """Return the body of a route, as `gives` has it."""
    return {"requestBody": {"required": True, "content": gives(content)[200]["content"]}}
