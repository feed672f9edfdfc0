"""Parameters that several routes have."""

from typing import Annotated

from fastapi import Body, Path, Query

from headrace.schemas.records import DIRECTIVE_PATTERN, ID_PATTERN, MAX_TS_MS

Task = Annotated[str, Path(pattern=ID_PATTERN)]
ReportId = Annotated[str, Path(pattern=ID_PATTERN)]
DirectiveId = Annotated[str, Path(pattern=DIRECTIVE_PATTERN)]
Number = Annotated[int, Path(ge=1, le=999_999_999)]
Reason = Annotated[str, Body(min_length=1, max_length=500, pattern=r"\S", description="Why; it stands in the record.")]
ReasonAlone = Annotated[
    str, Body(embed=True, min_length=1, max_length=500, pattern=r"\S", description="Why; it stands in the record.")
]
Seen = Annotated[int | None, Body(description="`ts` of the decision that you saw last: a later one is a conflict.")]
Agent = Annotated[str | None, Query(pattern=ID_PATTERN, description="Only this agent's.")]
From = Annotated[int | None, Query(alias="from", ge=0, le=MAX_TS_MS, description="Only from this time on, ms UTC.")]
To = Annotated[int | None, Query(ge=0, le=MAX_TS_MS, description="Only before this time, ms UTC.")]
Cursor = Annotated[str | None, Query(max_length=400, description="`next` of the page before.")]
Limit = Annotated[int, Query(ge=1, le=500, description="At most so many items a page.")]
