"""The errors that headrace raises on purpose; drivers' errors are mapped onto them at the adapters.

Each is a HeadraceError; a MissingChunkError is a CorruptDataError too, a HiddenRowsError a StorageError, an
UnknownRecordError a SettingsError, an UnreadableAnswerError a LanguageModelError.
"""


class HeadraceError(Exception):
    """Root of all errors that headrace raises on purpose."""


class SettingsError(HeadraceError):
    """An option, a variable or a URL that cannot be used."""


class RejectedDataError(HeadraceError):
    """Data of which every line would be rejected."""


class InvalidTaskError(HeadraceError):
    """A task file that breaks the contract."""


class InvalidTokenError(HeadraceError):
    """A link to unsubscribe by that was not made here, or that was cut."""


class InvalidRulesError(HeadraceError):
    """A file of rules that can't be read as one, or not for its task."""


class UnknownTaskError(HeadraceError):
    """A task that was never added."""


class UnknownTopicError(HeadraceError):
    """A topic that was never created (`headrace init` creates it)."""


class UnknownPolicyError(HeadraceError):
    """A policy version that the store does not hold."""


class UnknownRecordError(SettingsError):
    """A directive that was never given, or a message that was never rejected."""


class UnavailableError(HeadraceError):
    """A dependency that is down: retried with back-off, never fatal by itself."""


class StorageError(HeadraceError):
    """A disk that is full, a database that is read-only or damaged."""


class HiddenRowsError(StorageError):
    """Rows that a store took and does not show: a later deletion or write lies over them."""


class LayoutMismatchError(HeadraceError):
    """An index that was written under another layout."""


class CommitConflictError(HeadraceError):
    """Another process moved the commit; what this one holds is stale, and it must join again."""


class LogGapError(HeadraceError):
    """Rows that were not yet indexed are gone from the log."""


class CorruptDataError(HeadraceError):
    """A chunk, checkpoint or weights file whose checksum does not match."""


class MissingChunkError(CorruptDataError):
    """A chunk that the index does not hold: it was never written, or its time to live is over."""


class UngroundedReportError(HeadraceError):
    """A narrator's sentence that its facts do not bear out."""


class LanguageModelError(HeadraceError):
    """A language model that refuses, or whose answer is not what was asked for."""


class UnreadableAnswerError(LanguageModelError):
    """A language model's answer that is not of the schema that it was asked by."""


class LearnerDivergedError(HeadraceError):
    """A loss or weight that is not finite."""


class EnvironmentFailedError(HeadraceError):
    """An environment that raises, or that nothing can be learned in."""
