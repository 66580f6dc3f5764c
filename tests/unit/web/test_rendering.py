"""How times are shown: in UTC, for the script to show in the viewer's zone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

from assent.web.rendering import clock, moment


def test_a_time_is_shown_in_utc_and_read_by_the_script() -> None:
    at = datetime(2026, 11, 30, 9, 0, 5, 999, tzinfo=timezone(timedelta(hours=9)))
    utc = "2026-11-30 00:00:05 UTC"
    assert moment(at) == f'<time datetime="2026-11-30T00:00:05+00:00" title="{utc}">{utc}</time>'


def test_the_time_of_an_event_has_its_day_if_that_is_not_today() -> None:
    now = datetime(2026, 11, 30, 0, 0, 5, tzinfo=UTC)
    assert clock(now + timedelta(hours=1), now) == "01:00:05"
    assert clock(now - timedelta(seconds=6), now) == "29 Nov, 23:59:59"
