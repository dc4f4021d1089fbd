"""What happens to a board, in order: bring and try and switch, or take away; nobody else at it.

Owns: the order, and what is undone when something fails. Knows nothing of the command's options,
the scripts or SSH.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from uservlm.runtime.errors import UserVLMError
from uservlm.toolchain import board, deploy_remove, deploy_steps
from uservlm.toolchain.deploy_far import Far
from uservlm.toolchain.deploy_plan import Order, Plan, compare, expected, make_plan
from uservlm.toolchain.deploy_service import AGAIN, BACK_S

Say = Callable[[str], None]
"""Is told what a person should know."""


async def bring(far: Far, order: Order, folder: str, say: Say) -> None:
    """Do every step, with nobody else at it.

    Raises:
        UserVLMError: one fails; what is half made is taken away again.
    """
    async with far.alone():
        with TemporaryDirectory() as scratch:
            seen, plan = await _planned(far, order, folder, Path(scratch))
            if plan.sound and (damaged := deploy_steps.damaged(await far.do(plan.sound))):
                say(f"  damaged there, and brought again: {', '.join(sorted(damaged))}")
                seen = replace(seen, parts=seen.parts - damaged)
                plan = await asyncio.to_thread(make_plan, order, seen, folder, Path(scratch))
            wanted = await asyncio.to_thread(expected, plan)
            said, whole = "", False
            try:
                for step in plan.bring:
                    await far.do(step)
                for step in plan.ask:
                    said = await far.do(step)
                answer = compare(said, wanted)
                same = ", as this machine does" if wanted else ""
                say(f"  it answers{same}: {answer}")
                await _finish(far, plan)
                await far.do(plan.tidy)
                whole = True
            finally:
                if not whole:
                    await far.attempt(deploy_steps.clear(folder))


async def _planned(far: Far, order: Order, folder: str, scratch: Path) -> tuple[board.Board, Plan]:
    """Look and plan; what the last deploy has replaced goes only where its room is needed.

    Raises:
        UserVLMError: it cannot be done; nothing has changed there, but for that room.
    """
    seen = board.read_board(await far.look(board.look(folder)))
    # Large files are read here; meanwhile the connection is kept alive.
    try:
        return seen, await asyncio.to_thread(make_plan, order, seen, folder, scratch)
    except board.RoomError:
        await far.do(deploy_steps.let_go_previous(folder))
    seen = board.read_board(await far.look(board.look(folder)))
    return seen, await asyncio.to_thread(make_plan, order, seen, folder, scratch)


async def _finish(far: Far, plan: Plan) -> None:
    """Switch, and start the service; where that fails what was in use comes back.

    Raises:
        UserVLMError: with what is in use now.
    """
    try:
        for step in plan.finish:
            await far.do(step)
    except UserVLMError as error:
        told = await far.attempt(plan.back, BACK_S)
        if told is None:
            now = "going back failed too: deploy once more what was there"
        elif AGAIN in told.splitlines():
            now = "what was in use before is in use again"
        else:
            now = "nothing was in use before: it is deployed, and nothing serves"
        raise board.BoardError(f"{error}\n  {now}") from error
    except asyncio.CancelledError:
        await far.attempt(plan.back, BACK_S)
        raise


async def take_away(far: Far, folder: str, say: Say) -> None:
    """Take everything away.

    Raises:
        UserVLMError: it is another's, in use, or the board refuses.
    """
    if deploy_steps.DEPLOYED not in (await far.look(deploy_steps.ours(folder))).splitlines():
        say(f"nothing is deployed to {folder}")
        return
    said = ""
    async with far.alone():
        for step in deploy_remove.remove(folder):
            said = await far.do(step)
    stays = deploy_remove.left(said)
    what = "what was deployed" if stays else "everything"
    say(f"{what} is gone, the people who were kept there included")
    for path in stays:
        say(f"  but {path} stays: no deploy made it, or its folder is not yours to change")
