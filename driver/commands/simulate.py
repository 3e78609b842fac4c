"""`oceanrecords simulate`: history and activity of the operational system."""

from __future__ import annotations

import dataclasses
import inspect
import random
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from functools import partial, wraps
from typing import Annotated, Any

import psycopg
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from base import output, state
from base.connection import connect
from base.errors import EXIT_USAGE, UserError
from base.options import JsonOption, duration
from base.output import console, emit, error_console
from simulator import actions, burst, seed
from simulator.actions import Played, TickPlan, TickResult
from simulator.stopping import StopSignal

app = typer.Typer(
    help="Fill the operational system with history, and simulate its business.",
    no_args_is_help=True,
    epilog="Start with: oceanrecords simulate seed, then: oceanrecords simulate tick",
)

_PLAN = TickPlan()

CountOption = Annotated[int, typer.Option("--count", min=1, help="How many times.")]
SeedOption = Annotated[
    int | None,
    typer.Option(
        "--seed", metavar="S", help="Seed of the random numbers; otherwise a new one each time."
    ),
]
CustomerOption = Annotated[
    int | None, typer.Option("--customer", metavar="ID", help="Customer; otherwise any.")
]
ClockOption = Annotated[
    str | None,
    typer.Option(
        "--clock",
        metavar="TIME",
        help="Business time, such as '2025-06-01 09:00' (UTC without an offset); otherwise now.",
    ),
]


# History -----------------------------------------------------------------------------------------


