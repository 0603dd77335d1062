"""How a team of ranks that were started here is ended."""

import pytest
from ranks_here import teams

from holo_lite.opening.company import ENDING, Company
from holo_lite.ranks.forming import Formed
from holo_lite.ranks.group import Parted


class Started:
    """Ranks that only note how long they were given to end, and what they were told by then."""

    def __init__(self, team):
        self.team, self.given = team, []

    def stop(self, patience):
        self.given.append((patience, self.team.store.check(["task/1"])))


def ended():
    raise Parted("rank 1 (cpu) has ended (killed by signal 9)")


@pytest.mark.parametrize("lost", ["nobody", "one that is silent", "one that has ended"])
def test_ranks_may_end_by_themselves_unless_one_is_lost(lost):
    """It would not end, and others may wait for it."""
    team, _ = teams(2)
    if lost == "one that is silent":
        team.watch._lost = "rank 1 (cpu) has not answered for 60 s"
    if lost == "one that has ended":
        team.look = ended
    ranks = Started(team)
    Company(Formed(team, (), ""), ranks).close()
    assert ranks.given == [(ENDING if lost == "nobody" else 0.0, True)]
