"""BFD with the routers that neighbours run."""

import pytest

from bench import bfd


@pytest.mark.real
@pytest.mark.parametrize("router", list(bfd.ROUTERS))
def test_sessions_come_up_stay_up_and_find_a_silent_router(router: str) -> None:
    held = bfd.run(bfd.Options(minutes=0.05, trials=2, routers=(router,)), print)[0]
    assert held.changes_under_load == 0
    assert held.missed == 0
    assert held.trials == 2
    # Three intervals after the neighbour's last packet, which was up to one interval before it fell silent.
    assert held.detection_min_ms >= bfd.INTERVAL_MS * (bfd.MULTIPLIER - 1) - 5
    assert held.detection_max_ms < 1000