@app.command(
    "seed",
    epilog="Examples: oceanrecords simulate seed --orders 200000 --months 36 · "
    "oceanrecords simulate seed --until 2025-06-30 · oceanrecords simulate seed --reset --until 7",
)
def seed_command(
    context: typer.Context,
    orders: Annotated[
        int,
        typer.Option("--orders", metavar="N", help="Number of orders; all else follows from it."),
    ] = 20_000,
    months: Annotated[
        int, typer.Option("--months", metavar="M", help="Length of the history.")
    ] = 24,
    chance: Annotated[
        int, typer.Option("--seed", metavar="S", help="Same number, same rows.")
    ] = 42,
    until: Annotated[
        str | None,
        typer.Option(
            "--until",
            metavar="DATE",
            help="Day before which the history ends: 2025-06-30, or a number of days back; "
            "otherwise today (UTC).",
        ),
    ] = None,
    reset: Annotated[
        bool, typer.Option("--reset", help="Empty the operational system first.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Fill the empty operational system with history, in one transaction.

    The history has growth, seasons, weekdays, best-sellers and a long tail, price changes, lost
    orders, and delivery times by country. The newest orders are still open.
    """
    ends_on = _day(until) if until is not None else None
    with (
        _connection(context, "oceanrecords seed") as connection,
        progress_bar(error_console) as advance,
    ):
        result = seed.seed(
            connection,
            orders=orders,
            months=months,
            seed=chance,
            until=ends_on,
            reset=reset,
            progress=advance,
        )
    emit(dataclasses.asdict(result), as_json=as_json, render=_render_seed)


def _render_seed(answer: dict[str, Any]) -> None:
    last_day = answer["ends_on"] - timedelta(days=1)
    table = output.table("", "rows")
    for name in ("orders", "order_lines", "customers", "addresses", "products", "suppliers"):
        table.add_row(name.replace("_", " "), answer[name])
    console.print(f"History from {answer['starts_on']} to {last_day}", style="title")
    console.print(table)
    console.print("Next: oceanrecords run · oceanrecords simulate tick", style="quiet")


def _day(text: str) -> date:
    """Read a day: a date, or a number of days back from today (UTC)."""
    today = datetime.now(UTC).date()
    try:
        if re.fullmatch(r"\d{1,5}", text):
            return today - timedelta(days=int(text))
        return date.fromisoformat(text)
    except (ValueError, OverflowError) as error:
        raise UserError(
            f'--until "{text}" is neither a date nor a number of days.',
            "Write 2025-06-30, or 30 for thirty days back.",
            EXIT_USAGE,
        ) from error


@contextmanager
def progress_bar(shown_on: Console) -> Iterator[seed.Progress]:
    """Show a progress bar where there is a terminal."""
    with Progress(
        TextColumn("[progress.description]{task.description:<14}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        console=shown_on,
        transient=True,
        disable=not shown_on.is_terminal,
    ) as progress:
        task = progress.add_task("locking", total=1.0)

        def advance(step: str, share: float) -> None:
            progress.update(task, description=step, completed=share)

        yield advance


# Single actions ----------------------------------------------------------------------------------


@app.command(
    "place-order",
    epilog="Examples: oceanrecords simulate place-order --count 10 · "
    "oceanrecords simulate place-order --customer 5 --product 17 --product 23",
)
def place_order(
    context: typer.Context,
    count: CountOption = 1,
    customer: CustomerOption = None,
    product: Annotated[
        list[int] | None,
        typer.Option("--product", metavar="ID", help="Product; may be repeated."),
    ] = None,
    chance: SeedOption = None,
    clock: ClockOption = None,
    as_json: JsonOption = False,
) -> None:
    """Place orders."""
    action = partial(actions.place_order, customer_id=customer, product_ids=product or None)
    _perform(context, action, count, chance, clock, as_json, "No order could be placed.")


@app.command(
    "update-order",
    epilog="Examples: oceanrecords simulate update-order --count 20 · "
    "oceanrecords simulate update-order --order 17 --to cancelled",
)
def update_order(
    context: typer.Context,
    count: CountOption = 1,
    order: Annotated[
        int | None,
        typer.Option("--order", metavar="ID", help="Order; otherwise one that has waited long."),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="STATUS", help="New status; otherwise the next one."),
    ] = None,
    chance: SeedOption = None,
    clock: ClockOption = None,
    as_json: JsonOption = False,
) -> None:
    """Advance orders: paid, shipped, delivered; or cancelled, refunded."""
    if order is not None and to is not None and count > 1:
        raise UserError(
            "An order enters a status once.", "Leave out --count, or --order.", EXIT_USAGE
        )
    action = partial(actions.update_order, order_id=order, to=to)
    _perform(context, action, count, chance, clock, as_json, "No order can be advanced.")


@app.command(
    "add-address",
    epilog="Examples: oceanrecords simulate add-address · "
    "oceanrecords simulate add-address --customer 5 --shared",
)
def add_address(
    context: typer.Context,
    count: CountOption = 1,
    customer: CustomerOption = None,
    shared: Annotated[
        bool | None,
        typer.Option("--shared/--new", help="An existing or a new one; otherwise left to chance."),
    ] = None,
    chance: SeedOption = None,
    clock: ClockOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add addresses to customers."""
    action = partial(actions.add_address, customer_id=customer, shared=shared)
    _perform(context, action, count, chance, clock, as_json, "No address could be added.")


@app.command(
    "change-price",
    epilog="Examples: oceanrecords simulate change-price --count 5 · "
    "oceanrecords simulate change-price --product 17 --price 24.99",
)
def change_price(
    context: typer.Context,
    count: CountOption = 1,
    product: Annotated[
        int | None, typer.Option("--product", metavar="ID", help="Product; otherwise any.")
    ] = None,
    price: Annotated[
        str | None,
        typer.Option("--price", metavar="EUROS", help="New price; otherwise somewhat up or down."),
    ] = None,
    chance: SeedOption = None,
    clock: ClockOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change prices of products."""
    new = _price(price) if price is not None else None
    action = partial(actions.change_price, product_id=product, price=new)
    _perform(context, action, count, chance, clock, as_json, "There is no active product.")


def _price(text: str) -> Decimal:
    try:
        price = Decimal(text)
    except InvalidOperation:
        price = Decimal("NaN")
    if not price.is_finite():
        raise UserError(f'--price "{text}" is no amount.', "Write 24.99.", EXIT_USAGE)
    return price


def _perform(
    context: typer.Context,
    action: actions.Action,
    count: int,
    chance: int | None,
    clock: str | None,
    as_json: bool,
    nothing: str,
) -> None:
    """Play an action several times, each in its own transaction, and print each."""
    rng = random.Random(chance)
    done: list[Played] = []
    with _connection(context) as connection:
        moment = actions.business_clock(connection, _moment(clock))
        for _ in range(count):
            played = actions.perform(connection, action, rng, moment)
            if played is None:
                break
            done.append(played)
            if not as_json:
                console.print(played.summary)
            if moment is not None:
                moment += timedelta(seconds=1)
    if as_json:
        output.print_json([{"action": one.action} | one.facts for one in done])
    if not done:
        raise UserError(nothing, "oceanrecords simulate tick plays a whole round.")


# Rounds ------------------------------------------------------------------------------------------


def _with_plan(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command an option for each number of a round, and the plan that they make."""
    signature = inspect.signature(command, eval_str=True)
    own = [one for name, one in signature.parameters.items() if name != "plan"]
    numbers = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=getattr(_PLAN, name),
            annotation=Annotated[
                float, typer.Option(f"--{name}", help=actions.ACTIONS_OF_PLAN[name][1])
            ],
        )
        for name in (one.name for one in dataclasses.fields(_PLAN))
        if name in actions.ACTIONS_OF_PLAN
    ]

    @wraps(command)
    def call(**given: Any) -> None:
        chosen: dict[str, Any] = {one.name: given.pop(one.name) for one in numbers}
        command(**given, plan=dataclasses.replace(_PLAN, **chosen))

    first, *rest = (one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own)
    parameters = [first, *numbers, *rest]
    call.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {one.name: one.annotation for one in parameters}
    return call


@app.command(
    epilog="Examples: oceanrecords simulate tick · "
    "oceanrecords simulate tick --orders 100 --prices 0 · "
    "oceanrecords simulate tick --clock '2030-01-01 09:00' --span 8h",
)
@_with_plan
def tick(
    context: typer.Context,
    plan: TickPlan,
    span: Annotated[
        str,
        typer.Option("--span", metavar="TIME", help="Business time of the round under --clock."),
    ] = "1h",
    chance: SeedOption = None,
    clock: ClockOption = None,
    as_json: JsonOption = False,
) -> None:
    """Play one round of business. Each action is one transaction.

    A fraction such as 0.2 means one in five rounds.
    """
    plan = dataclasses.replace(plan, span=duration("--span", span, 0, 366 * 86400))
    done: list[Played] = []
    with _connection(context) as connection:
        result = actions.tick(
            connection, plan, random.Random(chance), _moment(clock), on_action=done.append
        )
    if as_json:
        played = [{"action": one.action} | one.facts for one in done]
        output.print_json(_answer(result) | {"played": played})
    else:
        _render_result(result)


@app.command(
    epilog="Examples: oceanrecords simulate stream --every 2s · "
    "oceanrecords simulate stream --every 500ms --orders 3 --moves 6 --rounds 100",
)
@_with_plan
def stream(
    context: typer.Context,
    plan: TickPlan,
    every: Annotated[
        str, typer.Option("--every", metavar="TIME", help="Time from round to round, such as 2s.")
    ] = "2s",
    rounds: Annotated[
        int | None, typer.Option("--rounds", min=1, help="End after that many; otherwise never.")
    ] = None,
    chance: SeedOption = None,
    as_json: JsonOption = False,
) -> None:
    """Play rounds until Ctrl-C.

    Ctrl-C finishes the current action; a second Ctrl-C rolls it back.
    """
    interval = duration("--every", every, 0, 366 * 86400).total_seconds()
    with _connection(context) as connection, StopSignal() as stop:
        total = actions.stream(
            connection,
            plan,
            random.Random(chance),
            pause=lambda spent: stop.wait(interval - spent),
            rounds=rounds,
            stop=stop.is_set,
            on_round=None if as_json else _render_round,
        )
    emit(_answer(total), as_json=as_json, render=lambda _: _render_result(total))


def _answer(result: TickResult) -> dict[str, Any]:
    return {"rounds": result.rounds, "actions": result.actions, "done": result.done}


def _render_round(number: int, result: TickResult) -> None:
    done = ", ".join(f"{count} {name}" for name, count in sorted(result.done.items()))
    moment = output.moment(datetime.now(UTC))
    console.say("[quiet]{}  round {}[/]  {}", moment, number, done or "nothing to do")


def _render_result(result: TickResult) -> None:
    table = output.table("action", "number")
    for one in sorted(result.done.items()):
        table.add_row(*one)
    rounds, done = output.plural(result.rounds, "round"), output.plural(result.actions, "action")
    console.print(f"Played {rounds}: {done}", style="title")
    if result.done:
        console.print(table)


# Bulk --------------------------------------------------------------------------------------------


@app.command(
    "burst", epilog="Example: oceanrecords simulate burst --percent 1, then: oceanrecords run"
)
def burst_command(
    context: typer.Context,
    percent: Annotated[
        float, typer.Option("--percent", metavar="P", help="Share of the rows that changes.")
    ] = 1.0,
    chance: SeedOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change a share of the operational system at once, to measure a load.

    Half of the share are new orders, half are advanced ones. The share also applies to product
    prices and addresses.
    """
    seed_number = chance if chance is not None else random.Random().getrandbits(32)
    with _connection(context) as connection:
        result = burst.burst(connection, percent / 100, seed_number)
    emit(dataclasses.asdict(result), as_json=as_json, render=_render_burst)


def _render_burst(answer: dict[str, Any]) -> None:
    table = output.table("changed", "rows")
    for name, number in answer.items():
        table.add_row(name.replace("_", " "), number)
    console.print(table)


# Options -----------------------------------------------------------------------------------------


def _connection(
    context: typer.Context, application_name: str = "oceanrecords simulate"
) -> psycopg.Connection[Any]:
    return connect(state.of(context).dsn, application_name=application_name)


def _moment(text: str | None) -> datetime | None:
    """Read a moment; without an offset it is in UTC."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
        return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    except ValueError as error:
        raise UserError(
            f'--clock "{text}" is no time.', "Write '2025-06-01 09:00'.", EXIT_USAGE
        ) from error
