from datetime import UTC, datetime, timedelta

import pytest

from ratus import times
from ratus.errors import BadRequest

MS = timedelta(milliseconds=1)


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("1h30m", 5_400_000),
        ("300ms", 300),
        ("1.5h", 5_400_000),
        ("-5s", -5000),
        ("+5s", 5000),
        (".5s", 500),
        ("2.s", 2000),
        ("0", 0),
        ("-0", 0),
        ("0s", 0),
        ("1h1h", 7_200_000),
        ("1m0.5s", 60_500),
        ("250µs", 1),  # finer than a millisecond: rounded up
        ("250μs", 1),
        ("250us", 1),
        ("100ns", 1),
        ("1000001ns", 2),
        ("-100ns", 0),
        ("-1.5ms", -1),
        ("2562047h47m16.854775807s", 9_223_372_036_855),
    ],
)
def test_go_durations(text: str, milliseconds: int) -> None:
    assert times.parse_duration(text) == milliseconds * MS


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", 'time: invalid duration ""'),
        ("foo", 'time: invalid duration "foo"'),
        ("h", 'time: invalid duration "h"'),
        (".s", 'time: invalid duration ".s"'),
        ("-", 'time: invalid duration "-"'),
        ("10", 'time: missing unit in duration "10"'),
        ("1.2.3s", 'time: missing unit in duration "1.2.3s"'),
        ("1d", 'time: unknown unit "d" in duration "1d"'),
        ("1H", 'time: unknown unit "H" in duration "1H"'),
        ("5 s", 'time: unknown unit " s" in duration "5 s"'),
        ("99999999h", 'time: invalid duration "99999999h"'),
        ("2562047h47m16.854775808s", 'time: invalid duration "2562047h47m16.854775808s"'),
        ('"', 'time: invalid duration "\\""'),
        ("1" * 5000 + "s", None),
        ("٣s", None),  # digits, but not Go's
    ],
)
def test_what_is_no_go_duration(text: str, message: str | None) -> None:
    with pytest.raises(BadRequest) as caught:
        times.parse_duration(text, "timeout")
    assert caught.value.field == "timeout"
    if message is not None:
        assert str(caught.value) == f"bad request: {message}"


@pytest.mark.parametrize("text", ["0s", "1ms", "999ms", "1s", "1.5s", "1m0s", "1h30m0s", "72h0m0s", "-2m0.25s"])
def test_durations_are_written_as_go_does(text: str) -> None:
    assert times.format_duration(times.parse_duration(text)) == text


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2022-07-29T20:00:00Z", datetime(2022, 7, 29, 20, tzinfo=UTC)),
        ("2022-07-29T20:00:00.1Z", datetime(2022, 7, 29, 20, 0, 0, 100_000, tzinfo=UTC)),
        ("2022-07-29T20:00:00.123456789Z", datetime(2022, 7, 29, 20, 0, 0, 124_000, tzinfo=UTC)),
        ("2022-07-29T20:00:00.123000001Z", datetime(2022, 7, 29, 20, 0, 0, 124_000, tzinfo=UTC)),
        ("2022-07-29T20:00:00.123000000Z", datetime(2022, 7, 29, 20, 0, 0, 123_000, tzinfo=UTC)),
        ("2022-07-29T20:59:59.9999Z", datetime(2022, 7, 29, 21, tzinfo=UTC)),
        ("2022-07-29T20:00:00-00:30", datetime(2022, 7, 29, 20, 30, tzinfo=UTC)),
        ("2022-02-01T00:00:00+08:00", datetime(2022, 1, 31, 16, tzinfo=UTC)),
        ("0001-01-01T00:00:00Z", datetime(1, 1, 1, tzinfo=UTC)),
        ("9999-12-31T23:59:59.999Z", times.MAX_TIME),
    ],
)
def test_rfc3339_times(text: str, moment: datetime) -> None:
    assert times.parse_time(text) == moment


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tomorrow",
        "2022-07-29",
        "2022-07-29T20:00:00",
        "2022-07-29 20:00:00Z",
        "2022-13-29T20:00:00Z",
        "2022-02-30T20:00:00Z",
        "2022-07-29T24:00:00Z",
        "2022-07-29T20:00:60Z",
        "2022-07-29T20:00:00.Z",
        "2022-07-29T20:00:00+25:00",
        "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:59:59.9991Z",
        "9999-12-31T23:59:59-01:00",
        "10000-01-01T00:00:00Z",
        "٢٠٢٢-07-29T20:00:00Z",
    ],
)
def test_what_is_no_rfc3339_time(text: str) -> None:
    with pytest.raises(BadRequest) as caught:
        times.parse_time(text, "scheduled")
    assert caught.value.field == "scheduled"


@pytest.mark.parametrize("milliseconds", [-62135596800000, -1, 0, 1, 1_659_124_800_123, 253402300799999])
def test_milliseconds_there_and_back(milliseconds: int) -> None:
    assert times.to_ms(times.from_ms(milliseconds)) == milliseconds


def test_what_is_finer_is_rounded_up() -> None:
    assert times.to_ms(datetime(1970, 1, 1, 0, 0, 0, 1, tzinfo=UTC)) == 1
    assert times.from_unix(0, 1) == times.from_ms(1)
    assert times.from_unix(-1, 999_999_999) == times.from_ms(0)


@pytest.mark.parametrize(("seconds", "nanoseconds"), [(0, -1), (0, 10**9), (253402300800, 0), (-62135596801, 0)])
def test_timestamps_out_of_range(seconds: int, nanoseconds: int) -> None:
    with pytest.raises(BadRequest):
        times.from_unix(seconds, nanoseconds)


def test_now_is_rounded_down() -> None:
    before = datetime.now(UTC)
    now = times.now()
    assert now.microsecond % 1000 == 0
    assert before - MS < now <= datetime.now(UTC)


def test_after_stays_within_the_years() -> None:
    with pytest.raises(BadRequest, match="9999"):
        times.after(times.MAX_TIME, MS)
