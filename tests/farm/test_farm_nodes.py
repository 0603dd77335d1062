"""Which cards a farm uses, from what Ray tells of its machines."""

from holo_lite.farm.nodes import demand, places


def node(number, name="", **resources):
    address = f"10.0.0.{number}"
    return {
        "NodeID": f"{number}" * 8,
        "NodeName": name or address,
        "NodeManagerAddress": address,
        "NodeManagerHostname": "box",
        "Resources": {key: float(value) for key, value in resources.items()},
    }


def names(*nodes, **said):
    return [place.name for place in places(nodes, **said)]


def test_every_card_is_a_place_and_machines_without_one_are_none():
    head, two, one = node(1, "head", CPU=8), node(2, "left", CPU=16, GPU=2), node(3, "right", CPU=4, GPU=1)
    assert names(head, two, one) == ["left card 0", "left card 1", "right card 0"]


def test_cards_of_a_machine_know_how_many_share_its_memory():
    assert [place.cards for place in places([node(1, CPU=1, GPU=2), node(2, CPU=1, GPU=1)])] == [2, 2, 1]
    assert [place.cards for place in places([node(1, CPU=8)])] == [1]


def test_without_cards_every_machine_with_processors_is_a_place():
    assert names(node(1, "head"), node(2, "left", CPU=16), node(3, "right", CPU=4)) == ["left", "right"]


def test_on_processors_cards_are_left_to_others():
    assert names(node(2, "left", CPU=16, GPU=2), on_processors=True) == ["left"]


def test_machines_that_are_called_alike_are_told_apart():
    assert names(node(1, CPU=1), node(2, CPU=1), node(3, "box of ours", CPU=1)) == [
        "box 1111",
        "box 2222",
        "box of ours",
    ]


def test_no_two_places_are_one():
    nodes = [node(1, CPU=1, GPU=2), node(2, CPU=1, GPU=2)]
    assert len(set(places(nodes))) == 4


def test_a_process_takes_what_no_other_may_have_and_its_share_of_the_processors():
    cards, bare = node(1, CPU=16, GPU=2), node(2, CPU=6)
    assert demand(places([cards])[0], cards) == {
        "num_gpus": 1,
        "num_cpus": 0,
        "runtime_env": {"env_vars": {"OMP_NUM_THREADS": "8"}},
    }
    assert demand(places([bare])[0], bare) == {"num_cpus": 6}
    few = node(3, CPU=1, GPU=4)
    assert demand(places([few])[0], few)["runtime_env"]["env_vars"] == {"OMP_NUM_THREADS": "1"}
