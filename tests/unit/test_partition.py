import pytest

from headrace.schemas.partition import group_of, murmur2, partition_of

JAVA = {  # kafka/clients: UtilsTest.testMurmur2
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize(("data", "signed"), JAVA.items())
def test_murmur2_as_java_has_it(data, signed):
    assert murmur2(data) == signed % 2**32
    assert partition_of(data, 1_000) == (signed & 0x7FFFFFFF) % 1_000


def test_every_length_of_the_tail():
    """The last one to three bytes count, high ones too."""
    assert len({murmur2(b"\xff" * n) for n in range(9)}) == 9
    assert len({murmur2(b"abcd" + bytes([b])) for b in range(256)}) == 256


@pytest.mark.parametrize("partitions", [1, 2, 4, 8, 16])
def test_a_group_lives_in_one_partition(partitions):
    """Where the partitions divide the groups, an agent's group tells its partition."""
    for i in range(500):
        name = f"agent-{i}"
        assert group_of(name, 64) % partitions == partition_of(name.encode(), partitions)


def test_groups_are_spread():
    counts = [0] * 64
    for i in range(6_400):
        counts[group_of(f"agent-{i:05d}", 64)] += 1
    assert min(counts) > 60
    assert max(counts) < 145
