"""What tests of several learners need."""

import pytest


@pytest.fixture
def one_thread():
    """Bits are promised on one thread of torch's."""
    import torch  # noqa: PLC0415 it takes seconds to load, and most of these tests need none of it

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
