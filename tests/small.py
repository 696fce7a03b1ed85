"""Arguments for a network of each recipe that trains in a moment."""

SMALL = {
    "srcnn": {},
    "fsrcnn": {},
    "srresnet": {"features": 8, "blocks": 1},
    "srgan": {"features": 8, "blocks": 1},
    "swinir": {"embed": 12, "depths": (2,), "heads": (2,)},
    **{
        name: {"width": 8, "encoder": (1,), "middle": 1, "decoder": (1,)} for name in ("plainnet", "baseline", "nafnet")
    },
    **{
        f"diffir-{name}": {"dim": 8, "blocks": (1, 1, 1, 1), "refinement": 1, "encoder": 1}
        for name in ("constant", "s1", "s2", "s2-separate")
    },
}
