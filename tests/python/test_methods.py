"""Methods chosen by name, as the package lists them; the bound on acceptance."""

import pytest

import forerun

POLICIES = "auto chain static eagle2 opt-tree dyspec rsd-c rsd-s greedy-draft gumbel"
EXACT = "match rejection specinfer kseq swor greedy-draft block traversal"
LOSSY = "typical lenient judge"


def test_policies_and_verifiers_are_listed_with_what_they_promise():
    assert {method.name for method in forerun.policies()} == set(POLICIES.split())
    verifiers = {method.name: method.lossless for method in forerun.verifiers()}
    assert verifiers == dict.fromkeys(EXACT.split(), True) | dict.fromkeys(LOSSY.split(), False)
    for method in forerun.policies() + forerun.verifiers():
        assert method.summary
        assert method.paper or method.name == "auto"


def test_the_bound_of_one_draw_is_the_overlap():
    p, q = [6, 3, 1], [0.3, 0.3, 0.4]
    assert forerun.optimal_acceptance(p, q) == pytest.approx(0.7, abs=1e-9)
    assert forerun.optimal_acceptance(p, q, 1, replacement=True) == pytest.approx(0.7)
    # Two independent draws: the least of 1 + p(H) - q(H)^2 is at H = {1, 2}.
    assert forerun.optimal_acceptance(p, q, 2, replacement=True) == pytest.approx(1 + 0.4 - 0.49)
    assert forerun.optimal_acceptance(p, q, 3) == pytest.approx(1.0)


@pytest.mark.parametrize(("p", "q", "n"), [([1], [1, 2], 1), ([1, -1], [1, 1], 1), ([1, 1], [0, 0], 1), ([1], [1], 0)])
def test_a_wrong_law_is_refused(p, q, n):
    with pytest.raises(ValueError, match="optimal acceptance"):
        forerun.optimal_acceptance(p, q, n)
