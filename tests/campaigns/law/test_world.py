"""Worlds are plain data, made from a seed."""

from __future__ import annotations

import json

import pytest

from tests.campaigns.law.world import World

SEEDS = range(20)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_world_is_the_same_for_the_same_seed_and_survives_json(seed: int) -> None:
    world = World.from_seed(seed)
    assert world == World.from_seed(seed) == World.from_json(json.loads(json.dumps(world.to_json())))


@pytest.mark.parametrize("seed", SEEDS)
def test_places_come_after_those_that_they_need(seed: int) -> None:
    made: set[str] = set()
    for place in World.from_seed(seed).places:
        assert made.issuperset(place.after)
        made.add(place.name)


def test_seeds_differ() -> None:
    assert len({json.dumps(World.from_seed(seed).to_json()["places"]) for seed in SEEDS}) > 1


def test_places_that_a_kernel_cannot_make_are_left_out_and_named() -> None:
    world = World.from_seed(1).without({"xfs": "no such device"})
    assert "xfs" not in {place.name for place in world.places}
    assert world.missing == ("xfs: no such device",)


def test_a_script_names_places_and_those_that_share_their_files() -> None:
    world = World.from_seed(1)
    named = world.named("open /w/btr/a/x O_RDONLY\n")
    assert set(named) == {"btr", "btr-a", "btr-b", "btr-c", "btr-s", "sub"}
    of = {place.name: place.after for place in world.places}
    assert set(world.named("mkdir /w/ro 0755\n")).issuperset({"ro", *of["ro"]})
    assert world.named("open /w/roo O_RDONLY\nunlink /etc/w/homes\n") == []
    assert world.named("symlink /w/home/x y\n") == ["home"]
