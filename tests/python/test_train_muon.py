"""Muon over blocks of rows, against PyTorch's own."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch")

from forerun.train.muon import BlockMuon, orthogonal  # noqa: E402

SHAPES = [(96, 64), (64, 96), (60, 40)]


def slopes(matrix, step):
    return torch.randn(matrix.shape, generator=torch.Generator().manual_seed(step))


def walked(make, parts):
    """Parameters after some steps of an optimiser, one for each list of `parts`, put together."""
    parameters = [[torch.nn.Parameter(part.clone()) for part in matrix] for matrix in parts]
    optimiser = make([part for matrix in parameters for part in matrix])
    for step in range(4):
        for matrix in parameters:
            whole = torch.cat([part.data for part in matrix])
            for part, slope in zip(matrix, slopes(whole, step).split([len(part) for part in matrix]), strict=True):
                part.grad = slope.clone()
        optimiser.step()
    return [torch.cat([part.data for part in matrix]) for matrix in parameters]


@pytest.mark.parametrize(("block_rows", "counts"), [(1000, (1, 1, 1)), (32, (3, 2, 2)), (17, (6, 4, 4))])
def test_a_block_is_a_matrix_of_its_own_for_muon(block_rows, counts):
    begin = [torch.randn(shape, generator=torch.Generator().manual_seed(9)) for shape in SHAPES]
    whole = [[matrix] for matrix in begin]
    blocks = [list(matrix.chunk(count)) for matrix, count in zip(begin, counts, strict=True)]
    found = walked(lambda parameters: BlockMuon(parameters, 0.1, 0.02, block_rows), whole)
    wanted = walked(
        lambda parameters: torch.optim.Muon(parameters, lr=0.1, weight_decay=0.02, adjust_lr_fn="original"), blocks
    )
    for ours, theirs, before in zip(found, wanted, begin, strict=True):
        assert (ours - theirs).norm() < 0.02 * (theirs - before).norm()  # both round to bf16 on the way


def test_directions_have_singular_values_near_one():
    for shape in [(2, 40, 90), (2, 90, 40)]:
        blocks = torch.randn(shape, generator=torch.Generator().manual_seed(3)) * 1e-6
        values = torch.linalg.svdvals(orthogonal(blocks).float())
        assert values.shape[1] == 40
        assert 0.5 < values.min() <= values.max() < 1.3
    assert not orthogonal(torch.zeros(1, 4, 6)).any()
