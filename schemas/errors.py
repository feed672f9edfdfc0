"""The errors that headrace raises on purpose; drivers' errors are mapped onto them at the adapters.

HeadraceError
├── SettingsError            an option, a variable or a URL that cannot be used
├── InvalidTaskError         a task file that breaks the contract
├── UnknownTaskError         a task that was never added
├── UnknownTopicError        a topic that was never created (`headrace init`)
├── UnknownPolicyError       a policy version that the store does not hold
├── UnavailableError         a dependency that is down: retried with back-off, never fatal by itself
├── StorageError             a disk that is full, a database that is read-only or damaged
├── LayoutMismatchError      an index that was written under another layout
├── CommitConflictError      another process moved the commit: this one must join again
├── LogGapError              rows that were not yet indexed are gone from the log
├── CorruptDataError         a chunk, checkpoint or weights file whose checksum does not match
│   └── MissingChunkError    a chunk that the index does not hold (any more)
├── UngroundedReportError    a narrator's sentence that its facts do not bear out
├── LanguageModelError       a model that refuses, or whose answer is not what was asked for
├── LearnerDivergedError     a loss or weight that is not finite
└── EnvironmentFailedError   an environment that raises, or that nothing can be learned in
"""


class HeadraceError(Exception):
    """Root of all errors that headrace raises on purpose."""


class SettingsError(HeadraceError):
    """An option, a variable or a URL that cannot be used."""


class InvalidTaskError(HeadraceError):
    """A task file that breaks the contract."""


class UnknownTaskError(HeadraceError):
    """A task that was never added."""


class UnknownTopicError(HeadraceError):
    """A topic that was never created."""


class UnknownPolicyError(HeadraceError):
    """A policy version that the store does not hold."""


class UnavailableError(HeadraceError):
    """A dependency that is down; callers retry with back-off."""


class StorageError(HeadraceError):
    """A disk that is full, a database that is read-only or damaged."""


class LayoutMismatchError(HeadraceError):
    """An index that was written under another layout."""


class CommitConflictError(HeadraceError):
    """Another process moved the commit; what this one holds is stale."""


class LogGapError(HeadraceError):
    """Rows that were not yet indexed are gone from the log."""


class CorruptDataError(HeadraceError):
    """Bytes whose checksum does not match."""


class MissingChunkError(CorruptDataError):
    """A chunk that the index does not hold: it was never written, or its time to live is over."""


class UngroundedReportError(HeadraceError):
    """A narrator's sentence that its facts do not bear out."""


class LanguageModelError(HeadraceError):
    """A language model that refuses, or whose answer is not what was asked for."""


class LearnerDivergedError(HeadraceError):
    """A loss or weight that is not finite."""


class EnvironmentFailedError(HeadraceError):
    """An environment that raises, or that nothing can be learned in."""
