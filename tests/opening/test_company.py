"""How a team of ranks that were started here is ended."""

import pytest
from ranks_here import teams

from holo_lite.opening.company import ENDING, Company
from holo_lite.ranks.forming import Formed


class Started:
    """Ranks that only note how long they were given to end."""

    def __init__(self):
        self.given = []

    def stop(self, patience):
        self.given.append(patience)


@pytest.mark.parametrize(("lost", "given"), [("", ENDING), ("rank 1 (cpu) has not answered for 60 s", 0.0)])
def test_ranks_may_end_by_themselves_unless_one_does_not_answer(lost, given):
    team, _ = teams(2)
    team.watch._lost = lost
    ranks = Started()
    Company(Formed(team, (), ""), ranks).close()
    assert ranks.given == [given]
    assert team.store.check(["task/1"]), "they are told to end in both cases"
